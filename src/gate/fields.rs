//! The header fields of an upstream's answer, as they came. Most of them nobody asks for, so that none is looked up in a
//! table, and none is copied.

use std::ops::Range;

use bytes::Bytes;
use http::HeaderName;

/// Fields in the order in which they came.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// What they stand in, such as the head as it was read.
    text: Bytes,
    places: Places,
}

/// Where fields stand in a text.
#[derive(Debug, Clone, Default)]
pub struct Places(Vec<Place>);

#[derive(Debug, Clone, Copy)]
struct Place {
    mark: u32,
    name: [u32; 2],
    value: [u32; 2],
}

/// Length, first and last byte of a name, however it is written: they tell nearly all fields apart.
#[inline]
fn mark(name: &[u8]) -> u32 {
    let small = |byte: Option<&u8>| u32::from(byte.map_or(0, |byte| byte | 0x20));
    let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
    (length << 16) | (small(name.first()) << 8) | small(name.last())
}

/// Where `part` stands in `whole`; what does not, stands nowhere.
#[inline]
fn place_of(whole: &[u8], part: &[u8]) -> [u32; 2] {
    let begin = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
    [begin, begin.wrapping_add(part.len())].map(|at| u32::try_from(at).unwrap_or(u32::MAX))
}

#[inline]
fn range([begin, end]: [u32; 2]) -> Range<usize> {
    // There is no smaller machine.
    begin as usize..end as usize
}

impl Places {
    /// None yet, with room for so many.
    pub fn with_capacity(fields: usize) -> Self {
        Self(Vec::with_capacity(fields))
    }

    /// Adds a field whose name and value stand in `text`. A name may be written with capital letters.
    #[inline]
    pub fn push(&mut self, text: &[u8], name: &str, value: &[u8]) {
        let name = name.as_bytes();
        self.0.push(Place { mark: mark(name), name: place_of(text, name), value: place_of(text, value) });
    }
}

impl Fields {
    /// The fields of `text`, which stand in these places.
    pub fn new(text: Bytes, places: Places) -> Self {
        Self { text, places }
    }

    fn places_of(&self, name: &HeaderName) -> impl Iterator<Item = [u32; 2]> {
        let wanted = name.as_str().as_bytes();
        let mark = mark(wanted);
        self.places.0.iter().filter(move |place| place.mark == mark).filter_map(move |place| {
            let is_wanted = self.text.get(range(place.name))?.eq_ignore_ascii_case(wanted);
            is_wanted.then_some(place.value)
        })
    }

    /// Every value of a field.
    pub fn all(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        self.places_of(name).filter_map(|place| self.text.get(range(place)))
    }

    /// The value of a field that stands once.
    pub fn only(&self, name: &HeaderName) -> Option<&[u8]> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (Some(value), None) => Some(value),
            _ => None,
        }
    }

    /// The same, for who keeps it: all of the text stays for as long.
    pub fn only_shared(&self, name: &HeaderName) -> Option<Bytes> {
        self.only(name)?;
        self.places_of(name).next().map(|place| self.text.slice(range(place)))
    }

    /// Is there such a field?
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.all(name).next().is_some()
    }
}

impl<'f> FromIterator<(&'f str, &'f [u8])> for Fields {
    fn from_iter<I: IntoIterator<Item = (&'f str, &'f [u8])>>(pairs: I) -> Self {
        let pairs: Vec<_> = pairs.into_iter().collect();
        let parts: Vec<_> = pairs.iter().flat_map(|(name, value)| [name.as_bytes(), value]).collect();
        let text = Bytes::from(parts.concat());
        let mut places = Places::with_capacity(pairs.len());
        let mut rest = &*text;
        for (name, value) in pairs {
            let (named, behind) = rest.split_at(name.len());
            let (valued, behind) = behind.split_at(value.len());
            places.push(&text, std::str::from_utf8(named).unwrap_or_default(), valued);
            rest = behind;
        }
        Self { text, places }
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    #[test]
    fn a_field_is_found_however_it_is_written() {
        let pairs = [("ETag", &b"a"[..]), ("", b"x"), ("tag", b"y"), ("etag", b""), ("Age", b"\xff")];
        let fields: Fields = pairs.into_iter().collect();
        assert_eq!(fields.all(&header::ETAG).collect::<Vec<_>>(), [&b"a"[..], b""]);
        assert_eq!((fields.only(&header::ETAG), fields.only(&header::AGE)), (None, Some(&b"\xff"[..])));
        assert!(fields.contains(&header::AGE) && !fields.contains(&header::TE));
    }
}
