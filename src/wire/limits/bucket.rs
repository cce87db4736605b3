//! The counters of one key or tenant: a GCRA rate (`governor`), downloads under way, bytes of the current UTC day.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::gate::fault::{LimitScope, Throttled};
use crate::gate::id::UnixTime;
use crate::gate::policy::{LimitSet, Rate};

const SECONDS_PER_DAY: u64 = 86_400;

type Gcra = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// Counters that outlive a policy reload; only a changed rate starts anew.
#[derive(Default)]
pub(super) struct Bucket {
    clock: DefaultClock,
    rate: Mutex<Option<(Rate, Arc<Gcra>)>>,
    /// What the last request left, and when; governor itself cannot be asked without counting.
    seen: Mutex<Option<(u32, Instant)>>,
    active: AtomicU32,
    today: Mutex<Day>,
}

#[derive(Default)]
struct Day {
    number: u64,
    bytes: u64,
}

impl Bucket {
    /// Takes one request out of the rate: how many are left, or the whole seconds until one would pass.
    pub(super) fn take(&self, rate: Rate) -> Result<u32, u64> {
        let Some(limiter) = self.limiter(rate) else { return Ok(rate.burst) };
        let verdict = match limiter.check() {
            Ok(snapshot) => Ok(StateSnapshot::remaining_burst_capacity(&snapshot)),
            Err(until) => {
                let wait = until.wait_time_from(self.clock.now());
                Err((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1))
            }
        };
        let left = verdict.unwrap_or(0);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((left, Instant::now()));
        verdict
    }

    /// How many requests are left now, without taking one.
    pub(super) fn left(&self, rate: Rate) -> u32 {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((left, at)) = seen else { return rate.burst };
        let earned = at.elapsed().as_nanos() / rate.period.as_nanos().max(1);
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
        let limiter = RateLimiter::direct_with_clock(quota, self.clock.clone())
            .with_middleware::<StateInformationMiddleware>();
        let limiter = Arc::new(limiter);
        *current = Some((rate, Arc::clone(&limiter)));
        Some(limiter)
    }

    /// Is anything left of the day's bytes?
    pub(super) fn check_day(
        &self,
        limits: &LimitSet,
        scope: LimitScope,
        now: UnixTime,
    ) -> Result<(), Throttled> {
        match limits.bytes_per_day {
            Some(most) if self.used(now) >= most => Err(quota_exceeded(scope, now)),
            _ => Ok(()),
        }
    }

    /// Takes a place among the downloads under way.
    pub(super) fn enter(this: &Arc<Self>, limits: &LimitSet, scope: LimitScope) -> Result<Slot, Throttled> {
        let most = limits.concurrent_downloads.unwrap_or(u32::MAX);
        this.active
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |active| (active < most).then(|| active + 1))
            .map_err(|_| Throttled::Concurrency { scope })?;
        Ok(Slot { bucket: Arc::clone(this), scope, reserved: 0, reserved_on: 0 })
    }

    /// Downloads under way.
    pub(super) fn active(&self) -> u32 {
        self.active.load(Ordering::Acquire)
    }

    /// Bytes of the day, those set aside included.
    pub(super) fn used(&self, now: UnixTime) -> u64 {
        self.on_day(now, |day| day.bytes)
    }

    fn on_day<T>(&self, now: UnixTime, act: impl FnOnce(&mut Day) -> T) -> T {
        let mut day = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        let number = now.0 / SECONDS_PER_DAY;
        if day.number != number {
            *day = Day { number, bytes: 0 };
        }
        act(&mut day)
    }
}

fn quota_exceeded(scope: LimitScope, now: UnixTime) -> Throttled {
    Throttled::Quota { scope, retry_after: SECONDS_PER_DAY - now.0 % SECONDS_PER_DAY }
}

/// A place among the downloads under way, and the bytes set aside for it. Dropping gives both back.
pub(super) struct Slot {
    bucket: Arc<Bucket>,
    scope: LimitScope,
    reserved: u64,
    reserved_on: u64,
}

impl Slot {
    /// Sets `length` bytes of the day aside, so that downloads side by side cannot overdraw it together.
    pub(super) fn reserve(&mut self, limits: &LimitSet, length: u64, now: UnixTime) -> Result<(), Throttled> {
        let Some(most) = limits.bytes_per_day else { return Ok(()) };
        let fits = self.bucket.on_day(now, |day| {
            let fits = day.bytes.checked_add(length).is_some_and(|sum| sum <= most);
            if fits {
                day.bytes += length;
            }
            fits
        });
        if !fits {
            return Err(quota_exceeded(self.scope, now));
        }
        (self.reserved, self.reserved_on) = (length, now.0 / SECONDS_PER_DAY);
        Ok(())
    }

    /// Counts sent bytes, first against what was set aside. False when the day's bytes are used up.
    pub(super) fn spend(&mut self, limits: &LimitSet, bytes: u64, now: UnixTime) -> bool {
        let covered = self.reserved.min(bytes);
        self.reserved -= covered;
        let rest = bytes - covered;
        if rest == 0 {
            return true;
        }
        let sum = self.bucket.on_day(now, |day| {
            day.bytes = day.bytes.saturating_add(rest);
            day.bytes
        });
        limits.bytes_per_day.is_none_or(|most| sum <= most)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.bucket.active.fetch_sub(1, Ordering::AcqRel);
        if self.reserved > 0 {
            let mut day = self.bucket.today.lock().unwrap_or_else(PoisonError::into_inner);
            // A reservation of yesterday went with yesterday's count.
            if day.number == self.reserved_on {
                day.bytes = day.bytes.saturating_sub(self.reserved);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOON: UnixTime = UnixTime(20_000 * SECONDS_PER_DAY + 43_200);

    fn limits(concurrent: u32, bytes: u64) -> LimitSet {
        LimitSet { rate: None, concurrent_downloads: Some(concurrent), bytes_per_day: Some(bytes) }
    }

    #[test]
    fn a_burst_passes_and_no_more() {
        let bucket = Bucket::default();
        let rate = Rate { period: Duration::from_secs(3600), burst: 3 };
        assert_eq!([bucket.take(rate), bucket.take(rate), bucket.take(rate)], [Ok(2), Ok(1), Ok(0)]);
        let wait = bucket.take(rate).unwrap_err();
        assert!((3590..=3600).contains(&wait), "{wait}");
        assert_eq!(bucket.left(rate), 0);
        let changed = Rate { burst: 1, ..rate };
        assert_eq!(bucket.take(changed), Ok(0), "a changed rate starts anew");
    }

    #[test]
    fn slots_come_back() {
        let bucket = Arc::new(Bucket::default());
        let limits = limits(2, 100);
        let first = Bucket::enter(&bucket, &limits, LimitScope::Key).unwrap();
        let second = Bucket::enter(&bucket, &limits, LimitScope::Key).unwrap();
        assert!(Bucket::enter(&bucket, &limits, LimitScope::Key).is_err());
        drop(first);
        assert!(Bucket::enter(&bucket, &limits, LimitScope::Key).is_ok());
        drop(second);
        assert_eq!(bucket.active.load(Ordering::Acquire), 0);
    }

    #[test]
    fn reserved_bytes_are_not_given_twice_and_come_back_unsent() {
        let bucket = Arc::new(Bucket::default());
        let limits = limits(9, 100);
        let mut first = Bucket::enter(&bucket, &limits, LimitScope::Key).unwrap();
        let mut second = Bucket::enter(&bucket, &limits, LimitScope::Key).unwrap();
        first.reserve(&limits, 60, NOON).unwrap();
        assert!(second.reserve(&limits, 41, NOON).is_err());
        second.reserve(&limits, 40, NOON).unwrap();
        assert!(first.spend(&limits, 20, NOON));
        drop(first); // 40 of its 60 bytes were never sent
        assert_eq!(bucket.used(NOON), 60);
        drop(second);
        assert_eq!(bucket.used(NOON), 20);
        assert!(bucket.check_day(&limits, LimitScope::Key, NOON).is_ok());
        let mut third = Bucket::enter(&bucket, &limits, LimitScope::Key).unwrap();
        assert!(third.spend(&limits, 80, NOON));
        assert!(!third.spend(&limits, 1, NOON), "a body of unknown length stops at the limit");
        assert_eq!(
            bucket.check_day(&limits, LimitScope::Key, NOON),
            Err(Throttled::Quota { scope: LimitScope::Key, retry_after: 43_200 })
        );
        assert!(bucket.check_day(&limits, LimitScope::Key, UnixTime(NOON.0 + 43_200)).is_ok(), "a new day");
    }
}
