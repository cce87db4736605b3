//! The stream from upstream to client: counted, bounded in time and size, resumed where that is safe, and otherwise
//! aborted. A body that ends without an error is whole; that is the promise of this file.

mod rest;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use reqwest::Response;
use tokio::time::{Instant, timeout};

use crate::gate::fault::{StreamFault, UpstreamFault};

use super::audit::Record;
use super::limits::Admission;
use super::origin::{Download, Origin, Resume};
use super::traces::Span;
use rest::Rest;

/// How often a body may be resumed without a single new byte in between.
const MAX_FRUITLESS: u32 = 3;
/// How often it may be resumed at all.
const MAX_RESUMES: u32 = 32;
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// What a response carries. Its error aborts the client's connection (HTTP/1.1) or stream (HTTP/2).
pub type Body = UnsyncBoxBody<Bytes, StreamFault>;

/// A body that is known whole, such as a problem document.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Tells an HTTP/1 connection that a body is under way: if it ends then, it is reset, not closed, so that no client takes
/// the end for that of a whole file, not even where the end of the connection is the end of the body (HTTP/1.0).
#[derive(Debug, Clone, Default)]
pub struct Breaker(Arc<AtomicBool>);

impl Breaker {
    /// Would the end of the connection cut a body short?
    pub fn is_armed(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// From the first byte of a body until it is whole, however its connection comes to end in between.
    pub(in crate::wire) fn arm(&self, armed: bool) {
        self.0.store(armed, Ordering::Release);
    }
}

/// What a door sets for one body, beside policy and configuration.
#[derive(Debug, Default)]
pub struct Bounds {
    /// What resets the connection when the body breaks.
    pub breaker: Option<Breaker>,
    /// The largest body in bytes.
    pub max_bytes: Option<u64>,
    /// When it has to be whole.
    pub until: Option<Instant>,
}

/// A download on its way.
struct Relay {
    origin: Arc<Origin>,
    source: Option<Response>,
    resume: Option<Resume>,
    admission: Admission,
    /// Ends before the record does.
    span: Span,
    record: Record,
    breaker: Option<Breaker>,
    announced: Option<u64>,
    most: Option<u64>,
    sent: u64,
    deadline: Instant,
    resumes: u32,
    fruitless: u32,
}

/// Streams the download. The record is written when the stream ends, however it ends.
pub fn relay(origin: &Arc<Origin>, download: Download, record: Record, bounds: Bounds) -> Body {
    let timeouts = origin.timeouts();
    let transfer = Instant::now() + timeouts.transfer.0;
    let deadline = bounds.until.map_or(transfer, |until| until.min(transfer));
    let patience = timeouts.client_write.0;
    let relay = Relay {
        origin: Arc::clone(origin),
        announced: download.head.body_length.or_else(|| download.head.part_length()),
        most: [download.admission.permit().max_bytes(), bounds.max_bytes].into_iter().flatten().min(),
        source: download.body,
        resume: download.resume,
        admission: download.admission,
        span: record.stage("stream"),
        record,
        breaker: bounds.breaker,
        sent: 0,
        deadline,
        resumes: 0,
        fruitless: 0,
    };
    relay.arm(relay.announced != Some(0));
    let rest = Rest::guarded(relay, deadline, patience);
    let frames = stream::unfold(rest, |rest| async {
        let mut relay = match rest.take() {
            Ok(relay) => relay,
            Err(fault) => return fault.map(|fault| (Err(fault), rest)),
        };
        let piece = relay.next().await?;
        if piece.is_ok() {
            rest.put(relay);
        }
        Some((piece.map(Frame::data), rest))
    });
    StreamBody::new(frames.fuse()).boxed_unsync()
}

impl Relay {
    /// The next piece; `None` when the body is whole; a fault ends the stream.
    async fn next(&mut self) -> Option<Result<Bytes, StreamFault>> {
        loop {
            let source = self.source.as_mut()?;
            let broken = match read(source, self.deadline, self.origin.timeouts().idle.0, self.sent).await {
                Ok(Some(bytes)) if bytes.is_empty() => continue,
                Ok(Some(bytes)) => return Some(self.pass(bytes).await),
                Ok(None) => match self.announced {
                    Some(promised) if self.sent < promised => {
                        StreamFault::Short { sent: self.sent, promised }
                    }
                    _ => return self.finish(),
                },
                Err(fault) => fault,
            };
            if let Err(fault) = self.reopen(broken).await {
                return Some(Err(self.fail(fault)));
            }
        }
    }

    /// Checks and counts one piece.
    async fn pass(&mut self, bytes: Bytes) -> Result<Bytes, StreamFault> {
        let length = bytes.len() as u64;
        let total = self.sent.saturating_add(length);
        let fault = match (self.announced, self.most) {
            (Some(promised), _) if total > promised => Some(StreamFault::Long(promised)),
            (_, Some(most)) if total > most => Some(StreamFault::TooLarge(most)),
            _ => self.admission.spend(length).await.err(),
        };
        if let Some(fault) = fault {
            return Err(self.fail(fault));
        }
        self.sent = total;
        self.fruitless = 0;
        if self.announced == Some(total) {
            // The length says where it ends; the server may never ask for more.
            self.arm(false);
        }
        self.record.sent(total);
        Ok(bytes)
    }

    /// Goes on from the byte where the body broke, if its version can be named; otherwise `broken` is the end.
    async fn reopen(&mut self, broken: StreamFault) -> Result<(), StreamFault> {
        let Some(resume) = &self.resume else { return Err(broken) };
        if matches!(broken, StreamFault::Deadline(_)) {
            return Err(broken);
        }
        self.source = None;
        while self.fruitless < MAX_FRUITLESS && self.resumes < MAX_RESUMES {
            let pause = FIRST_PAUSE.saturating_mul(1 << (2 * self.fruitless));
            self.resumes += 1;
            self.fruitless += 1;
            let attempt = async {
                tokio::time::sleep(pause).await;
                self.origin.reopen(&mut self.admission, resume, self.sent, &self.span).await
            };
            match tokio::time::timeout_at(self.deadline, attempt).await {
                Err(_) => return Err(StreamFault::Deadline(self.sent)),
                Ok(Ok((response, missing))) => {
                    self.source = Some(response);
                    // Now the length is known, even if the first answer kept it open.
                    self.announced.get_or_insert(self.sent.saturating_add(missing));
                    self.record.resumed(self.resumes);
                    return Ok(());
                }
                Ok(Err(fault)) if is_final(&fault) => break,
                Ok(Err(_)) => {}
            }
        }
        Err(broken)
    }

    fn arm(&self, armed: bool) {
        if let Some(breaker) = &self.breaker {
            breaker.arm(armed);
        }
    }

    fn fail(&mut self, fault: StreamFault) -> StreamFault {
        self.source = None;
        self.span.failed(fault.code());
        self.record.aborted(fault.clone());
        fault
    }

    fn finish(&mut self) -> Option<Result<Bytes, StreamFault>> {
        self.source = None;
        self.arm(false);
        self.record.whole();
        None
    }
}

/// Another version, or a policy that changed its mind, will not become better by waiting.
fn is_final(fault: &UpstreamFault) -> bool {
    !matches!(
        fault,
        UpstreamFault::Unreachable(_)
            | UpstreamFault::ConnectTimeout
            | UpstreamFault::FirstByteTimeout
            | UpstreamFault::ResolveTimeout(_)
            | UpstreamFault::Unresolvable(_)
            | UpstreamFault::Malformed(_)
            | UpstreamFault::Status(500..=599)
    )
}

/// One piece of the upstream's body, in time.
async fn read(
    source: &mut Response,
    deadline: Instant,
    idle: Duration,
    sent: u64,
) -> Result<Option<Bytes>, StreamFault> {
    let left = deadline.saturating_duration_since(Instant::now());
    match timeout(idle.min(left), source.chunk()).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) => Err(StreamFault::BrokeOff { sent, reason: super::origin::reason(&error) }),
        Err(_) if left <= idle => Err(StreamFault::Deadline(sent)),
        Err(_) => Err(StreamFault::Stalled(sent)),
    }
}

impl Drop for Relay {
    /// With a Content-Length the server stops reading after the last byte and never asks for the end.
    fn drop(&mut self) {
        match self.announced {
            Some(promised) if promised == self.sent => self.record.whole(),
            _ => self.record.aborted(StreamFault::ClientLeft(self.sent)),
        }
    }
}
