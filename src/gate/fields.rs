//! The header fields of an upstream's answer, as they came. Most of them nobody asks for, so that none is looked up in a
//! table, and none has memory of its own.

use http::HeaderName;

/// Fields in the order in which they came.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    /// All names and values, one after the other.
    text: Vec<u8>,
    /// Where each name and each value ends in it.
    ends: Vec<[usize; 2]>,
}

impl Fields {
    /// None yet, with room for so many, and so many bytes of names and values.
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), ends: Vec::with_capacity(fields) }
    }

    /// Adds a field. A name may be written with capital letters.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        self.text.extend_from_slice(name.as_bytes());
        let end = self.text.len();
        self.text.extend_from_slice(value);
        self.ends.push([end, self.text.len()]);
    }

    /// Every value of a field.
    pub fn all(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        let (wanted, mut begin) = (name.as_str().as_bytes(), 0);
        self.ends.iter().filter_map(move |&[middle, end]| {
            let found = self.text.get(std::mem::replace(&mut begin, end)..middle)?;
            let is_wanted = found.len() == wanted.len() && found.eq_ignore_ascii_case(wanted);
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
