//! The server door next to its peers, behind the same load and before the same upstream, in one run: A B A B. Prints the
//! tables of `docs/performance.md`. `cargo bench --bench peers -- --help`
//!
//! Whoever is measured has one core, upstream and load the other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    missing_docs
)]

#[path = "peers/candidate.rs"]
mod candidate;
#[path = "peers/goals.rs"]
mod goals;
#[path = "peers/load.rs"]
mod load;
#[path = "peers/measure.rs"]
mod measure;
#[path = "peers/network.rs"]
mod network;
#[path = "peers/nginx.rs"]
mod nginx;
#[path = "peers/options.rs"]
mod options;
#[path = "peers/page.rs"]
mod page;
#[path = "peers/plot.rs"]
mod plot;
#[path = "peers/process.rs"]
mod process;
#[path = "peers/report.rs"]
mod report;
#[path = "peers/slow.rs"]
mod slow;
#[path = "peers/start.rs"]
mod start;
#[path = "peers/upstream.rs"]
mod upstream;
#[path = "peers/world.rs"]
mod world;

use std::fmt::Write as _;

use measure::{Figure, Work};
use report::{LARGE, MEDIUM, SMALL, TLS_LARGE};

/// Everybody.
const EVERYBODY: &[&str] = &[
    "gateway",
    "gateway-1",
    "gateway-100",
    "gateway-10000",
    "nginx-fixed",
    "nginx-url",
    "hyper-16k",
    "raw-copy",
    "raw-splice",
    "reqwest",
];
const BODIES: &[&str] =
    &["gateway", "nginx-fixed", "nginx-big", "hyper-16k", "hyper-1m", "raw-copy", "raw-splice", "reqwest"];
const TLS: &[&str] = &["gateway", "nginx-big", "hyper-16k", "hyper-1m", "reqwest"];
/// nginx with its default buffers would write 512 times 200 MB to the disk.
const SLOW: &[&str] = &["gateway", "nginx-big", "hyper-16k", "hyper-1m", "reqwest"];
const ALONE: &[&str] = &["gateway"];

/// What is compared.
const COMPARED: &[(Work, &[&str])] =
    &[(SMALL, EVERYBODY), (MEDIUM, BODIES), (LARGE, BODIES), (TLS_LARGE, TLS)];

/// The gateway's own table has these beside.
const OWN: &[(Work, &[&str])] = &[
    (Work::plain(1_000, 1), ALONE),
    (Work::plain(1_000, 512), ALONE),
    (Work::plain(100_000, 1), ALONE),
    (Work::plain(100_000, 512), ALONE),
    (Work::plain(10_000_000, 1), ALONE),
    (Work::plain(10_000_000, 64), ALONE),
    (Work::plain(10_000_000, 512), ALONE),
    (Work::plain(200_000_000, 1), ALONE),
    (Work::plain(200_000_000, 512), ALONE),
    (Work::secure(10_000_000, 1), ALONE),
    (Work::secure(10_000_000, 64), ALONE),
    (Work::secure(10_000_000, 512), ALONE),
    (Work::secure(200_000_000, 1), ALONE),
    (Work::secure(200_000_000, 512), ALONE),
];

const STREAMS: &[(u64, bool)] =
    &[(10_000_000, false), (200_000_000, false), (10_000_000, true), (200_000_000, true)];

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().is_some_and(|first| first == upstream::OPTION) {
        let mut next = || arguments.next().expect("the upstream's address and its files");
        upstream::serve(&next(), &next());
    }
    let Some(options) = options::Options::read() else { return };
    nginx::check();
    network::rehearse(&options.congestion);
    let programs = world::Programs::build(&options.candidates);
    let network = network::enter(&options.congestion);
    let world = world::World::start(programs);
    let mut around = rustix::thread::CpuSet::new();
    around.set(process::AROUND);
    rustix::thread::sched_setaffinity(None, &around).expect("two cores are needed");
    let beside = |names: &[&'static str]| -> Vec<_> {
        let builds = options.builds.iter().map(|build| build.name).filter(|_| names.contains(&"gateway"));
        names.iter().copied().chain(builds).collect()
    };
    let works: Vec<_> = COMPARED.iter().chain(OWN).map(|(work, names)| (*work, beside(names))).collect();
    let results = measure::all(&world, &options, &works);
    let (mut streams, mut starts) = (Vec::new(), start::Starts::default());
    if options.memory {
        streams = slow::all(&world, &options, &beside(SLOW), STREAMS);
        if options.candidates.iter().any(|one| one.name == "gateway-10000") {
            starts = start::Starts::measure(&world, options.rounds);
        }
    }
    let rows = goals::rows(&results, &streams, &starts);
    let waited = results.overall(Figure::Waited);
    let rough = options.rounds < 3 || waited.is_some_and(|waited| waited.middle > 0.05);
    // A verdict from one short round is none; whoever reads the tables has to see how they were made.
    let mut tables = format!(
        "Rounds: {}, of {:.1} s a cell after {:.1} s of warming up; slow streams: {} fresh processes, {:.0} s. Congestion control: \
         {network}.{}\n\n",
        options.rounds,
        options.run.as_secs_f64(),
        options.warm.as_secs_f64(),
        if options.memory { options.rounds.min(slow::ROUNDS) } else { 0 },
        options.settle.as_secs_f64(),
        if rough { " **Too few rounds or too busy a machine: pass and fail are provisional.**" } else { "" },
    );
    for (work, names) in works.iter().take(COMPARED.len()) {
        writeln!(tables, "{}", report::cells(&results, *work, names)).unwrap();
    }
    writeln!(tables, "The gateway over sizes and connections:\n\n{}", report::matrix(&results, "gateway"))
        .unwrap();
    writeln!(tables, "Slow streams, {} at once:\n\n{}", slow::STREAMS, report::slow(&streams)).unwrap();
    writeln!(
        tables,
        "Part of the measured time in which a candidate waited for its core, median over all cells (least to most): {}.",
        report::spread(waited, 2)
    )
    .unwrap();
    println!("{}\n{tables}", goals::table(&rows));
    if options.write {
        page::write(&rows, tables.trim_end());
    }
}
