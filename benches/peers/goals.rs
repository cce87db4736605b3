//! What the server door is held against: where it is to be ahead of its peers, and the goals beyond.

use std::fmt::Write as _;

use super::measure::{Figure, Results, Spread, Work};
use super::report::{LARGE, MEDIUM, SMALL, TLS_LARGE, spread};
use super::slow::Slow;
use super::start::Starts;

/// One figure and its limit.
pub(crate) struct Check {
    /// What the figure is relative to, or its unit.
    pub(crate) of: &'static str,
    pub(crate) value: Option<Spread>,
    pub(crate) limit: f64,
    /// Is more better?
    pub(crate) at_least: bool,
}

impl Check {
    fn new(of: &'static str, value: Option<Spread>, limit: f64) -> Self {
        Self { of, value, limit, at_least: false }
    }

    fn at_least(self) -> Self {
        Self { at_least: true, ..self }
    }

    /// Nothing if it was not measured.
    pub(crate) fn holds(&self) -> Option<bool> {
        let value = self.value?.middle;
        Some(if self.at_least { value >= self.limit } else { value <= self.limit })
    }

    fn cell(&self) -> String {
        let sign = if self.at_least { "at least" } else { "at most" };
        let verdict = match self.holds() {
            None => "not measured",
            Some(true) => "pass",
            Some(false) => "**fail**",
        };
        let digits = if self.limit >= 20.0 { 1 } else { 2 };
        format!("{} {}; {sign} {}: {verdict}", spread(self.value, digits), self.of, self.limit)
    }
}

/// A line of the table.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) ahead: Option<Check>,
    pub(crate) goal: Option<Check>,
}

/// Every line.
pub(crate) fn rows(results: &Results, slow: &[Slow], starts: &Starts) -> Vec<Row> {
    let mut rows = speed(results);
    rows.extend(memory(slow));
    rows.extend(tenants(results, starts));
    rows
}

fn speed(results: &Results) -> Vec<Row> {
    let cpu = |peer, work: Work, figure, limit| {
        Some(Check::new(peer, results.ratio("gateway", peer, work, figure), limit))
    };
    let rate = |limit| {
        let ratio = results.ratio("gateway", "nginx-url", SMALL, Figure::Rate);
        Some(Check::new("nginx-url", ratio, limit).at_least())
    };
    let (request, gigabyte) = (Figure::PerRequest, Figure::PerGigabyte);
    // Whichever read size of the two does better there.
    let cost = |name| results.get(name, TLS_LARGE, gigabyte).map_or(f64::INFINITY, |spread| spread.middle);
    let hyper = if cost("hyper-1m") < cost("hyper-16k") { "hyper-1m" } else { "hyper-16k" };
    vec![
        Row {
            what: "1 KB, 64 connections: CPU per request",
            ahead: cpu("nginx-url", SMALL, request, 0.30),
            goal: cpu("nginx-fixed", SMALL, request, 1.35),
        },
        Row { what: "1 KB: requests/s", ahead: rate(3.5), goal: rate(4.0) },
        Row { what: "1 KB: p99", ahead: None, goal: cpu("nginx-fixed", SMALL, Figure::P99, 1.2) },
        Row {
            what: "100 KB: CPU",
            ahead: cpu("nginx-fixed", MEDIUM, request, 0.5),
            goal: cpu("raw-copy", MEDIUM, request, 1.1),
        },
        Row {
            what: "200 MB: CPU per GB",
            ahead: cpu("nginx-big", LARGE, gigabyte, 0.95),
            goal: cpu("raw-splice", LARGE, gigabyte, 1.3),
        },
        Row {
            what: "200 MB over TLS upstream: CPU per GB",
            ahead: cpu("nginx-big", TLS_LARGE, gigabyte, 0.95),
            goal: cpu(hyper, TLS_LARGE, gigabyte, 1.05),
        },
    ]
}

fn memory(slow: &[Slow]) -> Vec<Row> {
    let row = |what, size, secure, ahead, goal| {
        let one = slow.iter().find(|one| one.name == "gateway" && one.size == size && one.secure == secure);
        let settled = one.and_then(Slow::settled);
        Row {
            what,
            ahead: Some(Check::new("KiB", settled, ahead)),
            goal: Some(Check::new("KiB", settled, goal)),
        }
    };
    vec![
        row("KiB per slow stream, 512 of 10 MB", 10_000_000, false, 75.0, 55.0),
        row("KiB per slow stream, 512 of 200 MB", 200_000_000, false, 75.0, 55.0),
        row("the same over TLS, 10 MB", 10_000_000, true, 120.0, 90.0),
        row("the same over TLS, 200 MB", 200_000_000, true, 120.0, 90.0),
    ]
}

fn tenants(results: &Results, starts: &Starts) -> Vec<Row> {
    let ratio = results.ratio("gateway-10000", "gateway-1", SMALL, Figure::PerRequest);
    vec![
        Row {
            what: "10,000 tenants: start to first connection",
            ahead: Some(Check::new("s", starts.seconds(), 1.0)),
            goal: None,
        },
        Row {
            what: "10,000 tenants: resident memory",
            ahead: Some(Check::new("MB", starts.megabytes(), 50.0)),
            goal: None,
        },
        Row {
            what: "10,000 tenants, asked in turn: CPU per request",
            ahead: None,
            goal: Some(Check::new("one tenant", ratio, 1.0)),
        },
    ]
}

/// As a table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from("| | ahead of the peers | goal |\n|---|---|---|\n");
    for row in rows {
        let cell = |check: &Option<Check>| check.as_ref().map_or(String::new(), Check::cell);
        writeln!(text, "| {} | {} | {} |", row.what, cell(&row.ahead), cell(&row.goal)).unwrap();
    }
    text
}
