//! A [`Permit`] that the limits let in, now, becomes an [`Admission`], here and nowhere else. It gives back its places when
//! it is dropped.
//!
//! Counters are in this process, or in a store that several share. While that is away each tenant's `fail` says whether
//! this process goes on with counters of its own, or refuses.

mod bucket;
pub mod dynamodb;
mod gcra;
mod health;
mod hold;
mod memo;
pub mod process;
#[cfg(feature = "server")]
pub mod redis;
mod shared;
mod standing;
pub mod store;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::gate::fault::{LimitScope, StreamFault, Throttled};
use crate::gate::id::UnixTime;
use crate::gate::permit::Permit;
use crate::gate::policy::{LimitSet, Policies, Tenant};

use super::config::{LimitStore, LimitsConfig};
use super::{clock, metrics};
use dynamodb::DynamoDb;
use hold::Hold;
use process::Process;
use shared::{Manners, Remote, Shared};
pub use standing::Standing;
use store::{Both, Demand, Entry, Exhausted, Moment, SCOPES, Seen, Who};

const SECONDS_PER_DAY: u64 = 86_400;

/// The counters that requests are held against.
pub struct Limits {
    process: Arc<Process>,
    shared: Option<Arc<Shared>>,
}

/// The store that several processes share did not answer; why is in the log.
struct LimitsAway;

/// Let in: a request that may be fetched now. Holds its permit and its place among the concurrent downloads. It goes through many
/// hands, and stays where it is.
pub struct Admission {
    permit: Permit,
    hold: Hold,
    standing: Standing,
}

/// What is left of one set of limits; `None` where there is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Requests that may come at once.
    pub requests: Option<Share>,
    /// Downloads that may begin beside those under way.
    pub downloads: Option<Share>,
    /// Body bytes until the end of the UTC day.
    pub bytes_today: Option<Share>,
    /// Downloads under way.
    pub active: u32,
}

/// So many left of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Share {
    /// What is left.
    pub left: u64,
    /// The limit.
    pub of: u64,
}

impl Limits {
    /// The counters that the configuration names. Nothing is asked of a shared store yet.
    pub fn open(config: &LimitsConfig) -> Result<Self, String> {
        let remote = match &config.store {
            LimitStore::Process => None,
            LimitStore::DynamoDb(table) => Some(Remote::DynamoDb(Box::new(DynamoDb::new(table)?))),
            LimitStore::Redis(url) => Some(open_redis(url, config)?),
        };
        let manners = Manners {
            patience: config.timeout.0,
            retry: config.retry.0,
            lease: config.lease.0,
            batch: config.batch,
        };
        let shared = remote.map(|remote| Shared::new(remote, manners));
        Ok(Self { process: Arc::default(), shared })
    }

    /// Asks a shared store once, for a server that starts: what is wrong with it is in the log then, and not only when the
    /// first request comes. The server starts all the same.
    pub async fn greet(&self) {
        if let Some(shared) = &self.shared
            && shared.greet().await.is_ok()
        {
            tracing::info!("the limit store answers");
        }
    }

    /// Counts the request against its key and then its tenant. The key comes first: a key that sends too much uses up its
    /// own budget and nobody else's.
    pub async fn admit(&self, permit: Permit) -> Result<Box<Admission>, (Throttled, Standing)> {
        let tenant = Arc::clone(permit.tenant());
        let who = Who { tenant: tenant.name().shared(), key: permit.grant().shared_key() };
        let limits = [tenant.limits_of(&who.key), tenant.limits()];
        let mut standing = Standing::default();
        if let Some(shared) = self.shared.as_ref().filter(|_| limits.iter().any(|limits| is_limited(limits)))
        {
            match Box::pin(shared.enter(&tenant, &who)).await {
                Ok((entry, hold)) => return conclude(permit, hold, &entry, standing, limits),
                // Whoever overloads its own counters is not to get new ones for it.
                Err(away) if away.local => return Err((Throttled::Busy, standing)),
                Err(_) => standing.decided_alone(tenant.limits_fail_open()),
            }
            metrics::degraded(standing.alone().unwrap_or_default());
            if !tenant.limits_fail_open() {
                return Err((Throttled::Away, standing));
            }
        }
        let demands = limits.map(|limits| Some(Demand { limits, permits: 1 }));
        let scopes = self.process.scopes(&who);
        let entry = scopes.enter(demands, clock::moment());
        let hold = entry.refused.is_none().then(|| Hold::process(scopes, &tenant, who));
        conclude(permit, hold, &entry, standing, limits)
    }

    /// How far a key has come with the limits, without counting anything: for a request that was verified but is refused
    /// before the limits are asked. A shared store that does not answer leaves it open.
    pub async fn standing(&self, tenant: &Arc<Tenant>, key: &str) -> Standing {
        let limits = [tenant.limits_of(key), tenant.limits()];
        let mut standing = Standing::default();
        if limits.iter().all(|limits| limits.rate.is_none()) {
            return standing;
        }
        let seen = match &self.shared {
            Some(shared) => {
                let who = Who { tenant: tenant.name().shared(), key: key.into() };
                shared.left(tenant, &who).await.map_err(|_| LimitsAway)
            }
            None => self.look(tenant, key, limits).await,
        };
        if let Ok(seen) = seen {
            standing.note(limits, &seen);
        }
        standing
    }

    /// What is left of the limits of a tenant, or of one of its keys, without counting anything; by this process's own
    /// counters while a shared store is away.
    pub async fn left(&self, tenant: &Arc<Tenant>, key: Option<&str>) -> Left {
        let limits = [key.map_or(tenant.limits(), |key| tenant.limits_of(key)), tenant.limits()];
        let name = key.unwrap_or_default();
        let seen = self.look(tenant, name, limits).await.unwrap_or_else(|LimitsAway| {
            let who = Who { tenant: tenant.name().shared(), key: name.into() };
            self.process.look_now(&who, limits.map(Some), clock::moment())
        });
        let [of_key, of_tenant] = limits;
        match (key, seen) {
            (Some(_), [seen, _]) => Left::of(of_key, seen.unwrap_or_default()),
            (None, [_, seen]) => Left::of(of_tenant, seen.unwrap_or_default()),
        }
    }

    async fn look(
        &self,
        tenant: &Arc<Tenant>,
        key: &str,
        limits: Both<&LimitSet>,
    ) -> Result<Both<Option<Seen>>, LimitsAway> {
        let who = Who { tenant: tenant.name().shared(), key: key.into() };
        match &self.shared {
            Some(shared) if limits.iter().any(|limits| is_limited(limits)) => {
                shared.look(tenant, &who).await.map_err(|_| LimitsAway)
            }
            _ => Ok(self.process.look_now(&who, limits.map(Some), clock::moment())),
        }
    }

    /// Forgets tenants that have no policy any more.
    pub fn retain(&self, policies: &Policies) {
        self.process.retain(policies);
    }

    /// Waits until every download that has ended was tried to be settled with the shared store: each for as long as one
    /// question to it may take. For a process that is about to stand still.
    pub async fn settled(&self) {
        if let Some(shared) = &self.shared {
            shared.settled().await;
        }
    }
}

#[cfg(feature = "server")]
fn open_redis(url: &str, config: &LimitsConfig) -> Result<Remote, String> {
    let password = config.password.as_ref().map(super::secrets::read_here).transpose()?;
    redis::Redis::new(url, password.as_ref(), config.timeout.0)
        .map(|redis| Remote::Redis(Box::new(redis)))
        .map_err(|reason| format!("cannot use the store that `limits.store` names: {reason}"))
}

#[cfg(not(feature = "server"))]
fn open_redis(_: &str, _: &LimitsConfig) -> Result<Remote, String> {
    Err("the function cannot reach a Redis server; set `limits.store` to `dynamodb:TABLE`".to_owned())
}

fn is_limited(limits: &LimitSet) -> bool {
    *limits != LimitSet::default()
}

/// What the counters said becomes an admission or a refusal.
fn conclude(
    permit: Permit,
    hold: Option<Hold>,
    entry: &Entry,
    mut standing: Standing,
    limits: Both<&LimitSet>,
) -> Result<Box<Admission>, (Throttled, Standing)> {
    standing.note(limits, &entry.seen);
    if let Some(hold) = hold {
        return Ok(Box::new(Admission { permit, hold, standing }));
    }
    // Whoever holds nothing was refused.
    let (scope, why) = entry.refused.unwrap_or((LimitScope::Key, Exhausted::Places));
    let seen = SCOPES.into_iter().zip(entry.seen).find(|(asked, _)| *asked == scope);
    let wait = seen.and_then(|(_, seen)| seen).unwrap_or_default().wait;
    let throttled = match why {
        Exhausted::Day => quota_exceeded(scope, clock::moment()),
        Exhausted::Places => Throttled::Concurrency { scope },
        Exhausted::Rate => Throttled::Rate { scope, retry_after: whole_seconds(wait).max(1) },
    };
    Err((throttled, standing))
}

fn quota_exceeded(scope: LimitScope, now: Moment) -> Throttled {
    let second = UnixTime(now.0 / 1_000_000);
    Throttled::Quota { scope, retry_after: SECONDS_PER_DAY - second.0 % SECONDS_PER_DAY }
}

impl Left {
    fn of(limits: &LimitSet, seen: Seen) -> Self {
        let places = limits.concurrent_downloads.map(u64::from);
        Self {
            requests: limits.rate.map(|rate| Share { left: seen.left.into(), of: rate.burst.into() }),
            downloads: places.map(|most| Share { left: most.saturating_sub(seen.active.into()), of: most }),
            bytes_today: limits
                .bytes_per_day
                .map(|most| Share { left: most.saturating_sub(seen.used), of: most }),
            active: seen.active,
        }
    }
}

impl Admission {
    /// The permit it rests on.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The permit, for the checks of each further hop and of the head.
    pub(in crate::wire) fn permit_mut(&mut self) -> &mut Permit {
        &mut self.permit
    }

    /// Takes a body's announced length out of the day's bytes before the first byte is sent.
    pub(in crate::wire) async fn reserve(&mut self, length: u64) -> Result<(), Throttled> {
        self.hold.reserve(length).await
    }

    /// Can so many bytes be spent without another question?
    pub(in crate::wire) fn has_set_aside(&self, bytes: u64) -> bool {
        self.hold.has_set_aside(bytes)
    }

    /// Counts bytes that are about to be sent; a fault when the day's bytes are used up.
    pub(in crate::wire) async fn spend(&mut self, bytes: u64) -> Result<(), StreamFault> {
        self.hold.spend(bytes).await
    }

    /// How far the request came with the limits.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
