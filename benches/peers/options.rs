//! What the command line asks for.

use std::time::Duration;

use super::candidate::{ALL, Named};
use super::world::SIZES;

const HELP: &str = "options behind `--`:
  --quick               a second and a half a cell, one round
  --only A,B            only these candidates
  --sizes 1000,100000   only files of these sizes
  --connections 1,64    only with so many connections
  --seconds N           how long each cell is measured (4)
  --rounds N            how often, candidates in turn (5)
  --no-memory           without the slow streams
  --write               write docs/performance.md and docs/performance.svg anew";

/// What to measure and how long.
pub(crate) struct Options {
    pub(crate) candidates: Vec<Named>,
    pub(crate) sizes: Vec<u64>,
    pub(crate) connections: Vec<usize>,
    pub(crate) warm: Duration,
    pub(crate) run: Duration,
    pub(crate) rounds: usize,
    /// How long slow streams are read before they count as settled.
    pub(crate) settle: Duration,
    pub(crate) memory: bool,
    pub(crate) write: bool,
}

impl Options {
    /// `None` if nothing is to be measured: `cargo test --benches` only wants to know that it builds.
    pub(crate) fn read() -> Option<Self> {
        let mut options = Self {
            candidates: ALL.to_vec(),
            sizes: SIZES.to_vec(),
            connections: vec![1, 64, 512],
            warm: Duration::from_secs(1),
            run: Duration::from_secs(4),
            rounds: 5,
            settle: Duration::from_secs(10),
            memory: true,
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
                "--sizes" => options.sizes = numbers(&value()),
                "--connections" => options.connections = numbers(&value()),
                "--seconds" => options.run = Duration::from_secs_f64(number(&value())),
                "--rounds" => options.rounds = number(&value()),
                "--no-memory" => options.memory = false,
                "--write" => options.write = true,
                "--help" => {
                    println!("{HELP}");
                    return None;
                }
                other => panic!("`{other}` is no option\n{HELP}"),
            }
        }
        wanted.then_some(options)
    }

    fn quick(&mut self) {
        self.warm = Duration::from_millis(300);
        self.run = Duration::from_millis(1500);
        self.settle = Duration::from_secs(4);
        self.rounds = 1;
    }
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
