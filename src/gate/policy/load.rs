//! From policy files to a set that decides. Everything wrong is collected; a set with one mistake is refused whole.

mod entries;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Display;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use toml::Spanned;

use super::file::{IssuerEntry, KeyEntry, PolicyFile, TokenKeyEntry};
use super::problem::{PolicyProblem, PolicyProblems};
use super::rules::LimitSet;
use super::slips::explained;
use super::values::{self, SecretFault, SecretRef};
use super::{IssuerKeys, KeySetSource, LinkSigner, Policies, Tenant, TokenSigner};
use crate::gate::epoch::Sum;
use crate::gate::hmac::HmacKey;
use crate::gate::id::{KeyId, TenantName};
use crate::gate::keys::{LinkKey, TokenKey, TokenKeys};
use crate::gate::target::Target;

const DEFAULT_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// A policy file that has been read.
#[derive(Debug, Clone, Copy)]
pub struct PolicySource<'a> {
    /// The file as errors name it.
    pub file: &'a str,
    /// The file's name without `.toml`; the tenant must be named the same.
    pub stem: &'a str,
    /// Its text.
    pub text: &'a str,
}

type Secrets<'a> = &'a dyn Fn(&SecretRef) -> Result<SecretString, SecretFault>;

pub(super) fn load(sources: &[PolicySource<'_>], secrets: Secrets<'_>) -> Result<Policies, PolicyProblems> {
    let mut set = Policies::default();
    let mut problems = Vec::new();
    let mut owners = Owners::default();
    for source in sources {
        let mut reader = Reader {
            source: *source,
            secrets,
            problems: Vec::new(),
            left_out: Vec::new(),
            stale: false,
            sum: None,
        };
        match toml::from_str::<PolicyFile>(source.text) {
            Ok(file) => reader.add_to(&mut set, &file, &mut owners),
            Err(fault) => reader.problem(fault.span().unwrap_or(0..0), explained(fault.message())),
        }
        problems.append(&mut reader.problems);
        set.left_out.append(&mut reader.left_out);
        set.has_stale |= reader.stale;
    }
    if problems.is_empty() { Ok(set) } else { Err(PolicyProblems(problems)) }
}

/// Who already uses a name that must be unique across the set.
#[derive(Default)]
struct Owners {
    keys: HashMap<KeyId, String>,
    audiences: HashMap<(String, String), String>,
    tenants: HashMap<TenantName, String>,
}

/// One file being read.
struct Reader<'a> {
    source: PolicySource<'a>,
    secrets: Secrets<'a>,
    problems: Vec<PolicyProblem>,
    left_out: Vec<PolicyProblem>,
    stale: bool,
    /// The epoch of the tenant that is being read.
    sum: Option<Sum>,
}

impl Reader<'_> {
    fn problem(&mut self, span: Range<usize>, message: impl Display) {
        self.problems.push(PolicyProblem::at(self.source.file, self.source.text, span, message.to_string()));
    }

    /// The value, or a problem at the place it was read from.
    fn check<T, E: Display>(&mut self, span: Range<usize>, read: Result<T, E>) -> Option<T> {
        read.map_err(|fault| self.problem(span, fault)).ok()
    }

    fn read<S: AsRef<str>, T, E: Display>(
        &mut self,
        value: &Spanned<S>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.check(value.span(), parse(value.as_ref().as_ref()))
    }

    fn read_optional<T, E: Display>(
        &mut self,
        value: Option<&Spanned<String>>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        value.and_then(|value| self.read(value, parse))
    }

    fn moment(
        &mut self,
        value: Option<&Spanned<toml::value::Datetime>>,
    ) -> Option<crate::gate::id::UnixTime> {
        value.and_then(|value| self.check(value.span(), values::moment(value.as_ref())))
    }

    /// What a reference leads to. Someone may have written the secret itself there, so a bad one is not shown.
    fn secret(&mut self, reference: &Spanned<String>) -> Option<SecretString> {
        let PolicySource { file, text, .. } = self.source;
        let problem = |fault| PolicyProblem::at_secret(file, text, reference.span(), fault);
        let parsed = SecretRef::parse(reference.as_ref()).map_err(SecretFault::Wrong);
        let found = parsed.and_then(|parsed| (self.secrets)(&parsed));
        if let Some(sum) = &mut self.sum {
            sum.add_secret(found.as_ref().ok());
        }
        match found {
            Ok(secret) => return Some(secret),
            Err(SecretFault::Wrong(fault)) => self.problems.push(problem(fault)),
            Err(SecretFault::LeftOut { why, stale }) => {
                self.left_out.push(problem(why));
                self.stale |= stale;
            }
        }
        None
    }

    /// What a secret makes, or why it cannot. One that is kept elsewhere changes without the file, so that an unfit one
    /// is left out like a missing one.
    fn fit<T, E: Display>(&mut self, reference: &Spanned<String>, made: Result<T, E>) -> Option<T> {
        let remote = SecretRef::parse(reference.as_ref()).is_ok_and(|parsed| parsed.is_remote());
        if !remote {
            return self.check(reference.span(), made);
        }
        let PolicySource { file, text, .. } = self.source;
        let unfit = |fault: E| PolicyProblem::at_secret(file, text, reference.span(), fault.to_string());
        made.map_err(|fault| self.left_out.push(unfit(fault))).ok()
    }

    fn add_to(&mut self, set: &mut Policies, file: &PolicyFile, owners: &mut Owners) {
        let Some(name) = self.tenant_name(&file.tenant, owners) else { return };
        self.sum = Some(Sum::begin(file));
        let mut limits_by_key = HashMap::new();
        let link_keys: Vec<LinkKey> =
            file.keys.iter().filter_map(|entry| self.link_key(entry, owners, &mut limits_by_key)).collect();
        let issuers: Vec<(Arc<str>, Arc<str>, IssuerKeys)> =
            file.issuers.iter().filter_map(|entry| self.issuer(entry, owners)).collect();
        let tenant = Arc::new(self.tenant(name.clone(), file, limits_by_key));
        for key in link_keys {
            set.link_keys.insert(key.id.clone(), LinkSigner { tenant: Arc::clone(&tenant), key });
        }
        for (issuer, audience, keys) in issuers {
            let signer = TokenSigner { tenant: Arc::clone(&tenant), issuer: Arc::clone(&issuer), keys };
            set.issuers.entry(issuer).or_default().insert(audience, signer);
        }
        set.tenants.insert(name, tenant);
    }

    fn tenant_name(&mut self, value: &Spanned<String>, owners: &mut Owners) -> Option<TenantName> {
        let name = self.read(value, TenantName::parse)?;
        if name.as_str() != self.source.stem {
            let (stem, text) = (self.source.stem, value.as_ref());
            self.problem(
                value.span(),
                format!("the tenant is `{text}` but the file is `{stem}.toml`; name both the same"),
            );
        }
        match owners.tenants.entry(name.clone()) {
            Entry::Occupied(first) => {
                let message = format!("tenant `{name}` is already defined in {}", first.get());
                self.problem(value.span(), message);
            }
            Entry::Vacant(slot) => drop(slot.insert(self.source.file.to_owned())),
        }
        Some(name)
    }

    fn tenant(&mut self, name: TenantName, file: &PolicyFile, by_key: HashMap<KeyId, LimitSet>) -> Tenant {
        Tenant {
            name,
            mode: file.mode,
            max_link_lifetime: self
                .read_optional(file.max_link_lifetime.as_ref(), values::duration)
                .unwrap_or(DEFAULT_LIFETIME)
                .as_secs(),
            allow: self.rules("allow", &file.allow),
            deny: self.rules("deny", &file.deny),
            limits: self.limits(&file.limits.tenant),
            key_limits: self.limits(&file.limits.key),
            limits_by_key: by_key,
            limits_fail: file.limits.fail,
            response: self.response(&file.response),
            upstream: file.upstream.iter().filter_map(|entry| self.upstream(entry)).collect(),
            revoked: self.revoked(file),
            // Last: by now every secret was read.
            epoch: self.sum.take().unwrap_or_else(|| Sum::begin(file)).finish(),
        }
    }

    fn link_key(
        &mut self,
        entry: &KeyEntry,
        owners: &mut Owners,
        limits: &mut HashMap<KeyId, LimitSet>,
    ) -> Option<LinkKey> {
        // Every part is looked at, so that one mistake does not hide another.
        let secret = self.secret(&entry.secret);
        let hmac = secret.and_then(|secret| self.fit(&entry.secret, HmacKey::new(&secret)));
        let id = self.read(&entry.id, KeyId::parse)?;
        match owners.keys.entry(id.clone()) {
            Entry::Occupied(first) => {
                let message = format!(
                    "key id `{id}` is already used in {}; key ids are unique across tenants",
                    first.get()
                );
                self.problem(entry.id.span(), message);
            }
            Entry::Vacant(slot) => drop(slot.insert(self.source.file.to_owned())),
        }
        if let Some(own) = &entry.limits {
            limits.insert(id.clone(), self.limits(own));
        }
        let (not_before, not_after) =
            (self.moment(entry.not_before.as_ref()), self.moment(entry.not_after.as_ref()));
        if let (Some(from), Some(until), Some(place)) = (not_before, not_after, &entry.not_after)
            && until <= from
        {
            self.problem(place.span(), "`not_after` must lie behind `not_before`");
        }
        Some(LinkKey { id, hmac: hmac?, status: entry.status, not_before, not_after })
    }

    fn issuer(
        &mut self,
        entry: &IssuerEntry,
        owners: &mut Owners,
    ) -> Option<(Arc<str>, Arc<str>, IssuerKeys)> {
        let (issuer, audience) = (entry.issuer.as_ref(), entry.audience.as_ref());
        for (what, value) in [("issuer", &entry.issuer), ("audience", &entry.audience)] {
            if value.as_ref().is_empty() {
                self.problem(value.span(), format!("`{what}` must not be empty"));
            }
        }
        match owners.audiences.entry((issuer.clone(), audience.clone())) {
            Entry::Occupied(first) => {
                let message = format!(
                    "issuer `{issuer}` with audience `{audience}` is already used in {}; give this tenant its own audience",
                    first.get()
                );
                self.problem(entry.audience.span(), message);
            }
            Entry::Vacant(slot) => drop(slot.insert(self.source.file.to_owned())),
        }
        let keys = match (&entry.jwks_url, &entry.algorithm) {
            (Some(url), Some(algorithm)) if entry.keys.is_empty() => {
                self.published(url, *algorithm.as_ref(), algorithm.span())?
            }
            (None, None) if !entry.keys.is_empty() => self.given(&entry.keys),
            _ => {
                let help = "give an issuer either `jwks_url` and `algorithm`, or `[[issuers.keys]]`";
                self.problem(entry.issuer.span(), help);
                return None;
            }
        };
        Some((issuer.as_str().into(), audience.as_str().into(), keys))
    }

    fn published(
        &mut self,
        url: &Spanned<String>,
        algorithm: crate::gate::keys::TokenAlgorithm,
        place: Range<usize>,
    ) -> Option<IssuerKeys> {
        if algorithm.is_symmetric() {
            self.problem(
                place,
                "a secret cannot be published; `jwks_url` needs RS256, PS256, ES256 or EdDSA",
            );
        }
        let target = self.read(url, Target::parse)?;
        if !target.is_https() && !is_loopback(&target) {
            self.problem(
                url.span(),
                "`jwks_url` must begin with `https://`; whoever can change the answer signs tokens",
            );
        }
        Some(IssuerKeys::Published(KeySetSource { url: target.url().as_str().into(), algorithm }))
    }

    fn given(&mut self, entries: &[TokenKeyEntry]) -> IssuerKeys {
        let mut keys = TokenKeys::default();
        for entry in entries {
            let Some(key) = self.token_key(entry) else { continue };
            let kid = entry.id.as_ref();
            if kid.is_empty() || !keys.insert(kid.clone(), key) {
                self.problem(
                    entry.id.span(),
                    format!("key id `{kid}` is empty or given twice for this issuer"),
                );
            }
        }
        IssuerKeys::Given(keys)
    }

    fn token_key(&mut self, entry: &TokenKeyEntry) -> Option<TokenKey> {
        let algorithm = entry.algorithm;
        match (algorithm.is_symmetric(), &entry.secret, &entry.public_key) {
            (true, Some(reference), None) => {
                let secret = self.secret(reference)?;
                self.fit(reference, TokenKey::symmetric(algorithm, &secret))
            }
            (false, None, Some(reference)) => {
                let pem = self.secret(reference)?;
                self.fit(reference, TokenKey::from_pem(algorithm, pem.expose_secret()))
            }
            (symmetric, _, _) => {
                let field = if symmetric { "secret" } else { "public_key" };
                self.problem(
                    entry.id.span(),
                    format!("a key for {} takes `{field}` and nothing else", algorithm.name()),
                );
                None
            }
        }
    }
}

fn is_loopback(target: &Target) -> bool {
    match target.host() {
        url::Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        _ => target.ip().is_some_and(|ip| ip.is_loopback()),
    }
}
