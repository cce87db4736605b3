//! What was measured, as tables.

use std::fmt::Write as _;

use super::measure::{Figure, Results, Spread, Work};
use super::slow::Slow;

pub(crate) const SMALL: Work = Work::plain(1_000, 64);
pub(crate) const MEDIUM: Work = Work::plain(100_000, 64);
pub(crate) const LARGE: Work = Work::plain(200_000_000, 64);
pub(crate) const TLS_LARGE: Work = Work::secure(200_000_000, 64);

/// A file's size, as people say it.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        1_000_000.. => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} KB", bytes / 1_000),
    }
}

/// One work: a row for each candidate.
pub(crate) fn cells(results: &Results, work: Work, names: &[&str]) -> String {
    let mut table = format!(
        "{}{}, {} connections:\n\n| | answers/s | CPU per answer, us | CPU per GB, s | p50, us | p99, us | peak RSS, MiB |\n\
         |---|---|---|---|---|---|---|\n",
        size(work.size),
        if work.secure { " over TLS" } else { "" },
        work.connections
    );
    for name in names {
        let get = |figure| results.get(name, work, figure);
        if get(Figure::Rate).is_none() {
            continue;
        }
        writeln!(
            table,
            "| {name} | {} | {} | {} | {} | {} | {} |",
            spread(get(Figure::Rate), usize::from(work.size >= 1_000_000)),
            spread(get(Figure::PerRequest), usize::from(work.size < 1_000_000)),
            spread(get(Figure::PerGigabyte), 3),
            middle(get(Figure::Median), 0, 1.0),
            middle(get(Figure::P99), 0, 1.0),
            middle(get(Figure::Peak), 1, 1.0 / 1024.0),
        )
        .unwrap();
    }
    table
}

pub(crate) fn middle(value: Option<Spread>, digits: usize, times: f64) -> String {
    value.map_or("-".to_owned(), |value| format!("{:.digits$}", value.middle * times))
}

pub(crate) fn spread(value: Option<Spread>, digits: usize) -> String {
    value.map_or("-".to_owned(), |value| {
        format!("{:.digits$} ({:.digits$} to {:.digits$})", value.middle, value.least, value.most)
    })
}

/// One candidate over sizes and connections, and where a step to more connections makes an answer much dearer.
pub(crate) fn matrix(results: &Results, name: &str) -> String {
    const CONNECTIONS: [usize; 3] = [1, 64, 512];
    let mut table = String::from(
        "| | connections | answers/s | CPU per answer, us | CPU per GB, s | p50, ms | p99, ms | |\n|---|---|---|---|---|---|---|---|\n",
    );
    let large = super::world::SIZES.into_iter().filter(|size| *size >= 10_000_000);
    let kinds =
        super::world::SIZES.into_iter().map(|size| (size, false)).chain(large.map(|size| (size, true)));
    for (size, secure) in kinds {
        let mut before = None::<f64>;
        for connections in CONNECTIONS {
            let get = |figure| results.get(name, Work { size, connections, secure }, figure);
            let cost = get(Figure::PerRequest).map(|spread| spread.middle);
            let times = cost.zip(before).map(|(cost, before)| cost / before);
            let remark =
                times.filter(|times| *times > 1.25).map(|times| format!("cliff: {times:.2} times the CPU"));
            before = cost;
            writeln!(
                table,
                "| {}{} | {connections} | {} | {} | {} | {} | {} | {} |",
                self::size(size),
                if secure { ", TLS" } else { "" },
                spread(get(Figure::Rate), usize::from(size >= 1_000_000)),
                spread(get(Figure::PerRequest), usize::from(size < 1_000_000)),
                middle(get(Figure::PerGigabyte), 3, 1.0),
                middle(get(Figure::Median), 2, 1e-3),
                middle(get(Figure::P99), 2, 1e-3),
                remark.unwrap_or_default(),
            )
            .unwrap();
        }
    }
    table
}

/// Slow streams.
pub(crate) fn slow(all: &[Slow]) -> String {
    let mut table =
        String::from("| | file | upstream | KiB per stream, settled | at most |\n|---|---|---|---|---|\n");
    for one in all {
        let upstream = if one.secure { "TLS" } else { "plain" };
        let (settled, most) = (spread(one.settled(), 1), spread(one.most(), 1));
        writeln!(table, "| {} | {} | {upstream} | {settled} | {most} |", one.name, size(one.size)).unwrap();
    }
    table
}
