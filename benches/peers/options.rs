//! What the command line asks for.

use std::time::Duration;

use super::candidate::{ALL, Kind, Named};
use super::network;
use super::world::SIZES;

const HELP: &str = "options behind `--`:
  --quick               a second and a half a cell, one round
  --only A,B            only these candidates
  NAME=PATH             another build of the gateway, beside it in every table
  --alone               nobody but those builds
  --sizes 1000,100000   only files of these sizes
  --connections 1,64    only with so many connections
  --seconds N           how long each cell is measured (4)
  --rounds N            how often, candidates in turn (5)
  --congestion NAME     the congestion control, in a network of its own (cubic); `system` for the system's
  --no-memory           without the slow streams
  --no-tls              without the files from an upstream with TLS
  --write               write docs/performance.md and docs/performance.svg anew";

/// What to measure and how long.
pub(crate) struct Options {
    pub(crate) candidates: Vec<Named>,
    /// Other builds of the gateway.
    pub(crate) builds: Vec<Named>,
    pub(crate) sizes: Vec<u64>,
    pub(crate) connections: Vec<usize>,
    pub(crate) warm: Duration,
    pub(crate) run: Duration,
    pub(crate) rounds: usize,
    /// How long slow streams are read before they count as settled.
    pub(crate) settle: Duration,
    pub(crate) congestion: String,
    pub(crate) memory: bool,
    pub(crate) tls: bool,
    pub(crate) write: bool,
}

impl Options {
    /// `None` if nothing is to be measured: `cargo test --benches` only wants to know that it builds.
    pub(crate) fn read() -> Option<Self> {
        let mut options = Self {
            candidates: ALL.to_vec(),
            builds: Vec::new(),
            sizes: SIZES.to_vec(),
            connections: vec![1, 64, 512],
            warm: Duration::from_secs(1),
            run: Duration::from_secs(4),
            rounds: 5,
            settle: Duration::from_secs(10),
            congestion: network::USUAL.to_owned(),
            memory: true,
            tls: true,
            write: false,
        };
        let mut wanted = false;
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value\n{HELP}"));
            match argument.as_str() {
                "--bench" => wanted = true,
                "--quick" => options.quick(),
                "--only" => options.candidates = named(&value()),
                "--alone" => options.candidates.clear(),
                "--sizes" => options.sizes = numbers(&value()),
                "--connections" => options.connections = numbers(&value()),
                "--seconds" => options.run = Duration::from_secs_f64(number(&value())),
                "--rounds" => options.rounds = number(&value()),
                "--congestion" => options.congestion = value(),
                "--no-memory" => options.memory = false,
                "--no-tls" => options.tls = false,
                "--write" => options.write = true,
                "--help" => {
                    println!("{HELP}");
                    return None;
                }
                build if build.contains('=') => options.builds.push(another(build)),
                other => panic!("`{other}` is no option\n{HELP}"),
            }
        }
        options.candidates.extend(&options.builds);
        wanted.then_some(options)
    }

    fn quick(&mut self) {
        self.warm = Duration::from_millis(300);
        self.run = Duration::from_millis(1500);
        self.settle = Duration::from_secs(4);
        self.rounds = 1;
    }
}

/// They last as long as the program, as the names of all others do.
fn another(argument: &str) -> Named {
    let (name, path) = String::leak(argument.to_owned()).split_once('=').unwrap();
    // It is started in a folder of its own.
    let path = std::fs::canonicalize(path).unwrap_or_else(|error| panic!("`{path}`: {error}\n{HELP}"));
    Named { name, kind: Kind::Build(String::leak(path.into_os_string().into_string().unwrap())) }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is no number\n{HELP}"))
}

fn numbers<T: std::str::FromStr>(list: &str) -> Vec<T> {
    list.split(',').map(number).collect()
}

fn named(list: &str) -> Vec<Named> {
    let find = |name: &str| {
        let found = ALL.iter().find(|one| one.name == name).copied();
        found.unwrap_or_else(|| {
            let names: Vec<_> = ALL.iter().map(|one| one.name).collect();
            panic!("`{name}` is no candidate; there are {}", names.join(", "))
        })
    };
    list.split(',').map(find).collect()
}
