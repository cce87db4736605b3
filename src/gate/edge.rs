//! What the edge must know to verify by itself: the policy set as entries of a key-value store.
//!
//! | key | value |
//! |---|---|
//! | `k/<kid>` | a key for links |
//! | `i/<issuer>/<audience>` | a pair of issuer and audience, each as a short hash |
//! | `i/<issuer>/<audience>/<kid>` | one of its keys, with the secret if the edge can verify with it |
//! | `r/<tenant>/<id>` | a revoked link id |
//! | `f/<code>` | how a refusal reads |
//!
//! The values hold signing secrets: the signature of a link is symmetric, so who verifies can sign
//! (docs/adr/0018). CloudFront's KeyValueStore takes 512 bytes of key, 1 KB of value and 5 MB in all.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::headers::{CHALLENGE, COMMON, PROBLEM_TYPE};
use super::id::UnixTime;
use super::keys::{KeyStatus, TokenAlgorithm};
use super::partition::short_hash;
use super::policy::{
    IssuerEntry, KeyEntry, Policies, PolicyFile, PolicySource, SecretFault, SecretRef, Tenant, TokenKeyEntry,
};
use super::refusal::Code;

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;
/// The longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 1024;
/// The largest store, in bytes of keys and values.
pub const MAX_STORE_BYTES: usize = 5 * 1024 * 1024;
/// HMAC takes the hash of a key that is longer than the block of its hash function (RFC 2104 section 2).
const HMAC_BLOCK: usize = 64;

/// The refusals that the edge gives itself.
const REFUSALS: [Code; 10] = [
    Code::MalformedLink,
    Code::MissingCredential,
    Code::InvalidSignature,
    Code::LinkExpired,
    Code::LinkNotYetValid,
    Code::LinkRevoked,
    Code::ClientNotAllowed,
    Code::LifetimeTooLong,
    Code::UrlNotAllowed,
    Code::NotFound,
];

/// Why a policy set cannot be put into a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EdgeError {
    /// More than [`MAX_STORE_BYTES`].
    #[error(
        "the edge's store would hold {bytes} bytes in {entries} entries, and takes {MAX_STORE_BYTES}; tenant `{largest}` \
         has most of them; drop revoked link ids whose links have expired, or spread the tenants over several stacks"
    )]
    TooLarge {
        /// What it would hold.
        bytes: usize,
        /// In how many entries.
        entries: usize,
        /// The tenant with the most bytes.
        largest: String,
    },
    /// A value or key over its limit.
    #[error(
        "entry `{key}` has {bytes} bytes; the edge's store takes {MAX_VALUE_BYTES} for a value and {MAX_KEY_BYTES} for a key"
    )]
    EntryTooLarge {
        /// Its key.
        key: String,
        /// Its length.
        bytes: usize,
    },
    /// A secret that could be read before and now cannot.
    #[error("{0}")]
    Secret(String),
}

/// The entries by key. The values are secret: `Debug` does not show them.
pub type Entries = BTreeMap<String, SecretString>;

/// What holds for all credentials of a key or issuer.
#[derive(Serialize)]
struct Standing<'a> {
    t: &'a str,
    e: String,
    /// The longest time a credential may still live, in seconds; not where the policy only reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    l: Option<u64>,
    /// What was issued before is revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<u64>,
}

/// A secret as HMAC uses it: its text, or its hash where it is longer than a block.
#[derive(Serialize, Default)]
struct Key<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    h: Option<String>,
    /// Is the key itself revoked?
    #[serde(skip_serializing_if = "Option::is_none")]
    r: Option<u8>,
}

#[derive(Serialize)]
struct Link<'a> {
    #[serde(flatten)]
    standing: Standing<'a>,
    #[serde(flatten)]
    key: Key<'a>,
    /// The key's window.
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<u64>,
}

#[derive(Serialize)]
struct Issuer<'a> {
    #[serde(flatten)]
    standing: Standing<'a>,
    /// The algorithm of published keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<&'static str>,
    /// The only key, which a token need not name.
    #[serde(skip_serializing_if = "Option::is_none")]
    o: Option<String>,
}

#[derive(Serialize)]
struct Token<'a> {
    a: &'static str,
    #[serde(flatten)]
    key: Key<'a>,
}

#[derive(Serialize)]
struct Face {
    s: u16,
    t: &'static str,
    d: &'static str,
    /// Its header fields.
    h: BTreeMap<String, &'static str>,
}

impl Face {
    fn of(code: Code) -> Self {
        let face = code.face();
        let common = COMMON.iter().filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?)));
        let mut h: BTreeMap<_, _> = common.collect();
        h.insert(header::CACHE_CONTROL.to_string(), "no-store");
        h.insert(header::CONTENT_TYPE.to_string(), PROBLEM_TYPE);
        if code == Code::MissingCredential {
            h.insert(header::WWW_AUTHENTICATE.to_string(), CHALLENGE);
        }
        Self { s: face.status, t: face.title, d: face.detail, h }
    }
}

type Secrets<'a> = &'a dyn Fn(&SecretRef) -> Result<SecretString, SecretFault>;

impl Policies {
    /// The entries for this set, which was loaded from `sources`. What the set goes without is not there either.
    pub fn edge_entries(
        &self,
        sources: &[PolicySource<'_>],
        secrets: Secrets<'_>,
    ) -> Result<Entries, EdgeError> {
        let mut writer = Writer { set: self, secrets, entries: Entries::new() };
        for code in REFUSALS {
            writer.put(format!("f/{}", code.face().code), &Face::of(code))?;
        }
        for source in sources {
            let Ok(file) = toml::from_str::<PolicyFile>(source.text) else { continue };
            let Some(tenant) = self.tenant(file.tenant.as_ref()) else { continue };
            writer.tenant(tenant, &file)?;
        }
        check_size(&writer.entries)?;
        Ok(writer.entries)
    }
}

struct Writer<'a> {
    set: &'a Policies,
    secrets: Secrets<'a>,
    entries: Entries,
}

impl Writer<'_> {
    fn put(&mut self, key: String, value: &impl Serialize) -> Result<(), EdgeError> {
        let text = serde_json::to_string(value).unwrap_or_default();
        for (bytes, most) in [(key.len(), MAX_KEY_BYTES), (text.len(), MAX_VALUE_BYTES)] {
            if bytes > most {
                return Err(EdgeError::EntryTooLarge { key, bytes });
            }
        }
        self.entries.insert(key, text.into());
        Ok(())
    }

    fn tenant(&mut self, tenant: &Tenant, file: &PolicyFile) -> Result<(), EdgeError> {
        for entry in &file.keys {
            self.link_key(tenant, entry)?;
        }
        for entry in &file.issuers {
            self.issuer(tenant, entry)?;
        }
        for id in &tenant.revoked.link_ids {
            self.put(format!("r/{}/{id}", tenant.name), &1)?;
        }
        Ok(())
    }

    /// A retired key is as unknown there as here, and so is one whose secret there is none of.
    fn link_key(&mut self, tenant: &Tenant, entry: &KeyEntry) -> Result<(), EdgeError> {
        let Some(signer) = self.set.link_keys.get(entry.id.as_ref().as_str()) else { return Ok(()) };
        if signer.key.status == KeyStatus::Retired {
            return Ok(());
        }
        let secret = self.secret(entry.secret.as_ref())?;
        let id = signer.key.id.as_str();
        let key = Key { r: revoked(tenant.revoked.keys.contains(id)), ..key_of(&secret) };
        let seconds = |time: Option<UnixTime>| time.map(|time| time.0);
        let (n, x) = (seconds(signer.key.not_before), seconds(signer.key.not_after));
        self.put(format!("k/{id}"), &Link { standing: standing(tenant), key, n, x })
    }

    fn issuer(&mut self, tenant: &Tenant, entry: &IssuerEntry) -> Result<(), EdgeError> {
        let (issuer, audience) = (entry.issuer.as_ref(), entry.audience.as_ref());
        let name = format!("i/{}/{}", short_hash(issuer), short_hash(audience));
        let known = self.set.token_key_ids(issuer, audience);
        let only = match known.as_slice() {
            [only] => Some(short_hash(only)),
            _ => None,
        };
        let published = entry.algorithm.as_ref().map(|algorithm| algorithm.as_ref().name());
        for key in entry.keys.iter().filter(|key| known.contains(&key.id.as_ref().as_str())) {
            self.token_key(tenant, issuer, &name, key)?;
        }
        self.put(name, &Issuer { standing: standing(tenant), p: published, o: only })
    }

    /// The edge has HMAC-SHA256 and nothing else; of the other keys it learns their algorithm alone.
    fn token_key(
        &mut self,
        tenant: &Tenant,
        issuer: &str,
        name: &str,
        entry: &TokenKeyEntry,
    ) -> Result<(), EdgeError> {
        let id = entry.id.as_ref();
        let is_revoked =
            [id.clone(), format!("{issuer}#{id}")].iter().any(|key| tenant.revoked.keys.contains(key));
        let secret = match (entry.algorithm, &entry.secret) {
            (TokenAlgorithm::HS256, Some(reference)) => Some(self.secret(reference.as_ref())?),
            _ => None,
        };
        let key = Key { r: revoked(is_revoked), ..secret.as_ref().map(key_of).unwrap_or_default() };
        self.put(format!("{name}/{}", short_hash(id)), &Token { a: entry.algorithm.name(), key })
    }

    fn secret(&self, reference: &str) -> Result<SecretString, EdgeError> {
        let read = SecretRef::parse(reference)
            .map_err(SecretFault::Wrong)
            .and_then(|parsed| (self.secrets)(&parsed));
        read.map_err(|fault| match fault {
            SecretFault::Wrong(why) | SecretFault::LeftOut { why, .. } => EdgeError::Secret(why),
        })
    }
}

fn standing(tenant: &Tenant) -> Standing<'_> {
    Standing {
        t: tenant.name.as_str(),
        e: tenant.epoch.to_string(),
        l: (!tenant.reports_only()).then_some(tenant.max_link_lifetime),
        b: tenant.revoked.issued_before.map(|time| time.0),
    }
}

fn key_of(secret: &SecretString) -> Key<'_> {
    let text = secret.expose_secret();
    if text.len() <= HMAC_BLOCK {
        return Key { s: Some(text), ..Key::default() };
    }
    Key { h: Some(URL_SAFE_NO_PAD.encode(Sha256::digest(text))), ..Key::default() }
}

fn revoked(is: bool) -> Option<u8> {
    is.then_some(1)
}

fn check_size(entries: &Entries) -> Result<(), EdgeError> {
    let size = |(key, value): (&String, &SecretString)| key.len() + value.expose_secret().len();
    let bytes: usize = entries.iter().map(size).sum();
    if bytes <= MAX_STORE_BYTES {
        return Ok(());
    }
    let mut by_tenant = BTreeMap::<String, usize>::new();
    for (key, value) in entries {
        let named: Option<Named> = serde_json::from_str(value.expose_secret()).ok();
        let tenant = named.map(|named| named.t).or_else(|| key.split('/').nth(1).map(str::to_owned));
        *by_tenant.entry(tenant.unwrap_or_default()).or_default() += size((key, value));
    }
    let largest =
        by_tenant.into_iter().max_by_key(|(_, bytes)| *bytes).map(|(name, _)| name).unwrap_or_default();
    Err(EdgeError::TooLarge { bytes, entries: entries.len(), largest })
}

#[derive(serde::Deserialize)]
struct Named {
    t: String,
}

#[cfg(test)]
mod tests;
