//! What every store of counters means by its answers: one suite for the process, Redis, and DynamoDB twice (moto for the
//! answers, dynalite for races). Its time is made up, so that nothing waits.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use sluicegate::gate::fault::LimitScope::{self, Key, Tenant};
use sluicegate::gate::policy::{LimitSet, Rate};
use sluicegate::wire::limits::dynamodb::DynamoDb;
use sluicegate::wire::limits::process::Process;
use sluicegate::wire::limits::redis;
use sluicegate::wire::limits::store::{
    Account, Both, Demand, Entry, Exhausted, Lease, Moment, Seen, Settlement, Store, Who,
};
use support::{Dynamo, REGION, Redis, TABLE};

/// Noon of a day that no server takes for the past.
const NOON: Moment = Moment(47_500 * DAY + DAY / 2);
const DAY: u64 = 86_400_000_000;
const MILLISECOND: Duration = Duration::from_millis(1);
const LEASE: Duration = Duration::from_secs(60);

/// A store with questions put shortly.
struct Asked<S>(S);

impl<S: Store> Asked<S> {
    async fn enter(&self, who: &Who, limits: Both<Option<&LimitSet>>, id: &str, now: Moment) -> Entry {
        self.enter_for(who, limits, id, now, 1).await
    }

    async fn enter_for(
        &self,
        who: &Who,
        limits: Both<Option<&LimitSet>>,
        id: &str,
        now: Moment,
        permits: u32,
    ) -> Entry {
        let demands = limits.map(|limits| limits.map(|limits| Demand { limits, permits }));
        self.0.enter(who, demands, &lease(id), now).await.unwrap()
    }

    async fn leave(&self, who: &Who, id: &str, settlement: Settlement, now: Moment) {
        self.0.leave(who, &lease(id), settlement, now).await.unwrap();
    }

    async fn look(&self, who: &Who, limits: Both<Option<&LimitSet>>, now: Moment) -> Both<Option<Seen>> {
        self.0.look(who, limits, now).await.unwrap()
    }

    async fn set_aside(
        &self,
        who: &Who,
        most: Both<Option<u64>>,
        bytes: u64,
        now: Moment,
    ) -> Option<LimitScope> {
        self.0.set_aside(who, most, bytes, now).await.unwrap().refused
    }
}

fn lease(id: &str) -> Lease {
    Lease { id: id.to_owned(), length: LEASE }
}

fn who(tenant: &str, key: &str) -> Who {
    Who { tenant: tenant.into(), key: key.into() }
}

/// One request each `period` milliseconds, `burst` at once.
fn rate(period: u32, burst: u32) -> LimitSet {
    LimitSet { rate: Some(Rate { period: MILLISECOND * period, burst }), ..LimitSet::default() }
}

fn places(most: u32) -> LimitSet {
    LimitSet { concurrent_downloads: Some(most), ..LimitSet::default() }
}

fn bytes(most: u64) -> LimitSet {
    LimitSet { bytes_per_day: Some(most), ..LimitSet::default() }
}

const BOTH_PLACES: Settlement = Settlement {
    places: [true; 2],
    counted: [false; 2],
    unsent: 0,
    account: Account { day: 0, era: 0 },
    owed: 0,
};

async fn a_burst_passes_and_comes_back(store: &Asked<impl Store>) {
    let (who, limits) = (who("burst", "k"), rate(100, 3));
    let asked = [Some(&limits), None];
    for left in [2, 1, 0] {
        let entry = store.enter(&who, asked, "a", NOON).await;
        assert_eq!(
            (entry.refused, entry.seen[0].unwrap().granted, entry.seen[0].unwrap().left),
            (None, 1, left)
        );
        assert_eq!(entry.seen[1], None, "nobody asked for the tenant");
    }
    let entry = store.enter(&who, asked, "a", NOON).await;
    assert_eq!(entry.refused, Some((Key, Exhausted::Rate)));
    let seen = entry.seen[0].unwrap();
    assert_eq!((seen.granted, seen.left, seen.wait), (0, 0, 100 * MILLISECOND));
    let almost = NOON.after(Duration::from_micros(99_999));
    assert_eq!(store.enter(&who, asked, "a", almost).await.refused, Some((Key, Exhausted::Rate)));
    let then = NOON.after(100 * MILLISECOND);
    assert_eq!(store.enter(&who, asked, "a", then).await.refused, None);
    assert_eq!(store.enter(&who, asked, "a", then).await.refused, Some((Key, Exhausted::Rate)));
    let rested = NOON.after(Duration::from_secs(1000));
    assert_eq!(
        store.enter(&who, asked, "a", rested).await.seen[0].unwrap().left,
        2,
        "and no more than a burst"
    );
}

async fn several_requests_are_paid_as_far_as_they_go(store: &Asked<impl Store>) {
    let (who, limits) = (who("several", "k"), rate(100, 5));
    let asked = [Some(&limits), None];
    let granted = async |permits| store.enter_for(&who, asked, "a", NOON, permits).await.seen[0].unwrap();
    assert_eq!((granted(3).await.granted, granted(0).await.granted), (3, 0));
    let seen = granted(3).await;
    assert_eq!((seen.granted, seen.left), (2, 0));
    assert_eq!(
        store.enter_for(&who, asked, "a", NOON, 0).await.refused,
        None,
        "who asks for nothing gets it"
    );
    assert_eq!(store.enter_for(&who, asked, "a", NOON, 4).await.refused, Some((Key, Exhausted::Rate)));
}

async fn what_the_key_refuses_costs_the_tenant_nothing(store: &Asked<impl Store>) {
    let (who, small, large) = (who("key-first", "k"), rate(1000, 1), rate(1000, 5));
    let (held, both) = (places(9), [Some(&small), Some(&large)]);
    assert_eq!(store.enter(&who, both, "a", NOON).await.refused, None);
    for _ in 0..3 {
        let entry = store.enter(&who, both, "b", NOON).await;
        assert_eq!((entry.refused, entry.seen[1]), (Some((Key, Exhausted::Rate)), None));
    }
    assert_eq!(store.look(&who, both, NOON).await[1].unwrap().left, 4);
    // Places too.
    let with_places = LimitSet { concurrent_downloads: Some(9), ..large };
    store.enter(&who, [Some(&small), Some(&with_places)], "c", NOON).await;
    assert_eq!(
        store.look(&who, [None, Some(&held)], NOON).await[1].unwrap().active,
        u32::from(is_process(store))
    );
}

async fn what_the_tenant_refuses_costs_the_key_its_request_and_no_place(store: &Asked<impl Store>) {
    let (who, tenant) = (who("tenant-next", "k"), rate(1000, 1));
    let key = LimitSet { concurrent_downloads: Some(9), ..rate(1000, 5) };
    let both = [Some(&key), Some(&tenant)];
    assert_eq!(store.enter(&who, both, "a", NOON).await.refused, None);
    let entry = store.enter(&who, both, "b", NOON).await;
    assert_eq!(entry.refused, Some((Tenant, Exhausted::Rate)));
    assert_eq!(entry.seen[1].unwrap().wait, Duration::from_secs(1));
    let seen = store.look(&who, both, NOON).await[0].unwrap();
    assert_eq!((seen.left, seen.active), (3, 1));
}

async fn places_are_counted_and_given_back(store: &Asked<impl Store>) {
    let (who, limits) = (who("places", "k"), places(2));
    let both = [Some(&limits), Some(&limits)];
    assert_eq!(store.enter(&who, both, "a", NOON).await.refused, None);
    let entry = store.enter(&who, both, "b", NOON).await;
    assert_eq!((entry.refused, entry.seen[0].unwrap().active), (None, 2));
    assert_eq!(store.enter(&who, both, "c", NOON).await.refused, Some((Key, Exhausted::Places)));
    store.leave(&who, "a", BOTH_PLACES, NOON).await;
    assert_eq!(store.enter(&who, both, "c", NOON).await.refused, None);
    for id in ["b", "c"] {
        store.leave(&who, id, BOTH_PLACES, NOON).await;
    }
    assert_eq!(store.look(&who, both, NOON).await.map(|seen| seen.unwrap().active), [0, 0]);
}

async fn whoever_gets_no_place_pays_no_request(store: &Asked<impl Store>) {
    let who = who("no-place", "k");
    let limits = LimitSet { concurrent_downloads: Some(1), bytes_per_day: Some(10), ..rate(1000, 5) };
    let asked = [Some(&limits), None];
    assert_eq!(store.enter(&who, asked, "a", NOON).await.refused, None);
    assert_eq!(store.enter(&who, asked, "b", NOON).await.refused, Some((Key, Exhausted::Places)));
    store.set_aside(&who, [Some(10), None], 10, NOON).await;
    assert_eq!(
        store.enter(&who, asked, "b", NOON).await.refused,
        Some((Key, Exhausted::Day)),
        "the day is first"
    );
    let seen = store.look(&who, asked, NOON).await[0].unwrap();
    assert_eq!((seen.left, seen.used, seen.active), (4, 10, 1));
}

async fn bytes_are_set_aside_up_to_the_limit_and_no_further(store: &Asked<impl Store>) {
    let (who, limits) = (who("bytes", "k"), bytes(100));
    let (asked, most) = ([Some(&limits), None], [Some(100), None]);
    assert_eq!(store.enter(&who, asked, "a", NOON).await.refused, None);
    assert_eq!(store.set_aside(&who, most, 60, NOON).await, None);
    assert_eq!(store.set_aside(&who, most, 41, NOON).await, Some(Key));
    let account = store.0.set_aside(&who, most, 40, NOON).await.unwrap().account;
    assert_eq!(store.set_aside(&who, most, 0, NOON).await, None);
    let entry = store.enter(&who, asked, "b", NOON).await;
    assert_eq!((entry.refused, entry.seen[0].unwrap().used), (Some((Key, Exhausted::Day)), 100));
    let back = Settlement { counted: [true, false], unsent: 30, account, ..Settlement::default() };
    store.leave(&who, "a", back, NOON).await;
    assert_eq!(store.set_aside(&who, most, 31, NOON).await, Some(Key));
    assert_eq!(store.set_aside(&who, most, 30, NOON).await, None);
    let owed = Settlement { counted: [true, false], owed: 7, ..Settlement::default() };
    store.leave(&who, "a", owed, NOON).await;
    assert_eq!(
        store.look(&who, asked, NOON).await[0].unwrap().used,
        107,
        "what was sent counts, whatever the limit"
    );
    assert_eq!(
        store.set_aside(&who, most, 101, NOON.after(Duration::from_secs(86_400))).await,
        Some(Key),
        "never"
    );
}

async fn a_new_day_begins_at_midnight(store: &Asked<impl Store>) {
    let (who, limits) = (who("midnight", "k"), bytes(100));
    let (asked, most) = ([Some(&limits), None], [Some(100), None]);
    let midnight = Moment((NOON.day() + 1) * DAY);
    let before = Moment(midnight.0 - 1);
    let account = store.0.set_aside(&who, most, 100, before).await.unwrap().account;
    assert_eq!(store.enter(&who, asked, "a", before).await.refused, Some((Key, Exhausted::Day)));
    assert_eq!(store.enter(&who, asked, "a", midnight).await.refused, None);
    assert_eq!(store.set_aside(&who, most, 10, midnight).await, None);
    let yesterdays = Settlement { counted: [true, false], unsent: 100, account, ..Settlement::default() };
    store.leave(&who, "a", yesterdays, midnight).await;
    assert_eq!(store.look(&who, asked, midnight).await[0].unwrap().used, 10);
    let owed = Settlement { counted: [true, false], owed: 5, ..Settlement::default() };
    let next = Moment(midnight.0 + DAY);
    store.leave(&who, "a", owed, next).await;
    assert_eq!(store.look(&who, asked, next).await[0].unwrap().used, 5);
}

async fn bytes_count_in_both_scopes_or_in_none(store: &Asked<impl Store>) {
    let (who, key, tenant) = (who("both", "k"), bytes(100), bytes(50));
    let (asked, most) = ([Some(&key), Some(&tenant)], [Some(100), Some(50)]);
    assert_eq!(store.set_aside(&who, most, 51, NOON).await, Some(Tenant));
    assert_eq!(store.set_aside(&who, [Some(100), None], 60, NOON).await, None);
    assert_eq!(store.set_aside(&who, most, 41, NOON).await, Some(Key));
    assert_eq!(store.set_aside(&who, most, 40, NOON).await, None);
    assert_eq!(store.look(&who, asked, NOON).await.map(|seen| seen.unwrap().used), [100, 40]);
}

async fn tenants_and_keys_are_apart(store: &Asked<impl Store>) {
    let limits = rate(1000, 1);
    let long = "x".repeat(700);
    let longer = format!("{long}y");
    let names = [
        who("apart", "a"),
        who("apart", "b"),
        who("apart2", "a"),
        who("apart", "https://idp.example/tenant#key-1"),
        who("apart", "{a}"),
        who("apart", "ключ *?[a]"),
        who("apart", &long),
        who("apart", &longer),
        who("apart", "tenant"),
    ];
    for name in &names {
        assert_eq!(store.enter(name, [Some(&limits), None], "a", NOON).await.refused, None, "{name:?}");
    }
    for name in &names {
        let again = store.enter(name, [Some(&limits), None], "a", NOON).await;
        assert_eq!(again.refused, Some((Key, Exhausted::Rate)), "{name:?}");
    }
    assert_eq!(
        store.enter(&names[0], [None, Some(&limits)], "a", NOON).await.refused,
        None,
        "the tenant itself"
    );
    let other = store.enter(&names[1], [None, Some(&limits)], "a", NOON).await;
    assert_eq!(other.refused, Some((Tenant, Exhausted::Rate)), "is one for all of its keys");
}

async fn looking_changes_nothing(store: &Asked<impl Store>) {
    let limits = LimitSet { concurrent_downloads: Some(3), bytes_per_day: Some(9), ..rate(100, 4) };
    let (who, asked) = (who("look", "k"), [Some(&limits), Some(&limits)]);
    for _ in 0..3 {
        let fresh = Seen { left: 4, ..Seen::default() };
        assert_eq!(store.look(&who, asked, NOON).await, [Some(fresh), Some(fresh)]);
    }
    store.enter(&who, asked, "a", NOON).await;
    for _ in 0..3 {
        let seen = store.look(&who, asked, NOON).await[1].unwrap();
        assert_eq!((seen.left, seen.active, seen.used), (3, 1, 0));
    }
}

/// Rates up to what a policy may say: nothing overflows, and 2^53 is far enough.
async fn extremes_are_counted_too(store: &Asked<impl Store>) {
    let month = LimitSet {
        rate: Some(Rate { period: Duration::from_secs(1000), burst: 2592 }),
        ..LimitSet::default()
    };
    let fast = LimitSet {
        rate: Some(Rate { period: Duration::from_micros(1), burst: 1_000_000 }),
        ..LimitSet::default()
    };
    let who = who("extremes", "k");
    for (limits, left) in [(&month, 2591), (&fast, 999_999)] {
        let entry = store
            .enter(&Who { key: left.to_string().into(), ..who.clone() }, [Some(limits), None], "a", NOON)
            .await;
        assert_eq!(entry.seen[0].unwrap().left, left);
    }
    let (huge, most) = (bytes(1 << 52), [Some(1 << 52), None]);
    assert_eq!(store.set_aside(&who, most, (1 << 52) - 1, NOON).await, None);
    assert_eq!(store.set_aside(&who, most, 2, NOON).await, Some(Key));
    assert_eq!(store.set_aside(&who, most, 1, NOON).await, None);
    assert_eq!(store.look(&who, [Some(&huge), None], NOON).await[0].unwrap().used, 1 << 52);
}

/// What only a store that outlives its processes has: places that come back by themselves, and answers that are lost.
async fn places_run_out_unless_they_are_renewed(store: &Asked<impl Store>) {
    let (who, limits) = (who("leases", "k"), places(2));
    let both = [Some(&limits), Some(&limits)];
    for id in ["dies", "lives"] {
        assert_eq!(store.enter(&who, both, id, NOON).await.refused, None);
    }
    let half = NOON.after(LEASE / 2);
    store.0.renew(&who, [true; 2], &lease("lives"), half).await.unwrap();
    let almost = Moment(NOON.after(LEASE).0 - 1);
    assert_eq!(store.enter(&who, both, "new", almost).await.refused, Some((Key, Exhausted::Places)));
    let over = NOON.after(LEASE);
    let entry = store.enter(&who, both, "new", over).await;
    assert_eq!((entry.refused, entry.seen.map(|seen| seen.unwrap().active)), (None, [2, 2]));
    assert_eq!(store.enter(&who, both, "newer", over).await.refused, Some((Key, Exhausted::Places)));
    // It only stood still: its download goes on and is counted, though there is no place.
    store.0.renew(&who, [true; 2], &lease("dies"), over).await.unwrap();
    assert_eq!(store.look(&who, both, over).await.map(|seen| seen.unwrap().active), [3, 3]);
    for _ in 0..2 {
        store.leave(&who, "dies", BOTH_PLACES, over).await;
        store.leave(&who, "new", BOTH_PLACES, over).await;
    }
    assert_eq!(store.look(&who, both, over).await.map(|seen| seen.unwrap().active), [1, 1], "once each");
    let later = half.after(LEASE);
    assert_eq!(store.look(&who, both, later).await.map(|seen| seen.unwrap().active), [0, 0]);
}

/// A limit that is raised counts at once; all that is left of a slower one is that its burst is used up.
async fn a_raised_limit_does_not_wait_for_the_old_one(store: &Asked<impl Store>) {
    let (who, slow, fast) = (who("raised", "k"), rate(1_000_000, 3), rate(100, 3));
    for _ in 0..3 {
        assert_eq!(store.enter(&who, [Some(&slow), None], "a", NOON).await.refused, None);
    }
    let entry = store.enter(&who, [Some(&fast), None], "a", NOON).await;
    assert_eq!(entry.refused, Some((Key, Exhausted::Rate)));
    // A caller's clock may be behind others' by ten seconds before it takes anything back.
    let wait = entry.seen[0].unwrap().wait;
    assert!(wait <= Duration::from_secs(10) + 100 * MILLISECOND, "{wait:?}");
    let then = NOON.after(wait);
    assert_eq!(store.enter(&who, [Some(&fast), None], "a", then).await.refused, None);
    assert_eq!(store.enter(&who, [Some(&fast), None], "a", then).await.refused, Some((Key, Exhausted::Rate)));
}

/// Questions arrive later than others that were asked after them: they take nothing back.
async fn whoever_is_late_gives_nothing_back(store: &Asked<DynamoDb>) {
    let (who, limits) = (who("late", "k"), rate(50, 20));
    let asked = [Some(&limits), None];
    let (early, now) = (NOON, NOON.after(Duration::from_secs(2)));
    for _ in 0..20 {
        assert_eq!(store.enter(&who, asked, "a", now).await.refused, None);
    }
    for _ in 0..5 {
        assert_eq!(store.enter(&who, asked, "a", early).await.refused, Some((Key, Exhausted::Rate)));
        assert_eq!(store.enter(&who, asked, "a", now).await.refused, Some((Key, Exhausted::Rate)));
    }
}

/// Two clocks on both sides of midnight: the day does not go back, and begins once.
async fn a_clock_that_is_ahead_begins_the_day_once(store: &Asked<DynamoDb>) {
    let (who, most) = (who("skew", "k"), [Some(100), None]);
    let (ahead, behind) = (Moment((NOON.day() + 1) * DAY), Moment((NOON.day() + 1) * DAY - 1));
    assert_eq!(store.set_aside(&who, most, 60, behind).await, None);
    assert_eq!(store.set_aside(&who, most, 60, ahead).await, None, "a new day");
    for _ in 0..3 {
        assert_eq!(store.set_aside(&who, most, 60, behind).await, Some(Key), "which is everybody's");
        assert_eq!(store.set_aside(&who, most, 60, ahead).await, Some(Key));
    }
    assert_eq!(store.set_aside(&who, most, 40, behind).await, None);
    let limits = bytes(100);
    let entry = store.enter(&who, [Some(&limits), None], "a", behind).await;
    assert_eq!(entry.refused, Some((Key, Exhausted::Day)));
}

/// More dead places than one change can remove.
async fn many_dead_places_come_back(store: &Asked<impl Store>) {
    let (who, limits) = (who("dead", "k"), places(50));
    let asked = [Some(&limits), None];
    for id in 0..50 {
        assert_eq!(store.enter(&who, asked, &format!("d{id}"), NOON).await.refused, None);
    }
    let later = NOON.after(LEASE);
    for id in 0..50 {
        let entry = store.enter(&who, asked, &format!("n{id}"), later).await;
        assert_eq!((entry.refused, entry.seen[0].unwrap().active), (None, id + 1));
    }
    assert_eq!(store.enter(&who, asked, "x", later).await.refused, Some((Key, Exhausted::Places)));
}

fn is_process<S: Store>(_: &Asked<S>) -> bool {
    std::any::type_name::<S>() == std::any::type_name::<Process>()
}

/// A long walk of random requests answers the same as the process alone.
async fn a_random_walk_is_the_same_everywhere(store: &Asked<impl Store>, steps: u32) {
    let process = Asked(Process::told_the_time());
    let sets = [
        rate(100, 3),
        LimitSet { concurrent_downloads: Some(3), ..rate(37, 5) },
        LimitSet { bytes_per_day: Some(1000), ..LimitSet::default() },
        LimitSet { concurrent_downloads: Some(2), bytes_per_day: Some(700), ..rate(250, 2) },
    ];
    let mut random = 0x5eed_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut now = NOON;
    let mut inside: Vec<(Who, Both<Option<&LimitSet>>, String)> = Vec::new();
    for step in 0..steps {
        now = now.after(Duration::from_micros(next(60_000)));
        let index = usize::try_from(next(4)).unwrap();
        // Each set has a tenant of its own, whose keys share it: a changed limit is another matter.
        let who = who(&format!("walk{index}"), &format!("k{}", next(2)));
        let both = [Some(&sets[index]), Some(&sets[(index + 1) % 4])];
        let most = both.map(|limits| limits.and_then(|limits| limits.bytes_per_day));
        match next(10) {
            0..6 => {
                let id = format!("w{step}");
                let (one, other) =
                    (process.enter(&who, both, &id, now).await, store.enter(&who, both, &id, now).await);
                assert_eq!(one.refused, other.refused, "step {step}: {one:?} and {other:?}");
                let told = |entry: &Entry| entry.seen.map(|seen| seen.map(|seen| (seen.granted, seen.left)));
                if one.refused.is_none() {
                    assert_eq!(told(&one), told(&other), "step {step}");
                    inside.push((who, both, id));
                }
            }
            6..8 => {
                let bytes = next(120);
                let answers = (
                    process.set_aside(&who, most, bytes, now).await,
                    store.set_aside(&who, most, bytes, now).await,
                );
                assert_eq!(answers.0, answers.1, "step {step}");
            }
            _ if inside.is_empty() => {}
            _ => {
                let at = usize::try_from(next(inside.len() as u64)).unwrap();
                let (who, both, id) = inside.swap_remove(at);
                let limited =
                    both.map(|limits| limits.is_some_and(|limits| limits.concurrent_downloads.is_some()));
                process.leave(&who, &id, BOTH_PLACES, now).await;
                store.leave(&who, &id, Settlement { places: limited, ..Settlement::default() }, now).await;
            }
        }
    }
}

macro_rules! suite {
    ($store:expr, $($check:ident),+ $(,)?) => {
        $(
            eprintln!("{}", stringify!($check));
            $check($store).await;
        )+
    };
}

async fn everywhere(store: &Asked<impl Store>) {
    suite!(
        store,
        a_burst_passes_and_comes_back,
        several_requests_are_paid_as_far_as_they_go,
        what_the_key_refuses_costs_the_tenant_nothing,
        what_the_tenant_refuses_costs_the_key_its_request_and_no_place,
        places_are_counted_and_given_back,
        whoever_gets_no_place_pays_no_request,
        bytes_are_set_aside_up_to_the_limit_and_no_further,
        a_new_day_begins_at_midnight,
        bytes_count_in_both_scopes_or_in_none,
        tenants_and_keys_are_apart,
        looking_changes_nothing,
        extremes_are_counted_too,
    );
}

async fn where_it_is_shared(store: &Asked<impl Store>, steps: u32) {
    everywhere(store).await;
    suite!(
        store,
        places_run_out_unless_they_are_renewed,
        many_dead_places_come_back,
        a_raised_limit_does_not_wait_for_the_old_one,
    );
    a_random_walk_is_the_same_everywhere(store, steps).await;
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn redis_at(server: &Redis) -> Asked<redis::Redis> {
    Asked(redis::Redis::new(&server.url(), None, Duration::from_secs(10)).unwrap().told_the_time())
}

fn dynamo_at(server: &Dynamo) -> Asked<DynamoDb> {
    Asked(DynamoDb::at(server.endpoint(), REGION, "id", "secret", TABLE).unwrap())
}

#[test]
fn the_process() {
    run(async { everywhere(&Asked(Process::told_the_time())).await });
}

#[test]
fn redis_server() {
    let server = Redis::start();
    run(async { where_it_is_shared(&redis_at(&server), 4000).await });
    // Whatever was written goes by itself.
    assert_eq!(server.ask("EVAL \"for _, k in ipairs(redis.call('KEYS', '*')) do if redis.call('TTL', k) < 0 then return 1 end end return 0\" 0"), ":0");
}

#[test]
fn dynamodb_by_dynalite() {
    let server = Dynamo::dynalite();
    run(async {
        where_it_is_shared(&dynamo_at(&server), 1500).await;
        a_clock_that_is_ahead_begins_the_day_once(&dynamo_at(&server)).await;
        whoever_is_late_gives_nothing_back(&dynamo_at(&server)).await;
    });
}

#[test]
fn dynamodb_by_moto() {
    let server = Dynamo::moto();
    run(async {
        where_it_is_shared(&dynamo_at(&server), 400).await;
        a_clock_that_is_ahead_begins_the_day_once(&dynamo_at(&server)).await;
        whoever_is_late_gives_nothing_back(&dynamo_at(&server)).await;
    });
}

/// Many processes at the same moment take exactly what there is: each task has a store of its own, as a process has.
async fn races<S: Store + 'static>(new: impl Fn() -> Asked<S>) {
    let limits = LimitSet { concurrent_downloads: Some(30), ..rate(60_000, 100) };
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let (store, limits) = (Arc::new(new()), limits.clone());
        tasks.spawn(async move {
            let who = who("race", &format!("k{}", number % 2));
            let (mut entered, mut set_aside) = (0, 0);
            for turn in 0..20 {
                let asked = [None, Some(&limits)];
                if store.enter(&who, asked, &format!("{number}x{turn}"), NOON).await.refused.is_none() {
                    entered += 1;
                }
                if store.set_aside(&who, [None, Some(1000)], 13, NOON).await.is_none() {
                    set_aside += 1;
                }
            }
            (entered, set_aside)
        });
    }
    let (mut entered, mut set_aside) = (0, 0);
    while let Some(done) = tasks.join_next().await {
        let (one, two) = done.unwrap();
        entered += one;
        set_aside += two;
    }
    assert_eq!((entered, set_aside), (30, 76), "30 places; 76 times 13 bytes are 988 of 1000");
    let unlimited = rate(60_000, 100);
    let seen = new().look(&who("race", "k0"), [None, Some(&unlimited)], NOON).await[1].unwrap();
    assert_eq!(seen.left, 70, "and whoever got no place paid nothing");
}

fn run_in_parallel(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn races_at_redis() {
    let server = Redis::start();
    run_in_parallel(async { races(|| redis_at(&server)).await });
}

#[test]
fn races_at_dynalite() {
    let server = Dynamo::dynalite();
    run_in_parallel(async { races(|| dynamo_at(&server)).await });
}

/// Both scopes at once, the tenant's the tighter one: what one scope grants and the other refuses is taken back.
#[test]
fn races_over_two_scopes_at_dynalite() {
    let server = Dynamo::dynalite();
    run_in_parallel(async {
        let (key, tenant) =
            (rate(60_000, 1000), LimitSet { concurrent_downloads: Some(25), ..LimitSet::default() });
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..8 {
            let (store, key, tenant) = (Arc::new(dynamo_at(&server)), key.clone(), tenant.clone());
            tasks.spawn(async move {
                let who = who("two", &format!("k{number}"));
                let mut entered = 0;
                for turn in 0..10 {
                    let asked = [Some(&key), Some(&tenant)];
                    let entry = store.enter(&who, asked, &format!("{number}x{turn}"), NOON).await;
                    entered += u32::from(entry.refused.is_none());
                }
                entered
            });
        }
        let mut entered = 0;
        while let Some(done) = tasks.join_next().await {
            entered += done.unwrap();
        }
        assert_eq!(entered, 25);
        let seen = dynamo_at(&server).look(&who("two", "k1"), [None, Some(&tenant)], NOON).await[1].unwrap();
        assert_eq!(seen.active, 25);
    });
}
