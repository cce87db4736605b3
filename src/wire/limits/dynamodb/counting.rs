//! What counting writes, and under which condition: each change says what the item must be for it.

use std::time::Duration;

use crate::wire::limits::gcra::Gcra;
use crate::wire::limits::store::{Demand, Lease, Moment, micros};

use super::change::Change;
use super::item::{ACTIVE, ARRIVAL, BYTES, DAY, EXPIRES, State, lease_attribute};

/// The table forgets an item so long after it has nothing to say any more.
const GRACE: Duration = Duration::from_secs(3600);
/// How many leases that ran out are removed at once.
const MAX_BURIED: usize = 20;
/// How many of them are removed although places are free: the item is paid by its size.
const MANY_DEAD: usize = 8;

/// Takes out of the rate, takes a place and looks at the day, if the item is as `state` says or better.
pub(super) fn entering(demand: Demand<'_>, lease: &Lease, now: Moment, state: &State) -> Change {
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
pub(super) fn free(change: &mut Change, lease: &Lease) {
    let attribute = lease_attribute(&lease.id);
    change.require_presence(&attribute);
    change.remove(&attribute);
    change.add(ACTIVE, -1);
}

/// Counts bytes: beside those of today, or as the first of the day.
pub(super) fn counting(bytes: u64, room: Option<u64>, same_day: bool, now: Moment) -> Change {
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
pub(super) fn expiry(ends: Moment) -> u64 {
    ends.after(GRACE).0 / 1_000_000
}
