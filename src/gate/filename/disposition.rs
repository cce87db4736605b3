//! `Content-Disposition`: read leniently from an upstream, written strictly to the client.
//!
//! Source: RFC 6266, and RFC 8187 for `filename*`.

use std::fmt;
use std::str::FromStr;

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;

use super::FileName;
use crate::gate::bytes::Bytes;

/// All but `attr-char` of RFC 8187, section 3.2.1.
const NOT_ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// What of a quoted string every browser reads as it stands.
static PLAIN: Bytes = Bytes::PRINTABLE.without(b"\"\\%");

/// What a browser is to do with the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Disposition {
    /// Save it.
    #[default]
    Attachment,
    /// Show it, if it can.
    Inline,
}

impl Disposition {
    /// The word of the header and of the link's parameter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attachment => "attachment",
            Self::Inline => "inline",
        }
    }
}

impl fmt::Display for Disposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Neither `attachment` nor `inline`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a disposition; write `attachment` or `inline`")]
pub struct UnknownDisposition(String);

impl FromStr for Disposition {
    type Err = UnknownDisposition;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        match given {
            "attachment" => Ok(Self::Attachment),
            "inline" => Ok(Self::Inline),
            // Escaped, so that it is safe in a log.
            _ => Err(UnknownDisposition(given.escape_debug().to_string())),
        }
    }
}

/// The header's value for this name: ASCII, one line, at most 1100 bytes.
///
/// A name of plain ASCII stands in `filename` alone. A name with any other character, or with `"`, `\` or `%`, which browsers
/// read in different ways, stands in `filename*`, and `filename` holds it with `_` for each of those.
pub fn content_disposition(kind: Disposition, name: &FileName) -> HeaderValue {
    let mut value = String::new();
    write_disposition(kind, name, |part| value.push_str(part));
    // It holds visible ASCII and spaces only; without that the browser still gets the disposition.
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(kind.as_str()))
}

/// The same, part by part, for who has memory for it.
pub fn write_disposition(kind: Disposition, name: &FileName, mut write: impl FnMut(&str)) {
    let name = name.as_str();
    // In ASCII a byte is a character.
    let parts = [kind.as_str(), "; filename=\""];
    parts.into_iter().for_each(&mut write);
    if PLAIN.are_all_of(name.as_bytes()) {
        [name, "\""].into_iter().for_each(write);
        return;
    }
    let plain: String = name
        .chars()
        .map(|c| if u8::try_from(c).is_ok_and(|byte| PLAIN.are_all_of(&[byte])) { c } else { '_' })
        .collect();
    let exact = utf8_percent_encode(name, NOT_ATTR_CHAR).to_string();
    [&plain, "\"; filename*=UTF-8''", &exact].into_iter().for_each(write);
}

/// The file name in an upstream's header, as it stands there: not cleaned, maybe a path. `filename*` goes before `filename`.
///
/// Reads what upstreams send rather than what RFC 6266 lets them: a missing disposition type, raw UTF-8 or ISO-8859-1, spaces
/// in a token, quotes around an extended value, a quote that never ends.
pub(super) fn read(header: &[u8]) -> Option<String> {
    let (mut plain, mut extended) = (None, None);
    for parameter in parameters(header) {
        let Some((name, value)) = split(parameter, b'=') else { continue };
        let value = unquote(value.trim_ascii());
        match &*name.trim_ascii().to_ascii_lowercase() {
            b"filename" => plain = plain.or_else(|| Some(text(&value))),
            b"filename*" => extended = extended.or_else(|| extended_text(&value)),
            _ => {}
        }
    }
    extended.or(plain).filter(|name| !name.is_empty())
}

/// The parts between semicolons that stand outside quotes.
fn parameters(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    header.split(move |byte| {
        let was_escaped = std::mem::replace(&mut escaped, false);
        match byte {
            b'\\' if quoted && !was_escaped => escaped = true,
            b'"' if !was_escaped => quoted = !quoted,
            _ => {}
        }
        *byte == b';' && !quoted
    })
}

/// The content of a quoted string (RFC 9110, section 5.6.4), or the value itself if it is none.
fn unquote(value: &[u8]) -> Vec<u8> {
    let Some(quoted) = value.strip_prefix(b"\"") else { return value.to_vec() };
    let mut content = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => break,
            b'\\' => content.extend(bytes.next()),
            _ => content.push(byte),
        }
    }
    content
}

/// The value of `filename*`: `charset'language'octets` (RFC 8187, section 3.2), in one of its two character sets.
fn extended_text(value: &[u8]) -> Option<String> {
    let (charset, rest) = split(value, b'\'')?;
    let (_language, octets) = split(rest, b'\'')?;
    let decoded: Vec<u8> = percent_decode_str(std::str::from_utf8(octets).ok()?).collect();
    match &*charset.to_ascii_lowercase() {
        b"utf-8" => String::from_utf8(decoded).ok(),
        b"iso-8859-1" => Some(decoded.into_iter().map(char::from).collect()),
        _ => None,
    }
}

/// UTF-8, or else ISO-8859-1, in which every byte is a character.
fn text(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => value.iter().copied().map(char::from).collect(),
    }
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let mut parts = bytes.splitn(2, |byte| *byte == at);
    Some((parts.next()?, parts.next()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gate::filename::SignedFileName;

    fn named(name: &str) -> FileName {
        let signed = SignedFileName::parse(name).ok();
        FileName::choose(signed.as_ref(), None, "/", None, Some(name))
    }

    #[test]
    fn writes_one_form_or_both() {
        for (name, expected) in [
            ("report.pdf", r#"attachment; filename="report.pdf""#),
            ("a b; c, d='e'.txt", r#"attachment; filename="a b; c, d='e'.txt""#),
            ("größe.txt", r#"attachment; filename="gr__e.txt"; filename*=UTF-8''gr%C3%B6%C3%9Fe.txt"#),
            ("100%.txt", r#"attachment; filename="100_.txt"; filename*=UTF-8''100%25.txt"#),
            (
                r#"he said "x".txt"#,
                r#"attachment; filename="he said _x_.txt"; filename*=UTF-8''he%20said%20%22x%22.txt"#,
            ),
            (
                "日本 (1)'*.zip",
                r#"attachment; filename="__ (1)'*.zip"; filename*=UTF-8''%E6%97%A5%E6%9C%AC%20%281%29%27%2A.zip"#,
            ),
        ] {
            assert_eq!(content_disposition(Disposition::Attachment, &named(name)), expected, "{name}");
        }
        assert_eq!(content_disposition(Disposition::Inline, &named("a.pdf")), r#"inline; filename="a.pdf""#);
    }

    #[test]
    fn reads_what_upstreams_send() {
        for (header, expected) in [
            ("attachment; filename=a.txt", Some("a.txt")),
            ("attachment; filename=\"a b.txt\"", Some("a b.txt")),
            ("attachment;FILENAME = \"a.txt\" ; size=5", Some("a.txt")),
            ("filename=a.txt", Some("a.txt")),
            ("attachment; filename=a b.txt", Some("a b.txt")),
            (r#"attachment; filename="a\"b\\c.txt""#, Some(r#"a"b\c.txt"#)),
            (r#"attachment; filename="a;b.txt"; x=y"#, Some("a;b.txt")),
            (r#"attachment; filename="a\";b.txt""#, Some("a\";b.txt")),
            ("attachment; filename=\"open.txt", Some("open.txt")),
            ("attachment; filename=\"größe.txt\"", Some("größe.txt")),
            ("attachment; filename=a.txt; filename*=UTF-8''b.txt", Some("b.txt")),
            ("attachment; filename*=utf-8'en'gr%C3%B6%c3%9fe.txt; filename=a.txt", Some("größe.txt")),
            ("attachment; filename*=ISO-8859-1''%A3.txt", Some("£.txt")),
            ("attachment; filename*=\"UTF-8''b.txt\"", Some("b.txt")),
            ("attachment; filename=a.txt; filename*=UTF-8''%ff", Some("a.txt")),
            ("attachment; filename=a.txt; filename*=koi8-r''%C1", Some("a.txt")),
            ("attachment; filename=a.txt; filename*=b.txt", Some("a.txt")),
            ("attachment; filename=a.txt; filename=b.txt", Some("a.txt")),
            ("attachment; filename=\"\"", None),
            ("attachment; filename=", None),
            ("attachment; filename", None),
            ("attachment; x=\"; filename=a.txt\"", None),
            ("attachment; myfilename=a.txt", None),
            ("attachment", None),
            ("", None),
        ] {
            assert_eq!(read(header.as_bytes()).as_deref(), expected, "{header}");
        }
        assert_eq!(read(b"attachment; filename=\"gr\xf6\xdfe.txt\"").as_deref(), Some("größe.txt"));
    }

    #[test]
    fn a_disposition_is_one_of_two_words() {
        assert_eq!("attachment".parse(), Ok(Disposition::Attachment));
        assert_eq!("inline".parse(), Ok(Disposition::Inline));
        assert_eq!(Disposition::default(), Disposition::Attachment);
        for given in ["", "Inline", "inline ", "form-data", "inline\r\nx: y"] {
            let error = given.parse::<Disposition>().unwrap_err().to_string();
            assert!(error.ends_with("write `attachment` or `inline`") && !error.contains('\n'), "{error}");
        }
    }

    /// A strict reader of the grammar of RFC 6266, section 4.1, apart from the code above. Panics on any deviation.
    mod strict {
        use std::collections::BTreeMap;

        pub(super) struct Header {
            pub(super) kind: String,
            pub(super) parameters: BTreeMap<String, String>,
        }

        fn is_token(c: char) -> bool {
            c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
        }

        fn token(text: &str) -> (String, &str) {
            let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
            assert!(end > 0, "no token at `{text}`");
            (text[..end].to_owned(), &text[end..])
        }

        fn quoted(text: &str) -> (String, &str) {
            let (mut content, mut escaped) = (String::new(), false);
            for (at, c) in text.char_indices().skip(1) {
                assert!((' '..='~').contains(&c) || c == '\t', "{c:?} in a quoted string");
                match c {
                    _ if escaped => {
                        content.push(c);
                        escaped = false;
                    }
                    '\\' => escaped = true,
                    '"' => return (content, &text[at + 1..]),
                    _ => content.push(c),
                }
            }
            panic!("`{text}` does not end");
        }

        fn extended(text: &str) -> (String, &str) {
            let rest = text.strip_prefix("UTF-8''").expect("UTF-8 without a language");
            let end = rest.find([';', ' ']).unwrap_or(rest.len());
            let (mut bytes, mut chars) = (Vec::new(), rest[..end].chars());
            while let Some(c) = chars.next() {
                if c == '%' {
                    let digits: String = chars.by_ref().take(2).collect();
                    assert!(digits.len() == 2 && digits == digits.to_uppercase());
                    bytes.push(u8::from_str_radix(&digits, 16).unwrap());
                } else {
                    assert!(c.is_ascii_alphanumeric() || "!#$&+-.^_`|~".contains(c), "{c:?} is no attr-char");
                    bytes.push(c as u8);
                }
            }
            (String::from_utf8(bytes).unwrap(), &rest[end..])
        }

        pub(super) fn read(header: &str) -> Header {
            let (kind, mut rest) = token(header);
            let mut parameters = BTreeMap::new();
            while let Some(parameter) = rest.strip_prefix("; ") {
                let (name, after) = token(parameter);
                let value = after.strip_prefix('=').expect("a value");
                let (value, after) = match name.strip_suffix('*') {
                    Some(_) => extended(value),
                    None if value.starts_with('"') => quoted(value),
                    None => token(value),
                };
                assert!(parameters.insert(name, value).is_none(), "a parameter twice");
                rest = after;
            }
            assert_eq!(rest, "", "something is left");
            Header { kind, parameters }
        }
    }

    proptest! {
        #[test]
        fn the_header_reads_back_to_the_name(name in "(\\PC|[\"%\\\\;'\r\n\u{0}]|filename\\*=){0,60}|.{0,300}", inline: bool) {
            let name = named(&name);
            let kind = if inline { Disposition::Inline } else { Disposition::Attachment };
            let value = content_disposition(kind, &name);
            let text = value.to_str().unwrap();
            prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && text.len() <= 1100);
            let header = strict::read(text);
            prop_assert_eq!(header.kind, kind.as_str());
            let plain = &header.parameters["filename"];
            prop_assert!(!plain.contains(['"', '\\', '%', '/']));
            prop_assert_eq!(header.parameters.get("filename*").unwrap_or(plain), name.as_str());
            prop_assert_eq!(read(text.as_bytes()), Some(name.to_string()));
        }

        #[test]
        fn reading_never_panics(header: Vec<u8>, odd in "(filename|\\*|=|\"|;|\\\\|'|%[0-9a-f]?|UTF-8| ){0,20}") {
            let _ = read(&header);
            let _ = read(odd.as_bytes());
        }
    }
}
