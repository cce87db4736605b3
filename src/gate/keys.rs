//! The keys that policies name: for links, and for the tokens of an issuer. One algorithm per key, fixed by the policy.

use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::signature as curves;
use jsonwebtoken::{Algorithm, DecodingKey};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::hmac::HmacKey;
use super::id::{KeyId, UnixTime, ValueError};

/// May a key verify, and may it mint?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum KeyStatus {
    /// Verifies and mints.
    #[default]
    Active,
    /// Verifies what was minted before, mints nothing new: the old key during a rotation.
    VerifyOnly,
    /// Neither; its links answer as if the key were unknown.
    Retired,
}

/// A key for links.
#[derive(Debug)]
pub struct LinkKey {
    /// Its id, unique across all tenants.
    pub id: KeyId,
    /// The prepared secret.
    pub hmac: HmacKey,
    /// What it may do.
    pub status: KeyStatus,
    /// The first moment at which it verifies.
    pub not_before: Option<UnixTime>,
    /// The first moment at which it no longer verifies.
    pub not_after: Option<UnixTime>,
}

impl LinkKey {
    /// Does the key verify links at `now`?
    pub fn verifies_at(&self, now: UnixTime) -> bool {
        self.status != KeyStatus::Retired && in_window(now, self.not_before, self.not_after)
    }

    /// Should new links be minted with it at `now`?
    pub fn mints_at(&self, now: UnixTime) -> bool {
        self.status == KeyStatus::Active && in_window(now, self.not_before, self.not_after)
    }
}

fn in_window(now: UnixTime, not_before: Option<UnixTime>, not_after: Option<UnixTime>) -> bool {
    not_before.is_none_or(|from| now >= from) && not_after.is_none_or(|until| now < until)
}

/// The signature algorithms a policy can fix for a token key (RFC 7518 section 3, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[allow(missing_docs)]
pub enum TokenAlgorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    PS256,
    ES256,
    EdDSA,
}

impl TokenAlgorithm {
    /// The name in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::PS256 => "PS256",
            Self::ES256 => "ES256",
            Self::EdDSA => "EdDSA",
        }
    }

    /// Is the key a shared secret?
    pub fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }

    /// The fewest bytes a secret may have: the hash's length (RFC 7518 section 3.2).
    fn min_secret_bytes(self) -> usize {
        match self {
            Self::HS512 => 64,
            Self::HS384 => 48,
            _ => 32,
        }
    }

    fn algorithm(self) -> Algorithm {
        match self {
            Self::HS256 => Algorithm::HS256,
            Self::HS384 => Algorithm::HS384,
            Self::HS512 => Algorithm::HS512,
            Self::RS256 => Algorithm::RS256,
            Self::PS256 => Algorithm::PS256,
            Self::ES256 => Algorithm::ES256,
            Self::EdDSA => Algorithm::EdDSA,
        }
    }
}

/// A key for the tokens of one issuer.
#[derive(Clone)]
pub struct TokenKey {
    algorithm: TokenAlgorithm,
    key: DecodingKey,
}

impl TokenKey {
    /// A shared secret for HS256, HS384 or HS512.
    pub fn symmetric(algorithm: TokenAlgorithm, secret: &SecretString) -> Result<Self, ValueError> {
        if secret.expose_secret().len() < algorithm.min_secret_bytes() {
            return Err(ValueError(
                "the secret is shorter than the algorithm's hash: HS256 needs 32 bytes, HS384 48, HS512 64",
            ));
        }
        HmacKey::new(secret)?; // the same strength as a link's secret
        Ok(Self { algorithm, key: DecodingKey::from_secret(secret.expose_secret().as_bytes()) })
    }

    /// A public key in PEM (SubjectPublicKeyInfo).
    pub fn from_pem(algorithm: TokenAlgorithm, pem: &str) -> Result<Self, ValueError> {
        let bytes = pem.as_bytes();
        let read = match algorithm {
            TokenAlgorithm::RS256 | TokenAlgorithm::PS256 => DecodingKey::from_rsa_pem(bytes),
            TokenAlgorithm::ES256 => DecodingKey::from_ec_pem(bytes),
            TokenAlgorithm::EdDSA => DecodingKey::from_ed_pem(bytes),
            _ => return Err(ValueError("HS256, HS384 and HS512 take a `secret`, not a public key")),
        };
        let key = read.map_err(|_| {
            ValueError("this is not a public key in PEM (`-----BEGIN PUBLIC KEY-----`) for the algorithm")
        })?;
        Self { algorithm, key }.on_its_curve()
    }

    /// The algorithm that the policy fixed.
    pub fn algorithm(&self) -> TokenAlgorithm {
        self.algorithm
    }

    /// Is `signature` (base64url) the signature of `signing_input` under this key and no other algorithm?
    pub fn verifies(&self, signing_input: &str, signature: &str) -> bool {
        jsonwebtoken::crypto::verify(
            signature,
            signing_input.as_bytes(),
            &self.key,
            self.algorithm.algorithm(),
        )
        .unwrap_or(false)
    }

    /// Refuses points off their curve and RSA keys outside 2048 to 8192 bits, before any token is checked with them.
    fn on_its_curve(self) -> Result<Self, ValueError> {
        use jsonwebtoken::DecodingKeyKind;
        let parsed = match (self.algorithm, self.key.kind()) {
            (TokenAlgorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
                curves::ParsedPublicKey::new(&curves::ECDSA_P256_SHA256_FIXED, point).is_ok()
            }
            (TokenAlgorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) => {
                curves::ParsedPublicKey::new(&curves::ED25519, point).is_ok()
            }
            (_, DecodingKeyKind::SecretOrDer(der)) => {
                curves::ParsedPublicKey::new(&curves::RSA_PKCS1_2048_8192_SHA256, der).is_ok()
                    && rsa_size_is_fit(der)
            }
            (_, DecodingKeyKind::RsaModulusExponent { n, e }) => rsa_numbers_are_fit(n, e),
        };
        if parsed {
            Ok(self)
        } else {
            Err(ValueError("the public key is off its curve, or an RSA key outside 2048 to 8192 bits"))
        }
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({})", self.algorithm.name())
    }
}

/// An RSA key in DER is longer than its modulus; 2048 bits are 256 bytes.
fn rsa_size_is_fit(der: &[u8]) -> bool {
    (256..=1100).contains(&der.len())
}

fn rsa_numbers_are_fit(n: &[u8], e: &[u8]) -> bool {
    let significant = n.iter().skip_while(|b| **b == 0).count();
    (256..=1024).contains(&significant)
        && (1..=8).contains(&e.len())
        && e.last().is_some_and(|b| b % 2 == 1)
        && e != [1]
}

/// The keys of an issuer by `kid`.
#[derive(Debug, Default)]
pub struct TokenKeys {
    by_id: HashMap<String, TokenKey>,
}

impl TokenKeys {
    /// Adds a key; false if the id is taken.
    pub fn insert(&mut self, kid: String, key: TokenKey) -> bool {
        self.by_id.insert(kid, key).is_none()
    }

    /// The key a token names; one without `kid` means the only key there is.
    pub fn find(&self, kid: Option<&str>) -> Option<(&str, &TokenKey)> {
        let (kid, key) = match kid {
            Some(kid) => self.by_id.get_key_value(kid)?,
            None if self.by_id.len() == 1 => self.by_id.iter().next()?,
            None => return None,
        };
        Some((kid, key))
    }

    /// The ids, in no order.
    pub(in crate::gate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.by_id.keys().map(String::as_str)
    }

    /// Reads a JWKS document (RFC 7517 section 5). Keys of another type, use or algorithm than the policy fixed are
    /// passed over; symmetric keys never come from a URL.
    pub fn from_jwks(document: &[u8], algorithm: TokenAlgorithm) -> Result<Self, ValueError> {
        const MOST: usize = 64;
        let set: JwkSet = serde_json::from_slice(document)
            .map_err(|_| ValueError("the document is not a JSON Web Key Set"))?;
        let mut keys = Self::default();
        for value in set.keys.into_iter().take(MOST) {
            let Ok(jwk) = serde_json::from_value::<Jwk>(value) else { continue };
            if let Some(key) = jwk.for_algorithm(algorithm) {
                keys.insert(jwk.kid.unwrap_or_default(), key);
            }
        }
        if keys.by_id.is_empty() {
            return Err(ValueError("the key set holds no usable key for the policy's algorithm"));
        }
        Ok(keys)
    }
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    fn for_algorithm(&self, algorithm: TokenAlgorithm) -> Option<TokenKey> {
        let fits = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.alg.as_deref().is_none_or(|alg| alg == algorithm.name());
        let key = match (fits, algorithm, self.kty.as_str(), self.crv.as_deref()) {
            (true, TokenAlgorithm::RS256 | TokenAlgorithm::PS256, "RSA", _) => {
                DecodingKey::from_rsa_components(self.n.as_deref()?, self.e.as_deref()?)
            }
            (true, TokenAlgorithm::ES256, "EC", Some("P-256")) => {
                DecodingKey::from_ec_components(self.x.as_deref()?, self.y.as_deref()?)
            }
            (true, TokenAlgorithm::EdDSA, "OKP", Some("Ed25519")) => {
                DecodingKey::from_ed_components(self.x.as_deref()?)
            }
            _ => return None,
        };
        TokenKey { algorithm, key: key.ok()? }.on_its_curve().ok()
    }
}

/// Key sets fetched from JWKS URLs. The wire fetches; the gate only reads.
pub type FetchedKeys = HashMap<super::policy::KeySetSource, std::sync::Arc<TokenKeys>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_overlaps() {
        let key = |status, from, until| LinkKey {
            id: KeyId::parse("k").unwrap(),
            hmac: HmacKey::decoy().unwrap(),
            status,
            not_before: Some(UnixTime(from)),
            not_after: Some(UnixTime(until)),
        };
        let old = key(KeyStatus::VerifyOnly, 0, 200);
        let new = key(KeyStatus::Active, 100, 900);
        for (now, old_verifies, new_verifies, new_mints) in [
            (99, true, false, false),
            (100, true, true, true),
            (200, false, true, true),
            (900, false, false, false),
        ] {
            let now = UnixTime(now);
            assert_eq!(
                (old.verifies_at(now), new.verifies_at(now), new.mints_at(now)),
                (old_verifies, new_verifies, new_mints),
                "{now}"
            );
            assert!(!old.mints_at(now));
        }
        assert!(!key(KeyStatus::Retired, 0, 900).verifies_at(UnixTime(1)));
    }

    #[test]
    fn points_off_their_curve_never_become_keys() {
        let jwks = br#"{"keys":[{"kty":"EC","crv":"P-256","kid":"bad","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE"}]}"#;
        assert!(TokenKeys::from_jwks(jwks, TokenAlgorithm::ES256).is_err());
    }

    #[test]
    fn a_jwks_gives_only_keys_of_the_fixed_algorithm() {
        // RFC 7517 appendix A.1 and RFC 8037 appendix A.2
        let jwks = br#"{"keys":[
            {"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"},
            {"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"2"},
            {"kty":"oct","k":"c2VjcmV0","kid":"3"}, {"odd":true}]}"#;
        assert!(TokenKeys::from_jwks(jwks, TokenAlgorithm::EdDSA).unwrap().find(Some("2")).is_some());
        assert!(TokenKeys::from_jwks(jwks, TokenAlgorithm::ES256).is_err(), "the EC key is for encryption");
        assert!(TokenKeys::from_jwks(jwks, TokenAlgorithm::HS256).is_err(), "a published secret is none");
    }
}
