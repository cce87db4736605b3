//! The shape of a policy file: the TOML as it is written, with the place of every value, before it means anything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::value::Datetime;

use crate::gate::keys::{KeyStatus, TokenAlgorithm};

/// One tenant's policy. Deny by default: without an `[[allow]]` rule nothing can be fetched.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "cli", schemars(title = "Sluicegate policy", rename = "Policy"))]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// The tenant's name; it must be the file's name without `.toml`.
    #[cfg_attr(feature = "cli", schemars(with = "String", regex(pattern = "^[a-z0-9][a-z0-9-]{0,62}$")))]
    pub tenant: Spanned<String>,
    /// A line for people; it has no effect.
    #[serde(default, skip_serializing)]
    #[allow(dead_code, reason = "read by people, and by the schema")]
    pub description: Option<String>,
    /// `enforce`, or `report`: what the rules would deny is logged and let through. Signatures, times, revocation and
    /// address checks are enforced in both.
    #[serde(default)]
    pub mode: Mode,
    /// The longest time a link may still be valid when it is used, such as `7d` (the default) or `12h`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub max_link_lifetime: Option<Spanned<String>>,
    /// Keys that sign links.
    #[serde(default)]
    pub keys: Vec<KeyEntry>,
    /// Who else may vouch for a download, by JWT.
    #[serde(default)]
    pub issuers: Vec<IssuerEntry>,
    /// What may be fetched.
    #[serde(default)]
    pub allow: Vec<RuleEntry>,
    /// What may not be fetched, whatever `allow` says.
    #[serde(default)]
    pub deny: Vec<RuleEntry>,
    /// How much.
    #[serde(default)]
    pub limits: LimitsEntry,
    /// What may be answered.
    #[serde(default)]
    pub response: ResponseEntry,
    /// Headers that the gateway adds to upstream requests, such as an API key.
    #[serde(default)]
    pub upstream: Vec<UpstreamEntry>,
    /// What no longer counts, although its signature is good.
    #[serde(default)]
    pub revoked: RevokedEntry,
}

/// Are the rules applied, or only reported?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Mode {
    #[default]
    Enforce,
    Report,
}

/// A key that signs links.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// The `kid` of its links; unique across all tenants.
    #[cfg_attr(feature = "cli", schemars(with = "String", regex(pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")))]
    pub id: Spanned<String>,
    /// Where the secret is kept: `env:NAME`, `file:PATH` relative to the policy folder, `secretsmanager:NAME#FIELD` or
    /// `ssm:NAME`. Never the secret itself.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub secret: Spanned<String>,
    /// `active`, `verify-only` or `retired`.
    #[serde(default)]
    pub status: KeyStatus,
    /// The first moment at which the key counts.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub not_before: Option<Spanned<Datetime>>,
    /// The first moment at which it no longer counts.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub not_after: Option<Spanned<Datetime>>,
    /// Limits of this key in place of `limits.key`.
    pub limits: Option<LimitSetEntry>,
}

/// An identity provider whose tokens count, for one audience.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct IssuerEntry {
    /// The exact `iss` claim.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub issuer: Spanned<String>,
    /// The exact `aud` claim. The pair of both is unique across all tenants.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub audience: Spanned<String>,
    /// Where the issuer publishes its keys. Needs `algorithm`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub jwks_url: Option<Spanned<String>>,
    /// The one algorithm of the keys at `jwks_url`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<TokenAlgorithm>"))]
    pub algorithm: Option<Spanned<TokenAlgorithm>>,
    /// Keys given here instead.
    #[serde(default)]
    pub keys: Vec<TokenKeyEntry>,
}

/// A key of an issuer.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TokenKeyEntry {
    /// The `kid` of its tokens.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub id: Spanned<String>,
    /// The one algorithm of its tokens.
    pub algorithm: TokenAlgorithm,
    /// For HS256, HS384 and HS512: a reference to the secret.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub secret: Option<Spanned<String>>,
    /// For the others: a reference to the public key in PEM.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub public_key: Option<Spanned<String>>,
}

/// A set of URLs.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RuleEntry {
    /// A host, or `*.` and a registrable domain or below.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub host: Spanned<String>,
    /// `allow`: `["https"]` if left out. `deny`: every scheme.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Vec<String>>"))]
    pub schemes: Option<Vec<Spanned<String>>>,
    /// `allow`: the scheme's own port if left out. `deny`: every port.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Vec<u16>>"))]
    pub ports: Option<Vec<Spanned<u16>>>,
    /// A path prefix, whole segments. Every path if left out.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub path: Option<Spanned<String>>,
}

/// Limits of the tenant as a whole and of each of its keys; the tighter one decides.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LimitsEntry {
    /// All keys and issuers together.
    #[serde(default)]
    pub tenant: LimitSetEntry,
    /// Each key or issuer by itself.
    #[serde(default)]
    pub key: LimitSetEntry,
    /// What happens while a store of counters that several gateways share is away: `open` lets each gateway go on with
    /// counters of its own, `closed` refuses.
    #[serde(default)]
    pub fail: Fail,
}

/// May requests come in while the limits cannot be counted together?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Fail {
    #[default]
    Open,
    Closed,
}

/// What is left out is not limited.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LimitSetEntry {
    /// Requests per second in the long run; may be a fraction such as `0.5`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<f64>"))]
    pub requests_per_second: Option<Spanned<f64>>,
    /// How many may come at once; the rate rounded up if left out.
    #[cfg_attr(feature = "cli", schemars(with = "Option<u32>"))]
    pub burst: Option<Spanned<u32>>,
    /// Downloads at the same time.
    #[cfg_attr(feature = "cli", schemars(with = "Option<u32>"))]
    pub concurrent_downloads: Option<Spanned<u32>>,
    /// Body bytes from one midnight UTC to the next, such as `"50 GB"`.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub bytes_per_day: Option<Spanned<String>>,
}

/// What may be answered.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ResponseEntry {
    /// The name of a download that neither link nor upstream names.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub default_filename: Option<Spanned<String>>,
    /// Permitted content types, such as `video/*` or `application/pdf`. Every type if left out.
    #[cfg_attr(feature = "cli", schemars(with = "Option<Vec<String>>"))]
    pub content_types: Option<Spanned<Vec<Spanned<String>>>>,
    /// The largest body, such as `"200 MB"`. Unlimited if left out.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub max_bytes: Option<Spanned<String>>,
    /// What becomes of a file that policy permits but that is larger than the deployment can send, such as 200 MB on
    /// Lambda: `refuse` (the default), or `redirect` to the signed URL itself.
    #[serde(default)]
    pub oversize: Oversize,
    /// How long a browser, and a cache in front that verifies links, may keep the answer, such as `1h`. Not at all if left out.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub cache_ttl: Option<Spanned<String>>,
    /// Hosts whose own `no-store` or `private` is overruled by `cache_ttl`.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<String>"))]
    pub cache_despite_upstream: Vec<Spanned<String>>,
}

/// What becomes of a file that is larger than the deployment can send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Oversize {
    #[default]
    Refuse,
    Redirect,
}

/// Headers for one upstream; dropped at any redirect to another origin.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UpstreamEntry {
    /// The host they are for, sent over https only.
    #[cfg_attr(feature = "cli", schemars(with = "String"))]
    pub host: Spanned<String>,
    /// Header name to secret reference.
    #[cfg_attr(feature = "cli", schemars(with = "BTreeMap<String, String>"))]
    pub headers: BTreeMap<Spanned<String>, Spanned<String>>,
}

/// What no longer counts.
#[derive(Debug, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RevokedEntry {
    /// Key ids of this tenant: of links or of an issuer's tokens.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<String>"))]
    pub keys: Vec<Spanned<String>>,
    /// Link ids (`id`, `jti`).
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(with = "Vec<String>"))]
    pub link_ids: Vec<Spanned<String>>,
    /// Everything issued before this moment: tokens by `iat`, links by `nbf`. What does not say when it was issued
    /// counts as issued before.
    #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
    pub issued_before: Option<Spanned<Datetime>>,
}
