//! What has to change in the edge's store, and in which order, so that no state on the way accepts or refuses what it
//! should not.
//!
//! A batch is written as a whole or not at all; between two batches the edge serves what is there, and a run may end
//! there for good. So for whatever the store held before and is to hold afterwards:
//!
//! 1. Nothing is accepted on the way that was not accepted before and will not be afterwards. A revocation is written
//!    before the key it is for, and taken away after it. A pair that is written (new, or with another tenant or epoch in
//!    it) changes in one batch with all of its keys: else a key of the new owner would count as one of the old owner, or
//!    a key that an ended run left behind would count at all.
//! 2. Nothing is refused on the way that the same tenant accepted before and will accept afterwards. A key is there
//!    before the pair that it belongs to, and goes after it.
//!
//! A pair with more changes than fit in a batch is closed while its keys change: there the second rule yields to the
//! first.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};

/// Entries by their keys.
pub(super) type Entries = BTreeMap<String, SecretString>;

/// The most changes in one `UpdateKeys`. Its other limit, 3 MB, is out of reach with entries of at most 1.5 KiB.
pub(super) const CHANGES_PER_BATCH: usize = 50;

/// What an entry is for, by the shape of its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// `r/TENANT/ID`: a link id that counts no more.
    Revocation,
    /// `k/KID`: a link key.
    LinkKey,
    /// `i/ISSUER/AUDIENCE`.
    Pair,
    /// `i/ISSUER/AUDIENCE/KEY`: a key of that pair.
    PairKey,
    /// `f/CODE`: how a refusal reads.
    Refusal,
}

impl Kind {
    /// None for an entry that is not the edge's.
    pub(super) fn of(key: &str) -> Option<Self> {
        match (key.split_once('/')?.0, key.matches('/').count()) {
            ("r", _) => Some(Self::Revocation),
            ("k", _) => Some(Self::LinkKey),
            ("f", _) => Some(Self::Refusal),
            ("i", 2) => Some(Self::Pair),
            ("i", _) => Some(Self::PairKey),
            _ => None,
        }
    }
}

/// Changes that are written at once or not at all.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) puts: Vec<(String, SecretString)>,
    pub(super) deletes: Vec<String>,
}

pub(super) struct Plan {
    pub(super) batches: Vec<Batch>,
    /// Entries that are not the edge's.
    pub(super) foreign: usize,
    /// What the store holds afterwards, keys and values.
    pub(super) bytes: usize,
}

#[derive(Clone, Copy)]
enum Change<'a> {
    Put(&'a str, &'a SecretString),
    Delete(&'a str),
}

impl<'a> Change<'a> {
    fn key(self) -> &'a str {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }

    /// The place in the order, as the rules above ask for it.
    fn rank(self) -> u8 {
        match (self, Kind::of(self.key())) {
            (Self::Put(..), Some(Kind::Revocation | Kind::Refusal)) => 0,
            (Self::Put(..), Some(Kind::PairKey)) => 1,
            (Self::Put(..), _) => 2,
            (Self::Delete(_), Some(Kind::LinkKey | Kind::Pair)) => 3,
            (Self::Delete(_), Some(Kind::PairKey)) => 4,
            (Self::Delete(_), _) => 5,
        }
    }
}

/// From what the store holds to what it is to hold. Entries of others are left alone.
pub(super) fn plan(held: &Entries, wanted: &Entries, per_batch: usize) -> Plan {
    let (foreign, ours): (Vec<_>, Vec<_>) = held.iter().partition(|(key, _)| Kind::of(key).is_none());
    let gone = ours.iter().map(|(key, _)| key.as_str()).filter(|key| !wanted.contains_key(*key));
    let changes: BTreeMap<&str, Change<'_>> = wanted
        .iter()
        .filter(|(key, value)| !held.get(*key).is_some_and(|old| same(old, value)))
        .map(|(key, value)| (key.as_str(), Change::Put(key, value)))
        .chain(gone.map(|key| (key, Change::Delete(key))))
        .collect();
    let mut batches = Batches { done: Vec::new(), open: Batch::default(), most: per_batch };
    for step in steps(&changes) {
        if step.len() <= per_batch {
            batches.add(&step);
        } else {
            for change in one_by_one(&step, held) {
                batches.add(&[change]);
            }
        }
    }
    let size = |(key, value): (&String, &SecretString)| key.len() + value.expose_secret().len();
    Plan {
        batches: batches.finish(),
        foreign: foreign.len(),
        bytes: wanted.iter().chain(foreign).map(size).sum(),
    }
}

fn same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

/// In order; each holds together. Mostly that is one change, or a pair that is written with the changes of its keys.
fn steps<'a>(changes: &BTreeMap<&'a str, Change<'a>>) -> impl Iterator<Item = Vec<Change<'a>>> {
    let mut steps: BTreeMap<(u8, &str), Vec<Change<'a>>> = BTreeMap::new();
    for (key, change) in changes {
        let pair = (Kind::of(key) == Some(Kind::PairKey))
            .then(|| key.rsplit_once('/').and_then(|(pair, _)| changes.get(pair)))
            .flatten();
        let leader = match pair {
            Some(pair @ Change::Put(..)) => *pair,
            _ => *change,
        };
        steps.entry((leader.rank(), leader.key())).or_default().push(*change);
    }
    steps.into_values()
}

/// A pair with too many changes for one batch: closed first, then its keys, then the pair. It is the first of the step,
/// because its key is the shortest.
fn one_by_one<'a>(step: &[Change<'a>], held: &Entries) -> Vec<Change<'a>> {
    let Some((pair, keys)) = step.split_first() else { return Vec::new() };
    let closed = held.contains_key(pair.key()).then(|| Change::Delete(pair.key()));
    closed.into_iter().chain(keys.iter().copied()).chain([*pair]).collect()
}

/// Fills one batch after the other.
struct Batches {
    done: Vec<Batch>,
    open: Batch,
    most: usize,
}

impl Batches {
    fn add(&mut self, step: &[Change<'_>]) {
        if self.open.len() + step.len() > self.most {
            self.done.push(std::mem::take(&mut self.open));
        }
        for change in step {
            match change {
                Change::Put(key, value) => self.open.puts.push(((*key).to_owned(), (*value).clone())),
                Change::Delete(key) => self.open.deletes.push((*key).to_owned()),
            }
        }
    }

    fn finish(mut self) -> Vec<Batch> {
        self.done.push(self.open);
        self.done.retain(|batch| batch.len() > 0);
        self.done
    }
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.puts.len() + self.deletes.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the edge makes of a store. Values of keys and pairs begin with the tenant: `TENANT:…`.
    ///
    /// A link is accepted if its key is there and its id not revoked for that key's tenant. A token is accepted if its
    /// pair and its key are there and its id is not revoked for that pair's tenant.
    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
    struct Accepted {
        /// What signed: a key's name and its secret.
        credential: (String, String),
        tenant: String,
        /// The whole value of the key or pair: tenant, epoch, and what else decides.
        verdict: String,
        id: u8,
    }

    const IDS: u8 = 2;

    fn value<'a>(store: &'a Entries, key: &str) -> Option<&'a str> {
        store.get(key).map(SecretString::expose_secret)
    }

    fn accepted(store: &Entries) -> std::collections::BTreeSet<Accepted> {
        let mut all = std::collections::BTreeSet::new();
        for (key, text) in store {
            let text = text.expose_secret().to_owned();
            let (decides, secret) = match Kind::of(key) {
                Some(Kind::LinkKey) => (text.clone(), text.rsplit(':').next().unwrap().to_owned()),
                Some(Kind::PairKey) => {
                    let Some(pair) = value(store, key.rsplit_once('/').unwrap().0) else { continue };
                    (pair.to_owned(), text)
                }
                _ => continue,
            };
            let tenant = decides.split(':').next().unwrap().to_owned();
            for id in 0..IDS {
                if !store.contains_key(&format!("r/{tenant}/{id}")) {
                    all.insert(Accepted {
                        credential: (key.clone(), secret.clone()),
                        tenant: tenant.clone(),
                        verdict: decides.clone(),
                        id,
                    });
                }
            }
        }
        all
    }

    /// Who accepts what, whatever the epoch.
    fn outcome(one: &Accepted) -> (&(String, String), &str, u8) {
        (&one.credential, &one.tenant, one.id)
    }

    fn apply(store: &mut Entries, batch: &Batch) {
        for (key, value) in &batch.puts {
            assert!(!batch.deletes.contains(key), "`{key}` is both written and deleted in one batch");
            store.insert(key.clone(), value.clone());
        }
        for key in &batch.deletes {
            assert!(store.remove(key).is_some(), "`{key}` is not there to be deleted");
        }
    }

    /// Pairs with more changes than a batch holds.
    fn closed(held: &Entries, wanted: &Entries, most: usize) -> Vec<String> {
        let differs = |key: &String| value(held, key) != value(wanted, key);
        let keys: std::collections::BTreeSet<&String> = held.keys().chain(wanted.keys()).collect();
        let pairs = wanted.keys().filter(|key| Kind::of(key) == Some(Kind::Pair));
        pairs
            .filter(|pair| {
                keys.iter().filter(|key| key.starts_with(pair.as_str()) && differs(key)).count() > most
            })
            .cloned()
            .collect()
    }

    fn policies() -> impl Strategy<Value = Entries> {
        let tenant = || 0..2_u8;
        let revoked = proptest::collection::btree_set((tenant(), 0..IDS), 0..4);
        let link_keys = proptest::collection::btree_map(0..4_u8, (tenant(), 0..2_u8, 0..2_u8), 0..4);
        let pair_keys = || proptest::collection::btree_map(0..6_u8, 0..2_u8, 0..6);
        let pairs = proptest::collection::btree_map(0..2_u8, (tenant(), 0..2_u8, pair_keys()), 0..3);
        (revoked, link_keys, pairs).prop_map(|(revoked, link_keys, pairs)| {
            let mut entries = Entries::new();
            for (tenant, id) in revoked {
                entries.insert(format!("r/t{tenant}/{id}"), "1".into());
            }
            for (kid, (tenant, epoch, secret)) in link_keys {
                entries.insert(format!("k/{kid}"), format!("t{tenant}:{epoch}:{secret}").into());
            }
            for (pair, (tenant, epoch, keys)) in pairs {
                let names: Vec<String> = keys.keys().map(u8::to_string).collect();
                let text = format!("t{tenant}:{epoch}:{}", names.join(","));
                entries.insert(format!("i/{pair}/a"), text.into());
                for (name, secret) in keys {
                    entries.insert(format!("i/{pair}/a/{name}"), secret.to_string().into());
                }
            }
            entries
        })
    }

    /// Follows a plan through `stop` of its batches, and checks the two rules after each.
    fn follow(held: &Entries, wanted: &Entries, most: usize, stop: usize) -> Entries {
        let (before, after) = (accepted(held), accepted(wanted));
        let closed = closed(held, wanted, most);
        let planned = plan(held, wanted, most);
        let mut store = held.clone();
        for batch in planned.batches.iter().take(stop) {
            assert!((1..=most).contains(&batch.len()));
            apply(&mut store, batch);
            let now = accepted(&store);
            for one in &now {
                assert!(before.contains(one) || after.contains(one), "{one:?} is accepted by neither");
            }
            for one in before.iter().map(outcome) {
                let excused = closed.iter().any(|pair| one.0.0.starts_with(pair.as_str()));
                if !excused && after.iter().any(|other| outcome(other) == one) {
                    assert!(now.iter().any(|other| outcome(other) == one), "{one:?} is refused on the way");
                }
            }
            for pair in store.keys().filter(|key| Kind::of(key) == Some(Kind::Pair)) {
                let whole = [held, wanted]
                    .into_iter()
                    .any(|end| value(end, pair) == value(&store, pair) && complete(end, pair));
                assert!(!whole || complete(&store, pair), "`{pair}` without a key that it lists");
            }
        }
        store
    }

    /// Are all keys there that the pair lists? One without is no reason to look elsewhere for who signed.
    fn complete(store: &Entries, pair: &str) -> bool {
        let names = value(store, pair).unwrap().rsplit(':').next().unwrap().split(',');
        names.filter(|name| !name.is_empty()).all(|name| store.contains_key(&format!("{pair}/{name}")))
    }

    fn text(store: &Entries) -> Vec<(&str, &str)> {
        store.iter().map(|(key, value)| (key.as_str(), value.expose_secret())).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// From one policy towards a second, ended anywhere, and from there to a third.
        #[test]
        fn no_state_on_the_way_opens_a_gap(
            first in policies(),
            second in policies(),
            third in policies(),
            most in 1..8_usize,
            stop in 0..12_usize,
        ) {
            let ended = follow(&first, &second, most, stop);
            let last = follow(&ended, &third, most, usize::MAX);
            prop_assert_eq!(text(&last), text(&third));
            prop_assert!(plan(&last, &third, most).batches.is_empty());
        }
    }

    fn entries(of: &[(&str, &str)]) -> Entries {
        of.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect()
    }

    #[test]
    fn the_order() {
        let held =
            entries(&[("r/t/old", ""), ("k/old", ""), ("i/a/old", ""), ("i/a/old/1", ""), ("i/a/b", "")]);
        let wanted = entries(&[
            ("r/t/new", ""),
            ("k/new", ""),
            ("i/a/new", ""),
            ("i/a/new/1", ""),
            ("i/a/b", ""),
            ("i/a/b/2", ""),
        ]);
        let batches = plan(&held, &wanted, 2).batches;
        let told: Vec<String> = batches
            .iter()
            .map(|batch| {
                let puts = batch.puts.iter().map(|(key, _)| format!("+{key}"));
                let deletes = batch.deletes.iter().map(|key| format!("-{key}"));
                puts.chain(deletes).collect::<Vec<_>>().join(" ")
            })
            .collect();
        assert_eq!(
            told,
            ["+r/t/new +i/a/b/2", "+i/a/new +i/a/new/1", "+k/new -i/a/old", "-k/old -i/a/old/1", "-r/t/old"]
        );
    }

    #[test]
    fn a_pair_with_too_many_changes_is_closed_first() {
        let held = entries(&[("i/a/b", "t1"), ("i/a/b/1", "x"), ("i/a/b/2", "x")]);
        let wanted = entries(&[("i/a/b", "t2"), ("i/a/b/3", "y"), ("i/a/b/4", "y")]);
        let batches = plan(&held, &wanted, 3).batches;
        assert_eq!(batches[0].deletes.first().map(String::as_str), Some("i/a/b"));
        let last = batches.last().unwrap();
        assert_eq!(last.puts.last().map(|(key, _)| key.as_str()), Some("i/a/b"));
        assert_eq!(batches.iter().map(Batch::len).sum::<usize>(), 6);
    }

    /// The other limit of a call cannot be met: 3 MB, where `\u0001` is the longest that a byte becomes.
    #[test]
    fn a_batch_is_never_too_large() {
        let item = r#"{"Key":"","Value":""},"#.len() + 6 * (512 + 1024);
        assert!(CHANGES_PER_BATCH * item < 3_000_000);
    }

    #[test]
    fn what_is_not_the_edges_is_left_alone() {
        let held = entries(&[("routes", "x"), ("k", "x"), ("rk/1", "x"), ("k/1", "x")]);
        let planned = plan(&held, &Entries::new(), 50);
        assert_eq!((planned.foreign, planned.batches.len()), (3, 1));
        assert_eq!(planned.batches[0].deletes, ["k/1"]);
        assert_eq!(planned.bytes, "routes".len() + "k".len() + "rk/1".len() + 3);
    }
}
