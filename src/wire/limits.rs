//! A [`Permit`] that the limits let in, now, becomes an [`Admission`], here and nowhere else. It gives back its slots
//! when it is dropped.

mod bucket;

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use http::{HeaderName, HeaderValue};
use serde::Serialize;

use crate::gate::fault::{LimitScope, Throttled};
use crate::gate::id::UnixTime;
use crate::gate::permit::Permit;
use crate::gate::policy::{Policies, Rate, Tenant};

use bucket::{Bucket, Slot};

/// Counters of one process: exact for one server.
#[derive(Default)]
pub struct Limits {
    tenants: RwLock<HashMap<String, Arc<Counters>>>,
}

/// The counters of one tenant and of its keys.
#[derive(Default)]
struct Counters {
    tenant: Arc<Bucket>,
    keys: RwLock<HashMap<String, Arc<Bucket>>>,
}

/// Let in: a request that may be fetched now. Holds its permit and its place among the concurrent downloads.
pub struct Admission {
    permit: Permit,
    slots: [Slot; 2],
    standing: Standing,
}

/// How far a request came with the limits, for the `RateLimit` fields.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    policy: Vec<String>,
    left: Vec<String>,
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
    /// Counts the request against its key and then its tenant. The key comes first: a key that sends too much uses up
    /// its own budget and nobody else's.
    pub fn admit(&self, permit: Permit, now: UnixTime) -> Result<Admission, (Throttled, Standing)> {
        let counters = self.counters(permit.tenant().name().as_str());
        let key = counters.key(permit.grant().key());
        let mut standing = Standing::default();
        let scoped = [
            (LimitScope::Key, &key, permit.tenant().limits_of(permit.grant().key())),
            (LimitScope::Tenant, &counters.tenant, permit.tenant().limits()),
        ];
        for (scope, bucket, limits) in scoped {
            if let Err(throttled) = bucket.check_day(limits, scope, now) {
                return Err((throttled, standing));
            }
        }
        for (scope, bucket, limits) in scoped {
            let Some(rate) = limits.rate else { continue };
            match bucket.take(rate) {
                Ok(left) => standing.note(scope, rate, left),
                Err(wait) => {
                    standing.exhausted(scope, rate, wait);
                    return Err((Throttled::Rate { scope, retry_after: wait }, standing));
                }
            }
        }
        let [key_limits, tenant_limits] = scoped.map(|(_, _, limits)| limits);
        let slots = Bucket::enter(&key, key_limits, LimitScope::Key)
            .and_then(|own| Ok([own, Bucket::enter(&counters.tenant, tenant_limits, LimitScope::Tenant)?]));
        match slots {
            Ok(slots) => Ok(Admission { permit, slots, standing }),
            Err(throttled) => Err((throttled, standing)),
        }
    }

    /// How far a key has come with the limits, without counting anything: for a request that was verified but is refused
    /// before the limits are asked.
    pub fn standing(&self, tenant: &Tenant, key: &str) -> Standing {
        let counters = self.counters(tenant.name().as_str());
        let mut standing = Standing::default();
        let own = counters.key(key);
        for (scope, bucket, limits) in [
            (LimitScope::Key, &own, tenant.limits_of(key)),
            (LimitScope::Tenant, &counters.tenant, tenant.limits()),
        ] {
            if let Some(rate) = limits.rate {
                standing.note(scope, rate, bucket.left(rate));
            }
        }
        standing
    }

    /// What is left of the limits of a tenant, or of one of its keys, without counting anything.
    pub fn left(&self, tenant: &Tenant, key: Option<&str>, now: UnixTime) -> Left {
        let counters = self.counters(tenant.name().as_str());
        let (bucket, limits) = match key {
            Some(key) => (counters.key(key), tenant.limits_of(key)),
            None => (Arc::clone(&counters.tenant), tenant.limits()),
        };
        Left {
            requests: limits.rate.map(|rate| Share { left: bucket.left(rate).into(), of: rate.burst.into() }),
            downloads: limits
                .concurrent_downloads
                .map(|most| Share { left: most.saturating_sub(bucket.active()).into(), of: most.into() }),
            bytes_today: limits
                .bytes_per_day
                .map(|most| Share { left: most.saturating_sub(bucket.used(now)), of: most }),
            active: bucket.active(),
        }
    }

    /// Forgets tenants that have no policy any more.
    pub fn retain(&self, policies: &Policies) {
        if let Ok(mut tenants) = self.tenants.write() {
            tenants.retain(|name, _| policies.tenant(name).is_some());
        }
    }

    fn counters(&self, tenant: &str) -> Arc<Counters> {
        find_or_insert(&self.tenants, tenant)
    }
}

impl Counters {
    fn key(&self, key: &str) -> Arc<Bucket> {
        find_or_insert(&self.keys, key)
    }
}

/// A poisoned lock means that another thread panicked while holding it; the counters themselves are still whole.
fn find_or_insert<T: Default>(map: &RwLock<HashMap<String, Arc<T>>>, name: &str) -> Arc<T> {
    let read = map.read().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(found) = read.get(name) {
        return Arc::clone(found);
    }
    drop(read);
    let mut write = map.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    Arc::clone(write.entry(name.to_owned()).or_default())
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
    pub(in crate::wire) fn reserve(&mut self, length: u64, now: UnixTime) -> Result<(), Throttled> {
        let tenant = Arc::clone(self.permit.tenant());
        let limits = [tenant.limits_of(self.permit.grant().key()), tenant.limits()];
        for (slot, limits) in self.slots.iter_mut().zip(limits) {
            slot.reserve(limits, length, now)?;
        }
        Ok(())
    }

    /// Counts bytes that were sent; false when the day's bytes are used up.
    pub(in crate::wire) fn spend(&mut self, bytes: u64, now: UnixTime) -> bool {
        let tenant = Arc::clone(self.permit.tenant());
        let limits = [tenant.limits_of(self.permit.grant().key()), tenant.limits()];
        self.slots.iter_mut().zip(limits).all(|(slot, limits)| slot.spend(limits, bytes, now))
    }

    /// How far the request came with the limits.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }
}

impl Standing {
    fn note(&mut self, scope: LimitScope, rate: Rate, left: u32) {
        let missing = rate.burst.saturating_sub(left);
        self.push(scope, rate, left, whole_seconds(rate.period.saturating_mul(missing)));
    }

    fn exhausted(&mut self, scope: LimitScope, rate: Rate, wait: u64) {
        self.push(scope, rate, 0, wait);
    }

    fn push(&mut self, scope: LimitScope, rate: Rate, left: u32, seconds: u64) {
        let window = whole_seconds(rate.period.saturating_mul(rate.burst)).max(1);
        self.policy.push(format!("\"{scope}\";q={};w={window}", rate.burst));
        self.left.push(format!("\"{scope}\";r={left};t={seconds}"));
    }

    /// The `RateLimit-Policy` and `RateLimit` fields (draft-ietf-httpapi-ratelimit-headers-10); none without a rate.
    pub fn fields(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
        [("ratelimit-policy", &self.policy), ("ratelimit", &self.left)].into_iter().filter_map(
            |(name, items)| {
                let value = HeaderValue::from_str(&items.join(", ")).ok()?;
                (!items.is_empty()).then(|| (HeaderName::from_static(name), value))
            },
        )
    }
}

fn whole_seconds(duration: std::time::Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
