//! Sums as a person, a program or a spreadsheet reads them.

use serde_json::json;
use sluicegate::wire::usage::sums::{Subject, Sum};

use super::{Args, By, Reading};

/// The numbers of a row, under their names.
fn numbers(sum: &Sum) -> [(&'static str, u64); 10] {
    [
        ("requests", sum.requests),
        ("downloads", sum.downloads),
        ("continued", sum.continued),
        ("whole", sum.whole),
        ("aborted", sum.aborted),
        ("refused", sum.refused),
        ("bodiless", sum.bodiless),
        ("resumed", sum.resumed),
        ("bytes", sum.bytes),
        ("transfer_ms", sum.transfer_ms),
    ]
}

pub(super) fn render(args: &Args, reading: &Reading) -> String {
    if args.json {
        return as_json(args, reading);
    }
    if args.csv {
        return as_csv(args, reading);
    }
    as_text(args, reading)
}

fn as_json(args: &Args, reading: &Reading) -> String {
    let row = |(subject, sum): (&Subject, &Sum)| {
        let mut row = json!(subject);
        if let (Some(row), serde_json::Value::Object(sum)) = (row.as_object_mut(), json!(sum)) {
            row.extend(sum);
        }
        row
    };
    let day = |day: Option<jiff::civil::Date>| day.map(|day| day.to_string());
    let document = json!({
        "from": day(args.from),
        "to": day(args.to),
        "tenant": args.tenant,
        "by": if args.by == By::Key { "key" } else { "tenant" },
        "rows": reading.sums.rows().map(row).collect::<Vec<_>>(),
        "total": reading.sums.total(),
        "duplicates": reading.sums.duplicates(),
        "unreadable": reading.unreadable,
    });
    format!("{document:#}\n")
}

/// The names of the columns that say what a row is about.
fn leads(args: &Args) -> Vec<String> {
    let names: &[&str] = if args.by == By::Key { &["tenant", "key", "day"] } else { &["tenant", "day"] };
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn lead(subject: &Subject) -> Vec<String> {
    // A token's key has an issuer in it, which is anything that a policy may say.
    let key = subject.key.as_ref().map(|key| key.escape_debug().to_string());
    [Some(subject.tenant.clone()), key, Some(subject.day.to_string())].into_iter().flatten().collect()
}

fn as_csv(args: &Args, reading: &Reading) -> String {
    let quote = |text: &String| {
        if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.clone() }
    };
    let names = numbers(&Sum::default()).map(|(name, _)| name.to_owned());
    let head = leads(args).into_iter().chain(names).collect::<Vec<_>>().join(",");
    let rows = reading.sums.rows().map(|(subject, sum)| {
        let cells = lead(subject).iter().map(quote).collect::<Vec<_>>();
        let sums = numbers(sum).map(|(_, number)| number.to_string());
        cells.into_iter().chain(sums).collect::<Vec<_>>().join(",")
    });
    std::iter::once(head).chain(rows).map(|line| line + "\n").collect()
}

fn as_text(args: &Args, reading: &Reading) -> String {
    let texts = |sum: &Sum| {
        numbers(sum).map(
            |(name, number)| {
                if name == "transfer_ms" { clock(number) } else { number.to_string() }
            },
        )
    };
    let names = numbers(&Sum::default()).map(|(name, _)| name.trim_end_matches("_ms").to_owned());
    let mut lines = vec![leads(args).into_iter().chain(names).collect::<Vec<_>>()];
    lines.extend(
        reading.sums.rows().map(|(subject, sum)| lead(subject).into_iter().chain(texts(sum)).collect()),
    );
    let mut total = vec![String::new(); leads(args).len()];
    if let Some(first) = total.first_mut() {
        "total".clone_into(first);
    }
    lines.push(total.into_iter().chain(texts(&reading.sums.total())).collect());
    aligned(&lines, leads(args).len())
}

/// Names to the left, numbers to the right.
fn aligned(lines: &[Vec<String>], names: usize) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let length = |text: &String| text.chars().count();
    let widths: Vec<_> = (0..columns)
        .map(|column| lines.iter().filter_map(|line| line.get(column)).map(length).max().unwrap_or(0))
        .collect();
    let row = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (text, width))| {
            if column < names { format!("{text:<width$}") } else { format!("{text:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(row).collect()
}

/// Hours, minutes and seconds.
fn clock(ms: u64) -> String {
    let seconds = ms / 1000;
    format!("{}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, ms % 1000)
}
