//! Every way to say no, in one table: status, stable code, what the public reads, what the log reads.
//!
//! The public text names no key, tenant, host or rule. Unknown key, unknown tenant and bad signature share one face.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::fault::{Throttled, UpstreamFault};
use super::grant::VerifyError;
use super::link::LinkError;
use super::permit::Denial;

/// When to try again while links cannot be checked: secrets are fetched again about this often.
const UNAVAILABLE_SECONDS: u64 = 30;

/// Why a request is not answered with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another path than `/`.
    #[error("there is nothing at this path")]
    NotFound,
    /// Neither GET nor HEAD.
    #[error("method {0} is not served")]
    Method(String),
    /// No Host, or two (RFC 9112 section 3.2).
    #[error("the request needs exactly one Host")]
    Host,
    /// A body in a transfer coding, where no body belongs.
    #[error("the request has a Transfer-Encoding")]
    Coded,
    /// Not a link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Not proven.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Not allowed.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// Not now.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// Not delivered.
    #[error(transparent)]
    Upstream(#[from] UpstreamFault),
    /// Not able to judge right now, whatever the link says.
    #[error("{0}")]
    Unavailable(&'static str),
    /// A defect of ours.
    #[error("internal: {0}")]
    Internal(&'static str),
}

/// The stable code of a refusal, in `code` of the problem document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is described by its row")]
pub enum Code {
    MalformedLink,
    MissingCredential,
    InvalidSignature,
    LinkExpired,
    LinkNotYetValid,
    LinkRevoked,
    ClientNotAllowed,
    LifetimeTooLong,
    UrlNotAllowed,
    TypeNotAllowed,
    ObjectTooLarge,
    FetchDirectly,
    RateLimited,
    TooManyDownloads,
    QuotaExceeded,
    MethodNotAllowed,
    NotFound,
    UpstreamNotFound,
    UpstreamGone,
    RangeNotSatisfiable,
    PreconditionFailed,
    UpstreamError,
    UpstreamUnreachable,
    UpstreamTimeout,
    Unavailable,
    InternalError,
}

/// What the public sees of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Face {
    /// HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: &'static str,
    /// A short summary, the same for every occurrence (RFC 9457 section 3.1.3).
    pub title: &'static str,
    /// What to do next.
    pub detail: &'static str,
}

impl Code {
    /// Every code, in the order in which a request meets them.
    pub const ALL: [Self; 26] = [
        Self::MalformedLink,
        Self::MissingCredential,
        Self::InvalidSignature,
        Self::LinkExpired,
        Self::LinkNotYetValid,
        Self::LinkRevoked,
        Self::ClientNotAllowed,
        Self::LifetimeTooLong,
        Self::UrlNotAllowed,
        Self::TypeNotAllowed,
        Self::ObjectTooLarge,
        Self::FetchDirectly,
        Self::RateLimited,
        Self::TooManyDownloads,
        Self::QuotaExceeded,
        Self::MethodNotAllowed,
        Self::NotFound,
        Self::UpstreamNotFound,
        Self::UpstreamGone,
        Self::RangeNotSatisfiable,
        Self::PreconditionFailed,
        Self::UpstreamError,
        Self::UpstreamUnreachable,
        Self::UpstreamTimeout,
        Self::Unavailable,
        Self::InternalError,
    ];

    /// The code's row of the table.
    #[rustfmt::skip]
    pub fn face(self) -> Face {
        let row = |status, code, title, detail| Face { status, code, title, detail };
        match self {
            Self::MalformedLink => row(400, "malformed_link", "This is not a valid link", "Ask whoever gave you the link for a new one. If you made it, check it with `sluicegate explain`."),
            Self::MissingCredential => row(401, "missing_credential", "This address needs a signed link", "Use a link with `url`, `kid`, `exp` and `sig`, or send a token."),
            Self::InvalidSignature => row(403, "invalid_signature", "The signature does not match", "The link was changed, was signed with another key, or its key is no longer in use. Ask for a new one."),
            Self::LinkExpired => row(403, "link_expired", "This link has expired", "Ask whoever gave you the link for a new one."),
            Self::LinkNotYetValid => row(403, "link_not_yet_valid", "This link is not valid yet", "Try again later, and check that your clock and the signer's agree."),
            Self::LinkRevoked => row(403, "link_revoked", "This link was withdrawn", "Ask whoever gave you the link for a new one."),
            Self::ClientNotAllowed => row(403, "client_not_allowed", "This link is for another network address", "Use it from the address or network that it was made for."),
            Self::LifetimeTooLong => row(403, "lifetime_too_long", "This link is valid for too long", "Make a link that expires sooner; the policy caps how long a link may live."),
            Self::UrlNotAllowed => row(403, "url_not_allowed", "This file may not be fetched", "The signer's policy or the token's scope does not cover this url, or it leads to an address that the operator has not opened."),
            Self::TypeNotAllowed => row(403, "type_not_allowed", "This type of file may not be downloaded", "The signer's policy does not cover the file's content type."),
            Self::ObjectTooLarge => row(413, "object_too_large", "This file is too large", "The file is larger than the signer's policy permits, or than this deployment can send."),
            Self::FetchDirectly => row(307, "fetch_directly", "This file is too large to be sent from here", "Fetch it from the address in `Location`; the signer's policy allows that."),
            Self::RateLimited => row(429, "rate_limited", "Too many requests", "Wait for the seconds in `Retry-After`, then try again."),
            Self::TooManyDownloads => row(429, "too_many_downloads", "Too many downloads at once", "Wait until another download has ended, then try again."),
            Self::QuotaExceeded => row(429, "quota_exceeded", "The day's download volume is used up", "Wait for the seconds in `Retry-After`, then try again."),
            Self::MethodNotAllowed => row(405, "method_not_allowed", "This method is not served", "Use GET or HEAD."),
            Self::NotFound => row(404, "not_found", "There is nothing at this path", "Links begin with `/?url=`."),
            Self::UpstreamNotFound => row(404, "upstream_not_found", "The file does not exist", "The link is good, but the file's server does not have the file."),
            Self::UpstreamGone => row(410, "upstream_not_found", "The file is gone", "The link is good, but the file's server no longer has the file."),
            Self::RangeNotSatisfiable => row(416, "range_not_satisfiable", "The file has no such range", "Ask for bytes within the length in `Content-Range`, or for the whole file."),
            Self::PreconditionFailed => row(412, "precondition_failed", "The file has changed", "The file no longer meets the request's condition; ask again without it."),
            Self::UpstreamError => row(502, "upstream_error", "The file's server answered with an error", "Try again later; if it goes on, tell whoever gave you the link."),
            Self::UpstreamUnreachable => row(502, "upstream_unreachable", "The file's server cannot be reached", "Try again later; if it goes on, tell whoever gave you the link."),
            Self::UpstreamTimeout => row(504, "upstream_timeout", "The file's server is too slow", "Try again later; if it goes on, tell whoever gave you the link."),
            Self::Unavailable => row(503, "unavailable", "Links cannot be checked at the moment", "Wait for the seconds in `Retry-After`, then try again."),
            Self::InternalError => row(500, "internal_error", "The gateway made a mistake", "Tell the operator the request id; this is a defect."),
        }
    }
}

impl Refusal {
    /// The row of the table that this refusal shows to the public.
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound => Code::NotFound,
            Self::Method(_) => Code::MethodNotAllowed,
            Self::Host | Self::Coded => Code::MalformedLink,
            Self::Link(error) => error.code(),
            Self::Verify(error) => error.code(),
            Self::Denied(denial) => denial.code(),
            Self::Throttled(throttled) => throttled.code(),
            Self::Upstream(fault) => fault.code(),
            Self::Unavailable(_) => Code::Unavailable,
            Self::Internal(_) => Code::InternalError,
        }
    }

    /// The public `detail`: the table's, or for a malformed link the parameter at fault. It never repeats a value.
    pub fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::Link(LinkError::NoCredential) => self.code().face().detail.into(),
            Self::Link(error) => capitalise(&error.to_string()).into(),
            Self::Host => "Send exactly one Host.".into(),
            Self::Coded => "Send no body.".into(),
            _ => self.code().face().detail.into(),
        }
    }

    /// Seconds after which the same request may succeed.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Throttled(throttled) | Self::Upstream(UpstreamFault::Throttled(throttled)) => {
                Some(throttled.retry_after())
            }
            Self::Unavailable(_) => Some(UNAVAILABLE_SECONDS),
            _ => None,
        }
    }

    /// The stage of the pipeline that refused, for logs, metrics and `explain`.
    pub fn stage(&self) -> &'static str {
        match self {
            Self::NotFound | Self::Method(_) | Self::Host | Self::Coded => "door",
            Self::Link(_) => "link",
            Self::Verify(_) => "verify",
            Self::Denied(_) => "policy",
            Self::Throttled(_) => "limits",
            Self::Upstream(_) => "upstream",
            Self::Unavailable(_) => "keys",
            Self::Internal(_) => "internal",
        }
    }
}

impl LinkError {
    fn code(&self) -> Code {
        match self {
            Self::NoCredential => Code::MissingCredential,
            Self::QueryTooLong
            | Self::TooManyParameters
            | Self::QueryNotAscii
            | Self::Missing(_)
            | Self::Repeated(_)
            | Self::BadEncoding(_)
            | Self::ControlCharacter(_)
            | Self::Malformed(..)
            | Self::BesideToken(_)
            | Self::TwoTokens
            | Self::Token(_) => Code::MalformedLink,
        }
    }
}

impl VerifyError {
    fn code(self) -> Code {
        match self {
            Self::UnknownKey
            | Self::KeyNotInUse
            | Self::UnknownIssuer
            | Self::BadSignature
            | Self::WrongAlgorithm
            | Self::ForeignHeader
            | Self::BadClaim(_) => Code::InvalidSignature,
            Self::Expired => Code::LinkExpired,
            Self::NotYetValid => Code::LinkNotYetValid,
            Self::WrongClient => Code::ClientNotAllowed,
            Self::OutOfScope => Code::UrlNotAllowed,
        }
    }
}

impl Denial {
    fn code(&self) -> Code {
        match self {
            Self::NoPolicy => Code::InvalidSignature,
            Self::Revoked(_) => Code::LinkRevoked,
            Self::LivesTooLong => Code::LifetimeTooLong,
            Self::Forbidden(_) | Self::NotAllowed(_) | Self::Downgrade(_) => Code::UrlNotAllowed,
            Self::TypeNotAllowed(_) => Code::TypeNotAllowed,
            Self::TooLarge(_) => Code::ObjectTooLarge,
        }
    }
}

impl Throttled {
    fn code(&self) -> Code {
        match self {
            Self::Rate { .. } => Code::RateLimited,
            Self::Concurrency { .. } => Code::TooManyDownloads,
            Self::Quota { .. } => Code::QuotaExceeded,
        }
    }

    fn retry_after(&self) -> u64 {
        match self {
            Self::Rate { retry_after, .. } | Self::Quota { retry_after, .. } => *retry_after,
            Self::Concurrency { .. } => 1,
        }
    }
}

impl UpstreamFault {
    fn code(&self) -> Code {
        match self {
            Self::Denied(denial) => denial.code(),
            Self::AddressNotAllowed(_) | Self::Loop => Code::UrlNotAllowed,
            Self::Unresolvable(_) | Self::Unreachable(_) | Self::Malformed(_) | Self::NotTheRest(_) => {
                Code::UpstreamUnreachable
            }
            Self::ResolveTimeout(_) | Self::ConnectTimeout | Self::FirstByteTimeout => Code::UpstreamTimeout,
            Self::NotFound(410) => Code::UpstreamGone,
            Self::NotFound(_) => Code::UpstreamNotFound,
            Self::RangeNotSatisfiable(_) => Code::RangeNotSatisfiable,
            Self::PreconditionFailed => Code::PreconditionFailed,
            Self::Status(_) | Self::TooManyRedirects(_) | Self::Coded(_) => Code::UpstreamError,
            Self::TooLargeHere { .. } => Code::ObjectTooLarge,
            Self::FetchDirectly(..) => Code::FetchDirectly,
            Self::Throttled(throttled) => throttled.code(),
        }
    }
}

/// Error texts are written without capital and full stop; a sentence for people has both.
fn capitalise(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).chain(['.']).collect()
}

/// `docs/problems.md`, generated so that it cannot differ from the table.
pub fn problems_page() -> String {
    let mut page = String::from(
        "# Problems\n\nWhat a refused request is answered with. This page is generated from the table in \
         `src/gate/refusal.rs` by `sluicegate problems`; a test compares the two.\n\n\
         Every refusal is `application/problem+json` (RFC 9457) with `type`, `title`, `status`, `detail`, `code` and \
         `request_id`. `code` is stable; match on it, not on the texts. Refusals carry `Cache-Control: no-store` and CORS \
         headers, 307 carries `Location`, 429 and 503 carry `Retry-After`, 429 also the \
         `RateLimit` fields, 405 carries `Allow`, 416 carries \
         `Content-Range` where the length is known.\n\n\
         | status | code | title | what to do |\n|---|---|---|---|\n",
    );
    for face in Code::ALL.map(Code::face) {
        let _ = writeln!(page, "| {} | `{}` | {} | {} |", face.status, face.code, face.title, face.detail);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_code_is_in_the_list_once() {
        let codes: HashSet<_> = Code::ALL.into_iter().collect();
        assert_eq!(codes.len(), Code::ALL.len());
        // `as` numbers the variants; the last one's number shows that none is missing from the list.
        assert_eq!(Code::InternalError as usize + 1, Code::ALL.len());
    }

    #[test]
    fn who_cannot_sign_learns_nothing() {
        let faces: HashSet<_> = [
            VerifyError::UnknownKey,
            VerifyError::KeyNotInUse,
            VerifyError::UnknownIssuer,
            VerifyError::BadSignature,
            VerifyError::WrongAlgorithm,
            VerifyError::ForeignHeader,
            VerifyError::BadClaim("exp"),
        ]
        .into_iter()
        .map(|error| (Refusal::from(error).code(), Refusal::from(error).detail()))
        .collect();
        assert_eq!(faces.len(), 1);
    }

    #[test]
    fn public_texts_never_repeat_a_value() {
        let refusal = Refusal::from(Denial::NotAllowed("https://secret.internal/".into()));
        assert!(!refusal.detail().contains("secret"));
        let refusal = Refusal::from(UpstreamFault::Unreachable("10.0.0.1:443 refused".into()));
        assert!(!refusal.detail().contains("10.0.0.1"));
        assert_eq!(Refusal::from(LinkError::Missing("exp")).detail(), "Parameter `exp` is missing.");
    }
}
