//! Values of an answer's fields, written one after the other into memory that they share. They live until the head is written,
//! and then it is used again.

use std::cell::RefCell;

use bytes::BytesMut;
use http::HeaderValue;

/// How much is reserved when there is too little room.
const BLOCK: usize = 1000;
/// As much as nearly every value needs.
const ROOM: usize = 128;

thread_local! {
    static TEXT: RefCell<BytesMut> = RefCell::default();
}

/// The value that consists of `parts`; `None` if it can be none.
pub(super) fn value(parts: &[&str]) -> Option<HeaderValue> {
    written(|text| parts.iter().for_each(|part| text.extend_from_slice(part.as_bytes())))
}

/// A number as a value.
pub(super) fn number(number: u64) -> Option<HeaderValue> {
    value(&[itoa::Buffer::new().format(number)])
}

/// The value that `write` appends to the text it is given; `None` if it can be none.
pub(super) fn written(write: impl FnOnce(&mut BytesMut)) -> Option<HeaderValue> {
    TEXT.with_borrow_mut(|text| {
        if text.capacity() < ROOM {
            text.reserve(BLOCK);
        }
        write(text);
        HeaderValue::from_maybe_shared(text.split().freeze()).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_what_they_were_given() {
        let long = "a".repeat(3 * BLOCK);
        let values: Vec<_> =
            (0..1000).map(|count| (count, number(count).unwrap(), value(&["x", &long]))).collect();
        for (count, number, text) in values {
            assert_eq!(number, count.to_string());
            assert_eq!(text.unwrap(), format!("x{long}"));
        }
    }

    #[test]
    fn what_is_no_value_leaves_nothing_behind() {
        assert_eq!(value(&["a\n", "b"]), None);
        assert_eq!(value(&["c", "d"]).unwrap(), "cd");
        assert_eq!(value(&[]).unwrap(), "");
    }
}
