//! The chunked transfer coding (RFC 9112 section 7.1), read strictly: one line ending, no number too large, and nothing
//! without a limit.

use std::io;

/// What all lines of chunks may have beside their sizes, and what all trailers may have, in bytes.
const MAX_EXTENSIONS: usize = 16 * 1024;
const MAX_TRAILERS: usize = 16 * 1024;
/// How many digits a size may have, zeros in front included: four times as many as the largest needs.
const MAX_DIGITS: u8 = 64;

/// How far a chunked body was read.
#[derive(Debug, Default)]
pub(in crate::wire::origin) struct Chunks {
    at: At,
    /// The size that is being read, or what is left of the chunk.
    size: u64,
    digits: u8,
    /// Bytes of the extension or the trailers so far.
    aside: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    /// At the first digit of a size.
    #[default]
    Size,
    /// Behind at least one digit.
    Digits,
    /// In white space behind a size, which is bad but harmless.
    Blank,
    Extension,
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    /// At the beginning of a trailer, or of the empty line.
    Trailer,
    InTrailer,
    TrailerEnd,
    LastEnd,
    Over,
}

/// What is at the beginning of the bytes that were read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many bytes of the body, perhaps more than are there.
    Data(u64),
    /// Nothing: more has to be read, or the body is over.
    More,
}

impl Chunks {
    pub(super) fn is_over(&self) -> bool {
        self.at == At::Over
    }

    /// Goes over framing up to the next data: how many bytes that was, and what is behind them.
    pub(super) fn step(&mut self, read: &[u8]) -> io::Result<(usize, Step)> {
        let mut over = 0;
        for byte in read {
            match self.at {
                At::Data => return Ok((over, Step::Data(self.size))),
                At::Over => break,
                _ => self.at = self.take(*byte)?,
            }
            over += 1;
        }
        Ok((over, Step::More))
    }

    /// So many bytes of the chunk were passed on.
    pub(super) fn passed(&mut self, length: u64) {
        self.size = self.size.saturating_sub(length);
        if self.size == 0 {
            self.at = At::DataReturn;
        }
    }

    fn take(&mut self, byte: u8) -> io::Result<At> {
        Ok(match (self.at, byte) {
            (At::Size | At::Digits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                let size = self.size.checked_mul(16).and_then(|size| size.checked_add(digit));
                self.size = size.ok_or_else(|| malformed("a chunk size that is too large"))?;
                self.digits += 1;
                if self.digits > MAX_DIGITS {
                    return Err(malformed("a chunk size with too many digits"));
                }
                At::Digits
            }
            (At::Digits | At::Blank | At::Extension, b'\r') => At::SizeEnd,
            (At::Digits | At::Blank, b';') => At::Extension,
            (At::Digits | At::Blank, b' ' | b'\t') => self.aside(At::Blank, MAX_EXTENSIONS)?,
            (At::Extension, byte) if is_text(byte) => self.aside(At::Extension, MAX_EXTENSIONS)?,
            (At::SizeEnd, b'\n') if self.size == 0 => {
                self.aside = 0;
                At::Trailer
            }
            (At::SizeEnd, b'\n') => At::Data,
            (At::DataReturn, b'\r') => At::DataEnd,
            (At::DataEnd, b'\n') => {
                self.digits = 0;
                At::Size
            }
            (At::Trailer, b'\r') => At::LastEnd,
            (At::InTrailer, b'\r') => At::TrailerEnd,
            (At::Trailer | At::InTrailer, byte) if is_text(byte) => {
                self.aside(At::InTrailer, MAX_TRAILERS)?
            }
            (At::TrailerEnd, b'\n') => At::Trailer,
            (At::LastEnd, b'\n') => At::Over,
            _ => return Err(malformed("a chunk that is framed wrongly")),
        })
    }

    fn aside(&mut self, at: At, most: usize) -> io::Result<At> {
        self.aside += 1;
        if self.aside > most {
            Err(malformed("a chunked body with too much beside its data"))
        } else {
            Ok(at)
        }
    }
}

/// What a line may hold (RFC 9110 section 5.5): no control character but the tab.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body that comes out, if it is over, however the bytes come in.
    fn read(bytes: &[u8], at_once: usize) -> io::Result<Option<Vec<u8>>> {
        let (mut chunks, mut body) = (Chunks::default(), Vec::new());
        for mut part in bytes.chunks(at_once) {
            loop {
                let (over, step) = chunks.step(part)?;
                part = &part[over..];
                let Step::Data(length) = step else { break };
                let (data, rest) = part.split_at(part.len().min(usize::try_from(length).unwrap()));
                body.extend_from_slice(data);
                chunks.passed(data.len() as u64);
                part = rest;
            }
        }
        Ok(chunks.is_over().then_some(body))
    }

    #[test]
    fn whole_bodies() {
        for (text, body) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("2\r\nhe\r\n3;a=\"b\"\r\nllo\r\n000\r\nA: b\r\nC: d\r\n\r\n", "hello"),
            ("0005 \t;x\r\nhello\r\n0\r\n\r\n", "hello"),
            ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
            (&format!("{0}1\r\na\r\n{0}1\r\nb\r\n{0}0\r\n\r\n", "0".repeat(63)), "ab"),
        ] {
            for at_once in 1..=text.len() {
                assert_eq!(
                    read(text.as_bytes(), at_once).unwrap().as_deref(),
                    Some(body.as_bytes()),
                    "{text:?}"
                );
            }
        }
    }

    proptest::proptest! {
        /// Whatever comes, and however it is divided: the same body, or the same refusal.
        #[test]
        fn no_division_into_reads_changes_what_is_read(
            text in "([0-3a]{0,2}(;b)?\r?\n?[a-z]{0,4}\r?\n?){0,4}(0\r\n(a:b\r\n)?\r\n)?",
            at_once in 1usize..9,
        ) {
            let (whole, parts) = (read(text.as_bytes(), usize::MAX), read(text.as_bytes(), at_once));
            proptest::prop_assert_eq!(whole.ok(), parts.ok());
        }
    }

    #[test]
    fn what_breaks_off_is_not_over() {
        let text = b"5\r\nhello\r\n0\r\nA: b\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(read(&text[..end.max(1)], 1).unwrap(), None);
        }
    }

    #[test]
    fn what_could_be_read_otherwise_is_refused() {
        for text in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+5\r\n",
            " 5\r\nhello",
            "0x5\r\nhello",
            "5\nhello\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5;a\nb\r\nhello",
            "0\r\n\n",
            "0\r\nA: b\n\r\n",
            "5\rhello",
            "10000000000000000\r\n",
            ";\r\n",
            "5\r\nhello\r\n\r\n",
            "5 x\r\nhello",
            "5 6\r\nhello",
            "5;\0\r\nhello",
            "0\r\nA: \0\r\n",
        ] {
            assert!(read(text.as_bytes(), 1).is_err(), "{text:?}");
        }
        assert_eq!(read(b"ffffffffffffffff\r\na", 1).unwrap(), None);
        for long in [
            format!("5;{}\r\n", "a".repeat(17_000)),
            format!("{}5\r\nhello", "0".repeat(64)),
            "1;aaaaaaaa\r\nb\r\n".repeat(2100),
            format!("0\r\n{}", "A: b\r\n".repeat(5000)),
        ] {
            assert!(read(long.as_bytes(), 7).is_err());
        }
    }
}
