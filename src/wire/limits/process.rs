//! Counters in one process's memory: exact for one server, and all that is left to each of several while their common
//! store is away.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use crate::gate::fault::LimitScope;
use crate::gate::policy::{LimitSet, Policies};

use super::bucket::{Bucket, Ticks};
use super::store::{
    Account, Aside, Away, Both, Demand, Entry, Lease, Moment, SCOPES, Seen, Settlement, Store, Who,
};

/// The counters of one process.
pub struct Process {
    ticks: Ticks,
    tenants: RwLock<HashMap<String, Arc<Counters>>>,
}

/// The counters of one tenant and of its keys.
struct Counters {
    tenant: Arc<Bucket>,
    keys: RwLock<HashMap<String, Arc<Bucket>>>,
}

impl Default for Process {
    fn default() -> Self {
        Self::with(Ticks::Own(Instant::now()))
    }
}

impl Process {
    /// Counters whose time is the one they are asked with, and no other.
    pub fn told_the_time() -> Self {
        Self::with(Ticks::Told(Arc::new(AtomicU64::new(0))))
    }

    fn with(ticks: Ticks) -> Self {
        Self { ticks, tenants: RwLock::default() }
    }

    /// Forgets tenants that have no policy any more.
    pub fn retain(&self, policies: &Policies) {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|name, _| policies.tenant(name).is_some());
    }

    pub(super) fn enter_now(&self, who: &Who, demands: Both<Option<Demand<'_>>>, now: Moment) -> Entry {
        self.ticks.tell(now);
        let buckets = self.buckets(who);
        let mut entry = Entry { refused: None, seen: [None, None] };
        let mut entered: Option<&Arc<Bucket>> = None;
        for (((bucket, demand), scope), place) in buckets.iter().zip(demands).zip(SCOPES).zip(&mut entry.seen)
        {
            let Some(demand) = demand else { continue };
            let (seen, refused) = bucket.enter(demand, now);
            *place = Some(seen);
            if let Some(exhausted) = refused {
                entry.refused = Some((scope, exhausted));
                if let Some(earlier) = entered {
                    earlier.give_place();
                }
                return entry;
            }
            entered = Some(bucket);
        }
        entry
    }

    pub(super) fn set_aside_now(
        &self,
        who: &Who,
        most: Both<Option<u64>>,
        bytes: u64,
        now: Moment,
    ) -> Option<LimitScope> {
        let [key, tenant] = self.buckets(who);
        let [of_key, of_tenant] = most;
        if !key.set_aside(of_key, bytes, now) {
            return Some(LimitScope::Key);
        }
        if !tenant.set_aside(of_tenant, bytes, now) {
            let back = if of_key.is_some() { bytes } else { 0 };
            key.settle(back, now.day(), 0, now);
            return Some(LimitScope::Tenant);
        }
        None
    }

    pub(super) fn leave_now(&self, who: &Who, settlement: Settlement, now: Moment) {
        let Settlement { places, counted, unsent, account, owed } = settlement;
        for ((bucket, place), counted) in self.buckets(who).iter().zip(places).zip(counted) {
            if place {
                bucket.give_place();
            }
            if counted {
                bucket.settle(unsent, account.day, owed, now);
            }
        }
    }

    pub(super) fn look_now(
        &self,
        who: &Who,
        limits: Both<Option<&LimitSet>>,
        now: Moment,
    ) -> Both<Option<Seen>> {
        self.ticks.tell(now);
        let [key, tenant] = self.buckets(who);
        let [of_key, of_tenant] = limits;
        let look = |bucket: &Bucket, limits: &LimitSet| bucket.look(limits.rate, now);
        [of_key.map(|limits| look(&key, limits)), of_tenant.map(|limits| look(&tenant, limits))]
    }

    fn buckets(&self, who: &Who) -> Both<Arc<Bucket>> {
        let counters = find_or_insert(&self.tenants, &who.tenant, || Counters {
            tenant: Arc::new(Bucket::new(&self.ticks)),
            keys: RwLock::default(),
        });
        let key = find_or_insert(&counters.keys, &who.key, || Bucket::new(&self.ticks));
        [key, Arc::clone(&counters.tenant)]
    }
}

/// A poisoned lock means that another thread panicked while holding it; the counters themselves are still whole.
fn find_or_insert<T>(map: &RwLock<HashMap<String, Arc<T>>>, name: &str, new: impl FnOnce() -> T) -> Arc<T> {
    let read = map.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = read.get(name) {
        return Arc::clone(found);
    }
    drop(read);
    let mut write = map.write().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(write.entry(name.to_owned()).or_insert_with(|| Arc::new(new())))
}

impl Store for Process {
    async fn enter(
        &self,
        who: &Who,
        demands: Both<Option<Demand<'_>>>,
        _: &Lease,
        now: Moment,
    ) -> Result<Entry, Away> {
        Ok(self.enter_now(who, demands, now))
    }

    async fn set_aside(
        &self,
        who: &Who,
        most: Both<Option<u64>>,
        bytes: u64,
        now: Moment,
    ) -> Result<Aside, Away> {
        let account = Account { day: now.day(), era: 0 };
        Ok(Aside { refused: self.set_aside_now(who, most, bytes, now), account })
    }

    /// Within one process no download outlives its counters.
    async fn renew(&self, _: &Who, _: Both<bool>, _: &Lease, _: Moment) -> Result<(), Away> {
        Ok(())
    }

    async fn leave(&self, who: &Who, _: &Lease, settlement: Settlement, now: Moment) -> Result<(), Away> {
        self.leave_now(who, settlement, now);
        Ok(())
    }

    async fn look(
        &self,
        who: &Who,
        limits: Both<Option<&LimitSet>>,
        now: Moment,
    ) -> Result<Both<Option<Seen>>, Away> {
        Ok(self.look_now(who, limits, now))
    }
}
