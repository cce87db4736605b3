//! What the public sees of a refusal: the table of codes, with status, title and what to do next.

use std::fmt::Write as _;

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

/// `docs/problems.md`, generated so that it cannot differ from the table.
pub fn problems_page() -> String {
    let mut page = String::from(
        "# Problems\n\nWhat a refused request is answered with. This page is generated from the table in \
         `src/gate/refusal/code.rs` by `sluicegate problems`; a test compares the two.\n\n\
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
