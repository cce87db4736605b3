//! Records added up: for each tenant and day, or tenant, key and day. A request counts once, however often it was shipped.

use std::collections::{BTreeMap, HashSet};

use jiff::civil::Date;
use serde::Serialize;

use super::records::{End, Used};

/// Which records are added up, and by what.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// The first day.
    pub from: Option<Date>,
    /// The last day.
    pub to: Option<Date>,
    /// This tenant alone.
    pub tenant: Option<String>,
    /// Each key by itself.
    pub by_key: bool,
}

/// What one row of sums is about; rows are sorted by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Subject {
    /// The tenant.
    pub tenant: String,
    /// The key, where each is by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The day in UTC.
    #[serde(serialize_with = "as_text")]
    pub day: Date,
}

/// One row. Every request is in exactly one of `whole`, `aborted`, `refused` and `bodiless`, and every body in exactly one
/// of `downloads` and `continued`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Requests that proved the tenant.
    pub requests: u64,
    /// Bodies that began with the first byte.
    pub downloads: u64,
    /// Bodies that began later, where a client went on or sought.
    pub continued: u64,
    /// Bodies that were sent to their end.
    pub whole: u64,
    /// Bodies that were not.
    pub aborted: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Requests without a body: HEAD, not modified, or the client left before the head.
    pub bodiless: u64,
    /// How often the gateway went on after an upstream had broken off.
    pub resumed: u64,
    /// Body bytes.
    pub bytes: u64,
    /// How long bodies took, from the request's head to the body's end, in milliseconds.
    pub transfer_ms: u64,
}

/// The sums so far.
#[derive(Debug, Default)]
pub struct Sums {
    choice: Choice,
    rows: BTreeMap<Subject, Sum>,
    /// Requests that are counted.
    known: HashSet<[u8; 16]>,
    duplicates: u64,
}

impl Sums {
    /// None yet.
    pub fn new(choice: Choice) -> Self {
        Self { choice, ..Self::default() }
    }

    /// Adds a record, if it is one of the chosen and not in the sums yet.
    pub fn add(&mut self, used: &Used<'_>) {
        let Choice { from, to, tenant, by_key } = &self.choice;
        let late = to.is_some_and(|to| used.day > to) || from.is_some_and(|from| used.day < from);
        if late || tenant.as_deref().is_some_and(|tenant| tenant != used.tenant) {
            return;
        }
        if !self.known.insert(used.id) {
            self.duplicates += 1;
            return;
        }
        let subject = Subject {
            tenant: used.tenant.to_string(),
            key: by_key.then(|| used.key.to_string()),
            day: used.day,
        };
        self.rows.entry(subject).or_default().add(&Sum::of(used));
    }

    /// The rows, sorted by tenant, key and day.
    pub fn rows(&self) -> impl Iterator<Item = (&Subject, &Sum)> {
        self.rows.iter()
    }

    /// All rows together.
    pub fn total(&self) -> Sum {
        let mut total = Sum::default();
        self.rows.values().for_each(|row| total.add(row));
        total
    }

    /// Records that were there once more and were left out.
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }
}

impl Sum {
    fn of(used: &Used<'_>) -> Self {
        let mut one = Self { requests: 1, bytes: used.bytes, resumed: used.resumed, ..Self::default() };
        match used.end {
            End::Refused => one.refused = 1,
            End::Bodiless => one.bodiless = 1,
            End::Body { from_start, whole } => {
                *(if from_start { &mut one.downloads } else { &mut one.continued }) = 1;
                *(if whole { &mut one.whole } else { &mut one.aborted }) = 1;
                one.transfer_ms = used.took_ms;
            }
        }
        one
    }

    fn add(&mut self, other: &Self) {
        for (own, more) in [
            (&mut self.requests, other.requests),
            (&mut self.downloads, other.downloads),
            (&mut self.continued, other.continued),
            (&mut self.whole, other.whole),
            (&mut self.aborted, other.aborted),
            (&mut self.refused, other.refused),
            (&mut self.bodiless, other.bodiless),
            (&mut self.resumed, other.resumed),
            (&mut self.bytes, other.bytes),
            (&mut self.transfer_ms, other.transfer_ms),
        ] {
            *own = own.saturating_add(more);
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn as_text<S: serde::Serializer>(day: &Date, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day(day: i8) -> Date {
        Date::new(2026, 11, day).unwrap()
    }

    fn used() -> impl Strategy<Value = Used<'static>> {
        let body =
            (any::<bool>(), any::<bool>()).prop_map(|(from_start, whole)| End::Body { from_start, whole });
        let end = prop_oneof![4 => body, 1 => Just(End::Refused), 1 => Just(End::Bodiless)];
        let names = (prop_oneof![Just("acme"), Just("beta")], prop_oneof![Just("k-1"), Just("k-2")]);
        (any::<[u8; 16]>(), 1_i8..4, names, end, 0_u64..1 << 40, 0_u64..5, 0_u64..100_000).prop_map(
            |(id, on, (tenant, key), end, bytes, resumed, took_ms)| Used {
                id,
                day: day(on),
                tenant: tenant.into(),
                key: key.into(),
                end,
                bytes,
                resumed,
                took_ms,
            },
        )
    }

    fn sums<'u>(all: impl IntoIterator<Item = &'u Used<'static>>, choice: Choice) -> Sums {
        let mut sums = Sums::new(choice);
        all.into_iter().for_each(|used| sums.add(used));
        sums
    }

    fn rows(sums: &Sums) -> Vec<(Subject, Sum)> {
        sums.rows().map(|(subject, sum)| (subject.clone(), *sum)).collect()
    }

    proptest! {
        #[test]
        fn order_and_repetition_change_nothing(
            all in proptest::collection::vec(used(), 0..40),
            order in any::<u64>(),
            by_key in any::<bool>(),
        ) {
            let choice = Choice { by_key, ..Choice::default() };
            let once = sums(&all, choice.clone());
            // Twice, in an order that has nothing to do with the first.
            let mut shuffled: Vec<_> = all.iter().chain(&all).enumerate().collect();
            shuffled.sort_by_key(|(at, _)| (*at as u64 + 1).wrapping_mul(order | 1).rotate_left(17));
            let again = sums(shuffled.into_iter().map(|(_, used)| used), choice);
            prop_assert_eq!(rows(&once), rows(&again));
            prop_assert_eq!(again.duplicates(), all.len() as u64);
        }

        #[test]
        fn every_request_and_every_byte_is_in_one_row(all in proptest::collection::vec(used(), 0..40)) {
            let by_key = sums(&all, Choice { by_key: true, ..Choice::default() });
            let by_tenant = sums(&all, Choice::default());
            prop_assert_eq!(by_key.total(), by_tenant.total());
            let total = by_tenant.total();
            prop_assert_eq!(total.requests, all.len() as u64);
            prop_assert_eq!(total.bytes, all.iter().map(|used| used.bytes).sum::<u64>());
            prop_assert_eq!(total.whole + total.aborted + total.refused + total.bodiless, total.requests);
            prop_assert_eq!(total.downloads + total.continued, total.whole + total.aborted);
        }

        #[test]
        fn days_and_tenants_split_the_whole(all in proptest::collection::vec(used(), 0..40)) {
            let mut parts = Sum::default();
            for (from, to) in [(None, Some(day(1))), (Some(day(2)), Some(day(2))), (Some(day(3)), None)] {
                for tenant in ["acme", "beta"] {
                    let tenant = Some(tenant.to_owned());
                    parts.add(&sums(&all, Choice { from, to, tenant, by_key: false }).total());
                }
            }
            prop_assert_eq!(parts, sums(&all, Choice::default()).total());
        }
    }
}
