//! Counters in a DynamoDB table, for functions that know nothing of each other. A scope is an item; a request is one
//! conditional `UpdateItem` a scope, both scopes at the same time, without reading first. The condition is written for what
//! the item is thought to be; where it is not so, DynamoDB answers with what it is, and the next attempt fits.

mod change;
mod item;
mod table;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::gate::fault::LimitScope;
use crate::gate::policy::LimitSet;

use super::gcra::Gcra;
use super::store::{
    Aside, Away, Both, Demand, Entry, Exhausted, Lease, Moment, Seen, Settlement, Store, Who, micros,
};
use change::Change;
use item::{ACTIVE, ARRIVAL, BYTES, DAY, EXPIRES, State, lease_attribute};
use table::{Outcome, Table};

/// Attempts of one change. The second fits, unless somebody else was faster; two that are slower in a row are rare.
const ATTEMPTS: usize = 5;
/// How many items' states are remembered; after that all are forgotten, which costs one more attempt each.
const MAX_THOUGHTS: usize = 10_000;
/// The table forgets an item so long after it has nothing to say any more.
const GRACE: Duration = Duration::from_secs(3600);
/// How many leases that ran out are removed at once.
const MAX_BURIED: usize = 20;
/// How many of them are removed although places are free: the item is paid by its size.
const MANY_DEAD: usize = 8;
/// The longest key that stands in an item's id as it is; DynamoDB takes 2,048 bytes.
const MAX_PLAIN_KEY: usize = 512;

/// Counters in one table.
pub struct DynamoDb {
    table: Table,
    thoughts: Mutex<HashMap<String, State>>,
}

/// A scope that was entered, or what it says instead.
type Entered = Result<Seen, (Exhausted, Seen)>;

impl DynamoDb {
    /// Uses `table` in the environment's region, once it is needed.
    pub fn new(table: &str) -> Result<Self, String> {
        Ok(Self { table: Table::new(table)?, thoughts: Mutex::default() })
    }

    /// Uses `table` at `endpoint`, with these credentials.
    pub fn at(endpoint: &str, region: &str, id: &str, secret: &str, table: &str) -> Result<Self, String> {
        let as_whom = aws_credential_types::Credentials::new(id, secret, None, None, "given");
        Ok(Self { table: Table::at(endpoint, region, as_whom, table)?, thoughts: Mutex::default() })
    }

    async fn enter_one(
        &self,
        id: &str,
        demand: Option<Demand<'_>>,
        lease: &Lease,
        now: Moment,
    ) -> Result<Option<Entered>, Away> {
        let Some(demand) = demand else { return Ok(None) };
        let limits = demand.limits;
        let mut state = self.thought(id);
        let mut permits = state.judge(demand, now).unwrap_or(demand.permits.min(1));
        for _ in 0..ATTEMPTS {
            let change = entering(Demand { permits, ..demand }, lease, now, &state);
            match self.change(id, change).await? {
                Ok(made) => return Ok(Some(Ok(made.seen(limits, permits, now)))),
                Err(is) => state = is,
            }
            match state.judge(demand, now) {
                Ok(granted) => permits = granted,
                Err(exhausted) => {
                    self.clamp(id, demand, &state, now).await?;
                    return Ok(Some(Err((exhausted, state.seen(limits, 0, now)))));
                }
            }
        }
        Err(contended(id))
    }

    /// Brings back what a slower rate used up, or a clock that was ahead: all is used up now, and no more than that.
    async fn clamp(&self, id: &str, demand: Demand<'_>, state: &State, now: Moment) -> Result<(), Away> {
        let Some(most) = demand.limits.rate.map(|rate| Gcra::new(rate).refilled(now).0) else {
            return Ok(());
        };
        if state.arrival <= most {
            return Ok(());
        }
        let mut change = Change::default();
        let still = change.compared(ARRIVAL, "=", state.arrival);
        change.require(still);
        change.set(ARRIVAL, most);
        let _ = self.change(id, change).await?;
        Ok(())
    }

    /// Takes back what a scope counted for a request that the other scope refused.
    async fn undo(&self, id: &str, demand: Option<Demand<'_>>, rate: bool, lease: &Lease, now: Moment) {
        let Some(demand) = demand else { return };
        let place = demand.limits.concurrent_downloads.is_some();
        let cost = demand.rate().filter(|_| rate).map_or(0, |rate| Gcra::new(rate).cost(demand.permits));
        // Both at once; or the place alone, if the rate came back meanwhile and needs nothing.
        for cost in [cost, 0] {
            if cost == 0 && !place {
                return;
            }
            let mut change = Change::default();
            if cost > 0 {
                change.shift(ARRIVAL, '-', cost);
                let busy = change.compared(ARRIVAL, ">=", now.0.saturating_add(cost));
                change.require(busy);
            }
            if place {
                free(&mut change, lease);
            }
            match self.change(id, change).await {
                Ok(Err(_)) => {}
                Ok(Ok(_)) => return,
                // The place comes back with its lease, and the rate by itself.
                Err(away) => {
                    tracing::debug!(reason = away.reason, "a refused request could not be taken back");
                    return;
                }
            }
        }
    }

    /// The day they were counted on; `None` if there are not so many left.
    async fn set_aside_one(
        &self,
        id: &str,
        most: Option<u64>,
        bytes: u64,
        now: Moment,
    ) -> Result<Option<u64>, Away> {
        let Some(most) = most else { return Ok(Some(now.day())) };
        let Some(room) = most.checked_sub(bytes) else { return Ok(None) };
        let mut same_day = self.thought(id).day >= now.day();
        for _ in 0..ATTEMPTS {
            match self.change(id, counting(bytes, Some(room), same_day, now)).await? {
                Ok(state) => return Ok(Some(state.day)),
                Err(state) if same_day && state.day >= now.day() => return Ok(None),
                Err(state) => same_day = state.day >= now.day(),
            }
        }
        Err(contended(id))
    }

    async fn leave_one(
        &self,
        id: &str,
        place: Option<&Lease>,
        bytes: Option<(u64, u64)>,
        owed: u64,
        now: Moment,
    ) -> Result<(), Away> {
        if let Some((unsent, day)) = bytes.filter(|(unsent, _)| *unsent > 0) {
            let mut change = Change::default();
            change.shift(BYTES, '-', unsent);
            let there = change.compared(BYTES, ">=", unsent);
            let today = change.compared(DAY, "=", day);
            change.require(there);
            change.require(today);
            if let Some(lease) = place {
                free(&mut change, lease);
            }
            // One of the two may be gone already; then the place alone is tried below.
            if self.change(id, change).await?.is_ok() {
                return self.owe(id, owed, now).await.map_err(Away::touched);
            }
        }
        if let Some(lease) = place {
            let mut change = Change::default();
            free(&mut change, lease);
            let _ = self.change(id, change).await?;
        }
        self.owe(id, owed, now).await.map_err(Away::touched)
    }

    /// Counts bytes that were sent, whatever the limit says. What came before it cannot be said to be untouched any more.
    async fn owe(&self, id: &str, owed: u64, now: Moment) -> Result<(), Away> {
        if owed == 0 {
            return Ok(());
        }
        for same_day in [true, false, true] {
            if self.change(id, counting(owed, None, same_day, now)).await?.is_ok() {
                return Ok(());
            }
        }
        Err(contended(id))
    }

    async fn renew_one(&self, id: &str, place: bool, lease: &Lease, now: Moment) -> Result<(), Away> {
        if !place {
            return Ok(());
        }
        let attribute = lease_attribute(&lease.id);
        let mut change = Change::default();
        change.require_presence(&attribute);
        change.set(&attribute, now.0.saturating_add(micros(lease.length)));
        // The item was made to last for one lease; longer ones push its end on, and nothing pulls it back.
        let ends = expiry(now.after(lease.length));
        change.set(EXPIRES, ends);
        if self.change(id, change).await?.is_ok() {
            return Ok(());
        }
        // It was given away while this process stood still.
        let mut change = Change::default();
        change.set(&attribute, now.0.saturating_add(micros(lease.length)));
        change.set(EXPIRES, ends);
        change.add(ACTIVE, 1);
        let absent = change.absent(&attribute);
        change.require(absent);
        let _ = self.change(id, change).await?;
        Ok(())
    }

    /// Makes a change, or says what the item is that its condition does not fit.
    async fn change(&self, id: &str, change: Change) -> Result<Result<State, State>, Away> {
        let outcome = match self.table.update(id, change).await? {
            Outcome::Made(state) => Ok(state),
            Outcome::NotMade(Some(state)) => Err(state),
            // There is no item, or the table does not say: dynalite and DynamoDB itself before 2023.
            Outcome::NotMade(None) => Err(self.table.get(id).await?),
        };
        let (Ok(state) | Err(state)) = &outcome;
        let mut thoughts = self.thoughts.lock().unwrap_or_else(PoisonError::into_inner);
        if thoughts.len() >= MAX_THOUGHTS && !thoughts.contains_key(id) {
            thoughts.clear();
        }
        thoughts.insert(id.to_owned(), state.clone());
        Ok(outcome)
    }

    fn thought(&self, id: &str) -> State {
        let thoughts = self.thoughts.lock().unwrap_or_else(PoisonError::into_inner);
        thoughts.get(id).cloned().unwrap_or_default()
    }
}

/// Takes out of the rate, takes a place and looks at the day, if the item is as `state` says or better.
fn entering(demand: Demand<'_>, lease: &Lease, now: Moment, state: &State) -> Change {
    let limits = demand.limits;
    let mut change = Change::default();
    let mut ends = now;
    if let Some(most) = limits.bytes_per_day {
        let absent = change.absent(DAY);
        let earlier = change.compared(DAY, "<", now.day());
        let room = change.compared(BYTES, "<", most);
        change.require_either(&[absent, earlier, room]);
        ends = ends.max(Moment((now.day() + 1).saturating_mul(86_400_000_000)));
    }
    if let Some(most) = limits.concurrent_downloads {
        take_place(&mut change, most, lease, now, state);
        ends = ends.max(now.after(lease.length));
    }
    if let Some(rate) = demand.rate() {
        let gcra = Gcra::new(rate);
        let cost = gcra.cost(demand.permits);
        if state.arrival > now.0 {
            let busy = change.compared(ARRIVAL, ">", now.0);
            let room = (now.0.saturating_add(gcra.depth)).saturating_sub(cost);
            let room = change.compared(ARRIVAL, "<=", room);
            change.require(busy);
            change.require(room);
            change.shift(ARRIVAL, '+', cost);
        } else {
            let fresh = change.absent(ARRIVAL);
            let idle = change.compared(ARRIVAL, "<=", now.0);
            change.require_either(&[fresh, idle]);
            change.set(ARRIVAL, now.0.saturating_add(cost));
        }
        ends = ends.max(gcra.refilled(now));
    }
    change.set(EXPIRES, expiry(ends));
    change
}

/// Others were faster each time. It concerns this item alone.
fn contended(id: &str) -> Away {
    Away::local(format!("others changed `{id}` {ATTEMPTS} times in between"))
}

/// A lease of one's own in place of those that ran out, where all places seem taken.
fn take_place(change: &mut Change, most: u32, lease: &Lease, now: Moment, state: &State) {
    // Not one by one, since each that was renewed in between costs an attempt. An expression holds 4 KB.
    let mut dead = state.dead(now);
    if state.leases() < most && dead.len() < MANY_DEAD {
        dead.clear();
    }
    dead.truncate(MAX_BURIED);
    for (attribute, ends) in &dead {
        // Renewed in between, it is not dead.
        let still = change.compared(attribute, "=", *ends);
        change.require(still);
        change.remove(attribute);
    }
    let count = i64::try_from(dead.len()).unwrap_or(i64::MAX);
    let fresh = change.absent(ACTIVE);
    let room = change.compared(ACTIVE, "<", u64::from(most).saturating_add(dead.len() as u64));
    change.require_either(&[fresh, room]);
    change.add(ACTIVE, 1_i64.saturating_sub(count));
    change.set(&lease_attribute(&lease.id), now.0.saturating_add(micros(lease.length)));
}

/// Gives a place back, once.
fn free(change: &mut Change, lease: &Lease) {
    let attribute = lease_attribute(&lease.id);
    change.require_presence(&attribute);
    change.remove(&attribute);
    change.add(ACTIVE, -1);
}

/// Counts bytes: beside those of today, or as the first of the day.
fn counting(bytes: u64, room: Option<u64>, same_day: bool, now: Moment) -> Change {
    let mut change = Change::default();
    let today = now.day();
    if same_day {
        // Or the next one already, by a clock that is ahead: days do not go back.
        let same = change.compared(DAY, ">=", today);
        change.require(same);
        if let Some(room) = room {
            let room = change.compared(BYTES, "<=", room);
            change.require(room);
        }
        change.shift(BYTES, '+', bytes);
    } else {
        let absent = change.absent(DAY);
        let earlier = change.compared(DAY, "<", today);
        change.require_either(&[absent, earlier]);
        change.set(DAY, today);
        change.set(BYTES, bytes);
    }
    change
}

/// When the table may forget, in whole seconds.
fn expiry(ends: Moment) -> u64 {
    ends.after(GRACE).0 / 1_000_000
}

/// The key's item and the tenant's.
fn ids(who: &Who) -> Both<String> {
    let Who { tenant, key } = who;
    if key.len() <= MAX_PLAIN_KEY {
        return [format!("{tenant}#{key}"), tenant.clone()];
    }
    let digest = Sha256::digest(key.as_bytes());
    let short = digest.iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write as _;
        let _ = write!(text, "{byte:02x}");
        text
    });
    [format!("{tenant}##{short}"), tenant.clone()]
}

impl Store for DynamoDb {
    async fn enter(
        &self,
        who: &Who,
        demands: Both<Option<Demand<'_>>>,
        lease: &Lease,
        now: Moment,
    ) -> Result<Entry, Away> {
        let [key_id, tenant_id] = ids(who);
        let [key, tenant] = demands;
        let (by_key, by_tenant) = tokio::join!(
            self.enter_one(&key_id, key, lease, now),
            self.enter_one(&tenant_id, tenant, lease, now)
        );
        // Who got in alone goes out again.
        if let (Ok(Some(Ok(seen))), Err(_) | Ok(Some(Err(_)))) = (&by_tenant, &by_key) {
            self.undo(&tenant_id, granted(tenant, *seen), true, lease, now).await;
        }
        if let (Ok(Some(Ok(seen))), Err(_) | Ok(Some(Err(_)))) = (&by_key, &by_tenant) {
            self.undo(&key_id, granted(key, *seen), by_tenant.is_err(), lease, now).await;
        }
        Ok(entry(by_key?, by_tenant?))
    }

    async fn set_aside(
        &self,
        who: &Who,
        most: Both<Option<u64>>,
        bytes: u64,
        now: Moment,
    ) -> Result<Aside, Away> {
        let [key_id, tenant_id] = ids(who);
        let [of_key, of_tenant] = most;
        let (key, tenant) = tokio::join!(
            self.set_aside_one(&key_id, of_key, bytes, now),
            self.set_aside_one(&tenant_id, of_tenant, bytes, now)
        );
        // Who counted alone gives it back.
        if let (Ok(Some(day)), Some(_), Err(_) | Ok(None)) = (&tenant, of_tenant, &key) {
            self.leave_one(&tenant_id, None, Some((bytes, *day)), 0, now).await?;
        }
        if let (Ok(Some(day)), Some(_), Err(_) | Ok(None)) = (&key, of_key, &tenant) {
            self.leave_one(&key_id, None, Some((bytes, *day)), 0, now).await?;
        }
        Ok(match (key?, tenant?) {
            (None, _) => Aside { refused: Some(LimitScope::Key), day: now.day() },
            (_, None) => Aside { refused: Some(LimitScope::Tenant), day: now.day() },
            (Some(of_key), Some(of_tenant)) => Aside { refused: None, day: of_key.max(of_tenant) },
        })
    }

    async fn renew(&self, who: &Who, places: Both<bool>, lease: &Lease, now: Moment) -> Result<(), Away> {
        let [key_id, tenant_id] = ids(who);
        let [of_key, of_tenant] = places;
        let (key, tenant) = tokio::join!(
            self.renew_one(&key_id, of_key, lease, now),
            self.renew_one(&tenant_id, of_tenant, lease, now)
        );
        key.and(tenant)
    }

    async fn leave(&self, who: &Who, lease: &Lease, settlement: Settlement, now: Moment) -> Result<(), Away> {
        let [key_id, tenant_id] = ids(who);
        let Settlement { places: [key_place, tenant_place], counted: [by_key, by_tenant], .. } = settlement;
        let Settlement { unsent, day, owed, .. } = settlement;
        let leave = |id, place: bool, counted: bool| {
            let (bytes, owed) = if counted { (Some((unsent, day)), owed) } else { (None, 0) };
            self.leave_one(id, place.then_some(lease), bytes, owed, now)
        };
        let (key, tenant) = tokio::join!(
            leave(key_id.as_str(), key_place, by_key),
            leave(tenant_id.as_str(), tenant_place, by_tenant)
        );
        match (key, tenant) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(one), Err(other)) => Err(if one.untouched { other } else { one }),
            (Err(away), Ok(())) | (Ok(()), Err(away)) => Err(away.touched()),
        }
    }

    async fn look(
        &self,
        who: &Who,
        limits: Both<Option<&LimitSet>>,
        now: Moment,
    ) -> Result<Both<Option<Seen>>, Away> {
        let [key_id, tenant_id] = ids(who);
        let [of_key, of_tenant] = limits;
        let look = async |id: &str, limits: Option<&LimitSet>| match limits {
            None => Ok(None),
            Some(limits) => self.table.get(id).await.map(|state| Some(state.seen(limits, 0, now))),
        };
        let (key, tenant) = tokio::join!(look(&key_id, of_key), look(&tenant_id, of_tenant));
        Ok([key?, tenant?])
    }
}

/// The demand as it was met.
fn granted(demand: Option<Demand<'_>>, seen: Seen) -> Option<Demand<'_>> {
    demand.map(|demand| Demand { permits: seen.granted, ..demand })
}

/// The key's word counts first; behind its refusal the tenant was not asked.
fn entry(key: Option<Entered>, tenant: Option<Entered>) -> Entry {
    match (key, tenant) {
        (Some(Err((why, seen))), _) => {
            Entry { refused: Some((LimitScope::Key, why)), seen: [Some(seen), None] }
        }
        (key, Some(Err((why, seen)))) => {
            Entry { refused: Some((LimitScope::Tenant, why)), seen: [key.and_then(Result::ok), Some(seen)] }
        }
        (key, tenant) => {
            Entry { refused: None, seen: [key.and_then(Result::ok), tenant.and_then(Result::ok)] }
        }
    }
}
