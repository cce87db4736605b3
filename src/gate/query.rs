//! Reads the raw query: decodes once, knows the link's parameters, refuses ambiguity, ignores strangers.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::canonical::{KNOWN, Parameters, position};
use super::link::LinkError;

/// The longest query that is read, in bytes; CloudFront takes URLs up to 8,192 bytes.
pub const MAX_QUERY_BYTES: usize = 8192;
/// The most `&`-separated pieces that are read.
pub const MAX_PIECES: usize = 64;

/// Splits and decodes `raw` as `application/x-www-form-urlencoded`, strictly: a parameter of the link that is repeated,
/// wrongly escaped, not UTF-8 or holds control characters is an error; other parameters are not even decoded.
pub fn read(raw: &str) -> Result<Parameters<'_>, LinkError> {
    if raw.len() > MAX_QUERY_BYTES {
        return Err(LinkError::QueryTooLong);
    }
    if !raw.bytes().fold(true, |all, byte| all & byte.is_ascii_graphic()) {
        return Err(LinkError::QueryNotAscii);
    }
    let mut parameters = Parameters::new();
    let mut rest = raw;
    let mut count = 0;
    while !rest.is_empty() {
        let piece = cut(&mut rest, b'&');
        if piece.is_empty() {
            continue;
        }
        if count >= MAX_PIECES {
            return Err(LinkError::TooManyParameters);
        }
        count += 1;
        let mut value = piece;
        let name = cut(&mut value, b'=');
        let Some(name) = known(name) else { continue };
        let value = decode(value).ok_or(LinkError::BadEncoding(name))?;
        if has_control(&value) {
            return Err(LinkError::ControlCharacter(name));
        }
        if parameters.insert(name, value).is_some() {
            return Err(LinkError::Repeated(name));
        }
    }
    Ok(parameters)
}

/// What stands before the first `mark`, which leaves what stands after it. Both ends of a text that is ASCII are characters.
fn cut<'t>(rest: &mut &'t str, mark: u8) -> &'t str {
    let end = memchr(mark, rest.as_bytes()).unwrap_or(rest.len());
    let before = rest.get(..end).unwrap_or_default();
    *rest = rest.get(end + 1..).unwrap_or_default();
    before
}

fn known(name: &str) -> Option<&'static str> {
    let find = |name: &str| KNOWN.get(position(name)?).copied();
    // Hardly anybody writes a name with escapes.
    find(name).or_else(|| match decode(name)? {
        Cow::Borrowed(_) => None,
        Cow::Owned(decoded) => find(&decoded),
    })
}

/// C0, DEL and C1 (U+0080 to U+009F, in UTF-8 C2 80 to C2 9F). In ASCII a byte is a character.
fn has_control(text: &str) -> bool {
    if text.is_ascii() {
        text.bytes().fold(false, |any, byte| any | byte.is_ascii_control())
    } else {
        text.chars().any(char::is_control)
    }
}

/// Decodes percent escapes and `+`, once; `None` for an escape that is none, or for what is not UTF-8.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if memchr2(b'%', b'+', text.as_bytes()).is_none() {
        return Some(Cow::Borrowed(text));
    }
    // What an address has of plain bytes between its escapes is so short that one after the other is the quickest. It becomes no
    // longer by it. (Memory that is asked for as zeros comes from further away.)
    let mut decoded = text.as_bytes().to_vec();
    let (mut bytes, mut length) = (text.bytes(), 0);
    for place in &mut decoded {
        *place = match bytes.next() {
            None => break,
            Some(b'%') => (hex(bytes.next()?)? << 4) | hex(bytes.next()?)?,
            Some(b'+') => b' ',
            Some(plain) => plain,
        };
        length += 1;
    }
    decoded.truncate(length);
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The library decodes what is no escape as itself, and what is no UTF-8 as U+FFFD: both are errors here.
        #[test]
        fn values_are_decoded_as_forms_are(raw in "([a-z%+=]|%[0-9A-Fa-f]{2}|%C3%A9|%[a-z]){0,12}") {
            let pair = format!("url={raw}");
            let (_, form) = url::form_urlencoded::parse(pair.as_bytes()).next().unwrap();
            match read(&pair) {
                Ok(parameters) => prop_assert_eq!(parameters.get("url"), Some(&*form)),
                Err(LinkError::ControlCharacter(_)) => prop_assert!(form.chars().any(char::is_control)),
                Err(LinkError::BadEncoding(_)) => {
                    prop_assert!(form.contains(['%', '\u{fffd}']), "{} as {}", raw, form);
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }

    fn one(raw: &str) -> Result<String, LinkError> {
        read(raw).map(|p| format!("{p:?}"))
    }

    #[test]
    fn values_are_decoded_once_and_strangers_ignored() {
        assert_eq!(
            one("url=a%20b+c&%75tm_source=%zz&&utm=%ff&filename=%D1%8F&URL=x&url%5B%5D=y&id").unwrap(),
            r#"{"filename": "я", "id": "", "url": "a b c"}"#
        );
        assert_eq!(one("%75rl=x%2541").unwrap(), r#"{"url": "x%41"}"#);
        assert_eq!(one("url=a;id=b").unwrap(), r#"{"url": "a;id=b"}"#);
        assert_eq!(one("").unwrap(), "{}");
    }

    #[test]
    fn ambiguity_is_refused() {
        assert_eq!(one("url=a&url=a").unwrap_err(), LinkError::Repeated("url"));
        assert_eq!(one("url=a&%75rl=a").unwrap_err(), LinkError::Repeated("url"));
        for bad in ["url=%", "url=%2", "url=%zz", "url=%ff", "url=%ed%a0%80", "url=%c0%af"] {
            assert_eq!(one(bad).unwrap_err(), LinkError::BadEncoding("url"), "{bad}");
        }
        for bad in ["url=%00", "url=a%0Ab", "url=%7f", "url=%C2%85"] {
            assert_eq!(one(bad).unwrap_err(), LinkError::ControlCharacter("url"), "{bad}");
        }
        assert_eq!(one("url=ä").unwrap_err(), LinkError::QueryNotAscii);
        assert_eq!(one(&"a&".repeat(65)).unwrap_err(), LinkError::TooManyParameters);
        assert_eq!(one(&"a".repeat(8193)).unwrap_err(), LinkError::QueryTooLong);
        assert!(one(&"a&".repeat(64)).is_ok());
    }
}
