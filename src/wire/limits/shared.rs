//! A store that several processes share, as one process asks it: within a bounded time, not at all while it is away, and no
//! more often than it must. What a download gives back at its end is given back behind it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

use crate::gate::fault::LimitScope;
use crate::gate::policy::{LimitSet, Tenant};
use crate::wire::{clock, metrics};

use super::dynamodb::DynamoDb;
use super::health::Health;
use super::hold::Hold;
use super::is_limited;
use super::memo::{Known, Memo};
#[cfg(feature = "server")]
use super::redis::Redis;
use super::store::{Away, Both, Demand, Entry, Exhausted, Lease, Seen, Store, Who};

/// How long an answer that nobody waits for any more is still waited for.
const LATE: Duration = Duration::from_secs(5);

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

mod settling;

pub(super) use settling::Covered;

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

    /// Counts a request in the scopes that have limits; what it then holds comes with the answer.
    pub(super) async fn enter(
        self: &Arc<Self>,
        tenant: &Arc<Tenant>,
        who: &Who,
    ) -> Result<(Entry, Option<Hold>), Away> {
        let limits = limits_of(tenant, who);
        let known = self.memo.recall(who, limits, clock::steady());
        let mut remembered: Both<Option<Seen>> = [None, None];
        let mut permits: Both<Option<u32>> = [None, None];
        for (index, (known, limits)) in known.into_iter().zip(limits).enumerate() {
            match known {
                Known::Refused(why, seen) => return Ok((repeated(index, why, seen), None)),
                Known::Paid(seen) => set(&mut remembered, index, seen),
                Known::Nothing(number) if limits.is_some() => set(&mut permits, index, number),
                Known::Nothing(_) => {}
            }
        }
        if permits == [None, None] {
            let hold = Hold::shared(self, tenant, who.clone(), self.new_lease());
            return Ok((Entry { refused: None, seen: remembered }, Some(hold)));
        }
        let (this, tenant, who) = (Arc::clone(self), Arc::clone(tenant), who.clone());
        let question = async move { this.enter_now(&tenant, who, permits).await };
        let (mut entry, hold) = self.ask("enter", question).await?;
        for (seen, remembered) in entry.seen.iter_mut().zip(remembered) {
            *seen = seen.or(remembered);
        }
        Ok((entry, hold))
    }

    async fn enter_now(
        self: &Arc<Self>,
        tenant: &Arc<Tenant>,
        who: Who,
        permits: Both<Option<u32>>,
    ) -> Result<(Entry, Option<Hold>), Away> {
        let (limits, lease, now) = (limits_of(tenant, &who), self.new_lease(), clock::moment());
        let [of_key, of_tenant] = limits;
        let [for_key, for_tenant] = permits;
        let demand = |limits: Option<_>, permits: Option<u32>| {
            limits.zip(permits).map(|(limits, permits)| Demand { limits, permits })
        };
        let demands = [demand(of_key, for_key), demand(of_tenant, for_tenant)];
        let entry = of_remote!(&self.remote, store => store.enter(&who, demands, &lease, now))?;
        let refused = match entry.refused {
            Some((LimitScope::Key, why)) => [Some(why), None],
            Some((LimitScope::Tenant, why)) => [None, Some(why)],
            None => [None, None],
        };
        self.memo.note(&who, limits, entry.seen, refused, clock::steady());
        let hold = entry.refused.is_none().then(|| Hold::shared(self, tenant, who, lease));
        Ok((entry, hold))
    }

    /// Sets bytes of the day aside; they come back unless somebody takes them over.
    pub(super) async fn set_aside(
        self: &Arc<Self>,
        who: &Who,
        most: Both<Option<u64>>,
        bytes: u64,
    ) -> Result<Result<Covered, LimitScope>, Away> {
        let (this, who) = (Arc::clone(self), who.clone());
        let question = async move {
            let now = clock::moment();
            let aside = of_remote!(&this.remote, store => store.set_aside(&who, most, bytes, now))?;
            Ok(match aside.refused {
                Some(scope) => Err(scope),
                None => Ok(Covered { shared: this, who, most, bytes, account: aside.account }),
            })
        };
        self.ask("set_aside", question).await
    }

    /// What is left of the rates: from memory for a moment, so that whoever sends what is refused anyway costs a question a
    /// second at most.
    pub(super) async fn left(
        self: &Arc<Self>,
        tenant: &Arc<Tenant>,
        who: &Who,
    ) -> Result<Both<Option<Seen>>, Away> {
        let limits = limits_of(tenant, who);
        if let Some(left) = self.memo.left(who, limits, clock::steady()) {
            return Ok(left);
        }
        let seen = self.look(tenant, who).await?;
        self.memo.note(who, limits, seen, [None; 2], clock::steady());
        Ok(seen)
    }

    pub(super) async fn look(
        self: &Arc<Self>,
        tenant: &Arc<Tenant>,
        who: &Who,
    ) -> Result<Both<Option<Seen>>, Away> {
        let (this, tenant, who) = (Arc::clone(self), Arc::clone(tenant), who.clone());
        let question = async move {
            let limits = limits_of(&tenant, &who);
            of_remote!(&this.remote, store => store.look(&who, limits, clock::moment()))
        };
        self.ask("look", question).await
    }

    /// Asks once, so that the log and the metrics say from the start whether there is a store.
    pub(super) async fn greet(self: &Arc<Self>) -> Result<(), Away> {
        let this = Arc::clone(self);
        let nobody = Who { tenant: "-".into(), key: Arc::default() };
        let question = async move {
            let none = LimitSet::default();
            of_remote!(&this.remote, store => store.look(&nobody, [None, Some(&none)], clock::moment()))
        };
        self.ask("look", question).await.map(|_| ())
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
        let mut pause = lease.length / 2;
        while timeout(pause, &mut held).await.is_err() {
            let (this, who, kept) = (Arc::clone(&self), who.clone(), lease.clone());
            let question = async move {
                of_remote!(&this.remote, store => store.renew(&who, places, &kept, clock::moment()))
            };
            // Otherwise the store gives the places away.
            let renewed = self.ask("renew", question).await.is_ok();
            pause = if renewed { lease.length / 2 } else { self.manners.retry.min(lease.length / 2) };
        }
    }

    /// The one way to the store. The question is a task of its own: whoever waits for the answer may leave, or lose
    /// patience, and the answer still counts; what it brought is dropped then, and so given back.
    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        question: impl Future<Output = Result<T, Away>> + Send + 'static,
    ) -> Result<T, Away> {
        if !self.health.may_ask(std::time::Instant::now()) {
            return Err(Away::untouched("the store failed a moment ago and is left alone"));
        }
        let (this, patience) = (Arc::clone(self), self.manners.patience);
        let (answers, answer) = oneshot::channel();
        tokio::spawn(async move {
            let mut question = std::pin::pin!(question);
            let began = Instant::now();
            let answered = timeout(patience, question.as_mut()).await;
            let late = answered.is_err();
            let told = answered.unwrap_or_else(|_| {
                Err(Away::unsure(format!("no answer within {}", humantime::format_duration(patience))))
            });
            this.judge(operation, told.as_ref().err(), began.elapsed());
            let _ = answers.send(told);
            if late {
                let _ = timeout(LATE, question).await;
            }
        });
        answer.await.unwrap_or_else(|_| Err(Away::unsure("the question was lost")))
    }

    /// What an answer says of the store itself.
    fn judge(&self, operation: &'static str, away: Option<&Away>, took: Duration) {
        metrics::store_call(operation, if away.is_none() { "ok" } else { "failed" }, took);
        match away {
            Some(away) if !away.local => {
                metrics::store_up(false);
                self.failed(operation, &away.reason);
                return;
            }
            Some(away) => {
                tracing::warn!(operation, reason = away.reason, "the limit store refused a question");
            }
            None => {}
        }
        metrics::store_up(true);
        if let Some(since) = self.health.answered() {
            let seconds = since.elapsed().as_secs();
            tracing::info!(seconds, "the limit store answers again");
        }
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

/// The limits of key and tenant, where there are any.
fn limits_of<'t>(tenant: &'t Tenant, who: &Who) -> Both<Option<&'t LimitSet>> {
    [tenant.limits_of(&who.key), tenant.limits()].map(|limits| is_limited(limits).then_some(limits))
}

/// The memo's refusal, as the store would say it.
fn repeated(index: usize, why: Exhausted, seen: Seen) -> Entry {
    let scope = if index == 0 { LimitScope::Key } else { LimitScope::Tenant };
    let mut scopes = [None, None];
    set(&mut scopes, index, seen);
    Entry { refused: Some((scope, why)), seen: scopes }
}

fn set<T>(both: &mut Both<Option<T>>, index: usize, value: T) {
    if let Some(place) = both.get_mut(index) {
        *place = Some(value);
    }
}
