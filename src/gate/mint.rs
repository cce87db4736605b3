//! Makes links: the same canonical string, the other way round.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::canonical::{Parameters, string_to_sign};
use super::hmac::HmacKey;
use super::id::{KeyId, UnixTime};
use super::link::{LinkError, read_link};
use super::policy::Policies;

/// Everything but the unreserved characters of RFC 3986 section 2.3, so that a link has one spelling.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The order in which a minted link names its parameters.
const ORDER: [&str; 9] = ["url", "kid", "exp", "nbf", "filename", "disposition", "id", "ip", "sig"];

/// What a link shall say. Values are checked when it is signed.
#[derive(Debug, Clone)]
pub struct Draft {
    parameters: Parameters,
}

/// A signed link and what was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minted {
    /// The query, without `?`.
    pub query: String,
    /// The text under the signature.
    pub string_to_sign: String,
    /// The signature as it stands in the query.
    pub signature: String,
}

impl Draft {
    /// A link to `url`, good until `exp`.
    ///
    /// ```
    /// use sluicegate::gate::{hmac::HmacKey, id::{KeyId, UnixTime}, mint::Draft};
    ///
    /// let secret = "sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG".to_owned().into();
    /// let link = Draft::new("https://files.example.com/a.pdf", &KeyId::parse("demo")?, UnixTime(1_900_000_000))
    ///     .with("filename", "Отчёт.pdf")
    ///     .sign(&HmacKey::new(&secret)?)?;
    /// assert!(link.query.starts_with("url=https%3A%2F%2Ffiles.example.com%2Fa.pdf&kid=demo&exp=1900000000&"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(url: &str, kid: &KeyId, exp: UnixTime) -> Self {
        Self {
            parameters: [("url", url.to_owned()), ("kid", kid.to_string()), ("exp", exp.to_string())].into(),
        }
    }

    /// Sets `nbf`, `filename`, `disposition`, `id` or `ip`.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.parameters.insert(name, value.into());
        self
    }

    /// Signs, after the same checks that a gateway makes when it reads the link.
    pub fn sign(mut self, key: &HmacKey) -> Result<Minted, LinkError> {
        if let Some((name, _)) = self.parameters.iter().find(|(_, value)| value.chars().any(char::is_control))
        {
            return Err(LinkError::ControlCharacter(name));
        }
        let string_to_sign = string_to_sign(&self.parameters);
        let signature = key.tag(&string_to_sign).encode();
        self.parameters.insert("sig", signature.clone());
        read_link(&self.parameters)?;
        let pairs = ORDER.iter().filter_map(|name| {
            let value = self.parameters.get(name)?;
            Some(format!("{name}={}", utf8_percent_encode(value, RESERVED)))
        });
        let query = pairs.collect::<Vec<_>>().join("&");
        if query.len() > super::query::MAX_QUERY_BYTES {
            return Err(LinkError::QueryTooLong);
        }
        Ok(Minted { query, string_to_sign, signature })
    }
}

/// Why no link was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// No tenant has a key of this id.
    #[error("no policy has a key `{0}`")]
    UnknownKey(KeyId),
    /// `verify-only`, `retired` or outside its window.
    #[error("key `{0}` does not mint now; use one with status `active` within its window")]
    NotMinting(KeyId),
    /// What a gateway would refuse to read.
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl Policies {
    /// Signs a draft with a key of the set, if the key mints at `now`.
    pub fn mint(&self, draft: Draft, kid: &KeyId, now: UnixTime) -> Result<Minted, MintError> {
        let signer = self.link_keys.get(kid).ok_or_else(|| MintError::UnknownKey(kid.clone()))?;
        if !signer.key.mints_at(now) {
            return Err(MintError::NotMinting(kid.clone()));
        }
        Ok(draft.sign(&signer.key.hmac)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gateway_would_refuse_is_not_signed() {
        let key =
            HmacKey::new(&"sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG".to_owned().into()).unwrap();
        let kid = KeyId::parse("k").unwrap();
        let draft = || Draft::new("https://a.example/", &kid, UnixTime(5));
        assert!(draft().sign(&key).is_ok());
        for (name, value) in [
            ("filename", "a/b"),
            ("nbf", "01"),
            ("ip", "x"),
            ("id", "ä"),
            ("disposition", "x"),
            ("filename", "a\nb"),
            ("filename", ""),
            ("url", "https://u@a.example/"),
        ] {
            assert!(draft().with(name, value).sign(&key).is_err(), "{name}={value}");
        }
        assert!(Draft::new("https://a.example/", &kid, UnixTime(1_000_000_000_000)).sign(&key).is_err());
    }
}
