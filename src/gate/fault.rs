//! What can go wrong after the permit: the limits say not now, or the upstream does not deliver. Each carries the
//! internal text; what the public sees is decided in [`refusal`](super::refusal).

use super::permit::Denial;

/// Whose limit it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitScope {
    /// The key's or issuer's own.
    Key,
    /// The tenant's, over all its keys.
    Tenant,
}

impl LimitScope {
    /// As it stands in answers and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Tenant => "tenant",
        }
    }
}

impl std::fmt::Display for LimitScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Not now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Throttled {
    /// Too many requests per second.
    #[error("the {scope}'s request rate is used up")]
    Rate {
        /// Whose limit it was.
        scope: LimitScope,
        /// Seconds until a request would pass, rounded up.
        retry_after: u64,
    },
    /// Too many downloads at once.
    #[error("the {scope}'s concurrent downloads are used up")]
    Concurrency {
        /// Whose limit it was.
        scope: LimitScope,
    },
    /// Too many bytes since midnight UTC.
    #[error("the {scope}'s bytes per day are used up")]
    Quota {
        /// Whose limit it was.
        scope: LimitScope,
        /// Seconds until midnight UTC.
        retry_after: u64,
    },
    /// The shared counters of this key or tenant take no more questions at the moment.
    #[error("the limit store takes no more questions about this key or tenant at the moment")]
    Busy,
    /// The shared counters cannot be asked, and the tenant's policy says to refuse then.
    #[error("the limit store is away, and the tenant's policy says `fail = \"closed\"`")]
    Away,
}

/// The upstream did not deliver a head that can be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamFault {
    /// The policy forbids a redirect's target or the body.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// The address is not global unicast and the operator did not open it.
    #[error("{0}")]
    AddressNotAllowed(String),
    /// The request came through this gateway already.
    #[error("the request came through this gateway already")]
    Loop,
    /// The name has no address.
    #[error("cannot resolve `{0}`")]
    Unresolvable(String),
    /// The resolver did not answer in time.
    #[error("resolving `{0}` took too long")]
    ResolveTimeout(String),
    /// No connection, or no TLS.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// No connection in time.
    #[error("connecting took too long")]
    ConnectTimeout,
    /// Connected, but no response head in time.
    #[error("the first byte took too long")]
    FirstByteTimeout,
    /// A response that contradicts itself or the request.
    #[error("malformed response: {0}")]
    Malformed(String),
    /// What came to continue a body is not the rest of the same file.
    #[error("cannot resume: {0}")]
    NotTheRest(String),
    /// More redirects than are followed.
    #[error("more than {0} redirects")]
    TooManyRedirects(usize),
    /// 404 or 410.
    #[error("the upstream answered {0}")]
    NotFound(u16),
    /// 416; the whole length if the upstream said it.
    #[error("the upstream answered 416")]
    RangeNotSatisfiable(Option<u64>),
    /// 412 to a condition of the client's.
    #[error("the upstream answered 412")]
    PreconditionFailed,
    /// Any other status that is no download.
    #[error("the upstream answered {0}")]
    Status(u16),
    /// In a content coding, where only the file itself can be sent.
    #[error("the body comes in content coding `{0}`, which cannot be sent from here")]
    Coded(String),
    /// Longer than the door can carry.
    #[error("the body of {length} bytes is larger than the {most} bytes that can be sent from here")]
    TooLargeHere {
        /// What the upstream announced.
        length: u64,
        /// What the door can carry.
        most: u64,
    },
    /// As before, but the policy says where the client may fetch it instead.
    #[error(
        "the body of {0} bytes is larger than can be sent from here; the policy sends its client to the upstream"
    )]
    FetchDirectly(u64, String),
    /// The announced body does not fit into what is left of the day.
    #[error(transparent)]
    Throttled(#[from] Throttled),
}

impl StreamFault {
    /// A stable name, for logs and what counts them.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BrokeOff { .. } => "broke_off",
            Self::Short { .. } => "short",
            Self::Long(_) => "long",
            Self::Stalled(_) => "stalled",
            Self::Deadline(_) => "deadline",
            Self::TooLarge(_) => "too_large",
            Self::QuotaExhausted => "quota_exhausted",
            Self::LimitsAway => "limits_away",
            Self::ClientStalled(_) => "client_stalled",
            Self::ClientLeft(_) => "client_left",
            Self::Panicked => "panicked",
        }
    }
}

/// The body broke after the head was sent. There is no answer to give any more; the response is aborted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamFault {
    /// Reset, closed early, broken framing; and it could not be resumed.
    #[error("the upstream broke off after {sent} bytes: {reason}")]
    BrokeOff {
        /// Body bytes that had been relayed.
        sent: u64,
        /// What the transport said.
        reason: String,
    },
    /// Fewer bytes than announced.
    #[error("the upstream ended after {sent} of {promised} bytes")]
    Short {
        /// Body bytes that had been relayed.
        sent: u64,
        /// What the head announced.
        promised: u64,
    },
    /// More bytes than announced.
    #[error("the upstream sent more than the {0} bytes it announced")]
    Long(u64),
    /// Nothing came for the idle time-out.
    #[error("the upstream stalled after {0} bytes")]
    Stalled(u64),
    /// The whole transfer took too long.
    #[error("the transfer took longer than allowed, after {0} bytes")]
    Deadline(u64),
    /// More than `response.max_bytes`, or than the door can carry, found out on the way.
    #[error("the body grew past the {0} bytes that may be sent")]
    TooLarge(u64),
    /// The day's bytes ran out on the way.
    #[error("the day's bytes were used up on the way")]
    QuotaExhausted,
    /// The shared counters were away on the way, and the tenant's policy says to refuse then.
    #[error("the limit store went away on the way, and the tenant's policy says `fail = \"closed\"`")]
    LimitsAway,
    /// The client took nothing for too long.
    #[error("the client took nothing for too long, after {0} bytes")]
    ClientStalled(u64),
    /// A defect of ours.
    #[error("the gateway panicked")]
    Panicked,
    /// The client went away.
    #[error("the client left after {0} bytes")]
    ClientLeft(u64),
}
