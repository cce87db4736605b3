//! The generic cell rate algorithm in whole microseconds, for stores that keep one number a scope: the moment at which the
//! rate would be as if untouched (the theoretical arrival time). `governor` is the same in nanoseconds.

use std::time::Duration;

use crate::gate::policy::Rate;

use super::store::Moment;

/// A rate in whole microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gcra {
    /// What one request costs. At least one microsecond, so a rate above a million a second is not told apart.
    pub(super) period: u64,
    /// What a whole burst costs.
    pub(super) depth: u64,
}

impl Gcra {
    pub(super) fn new(rate: Rate) -> Self {
        let nanos = u64::try_from(rate.period.as_nanos()).unwrap_or(u64::MAX);
        let period = (nanos.saturating_add(500) / 1000).max(1);
        Self { period, depth: period.saturating_mul(rate.burst.into()) }
    }

    /// How many requests may come at once, if the rate is back at `arrival`.
    pub(super) fn left(self, arrival: u64, now: Moment) -> u32 {
        let room = now.0.saturating_add(self.depth).saturating_sub(arrival.max(now.0));
        u32::try_from(room / self.period).unwrap_or(u32::MAX)
    }

    /// Until one request may come.
    pub(super) fn wait(self, arrival: u64, now: Moment) -> Duration {
        let latest = arrival.max(now.0).saturating_add(self.period);
        Duration::from_micros(latest.saturating_sub(now.0.saturating_add(self.depth)))
    }

    /// What so many requests cost.
    pub(super) fn cost(self, permits: u32) -> u64 {
        self.period.saturating_mul(permits.into())
    }

    /// When a rate that nobody uses is back.
    pub(super) fn refilled(self, now: Moment) -> Moment {
        now.after(Duration::from_micros(self.depth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Moment = Moment(20_000 * 86_400_000_000 + 43_200_000_000);

    fn rate(period_ms: u64, burst: u32) -> Gcra {
        Gcra::new(Rate { period: Duration::from_millis(period_ms), burst })
    }

    #[test]
    fn a_burst_and_what_comes_back() {
        let gcra = rate(100, 3);
        assert_eq!(gcra.left(0, NOON), 3);
        let empty = NOON.0 + gcra.cost(3);
        assert_eq!((gcra.left(empty, NOON), gcra.wait(empty, NOON)), (0, Duration::from_millis(100)));
        let later = Moment(NOON.0 + 99_999);
        assert_eq!((gcra.left(empty, later), gcra.wait(empty, later)), (0, Duration::from_micros(1)));
        let later = Moment(NOON.0 + 100_000);
        assert_eq!((gcra.left(empty, later), gcra.wait(empty, later)), (1, Duration::ZERO));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let slow = Gcra::new(Rate { period: Duration::from_secs(1000), burst: u32::MAX });
        assert_eq!(slow.left(0, NOON), u32::MAX);
        let fast = Gcra::new(Rate { period: Duration::from_nanos(1), burst: u32::MAX });
        assert_eq!((fast.period, fast.left(u64::MAX, NOON)), (1, 0));
    }
}
