//! Is the shared store there? One that failed several times in a row is left alone for a while, so that requests do not
//! wait for it one after the other; then one question finds out.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A single slow answer is no outage.
const FAILURES: u32 = 3;

/// What the last questions came to.
#[derive(Debug)]
pub(super) struct Health {
    /// How long a store that failed is left alone.
    retry: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Failures in a row.
    failures: u32,
    /// Since when it is away, and when it is asked next.
    away: Option<(Instant, Instant)>,
}

impl Health {
    pub(super) fn new(retry: Duration) -> Self {
        Self { retry, state: Mutex::default() }
    }

    /// May it be asked? While it is away, one question is let through each `retry`.
    pub(super) fn may_ask(&self, now: Instant) -> bool {
        let mut state = self.lock();
        match &mut state.away {
            None => true,
            Some((_, next)) if now >= *next => {
                *next = now + self.retry;
                true
            }
            Some(_) => false,
        }
    }

    /// It answered; since when it had been away, if it had.
    pub(super) fn answered(&self) -> Option<Instant> {
        let mut state = self.lock();
        state.failures = 0;
        state.away.take().map(|(since, _)| since)
    }

    /// It did not answer. True if that makes it away.
    pub(super) fn failed(&self, now: Instant) -> bool {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures < FAILURES || state.away.is_some() {
            return false;
        }
        state.away = Some((now, now + self.retry));
        true
    }

    /// Is it left alone?
    pub(super) fn is_away(&self) -> bool {
        self.lock().away.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_and_one_question_each_second() {
        let health = Health::new(Duration::from_secs(1));
        let begin = Instant::now();
        assert!(!health.failed(begin) && !health.failed(begin));
        assert_eq!(health.answered(), None);
        assert!(!health.failed(begin) && !health.failed(begin), "they count in a row");
        assert!(health.may_ask(begin));
        assert!(health.failed(begin));
        assert!(!health.may_ask(begin) && health.is_away());
        let later = begin + Duration::from_secs(1);
        assert!(health.may_ask(later), "one finds out");
        assert!(!health.may_ask(later), "and no other meanwhile");
        assert!(!health.failed(later), "it is no news");
        let later = later + Duration::from_secs(1);
        assert!(health.may_ask(later));
        assert_eq!(health.answered(), Some(begin));
        assert!(health.may_ask(later) && !health.is_away());
    }
}
