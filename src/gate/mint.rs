//! Makes links: the same canonical string, the other way round.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::canonical::Parameters;
use super::hmac::HmacKey;
use super::id::{KeyId, UnixTime};
use super::link::{LinkError, read_link};
use super::policy::Policies;

/// Everything but the unreserved characters of RFC 3986 section 2.3, so that a link has one spelling.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The order in which a minted link names its parameters.
const ORDER: [&str; 9] = ["url", "kid", "exp", "nbf", "filename", "disposition", "id", "ip", "sig"];

/// How much of a value an error shows, in characters.
const MOST_SHOWN: usize = 200;

/// How long a link is good if nobody says, in seconds.
pub const DEFAULT_EXPIRES_IN: u64 = 3600;

/// What a link shall say, in the words that the command line, the console and every client library use
/// (`clients/README.md`). Times are Unix seconds, spans are seconds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkOptions {
    /// The upstream file.
    #[serde(default)]
    pub url: String,
    /// How long the link is good; [`DEFAULT_EXPIRES_IN`] if neither this nor `exp` is given.
    pub expires_in: Option<u64>,
    /// When it ends, in place of `expires_in`.
    pub exp: Option<u64>,
    /// Moves the end up to the next multiple of this, so that links made within that span are equal.
    pub align_to: Option<u64>,
    /// When it begins to be good (parameter `nbf`).
    pub not_before: Option<u64>,
    /// The name under which the file is saved.
    pub filename: Option<String>,
    /// `attachment` or `inline`.
    pub disposition: Option<String>,
    /// A link id, for revocation and audit.
    pub id: Option<String>,
    /// The client address or network that may use the link.
    pub ip: Option<String>,
}

impl LinkOptions {
    /// The link as it would be signed at `now`.
    ///
    /// ```
    /// use sluicegate::gate::{id::{KeyId, UnixTime}, mint::LinkOptions};
    ///
    /// let options = LinkOptions { url: "https://a.example/".into(), align_to: Some(300), ..LinkOptions::default() };
    /// assert_eq!(options.end(UnixTime(1_800_000_001))?, UnixTime(1_800_003_900));
    /// assert!(options.draft(&KeyId::parse("demo")?, UnixTime(1_800_000_001)).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn draft(&self, kid: &KeyId, now: UnixTime) -> Result<Draft, MintError> {
        let mut draft = Draft::new(&self.url, kid, self.end(now)?);
        let not_before = self.not_before.map(|nbf| nbf.to_string());
        for (name, value) in [
            ("nbf", &not_before),
            ("filename", &self.filename),
            ("disposition", &self.disposition),
            ("id", &self.id),
            ("ip", &self.ip),
        ] {
            if let Some(value) = value {
                draft = draft.with(name, value.as_str());
            }
        }
        Ok(draft)
    }

    /// What is wrong, with the value that is at fault.
    pub fn complaint(&self, error: &MintError) -> String {
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        let value = match error.option() {
            Some("url") => Some(self.url.clone()),
            Some("filename") => self.filename.clone(),
            Some("disposition") => self.disposition.clone(),
            Some("id") => self.id.clone(),
            Some("ip") => self.ip.clone(),
            Some("not_before") => number(self.not_before),
            _ => None,
        };
        match value {
            // A URL's query may hold a credential.
            Some(value) => {
                let value = value.split('?').next().unwrap_or_default().escape_debug();
                let shown: String = value.take(MOST_SHOWN).collect();
                format!("{error}; it is `{shown}`")
            }
            None => error.to_string(),
        }
    }

    /// When the link ends that is made at `now`.
    pub fn end(&self, now: UnixTime) -> Result<UnixTime, MintError> {
        let (end, option) = match (self.exp, self.expires_in) {
            (Some(_), Some(_)) => return Err(MintError::TwoEnds),
            (_, Some(0)) => return Err(MintError::NoSpan("expires_in")),
            (Some(exp), None) => (exp, "exp"),
            (None, span) => (now.0.saturating_add(span.unwrap_or(DEFAULT_EXPIRES_IN)), "expires_in"),
        };
        let in_time = |end: u64, option| {
            if end > UnixTime::MAX.0 { Err(MintError::TooLate(option)) } else { Ok(UnixTime(end)) }
        };
        let end = in_time(end, option)?;
        match self.align_to {
            None => Ok(end),
            Some(0) => Err(MintError::NoSpan("align_to")),
            Some(span) => in_time(end.0.checked_next_multiple_of(span).unwrap_or(u64::MAX), "align_to"),
        }
    }
}

/// What a link shall say. Values are checked when it is signed.
#[derive(Debug, Clone)]
pub struct Draft {
    parameters: Parameters,
    /// What was to be set and is no parameter of a link.
    unknown: Option<&'static str>,
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
            unknown: None,
        }
    }

    /// Sets `nbf`, `filename`, `disposition`, `id` or `ip`.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        if !self.parameters.set(name, Some(&value.into())) {
            self.unknown = Some(name);
        }
        self
    }

    /// Signs, after the same checks that a gateway makes when it reads the link.
    pub fn sign(mut self, key: &HmacKey) -> Result<Minted, LinkError> {
        if let Some(name) = self.unknown {
            return Err(LinkError::Malformed(name, "a link has no such parameter; leave it out"));
        }
        if let Some((name, _)) = self.parameters.iter().find(|(_, value)| value.chars().any(char::is_control))
        {
            return Err(LinkError::ControlCharacter(name));
        }
        let string_to_sign = self.parameters.string_to_sign().to_owned();
        let signature = key.tag(&string_to_sign).encode();
        self.parameters.set("sig", Some(&signature));
        read_link(self.parameters.clone())?;
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
    #[error("no policy has a key `{0}`; use the `id` of one of its `[[keys]]`")]
    UnknownKey(KeyId),
    /// `verify-only`, `retired` or outside its window.
    #[error("key `{0}` does not mint now; use one with status `active` within its window")]
    NotMinting(KeyId),
    /// Two different ends.
    #[error("`exp` and `expires_in` exclude each other; give one of them")]
    TwoEnds,
    /// A span that is none.
    #[error("`{0}` is `0`; give one second or more")]
    NoSpan(&'static str),
    /// An end that no link can name.
    #[error("with this `{0}` the link would end after {max}, the last moment that a link can name", max = UnixTime::MAX)]
    TooLate(&'static str),
    /// What a gateway would refuse to read.
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl MintError {
    /// The field of [`LinkOptions`] that is at fault, or `kid`.
    pub fn option(&self) -> Option<&'static str> {
        let parameter = match self {
            Self::UnknownKey(_) | Self::NotMinting(_) => "kid",
            Self::TwoEnds => "exp",
            Self::NoSpan(option) | Self::TooLate(option) => option,
            Self::Link(
                LinkError::Malformed(name, _) | LinkError::ControlCharacter(name) | LinkError::Missing(name),
            ) => name,
            Self::Link(LinkError::QueryTooLong) => "url",
            Self::Link(_) => return None,
        };
        Some(if parameter == "nbf" { "not_before" } else { parameter })
    }
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
            ("name", "x"),
        ] {
            assert!(draft().with(name, value).sign(&key).is_err(), "{name}={value}");
        }
        assert!(Draft::new("https://a.example/", &kid, UnixTime(1_000_000_000_000)).sign(&key).is_err());
    }
}
