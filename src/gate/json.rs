//! JSON with one reading only: a repeated member is an error at any depth (RFC 8725 section 2.4, RFC 8259 section 4).

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How many arrays and objects may stand inside each other.
const MAX_DEPTH: usize = 64;

/// A JSON value. Numbers other than whole, non-negative ones below 2^64 are kept only as "some number".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`, `true` or `false`
    Word,
    /// A whole number from 0 to 2^64-1, written without sign, fraction or exponent.
    Whole(u64),
    /// Any other number.
    Number,
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object.
    Object(BTreeMap<String, Json>),
}

/// Reads a whole text as one JSON object.
pub fn object(bytes: &[u8]) -> Option<BTreeMap<String, Json>> {
    let raw: &RawValue = serde_json::from_slice(bytes).ok()?;
    match read(raw, MAX_DEPTH)? {
        Json::Object(members) => Some(members),
        _ => None,
    }
}

/// A value whose syntax was checked; `levels` arrays and objects may still stand inside each other.
fn read(raw: &RawValue, levels: usize) -> Option<Json> {
    let text = raw.get();
    match text.bytes().next()? {
        b'{' => {
            let levels = levels.checked_sub(1)?;
            let members: Members<'_> = serde_json::from_str(text).ok()?;
            let read = |(name, value)| Some((name, read(value, levels)?));
            members.0.into_iter().map(read).collect::<Option<_>>().map(Json::Object)
        }
        b'[' => {
            let levels = levels.checked_sub(1)?;
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            items.into_iter().map(|item| read(item, levels)).collect::<Option<_>>().map(Json::List)
        }
        b'"' => serde_json::from_str(text).ok().map(Json::Text),
        b't' | b'f' | b'n' => Some(Json::Word),
        _ if text.bytes().all(|b| b.is_ascii_digit()) => Some(text.parse().map_or(Json::Number, Json::Whole)),
        _ => Some(Json::Number),
    }
}

/// The members of an object, each name once.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member is repeated"));
                    }
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reading_only() {
        let good = object(br#" {"a":1,"b":[{"c":-1}],"d":"x","e":null,"f":1.0} "#).unwrap();
        assert_eq!(good["a"], Json::Whole(1));
        assert_eq!(good["f"], Json::Number);
        for bad in [
            &br#"{"a":1,"a":1}"#[..],
            br#"{"a":1,"\u0061":2}"#,
            br#"{"a":{"b":1,"b":2}}"#,
            br#"[{"x":1,"x":1}]"#,
            br"{} {}",
            br"{}x",
            br"{'a':1}",
            br"[]",
            br#""x""#,
            br"{a:1}",
            b"{\"a\":\"\xff\"}",
            br#"{"a":"\ud800"}"#,
            br#"{"a":NaN}"#,
            br#"{"a":01}"#,
            br#"{"a":1,}"#,
            b"",
            b"\xef\xbb\xbf{}",
        ] {
            assert!(object(bad).is_none(), "{}", String::from_utf8_lossy(bad));
        }
        let huge = object(format!("{{\"a\":1{},\"b\":1e999}}", "0".repeat(400)).as_bytes()).unwrap();
        assert_eq!((&huge["a"], &huge["b"]), (&Json::Number, &Json::Number));
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(object(nested(63).as_bytes()).is_some());
        assert!(object(nested(64).as_bytes()).is_none());
        assert!(object(nested(99_999).as_bytes()).is_none());
    }
}
