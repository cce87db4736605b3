//! From policy files to a set that decides. Everything wrong is collected; a set with one mistake is refused whole.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Display;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret as _, SecretString};
use toml::Spanned;

use super::file::{
    IssuerEntry, KeyEntry, LimitSetEntry, PolicyFile, ResponseEntry, RevokedEntry, RuleEntry, TokenKeyEntry,
    UpstreamEntry,
};
use super::problem::{PolicyProblem, PolicyProblems};
use super::rules::{LimitSet, Ports, Rate, ResponseRules, Rule, TypePattern};
use super::values::{self, SecretRef};
use super::{IssuerKeys, KeySetSource, LinkSigner, Policies, Revoked, Tenant, TokenSigner, UpstreamHeaders};
use crate::gate::filename::SignedFileName;
use crate::gate::hmac::HmacKey;
use crate::gate::hosts::{HostPattern, HostTable};
use crate::gate::id::{KeyId, LinkId, TenantName};
use crate::gate::keys::{LinkKey, TokenKey, TokenKeys};
use crate::gate::paths::PathPrefix;
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

type Secrets<'a> = &'a dyn Fn(&SecretRef) -> Result<SecretString, String>;

pub(super) fn load(sources: &[PolicySource<'_>], secrets: Secrets<'_>) -> Result<Policies, PolicyProblems> {
    let mut set = Policies::default();
    let mut problems = Vec::new();
    let mut owners = Owners::default();
    for source in sources {
        let mut reader = Reader { source: *source, secrets, problems: Vec::new() };
        match toml::from_str::<PolicyFile>(source.text) {
            Ok(file) => reader.add_to(&mut set, &file, &mut owners),
            Err(fault) => reader.problem(fault.span().unwrap_or(0..0), fault.message()),
        }
        problems.append(&mut reader.problems);
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

    fn secret(&mut self, reference: &Spanned<String>) -> Option<SecretString> {
        let parsed = self.read(reference, SecretRef::parse)?;
        self.check(reference.span(), (self.secrets)(&parsed))
    }

    fn add_to(&mut self, set: &mut Policies, file: &PolicyFile, owners: &mut Owners) {
        let Some(name) = self.tenant_name(&file.tenant, owners) else { return };
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
            response: self.response(&file.response),
            upstream: file.upstream.iter().filter_map(|entry| self.upstream(entry)).collect(),
            revoked: self.revoked(&file.revoked),
        }
    }

    fn link_key(
        &mut self,
        entry: &KeyEntry,
        owners: &mut Owners,
        limits: &mut HashMap<KeyId, LimitSet>,
    ) -> Option<LinkKey> {
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
        let secret = self.secret(&entry.secret)?;
        let hmac = self.check(entry.secret.span(), HmacKey::new(&secret))?;
        Some(LinkKey { id, hmac, status: entry.status, not_before, not_after })
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
                self.check(reference.span(), TokenKey::symmetric(algorithm, &secret))
            }
            (false, None, Some(reference)) => {
                let pem = self.secret(reference)?;
                self.check(reference.span(), TokenKey::from_pem(algorithm, pem.expose_secret()))
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

    fn rules(&mut self, kind: &'static str, entries: &[RuleEntry]) -> HostTable<Rule> {
        let mut table = HostTable::default();
        for entry in entries {
            let rule = self.rule(kind, entry);
            if let Some(host) = self.read(&entry.host, HostPattern::parse) {
                table.insert(host, rule);
            }
        }
        table
    }

    fn rule(&mut self, kind: &'static str, entry: &RuleEntry) -> Rule {
        let denies = kind == "deny";
        let (mut http, mut https) = (denies, true);
        if let Some(schemes) = &entry.schemes {
            (http, https) = (false, false);
            for scheme in schemes {
                match scheme.as_ref().as_str() {
                    "http" => http = true,
                    "https" => https = true,
                    other => self.problem(
                        scheme.span(),
                        format!("scheme `{other}` cannot be fetched; write `https` or `http`"),
                    ),
                }
            }
        }
        let ports = match &entry.ports {
            None if denies => Ports::Any,
            None => Ports::SchemeDefault,
            Some(ports) => {
                for port in ports.iter().filter(|port| *port.as_ref() == 0) {
                    self.problem(port.span(), "port 0 does not exist; write a number between 1 and 65535");
                }
                Ports::Listed(ports.iter().map(|port| *port.as_ref()).collect())
            }
        };
        let empty = entry.schemes.as_ref().is_some_and(Vec::is_empty)
            || entry.ports.as_ref().is_some_and(Vec::is_empty);
        if empty {
            self.problem(entry.host.span(), "an empty list matches nothing; leave it out or name a value");
        }
        let path = self.read_optional(entry.path.as_ref(), PathPrefix::parse);
        let line = self.source.text.get(..entry.host.span().start).unwrap_or("").matches('\n').count() + 1;
        Rule { kind, file: self.source.file.into(), line, http, https, ports, path }
    }

    fn limits(&mut self, entry: &LimitSetEntry) -> LimitSet {
        for count in [&entry.burst, &entry.concurrent_downloads].into_iter().flatten() {
            if *count.as_ref() == 0 {
                self.problem(
                    count.span(),
                    "a limit of 0 lets nothing through; leave it out, or remove the tenant's keys",
                );
            }
        }
        if let (Some(burst), None) = (&entry.burst, &entry.requests_per_second) {
            self.problem(burst.span(), "`burst` needs `requests_per_second` beside it");
        }
        let rate = entry.requests_per_second.as_ref().and_then(|rate| {
            let per_second = *rate.as_ref();
            let sane = (0.001..=1_000_000.0).contains(&per_second);
            if !sane {
                self.problem(rate.span(), "write a rate between 0.001 and 1000000 requests per second");
            }
            let burst = entry.burst.as_ref().map(|burst| *burst.as_ref());
            sane.then(|| Rate {
                period: Duration::from_secs_f64(1.0 / per_second),
                burst: burst.unwrap_or_else(|| round_up(per_second)).max(1),
            })
        });
        LimitSet {
            rate,
            concurrent_downloads: entry.concurrent_downloads.as_ref().map(|count| *count.as_ref()),
            bytes_per_day: self.read_optional(entry.bytes_per_day.as_ref(), values::size),
        }
    }

    fn response(&mut self, entry: &ResponseEntry) -> ResponseRules {
        ResponseRules {
            default_filename: self.read_optional(entry.default_filename.as_ref(), SignedFileName::parse),
            content_types: entry
                .content_types
                .as_ref()
                .map(|types| types.iter().filter_map(|text| self.read(text, TypePattern::parse)).collect()),
            max_bytes: self.read_optional(entry.max_bytes.as_ref(), values::size),
            cache_ttl: self
                .read_optional(entry.cache_ttl.as_ref(), values::duration)
                .map(|ttl| ttl.as_secs()),
            cache_despite_upstream: entry
                .cache_despite_upstream
                .iter()
                .filter_map(|host| self.read(host, HostPattern::parse))
                .collect(),
        }
    }

    fn upstream(&mut self, entry: &UpstreamEntry) -> Option<UpstreamHeaders> {
        let mut headers = HeaderMap::new();
        for (name, reference) in &entry.headers {
            let Some(header) = self.read(name, upstream_header) else { continue };
            let Some(secret) = self.secret(reference) else { continue };
            let value = HeaderValue::from_str(secret.expose_secret())
                .map_err(|_| "the secret cannot stand in a header; it must be one line of visible ASCII");
            if let Some(mut value) = self.check(reference.span(), value) {
                value.set_sensitive(true);
                headers.insert(header, value);
            }
        }
        let host = self.read(&entry.host, HostPattern::parse)?;
        Some(UpstreamHeaders { host, headers })
    }

    fn revoked(&mut self, entry: &RevokedEntry) -> Revoked {
        Revoked {
            keys: entry.keys.iter().map(|key| key.as_ref().clone()).collect(),
            link_ids: entry.link_ids.iter().filter_map(|id| self.read(id, LinkId::parse)).collect(),
            issued_before: self.moment(entry.issued_before.as_ref()),
        }
    }
}

/// Header names that a policy may add; those that frame the message or that the gateway decides itself are refused.
fn upstream_header(name: &str) -> Result<HeaderName, String> {
    const OURS: [HeaderName; 16] = [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::TE,
        header::TRAILER,
        header::UPGRADE,
        header::EXPECT,
        header::RANGE,
        header::IF_RANGE,
        header::ACCEPT_ENCODING,
        header::VIA,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
    ];
    let parsed: HeaderName = name
        .parse()
        .map_err(|_| format!("`{name}` is not a header name; write one such as `authorization`"))?;
    if OURS.contains(&parsed) {
        return Err(format!("`{name}` is set by the gateway itself; leave it out"));
    }
    Ok(parsed)
}

fn is_loopback(target: &Target) -> bool {
    match target.host() {
        url::Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        _ => target.ip().is_some_and(|ip| ip.is_loopback()),
    }
}

fn round_up(rate: f64) -> u32 {
    let whole = Duration::from_secs_f64(rate.ceil().clamp(1.0, 1_000_000.0)).as_secs();
    u32::try_from(whole).unwrap_or(u32::MAX)
}
