//! The header fields of an upstream's answer, as they came. Most of them nobody asks for, so that none is looked up in a
//! table, and none is copied.

use std::ops::Range;

use bytes::Bytes;

/// Fields in the order in which they came.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// What they stand in, such as the head as it was read.
    text: Bytes,
    places: Places,
}

/// Where fields stand in a text.
#[derive(Debug, Clone, Default)]
pub struct Places {
    places: Vec<Place>,
    /// The bits of all names.
    bits: u64,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    mark: u32,
    name: [u32; 2],
    value: [u32; 2],
}

/// The name of a field that is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    lower: &'static str,
    usual: &'static str,
    mark: u32,
}

impl Name {
    /// The name in small letters, and as most write it.
    pub const fn new(lower: &'static str, usual: &'static str) -> Self {
        Self { lower, usual, mark: mark(lower.as_bytes()) }
    }

    /// Does `name` say the same, however it is written?
    #[inline]
    fn is(&self, name: &[u8]) -> bool {
        name == self.usual.as_bytes()
            || name == self.lower.as_bytes()
            || name.eq_ignore_ascii_case(self.lower.as_bytes())
    }
}

macro_rules! names {
    ($($name:ident, $lower:literal, $usual:literal;)*) => {
        $(#[doc = concat!("`", $usual, "`")] pub const $name: Name = Name::new($lower, $usual);)*

        #[cfg(test)]
        const NAMES: &[Name] = &[$($name),*];
    };
}

names! {
    ACCEPT_RANGES, "accept-ranges", "Accept-Ranges";
    CACHE_CONTROL, "cache-control", "Cache-Control";
    CONNECTION, "connection", "Connection";
    CONTENT_DISPOSITION, "content-disposition", "Content-Disposition";
    CONTENT_ENCODING, "content-encoding", "Content-Encoding";
    CONTENT_LENGTH, "content-length", "Content-Length";
    CONTENT_RANGE, "content-range", "Content-Range";
    CONTENT_TYPE, "content-type", "Content-Type";
    ETAG, "etag", "ETag";
    LAST_MODIFIED, "last-modified", "Last-Modified";
    LOCATION, "location", "Location";
    REPR_DIGEST, "repr-digest", "Repr-Digest";
    TRANSFER_ENCODING, "transfer-encoding", "Transfer-Encoding";
}

/// Length, first and last byte of a name, however it is written: they tell nearly all fields apart.
#[allow(clippy::cast_possible_truncation, reason = "of a name of 64 KiB any mark is good")]
#[inline]
const fn mark(name: &[u8]) -> u32 {
    match (name.first(), name.last()) {
        (Some(first), Some(last)) => {
            ((name.len() as u32) << 16) | (((*first | 0x20) as u32) << 8) | (*last | 0x20) as u32
        }
        _ => 0,
    }
}

/// One bit of 64, to see at once that there is no such field.
#[inline]
const fn bit(mark: u32) -> u64 {
    1 << ((mark ^ (mark >> 5) ^ (mark >> 16)) & 63)
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
        Self { places: Vec::with_capacity(fields), bits: 0 }
    }

    /// Adds a field whose name and value stand in `text`. A name may be written with capital letters.
    #[inline]
    pub fn push(&mut self, text: &[u8], name: &str, value: &[u8]) {
        let name = name.as_bytes();
        let mark = mark(name);
        self.bits |= bit(mark);
        self.places.push(Place { mark, name: place_of(text, name), value: place_of(text, value) });
    }
}

impl Fields {
    /// The fields of `text`, which stand in these places.
    pub fn new(text: Bytes, places: Places) -> Self {
        Self { text, places }
    }

    #[inline]
    fn places_of(&self, name: Name) -> impl Iterator<Item = [u32; 2]> {
        let there = if self.places.bits & bit(name.mark) == 0 { &[][..] } else { &self.places.places };
        there.iter().filter(move |place| place.mark == name.mark).filter_map(move |place| {
            let is_wanted = name.is(self.text.get(range(place.name))?);
            is_wanted.then_some(place.value)
        })
    }

    /// Every value of a field.
    pub fn all(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.places_of(name).filter_map(|place| self.text.get(range(place)))
    }

    /// The value of a field that stands once.
    pub fn only(&self, name: Name) -> Option<&[u8]> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (Some(value), None) => Some(value),
            _ => None,
        }
    }

    /// The same, for who keeps it: all of the text stays for as long.
    pub fn only_shared(&self, name: Name) -> Option<Bytes> {
        let value = self.only(name)?;
        let [begin, end] = place_of(&self.text, value);
        Some(self.text.slice(range([begin, end])))
    }

    /// Is there such a field?
    pub fn contains(&self, name: Name) -> bool {
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
    use super::*;

    #[test]
    fn a_field_is_found_however_it_is_written() {
        const AGE: Name = Name::new("age", "Age");
        let pairs = [("ETag", &b"a"[..]), ("", b"x"), ("tag", b"y"), ("etag", b""), ("aGE", b"\xff")];
        let fields: Fields = pairs.into_iter().collect();
        assert_eq!(fields.all(ETAG).collect::<Vec<_>>(), [&b"a"[..], b""]);
        assert_eq!((fields.only(ETAG), fields.only(AGE)), (None, Some(&b"\xff"[..])));
        assert_eq!(fields.only_shared(AGE), Some(Bytes::from_static(b"\xff")));
        assert!(fields.contains(AGE) && !fields.contains(Name::new("te", "TE")));
        assert!(fields.contains(Name::new("", "")));
    }

    #[test]
    fn every_name_is_the_same_in_all_its_forms_and_no_other() {
        for name in NAMES {
            let all: Fields = NAMES.iter().map(|other| (other.usual, other.usual.as_bytes())).collect();
            assert_eq!(all.only(*name), Some(name.usual.as_bytes()));
            let large = name.lower.to_ascii_uppercase();
            for spelled in [name.lower, name.usual, &large] {
                let one: Fields = [(spelled, &b"v"[..])].into_iter().collect();
                assert!(
                    NAMES.iter().all(|other| one.contains(*other) == (other.lower == name.lower)),
                    "{spelled}"
                );
            }
        }
    }
}
