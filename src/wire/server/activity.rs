//! How long a connection has had nothing to do. An HTTP/2 client that only answers pings would otherwise stay for ever.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep, sleep_until};

use crate::wire::body::Line;
use crate::wire::clock;

/// What is under way on one connection.
#[derive(Clone)]
pub(super) struct Activity(Arc<Mutex<State>>);

struct State {
    requests: usize,
    since: Instant,
    begun: bool,
}

/// A request that is under way until this is dropped, its body included, and the connection that it has for its own.
pub(super) struct Busy(Activity, Option<Line>);

impl Activity {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { requests: 0, since: Instant::now(), begun: false })))
    }

    pub(super) fn begin(&self, line: Option<Line>) -> Busy {
        let mut state = self.lock();
        state.requests += 1;
        state.begun = true;
        drop(state);
        if let Some(line) = &line {
            line.occupy(true);
        }
        Busy(self.clone(), line)
    }

    /// Was there ever a request?
    pub(super) fn has_begun(&self) -> bool {
        self.lock().begun
    }

    /// Resolves when nothing has been under way for `span`, and not before `pause` is over.
    pub(super) async fn idle_for(&self, span: Duration, pause: Duration) {
        if !pause.is_zero() {
            sleep(pause).await;
        }
        loop {
            let (requests, since) = {
                let state = self.lock();
                (state.requests, state.since)
            };
            let now = Instant::now();
            let end = if requests == 0 { since + span } else { now + span };
            if end <= now {
                return;
            }
            sleep_until(end).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Busy {
    /// The request is under way until its answer's body is gone.
    pub(super) fn until_gone<B: Body + Unpin>(self, inner: B) -> Occupied<B> {
        Occupied { inner, _busy: self }
    }
}

/// A body that keeps its connection from being idle.
pub(super) struct Occupied<B> {
    inner: B,
    _busy: Busy,
}

impl<B: Body + Unpin> Body for Occupied<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.requests = state.requests.saturating_sub(1);
        state.since = clock::instant();
        drop(state);
        if let Some(line) = &self.1 {
            line.occupy(false);
        }
    }
}
