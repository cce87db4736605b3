//! Live figures of one process: for each tenant and key, how requests ended and how many bytes were sent. Kept only where
//! somebody looks at them, which is the console; the log has the same in full.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// The most pairs of tenant and key that are told apart; what comes after them is counted in one place.
pub const MAX_PAIRS: usize = 10_000;

/// How many reasons are kept.
const MAX_REASONS: usize = 256;

/// The figures of one process.
#[derive(Debug, Default)]
pub struct Figures {
    pairs: Mutex<BTreeMap<(String, String), Arc<Tally>>>,
    /// Requests whose credential was not proven: no tenant answers for them.
    unproven: Arc<Tally>,
    /// Pairs beyond [`MAX_PAIRS`].
    rest: Arc<Tally>,
    /// Why the last requests were refused or broken off, by request id: what the log says and the answer does not.
    reasons: Mutex<VecDeque<(String, String)>>,
}

/// What is counted for one pair of tenant and key.
#[derive(Debug, Default)]
pub struct Tally {
    ends: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    bytes: AtomicU64,
}

/// How often requests ended in one way.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct End {
    /// `whole`, `answered`, `refused`, `aborted` or `unanswered`, as in the log.
    pub outcome: &'static str,
    /// The code of a refusal or of a broken body; empty otherwise.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub code: &'static str,
    /// Requests since the start of the process.
    pub count: u64,
}

impl Figures {
    /// Where requests of a proven credential are counted.
    pub fn of(&self, tenant: &str, key: &str) -> Arc<Tally> {
        let mut pairs = lock(&self.pairs);
        let pair = (tenant.to_owned(), key.to_owned());
        if pairs.len() >= MAX_PAIRS && !pairs.contains_key(&pair) {
            return Arc::clone(&self.rest);
        }
        Arc::clone(pairs.entry(pair).or_default())
    }

    /// Where requests are counted that proved nothing.
    pub fn unproven(&self) -> Arc<Tally> {
        Arc::clone(&self.unproven)
    }

    /// Where pairs are counted that came after the first [`MAX_PAIRS`].
    pub fn rest(&self) -> &Tally {
        &self.rest
    }

    /// Keeps the reason of a request for a while.
    pub fn keep_reason(&self, request_id: &str, reason: &str) {
        let mut reasons = lock(&self.reasons);
        if reasons.len() >= MAX_REASONS {
            reasons.pop_front();
        }
        reasons.push_back((request_id.to_owned(), reason.to_owned()));
    }

    /// Why a request was refused or broken off, if it was one of the last.
    pub fn reason(&self, request_id: &str) -> Option<String> {
        lock(&self.reasons).iter().rev().find(|(id, _)| id == request_id).map(|(_, reason)| reason.clone())
    }

    /// All pairs that had a request, by tenant and key.
    pub fn pairs(&self) -> Vec<(String, String, Arc<Tally>)> {
        let pairs = lock(&self.pairs);
        pairs.iter().map(|((tenant, key), tally)| (tenant.clone(), key.clone(), Arc::clone(tally))).collect()
    }
}

impl Tally {
    /// Counts the end of one request.
    pub fn ended(&self, outcome: &'static str, code: &'static str) {
        *lock(&self.ends).entry((outcome, code)).or_default() += 1;
    }

    /// Counts bytes of a body as they are handed to the client's connection.
    pub fn sent(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Body bytes since the start of the process.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How requests ended, since the start of the process.
    pub fn ends(&self) -> Vec<End> {
        lock(&self.ends).iter().map(|(&(outcome, code), &count)| End { outcome, code, count }).collect()
    }
}

/// Whoever panicked with the lock held left whole numbers behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_is_counted_by_itself() {
        let figures = Figures::default();
        figures.of("acme", "a").ended("whole", "");
        figures.of("acme", "a").ended("whole", "");
        figures.of("acme", "b").ended("refused", "rate_limited");
        figures.of("acme", "a").sent(7);
        let pairs = figures.pairs();
        assert_eq!(pairs.len(), 2);
        assert_eq!(pairs[0].2.ends(), [End { outcome: "whole", code: "", count: 2 }]);
        assert_eq!((pairs[0].2.bytes(), pairs[1].2.bytes()), (7, 0));
        assert_eq!(pairs[1].2.ends(), [End { outcome: "refused", code: "rate_limited", count: 1 }]);
    }

    #[test]
    fn the_last_reasons_are_kept() {
        let figures = Figures::default();
        for request in 0..=MAX_REASONS {
            figures.keep_reason(&request.to_string(), "because");
        }
        assert_eq!((figures.reason("0"), figures.reason("1").as_deref()), (None, Some("because")));
    }

    #[test]
    fn pairs_are_bounded() {
        let figures = Figures::default();
        for key in 0..MAX_PAIRS + 5 {
            figures.of("t", &key.to_string()).ended("whole", "");
        }
        assert_eq!(figures.pairs().len(), MAX_PAIRS);
        assert_eq!(figures.rest().ends(), [End { outcome: "whole", code: "", count: 5 }]);
        figures.of("t", "0").ended("whole", "");
        assert_eq!(figures.of("t", "0").ends(), [End { outcome: "whole", code: "", count: 2 }]);
    }
}
