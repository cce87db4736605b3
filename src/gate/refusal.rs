//! Every way to say no, in one table: status, stable code, what the public reads, what the log reads.
//!
//! The public text names no key, tenant, host or rule. Unknown key, unknown tenant and bad signature share one face.

mod code;

use std::borrow::Cow;

use super::fault::{Throttled, UpstreamFault};
use super::grant::VerifyError;
use super::link::LinkError;
use super::permit::Denial;
pub use code::{Code, Face, problems_page};

/// When to try again while links cannot be checked: secrets are fetched again about this often.
const UNAVAILABLE_SECONDS: u64 = 30;

/// When to try again while the limits cannot be counted: their store is asked again about this often.
const AWAY_SECONDS: u64 = 2;

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
            Self::LivesTooLong(_) => Code::LifetimeTooLong,
            Self::Forbidden(_) | Self::NotAllowed(_) | Self::Downgrade(_) => Code::UrlNotAllowed,
            Self::TypeNotAllowed(_) => Code::TypeNotAllowed,
            Self::TooLarge(_) => Code::ObjectTooLarge,
        }
    }
}

impl Throttled {
    fn code(&self) -> Code {
        match self {
            Self::Rate { .. } | Self::Busy => Code::RateLimited,
            Self::Concurrency { .. } => Code::TooManyDownloads,
            Self::Quota { .. } => Code::QuotaExceeded,
            Self::Away => Code::Unavailable,
        }
    }

    fn retry_after(&self) -> u64 {
        match self {
            Self::Rate { retry_after, .. } | Self::Quota { retry_after, .. } => *retry_after,
            Self::Concurrency { .. } | Self::Busy => 1,
            Self::Away => AWAY_SECONDS,
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
