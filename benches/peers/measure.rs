//! Cells and their samples: one candidate, one kind of work, one round.

use std::time::Duration;

use super::candidate::{Candidate, Named};
use super::load::{self, Plan};
use super::options::Options;
use super::world::World;

/// What a candidate is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Work {
    pub(crate) size: u64,
    pub(crate) connections: usize,
    pub(crate) secure: bool,
}

impl Work {
    pub(crate) const fn plain(size: u64, connections: usize) -> Self {
        Self { size, connections, secure: false }
    }

    pub(crate) const fn secure(size: u64, connections: usize) -> Self {
        Self { size, connections, secure: true }
    }
}

/// A figure of one round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Figure {
    /// Answers a second, by the bytes that came: of 200 MB few end in the measured time.
    Rate,
    /// Microseconds of processor per answer.
    PerRequest,
    /// Seconds of processor per 10^9 bytes of bodies.
    PerGigabyte,
    /// Microseconds from request to the end of its answer.
    Median,
    P99,
    /// The most resident memory in KiB.
    Peak,
    /// Part of the time in which the candidate could have run and something else had its core.
    Waited,
}

/// All figures of one round. Beside them, for whoever watches: `busy`, the part of its core that the candidate used.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    rate: f64,
    per_request: f64,
    per_gigabyte: f64,
    median: f64,
    p99: f64,
    peak: f64,
    busy: f64,
    waited: f64,
}

impl Sample {
    fn get(&self, figure: Figure) -> f64 {
        match figure {
            Figure::Rate => self.rate,
            Figure::PerRequest => self.per_request,
            Figure::PerGigabyte => self.per_gigabyte,
            Figure::Median => self.median,
            Figure::P99 => self.p99,
            Figure::Peak => self.peak,
            Figure::Waited => self.waited,
        }
    }
}

/// Median, least and most over the rounds.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) middle: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let half = values.len() / 2;
        let middle =
            if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) };
        Some(Self { middle, least, most })
    }
}

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Results(Vec<(&'static str, Work, Vec<Sample>)>);

impl Results {
    fn add(&mut self, name: &'static str, work: Work, sample: Sample) {
        match self.0.iter_mut().find(|cell| cell.0 == name && cell.1 == work) {
            Some(cell) => cell.2.push(sample),
            None => self.0.push((name, work, vec![sample])),
        }
    }

    fn samples(&self, name: &str, work: Work) -> &[Sample] {
        self.0.iter().find(|cell| cell.0 == name && cell.1 == work).map_or(&[], |cell| &cell.2)
    }

    /// The figure in all cells together.
    pub(crate) fn overall(&self, figure: Figure) -> Option<Spread> {
        Spread::of(self.0.iter().flat_map(|cell| &cell.2).map(|sample| sample.get(figure)))
    }

    pub(crate) fn get(&self, name: &str, work: Work, figure: Figure) -> Option<Spread> {
        Spread::of(self.samples(name, work).iter().map(|sample| sample.get(figure)))
    }

    /// `name` against `peer`, round by round: a machine whose speed changes from one round to the next changes it for both.
    pub(crate) fn ratio(&self, name: &str, peer: &str, work: Work, figure: Figure) -> Option<Spread> {
        let (ours, theirs) = (self.samples(name, work), self.samples(peer, work));
        Spread::of(ours.iter().zip(theirs).map(|(one, two)| one.get(figure) / two.get(figure)))
    }
}

/// Measures `works`, each with the candidates named beside it: round by round, candidates in turn.
pub(crate) fn all(world: &World, options: &Options, works: &[(Work, Vec<&str>)]) -> Results {
    let mut results = Results::default();
    let wanted = |work: &Work| {
        options.sizes.contains(&work.size)
            && options.connections.contains(&work.connections)
            && (options.tls || !work.secure)
    };
    for (work, names) in works.iter().filter(|(work, _)| wanted(work)) {
        let chosen: Vec<_> =
            options.candidates.iter().filter(|one| names.contains(&one.name)).copied().collect();
        // Fresh ones for each work, so that none carries what the last one left behind.
        let running: Vec<(Named, Candidate)> =
            chosen.iter().map(|named| (*named, Candidate::start(world, *named))).collect();
        for round in 1..=options.rounds {
            for (named, candidate) in &running {
                let sample = one(world, options, candidate, *work);
                eprintln!(
                    "{:>13} {:>9} x {:<3}{} round {round}: {:>9.1}/s, {:>7.1} us, {:>6.3} s/GB, p50 {:.0} p99 {:.0} us, {:.0} KiB, busy {:.0} %, waited {:.0} %",
                    named.name,
                    work.size,
                    work.connections,
                    if work.secure { " TLS" } else { "" },
                    sample.rate,
                    sample.per_request,
                    sample.per_gigabyte,
                    sample.median,
                    sample.p99,
                    sample.peak,
                    sample.busy * 100.0,
                    sample.waited * 100.0,
                );
                results.add(named.name, *work, sample);
            }
        }
    }
    results
}

fn one(world: &World, options: &Options, candidate: &Candidate, work: Work) -> Sample {
    let target = candidate.target(world, work.secure, work.size);
    let plan = Plan { connections: work.connections, warm: options.warm, run: options.run };
    candidate.process.forget_peak();
    let mut marks = Vec::<(Duration, Duration)>::new();
    let outcome = load::run(&target, plan, &mut || marks.push(candidate.process.cpu()));
    let cpu = marks[1].0.saturating_sub(marks[0].0).as_secs_f64();
    let waited = marks[1].1.saturating_sub(marks[0].1).as_secs_f64();
    let answers = outcome.bytes as f64 / work.size as f64;
    Sample {
        rate: answers / outcome.seconds,
        per_request: cpu * 1e6 / answers,
        per_gigabyte: cpu * 1e9 / outcome.bytes as f64,
        median: outcome.time(0.5).unwrap_or(f64::NAN),
        p99: outcome.time(0.99).unwrap_or(f64::NAN),
        peak: candidate.process.peak() as f64,
        busy: cpu / outcome.seconds,
        waited: waited / outcome.seconds,
    }
}
