//! The counters of one key or tenant in one process: a GCRA rate (`governor`), downloads under way, bytes of the current
//! UTC day.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::gate::policy::Rate;
use crate::wire::clock;

use super::store::{Demand, Exhausted, Moment, Seen};

type Gcra = RateLimiter<NotKeyed, InMemoryState, Ticks, StateInformationMiddleware>;

/// Where the rate takes its time from.
#[derive(Debug, Clone)]
pub(super) enum Ticks {
    /// The process itself: no change of the wall clock shakes the rate.
    Own(Instant),
    /// Whoever asks, as with every other store. Time does not go back.
    Told(Arc<AtomicU64>),
}

/// Counters that outlive a policy reload; only a changed rate starts anew.
pub(super) struct Bucket {
    ticks: Ticks,
    rate: Mutex<Option<(Rate, Arc<Gcra>)>>,
    /// What the last request left, and when; governor itself cannot be asked without counting.
    last: Mutex<Option<(u32, Nanos)>>,
    active: AtomicU32,
    today: Mutex<Day>,
}

#[derive(Default)]
struct Day {
    number: u64,
    bytes: u64,
}

impl Clock for Ticks {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        match self {
            Self::Own(begin) => clock::instant().into_std().duration_since(*begin).into(),
            Self::Told(now) => now.load(Ordering::Acquire).into(),
        }
    }
}

impl Ticks {
    pub(super) fn tell(&self, now: Moment) {
        if let Self::Told(told) = self {
            told.fetch_max(now.0.saturating_mul(1000), Ordering::AcqRel);
        }
    }
}

impl Bucket {
    pub(super) fn new(ticks: &Ticks) -> Self {
        Self {
            ticks: ticks.clone(),
            rate: Mutex::default(),
            last: Mutex::default(),
            active: AtomicU32::new(0),
            today: Mutex::default(),
        }
    }

    /// Counts a request and takes a place, if day, places and rate let it in: all of it or nothing.
    pub(super) fn enter(&self, demand: Demand<'_>, now: Moment) -> (Seen, Option<Exhausted>) {
        let limits = demand.limits;
        if limits.bytes_per_day.is_some_and(|most| self.used(now) >= most) {
            return (self.look(limits.rate, now), Some(Exhausted::Day));
        }
        if !self.take_place(limits.concurrent_downloads.unwrap_or(u32::MAX)) {
            return (self.look(limits.rate, now), Some(Exhausted::Places));
        }
        match demand.rate().map(|rate| self.take(rate, demand.permits)) {
            Some(Err(wait)) => {
                self.give_place();
                (Seen { wait, ..self.look(limits.rate, now) }, Some(Exhausted::Rate))
            }
            Some(Ok((granted, left))) => (Seen { granted, ..self.seen(limits.rate, left, now) }, None),
            None => (self.look(limits.rate, now), None),
        }
    }

    /// Takes up to `permits` requests out of the rate: how many, and how many are left; or how long until one would pass.
    fn take(&self, rate: Rate, permits: u32) -> Result<(u32, u32), Duration> {
        let Some(limiter) = self.limiter(rate) else { return Ok((permits, rate.burst)) };
        let mut granted = 0;
        let mut left = 0;
        let mut wait = Duration::ZERO;
        let now = self.ticks.now();
        while granted < permits {
            match limiter.check() {
                Ok(snapshot) => left = snapshot.remaining_burst_capacity(),
                Err(until) => {
                    left = 0;
                    wait = until.wait_time_from(now);
                    break;
                }
            }
            granted += 1;
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((left, now));
        // It may have come back since it was refused.
        if granted == 0 { Err(wait.max(Duration::from_micros(1))) } else { Ok((granted, left)) }
    }

    /// The counters as they are.
    pub(super) fn look(&self, rate: Option<Rate>, now: Moment) -> Seen {
        self.seen(rate, rate.map_or(0, |rate| self.left(rate)), now)
    }

    fn seen(&self, rate: Option<Rate>, left: u32, now: Moment) -> Seen {
        let wait = rate.filter(|_| left == 0).map_or(Duration::ZERO, |rate| rate.period);
        Seen { granted: 0, left, wait, active: self.active.load(Ordering::Acquire), used: self.used(now) }
    }

    /// How many requests may come at once.
    fn left(&self, rate: Rate) -> u32 {
        let seen = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((left, at)) = seen else { return rate.burst };
        let elapsed = self.ticks.now().as_u64().saturating_sub(at.as_u64());
        let earned = u128::from(elapsed) / rate.period.as_nanos().max(1);
        u32::try_from(earned).map_or(rate.burst, |earned| left.saturating_add(earned).min(rate.burst))
    }

    fn limiter(&self, rate: Rate) -> Option<Arc<Gcra>> {
        let mut current = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, limiter)) = current.as_ref()
            && *of == rate
        {
            return Some(Arc::clone(limiter));
        }
        let quota = Quota::with_period(rate.period)?.allow_burst(NonZeroU32::new(rate.burst)?);
        let limiter = RateLimiter::direct_with_clock(quota, self.ticks.clone())
            .with_middleware::<StateInformationMiddleware>();
        let limiter = Arc::new(limiter);
        *current = Some((rate, Arc::clone(&limiter)));
        Some(limiter)
    }

    fn take_place(&self, most: u32) -> bool {
        let more = |active| (active < most).then(|| active + 1);
        self.active.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    pub(super) fn give_place(&self) {
        let fewer = |active: u32| active.checked_sub(1);
        let _ = self.active.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
    }

    /// Bytes of the day, those set aside included.
    pub(super) fn used(&self, now: Moment) -> u64 {
        self.on_day(now, |today| today.bytes)
    }

    /// Counts bytes of the day, if `most` allows them. What has no limit is not counted.
    pub(super) fn set_aside(&self, most: Option<u64>, bytes: u64, now: Moment) -> bool {
        let Some(most) = most else { return true };
        self.on_day(now, |today| {
            let sum = today.bytes.saturating_add(bytes);
            let fits = sum <= most;
            if fits {
                today.bytes = sum;
            }
            fits
        })
    }

    /// Gives back bytes that were set aside on `day` and takes those that are still owed. What was set aside yesterday went
    /// with yesterday's count.
    pub(super) fn settle(&self, unsent: u64, day: u64, owed: u64, now: Moment) {
        self.on_day(now, |today| {
            let back = if today.number == day { unsent } else { 0 };
            today.bytes = today.bytes.saturating_sub(back).saturating_add(owed);
        });
    }

    fn on_day<T>(&self, now: Moment, act: impl FnOnce(&mut Day) -> T) -> T {
        let mut day = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        // Who looked at the clock just before midnight may come after one who looked just after it: the new day's count stays. A clock
        // that is set back by more is believed.
        if day.number != now.day() && day.number != now.day() + 1 {
            *day = Day { number: now.day(), bytes: 0 };
        }
        act(&mut day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_late_over_midnight_is_counted_in_the_new_day() {
        let bucket = Bucket::new(&Ticks::Told(Arc::default()));
        let noon = |day: u64| Moment((day * 86_400 + 43_200) * 1_000_000);
        assert!(bucket.set_aside(Some(100), 60, noon(8)));
        assert_eq!(bucket.used(noon(7)), 60);
        assert!(!bucket.set_aside(Some(100), 60, noon(7)));
        bucket.settle(10, 7, 0, noon(7));
        assert_eq!(bucket.used(noon(8)), 60, "what was set aside yesterday went with yesterday's count");
        bucket.settle(10, 8, 0, noon(7));
        assert_eq!(bucket.used(noon(8)), 50);
        // A clock that was far ahead for a while.
        assert_eq!(bucket.used(noon(6)), 0);
        assert!(bucket.set_aside(Some(100), 100, noon(6)));
    }
}
