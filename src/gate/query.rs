//! Reads the raw query: decodes once, knows the link's parameters, refuses ambiguity, ignores strangers.

use memchr::{memchr, memchr2};

use super::canonical::{KNOWN, Lines, Parameters, position};
use super::link::LinkError;

/// The longest query that is read, in bytes; CloudFront takes URLs up to 8,192 bytes.
pub const MAX_QUERY_BYTES: usize = 8192;
/// The most `&`-separated pieces that are read.
pub const MAX_PIECES: usize = 64;

/// Splits and decodes `raw` as `application/x-www-form-urlencoded`, strictly: a parameter of the link that is repeated,
/// wrongly escaped, not UTF-8 or holds control characters is an error; other parameters are not even decoded.
pub fn read(raw: &str) -> Result<Parameters, LinkError> {
    if raw.len() > MAX_QUERY_BYTES {
        return Err(LinkError::QueryTooLong);
    }
    // Of a long text the compiler looks at many bytes at once.
    if !raw.bytes().fold(true, |all, byte| all & byte.is_ascii_graphic()) {
        return Err(LinkError::QueryNotAscii);
    }
    let values = split(raw)?;
    // Enough as a rule: what is decoded is no longer than it was, and a line's `=` and newline are the query's `=` and `&`.
    let mut lines = Lines::with_room_for(raw.len());
    let mut is_odd = false;
    for (at, (name, value)) in KNOWN.into_iter().zip(values).enumerate() {
        if let Some(value) = value {
            let decoded = lines.add(at, |text| decode(value, text)).flatten();
            is_odd |= decoded.ok_or(LinkError::BadEncoding(name))?;
        }
    }
    let parameters = lines.end().map_err(LinkError::BadEncoding)?;
    if is_odd
        && let Some((name, _)) = parameters.iter().find(|(_, value)| value.chars().any(char::is_control))
    {
        return Err(LinkError::ControlCharacter(name));
    }
    Ok(parameters)
}

/// The values of the link's parameters, as they stand in the query, in the order of [`KNOWN`].
fn split(raw: &str) -> Result<[Option<&str>; KNOWN.len()], LinkError> {
    let mut values = [None; KNOWN.len()];
    let mut rest = raw;
    let mut count = 0;
    while !rest.is_empty() {
        let end = memchr(b'&', rest.as_bytes());
        let piece = cut(&mut rest, end);
        if piece.is_empty() {
            continue;
        }
        if count >= MAX_PIECES {
            return Err(LinkError::TooManyParameters);
        }
        count += 1;
        let mut value = piece;
        // Names are short.
        let end = value.bytes().position(|byte| byte == b'=');
        let name = cut(&mut value, end);
        let Some((place, name)) = known(name).and_then(|at| Some((values.get_mut(at)?, KNOWN.get(at)?)))
        else {
            continue;
        };
        if place.replace(value).is_some() {
            return Err(LinkError::Repeated(name));
        }
    }
    Ok(values)
}

/// What stands before `end`, which leaves what stands behind it. Both ends of a text that is ASCII are characters.
fn cut<'t>(rest: &mut &'t str, end: Option<usize>) -> &'t str {
    let end = end.unwrap_or(rest.len());
    let before = rest.get(..end).unwrap_or_default();
    *rest = rest.get(end + 1..).unwrap_or_default();
    before
}

fn known(name: &str) -> Option<usize> {
    // Hardly anybody writes a name with escapes.
    position(name).or_else(|| {
        memchr(b'%', name.as_bytes())?;
        let mut decoded = Vec::new();
        decode(name, &mut decoded)?;
        position(std::str::from_utf8(&decoded).ok()?)
    })
}

/// Appends what `text` means: percent escapes and `+` decoded, once. `None` for an escape that is none; otherwise whether an
/// escape stood for anything but a character of ASCII that can be seen or a space.
fn decode(text: &str, into: &mut Vec<u8>) -> Option<bool> {
    let start = into.len();
    into.extend_from_slice(text.as_bytes());
    let Some(first) = memchr2(b'%', b'+', text.as_bytes()) else { return Some(false) };
    // It becomes no longer, so that the place is there already.
    let (mut rest, mut length, mut is_odd) = (text.as_bytes().get(first..)?, start + first, false);
    while !rest.is_empty() {
        // What an address has of plain bytes between its escapes is a few: eight at once, of which those behind a mark are
        // written over.
        let places = into.get_mut(length..).and_then(<[u8]>::first_chunk_mut);
        if let (Some(eight), Some(places)) = (rest.first_chunk(), places) {
            *places = *eight;
            let plain = plain_bytes(*eight);
            (rest, length) = (rest.get(plain..)?, length + plain);
            if plain == eight.len() {
                continue;
            }
        }
        let (byte, behind) = match rest {
            [b'%', high, low, behind @ ..] => {
                let byte = (hex(*high)? << 4) | hex(*low)?;
                is_odd |= !(b' '..0x7f).contains(&byte);
                (byte, behind)
            }
            [b'%', ..] | [] => return None,
            [b'+', behind @ ..] => (b' ', behind),
            [plain, behind @ ..] => (*plain, behind),
        };
        *into.get_mut(length)? = byte;
        (rest, length) = (behind, length + 1);
    }
    into.truncate(length);
    Some(is_odd)
}

/// How many of them stand before the first `%` or `+`.
fn plain_bytes(eight: [u8; 8]) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    let word = u64::from_le_bytes(eight);
    // The high bit of each byte that is zero; above the first of them it may err, which does not matter here.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let marks = zeros(word ^ (ONES * u64::from(b'%'))) | zeros(word ^ (ONES * u64::from(b'+')));
    (marks.trailing_zeros() / u8::BITS) as usize
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
        // Which parameter it is that is no UTF-8, or holds such a character.
        assert_eq!(one("url=%c3&filename=%a9").unwrap_err(), LinkError::BadEncoding("filename"));
        assert_eq!(one("kid=k&sig=%ff&url=%c3%a9").unwrap_err(), LinkError::BadEncoding("sig"));
        assert_eq!(one("url=%c3%a9&sig=%00&id=%20").unwrap_err(), LinkError::ControlCharacter("sig"));
        assert_eq!(one("url=ä").unwrap_err(), LinkError::QueryNotAscii);
        assert_eq!(one(&"a&".repeat(65)).unwrap_err(), LinkError::TooManyParameters);
        assert_eq!(one(&"a".repeat(8193)).unwrap_err(), LinkError::QueryTooLong);
        assert!(one(&"a&".repeat(64)).is_ok());
    }
}
