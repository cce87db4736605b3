//! Where a relay rests while its client takes what it was given. A client that takes nothing is not asked for more, so
//! that no time-out of the relay's own would ever be looked at; a guard ends it from here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::Relay;
use crate::gate::fault::StreamFault;

/// A resting place with its guard.
pub(super) struct Rest {
    shared: Arc<Shared>,
    guard: Option<AbortHandle>,
}

struct Shared {
    place: Mutex<Place>,
    deadline: Instant,
    patience: Duration,
    /// Who waits until its client takes more, and has to hear that it waits no longer.
    waiting: AtomicWaker,
}

enum Place {
    /// Since then, until the client wants more.
    Resting(Box<Relay>, Instant),
    /// Waiting for the upstream, under time-outs of its own.
    Working,
    Ended(Option<StreamFault>),
}

impl Rest {
    /// Lets `relay` rest until `deadline`, and never longer than `patience` at a time.
    pub(super) fn new(relay: Box<Relay>, deadline: Instant, patience: Duration) -> Self {
        let place = Mutex::new(Place::Resting(relay, Instant::now()));
        Self {
            shared: Arc::new(Shared { place, deadline, patience, waiting: AtomicWaker::new() }),
            guard: None,
        }
    }

    /// Sets the guard, if there is none. A body whose client takes all of it at once never needs it.
    pub(super) fn guard(&mut self) {
        if self.guard.is_none() {
            let watched = Arc::clone(&self.shared);
            let guard = tokio::spawn(async move {
                while let Some(next) = watched.check() {
                    sleep_until(next).await;
                }
            });
            self.guard = Some(guard.abort_handle());
        }
    }

    /// Whoever waits for its client is woken when the guard has ended the relay; true if it has.
    pub(super) fn is_ended(&self, cx: &Context<'_>) -> bool {
        self.shared.waiting.register(cx.waker());
        matches!(&*self.shared.lock(), Place::Ended(_))
    }

    /// The relay, to work on; `Err` if there is none any more, with the fault if nobody was told yet.
    pub(super) fn take(&self) -> Result<Box<Relay>, Option<StreamFault>> {
        let mut place = self.shared.lock();
        match std::mem::replace(&mut *place, Place::Working) {
            Place::Resting(relay, _) => Ok(relay),
            Place::Working => Err(None),
            Place::Ended(fault) => {
                *place = Place::Ended(None);
                Err(fault)
            }
        }
    }

    /// Back to rest.
    pub(super) fn put(&mut self, relay: Box<Relay>) {
        *self.shared.lock() = Place::Resting(relay, Instant::now());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When to look again; `None` when there is nothing left to guard.
    fn check(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut place = self.lock();
        let end = match &*place {
            Place::Ended(_) => return None,
            Place::Working => return Some(now + self.patience),
            Place::Resting(_, since) => self.deadline.min(*since + self.patience),
        };
        if now < end {
            return Some(end);
        }
        if let Place::Resting(mut relay, _) = std::mem::replace(&mut *place, Place::Ended(None)) {
            let sent = relay.sent;
            let late = now >= self.deadline;
            let fault = if late { StreamFault::Deadline(sent) } else { StreamFault::ClientStalled(sent) };
            *place = Place::Ended(Some(relay.fail(fault)));
        }
        drop(place);
        self.waiting.wake();
        None
    }
}

impl Drop for Rest {
    /// The relay goes at once, not when the guard is next scheduled.
    fn drop(&mut self) {
        if let Some(guard) = &self.guard {
            guard.abort();
        }
        *self.shared.lock() = Place::Ended(None);
    }
}
