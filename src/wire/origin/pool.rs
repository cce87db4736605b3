//! Connections that are kept for the next request to the same place.

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::connect::Reach;
use super::patience::Patience;
use super::stream::Stream;
use crate::gate::table::Table;
use crate::gate::target::Target;
use crate::wire::clock;

const MAX_IDLE: Duration = Duration::from_secs(60);
const SWEEP: Duration = Duration::from_secs(15);
/// The most that are kept, for all places: each holds a descriptor.
const MAX_KEPT: usize = 1024;
const SHELVES: usize = 16;

/// Where a connection leads. What was vetted under other exceptions is never shared.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Any URL there.
    target: Target,
    reach: Reach,
}

impl Place {
    pub(super) fn of(target: &Target, reach: Reach) -> Self {
        Self { target: target.clone(), reach }
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.reach == other.reach && self.target.same_origin(&other.target)
    }
}

impl Eq for Place {}

impl Hash for Place {
    /// Host and port tell nearly all places apart.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.target.url().host_str().unwrap_or_default().as_bytes());
        state.write_u16(self.target.port());
    }
}

/// Idle connections. Each thread has a shelf of its own, since a connection is quickest on the thread that made it.
#[derive(Default)]
pub(super) struct Pool {
    shelves: [Mutex<Shelf>; SHELVES],
    kept: AtomicUsize,
    swept: AtomicBool,
}

type Shelf = Table<Place, Vec<Idle>>;

struct Idle {
    stream: Stream,
    patience: Patience,
    since: Instant,
}

impl Pool {
    /// A connection to `place` that is still open, from another thread's shelf if its own has none.
    pub(super) fn take(&self, place: &Place, now: Instant) -> Option<(Stream, Patience)> {
        let own = shelf_of_this_thread();
        (0..SHELVES).find_map(|offset| {
            let shelf = self.shelves.get((own + offset) % SHELVES)?;
            let mut shelf = match shelf.try_lock() {
                Ok(shelf) => shelf,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if offset == 0 => lock(shelf),
                Err(TryLockError::WouldBlock) => return None,
            };
            let kept = shelf.get_mut(place)?;
            // The youngest is the likeliest to live, and the older ones may go.
            std::iter::from_fn(|| kept.pop()).find_map(|mut idle| {
                self.kept.fetch_sub(1, Ordering::Relaxed);
                let is_good = now.duration_since(idle.since) < MAX_IDLE && idle.stream.is_quiet();
                idle.stream.rest(false);
                is_good.then_some((idle.stream, idle.patience))
            })
        })
    }

    /// Keeps a connection whose last answer was read to its end.
    pub(super) fn put(self: &Arc<Self>, place: Place, mut stream: Stream, patience: Patience) {
        let Some(shelf) = self.shelves.get(shelf_of_this_thread()) else { return };
        if self.kept.fetch_add(1, Ordering::Relaxed) >= MAX_KEPT {
            self.kept.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        stream.rest(true);
        lock(shelf).entry(place).or_default().push(Idle { stream, patience, since: clock::instant() });
        if !self.swept.load(Ordering::Relaxed)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
            && !self.swept.swap(true, Ordering::Relaxed)
        {
            runtime.spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes all of them, where descriptors have run out.
    #[cfg(feature = "server")]
    pub(super) fn clear(&self) {
        self.keep(|_| false);
    }

    /// Closes what was idle for too long; true if anything is left.
    fn sweep(&self) -> bool {
        self.keep(|idle| idle.since.elapsed() < MAX_IDLE && idle.stream.is_quiet());
        self.kept.load(Ordering::Relaxed) > 0
    }

    fn keep(&self, is_good: impl Fn(&mut Idle) -> bool) {
        for shelf in &self.shelves {
            lock(shelf).retain(|_, kept| {
                let before = kept.len();
                kept.retain_mut(&is_good);
                self.kept.fetch_sub(before - kept.len(), Ordering::Relaxed);
                !kept.is_empty()
            });
        }
    }
}

async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.sweep() {
            pool.swept.store(false, Ordering::Relaxed);
            // What was put there in between found a sweeper at work.
            if !pool.sweep() || pool.swept.swap(true, Ordering::Relaxed) {
                return;
            }
        }
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shelf_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<Option<usize>> = const { Cell::new(None) };
    }
    OWN.with(|own| {
        own.get().unwrap_or_else(|| {
            let next = NEXT.fetch_add(1, Ordering::Relaxed) % SHELVES;
            own.set(Some(next));
            next
        })
    })
}
