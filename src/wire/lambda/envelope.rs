//! What is posted to the Runtime API for one answer: a JSON prelude with status and headers, eight NULs, the body.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::sync::watch;

use crate::gate::fault::StreamFault;
use crate::wire::body::{Body, full};

/// Between prelude and body.
const SEPARATOR: &[u8] = &[0; 8];
/// What answers without a body carry if they must carry something. No client ever sees it.
const FILLER: &[u8] = b"\n";

/// Fields that the platform sets itself, or that are not true of what it makes of the answer: always whole, chunked.
const DROPPED: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::CONNECTION, header::TRANSFER_ENCODING, header::ACCEPT_RANGES];

/// A body whose first piece has been waited for.
pub(super) struct Answered {
    first: Option<Result<Frame<Bytes>, StreamFault>>,
    rest: Body,
}

/// Fits an answer to the platform. A streamed body of no bytes may hang there until the invocation ends, so that an empty
/// file is answered with 204, which says the same and has no body.
pub(super) async fn adapt(mut response: Response<Body>, head_only: bool, fill: bool) -> Response<Answered> {
    let bodyless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&response.status());
    let empty_file = response.status() == StatusCode::OK
        && response.headers().get("x-sluicegate-length").is_some_and(|length| length == "0");
    let first = if head_only || bodyless || empty_file { None } else { response.body_mut().frame().await };
    if empty_file || (first.is_none() && response.status() == StatusCode::OK && !head_only) {
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    let filler = || Some(Ok(Frame::data(Bytes::from_static(FILLER))));
    let first = if first.is_none() && fill { filler() } else { first };
    response.map(|rest| Answered { first, rest })
}

/// An answer whose body is known to be there.
pub(super) fn known(mut response: Response<Body>, head_only: bool) -> Response<Answered> {
    if head_only {
        *response.body_mut() = full("");
    }
    response.map(|rest| Answered { first: None, rest })
}

/// The whole message. Prelude and separator are pieces of their own: some emulators look for them there.
pub(super) struct Envelope {
    prelude: Option<Bytes>,
    separator: Option<Bytes>,
    body: Option<Answered>,
    /// Was the body's first piece handed over, and nothing asked since?
    first_out: bool,
    fault: Option<StreamFault>,
    /// Resolves when the message is gone: every byte handed over, or given up.
    _gone: watch::Sender<()>,
}

impl Envelope {
    pub(super) fn seal(response: Response<Answered>) -> (Self, watch::Receiver<()>) {
        let (sender, gone) = watch::channel(());
        let (parts, body) = response.into_parts();
        let prelude = prelude(parts.status, &parts.headers);
        let separator = Some(Bytes::from_static(SEPARATOR));
        let body = Some(body);
        (Self { prelude: Some(prelude), separator, body, first_out: false, fault: None, _gone: sender }, gone)
    }

    /// A message that is no answer: the report of an error.
    pub(super) fn plain(text: String) -> (Self, watch::Receiver<()>) {
        let (sender, gone) = watch::channel(());
        let prelude = Some(text.into());
        (Self { prelude, separator: None, body: None, first_out: false, fault: None, _gone: sender }, gone)
    }
}

/// One value for each name; function URLs take no more. Cookies are never set.
fn prelude(status: StatusCode, headers: &HeaderMap) -> Bytes {
    let mut fields = serde_json::Map::new();
    for name in headers.keys().filter(|name| !DROPPED.contains(name)) {
        let values: Vec<_> = headers
            .get_all(name)
            .iter()
            .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
            .collect();
        fields.insert(name.as_str().to_owned(), values.join(", ").into());
    }
    let prelude = serde_json::json!({ "statusCode": status.as_u16(), "headers": fields, "cookies": [] });
    prelude.to_string().into()
}

impl http_body::Body for Envelope {
    type Data = Bytes;
    type Error = StreamFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamFault>>> {
        if let Some(piece) = self.prelude.take() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(piece) = self.separator.take() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(fault) = self.fault.take() {
            return Poll::Ready(Some(Err(fault)));
        }
        if std::mem::take(&mut self.first_out) {
            // The connection sends what it holds before it asks again: the end of a small file writes its record first.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let first = body.first.take();
        let is_first = first.is_some();
        let piece = match first {
            Some(first) => Some(first),
            None => ready!(poll_body(&mut body.rest, cx)),
        };
        self.first_out = is_first;
        if let Some(Err(fault)) = piece {
            // The connection first sends what it holds: a response that never began would be none, not a broken one.
            self.fault = Some(fault);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(piece)
    }
}

/// A panic breaks this body and nothing else. Left alone it would take the connection with it before what came ahead of it
/// was sent.
fn poll_body(body: &mut Body, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamFault>>> {
    let poll = AssertUnwindSafe(|| http_body::Body::poll_frame(Pin::new(body), cx));
    catch_unwind(poll).unwrap_or(Poll::Ready(Some(Err(StreamFault::Panicked))))
}
