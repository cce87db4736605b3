//! What a question to each store of counters costs in time, in one run, in turn: the process, Redis on the loopback, and
//! dynalite in the place of DynamoDB. Prints the table of `docs/performance.md`. `cargo bench --bench limits`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use sluicegate::gate::policy::{LimitSet, Rate};
use sluicegate::wire::clock;
use sluicegate::wire::limits::dynamodb::DynamoDb;
use sluicegate::wire::limits::process::Process;
use sluicegate::wire::limits::redis;
use sluicegate::wire::limits::store::{Demand, Lease, Settlement, Store, Who};
use support::{Dynamo, REGION, Redis, TABLE};

const ROUNDS: usize = 10;
const QUESTIONS: usize = 200;

/// What one store took for each kind of question.
#[derive(Default)]
struct Times {
    one: Vec<Duration>,
    both: Vec<Duration>,
    leave: Vec<Duration>,
}

async fn timed<T>(times: &mut Vec<Duration>, question: impl Future<Output = T>) -> T {
    let begin = Instant::now();
    let answer = question.await;
    times.push(begin.elapsed());
    answer
}

/// Requests of a rate that is busy, with places: for the key alone, and for key and tenant.
async fn round(store: &impl Store, round: usize, times: &mut Times) {
    let rate = Rate { period: Duration::from_micros(1), burst: 1_000_000 };
    let limits = LimitSet { rate: Some(rate), concurrent_downloads: Some(1000), ..LimitSet::default() };
    let demand = Some(Demand { limits: &limits, permits: 1 });
    for number in 0..QUESTIONS {
        let who = Who { tenant: "acme".into(), key: format!("k{}", number % 8).into() };
        let lease = Lease { id: format!("{round}x{number}"), length: Duration::from_secs(60) };
        for both in [false, true] {
            let demands = [demand, demand.filter(|_| both)];
            let kind = if both { &mut times.both } else { &mut times.one };
            let entry = timed(kind, store.enter(&who, demands, &lease, clock::moment())).await.unwrap();
            assert_eq!(entry.refused, None);
            let settlement = Settlement { places: [true, both], ..Settlement::default() };
            timed(&mut times.leave, store.leave(&who, &lease, settlement, clock::moment())).await.unwrap();
        }
    }
}

fn micros(times: &mut [Duration], part: usize) -> String {
    times.sort_unstable();
    let time = times[(times.len() * part / 100).min(times.len() - 1)];
    format!("{:.1}", time.as_secs_f64() * 1e6)
}

fn main() {
    let (server, table) = (Redis::start(), Dynamo::dynalite());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut all: [(&str, Times); 3] = ["process", "Redis", "dynalite"].map(|name| (name, Times::default()));
    runtime.block_on(async {
        let process = Process::default();
        let redis = redis::Redis::new(&server.url(), None, Duration::from_secs(10)).unwrap();
        let dynamo = DynamoDb::at(table.endpoint(), REGION, "id", "secret", TABLE).unwrap();
        // The first round connects, loads the scripts and finds out what there is.
        for turn in 0..=ROUNDS {
            let mut times = [Times::default(), Times::default(), Times::default()];
            round(&process, turn, &mut times[0]).await;
            round(&redis, turn, &mut times[1]).await;
            round(&dynamo, turn, &mut times[2]).await;
            for ((_, kept), new) in all.iter_mut().zip(times).filter(|_| turn > 0) {
                kept.one.extend(new.one);
                kept.both.extend(new.both);
                kept.leave.extend(new.leave);
            }
        }
    });
    println!("| store | a key's limits, us: median / p99 | key and tenant | the end of a download |");
    println!("|---|---|---|---|");
    for (name, times) in &mut all {
        let mut cells = Vec::new();
        for times in [&mut times.one, &mut times.both, &mut times.leave] {
            cells.push(format!("{} / {}", micros(times, 50), micros(times, 99)));
        }
        println!("| {name} | {} |", cells.join(" | "));
    }
}
