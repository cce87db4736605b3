//! What a process remembers of a shared store's answers, so that it need not ask again: a rate that is used up will not be
//! back sooner than the store said, and requests that were paid together can come one by one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::gate::policy::LimitSet;

use super::store::{Both, Exhausted, Moment, Seen, Who};

/// How long requests that were paid together may be used.
const BATCH_AGE: Duration = Duration::from_secs(1);
/// How long a refusal, or what is left, is repeated without asking: somebody may have emptied the store meanwhile.
const ANSWER_AGE: Duration = Duration::from_secs(1);
/// The same where places are taken, or the day's bytes: any moment one may be given back.
const SHORT_AGE: Duration = Duration::from_millis(100);
/// How many tenants, and keys of one tenant, are remembered; after that all are forgotten, which costs a question each.
const MAX_NOTES: usize = 10_000;

/// Notes on scopes.
#[derive(Debug)]
pub(super) struct Memo {
    batch: u32,
    tenants: Mutex<HashMap<Arc<str>, Notes>>,
}

#[derive(Debug, Default)]
struct Notes {
    tenant: Option<Note>,
    keys: HashMap<Arc<str>, Note>,
}

/// What is noted of a scope, for these limits: others start anew.
#[derive(Debug, Clone)]
struct Note {
    limits: LimitSet,
    /// Requests that are paid and not used, until when.
    paid: u32,
    paid_until: Moment,
    /// How many to pay together next.
    size: u32,
    /// The store said no: why, until when that is repeated, and when a request would pass.
    refused: Option<(Exhausted, Moment, Moment)>,
    /// What the store last said is left, and when.
    left: u32,
    at: Moment,
}

/// What is known of a scope before the store is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// The store said no a moment ago.
    Refused(Exhausted, Seen),
    /// The request is paid already, and nothing else is limited.
    Paid(Seen),
    /// The store must be asked, for so many requests.
    Nothing(u32),
}

impl Memo {
    /// Pays up to `batch` requests together; 1 pays each by itself, which is exact.
    pub(super) fn new(batch: u32) -> Self {
        Self { batch: batch.max(1), tenants: Mutex::default() }
    }

    /// What is known of the key, and of the tenant. A request that is paid is used up by asking, unless one of the two
    /// refuses.
    pub(super) fn recall(&self, who: &Who, limits: Both<Option<&LimitSet>>, now: Moment) -> Both<Known> {
        let [key, tenant] = limits;
        let mut tenants = self.lock();
        let Some(notes) = tenants.get_mut(&who.tenant) else { return [Known::Nothing(1); 2] };
        let mut of_key = notes.keys.get_mut(&who.key).filter(|note| note.fits(key));
        let mut of_tenant = notes.tenant.as_mut().filter(|note| note.fits(tenant));
        let refused = [&of_key, &of_tenant].map(|note| note.as_ref().and_then(|note| note.refusal(now)));
        if let [Some((why, seen)), _] = refused {
            return [Known::Refused(why, seen), Known::Nothing(1)];
        }
        if let [None, Some((why, seen))] = refused {
            return [Known::Nothing(1), Known::Refused(why, seen)];
        }
        let use_up = |note: &mut Option<&mut Note>, limits: Option<&LimitSet>| {
            note.as_mut()
                .zip(limits)
                .map_or(Known::Nothing(1), |(note, limits)| note.take(limits, self.batch, now))
        };
        [use_up(&mut of_key, key), use_up(&mut of_tenant, tenant)]
    }

    /// What was left of the rates a moment ago, if that is known of every rate there is.
    pub(super) fn left(
        &self,
        who: &Who,
        limits: Both<Option<&LimitSet>>,
        now: Moment,
    ) -> Option<Both<Option<Seen>>> {
        let tenants = self.lock();
        let notes = tenants.get(&who.tenant)?;
        let mut left = [None, None];
        for ((left, limits), note) in
            left.iter_mut().zip(limits).zip([notes.keys.get(&who.key), notes.tenant.as_ref()])
        {
            if limits.is_some_and(|limits| limits.rate.is_some()) {
                let note = note.filter(|note| note.fits(limits) && now < note.at.after(ANSWER_AGE))?;
                *left = Some(Seen { left: note.left, ..Seen::default() });
            }
        }
        Some(left)
    }

    /// Notes what the store answered.
    pub(super) fn note(
        &self,
        who: &Who,
        limits: Both<Option<&LimitSet>>,
        seen: Both<Option<Seen>>,
        refused: Both<Option<Exhausted>>,
        now: Moment,
    ) {
        let [of_key, of_tenant] = limits;
        let [key, tenant] = seen;
        let [key_refused, tenant_refused] = refused;
        let mut tenants = self.lock();
        if tenants.len() >= MAX_NOTES && !tenants.contains_key(&who.tenant) {
            tenants.clear();
        }
        let notes = tenants.entry(who.tenant.clone()).or_default();
        if let (Some(limits), Some(seen)) = (of_tenant, tenant) {
            let known = notes.tenant.take().filter(|note| note.fits(of_tenant));
            let note = known.unwrap_or_else(|| Note::new(limits));
            notes.tenant = Some(note.updated(seen, tenant_refused, self.batch, now));
        }
        if let (Some(limits), Some(seen)) = (of_key, key) {
            if notes.keys.len() >= MAX_NOTES && !notes.keys.contains_key(&who.key) {
                notes.keys.clear();
            }
            let known = notes.keys.remove(&who.key).filter(|note| note.fits(of_key));
            let note = known.unwrap_or_else(|| Note::new(limits));
            notes.keys.insert(who.key.clone(), note.updated(seen, key_refused, self.batch, now));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Notes>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Note {
    fn new(limits: &LimitSet) -> Self {
        Self {
            limits: limits.clone(),
            paid: 0,
            paid_until: Moment(0),
            size: 1,
            refused: None,
            left: 0,
            at: Moment(0),
        }
    }

    fn fits(&self, limits: Option<&LimitSet>) -> bool {
        limits.is_some_and(|limits| *limits == self.limits)
    }

    fn refusal(&self, now: Moment) -> Option<(Exhausted, Seen)> {
        let (why, until, passes) = self.refused?;
        let wait = Duration::from_micros(passes.0.saturating_sub(now.0));
        let left = if why == Exhausted::Rate { 0 } else { self.left };
        (now < until).then_some((why, Seen { left, wait, ..Seen::default() }))
    }

    /// Uses a request that is paid. Only where the rate is all there is: places and bytes need the store each time.
    fn take(&mut self, limits: &LimitSet, batch: u32, now: Moment) -> Known {
        let Some(rate) = limits.rate else { return Known::Nothing(1) };
        if limits.concurrent_downloads.is_some() || limits.bytes_per_day.is_some() {
            return Known::Nothing(1);
        }
        let fresh = now < self.paid_until;
        if fresh && self.paid > 0 {
            self.paid -= 1;
            return Known::Paid(Seen { left: self.left.saturating_add(self.paid), ..Seen::default() });
        }
        // Whoever used up the last batch in time gets twice as much; whoever did not, begins again with one.
        self.size = if fresh { self.size.saturating_mul(2).min(batch).min(rate.burst) } else { 1 };
        self.paid = 0;
        Known::Nothing(self.size)
    }

    fn updated(mut self, seen: Seen, refused: Option<Exhausted>, batch: u32, now: Moment) -> Self {
        (self.left, self.at) = (seen.left, now);
        self.refused = refused.map(|why| match why {
            Exhausted::Rate => {
                let passes = now.after(seen.wait);
                (why, passes.min(now.after(ANSWER_AGE)), passes)
            }
            Exhausted::Places | Exhausted::Day => (why, now.after(SHORT_AGE), now),
        });
        if seen.granted > 0 {
            // Two that asked at once keep no more than one batch; what is beyond is lost.
            self.paid = self.paid.saturating_add(seen.granted - 1).min(batch - 1);
            self.paid_until = now.after(BATCH_AGE);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::policy::Rate;

    const NOW: Moment = Moment(1_000_000_000);

    fn who(key: &str) -> Who {
        Who { tenant: "acme".into(), key: key.into() }
    }

    fn limits(burst: u32) -> LimitSet {
        let rate = Rate { period: Duration::from_millis(100), burst };
        LimitSet { rate: Some(rate), ..LimitSet::default() }
    }

    fn granted(granted: u32) -> Both<Option<Seen>> {
        [Some(Seen { granted, left: 7, ..Seen::default() }), None]
    }

    #[test]
    fn batches_grow_with_use_and_never_past_the_limit() {
        let (memo, limits) = (Memo::new(5), limits(100));
        let asked = |now| memo.recall(&who("a"), [Some(&limits), None], now)[0];
        let answer =
            |number, now| memo.note(&who("a"), [Some(&limits), None], granted(number), [None; 2], now);
        let mut sizes = Vec::new();
        for _ in 0..40 {
            if let Known::Nothing(size) = asked(NOW) {
                sizes.push(size);
                answer(size, NOW);
            }
        }
        assert_eq!(sizes, [1, 2, 4, 5, 5, 5, 5, 5, 5, 5]);
        let later = NOW.after(BATCH_AGE);
        assert_eq!(asked(later), Known::Nothing(1), "old ones are void, and it begins again");
        answer(1, later);
        assert_eq!(memo.recall(&who("b"), [Some(&limits), None], later)[0], Known::Nothing(1));
    }

    #[test]
    fn what_is_paid_is_said_to_be_left() {
        let (memo, limits) = (Memo::new(5), limits(100));
        memo.note(&who("a"), [Some(&limits), None], granted(3), [None; 2], NOW);
        let left = |seen: Known| if let Known::Paid(seen) = seen { seen.left } else { 0 };
        assert_eq!(left(memo.recall(&who("a"), [Some(&limits), None], NOW)[0]), 8);
        assert_eq!(left(memo.recall(&who("a"), [Some(&limits), None], NOW)[0]), 7);
        let busier = LimitSet { concurrent_downloads: Some(3), ..limits.clone() };
        memo.note(&who("a"), [Some(&busier), None], granted(3), [None; 2], NOW);
        assert_eq!(memo.recall(&who("a"), [Some(&busier), None], NOW)[0], Known::Nothing(1));
    }

    #[test]
    fn a_refusal_is_repeated_until_a_request_would_pass_and_for_a_second_at_most() {
        let (memo, limits) = (Memo::new(1), limits(100));
        let refuse = |wait: Duration| {
            let seen = [Some(Seen { wait, ..Seen::default() }), None];
            memo.note(&who("a"), [Some(&limits), None], seen, [Some(Exhausted::Rate), None], NOW);
        };
        let known = |after: u64| {
            memo.recall(&who("a"), [Some(&limits), None], NOW.after(Duration::from_millis(after)))[0]
        };
        refuse(Duration::from_millis(80));
        let wait = Duration::from_millis(30);
        assert_eq!(known(50), Known::Refused(Exhausted::Rate, Seen { wait, ..Seen::default() }));
        assert_eq!(known(80), Known::Nothing(1));
        refuse(Duration::from_secs(500));
        assert!(matches!(known(999), Known::Refused(..)));
        assert_eq!(known(1000), Known::Nothing(1));
        let raised = LimitSet { rate: Some(Rate { burst: 101, ..limits.rate.unwrap() }), ..limits.clone() };
        assert_eq!(memo.recall(&who("a"), [Some(&raised), None], NOW)[0], Known::Nothing(1), "another rate");
    }

    #[test]
    fn taken_places_are_known_for_a_moment() {
        let (memo, limits) =
            (Memo::new(1), LimitSet { concurrent_downloads: Some(2), ..LimitSet::default() });
        let asked = |now| memo.recall(&who("a"), [Some(&limits), None], now)[0];
        memo.note(&who("a"), [Some(&limits), None], granted(0), [Some(Exhausted::Places), None], NOW);
        assert!(matches!(asked(NOW), Known::Refused(Exhausted::Places, _)));
        assert_eq!(asked(NOW.after(SHORT_AGE)), Known::Nothing(1));
        memo.note(&who("a"), [Some(&limits), None], granted(0), [None; 2], NOW);
        assert_eq!(asked(NOW), Known::Nothing(1), "somebody got one");
    }

    #[test]
    fn what_is_left_is_known_for_a_second() {
        let (memo, limits) = (Memo::new(1), limits(100));
        let both = [Some(&limits), Some(&limits)];
        assert_eq!(memo.left(&who("a"), both, NOW), None);
        memo.note(&who("a"), [Some(&limits), None], granted(1), [None; 2], NOW);
        assert_eq!(memo.left(&who("a"), both, NOW), None, "of the tenant nothing is known");
        let seen = |now| memo.left(&who("a"), [Some(&limits), None], now).map(|seen| seen[0].unwrap().left);
        assert_eq!((seen(NOW), seen(NOW.after(ANSWER_AGE))), (Some(7), None));
    }

    #[test]
    fn nothing_paid_is_used_for_a_request_that_is_refused() {
        let (memo, limits) = (Memo::new(5), limits(100));
        let both = [Some(&limits), Some(&limits)];
        memo.note(&who("a"), both, granted(2), [None; 2], NOW);
        let wait = Duration::from_millis(100);
        let seen = [None, Some(Seen { wait, ..Seen::default() })];
        memo.note(&who("a"), both, seen, [None, Some(Exhausted::Rate)], NOW);
        assert!(matches!(memo.recall(&who("a"), both, NOW)[1], Known::Refused(..)));
        assert!(matches!(memo.recall(&who("a"), [Some(&limits), None], NOW)[0], Known::Paid(_)));
    }
}
