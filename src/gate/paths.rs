//! Path prefixes of a policy, compared so that no second spelling of a path slips past a rule.
//!
//! An allow rule must not hold for a path that an upstream may read as another one; a deny rule must hold for every path
//! that an upstream may read as the denied one. So there are two comparisons, [`PathPrefix::matches`] for allow and
//! [`PathPrefix::may_cover`] for deny, and [`suspicious`] paths are never allowed and always denied.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use memchr::memchr_iter;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::bytes::Bytes;

/// What a path of a URL may hold unescaped, next to letters and digits: RFC 3986, section 3.3, and `%` of escapes.
const OUTSIDE_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'/')
    .remove(b'%');

/// Unreserved characters (RFC 3986, section 2.3) and slashes: a path of these has one spelling.
static UNRESERVED: Bytes = Bytes::ALPHANUMERIC.with(b"/-._~");
/// ASCII without what an escape begins with, and what servers take for a `/` or an end.
static LITERAL: Bytes = Bytes::from(1, 0x7f).without(b"%\\");

/// UTF-8 of `.` , `/` and `\` in a longer form than allowed (RFC 3629, section 10), which old decoders accept.
const OVERLONG: [[u8; 2]; 3] = [[0xc0, 0xae], [0xc0, 0xaf], [0xc1, 0x9c]];

/// A path and everything below it.
///
/// `/public` stands for `/public` and `/public/x`, not for `/publicity`; `/public/` for `/public/` and `/public/x`; `/` for
/// every path.
///
/// ```
/// # use sluicegate::gate::paths::PathPrefix;
/// let prefix = PathPrefix::parse("/public")?;
/// assert!(prefix.matches("/public/%7Euser/report.pdf"));
/// assert!(!prefix.matches("/publicity"));
/// assert!(!prefix.matches("/public/%252e%252e/private"));
/// # Ok::<(), sluicegate::gate::paths::PathPrefixError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct PathPrefix {
    /// In the normal form of RFC 3986.
    normal: Box<str>,
    /// Each segment as the laxest upstream may read it.
    segments: Box<[Box<[u8]>]>,
}

/// Why a text is not a [`PathPrefix`]. Each message says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathPrefixError {
    /// No `/` in front.
    #[error("`{0}` is not a path from the root; write it with a `/` in front")]
    Relative(String),
    /// `?` or `#`.
    #[error(
        "`{0}` has a query or a fragment; rules are about the path, so end before it, or write `%3F` or `%23`"
    )]
    BeyondPath(String),
    /// `*`.
    #[error(
        "`{0}` has a `*`, which stands for nothing here; write the path up to it, since a prefix holds for all below"
    )]
    Wildcard(String),
    /// A path that is never allowed, so that the rule could not hold.
    #[error(
        "`{0}` has a `.` or `..` segment, a backslash, a control character, or an escaped `/`, `\\` or NUL; write the path that is meant"
    )]
    Suspicious(String),
}

impl PathPrefix {
    /// Reads a prefix. Characters may be written plain (`/größe/`) or escaped (`/gr%C3%B6%C3%9Fe/`).
    pub fn parse(given: &str) -> Result<Self, PathPrefixError> {
        let text = || given.to_owned();
        if !given.starts_with('/') {
            return Err(PathPrefixError::Relative(text()));
        }
        if given.contains(['?', '#']) {
            return Err(PathPrefixError::BeyondPath(text()));
        }
        if given.contains('*') {
            return Err(PathPrefixError::Wildcard(text()));
        }
        if given.contains(char::is_control) || suspicious(given) {
            return Err(PathPrefixError::Suspicious(text()));
        }
        Ok(Self { normal: normal(given).into(), segments: lax_segments(given).map(Into::into).collect() })
    }

    /// For *allow*: whether this path, as [`url::Url::path`] gives it, is the prefix or below it.
    ///
    /// Both are compared after normalisation (RFC 3986, section 6.2.2): escapes of unreserved characters decoded, all
    /// others in upper case, case and empty segments kept. A [`suspicious`] path is below nothing.
    pub fn matches(&self, url_path: &str) -> bool {
        let path = normal(url_path);
        let Some(rest) = path.strip_prefix(&*self.normal) else { return false };
        (self.normal.ends_with('/') || rest.is_empty() || rest.starts_with('/')) && !suspicious(url_path)
    }

    /// For *deny*: whether any upstream might take this path for the prefix or for something below it.
    ///
    /// Escapes are decoded as often as there are any, ASCII case and empty segments are ignored, and so is what follows a
    /// `;` in a segment. `/private/` covers `/private` too. Every [`suspicious`] path is covered.
    pub fn may_cover(&self, url_path: &str) -> bool {
        let mut path = lax_segments(url_path);
        suspicious(url_path)
            || self.segments.iter().all(|own| path.next().is_some_and(|segment| segment == **own))
    }
}

/// Whether servers may disagree on what this path names. Given as [`url::Url::path`] gives it.
///
/// True for an escaped `/`, `\` or NUL, for a `.` or `..` segment (also with `;` and parameters behind it), and for `.`, `/`
/// or `\` in overlong UTF-8: each of them plain or escaped any number of times (`%2e`, `%252e`, `%25252e`).
/// True for a path that does not begin with `/` and for a plain backslash. Takes time linear in the path.
pub fn suspicious(path: &str) -> bool {
    !is_ordinary(path) && is_suspicious(path)
}

/// What most paths are, and nothing below would find fault with: from the root, of ASCII without escapes, backslashes and NUL,
/// and no segment begins with a dot.
fn is_ordinary(path: &str) -> bool {
    let bytes = path.as_bytes();
    let begins_a_segment =
        |dot: usize| dot.checked_sub(1).is_some_and(|before| bytes.get(before) == Some(&b'/'));
    path.starts_with('/') && LITERAL.are_all_of(bytes) && !memchr_iter(b'.', bytes).any(begins_a_segment)
}

fn is_suspicious(path: &str) -> bool {
    let decoded = decode_fully(path);
    let segments = |bytes: &[u8]| bytes.split(|byte| *byte == b'/').count();
    !path.starts_with('/')
        || decoded.iter().any(|byte| matches!(byte, b'\\' | 0))
        || segments(&decoded) != segments(path.as_bytes())
        || decoded
            .split(|byte| *byte == b'/')
            .any(|segment| matches!(without_parameters(segment), b"." | b".."))
        || decoded.windows(2).any(|pair| OVERLONG.iter().any(|overlong| pair == overlong))
}

/// The bytes left when every escape is decoded, and every escape which that makes, until there is none.
///
/// An escape ends with the byte that completes it, so looking at the last three bytes after each push finds them all,
/// in linear time and in an order that does not matter (no escape overlaps another).
fn decode_fully(path: &str) -> Cow<'_, [u8]> {
    if !path.contains('%') {
        return Cow::Borrowed(path.as_bytes());
    }
    let mut decoded = Vec::with_capacity(path.len());
    for byte in path.bytes() {
        decoded.push(byte);
        while let [.., b'%', high, low] = decoded[..]
            && let Some(byte) = hex_byte(high, low)
        {
            decoded.truncate(decoded.len().saturating_sub(3));
            decoded.push(byte);
        }
    }
    Cow::Owned(decoded)
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// A segment without `;` and what follows: some servers drop it before they look for the file (RFC 3986, section 3.3).
fn without_parameters(segment: &[u8]) -> &[u8] {
    segment.split(|byte| *byte == b';').next().unwrap_or(segment)
}

/// The segments of a path as the laxest upstream may read them: decoded, lower case, without empty ones.
fn lax_segments(path: &str) -> impl Iterator<Item = Vec<u8>> {
    let segments: Vec<Vec<u8>> = decode_fully(path)
        .split(|byte| *byte == b'/')
        .map(|segment| without_parameters(segment).to_ascii_lowercase())
        .filter(|segment| !segment.is_empty())
        .collect();
    segments.into_iter()
}

/// The normal form of RFC 3986, section 6.2.2: one spelling for each sequence of octets, reserved ones apart.
fn normal(path: &str) -> Cow<'_, str> {
    // What most paths are.
    if UNRESERVED.are_all_of(path.as_bytes()) {
        return Cow::Borrowed(path);
    }
    let encoded: Cow<'_, str> = utf8_percent_encode(path, OUTSIDE_PATH).into();
    if !encoded.contains('%') {
        return encoded;
    }
    let mut normal = String::with_capacity(encoded.len());
    let mut pieces = encoded.split('%');
    normal.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let escaped = piece.split_at_checked(2).and_then(|(digits, rest)| match *digits.as_bytes() {
            [high, low] => Some((hex_byte(high, low)?, rest)),
            _ => None,
        });
        match escaped {
            Some((byte, rest)) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                normal.push(char::from(byte));
                normal.push_str(rest);
            }
            Some((_, rest)) => {
                normal.push('%');
                normal.extend(piece.chars().take(2).map(|digit| digit.to_ascii_uppercase()));
                normal.push_str(rest);
            }
            // Not an escape, so the octet `%` itself.
            None => {
                normal.push_str("%25");
                normal.push_str(piece);
            }
        }
    }
    Cow::Owned(normal)
}

impl FromStr for PathPrefix {
    type Err = PathPrefixError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        Self::parse(given)
    }
}

impl TryFrom<String> for PathPrefix {
    type Error = PathPrefixError;

    fn try_from(given: String) -> Result<Self, Self::Error> {
        Self::parse(&given)
    }
}

/// The prefix in normal form, which [`PathPrefix::parse`] reads back.
impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.normal)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    fn prefix(given: &str) -> PathPrefix {
        PathPrefix::parse(given).unwrap_or_else(|error| panic!("{error}"))
    }

    /// As the gateway sees it: after the URL parser.
    fn path(path: &str) -> String {
        Url::parse(&format!("https://example.com{path}")).unwrap().path().to_owned()
    }

    #[test]
    fn allows_the_prefix_and_what_is_below() {
        for (given, url_path, expected) in [
            ("/", "/", true),
            ("/", "/a/b", true),
            ("/", "//a", true),
            ("/public", "/public", true),
            ("/public", "/public/", true),
            ("/public", "/public/x", true),
            ("/public", "/publicity", false),
            ("/public", "/public.txt", false),
            ("/public", "/Public/x", false),
            ("/public", "//public/x", false),
            ("/public", "/public//x", true),
            ("/public", "/publi%63/x", true),
            ("/public", "/public%2Fx", false),
            ("/public", "/public%3Bx", false),
            ("/public", "/public;x", false),
            ("/public/", "/public/x", true),
            ("/public/", "/public/", true),
            ("/public/", "/public", false),
            ("/public/", "/publicity/", false),
            ("/files/a.bin", "/files/a.bin", true),
            ("/files/a.bin", "/files/a%2ebin", true),
            ("/files/a.bin", "/files/a.bin2", false),
            ("/~user", "/%7Euser/x", true),
            ("/%7euser", "/~user/x", true),
            ("/größe/", "/gr%c3%b6%C3%9Fe/x", true),
            ("/größe/", "/größe/x", true),
            ("/my files/", "/my%20files/x", true),
            ("/my%20files/", "/my files/x", true),
            ("/a|b", "/a%7cb", true),
            ("/a%7Cb", "/a|b", true),
            ("/a(b)", "/a%28b%29", false),
            ("/100%", "/100%/x", true),
            ("/100%25", "/100%/x", true),
            ("/a%zz", "/a%ZZ", false),
        ] {
            assert_eq!(prefix(given).matches(&path(url_path)), expected, "{given} against {url_path}");
        }
    }

    #[test]
    fn denies_every_reading() {
        for (given, url_path, expected) in [
            ("/", "/anything", true),
            ("/private", "/private", true),
            ("/private", "/private/x", true),
            ("/private", "/privateer", false),
            ("/private", "/public/private", false),
            ("/private/", "/private", true),
            ("/private", "//private/x", true),
            ("/private/x", "/private//x", true),
            ("/private", "/PRIVATE/x", true),
            ("/private", "/priv%61te", true),
            ("/private", "/priv%2561te", true),
            ("/private", "/private;v=1/x", true),
            ("/private", "/%70rivate%3bv/x", true),
            ("/@internal", "/%40internal/x", true),
            ("/a(b)", "/a%28b%29", true),
            ("/größe", "/GR%C3%B6%C3%9Fe", true),
            ("/private", "/public%2f..%2fprivate", true),
            ("/private", "/anything%2fat%2fall", true),
            ("/private", "/x/%252e%252e/y", true),
        ] {
            assert_eq!(prefix(given).may_cover(&path(url_path)), expected, "{given} against {url_path}");
        }
    }

    const SUSPICIOUS: &[&str] = &[
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a%5Cb",
        "/a%00b",
        "/a%252fb",
        "/a%25255cb",
        "/a%2500",
        "/%252e%252e/x",
        "/a/%252e",
        "/a/%25252E%25252e/b",
        "/a/.%252e",
        "/a/%%32%65%%32%65/b",
        "/a/%2%35%32%65./b",
        "/a/..;/b",
        "/a/..;x=1",
        "/a/.;/b",
        "/a/%2e%2e;/b",
        "/a/..%3b/b",
        "/a/%252e%252e%253bx/b",
        "/%c0%ae%c0%ae/b",
        "/a%C0%AFb",
        "/a%c1%9cb",
        "/a%25c0%25afb",
    ];

    #[test]
    fn suspicious_paths_are_never_allowed_and_always_denied() {
        for url_path in SUSPICIOUS.iter().map(|given| path(given)) {
            assert!(suspicious(&url_path), "{url_path}");
            assert!(!prefix("/").matches(&url_path), "{url_path}");
            assert!(prefix("/elsewhere").may_cover(&url_path), "{url_path}");
        }
        for raw in ["", "a", "a/b", "/../a", "/./a", "/a/..", "/a\\b", "/%2e%2E/a"] {
            assert!(suspicious(raw), "{raw}");
            assert!(!prefix("/").matches(raw), "{raw}");
        }
    }

    #[test]
    fn ordinary_paths_are_not_suspicious() {
        for given in [
            "/",
            "//",
            "/a..b",
            "/...",
            "/.well-known/x",
            "/a/..b",
            "/a;b/c",
            "/;",
            "/100%",
            "/%zz",
            "/%",
            "/%2",
            "/a%25b",
            "/a%2520b",
            "/a%2B%20b",
            "/%C3%B6",
            "/file%20(1).pdf",
            "/a%3Fb%23c",
        ] {
            assert!(!suspicious(&path(given)), "{given}");
        }
    }

    #[test]
    fn says_what_to_write_instead() {
        for (given, told) in [
            ("", "write it with a `/` in front"),
            ("public", "write it with a `/` in front"),
            ("https://example.com/", "write it with a `/` in front"),
            ("/a?b", "end before it"),
            ("/a#b", "end before it"),
            ("/a*", "write the path up to it"),
            ("/a/../b", "write the path that is meant"),
            ("/a\\b", "write the path that is meant"),
            ("/a%2fb", "write the path that is meant"),
            ("/a\nb", "write the path that is meant"),
        ] {
            let error = PathPrefix::parse(given).unwrap_err().to_string();
            assert!(error.contains(told) && error.contains(&format!("`{given}`")), "{given}: {error}");
        }
    }

    #[test]
    fn a_long_chain_of_escapes_takes_linear_time() {
        let nested = format!("/%{}2e", "25".repeat(500_000));
        assert!(suspicious(&nested));
    }

    /// Decodes one level at a time, until nothing changes.
    fn decode_slowly(path: &str) -> Vec<u8> {
        let mut bytes = path.as_bytes().to_vec();
        loop {
            let next: Vec<u8> = percent_encoding::percent_decode(&bytes).collect();
            if next == bytes {
                return bytes;
            }
            bytes = next;
        }
    }

    proptest! {
        #[test]
        fn decoding_agrees_with_decoding_level_by_level(path in "/([%25ceEf./a;]|%25|%2e){0,20}") {
            prop_assert_eq!(&*decode_fully(&path), &*decode_slowly(&path));
        }

        #[test]
        fn normal_form_is_stable_and_keeps_the_bytes(given in "/(\\PC|%|[0-9a-f]){0,20}") {
            let once = normal(&given).into_owned();
            prop_assert_eq!(&*normal(&once), &*once);
            let bytes = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
            prop_assert_eq!(bytes(&once), bytes(&given));
        }

        /// What is allowed by a rule is also caught by the same rule as a deny.
        #[test]
        fn deny_is_never_narrower_than_allow(given in "/[ab%2.;/A-C]{0,6}", rest in "[ab%2e5f.;/A-C]{0,8}") {
            if let Ok(prefix) = PathPrefix::parse(&given) {
                let url_path = path(&format!("{given}{rest}"));
                prop_assert!(!prefix.matches(&url_path) || prefix.may_cover(&url_path), "{}", url_path);
                prop_assert!(!(prefix.matches(&url_path) && suspicious(&url_path)), "{}", url_path);
            }
        }

        #[test]
        fn a_prefix_allows_what_is_below_it(given in "/[a-zäß0-9 _~.-]{1,9}", below in "[a-z0-9ü%._-]{0,9}") {
            if let Ok(prefix) = PathPrefix::parse(&given) {
                let url_path = path(&format!("{given}/{below}"));
                if !suspicious(&url_path) && url_path.matches('/').count() == 2 {
                    prop_assert!(prefix.matches(&url_path), "{} against {}", given, url_path);
                }
            }
        }

        #[test]
        fn ordinary_paths_are_never_suspicious(given in "/?[ab/.;%25\\\\\\x00é]{0,9}|/?\\PC{0,9}") {
            prop_assert!(!(is_ordinary(&given) && is_suspicious(&given)), "{}", given);
        }

        #[test]
        fn display_reads_back(given in "/\\PC{0,20}") {
            if let Ok(read) = PathPrefix::parse(&given) {
                prop_assert_eq!(PathPrefix::parse(&read.to_string()), Ok(read));
            }
        }
    }
}
