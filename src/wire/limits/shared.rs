//! A store that several processes share, as one process asks it: within a bounded time, not at all while it is away, and no
//! more often than it must. What a download gives back at its end is given back behind it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::gate::fault::LimitScope;
use crate::gate::policy::LimitSet;
use crate::wire::{clock, metrics};

use super::dynamodb::DynamoDb;
use super::health::Health;
use super::memo::{Known, Memo};
#[cfg(feature = "server")]
use super::redis::Redis;
use super::store::{Away, Both, Demand, Entry, Exhausted, Lease, Moment, Seen, Settlement, Store, Who};

/// The most downloads whose end waits to be settled; what is beyond is left to their leases.
const MAX_UNSETTLED: usize = 10_000;

/// The stores that can be shared.
pub(super) enum Remote {
    DynamoDb(Box<DynamoDb>),
    #[cfg(feature = "server")]
    Redis(Box<Redis>),
}

/// How a process asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    /// How long one question may take.
    pub(super) patience: Duration,
    /// How long a store that failed is left alone.
    pub(super) retry: Duration,
    /// How long a place counts without being renewed.
    pub(super) lease: Duration,
    /// The most requests that are paid together.
    pub(super) batch: u32,
}

pub(super) struct Shared {
    remote: Remote,
    manners: Manners,
    health: Health,
    memo: Memo,
    /// Ends that were not tried to be settled yet.
    leaving: AtomicUsize,
    /// Ends that are not settled.
    unsettled: AtomicUsize,
    left: Notify,
}

/// Asks whichever store it is.
macro_rules! of_remote {
    ($remote:expr, $store:ident => $question:expr) => {
        match $remote {
            Remote::DynamoDb($store) => $question.await,
            #[cfg(feature = "server")]
            Remote::Redis($store) => $question.await,
        }
    };
}

impl Shared {
    pub(super) fn new(remote: Remote, manners: Manners) -> Arc<Self> {
        Arc::new(Self {
            remote,
            manners,
            health: Health::new(manners.retry),
            memo: Memo::new(manners.batch),
            leaving: AtomicUsize::new(0),
            unsettled: AtomicUsize::new(0),
            left: Notify::new(),
        })
    }

    /// A place's name, which nobody else has: 96 random bits.
    pub(super) fn new_lease(&self) -> Lease {
        let mut bytes = [0u8; 12];
        // Without randomness there is no TLS either.
        let _ = aws_lc_rs::rand::fill(&mut bytes);
        let id = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
        Lease { id, length: self.manners.lease }
    }

    /// Counts a request in the scopes that have limits.
    pub(super) async fn enter(
        &self,
        who: &Who,
        limits: Both<Option<&LimitSet>>,
        lease: &Lease,
        now: Moment,
    ) -> Result<Entry, Away> {
        let known = self.memo.recall(who, limits, now);
        let mut remembered: Both<Option<Seen>> = [None, None];
        let mut demands: Both<Option<Demand<'_>>> = [None, None];
        for (index, (known, limits)) in known.into_iter().zip(limits).enumerate() {
            match known {
                Known::Refused(seen) => return Ok(repeated(index, seen)),
                Known::Paid(seen) => set(&mut remembered, index, seen),
                Known::Nothing(permits) => {
                    if let Some(limits) = limits {
                        set(&mut demands, index, Demand { limits, permits });
                    }
                }
            }
        }
        if demands.iter().all(Option::is_none) {
            return Ok(Entry { refused: None, seen: remembered });
        }
        let mut entry = self
            .ask("enter", async { of_remote!(&self.remote, store => store.enter(who, demands, lease, now)) })
            .await?;
        let refused = match entry.refused {
            Some((LimitScope::Key, why)) => [Some(why), None],
            Some((LimitScope::Tenant, why)) => [None, Some(why)],
            None => [None, None],
        };
        self.memo.note(who, limits, entry.seen, refused, now);
        for (seen, remembered) in entry.seen.iter_mut().zip(remembered) {
            *seen = seen.or(remembered);
        }
        Ok(entry)
    }

    pub(super) async fn set_aside(
        &self,
        who: &Who,
        most: Both<Option<u64>>,
        bytes: u64,
    ) -> Result<Option<LimitScope>, Away> {
        let now = clock::moment();
        let question = async { of_remote!(&self.remote, store => store.set_aside(who, most, bytes, now)) };
        self.ask("set_aside", question).await
    }

    /// What is left of the rates: from memory for a moment, so that whoever sends what is refused anyway costs a question a
    /// second at most.
    pub(super) async fn left(&self, who: &Who, limits: Both<&LimitSet>) -> Result<Both<Option<Seen>>, Away> {
        let now = clock::moment();
        if let Some(left) = self.memo.left(who, limits, now) {
            return Ok(left);
        }
        let limits = limits.map(|limits| limits.rate.is_some().then_some(limits));
        let seen = self.look(who, limits).await?;
        self.memo.note(who, limits, seen, [None; 2], now);
        Ok(seen)
    }

    pub(super) async fn look(
        &self,
        who: &Who,
        limits: Both<Option<&LimitSet>>,
    ) -> Result<Both<Option<Seen>>, Away> {
        let now = clock::moment();
        let question = async { of_remote!(&self.remote, store => store.look(who, limits, now)) };
        self.ask("look", question).await
    }

    /// Renews a download's places until nobody holds the other end of `held` any more. It is never stopped in the middle of
    /// a question: that one could arrive after the places were given back, and take them again.
    pub(super) async fn keep(
        self: Arc<Self>,
        who: Who,
        places: Both<bool>,
        lease: Lease,
        mut held: oneshot::Receiver<()>,
    ) {
        while timeout(lease.length / 2, &mut held).await.is_err() {
            let now = clock::moment();
            let question =
                async { of_remote!(&self.remote, store => store.renew(&who, places, &lease, now)) };
            // A store that is away is asked again in time, or gives the places away.
            let _ = self.ask("renew", question).await;
        }
    }

    /// Settles the end of a download behind its back. A store that is away is asked again, as long as a lease lasts.
    pub(super) fn settle(
        self: &Arc<Self>,
        who: Who,
        lease: Lease,
        settlement: Settlement,
        renewal: Option<JoinHandle<()>>,
    ) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return lost() };
        if self.unsettled.fetch_add(1, Ordering::AcqRel) >= MAX_UNSETTLED {
            self.unsettled.fetch_sub(1, Ordering::AcqRel);
            return lost();
        }
        self.leaving.fetch_add(1, Ordering::AcqRel);
        let this = Arc::clone(self);
        runtime.spawn(async move {
            let mut settlement = settlement;
            let until = Instant::now() + lease.length.max(Duration::from_secs(60));
            if let Some(renewal) = renewal {
                let _ = renewal.await;
            }
            let mut done = this.leave(&who, &lease, &mut settlement).await;
            this.leaving.fetch_sub(1, Ordering::AcqRel);
            this.left.notify_waiters();
            while !done && Instant::now() < until {
                sleep(this.manners.retry).await;
                done = this.leave(&who, &lease, &mut settlement).await;
            }
            if !done {
                lost();
            }
            this.unsettled.fetch_sub(1, Ordering::AcqRel);
        });
    }

    async fn leave(&self, who: &Who, lease: &Lease, settlement: &mut Settlement) -> bool {
        let (now, question) = (clock::moment(), *settlement);
        let left = self
            .ask("leave", async { of_remote!(&self.remote, store => store.leave(who, lease, question, now)) })
            .await;
        if left.as_ref().is_err_and(|away| !away.untouched) {
            // They may have been given back already, and twice would be too much.
            settlement.unsent = 0;
        }
        left.is_ok()
    }

    /// Waits until each end so far was tried to be settled.
    pub(super) async fn settled(&self) {
        loop {
            let left = self.left.notified();
            if self.leaving.load(Ordering::Acquire) == 0 {
                return;
            }
            left.await;
        }
    }

    /// The one way to the store.
    async fn ask<T>(
        &self,
        operation: &'static str,
        question: impl Future<Output = Result<T, Away>> + Send,
    ) -> Result<T, Away> {
        if !self.health.may_ask(std::time::Instant::now()) {
            return Err(Away::untouched("the store failed a moment ago and is left alone"));
        }
        let patience = self.manners.patience;
        let began = Instant::now();
        let answer = timeout(patience, question).await.unwrap_or_else(|_| {
            Err(Away::unsure(format!("no answer within {}", humantime::format_duration(patience))))
        });
        metrics::store_call(operation, if answer.is_ok() { "ok" } else { "failed" }, began.elapsed());
        metrics::store_up(answer.is_ok());
        match &answer {
            Ok(_) => {
                if let Some(since) = self.health.answered() {
                    let seconds = since.elapsed().as_secs();
                    tracing::info!(seconds, "the limit store answers again");
                }
            }
            Err(away) if away.local => {
                tracing::warn!(operation, reason = away.reason, "the limit store refused a question");
            }
            Err(away) => self.failed(operation, &away.reason),
        }
        answer
    }

    fn failed(&self, operation: &'static str, reason: &str) {
        if self.health.failed(std::time::Instant::now()) {
            tracing::error!(operation, reason, "the limit store is away: each tenant's `fail` decides");
        } else if self.health.is_away() {
            tracing::debug!(operation, reason, "the limit store is still away");
        } else {
            tracing::warn!(operation, reason, "the limit store did not answer");
        }
        #[cfg(feature = "server")]
        if let (Remote::Redis(redis), true) = (&self.remote, self.health.is_away()) {
            redis.reconnect();
        }
    }
}

/// The memo's refusal, as the store would say it.
fn repeated(index: usize, seen: Seen) -> Entry {
    let scope = if index == 0 { LimitScope::Key } else { LimitScope::Tenant };
    let mut scopes = [None, None];
    set(&mut scopes, index, seen);
    Entry { refused: Some((scope, Exhausted::Rate)), seen: scopes }
}

fn set<T>(both: &mut Both<Option<T>>, index: usize, value: T) {
    if let Some(place) = both.get_mut(index) {
        *place = Some(value);
    }
}

fn lost() {
    metrics::settlement_lost();
    tracing::warn!(
        "a download's end was not settled with the limit store: its places come back with their lease"
    );
}
