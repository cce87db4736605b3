//! The stream from upstream to client: counted, bounded in time and size, resumed where that is safe, and otherwise
//! aborted. A body that ends without an error is whole; that is the promise of this file.

mod line;
mod rest;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::time::{Instant, timeout};

use crate::gate::fault::{StreamFault, UpstreamFault};

use super::audit::Record;
use super::limits::Admission;
use super::origin::{Download, FIRST, Incoming, Origin, Resume, SMALL};
use super::traces::Span;
pub use line::Line;
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

/// What a door sets for one body, beside policy and configuration.
#[derive(Debug, Default)]
pub struct Bounds {
    /// The connection that has this body alone: reset when it breaks, and asked what it can take.
    pub line: Option<Line>,
    /// The largest piece in bytes, for a door without such a connection.
    pub piece: usize,
    /// The largest body in bytes.
    pub max_bytes: Option<u64>,
    /// When it has to be whole.
    pub until: Option<Instant>,
}

/// A download on its way.
struct Relay {
    origin: Arc<Origin>,
    source: Option<Incoming>,
    resume: Option<Resume>,
    admission: Box<Admission>,
    /// Ends before the record does.
    span: Span,
    record: Box<Record>,
    line: Option<Line>,
    announced: Option<u64>,
    most: Option<u64>,
    sent: u64,
    deadline: Instant,
    resumes: u32,
    fruitless: u32,
}

/// Streams the download. The record is written when the stream ends, however it ends.
pub fn relay(origin: &Arc<Origin>, download: Box<Download>, record: Box<Record>, bounds: Bounds) -> Body {
    let deadline = bounds.until.map_or(download.deadline, |until| until.min(download.deadline));
    let patience = origin.timeouts().client_write.0;
    // The length of a part may stand in Content-Range alone.
    let is_told = download.head.body_length.is_some();
    let mut relay = Relay {
        origin: Arc::clone(origin),
        announced: download.head.body_length.or_else(|| download.head.part_length()),
        most: [download.admission.permit().max_bytes(), bounds.max_bytes].into_iter().flatten().min(),
        source: download.body,
        resume: download.resume,
        admission: download.admission,
        span: record.stage("stream"),
        record,
        line: bounds.line.clone(),
        sent: 0,
        deadline,
        resumes: 0,
        fruitless: 0,
    };
    if let Some(line) = &relay.line {
        line.leave_open(!is_told);
    }
    relay.arm(relay.announced != Some(0));
    relay.direct();
    if relay.line.is_some() && relay.is_here() {
        return AtOnce(relay).boxed_unsync();
    }
    piecewise(Box::new(relay), bounds, patience)
}

/// A body that came whole with its head: one piece, and nothing to wait for. Only HTTP/1 asks for a body as soon as it has
/// its head; elsewhere it would rest unguarded.
struct AtOnce(Relay);

impl http_body::Body for AtOnce {
    type Data = Bytes;
    type Error = StreamFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamFault>>> {
        let relay = &mut self.0;
        let Some(bytes) = relay.source.take().and_then(Incoming::whole) else { return Poll::Ready(None) };
        // What was set aside is spent without asking anybody.
        let passed = relay.pass(bytes).now_or_never();
        let passed = passed.unwrap_or_else(|| Err(relay.fail(StreamFault::LimitsAway)));
        Poll::Ready(Some(passed.map(Frame::data)))
    }
}

/// A body that is fetched piece by piece, as its client takes them.
fn piecewise(relay: Box<Relay>, bounds: Bounds, patience: Duration) -> Body {
    let deadline = relay.deadline;
    let outlet = Outlet { line: bounds.line, piece: bounds.piece, began: false };
    let mut rest = Rest::new(relay, deadline, patience);
    if outlet.line.is_none() {
        // HTTP/2 asks for nothing while the client's window is closed.
        rest.guard();
    }
    let frames = stream::unfold((rest, outlet), |(mut rest, mut outlet)| async {
        let room = outlet.room(&mut rest).await;
        let mut relay = match rest.take() {
            Ok(relay) => relay,
            Err(fault) => return fault.map(|fault| (Err(fault), (rest, outlet))),
        };
        let room = room.unwrap_or_else(|| relay.came_along().max(FIRST));
        let mut piece = relay.next(room).await?;
        if let Ok(bytes) = &mut piece
            && outlet.line.is_none()
            && bytes.len() < FIRST / 2
        {
            // It may wait here for its client, and must not hold the memory that others are read into.
            *bytes = Bytes::copy_from_slice(bytes);
        }
        if piece.is_ok() {
            rest.put(relay);
        }
        if let Some(line) = &outlet.line {
            line.hand_over();
        }
        Some((piece.map(Frame::data), (rest, outlet)))
    });
    StreamBody::new(frames.fuse()).boxed_unsync()
}

/// Where the pieces go, and how large they may be.
struct Outlet {
    line: Option<Line>,
    piece: usize,
    began: bool,
}

impl Outlet {
    /// Nothing is fetched for a client that cannot take it: what it does not take would only be held here. `None` for what came
    /// with the head, which goes out with its first piece.
    async fn room(&mut self, rest: &mut Rest) -> Option<usize> {
        match &self.line {
            Some(line) if self.began => {
                let look = |cx: &mut Context<'_>| {
                    let room = line.poll_room();
                    if room.is_pending() && line.is_full() {
                        rest.guard();
                        if rest.is_ended(cx) {
                            // The fault is for the connection to hear, which else would wait for its client for ever.
                            return Poll::Ready(SMALL);
                        }
                    }
                    room
                };
                Some(std::future::poll_fn(look).await)
            }
            Some(_) => {
                self.began = true;
                None
            }
            None => Some(self.piece),
        }
    }
}

impl Relay {
    /// Is all of it here, and paid?
    fn is_here(&self) -> bool {
        let length = self.source.as_ref().and_then(Incoming::whole_length);
        length.is_some_and(|length| self.announced == Some(length) && self.admission.has_set_aside(length))
    }

    /// How many bytes came with the head.
    fn came_along(&self) -> usize {
        self.source.as_ref().map_or(0, Incoming::came_along)
    }

    /// The next piece, at most `room` bytes; `None` when the body is whole; a fault ends the stream.
    async fn next(&mut self, room: usize) -> Option<Result<Bytes, StreamFault>> {
        loop {
            let source = self.source.as_mut()?;
            let broken =
                match read(source, room, self.deadline, self.origin.timeouts().idle.0, self.sent).await {
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
            if let Err(fault) = Box::pin(self.reopen(broken)).await {
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
            if let Some(line) = self.line.as_ref().filter(|_| total > FIRST as u64 / 2) {
                line.end();
            }
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
                self.origin.reopen(&mut self.admission, resume, self.sent, self.deadline, &self.span).await
            };
            match tokio::time::timeout_at(self.deadline, attempt).await {
                Err(_) => return Err(StreamFault::Deadline(self.sent)),
                Ok(Ok((body, missing))) => {
                    self.source = Some(body);
                    self.direct();
                    // Now the length is known, even if the first answer kept it open.
                    self.announced.get_or_insert(self.sent.saturating_add(missing));
                    self.record.resumed(self.resumes);
                    return Ok(());
                }
                Ok(Err(fault)) if is_final(&fault) => break,
                Ok(Err(_)) => {}
            }
        }
        // The last attempt may have ended with the time, and not been told so.
        if Instant::now() >= self.deadline { Err(StreamFault::Deadline(self.sent)) } else { Err(broken) }
    }

    /// Tells the source where its bytes go.
    fn direct(&mut self) {
        if let (Some(source), Some(line)) = (&mut self.source, &self.line) {
            source.bound_for(line);
        }
    }

    fn arm(&self, armed: bool) {
        if let Some(line) = &self.line {
            line.arm(armed);
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
    source: &mut Incoming,
    room: usize,
    deadline: Instant,
    idle: Duration,
    sent: u64,
) -> Result<Option<Bytes>, StreamFault> {
    let left = deadline.saturating_duration_since(Instant::now());
    match timeout(idle.min(left), source.piece(room)).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) => Err(StreamFault::BrokeOff { sent, reason: error.to_string() }),
        Err(_) if left <= idle => Err(StreamFault::Deadline(sent)),
        Err(_) => Err(StreamFault::Stalled(sent)),
    }
}

impl Drop for Relay {
    /// With a Content-Length the server stops reading after the last byte and never asks for the end.
    fn drop(&mut self) {
        match self.announced {
            Some(promised) if promised == self.sent => self.record.whole(),
            _ if self.line.as_ref().is_some_and(Line::has_stalled) => {
                self.record.aborted(StreamFault::ClientStalled(self.sent));
            }
            _ => self.record.aborted(StreamFault::ClientLeft(self.sent)),
        }
    }
}
