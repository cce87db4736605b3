//! A token as presented: compact JWS, taken apart strictly, not yet believed. RFC 7515 section 3, RFC 8725.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::json::{self, Json};

/// The longest token, in characters.
pub const MAX_TOKEN_CHARS: usize = 8192;

/// Not a compact JWS. Carries no part of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// More than [`MAX_TOKEN_CHARS`].
    #[error("it is longer than 8192 characters")]
    TooLong,
    /// A header value that is not visible ASCII.
    #[error("it is not ASCII text")]
    NotText,
    /// Not `header.claims.signature`.
    #[error("it does not consist of exactly three parts")]
    Parts,
    /// Not canonical base64url without padding.
    #[error("a part is not base64url without padding")]
    Base64,
    /// Not one JSON object with unique members.
    #[error("header or claims are not a JSON object with unique members")]
    Json,
}

/// A header member or claim is there but has another form than it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongForm;

/// A token, parsed but not verified.
pub struct Token {
    header: BTreeMap<String, Json>,
    claims: BTreeMap<String, Json>,
    text: String,
    signature_at: usize,
}

impl Token {
    /// Takes a compact JWS apart.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        if text.len() > MAX_TOKEN_CHARS {
            return Err(TokenError::TooLong);
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(TokenError::NotText);
        }
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Parts);
        };
        let decode = |part: &str| match part {
            "" => Err(TokenError::Parts),
            part => URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Base64),
        };
        let (header_bytes, claims_bytes) = (decode(header)?, decode(claims)?);
        decode(signature)?;
        Ok(Self {
            header: json::object(&header_bytes).ok_or(TokenError::Json)?,
            claims: json::object(&claims_bytes).ok_or(TokenError::Json)?,
            signature_at: text.len() - signature.len(),
            text: text.to_owned(),
        })
    }

    /// The header's `alg`, if it is text.
    pub fn alg(&self) -> Option<&str> {
        match self.header.get("alg") {
            Some(Json::Text(alg)) => Some(alg),
            _ => None,
        }
    }

    /// The header's `kid`; `Err` if it is not text.
    pub fn kid(&self) -> Result<Option<&str>, WrongForm> {
        match self.header.get("kid") {
            None => Ok(None),
            Some(Json::Text(kid)) => Ok(Some(kid)),
            Some(_) => Err(WrongForm),
        }
    }

    /// No header member but `alg`, `typ` and `kid`, and a `typ` that means a token of ours. This refuses `crit`,
    /// `jku`, `jwk`, `x5u`, `x5c`, `b64` and `zip` alike, whatever they hold.
    pub fn has_plain_header(&self) -> bool {
        self.header.iter().all(|(name, value)| match (name.as_str(), value) {
            ("alg" | "kid", _) => true,
            ("typ", Json::Text(typ)) => {
                typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("sluicegate+jwt")
            }
            _ => false,
        })
    }

    /// The bytes that the signature covers.
    pub fn signing_input(&self) -> &str {
        self.text.get(..self.signature_at.saturating_sub(1)).unwrap_or("")
    }

    /// The token as presented.
    pub(in crate::gate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The signature, still encoded.
    pub fn signature(&self) -> &str {
        self.text.get(self.signature_at..).unwrap_or("")
    }

    /// A claim that is text; `Err` if it is present and is not.
    pub fn text(&self, name: &str) -> Result<Option<&str>, WrongForm> {
        match self.claims.get(name) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(_) => Err(WrongForm),
        }
    }

    /// A claim that is a whole number of at most twelve digits; `Err` if it is present and is not.
    pub fn seconds(&self, name: &str) -> Result<Option<u64>, WrongForm> {
        match self.claims.get(name) {
            None => Ok(None),
            Some(Json::Whole(seconds)) if *seconds <= 999_999_999_999 => Ok(Some(*seconds)),
            Some(_) => Err(WrongForm),
        }
    }

    /// A claim that is a list of 1 to `most` texts; `Err` if it is present and is not.
    pub fn texts(&self, name: &str, most: usize) -> Result<Option<Vec<&str>>, WrongForm> {
        let Some(value) = self.claims.get(name) else { return Ok(None) };
        let Json::List(items) = value else { return Err(WrongForm) };
        if !(1..=most).contains(&items.len()) {
            return Err(WrongForm);
        }
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            let Json::Text(text) = item else { return Err(WrongForm) };
            texts.push(text.as_str());
        }
        Ok(Some(texts))
    }

    /// `aud`: one text, or 1 to 8 of them (RFC 7519 section 4.1.3).
    pub fn audiences(&self) -> Result<Vec<&str>, WrongForm> {
        match self.claims.get("aud") {
            Some(Json::Text(one)) => Ok(vec![one]),
            Some(_) => self.texts("aud", 8)?.ok_or(WrongForm),
            None => Err(WrongForm),
        }
    }

    /// Does the token grant a set of URLs, so that the request must name one?
    pub(in crate::gate) fn leaves_the_url_open(&self) -> bool {
        self.claims.contains_key("urls") && !self.claims.contains_key("url")
    }
}

/// A token is a credential: shown is only that there is one.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn structure_is_checked_before_anything_is_believed() {
        let good = token(r#"{"alg":"HS256"}"#, r#"{"aud":["a","b"],"exp":1}"#);
        let parsed = Token::parse(&good).unwrap();
        assert_eq!(format!("{}.{}", parsed.signing_input(), parsed.signature()), good);
        assert_eq!(parsed.audiences(), Ok(vec!["a", "b"]));
        assert_eq!(format!("{parsed:?}"), "Token(redacted)");
        for (bad, fault) in [
            ("a.b".to_owned(), TokenError::Parts),
            (format!("{good}.x"), TokenError::Parts),
            (good.replace(".c2ln", "."), TokenError::Parts),
            (format!("{good}="), TokenError::Base64),
            (good.replace("c2ln", "c2lnAB"), TokenError::Base64),
            (format!("{good} "), TokenError::NotText),
            (token("[]", "{}"), TokenError::Json),
            (token("{}", r#"{"exp":1,"exp":2}"#), TokenError::Json),
            ("a".repeat(8193), TokenError::TooLong),
        ] {
            assert_eq!(Token::parse(&bad).unwrap_err(), fault, "{bad}");
        }
    }

    #[test]
    fn header_members_that_carry_keys_or_extensions_are_not_plain() {
        for (header, plain) in [
            (r#"{"alg":"HS256","typ":"jwt","kid":"k"}"#, true),
            (r#"{"alg":"HS256","typ":"sluicegate+jwt"}"#, true),
            (r#"{"alg":"HS256","typ":"at+jwt"}"#, false),
            (r#"{"alg":"HS256","typ":1}"#, false),
            (r#"{"alg":"HS256","crit":[]}"#, false),
            (r#"{"alg":"HS256","jku":"https://x"}"#, false),
            (r#"{"alg":"HS256","jwk":{}}"#, false),
            (r#"{"alg":"HS256","b64":false}"#, false),
        ] {
            assert_eq!(Token::parse(&token(header, "{}")).unwrap().has_plain_header(), plain, "{header}");
        }
    }
}
