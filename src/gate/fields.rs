//! The header fields of an upstream's answer, as they came. Most of them nobody asks for, so that none is looked up in a
//! table, and none has memory of its own.

use http::HeaderName;

/// Fields in the order in which they came.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// All names and values, one after the other.
    text: Vec<u8>,
    places: Vec<Place>,
}

/// Where a field stands in the text.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// How long its name is, which tells most fields apart.
    length: usize,
    /// Where its name begins, that ends, and its value ends.
    marks: [usize; 3],
}

impl Fields {
    /// None yet, with room for so many, and so many bytes of names and values.
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), places: Vec::with_capacity(fields) }
    }

    /// Adds a field. A name may be written with capital letters.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let begin = self.text.len();
        self.text.extend_from_slice(name.as_bytes());
        let middle = self.text.len();
        self.text.extend_from_slice(value);
        self.places.push(Place { length: name.len(), marks: [begin, middle, self.text.len()] });
    }

    /// Every value of a field.
    pub fn all(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        let wanted = name.as_str().as_bytes();
        self.places.iter().filter(move |place| place.length == wanted.len()).filter_map(move |place| {
            let [begin, middle, end] = place.marks;
            let is_wanted = self.text.get(begin..middle)?.eq_ignore_ascii_case(wanted);
            if is_wanted { self.text.get(middle..end) } else { None }
        })
    }

    /// The value of a field that stands once.
    pub fn only(&self, name: &HeaderName) -> Option<&[u8]> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (Some(value), None) => Some(value),
            _ => None,
        }
    }

    /// Is there such a field?
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.all(name).next().is_some()
    }
}

impl<'f> FromIterator<(&'f str, &'f [u8])> for Fields {
    fn from_iter<I: IntoIterator<Item = (&'f str, &'f [u8])>>(pairs: I) -> Self {
        let mut fields = Self::default();
        for (name, value) in pairs {
            fields.push(name, value);
        }
        fields
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
