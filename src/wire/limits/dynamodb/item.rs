//! What the table holds of one scope, and whether that lets a request in. The condition of an `UpdateItem` says the same.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;

use crate::gate::policy::{LimitSet, Rate};
use crate::wire::limits::gcra::Gcra;
use crate::wire::limits::store::{Demand, Exhausted, Moment, Seen};

/// When the rate is as if untouched, in microseconds since 1970.
pub(super) const ARRIVAL: &str = "tat";
/// How many leases there are.
pub(super) const ACTIVE: &str = "active";
/// The UTC day that `bytes` belongs to.
pub(super) const DAY: &str = "day";
pub(super) const BYTES: &str = "bytes";
/// When the table may forget the item, in seconds since 1970.
pub(super) const EXPIRES: &str = "expires";
/// How far others may be ahead: their clocks, and their questions, which were not as long under way as this one. Whoever is
/// behind must not take back what they counted.
const SLACK: Duration = Duration::from_secs(10);
/// A lease is an attribute of its own: this and its id; its value is its end.
const LEASE: &str = "l-";

/// An item as DynamoDB writes it.
pub(super) type Attributes = HashMap<String, Attribute>;

/// An attribute that is a number; what else there is, is not ours.
#[derive(Debug, Deserialize)]
pub(super) struct Attribute {
    #[serde(rename = "N")]
    number: Option<String>,
}

/// One scope's counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) arrival: u64,
    pub(super) day: u64,
    bytes: u64,
    leases: Vec<(String, u64)>,
}

/// How far a rate can have been used up by others, as far as this clock can tell.
pub(super) fn furthest(rate: Rate, now: Moment) -> u64 {
    Gcra::new(rate).refilled(now.after(SLACK)).0
}

pub(super) fn lease_attribute(id: &str) -> String {
    format!("{LEASE}{id}")
}

impl State {
    pub(super) fn read(item: &Attributes) -> Self {
        let number = |name: &str| item.get(name).and_then(Attribute::number).unwrap_or(0);
        let lease = |(name, value): (&String, &Attribute)| {
            name.starts_with(LEASE).then(|| Some((name.clone(), value.number()?)))?
        };
        Self {
            arrival: number(ARRIVAL),
            day: number(DAY),
            bytes: number(BYTES),
            leases: item.iter().filter_map(lease).collect(),
        }
    }

    /// Leases whose holder is gone.
    pub(super) fn dead(&self, now: Moment) -> Vec<(String, u64)> {
        self.leases.iter().filter(|(_, ends)| *ends <= now.0).cloned().collect()
    }

    /// Leases, those that ran out among them.
    pub(super) fn leases(&self) -> u32 {
        u32::try_from(self.leases.len()).unwrap_or(u32::MAX)
    }

    fn alive(&self, now: Moment) -> u32 {
        u32::try_from(self.leases.iter().filter(|(_, ends)| *ends > now.0).count()).unwrap_or(u32::MAX)
    }

    fn used(&self, now: Moment) -> u64 {
        // A later day is today's by a clock that is ahead.
        if self.day >= now.day() { self.bytes } else { 0 }
    }

    /// How many requests may be taken out of the rate, up to what is asked for; or what says no.
    pub(super) fn judge(&self, demand: Demand<'_>, now: Moment) -> Result<u32, Exhausted> {
        let limits = demand.limits;
        if limits.bytes_per_day.is_some_and(|most| self.used(now) >= most) {
            return Err(Exhausted::Day);
        }
        if limits.concurrent_downloads.is_some_and(|most| self.alive(now) >= most) {
            return Err(Exhausted::Places);
        }
        let Some(rate) = demand.rate() else { return Ok(0) };
        match Gcra::new(rate).left(self.arrival, now) {
            0 => Err(Exhausted::Rate),
            left => Ok(left.min(demand.permits)),
        }
    }

    pub(super) fn seen(&self, limits: &LimitSet, granted: u32, now: Moment) -> Seen {
        let gcra = limits.rate.map(Gcra::new);
        Seen {
            granted,
            left: gcra.map_or(0, |gcra| gcra.left(self.arrival, now)),
            wait: gcra.map_or(Duration::ZERO, |gcra| {
                gcra.wait(self.arrival.min(gcra.refilled(now.after(SLACK)).0), now)
            }),
            active: self.alive(now),
            used: self.used(now),
        }
    }
}

impl Attribute {
    fn number(&self) -> Option<u64> {
        self.number.as_deref()?.parse().ok()
    }
}
