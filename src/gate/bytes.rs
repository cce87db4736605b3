//! Sets of bytes. Most texts of a request are so short that one look into a table for each byte is the quickest.

/// Bytes that a text may have.
pub(crate) struct Bytes([bool; 256]);

#[allow(
    clippy::indexing_slicing,
    reason = "a byte is less than 256, and the compiler looks where a constant is made"
)]
impl Bytes {
    /// ASCII's letters and digits.
    pub(crate) const ALPHANUMERIC: Self = Self::from(b'0', b'9').and(b'A', b'Z').and(b'a', b'z');
    /// What is seen of ASCII, and the space.
    pub(crate) const PRINTABLE: Self = Self::from(b' ', b'~');

    /// Those from `first` to `last`.
    pub(crate) const fn from(first: u8, last: u8) -> Self {
        Self([false; 256]).and(first, last)
    }

    /// Also those from `first` to `last`.
    pub(crate) const fn and(mut self, first: u8, last: u8) -> Self {
        let mut byte = first as usize;
        while byte <= last as usize {
            self.0[byte] = true;
            byte += 1;
        }
        self
    }

    /// Also these.
    pub(crate) const fn with(self, more: &[u8]) -> Self {
        self.set(more, true)
    }

    /// Not these.
    pub(crate) const fn without(self, fewer: &[u8]) -> Self {
        self.set(fewer, false)
    }

    const fn set(mut self, bytes: &[u8], is_in: bool) -> Self {
        let mut at = 0;
        while at < bytes.len() {
            self.0[bytes[at] as usize] = is_in;
            at += 1;
        }
        self
    }

    /// Has the text no others?
    #[inline]
    pub(crate) fn are_all_of(&self, text: &[u8]) -> bool {
        // Without an end before the end, there is nothing to guess for the processor.
        text.iter().fold(true, |all, byte| all & self.0[usize::from(*byte)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_into_it() {
        const SET: Bytes = Bytes::ALPHANUMERIC.with(b"-.").without(b"q");
        for byte in 0..=u8::MAX {
            let expected = (byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')) && byte != b'q';
            assert_eq!(SET.are_all_of(&[b'a', byte, b'b']), expected, "{byte}");
            assert_eq!(Bytes::PRINTABLE.are_all_of(&[byte]), (b' '..0x7f).contains(&byte), "{byte}");
        }
        assert!(SET.are_all_of(b""));
    }
}
