//! Decision records read back, out of whatever a log's way to here made of their lines: a time stamp or a container's name
//! in front, a line that ends with CR, several objects on one line, lines of others in between.

use std::borrow::Cow;
use std::io::{self, BufRead, Read as _};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use serde::Deserialize;
use serde_json::Deserializer;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::gate::id::TenantName;

/// The longest line that is read.
pub const MAX_LINE_BYTES: u64 = 1 << 20;
/// What every record of ours begins with. It cannot stand within one, where quotes are escaped.
const BEGINNING: &[u8] = b"{\"timestamp\":";
/// What only our records say.
const TARGET: &str = "sluicegate::decision";

/// What is in a piece of a log.
#[derive(Debug)]
pub enum Found<'l> {
    /// The record of a request that proved a tenant.
    Used(Used<'l>),
    /// The record of one that proved none.
    Unproven,
    /// Another line of the log.
    Other,
    /// A record, or what is left of one, that says too little to be counted; the text says why.
    Unreadable(String),
}

/// What a record says about usage.
#[derive(Debug, PartialEq, Eq)]
pub struct Used<'l> {
    /// Sixteen bytes in place of the request's id.
    pub id: [u8; 16],
    /// The day of its end, in UTC.
    pub day: Date,
    /// Whose usage it is.
    pub tenant: Cow<'l, str>,
    /// The key that proved it.
    pub key: Cow<'l, str>,
    /// How it ended.
    pub end: End,
    /// Body bytes that were sent.
    pub bytes: u64,
    /// How often the gateway went on after its upstream had broken off.
    pub resumed: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a body, from the file's first byte or from a later one, to its end or not.
    Body {
        /// It began with the first byte.
        from_start: bool,
        /// Every byte was sent.
        whole: bool,
    },
    /// Refused.
    Refused,
    /// No body was due, or the client left before the head.
    Bodiless,
}

#[derive(Deserialize)]
struct Head<'l> {
    #[serde(borrow)]
    target: Option<Cow<'l, str>>,
    #[serde(borrow)]
    tenant: Option<&'l RawValue>,
}

#[derive(Deserialize)]
struct Whole<'l> {
    timestamp: &'l str,
    #[serde(borrow)]
    request_id: Cow<'l, str>,
    #[serde(borrow)]
    tenant: Cow<'l, str>,
    #[serde(borrow)]
    key: Cow<'l, str>,
    status: u16,
    outcome: &'l str,
    range_from: Option<u64>,
    bytes: u64,
    #[serde(default)]
    resumed: u64,
    total_ms: u64,
}

/// Hands every piece of a line to `take`.
pub fn read(line: &[u8], take: &mut dyn FnMut(Found<'_>)) {
    let mut rest = line.iter().position(|byte| *byte == b'{').and_then(|start| line.get(start..));
    while let Some(text) = rest {
        let mut values = Deserializer::from_slice(text).into_iter::<&RawValue>();
        rest = if let Some(Ok(value)) = values.next() {
            take(sort(value.get()));
            text.get(values.byte_offset()..)
                .and_then(|after| after.get(after.iter().position(|byte| *byte == b'{')?..))
        } else {
            // Half a record may have the next one right behind it.
            let next = text.get(1..).and_then(|after| find(after, BEGINNING)).map(|at| at + 1);
            let broken = text.get(..next.unwrap_or(text.len())).unwrap_or_default();
            let was_ours = broken.starts_with(BEGINNING) || find(broken, TARGET.as_bytes()).is_some();
            take(if was_ours {
                Found::Unreadable("it is not whole, or no JSON".to_owned())
            } else {
                Found::Other
            });
            next.and_then(|next| text.get(next..))
        };
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// What a JSON object of a log is.
fn sort(text: &str) -> Found<'_> {
    match serde_json::from_str::<Head<'_>>(text) {
        Ok(head) if head.target.as_deref() != Some(TARGET) => Found::Other,
        Ok(head) if head.tenant.is_none() => Found::Unproven,
        Ok(_) => understand(text).map_or_else(Found::Unreadable, Found::Used),
        Err(error) if text.contains(TARGET) => Found::Unreadable(error.to_string()),
        Err(_) => Found::Other,
    }
}

fn understand(text: &str) -> Result<Used<'_>, String> {
    let whole: Whole<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let time: Timestamp =
        whole.timestamp.parse().map_err(|_| format!("its `timestamp` `{}` is no time", whole.timestamp))?;
    TenantName::parse(&whole.tenant).map_err(|_| format!("its `tenant` `{}` is no name", whole.tenant))?;
    Ok(Used {
        id: short(&whole.request_id),
        day: Offset::UTC.to_datetime(time).date(),
        end: end(&whole)?,
        tenant: whole.tenant,
        key: whole.key,
        bytes: whole.bytes,
        resumed: whole.resumed,
        took_ms: whole.total_ms,
    })
}

fn end(whole: &Whole<'_>) -> Result<End, String> {
    let is_whole = match whole.outcome {
        "whole" => true,
        "aborted" => false,
        "refused" => return Ok(End::Refused),
        "answered" | "unanswered" => return Ok(End::Bodiless),
        other => return Err(format!("its `outcome` `{other}` is none that this version knows")),
    };
    let from_start = match (whole.status, whole.range_from) {
        (206, Some(first)) => first == 0,
        (206, None) => return Err("its status is 206, and `range_from` is missing".to_owned()),
        _ => true,
    };
    Ok(End::Body { from_start, whole: is_whole })
}

/// Ids have different shapes at different doors; what is kept of each is as long.
fn short(id: &str) -> [u8; 16] {
    let mut short = [0; 16];
    short.iter_mut().zip(Sha256::digest(id.as_bytes())).for_each(|(into, byte)| *into = byte);
    short
}

/// What came of reading a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// The buffer has it.
    Read,
    /// It was longer than [`MAX_LINE_BYTES`], and passed over.
    TooLong,
    /// There is none any more.
    End,
}

/// Reads the next line into `buffer`, with its end.
pub fn next_line(input: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<Line> {
    buffer.clear();
    let read = input.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', buffer)?;
    if read == 0 {
        return Ok(Line::End);
    }
    if buffer.ends_with(b"\n") || u64::try_from(read).unwrap_or(u64::MAX) < MAX_LINE_BYTES {
        return Ok(Line::Read);
    }
    let passed = input.skip_until(b'\n')?;
    Ok(if passed == 0 { Line::Read } else { Line::TooLong })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"timestamp":"2026-11-24T23:59:59.999999Z","level":"INFO","message":"request","request_id":"ab","method":"GET","tenant":"acme","key":"acme-1","host":"up.example","url":"http://up.example/{\"timestamp\":","status":200,"outcome":"whole","bytes":5,"total_ms":2,"target":"sluicegate::decision"}"#;

    /// `U` used, `n` not proven, `o` other, `!` unreadable.
    fn seen(line: impl AsRef<[u8]>) -> String {
        let mut seen = String::new();
        read(line.as_ref(), &mut |found| {
            seen.push(match found {
                Found::Used(_) => 'U',
                Found::Unproven => 'n',
                Found::Other => 'o',
                Found::Unreadable(_) => '!',
            });
        });
        seen
    }

    fn with(old: &str, new: &str) -> String {
        assert!(RECORD.contains(old), "{old}");
        RECORD.replacen(old, new, 1)
    }

    #[test]
    fn finds_records_in_what_logs_make_of_them() {
        let half = RECORD.split_at(100).0;
        for (line, expected) in [
            (RECORD.to_owned(), "U"),
            (format!("{RECORD}\r\n"), "U"),
            (format!("2026-11-24T02:22:36.116Z 2026/11/24/[$LATEST]0a1b {RECORD}\n"), "U"),
            (format!("gateway-1  | {RECORD}"), "U"),
            (format!("{RECORD}{RECORD} {RECORD}"), "UUU"),
            (format!("{{odd}} {RECORD}"), "oU"),
            (format!("{half}{RECORD}"), "!U"),
            (half.to_owned(), "!"),
            (format!("{RECORD}{half}"), "U!"),
            (r#"{"timestamp":"#.to_owned(), "!"),
            (with(r#""tenant":"acme","#, ""), "n"),
            (r#"{"timestamp":"2026-11-24T02:35:51Z","target":"sluicegate::wire::policies"}"#.to_owned(), "o"),
            (r#"{"_aws":{"Timestamp":1},"sluicegate_requests_total":1}"#.to_owned(), "o"),
            ("START RequestId: 1 Version: $LATEST {".to_owned(), "o"),
            (String::new(), ""),
            ("INFO request_id=\"1\" sluicegate::decision: request".to_owned(), ""),
            ("[1, 2]".to_owned(), ""),
        ] {
            assert_eq!(seen(&line), expected, "{line}");
        }
        assert_eq!(seen(b"\xff\xfe{\"a\":\xff}"), "o");
    }

    #[test]
    fn a_record_that_says_too_little_is_said_to_be_unreadable() {
        for (old, new) in [
            (r#""bytes":5,"#, ""),
            (r#""bytes":5"#, r#""bytes":-5"#),
            (r#""bytes":5"#, r#""bytes":"5""#),
            (r#""bytes":5"#, r#""bytes":5,"bytes":6"#),
            (r#""outcome":"whole""#, r#""outcome":"half""#),
            (r#""status":200"#, r#""status":206"#),
            (r#""request_id":"ab","#, ""),
            (r#""total_ms":2,"#, ""),
            (r#""key":"acme-1","#, ""),
            (r#""tenant":"acme""#, r#""tenant":7"#),
            (r#""tenant":"acme""#, r#""tenant":"""#),
            (r#""tenant":"acme""#, r#""tenant":"\u001b[31m""#),
            ("2026-11-24T23:59:59.999999Z", "yesterday"),
            ("2026-11-24T23:59:59.999999Z", "2026-11-31T00:00:00Z"),
        ] {
            assert_eq!(seen(with(old, new)), "!", "{new}");
        }
    }

    fn used(line: &str) -> (Date, End) {
        let mut found = None;
        read(line.as_bytes(), &mut |seen| {
            if let Found::Used(used) = seen {
                found = Some((used.day, used.end));
            }
        });
        found.unwrap()
    }

    #[test]
    fn says_when_and_how_it_ended() {
        let day = |day| Date::new(2026, 11, day).unwrap();
        let body = |from_start, whole| End::Body { from_start, whole };
        assert_eq!(used(RECORD), (day(24), body(true, true)));
        assert_eq!(used(&with("59.999999Z", "59.999999-01:00")).0, day(25), "days are those of UTC");
        for (status, from, outcome, end) in [
            (200, "", "aborted", body(true, false)),
            (206, r#""range_from":0,"#, "whole", body(true, true)),
            (206, r#""range_from":1,"#, "aborted", body(false, false)),
            (206, "", "answered", End::Bodiless),
            (200, "", "unanswered", End::Bodiless),
            (502, "", "refused", End::Refused),
        ] {
            let line = with(
                r#""status":200,"outcome":"whole""#,
                &format!(r#"{from}"status":{status},"outcome":"{outcome}""#),
            );
            assert_eq!(used(&line).1, end, "{line}");
        }
    }

    #[test]
    fn lines_have_a_most() {
        let most = usize::try_from(MAX_LINE_BYTES).unwrap();
        let text = [vec![b'a'; most - 1], vec![b'\n'], vec![b'b'; most], vec![b'\n'], b"c".to_vec()].concat();
        let (mut input, mut line) = (io::Cursor::new(text), Vec::new());
        let mut next = || next_line(&mut input, &mut line).map(|read| (read, line.last().copied())).unwrap();
        assert_eq!(next(), (Line::Read, Some(b'\n')));
        assert_eq!(next().0, Line::TooLong);
        assert_eq!(next(), (Line::Read, Some(b'c')));
        assert_eq!(next().0, Line::End);
    }
}
