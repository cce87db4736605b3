//! The parts of a policy file that are no keys: rules, limits, what may be answered, upstream headers, revocation.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::ExposeSecret as _;

use toml::Spanned;

use super::Reader;
use crate::gate::filename::SignedFileName;
use crate::gate::hosts::{HostPattern, HostTable};
use crate::gate::id::LinkId;
use crate::gate::paths::PathPrefix;
use crate::gate::policy::file::{
    IssuerEntry, LimitSetEntry, Oversize, PolicyFile, ResponseEntry, RuleEntry, UpstreamEntry,
};
use crate::gate::policy::rules::{LimitSet, Ports, Rate, ResponseRules, Rule, TypePattern};
use crate::gate::policy::{Revoked, UpstreamHeaders, values};

/// A burst that takes longer to come back limits nothing that anyone could foresee.
const MAX_REFILL: Duration = Duration::from_secs(30 * 24 * 3600);

impl Reader<'_> {
    pub(super) fn rules(&mut self, kind: &'static str, entries: &[RuleEntry]) -> HostTable<Rule> {
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
        let name = format!("{kind} at {}:{line}", self.source.file).into();
        Rule { name, http, https, ports, path }
    }

    pub(super) fn limits(&mut self, entry: &LimitSetEntry) -> LimitSet {
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
            let rate_place = rate.span();
            let per_second = *rate.as_ref();
            let sane = (0.001..=1_000_000.0).contains(&per_second);
            if !sane {
                self.problem(rate.span(), "write a rate between 0.001 and 1000000 requests per second");
            }
            let burst = entry.burst.as_ref().map(|burst| *burst.as_ref());
            let rate = sane.then(|| Rate {
                period: Duration::from_secs_f64(1.0 / per_second),
                burst: burst.unwrap_or_else(|| round_up(per_second)).max(1),
            })?;
            if rate.period.saturating_mul(rate.burst) > MAX_REFILL {
                let place = entry.burst.as_ref().map_or_else(|| rate_place.clone(), Spanned::span);
                self.problem(
                    place,
                    "at this rate the burst takes more than 30 days to come back; lower `burst`",
                );
                return None;
            }
            Some(rate)
        });
        LimitSet {
            rate,
            concurrent_downloads: entry.concurrent_downloads.as_ref().map(|count| *count.as_ref()),
            bytes_per_day: self.read_optional(entry.bytes_per_day.as_ref(), values::size),
        }
    }

    pub(super) fn response(&mut self, entry: &ResponseEntry) -> ResponseRules {
        if let Some(types) = entry.content_types.as_ref().filter(|types| types.as_ref().is_empty()) {
            self.problem(types.span(), "an empty list permits nothing; leave it out or name a type");
        }
        ResponseRules {
            default_filename: self.read_optional(entry.default_filename.as_ref(), SignedFileName::parse),
            content_types: entry.content_types.as_ref().map(|types| {
                types.as_ref().iter().filter_map(|text| self.read(text, TypePattern::parse)).collect()
            }),
            max_bytes: self.read_optional(entry.max_bytes.as_ref(), values::size),
            redirects_oversize: entry.oversize == Oversize::Redirect,
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

    pub(super) fn upstream(&mut self, entry: &UpstreamEntry) -> Option<UpstreamHeaders> {
        let mut headers = HeaderMap::new();
        for (name, reference) in &entry.headers {
            let Some(header) = self.read(name, upstream_header) else { continue };
            let Some(secret) = self.secret(reference) else { continue };
            let value = HeaderValue::from_str(secret.expose_secret())
                .map_err(|_| "the secret cannot stand in a header; it must be one line of visible ASCII");
            if let Some(mut value) = self.fit(reference, value) {
                value.set_sensitive(true);
                headers.insert(header, value);
            }
        }
        let host = self.read(&entry.host, HostPattern::parse)?;
        Some(UpstreamHeaders { host, headers })
    }

    pub(super) fn revoked(&mut self, file: &PolicyFile) -> Revoked {
        let entry = &file.revoked;
        Revoked {
            keys: entry.keys.iter().filter_map(|key| self.revoked_key(key, file)).collect(),
            link_ids: entry.link_ids.iter().filter_map(|id| self.read(id, LinkId::parse)).collect(),
            issued_before: self.moment(entry.issued_before.as_ref()),
        }
    }
}

impl Reader<'_> {
    /// A key that is revoked must be one that could verify something; a misspelt one would revoke nothing.
    fn revoked_key(&mut self, key: &Spanned<String>, file: &PolicyFile) -> Option<String> {
        let name = key.as_ref().as_str();
        let of_issuer = |issuer: &IssuerEntry| {
            let own =
                name.strip_prefix(issuer.issuer.as_ref().as_str()).and_then(|rest| rest.strip_prefix('#'));
            issuer.jwks_url.is_some()
                || issuer
                    .keys
                    .iter()
                    .any(|key| key.id.as_ref() == name || own == Some(key.id.as_ref().as_str()))
        };
        let known = file.keys.iter().any(|key| key.id.as_ref() == name) || file.issuers.iter().any(of_issuer);
        if !known {
            let message = format!(
                "there is no key `{name}` here to revoke; keep a revoked key in the file, or remove both"
            );
            self.problem(key.span(), message);
            return None;
        }
        Some(name.to_owned())
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

fn round_up(rate: f64) -> u32 {
    let whole = Duration::from_secs_f64(rate.ceil().clamp(1.0, 1_000_000.0)).as_secs();
    u32::try_from(whole).unwrap_or(u32::MAX)
}
