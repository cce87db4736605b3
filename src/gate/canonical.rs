//! The string to sign: what a signature covers, byte for byte (docs/link-format.md).

use std::borrow::Cow;
use std::fmt;

/// The first line; it names the format's version, so that a later version can never be read as this one.
pub const VERSION_LINE: &str = "sluicegate-link-v1";

/// Every parameter a link can have, in the order in which they are signed. Others are ignored: neither signed nor forwarded.
pub const KNOWN: [&str; 10] =
    ["disposition", "exp", "filename", "id", "ip", "kid", "nbf", "sig", "token", "url"];

/// Decoded parameters by name, each at its place in [`KNOWN`]. What needs no decoding is borrowed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Parameters<'t>([Option<Cow<'t, str>>; KNOWN.len()]);

impl<'t> Parameters<'t> {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a parameter; gives back what it was. A link has no other than those in [`KNOWN`], so any other is given back too.
    pub fn insert(&mut self, name: &str, value: impl Into<Cow<'t, str>>) -> Option<Cow<'t, str>> {
        match position(name).and_then(|at| self.0.get_mut(at)) {
            Some(place) => place.replace(value.into()),
            None => Some(value.into()),
        }
    }

    /// Takes a parameter away.
    pub fn remove(&mut self, name: &str) -> Option<Cow<'t, str>> {
        self.0.get_mut(position(name)?)?.take()
    }

    /// A parameter's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(position(name)?)?.as_deref()
    }

    /// Is it given, if only empty?
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All that are given, in the order in which they are signed.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        KNOWN.into_iter().zip(&self.0).filter_map(|(name, value)| Some((name, value.as_deref()?)))
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
        "sig" => 7,
        "token" => 8,
        "url" => 9,
        _ => return None,
    })
}

impl fmt::Debug for Parameters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<'n, 't, V: Into<Cow<'t, str>>> FromIterator<(&'n str, V)> for Parameters<'t> {
    fn from_iter<I: IntoIterator<Item = (&'n str, V)>>(pairs: I) -> Self {
        let mut parameters = Self::new();
        for (name, value) in pairs {
            parameters.insert(name, value);
        }
        parameters
    }
}

impl<'t, V: Into<Cow<'t, str>>, const N: usize> From<[(&str, V); N]> for Parameters<'t> {
    fn from(pairs: [(&str, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

/// The string to sign: the version line, then `name=value` for every parameter but `sig`, sorted by name, each line
/// ended by a newline. Values hold no control characters, so no value can imitate a line.
pub fn string_to_sign(parameters: &Parameters<'_>) -> String {
    let signed = || parameters.iter().filter(|(name, _)| *name != "sig");
    let length: usize = signed().map(|(name, value)| name.len() + value.len() + 2).sum();
    let mut text = String::with_capacity(VERSION_LINE.len() + 1 + length);
    text.push_str(VERSION_LINE);
    text.push('\n');
    for (name, value) in signed() {
        text.push_str(name);
        text.push('=');
        text.push_str(value);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parameters() -> impl Strategy<Value = Parameters<'static>> {
        let name = proptest::sample::select(KNOWN.as_slice()).prop_filter("not signed", |n| *n != "sig");
        proptest::collection::btree_map(name, "[^\\x00-\\x1f\\x7f-\\x9f]{0,12}", 0..8)
            .prop_map(|pairs| pairs.into_iter().collect())
    }

    proptest! {
        #[test]
        fn no_two_parameter_sets_share_a_string_to_sign(a in parameters(), b in parameters()) {
            prop_assert_eq!(a == b, string_to_sign(&a) == string_to_sign(&b));
        }

        /// Bytes moved across a field's border, the attack on signatures without delimiters.
        #[test]
        fn moving_bytes_between_fields_changes_the_string(url in "[a-z0-9=]{2,12}", id in "[a-z0-9=]{2,12}", at in 1usize..2) {
            let before: Parameters<'_> = [("id", id.clone()), ("url", url.clone())].into();
            let (kept, moved) = url.split_at(at);
            let after: Parameters<'_> = [("id", format!("{id}{moved}")), ("url", kept.to_owned())].into();
            prop_assert_ne!(string_to_sign(&before), string_to_sign(&after));
        }
    }

    #[test]
    fn each_parameter_has_its_place() {
        for (at, name) in KNOWN.into_iter().enumerate() {
            assert_eq!(position(name), Some(at), "{name}");
        }
        assert_eq!((position("URL"), position("")), (None, None));
    }

    #[test]
    fn absent_and_empty_differ() {
        let absent: Parameters<'_> = [("url", "u".to_owned())].into();
        let empty: Parameters<'_> = [("url", "u".to_owned()), ("id", String::new())].into();
        assert_ne!(string_to_sign(&absent), string_to_sign(&empty));
        assert_eq!(string_to_sign(&empty), "sluicegate-link-v1\nid=\nurl=u\n");
    }
}
