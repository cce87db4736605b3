//! The string to sign: what a signature covers, byte for byte (docs/link-format.md).

use std::fmt;

/// The first line; it names the format's version, so that a later version can never be read as this one.
pub const VERSION_LINE: &str = "sluicegate-link-v1";

/// Every parameter a link can have, in the order in which they are signed; `sig`, which is not, is the last. Others are
/// ignored: neither signed nor forwarded.
pub const KNOWN: [&str; 10] =
    ["disposition", "exp", "filename", "id", "ip", "kid", "nbf", "token", "url", "sig"];

const SIG: usize = KNOWN.len() - 1;

/// How the lines of those begin that are signed. All of one length, so that to copy one is a move and no call; what is behind the
/// `=` is written over.
const STARTS: [&[u8; 12]; SIG] = [
    b"disposition=",
    b"exp=        ",
    b"filename=   ",
    b"id=         ",
    b"ip=         ",
    b"kid=        ",
    b"nbf=        ",
    b"token=      ",
    b"url=        ",
];

/// Decoded parameters by name. They are kept as the text that is signed, so that whoever reads a value and whoever proves it
/// look at the same bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Parameters {
    /// The string to sign, and behind it the signature.
    text: String,
    places: Places,
}

/// Where each of [`KNOWN`] has its value in the text.
type Places = [Place; KNOWN.len()];

/// From where to where; there is no value where it ends with nothing in front, since a text begins with the version line. Half
/// as large as a range, because it moves with each request.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    start: u32,
    end: u32,
}

impl Place {
    #[inline]
    fn of(self, text: &str) -> Option<&str> {
        let range = usize::try_from(self.start).ok()?..usize::try_from(self.end).ok()?;
        text.get(range).filter(|_| self != Self::default())
    }
}

impl Parameters {
    /// None yet.
    pub fn new() -> Self {
        Self { text: format!("{VERSION_LINE}\n"), places: Places::default() }
    }

    /// Sets a parameter, or takes it away. A link has no other than those in [`KNOWN`]; for any other, and for a value with which
    /// the text would have more than 4 GiB, this does nothing and says false.
    pub fn set(&mut self, name: &str, value: Option<&str>) -> bool {
        let Some(changed) = position(name) else { return false };
        let mut lines = Lines::with_room_for(self.text.len() + name.len() + value.map_or(0, str::len));
        for at in 0..KNOWN.len() {
            if let Some(value) = if at == changed { value } else { self.value(at) } {
                let added = lines.add(at, |text| text.extend_from_slice(value.as_bytes()));
                if added.is_none() {
                    return false;
                }
            }
        }
        // Of texts it makes a text, always.
        lines.end().map(|anew| *self = anew).is_ok()
    }

    /// A parameter's value.
    #[inline]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.value(position(name)?)
    }

    #[inline]
    fn value(&self, at: usize) -> Option<&str> {
        self.places.get(at)?.of(&self.text)
    }

    /// All values, in the order of [`KNOWN`].
    #[inline]
    pub(in crate::gate) fn values(&self) -> [Option<&str>; KNOWN.len()] {
        self.places.map(|place| place.of(&self.text))
    }

    /// Is it given, if only empty?
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All that are given, in the order in which they are signed, and then the signature.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        KNOWN.into_iter().zip(self.values()).filter_map(|(name, value)| Some((name, value?)))
    }

    /// The version line, then `name=value` for every parameter but `sig`, sorted by name, each line ended by a newline. Values
    /// hold no control characters, so no value can imitate a line.
    pub fn string_to_sign(&self) -> &str {
        let sig = self.value(SIG).map_or(0, str::len);
        self.text.get(..self.text.len().saturating_sub(sig)).unwrap_or_default()
    }
}

impl Default for Parameters {
    fn default() -> Self {
        Self::new()
    }
}

/// Parameters in the making, in the order of [`KNOWN`].
pub(in crate::gate) struct Lines {
    text: Vec<u8>,
    places: Places,
}

impl Lines {
    /// None yet, and room for a text of `length` behind the version line.
    pub(in crate::gate) fn with_room_for(length: usize) -> Self {
        let mut text = Vec::with_capacity(VERSION_LINE.len() + length + 2);
        text.extend_from_slice(VERSION_LINE.as_bytes());
        text.push(b'\n');
        Self { text, places: Places::default() }
    }

    /// Adds the parameter that stands at `at` in [`KNOWN`], whose value `write` appends. None, after which these lines are of no
    /// use, if the text has more than 4 GiB.
    #[inline]
    pub(in crate::gate) fn add<T>(&mut self, at: usize, write: impl FnOnce(&mut Vec<u8>) -> T) -> Option<T> {
        let (name, place) = (KNOWN.get(at)?, self.places.get_mut(at)?);
        if let Some(start) = STARTS.get(at) {
            let end = self.text.len() + name.len() + 1;
            self.text.extend_from_slice(*start);
            self.text.truncate(end);
        }
        let start = u32::try_from(self.text.len()).ok()?;
        let written = write(&mut self.text);
        *place = Place { start, end: u32::try_from(self.text.len()).ok()? };
        if at != SIG {
            self.text.push(b'\n');
        }
        Some(written)
    }

    /// Fails with the name of the first parameter whose value is not UTF-8.
    pub(in crate::gate) fn end(self) -> Result<Parameters, &'static str> {
        let Self { text, places } = self;
        match String::from_utf8(text) {
            Ok(text) => Ok(Parameters { text, places }),
            Err(fault) => {
                let at = u32::try_from(fault.utf8_error().valid_up_to()).unwrap_or(u32::MAX);
                let place = places.iter().position(|place| (place.start..place.end).contains(&at));
                Err(place.and_then(|at| KNOWN.get(at)).copied().unwrap_or_default())
            }
        }
    }
}

/// Where a parameter stands in [`KNOWN`]. Written out, a constant name costs nothing and any other one comparison of its length.
#[inline]
pub(in crate::gate) fn position(name: &str) -> Option<usize> {
    Some(match name {
        "disposition" => 0,
        "exp" => 1,
        "filename" => 2,
        "id" => 3,
        "ip" => 4,
        "kid" => 5,
        "nbf" => 6,
        "token" => 7,
        "url" => 8,
        "sig" => SIG,
        _ => return None,
    })
}

/// Credentials are not shown.
impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value)| (name, if matches!(name, "sig" | "token") { "redacted" } else { value });
        f.debug_map().entries(self.iter().map(shown)).finish()
    }
}

impl<'n, V: AsRef<str>> FromIterator<(&'n str, V)> for Parameters {
    fn from_iter<I: IntoIterator<Item = (&'n str, V)>>(pairs: I) -> Self {
        let mut parameters = Self::new();
        for (name, value) in pairs {
            parameters.set(name, Some(value.as_ref()));
        }
        parameters
    }
}

impl<V: AsRef<str>, const N: usize> From<[(&str, V); N]> for Parameters {
    fn from(pairs: [(&str, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parameters() -> impl Strategy<Value = Parameters> {
        let name = proptest::sample::select(KNOWN.as_slice()).prop_filter("not signed", |n| *n != "sig");
        proptest::collection::btree_map(name, "[^\\x00-\\x1f\\x7f-\\x9f]{0,12}", 0..8)
            .prop_map(|pairs| pairs.into_iter().collect())
    }

    proptest! {
        #[test]
        fn no_two_parameter_sets_share_a_string_to_sign(a in parameters(), b in parameters()) {
            prop_assert_eq!(a == b, a.string_to_sign() == b.string_to_sign());
        }

        /// Bytes moved across a field's border, the attack on signatures without delimiters.
        #[test]
        fn moving_bytes_between_fields_changes_the_string(url in "[a-z0-9=]{2,12}", id in "[a-z0-9=]{2,12}", at in 1usize..2) {
            let before: Parameters = [("id", id.clone()), ("url", url.clone())].into();
            let (kept, moved) = url.split_at(at);
            let after: Parameters = [("id", format!("{id}{moved}")), ("url", kept.to_owned())].into();
            prop_assert_ne!(before.string_to_sign(), after.string_to_sign());
        }
    }

    #[test]
    fn each_parameter_has_its_place() {
        for (at, name) in KNOWN.into_iter().enumerate() {
            assert_eq!(position(name), Some(at), "{name}");
            let start = STARTS.get(at).map(|start| std::str::from_utf8(*start).unwrap().trim_end());
            assert_eq!(start, Some(&*format!("{name}=")).filter(|_| name != "sig"));
        }
        assert_eq!((position("URL"), position("")), (None, None));
    }

    #[test]
    fn absent_and_empty_differ() {
        let absent: Parameters = [("url", "u".to_owned())].into();
        let empty: Parameters = [("url", "u".to_owned()), ("id", String::new())].into();
        assert_ne!(absent.string_to_sign(), empty.string_to_sign());
        assert_eq!(empty.string_to_sign(), "sluicegate-link-v1\nid=\nurl=u\n");
    }

    #[test]
    fn a_value_is_set_changed_and_taken_away() {
        let mut parameters: Parameters = [("url", "u"), ("sig", "s"), ("exp", "1")].into();
        assert_eq!(parameters.string_to_sign(), "sluicegate-link-v1\nexp=1\nurl=u\n");
        parameters.set("exp", Some("23"));
        parameters.set("kid", Some("ö"));
        assert!(!parameters.set("nobody", Some("x")));
        assert_eq!(parameters.string_to_sign(), "sluicegate-link-v1\nexp=23\nkid=ö\nurl=u\n");
        assert_eq!(format!("{parameters:?}"), r#"{"exp": "23", "kid": "ö", "url": "u", "sig": "redacted"}"#);
        for name in ["sig", "exp", "kid", "url"] {
            parameters.set(name, None);
            assert!(!parameters.contains_key(name));
        }
        assert_eq!(parameters, Parameters::new());
    }
}
