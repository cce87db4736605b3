//! The Lambda door next to `lambda_runtime` as it comes, behind the same stand-in Runtime API, in one run: A B A B. Prints
//! the table of `docs/performance.md`. `cargo bench --bench lambda`
//!
//! All programs are built by this one: `bootstrap` as it is deployed, by `release/function`, which needs what `aws/setup`
//! installs and x86-64; the same as cargo alone builds it, and so the others: release, without command line and server.
//! Other builds of the function join the table with `cargo bench --bench lambda -- NAME=PATH ...`; that is how a choice is
//! measured.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    missing_docs
)]

#[path = "peers/network.rs"]
mod network;
#[path = "../tests/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use support::{Function, Link, Posted, Process, RuntimeApi, Setup, Step, Upstream, event};

const ROUNDS: usize = 30;
const WARM: usize = 50;
const TRANSFERS: usize = 5;
const LARGE: u64 = 200_000_000;
const MIB: f64 = 1024.0 * 1024.0;

/// One program under measurement.
struct Candidate {
    name: String,
    binary: PathBuf,
    asked: Asked,
    starts: Vec<Duration>,
    faults: Vec<f64>,
    /// Processor milliseconds of a start.
    efforts: Vec<f64>,
    first_bytes: Vec<Duration>,
    rates: Vec<f64>,
    /// Processor seconds for a gigabyte.
    costs: Vec<f64>,
    idle: u64,
    peak: u64,
}

/// What a candidate is asked by.
#[derive(Clone, Copy, PartialEq)]
enum Asked {
    /// The gateway: a link to a file of the upstream.
    Link,
    /// The sample: the file's URL. Its client is made at the start, or with the first request.
    Url { lazy: bool },
    /// The runtime alone: how many zeros it shall make up.
    Length,
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    network::rehearse(network::USUAL);
    let (deployed, folder) = (deployed(), build());
    println!("Congestion control: {}.", network::enter(network::USUAL));
    let stock = format!("lambda_runtime {}", version_of("lambda_runtime"));
    let upstream = Upstream::start(|request| match request.target() {
        "/large" => vec![head(LARGE), Step::Zeros(LARGE)],
        _ => vec![head(1000), Step::Zeros(1000)],
    });
    let sample = || folder.join("examples/sample");
    let mut candidates = vec![
        Candidate::new("bootstrap", deployed, Asked::Link),
        Candidate::new("the same by `cargo build --release`", folder.join("bootstrap"), Asked::Link),
        Candidate::new("the sample, its client made at the start", sample(), Asked::Url { lazy: false }),
        Candidate::new("the sample, its client made when needed", sample(), Asked::Url { lazy: true }),
        Candidate::new(&format!("{stock}, zeros made up"), folder.join("examples/stock"), Asked::Length),
    ];
    candidates.extend(std::env::args().filter_map(|argument| {
        let (name, path) = argument.split_once('=')?;
        Some(Candidate::new(name, path.into(), Asked::Link))
    }));
    for _ in 0..ROUNDS {
        for candidate in &mut candidates {
            candidate.start_once(&upstream);
        }
    }
    for candidate in &mut candidates {
        candidate.serve(&upstream);
    }
    print(&candidates);
}

fn head(length: u64) -> Step {
    Step::Send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes())
}

/// The function as it is deployed.
fn deployed() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("release/function"));
    command.env("CARGO_TARGET_DIR", root.join("target/lambda")).stderr(std::process::Stdio::inherit());
    let built = command.output().unwrap();
    assert!(built.status.success(), "the build failed; see above");
    String::from_utf8(built.stdout).unwrap().trim_end().into()
}

fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("target/lambda");
    // Apart, since an example brings the features of what only tests depend on.
    for what in [["--bin", "bootstrap"], ["--example", "stock"], ["--example", "sample"]] {
        let built = Command::new(env!("CARGO"))
            .current_dir(root)
            .args(["build", "--release", "--locked", "--no-default-features", "--features", "lambda"])
            .args(what)
            .arg("--target-dir")
            .arg(&target)
            .status()
            .unwrap();
        assert!(built.success(), "the build failed; see above");
    }
    target.join("release")
}

fn version_of(name: &str) -> String {
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    let entry =
        lock.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{name}\"\n"))).unwrap();
    entry.lines().find_map(|line| line.strip_prefix("version = ")).unwrap().trim_matches('"').to_owned()
}

impl Candidate {
    fn new(name: &str, binary: PathBuf, asked: Asked) -> Self {
        Self {
            name: name.to_owned(),
            binary,
            asked,
            starts: Vec::new(),
            faults: Vec::new(),
            efforts: Vec::new(),
            first_bytes: Vec::new(),
            rates: Vec::new(),
            costs: Vec::new(),
            idle: 0,
            peak: 0,
        }
    }

    /// From the start of the process to its first poll for an invocation.
    fn start(&self, api: &RuntimeApi, upstream: &Upstream) -> (Process, Duration) {
        let mut setup = Setup::new(upstream).default_variable("AWS_LAMBDA_LOG_LEVEL", "ERROR");
        if self.asked == (Asked::Url { lazy: true }) {
            setup = setup.variable("SAMPLE_CLIENT", "lazy");
        }
        let began = Instant::now();
        let process = Function::spawn(Command::new(&self.binary), api, setup);
        api.wait_polls(1);
        (process, began.elapsed())
    }

    fn start_once(&mut self, upstream: &Upstream) {
        let api = RuntimeApi::start();
        let (mut process, time) = self.start(&api, upstream);
        self.faults.push(process.minor_faults() as f64);
        self.efforts.push(process.cpu_time().as_secs_f64() * 1e3);
        process.end();
        self.starts.push(time);
    }

    fn query(&self, upstream: &Upstream, path: &str, length: u64) -> String {
        match self.asked {
            Asked::Link => Link::to(&format!("http://files.test.example{path}")).query(),
            Asked::Url { .. } => format!("url=http://{}{path}", upstream.address()),
            Asked::Length => length.to_string(),
        }
    }

    fn serve(&mut self, upstream: &Upstream) {
        let api = RuntimeApi::start();
        let (mut process, _) = self.start(&api, upstream);
        let (small, large) = (self.query(upstream, "/small", 1000), self.query(upstream, "/large", LARGE));
        let invoke = |query: &str, length: u64| -> Posted {
            let posted = api.posted(&api.invoke(&event("GET", "/", query, &[])));
            assert!(posted.whole && posted.body().len() as u64 == length, "{}", posted.head);
            posted
        };
        invoke(&small, 1000);
        self.idle = process.rss();
        self.first_bytes = (0..WARM).map(|_| invoke(&small, 1000).first_byte.unwrap()).collect();
        for _ in 0..TRANSFERS {
            let before = process.cpu_time();
            let posted = invoke(&large, LARGE);
            self.costs.push(process.cpu_time().saturating_sub(before).as_secs_f64() * 1e9 / LARGE as f64);
            self.rates.push(LARGE as f64 / posted.total.as_secs_f64() / 1e6);
        }
        self.peak = process.peak_rss();
        process.end();
    }
}

fn print(candidates: &[Candidate]) {
    println!(
        "| | start to first `/next` | CPU | page faults | warm: `/next` to first byte | 200 MB | CPU for 1 GB | \
         idle memory | peak memory | binary |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for candidate in candidates {
        let size = std::fs::metadata(&candidate.binary).unwrap().len();
        println!(
            "| {} | {} | {:.2} ms | {:.0} | {} | {:.0} MB/s | {:.2} s | {:.1} MiB | {:.1} MiB | {:.1} MiB |",
            candidate.name,
            times(&candidate.starts),
            middle(&candidate.efforts),
            middle(&candidate.faults),
            times(&candidate.first_bytes),
            middle(&candidate.rates),
            middle(&candidate.costs),
            candidate.idle as f64 / MIB,
            candidate.peak as f64 / MIB,
            size as f64 / MIB,
        );
    }
}

/// Median, and the middle half in brackets.
fn times(times: &[Duration]) -> String {
    let mut ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    ms.sort_by(f64::total_cmp);
    let at = |part: usize| ms[(ms.len() - 1) * part / 4];
    format!("{:.2} ms ({:.2} to {:.2})", at(2), at(1), at(3))
}

fn middle(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
