//! One request, one connection, and an answer that is read to its end and judged by nobody here.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode};
use reqwest::redirect::Policy;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::report::hide;
use crate::Failure;

/// How much of a body is kept to be looked at; the rest is counted and hashed.
const KEPT: usize = 64 * 1024;
/// How many bytes of a file are looked for in a refusal.
pub(super) const WINDOW: usize = 32;
/// No refusal is longer, and no file longer than expected by more.
const SLACK: u64 = KEPT as u64;

/// There is no limit of time here but the one between bytes: the whole run has one.
pub(super) struct Client {
    http: reqwest::Client,
    patience: Duration,
    /// The longest body that is read with an answer of 2xx. Only one task asks, so the order of memory does not matter.
    most: AtomicU64,
}

/// How a body ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// As its framing promises.
    Whole,
    /// The client saw an error: the connection ended, or the stream was reset.
    BrokeOff,
    /// Nothing came for as long as the client waits.
    Stalled(Duration),
    /// More came than so many bytes; the rest was not read.
    TooLong(u64),
}

/// An answer, read to its end.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// The body's first bytes.
    pub(super) start: Vec<u8>,
    /// Some bytes from the middle, where the head says how long the body is and it is longer than `start`.
    pub(super) middle: Vec<u8>,
    pub(super) bytes: u64,
    pub(super) digest: [u8; 32],
    pub(super) end: End,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Silence {
    Unreachable(String),
    /// Nobody took the connection, and nobody refused it.
    Unheard(Duration),
    TimedOut(Duration),
    BrokeOff(String),
}

pub(super) type Reply = Result<Answer, Silence>;

impl Client {
    /// No proxy, no redirects, no decompression, no connection used twice: no answer is taken for another's.
    pub(super) fn new(patience: Duration, most: u64) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .pool_max_idle_per_host(0)
            .connect_timeout(patience)
            .read_timeout(patience)
            .user_agent(concat!("sluicegate-smoke/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| format!("cannot start the HTTP client: {}", cause(error)))?;
        Ok(Self { http, patience, most: AtomicU64::new(most) })
    }

    /// From now on no body may be much longer than the file.
    pub(super) fn expect_no_more_than(&self, file: u64) {
        self.most.store(file.saturating_add(SLACK), Ordering::Relaxed);
    }

    /// From now on a body may have so many bytes.
    pub(super) fn read_up_to(&self, most: u64) {
        self.most.store(most, Ordering::Relaxed);
    }

    pub(super) async fn ask(&self, method: Method, url: Url, fields: &[(HeaderName, String)]) -> Reply {
        let mut request = self.http.request(method, url);
        for (name, value) in fields {
            request = request.header(name, value);
        }
        let response = request.send().await.map_err(|error| self.silence(error))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(self.read(status, headers, response).await)
    }

    async fn read(&self, status: u16, headers: HeaderMap, mut response: reqwest::Response) -> Answer {
        let (mut start, mut middle, mut bytes, mut hash) = (Vec::new(), Vec::new(), 0, Sha256::new());
        let said = headers.get("x-sluicegate-length").and_then(|value| value.to_str().ok()?.parse().ok());
        let length: Option<u64> = response.content_length().or(said);
        let center = length.filter(|length| *length > SLACK).map(|length| length / 2);
        let most = if is_success(status) { self.most.load(Ordering::Relaxed) } else { SLACK };
        let end = loop {
            match response.chunk().await {
                Ok(Some(piece)) => {
                    hash.update(&piece);
                    if let Some(center) = center {
                        let before = usize::try_from(center.saturating_sub(bytes)).unwrap_or(usize::MAX);
                        let wanted =
                            if bytes + piece.len() as u64 > center { WINDOW - middle.len() } else { 0 };
                        middle.extend(piece.iter().skip(before).take(wanted));
                    }
                    bytes += piece.len() as u64;
                    start.extend(piece.iter().take(KEPT - start.len()));
                    if bytes > most {
                        break End::TooLong(most);
                    }
                }
                Ok(None) => break End::Whole,
                Err(error) if error.is_timeout() => break End::Stalled(self.patience),
                Err(_) => break End::BrokeOff,
            }
        };
        Answer { status, headers, start, middle, bytes, digest: hash.finalize().into(), end }
    }

    fn silence(&self, error: reqwest::Error) -> Silence {
        match error {
            error if error.is_connect() && error.is_timeout() => Silence::Unheard(self.patience),
            error if error.is_connect() => Silence::Unreachable(cause(error)),
            error if error.is_timeout() => Silence::TimedOut(self.patience),
            error => Silence::BrokeOff(cause(error)),
        }
    }
}

/// What a server sent, as it may be shown: what may be a signature is hidden before the text is cut, so that none of it
/// is left.
pub(super) fn shorten(text: &str) -> String {
    hide(text).chars().filter(|c| !c.is_control()).take(40).collect()
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// The innermost reason. The outer texts repeat the URL, which holds a signature.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut inner: &dyn std::error::Error = &error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

impl Silence {
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Unheard(_))
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "no connection ({why})"),
            Self::Unheard(span) => {
                write!(f, "no connection within {}", humantime::format_duration(*span))
            }
            Self::TimedOut(span) => write!(f, "no answer within {}", humantime::format_duration(*span)),
            Self::BrokeOff(why) => write!(f, "a connection that ended without an answer ({why})"),
        }
    }
}

impl Answer {
    /// A field's value, if it is text.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A field's value as it may be shown: printable, short, and without the beginning of a signature.
    pub(super) fn shown(&self, name: &str) -> Option<String> {
        self.field(name).map(shorten)
    }

    /// The directives of `Cache-Control`, in lower case. What stands in quotes is no directive.
    pub(super) fn cache_control(&self) -> Vec<String> {
        let values =
            self.headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        let bare = |value: &str| value.split('"').step_by(2).collect::<String>().to_ascii_lowercase();
        let values: Vec<_> = values.map(bare).collect();
        values.iter().flat_map(|value| value.split(',')).map(|name| name.trim().to_owned()).collect()
    }

    /// A field that is a number.
    pub(super) fn number(&self, name: &HeaderName) -> Option<u64> {
        self.field(name.as_str()).and_then(|value| value.parse().ok())
    }

    /// Did the gateway itself, or an edge that speaks for it, write this?
    pub(super) fn is_ours(&self) -> bool {
        self.headers.contains_key("x-request-id") || self.is_problem()
    }

    pub(super) fn is_problem(&self) -> bool {
        let kind = self.field(header::CONTENT_TYPE.as_str()).unwrap_or_default();
        kind.split(';').next().is_some_and(|kind| kind.trim() == "application/problem+json")
    }

    /// A member of the problem document.
    pub(super) fn member(&self, name: &str) -> Option<String> {
        let document: Value = serde_json::from_slice(&self.start).ok()?;
        document.get(name)?.as_str().map(str::to_owned)
    }

    /// The code of the refusal, if there is one that looks like ours.
    pub(super) fn code(&self) -> Option<String> {
        self.member("code")
            .filter(|code| code.len() <= 40 && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
    }

    pub(super) fn is_good(&self) -> bool {
        self.status == StatusCode::OK.as_u16()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        match self.code() {
            Some(code) => write!(f, " {code}")?,
            None if matches!(self.end, End::TooLong(_)) => {}
            None => write!(f, " with {} bytes", self.bytes)?,
        }
        match &self.end {
            End::Whole => Ok(()),
            End::BrokeOff => write!(f, ", then the connection broke off"),
            End::Stalled(span) => write!(f, ", then nothing for {}", humantime::format_duration(*span)),
            End::TooLong(most) if is_success(self.status) => write!(f, " with more than {most} bytes"),
            End::TooLong(_) => write!(f, ", a refusal of more than 64 KiB"),
        }
    }
}
