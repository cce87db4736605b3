//! Counters in one process's memory: exact for one server, and all that is left to each of several while their common
//! store is away.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use crate::gate::fault::LimitScope;
use crate::gate::policy::{LimitSet, Policies};
use crate::gate::table::Table;

use super::bucket::{Bucket, Ticks};
use super::store::{
    Account, Aside, Away, Both, Demand, Entry, Lease, Moment, SCOPES, Seen, Settlement, Store, Who,
};

/// The counters of one process.
pub struct Process {
    ticks: Ticks,
    tenants: RwLock<Table<Arc<str>, Arc<Counters>>>,
}

/// The counters of one tenant and of its keys.
struct Counters {
    tenant: Arc<Bucket>,
    keys: RwLock<Table<Arc<str>, Arc<Bucket>>>,
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
        // While a download holds the counters it goes on being counted, should the tenant come back.
        let is_held = |counters: &Counters| Arc::strong_count(&counters.tenant) > 1;
        tenants.retain(|name, counters| policies.tenant(name).is_some() || is_held(counters));
    }

    /// The counters of a key and of its tenant. Whoever keeps them for a request gives back to those it took from.
    pub(super) fn scopes(&self, who: &Who) -> Scopes {
        let counters = find_or_insert(&self.tenants, &who.tenant, || Counters {
            tenant: Arc::new(Bucket::new(&self.ticks)),
            keys: RwLock::default(),
        });
        let key = find_or_insert(&counters.keys, &who.key, || Bucket::new(&self.ticks));
        Scopes([key, Arc::clone(&counters.tenant)])
    }

    /// The same at `now`, for counters that are told the time.
    fn scopes_at(&self, who: &Who, now: Moment) -> Scopes {
        self.ticks.tell(now);
        self.scopes(who)
    }

    pub(super) fn look_now(
        &self,
        who: &Who,
        limits: Both<Option<&LimitSet>>,
        now: Moment,
    ) -> Both<Option<Seen>> {
        let Scopes([key, tenant]) = self.scopes_at(who, now);
        let [of_key, of_tenant] = limits;
        let look = |bucket: &Bucket, limits: &LimitSet| bucket.look(limits.rate, now);
        [of_key.map(|limits| look(&key, limits)), of_tenant.map(|limits| look(&tenant, limits))]
    }
}

/// The counters of one key and of its tenant.
pub(super) struct Scopes(Both<Arc<Bucket>>);

impl Scopes {
    pub(super) fn enter(&self, demands: Both<Option<Demand<'_>>>, now: Moment) -> Entry {
        let mut entry = Entry { refused: None, seen: [None, None] };
        let mut entered: Option<&Arc<Bucket>> = None;
        for (((bucket, demand), scope), place) in self.0.iter().zip(demands).zip(SCOPES).zip(&mut entry.seen)
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

    pub(super) fn set_aside(&self, most: Both<Option<u64>>, bytes: u64, now: Moment) -> Option<LimitScope> {
        let ([key, tenant], [of_key, of_tenant]) = (&self.0, most);
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

    /// Asks what time it is only if bytes of the day are counted.
    pub(super) fn leave(&self, settlement: Settlement, now: impl Fn() -> Moment) {
        let Settlement { places, counted, unsent, account, owed } = settlement;
        for ((bucket, place), counted) in self.0.iter().zip(places).zip(counted) {
            if place {
                bucket.give_place();
            }
            if counted {
                bucket.settle(unsent, account.day, owed, now());
            }
        }
    }
}

fn find_or_insert<T>(
    map: &RwLock<Table<Arc<str>, Arc<T>>>,
    name: &Arc<str>,
    new: impl FnOnce() -> T,
) -> Arc<T> {
    let read = map.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = read.get(&**name) {
        return Arc::clone(found);
    }
    drop(read);
    let mut write = map.write().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(write.entry(Arc::clone(name)).or_insert_with(|| Arc::new(new())))
}

impl Store for Process {
    async fn enter(
        &self,
        who: &Who,
        demands: Both<Option<Demand<'_>>>,
        _: &Lease,
        now: Moment,
    ) -> Result<Entry, Away> {
        Ok(self.scopes_at(who, now).enter(demands, now))
    }

    async fn set_aside(
        &self,
        who: &Who,
        most: Both<Option<u64>>,
        bytes: u64,
        now: Moment,
    ) -> Result<Aside, Away> {
        let account = Account { day: now.day(), era: 0 };
        Ok(Aside { refused: self.scopes(who).set_aside(most, bytes, now), account })
    }

    /// Within one process no download outlives its counters.
    async fn renew(&self, _: &Who, _: Both<bool>, _: &Lease, _: Moment) -> Result<(), Away> {
        Ok(())
    }

    async fn leave(&self, who: &Who, _: &Lease, settlement: Settlement, now: Moment) -> Result<(), Away> {
        self.scopes(who).leave(settlement, || now);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_a_download_holds_outlive_their_policy() {
        let (process, nobody) = (Process::default(), Policies::default());
        let who = Who { tenant: "acme".into(), key: "acme-1".into() };
        let Scopes([key, tenant]) = process.scopes(&who);
        let same = |process: &Process| {
            let Scopes([of_key, of_tenant]) = process.scopes(&who);
            (Arc::ptr_eq(&of_key, &key), Arc::ptr_eq(&of_tenant, &tenant))
        };
        process.retain(&nobody);
        assert_eq!(same(&process), (true, true));
        let forgotten = Arc::downgrade(&tenant);
        drop((key, tenant));
        process.retain(&nobody);
        assert_eq!(forgotten.strong_count(), 0);
    }
}
