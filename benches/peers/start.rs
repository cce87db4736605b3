//! How long a gateway with ten thousand tenants takes to start, and what it then holds.

use super::candidate::{ALL, Candidate};
use super::measure::Spread;
use super::world::World;

/// A value a start.
#[derive(Default)]
pub(crate) struct Starts(Vec<(f64, f64)>);

impl Starts {
    pub(crate) fn measure(world: &World, rounds: usize) -> Self {
        let named = ALL.iter().find(|one| one.name == "gateway-10000").unwrap();
        let once = || {
            let started = Candidate::start(world, *named).process;
            (started.ready_after.as_secs_f64(), started.rss() as f64 * 1024.0 / 1e6)
        };
        let starts = Self((0..rounds).map(|_| once()).collect());
        eprintln!("10,000 tenants: {:?} s and MB", starts.0);
        starts
    }

    pub(crate) fn seconds(&self) -> Option<Spread> {
        Spread::of(self.0.iter().map(|start| start.0))
    }

    /// Of 10^6 bytes.
    pub(crate) fn megabytes(&self) -> Option<Spread> {
        Spread::of(self.0.iter().map(|start| start.1))
    }
}
