//! `usage`: what each tenant downloaded, added up from decision records.

mod table;

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use jiff::civil::Date;
use sluicegate::gate::id::TenantName;
use sluicegate::wire::usage::records::{Found, Line, MAX_LINE_BYTES, next_line, read};
use sluicegate::wire::usage::sums::{Choice, Sums};

use crate::output::{complain, print};
use crate::{Failure, Verdict};

/// How many unreadable records are named.
const NAMED: u64 = 5;

const AFTER_HELP: &str = "The records are those of a log in JSON (`log = \"json\"`) or of `usage.file`; other lines are \
passed over. A request counts once, however often its record is there. Bytes are those that were handed to the client's \
connection. Days are those of UTC, by the time at which a request ended.

Exit status: 1 if a tenant's record cannot be read, or if there is no record at all; 2 if a file cannot be read.";

#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Logs or usage files; `-`, or none, for standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The first day, such as 2026-11-01
    #[arg(long, value_name = "DAY", value_parser = day)]
    from: Option<Date>,
    /// The last day
    #[arg(long, value_name = "DAY", value_parser = day)]
    to: Option<Date>,
    /// This tenant alone
    #[arg(long, value_name = "NAME", value_parser = tenant)]
    tenant: Option<String>,
    /// What has a row of its own, beside the day
    #[arg(long, value_enum, default_value = "tenant")]
    by: By,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print CSV, without the total
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Tenant,
    Key,
}

fn day(text: &str) -> Result<Date, String> {
    // Other spellings of a day exist, and a time of day behind it would mean nothing.
    let plain = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    text.parse().ok().filter(|_| plain).ok_or_else(|| "no such day; write one such as 2026-11-24".to_owned())
}

fn tenant(text: &str) -> Result<String, String> {
    TenantName::parse(text).map(|name| name.to_string()).map_err(|fault| fault.to_string())
}

/// Everything that was read.
struct Reading {
    sums: Sums,
    /// Decision records, of whatever request.
    records: u64,
    unreadable: u64,
    /// The days of all tenants' records, chosen or not.
    span: Option<(Date, Date)>,
}

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from > to
    {
        return Err(format!("`{from}` is after `{to}`; write the earlier day behind --from"));
    }
    let choice =
        Choice { from: args.from, to: args.to, tenant: args.tenant.clone(), by_key: args.by == By::Key };
    let mut reading = Reading { sums: Sums::new(choice), records: 0, unreadable: 0, span: None };
    let standard_input = [PathBuf::from("-")];
    let files = if args.files.is_empty() { &standard_input[..] } else { &args.files };
    for file in files {
        reading.open(file)?;
    }
    if reading.records == 0 && reading.unreadable == 0 {
        complain(
            "no decision records in what was read; is `log = \"json\"` set, and is this the server's log or its `usage.file`?",
        );
        return Ok(Verdict::Bad);
    }
    print(&table::render(args, &reading))?;
    Ok(reading.remark())
}

impl Reading {
    /// Reads a file to its end. What cannot be read whole gives no sums: they would look like those of all of it.
    fn open(&mut self, file: &Path) -> Result<(), Failure> {
        if file == Path::new("-") {
            let input = io::stdin();
            if input.is_terminal() {
                return Err("there is nothing to read; name a log file, or pipe a log in".to_owned());
            }
            return self.read(&mut input.lock(), "standard input");
        }
        let name = file.display().to_string();
        let opened = File::open(file).map_err(|error| {
            format!("cannot read `{name}`: {error}; name a log in JSON, or the server's `usage.file`")
        })?;
        self.read(&mut BufReader::with_capacity(1 << 16, opened), &name)
    }

    fn read(&mut self, input: &mut impl BufRead, name: &str) -> Result<(), Failure> {
        let cannot =
            |error: io::Error| format!("cannot read `{name}` to its end: {error}; nothing was added up");
        if input.fill_buf().map_err(cannot)?.starts_with(b"\x1f\x8b") {
            return Err(format!("`{name}` is compressed; run `zcat {name} | sluicegate usage`"));
        }
        let (mut line, mut number) = (Vec::new(), 0_u64);
        loop {
            number += 1;
            match next_line(input, &mut line).map_err(cannot)? {
                Line::End => return Ok(()),
                Line::Read => read(&line, &mut |found| self.take(found, name, number)),
                Line::TooLong => {
                    let reason = format!("a line of more than {MAX_LINE_BYTES} bytes");
                    self.take(Found::Unreadable(reason), name, number);
                }
            }
        }
    }

    fn take(&mut self, found: Found<'_>, name: &str, number: u64) {
        match found {
            Found::Other => {}
            Found::Unproven => self.records += 1,
            Found::Used(used) => {
                self.records += 1;
                let (first, last) = self.span.unwrap_or((used.day, used.day));
                self.span = Some((first.min(used.day), last.max(used.day)));
                self.sums.add(&used);
            }
            Found::Unreadable(reason) => {
                self.unreadable += 1;
                if self.unreadable <= NAMED {
                    complain(&format!("{name}:{number}: a record that cannot be counted: {reason}"));
                }
            }
        }
    }

    /// What somebody who reads the sums has to know.
    fn remark(&self) -> Verdict {
        if self.sums.duplicates() > 0 {
            complain(&format!(
                "{} records were there once more and are counted once",
                self.sums.duplicates()
            ));
        }
        if self.sums.rows().next().is_none()
            && let Some((first, last)) = self.span
        {
            complain(&format!(
                "none of the records is one of those asked for; there are some of {first} to {last}"
            ));
        }
        if self.unreadable == 0 {
            return Verdict::Good;
        }
        complain(&format!(
            "{} records cannot be counted and are in no sum; look at them by hand",
            self.unreadable
        ));
        Verdict::Bad
    }
}
