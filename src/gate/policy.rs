//! What tenants are allowed: the whole set of policies, found by key id or issuer at the same cost for one tenant as
//! for ten thousand.

mod file;
mod load;
mod problem;
mod rules;
mod slips;
mod values;

use std::collections::HashMap;
use std::sync::Arc;

pub(in crate::gate) use file::{IssuerEntry, KeyEntry, TokenKeyEntry};
pub use file::{Mode, PolicyFile};
pub use load::PolicySource;
pub use problem::{PolicyProblem, PolicyProblems};
pub use rules::{LimitSet, Rate, ResponseRules, Rule};
pub use slips::next_step;
pub use values::{SecretFault, SecretRef};

use super::epoch::Epoch;
use super::hosts::{HostPattern, HostTable};
use super::id::{KeyId, LinkId, TenantName, UnixTime};
use super::keys::{FetchedKeys, LinkKey, TokenAlgorithm, TokenKeys};
use super::link::{Claim, SignedRequest};
use super::table::Table;

/// One tenant, ready to decide.
#[derive(Debug)]
pub struct Tenant {
    pub(in crate::gate) name: TenantName,
    pub(in crate::gate) epoch: Epoch,
    pub(in crate::gate) mode: Mode,
    pub(in crate::gate) max_link_lifetime: u64,
    pub(in crate::gate) allow: HostTable<Rule>,
    pub(in crate::gate) deny: HostTable<Rule>,
    pub(in crate::gate) limits: LimitSet,
    pub(in crate::gate) key_limits: LimitSet,
    pub(in crate::gate) limits_by_key: HashMap<KeyId, LimitSet>,
    pub(in crate::gate) limits_fail: file::Fail,
    pub(in crate::gate) response: ResponseRules,
    pub(in crate::gate) upstream: Vec<UpstreamHeaders>,
    pub(in crate::gate) revoked: Revoked,
}

/// Headers for one upstream, kept with the tenant that wrote them.
pub(in crate::gate) struct UpstreamHeaders {
    pub(in crate::gate) host: HostPattern,
    pub(in crate::gate) headers: http::HeaderMap,
}

impl std::fmt::Debug for UpstreamHeaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UpstreamHeaders({:?}, {} redacted)", self.host, self.headers.len())
    }
}

/// What no longer counts for a tenant.
#[derive(Debug, Default)]
pub(in crate::gate) struct Revoked {
    pub(in crate::gate) keys: std::collections::HashSet<String>,
    pub(in crate::gate) link_ids: std::collections::HashSet<LinkId>,
    pub(in crate::gate) issued_before: Option<UnixTime>,
}

impl Tenant {
    /// Its name.
    pub fn name(&self) -> &TenantName {
        &self.name
    }

    /// What a cache keeps for it is kept under this name.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Limits of all its keys together.
    pub fn limits(&self) -> &LimitSet {
        &self.limits
    }

    /// Limits of one of its keys, or of one of its issuers.
    pub fn limits_of(&self, key: &str) -> &LimitSet {
        self.limits_by_key.get(key).unwrap_or(&self.key_limits)
    }
    /// May requests come in while shared counters cannot be asked?
    pub fn limits_fail_open(&self) -> bool {
        self.limits_fail == file::Fail::Open
    }

    /// What may be answered.
    pub fn response(&self) -> &ResponseRules {
        &self.response
    }

    /// Are denials only reported?
    pub fn reports_only(&self) -> bool {
        self.mode == Mode::Report
    }
}

/// A tenant's key for links.
#[derive(Debug)]
pub(in crate::gate) struct LinkSigner {
    pub(in crate::gate) tenant: Arc<Tenant>,
    pub(in crate::gate) key: LinkKey,
}

/// A tenant's issuer of tokens, for one audience.
#[derive(Debug)]
pub(in crate::gate) struct TokenSigner {
    pub(in crate::gate) tenant: Arc<Tenant>,
    pub(in crate::gate) issuer: Arc<str>,
    pub(in crate::gate) keys: IssuerKeys,
}

#[derive(Debug)]
pub(in crate::gate) enum IssuerKeys {
    Given(TokenKeys),
    Published(KeySetSource),
}

/// A key set that an issuer publishes, and the one algorithm its keys may have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeySetSource {
    /// The JWKS URL.
    pub url: Arc<str>,
    /// The algorithm that the policy fixed.
    pub algorithm: TokenAlgorithm,
}

/// All tenants. Replaced as a whole when a policy changes.
#[derive(Debug, Default)]
pub struct Policies {
    pub(in crate::gate) tenants: Table<TenantName, Arc<Tenant>>,
    pub(in crate::gate) link_keys: Table<KeyId, LinkSigner>,
    pub(in crate::gate) issuers: HashMap<Arc<str>, HashMap<Arc<str>, TokenSigner>>,
    pub(in crate::gate) left_out: Vec<PolicyProblem>,
    pub(in crate::gate) has_stale: bool,
}

impl Policies {
    /// Reads a whole set; every mistake in every file is in the error. `secrets` fetches what a file refers to.
    pub fn load(
        sources: &[PolicySource<'_>],
        secrets: &dyn Fn(&SecretRef) -> Result<secrecy::SecretString, SecretFault>,
    ) -> Result<Self, PolicyProblems> {
        load::load(sources, secrets)
    }

    /// Where the set needs a secret that its keeper does not have, or whose secret is unfit: keys, issuers' keys and
    /// headers that it goes without. One tenant's missing secret is not another's.
    pub fn left_out(&self) -> &[PolicyProblem] {
        &self.left_out
    }

    /// Was something left out whose keeper cannot be asked any more? An unknown key may then be one of these.
    pub fn has_stale(&self) -> bool {
        self.has_stale
    }

    /// The tenants, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.tenants.values()
    }

    /// A tenant by name.
    pub fn tenant(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.tenants.get(name)
    }

    /// The ids of a tenant's link keys that may mint at `now`.
    pub fn minting_keys(&self, tenant: &str, now: UnixTime) -> Vec<&KeyId> {
        let mut ids: Vec<_> = self
            .link_keys
            .values()
            .filter(|signer| signer.tenant.name.as_str() == tenant && signer.key.mints_at(now))
            .map(|signer| &signer.key.id)
            .collect();
        ids.sort();
        ids
    }

    /// Every link key that may mint at `now`, with its tenant, in no order.
    pub fn all_minting_keys(&self, now: UnixTime) -> impl Iterator<Item = (&TenantName, &KeyId)> {
        let able = self.link_keys.values().filter(move |signer| signer.key.mints_at(now));
        able.map(|signer| (&signer.tenant.name, &signer.key.id))
    }

    /// How many link keys the set holds.
    pub fn key_count(&self) -> usize {
        self.link_keys.len()
    }

    /// The key set by which a token is judged, if its issuer publishes one and the token could be one of its own.
    pub fn key_set(&self, request: &SignedRequest) -> Option<&KeySetSource> {
        let Claim::Token { token, .. } = &request.claim else { return None };
        let IssuerKeys::Published(source) = &self.token_signer(token)?.keys else { return None };
        let plausible = token.has_plain_header() && token.alg() == Some(source.algorithm.name());
        plausible.then_some(source)
    }

    /// The key set that must be fetched before `request` can be judged: `fetched` holds no key under the token's `kid`.
    /// Whoever fetches bounds how often; anyone can send such a token.
    pub fn missing_key_set(&self, request: &SignedRequest, fetched: &FetchedKeys) -> Option<&KeySetSource> {
        let source = self.key_set(request)?;
        let Claim::Token { token, .. } = &request.claim else { return None };
        let kid = token.kid().ok()?;
        let known = fetched.get(source).is_some_and(|keys| keys.find(kid).is_some());
        (!known).then_some(source)
    }

    /// The ids of the keys that are given for a pair of issuer and audience.
    pub(in crate::gate) fn token_key_ids(&self, issuer: &str, audience: &str) -> Vec<&str> {
        let signer = self.issuers.get(issuer).and_then(|audiences| audiences.get(audience));
        match signer.map(|signer| &signer.keys) {
            Some(IssuerKeys::Given(keys)) => keys.ids().collect(),
            _ => Vec::new(),
        }
    }

    /// The one issuer that a token's `iss` and `aud` name. Two matches are as bad as none.
    pub(in crate::gate) fn token_signer(&self, token: &super::jwt::Token) -> Option<&TokenSigner> {
        let audiences = self.issuers.get(token.text("iss").ok()??)?;
        let named = token.audiences().ok()?;
        let mut matches = named.iter().filter_map(|aud| audiences.get(*aud));
        let only = matches.next()?;
        matches.all(|again| std::ptr::eq(again, only)).then_some(only)
    }
}

#[cfg(test)]
mod tests;
