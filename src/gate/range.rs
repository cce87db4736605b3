//! Byte ranges: what a client asks for, and whether an upstream's partial answer is that.
//!
//! Source: RFC 9110, sections 14.1 to 14.4. One range is passed on; several are not (section 17.15 lets a server ignore
//! them), and a header that is not understood counts as absent (section 14.2).

use std::fmt;

/// One range of bytes. Positions count from 0 and both ends are part of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteRange {
    /// `bytes=5-`: everything from this position.
    From(u64),
    /// `bytes=5-9`: from the first to the last position, where the last is not below the first.
    FromTo(u64, u64),
    /// `bytes=-5`: this many bytes at the end.
    Suffix(u64),
}

/// What the `Range` header of a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeRequest {
    /// The whole: no range, another unit, bad syntax, or a number above [`u64::MAX`].
    None,
    /// One range. It need not be satisfiable: `bytes=-0` is not.
    One(ByteRange),
    /// Two ranges or more, each well formed.
    Many,
}

impl RangeRequest {
    /// Reads a `Range` header's value: `bytes=0-499`, `bytes=500-`, `bytes=-500`.
    ///
    /// The unit is case-insensitive (RFC 9110, section 14.1); empty list members and white space around members are
    /// allowed (section 5.6.1.2). One bad member makes the whole header invalid.
    pub fn read(header: &[u8]) -> Self {
        let Some(set) = ranges_in_bytes(header) else { return Self::None };
        let mut found = Self::None;
        for member in set.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty()) {
            let Some(range) = ByteRange::read(member) else { return Self::None };
            found = match found {
                Self::None => Self::One(range),
                Self::One(_) | Self::Many => Self::Many,
            };
        }
        found
    }
}

/// What follows `bytes=`.
fn ranges_in_bytes(header: &[u8]) -> Option<&[u8]> {
    let (unit, set) = trim(header).split_at_checked(b"bytes=".len())?;
    unit.eq_ignore_ascii_case(b"bytes=").then_some(set)
}

impl ByteRange {
    fn read(member: &[u8]) -> Option<Self> {
        let (first, last) = split(member, b'-')?;
        match (first.is_empty(), last.is_empty()) {
            (true, _) => Some(Self::Suffix(number(last)?)),
            (false, true) => Some(Self::From(number(first)?)),
            (false, false) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::FromTo(first, last))
            }
        }
    }

    /// Whether a 206 with this `Content-Range` is the answer to this range: it starts where asked and goes no further than
    /// asked, and if the total is known it goes exactly as far as asked or to the end.
    pub fn agrees(&self, answer: &ContentRange) -> bool {
        let ContentRange::Part { first, last, total } = *answer else { return false };
        let end = total.map(|total| total.saturating_sub(1));
        match *self {
            Self::From(asked) => first == asked && end.is_none_or(|end| last == end),
            Self::FromTo(asked, until) => {
                first == asked && last <= until && end.is_none_or(|end| last == until.min(end))
            }
            Self::Suffix(asked) => {
                let short = last.saturating_sub(first) < asked;
                short && total.is_none_or(|total| Some(last) == end && first == total.saturating_sub(asked))
            }
        }
    }
}

/// The value of a `Range` header, with the unit.
impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(first) => write!(f, "bytes={first}-"),
            Self::FromTo(first, last) => write!(f, "bytes={first}-{last}"),
            Self::Suffix(length) => write!(f, "bytes=-{length}"),
        }
    }
}

/// What the `Content-Range` header of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentRange {
    /// `bytes 0-4/10` or `bytes 0-4/*`, of a 206.
    Part {
        /// Position of the first byte.
        first: u64,
        /// Position of the last byte, not below `first` and below `total`.
        last: u64,
        /// Bytes in the whole, if the upstream knows.
        total: Option<u64>,
    },
    /// `bytes */10`, of a 416.
    Unsatisfied {
        /// Bytes in the whole. 0 is possible: no range of an empty file can be satisfied.
        total: u64,
    },
}

impl ContentRange {
    /// Reads a `Content-Range` header's value to the letter of RFC 9110, section 14.4.
    ///
    /// `None` for another unit, other white space, a last position below the first or not below the total, or a number
    /// above [`u64::MAX`]: an upstream that says so cannot be believed about the bytes that follow.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let (unit, rest) = header.split_at_checked(b"bytes ".len())?;
        if !unit.eq_ignore_ascii_case(b"bytes ") {
            return None;
        }
        let (range, total) = split(rest, b'/')?;
        if range == b"*" {
            return Some(Self::Unsatisfied { total: number(total)? });
        }
        let (first, last) = split(range, b'-')?;
        let (first, last) = (number(first)?, number(last)?);
        let total = if total == b"*" { None } else { Some(number(total)?) };
        (first <= last && total.is_none_or(|total| last < total)).then_some(Self::Part { first, last, total })
    }
}

impl ContentRange {
    /// Position of the part's first byte; none for a 416.
    pub fn first(&self) -> Option<u64> {
        match self {
            Self::Part { first, .. } => Some(*first),
            Self::Unsatisfied { .. } => None,
        }
    }

    /// How many bytes the part has, [`u64::MAX`] at most; 0 for a 416.
    pub fn length(&self) -> u64 {
        match self {
            Self::Part { first, last, .. } => last.saturating_sub(*first).saturating_add(1),
            Self::Unsatisfied { .. } => 0,
        }
    }
}

/// The value of a `Content-Range` header, with the unit.
impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part { first, last, total: Some(total) } => write!(f, "bytes {first}-{last}/{total}"),
            Self::Part { first, last, total: None } => write!(f, "bytes {first}-{last}/*"),
            Self::Unsatisfied { total } => write!(f, "bytes */{total}"),
        }
    }
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let mut parts = bytes.splitn(2, |byte| *byte == at);
    Some((parts.next()?, parts.next()?))
}

/// Decimal digits alone, one at least, within `u64`.
fn number(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Without the optional white space of RFC 9110, section 5.6.3, at both ends.
fn trim(bytes: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|byte| !is_space(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last.saturating_add(1));
    bytes.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ByteRange::{From, FromTo, Suffix};
    use super::*;

    #[test]
    fn reads_one_range() {
        for (header, range) in [
            ("bytes=0-0", FromTo(0, 0)),
            ("bytes=0-499", FromTo(0, 499)),
            ("bytes=007-0010", FromTo(7, 10)),
            ("bytes=5-", From(5)),
            ("bytes=-5", Suffix(5)),
            ("bytes=-0", Suffix(0)),
            ("BYTES=5-", From(5)),
            ("  bytes=5-\t", From(5)),
            ("bytes= 5-9 ", FromTo(5, 9)),
            ("bytes=5-9,", FromTo(5, 9)),
            ("bytes=, ,5-9 ,", FromTo(5, 9)),
            ("bytes=0-18446744073709551615", FromTo(0, u64::MAX)),
        ] {
            assert_eq!(RangeRequest::read(header.as_bytes()), RangeRequest::One(range), "{header}");
        }
    }

    #[test]
    fn ignores_what_it_does_not_understand() {
        for header in [
            "",
            " ",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=5",
            "bytes=a-b",
            "bytes=5-4",
            "bytes=5-6-7",
            "bytes=--5",
            "bytes=+5-6",
            "bytes=5 - 6",
            "bytes=5-6;x",
            "bytes =5-6",
            "bytes:5-6",
            "items=5-6",
            "bytes5-6",
            "bytes=18446744073709551616-",
            "bytes=0-18446744073709551616",
            "bytes=-18446744073709551616",
            "bytes=0-1,x",
            "bytes=0-1,5-4",
            "bytes=0-1,2-18446744073709551616",
            "bytes=0x5-6",
            "bytes=٥-٦",
        ] {
            assert_eq!(RangeRequest::read(header.as_bytes()), RangeRequest::None, "{header}");
        }
        assert_eq!(RangeRequest::read(b"bytes=\xff-"), RangeRequest::None);
    }

    #[test]
    fn several_ranges_are_many() {
        let thousands = format!("bytes={}", "0-,".repeat(5000));
        for header in ["bytes=0-1,2-3", "bytes=0-1, -1", "bytes=0-,0-", "bytes=0-1\t,,\t5-", &thousands] {
            assert_eq!(RangeRequest::read(header.as_bytes()), RangeRequest::Many, "{header}");
        }
    }

    #[test]
    fn reads_a_content_range() {
        let part = |first, last, total| Some(ContentRange::Part { first, last, total });
        for (header, expected) in [
            ("bytes 0-4/10", part(0, 4, Some(10))),
            ("Bytes 0-4/10", part(0, 4, Some(10))),
            ("bytes 9-9/10", part(9, 9, Some(10))),
            ("bytes 0-4/*", part(0, 4, None)),
            ("bytes 0-18446744073709551615/*", part(0, u64::MAX, None)),
            ("bytes */10", Some(ContentRange::Unsatisfied { total: 10 })),
            ("bytes */0", Some(ContentRange::Unsatisfied { total: 0 })),
        ] {
            assert_eq!(ContentRange::parse(header.as_bytes()), expected, "{header}");
        }
        for header in [
            "",
            "bytes",
            "bytes ",
            "bytes */*",
            "bytes */",
            "bytes 0-4",
            "bytes 0-4/",
            "bytes 0-0/0",
            "bytes 4-3/10",
            "bytes 0-10/10",
            "bytes 0-4/10/11",
            "bytes 0-4-5/10",
            "bytes -4/10",
            "bytes 0-/10",
            "bytes=0-4/10",
            "bytes  0-4/10",
            " bytes 0-4/10",
            "bytes 0-4/10 ",
            "bytes 0 - 4/10",
            "bytes 0-4/+10",
            "items 0-4/10",
            "bytes 0-4/18446744073709551616",
        ] {
            assert_eq!(ContentRange::parse(header.as_bytes()), None, "{header}");
        }
    }

    #[test]
    fn tells_an_answer_from_another_part() {
        for (asked, answer, expected) in [
            (From(5), "bytes 5-9/10", true),
            (From(5), "bytes 5-8/10", false),
            (From(5), "bytes 4-9/10", false),
            (From(5), "bytes 6-9/10", false),
            (From(5), "bytes 5-7/*", true),
            (From(0), "bytes 0-0/1", true),
            (From(5), "bytes */10", false),
            (FromTo(2, 5), "bytes 2-5/10", true),
            (FromTo(2, 5), "bytes 2-4/10", false),
            (FromTo(2, 5), "bytes 2-6/10", false),
            (FromTo(2, 5), "bytes 1-5/10", false),
            (FromTo(2, 50), "bytes 2-9/10", true),
            (FromTo(2, 50), "bytes 2-8/10", false),
            (FromTo(2, 5), "bytes 2-5/*", true),
            (FromTo(2, 5), "bytes 2-4/*", true),
            (FromTo(2, 5), "bytes 2-6/*", false),
            (FromTo(0, u64::MAX), "bytes 0-9/10", true),
            (Suffix(3), "bytes 7-9/10", true),
            (Suffix(3), "bytes 6-9/10", false),
            (Suffix(3), "bytes 8-9/10", false),
            (Suffix(3), "bytes 6-8/10", false),
            (Suffix(30), "bytes 0-9/10", true),
            (Suffix(30), "bytes 1-9/10", false),
            (Suffix(3), "bytes 7-9/*", true),
            (Suffix(3), "bytes 6-9/*", false),
            (Suffix(0), "bytes 9-9/10", false),
            (Suffix(u64::MAX), "bytes 0-18446744073709551615/*", false),
        ] {
            let parsed = ContentRange::parse(answer.as_bytes()).unwrap();
            assert_eq!(asked.agrees(&parsed), expected, "{asked} answered by {answer}");
        }
    }

    fn range() -> impl Strategy<Value = ByteRange> {
        let number = || prop_oneof![0u64..20, any::<u64>()];
        prop_oneof![
            number().prop_map(From),
            number().prop_map(Suffix),
            (number(), number()).prop_map(|(a, b)| FromTo(a.min(b), a.max(b))),
        ]
    }

    proptest! {
        #[test]
        fn display_reads_back(range in range()) {
            prop_assert_eq!(RangeRequest::read(range.to_string().as_bytes()), RangeRequest::One(range));
        }

        #[test]
        fn content_range_display_reads_back(first: u64, length: u64, total: Option<u64>) {
            let last = first.saturating_add(length);
            let part = ContentRange::Part { first, last, total: total.map(|t| t.max(last.saturating_add(1))) };
            if last < u64::MAX || total.is_none() {
                prop_assert_eq!(ContentRange::parse(part.to_string().as_bytes()), Some(part));
            }
        }

        /// Of all answers about a file, exactly the one that a correct server gives agrees.
        #[test]
        fn only_the_right_slice_agrees(range in range(), total in 1u64..25, first in 0u64..25, last in 0u64..25) {
            let right = match range {
                From(a) => (a < total).then(|| (a, total - 1)),
                FromTo(a, b) => (a < total).then(|| (a, b.min(total - 1))),
                Suffix(n) => (n > 0).then(|| (total - n.min(total), total - 1)),
            };
            if let Some((first, last)) = right {
                let known = ContentRange::Part { first, last, total: Some(total) };
                let unknown = ContentRange::Part { first, last, total: None };
                prop_assert!(range.agrees(&known));
                prop_assert!(range.agrees(&unknown));
            }
            if first <= last && last < total {
                let answer = ContentRange::Part { first, last, total: Some(total) };
                prop_assert_eq!(range.agrees(&answer), right == Some((first, last)), "{} by {}", range, answer);
            }
        }

        #[test]
        fn never_panics(header: Vec<u8>, members in "bytes[ =]*[-0-9,/* ]{0,30}") {
            for header in [&header[..], members.as_bytes()] {
                let _ = RangeRequest::read(header);
                let _ = ContentRange::parse(header);
            }
        }
    }
}
