//! Memory for each of many clients that read slowly: how much a process holds with them beyond what it holds without.

use std::time::{Duration, Instant};

use super::candidate::{Candidate, Named};
use super::load::{self, Connection, Plan};
use super::measure::Spread;
use super::options::Options;
use super::world::World;

/// How many read at once.
pub(crate) const STREAMS: usize = 512;
/// What each reads in a second.
const PIECE: usize = 32 * 1024;
const PACE: Duration = Duration::from_secs(1);
/// The most fresh processes of each candidate.
pub(crate) const ROUNDS: usize = 3;
/// Within which every stream has to have begun, and to have settled.
const PATIENCE: Duration = Duration::from_secs(60);

/// One candidate with one kind of file.
pub(crate) struct Slow {
    pub(crate) name: &'static str,
    pub(crate) size: u64,
    pub(crate) secure: bool,
    /// KiB for each stream once settled, and at most on the way there; a value a round.
    settled: Vec<f64>,
    most: Vec<f64>,
}

impl Slow {
    pub(crate) fn settled(&self) -> Option<Spread> {
        Spread::of(self.settled.iter().copied())
    }

    pub(crate) fn most(&self) -> Option<Spread> {
        Spread::of(self.most.iter().copied())
    }
}

/// Measures each of `names` with each kind of file; `rounds` fresh processes each.
pub(crate) fn all(world: &World, options: &Options, names: &[&str], works: &[(u64, bool)]) -> Vec<Slow> {
    let rounds = options.rounds.min(ROUNDS);
    let mut all = Vec::new();
    for (size, secure) in
        works.iter().filter(|(size, secure)| options.sizes.contains(size) && (options.tls || !secure))
    {
        let chosen: Vec<_> = options.candidates.iter().filter(|one| names.contains(&one.name)).collect();
        let mut rows: Vec<_> = chosen
            .iter()
            .map(|one| Slow {
                name: one.name,
                size: *size,
                secure: *secure,
                settled: Vec::new(),
                most: Vec::new(),
            })
            .collect();
        for round in 1..=rounds {
            for (row, named) in rows.iter_mut().zip(&chosen) {
                let (settled, most) = one(world, options, **named, *size, *secure);
                eprintln!(
                    "{:>13} {size:>9} slow{} round {round}: {settled:.1} KiB a stream, at most {most:.1}",
                    row.name,
                    if *secure { " TLS" } else { "" },
                );
                row.settled.push(settled);
                row.most.push(most);
            }
        }
        all.append(&mut rows);
    }
    all
}

fn one(world: &World, options: &Options, named: Named, size: u64, secure: bool) -> (f64, f64) {
    let candidate = Candidate::start(world, named);
    // Code is paged in, and the pool has connections.
    let warm = Plan { connections: 64, warm: Duration::ZERO, run: Duration::from_secs(1) };
    load::run(&candidate.target(world, secure, 1_000), warm, &mut || {});
    std::thread::sleep(Duration::from_millis(500));
    let idle = candidate.process.pss();
    let target = candidate.target(world, secure, size);
    let mut streams: Vec<_> = (0..STREAMS).map(|number| Connection::open(&target, number)).collect();
    let mut buffer = vec![0; PIECE];
    let (mut heard, mut most, mut settled) = (vec![false; STREAMS], idle, idle);
    let (begun, mut turn, mut all_heard) = (Instant::now(), 0_u32, None::<Instant>);
    // In each turn every stream reads once; the streams are spread over the turn. The time counts from when each has begun.
    while all_heard.is_none_or(|since| since.elapsed() < options.settle) {
        assert!(begun.elapsed() < PATIENCE, "{}: a slow stream brought nothing", named.name);
        for (number, stream) in streams.iter_mut().enumerate() {
            let due = PACE * turn + PACE * u32::try_from(number).unwrap() / u32::try_from(STREAMS).unwrap();
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            heard[number] |= stream.read(&target, &mut buffer).body > 0;
            if number % (STREAMS / 4) == 0 {
                settled = candidate.process.pss();
                most = most.max(settled);
            }
        }
        turn += 1;
        if all_heard.is_none() && heard.iter().all(|heard| *heard) {
            all_heard = Some(Instant::now());
        }
    }
    let each = |pss: u64| (pss.saturating_sub(idle)) as f64 / STREAMS as f64;
    (each(settled), each(most))
}
