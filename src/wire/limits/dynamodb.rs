//! Counters in a DynamoDB table, for functions that know nothing of each other. A scope is an item; a request is one
//! conditional `UpdateItem` a scope, both scopes at the same time, without reading first. The condition is written for what
//! the item is thought to be; where it is not so, DynamoDB answers with what it is, and the next attempt fits.

mod change;
mod counting;
mod item;
mod scopes;
mod table;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::gcra::Gcra;
use super::store::{Away, Demand, Exhausted, Lease, Moment, Seen, micros};
use change::Change;
use counting::{counting, entering, expiry, free};
use item::{ACTIVE, ARRIVAL, BYTES, DAY, EXPIRES, State, furthest, lease_attribute};
use table::{Outcome, Table};

/// Attempts of one change. The second fits, unless somebody else was faster; two that are slower in a row are rare.
const ATTEMPTS: usize = 5;
/// How many items' states are remembered; after that all are forgotten, which costs one more attempt each.
const MAX_THOUGHTS: usize = 10_000;

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

    /// Brings back what a slower rate used up, or a clock that was far ahead: all is used up now, and not much more than that.
    async fn clamp(&self, id: &str, demand: Demand<'_>, state: &State, now: Moment) -> Result<(), Away> {
        let Some(most) = demand.limits.rate.map(|rate| furthest(rate, now)) else {
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

/// Others were faster each time. It concerns this item alone.
fn contended(id: &str) -> Away {
    Away::local(format!("others changed `{id}` {ATTEMPTS} times in between"))
}
