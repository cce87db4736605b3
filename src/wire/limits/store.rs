//! What every store of counters can do, whatever it is: one process's memory, a DynamoDB table, a Redis server. All of them
//! mean the same by it, which one suite of tests checks (`tests/stores.rs`).
//!
//! A request is counted in up to two scopes, its key's first and then its tenant's. Within a scope it takes all it needs or
//! nothing. What the key refuses costs nobody anything; what the tenant refuses costs the key that request, and no place.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::gate::fault::LimitScope;
use crate::gate::policy::{LimitSet, Rate};

/// One value for the key, one for its tenant.
pub type Both<T> = [T; 2];

/// The scopes in the order in which they are asked.
pub const SCOPES: Both<LimitScope> = [LimitScope::Key, LimitScope::Tenant];

/// Microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

/// Whose counters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Who {
    /// The tenant's name.
    pub tenant: Arc<str>,
    /// Its key: a link's `kid`, or a token's issuer and `kid`.
    pub key: Arc<str>,
}

/// A download's place among those under way, under a name of its own; it is free again when it ends or is not renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Random; letters and digits.
    pub id: String,
    /// For how long it counts from now on.
    pub length: Duration,
}

/// What a request needs of one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand<'a> {
    /// The scope's limits.
    pub limits: &'a LimitSet,
    /// Requests to take out of the rate, if there is one: as many of them as there are, one at least. 0: none.
    pub permits: u32,
}

impl Demand<'_> {
    /// The rate, if something is to be taken out of it.
    pub fn rate(&self) -> Option<Rate> {
        self.limits.rate.filter(|_| self.permits > 0)
    }
}

/// A scope's counters as they are after a question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requests that were taken out of the rate.
    pub granted: u32,
    /// Requests that may come at once now.
    pub left: u32,
    /// Until a request may come; zero if `left` is not.
    pub wait: Duration,
    /// Downloads under way; a store that is shared counts those of a limited scope only.
    pub active: u32,
    /// Bytes of the day, those set aside included.
    pub used: u64,
}

/// Which limit of a scope says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhausted {
    /// The day's bytes are used up.
    Day,
    /// All places are taken.
    Places,
    /// The rate is used up.
    Rate,
}

/// The answer to [`Store::enter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Why not, and in which scope.
    pub refused: Option<(LimitScope, Exhausted)>,
    /// What the scopes that were asked look like now; behind a refusal nobody was asked.
    pub seen: Both<Option<Seen>>,
}

/// The answer to [`Store::set_aside`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aside {
    /// Which scope has not so many left; then nothing was counted.
    pub refused: Option<LimitScope>,
    /// What they were counted in: they come back only to the same.
    pub account: Account,
}

/// One day's count. A store that lost what it knew begins another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// The UTC day, by the store's time.
    pub day: u64,
    /// Which count of that day, where the store may begin one anew.
    pub era: u64,
}

/// What a download gives back and takes when it ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settlement {
    /// In which scopes a place was taken.
    pub places: Both<bool>,
    /// In which scopes bytes are counted.
    pub counted: Both<bool>,
    /// Bytes set aside and not sent.
    pub unsent: u64,
    /// What they were counted in.
    pub account: Account,
    /// Bytes sent that were not counted yet.
    pub owed: u64,
}

/// The store could not be asked, or gave no answer that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// Why, for the log.
    pub reason: String,
    /// Is it certain that nothing was counted? Otherwise it may be, and only the answer was lost.
    pub untouched: bool,
    /// Does it concern these counters alone, such as a key that is busier than its item can be? Then the store is there.
    pub local: bool,
}

impl Away {
    /// Asked, and perhaps heard.
    pub(super) fn unsure(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), untouched: false, local: false }
    }

    /// Never asked.
    pub(super) fn untouched(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), untouched: true, local: false }
    }

    /// The same, after something else was counted.
    pub(super) fn touched(self) -> Self {
        Self { untouched: false, ..self }
    }

    /// Refused for these counters alone.
    pub(super) fn local(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), untouched: false, local: true }
    }
}

/// A store of counters.
pub trait Store: Send + Sync {
    /// Counts a request, if all its scopes let it in.
    fn enter(
        &self,
        who: &Who,
        demands: Both<Option<Demand<'_>>>,
        lease: &Lease,
        now: Moment,
    ) -> impl Future<Output = Result<Entry, Away>> + Send;

    /// Counts bytes of the day in every scope that has a limit of them, or, if one has not so many left, in none.
    fn set_aside(
        &self,
        who: &Who,
        most: Both<Option<u64>>,
        bytes: u64,
        now: Moment,
    ) -> impl Future<Output = Result<Aside, Away>> + Send;

    /// Keeps a download's places, taking them anew where the store has given them away.
    fn renew(
        &self,
        who: &Who,
        places: Both<bool>,
        lease: &Lease,
        now: Moment,
    ) -> impl Future<Output = Result<(), Away>> + Send;

    /// Ends a download. Its places are given back once, however often this is asked.
    fn leave(
        &self,
        who: &Who,
        lease: &Lease,
        settlement: Settlement,
        now: Moment,
    ) -> impl Future<Output = Result<(), Away>> + Send;

    /// The counters of scopes with these limits, without counting anything.
    fn look(
        &self,
        who: &Who,
        limits: Both<Option<&LimitSet>>,
        now: Moment,
    ) -> impl Future<Output = Result<Both<Option<Seen>>, Away>> + Send;
}

impl Moment {
    /// The UTC day.
    pub fn day(self) -> u64 {
        self.0 / 86_400_000_000
    }

    /// So much later.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros(span)))
    }
}

/// Whole microseconds, the unit of every shared counter: their sums stay exact in a double, which is all Redis has.
pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
