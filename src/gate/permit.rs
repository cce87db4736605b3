//! What is allowed: a [`Grant`] that its own tenant's policy lets through becomes a [`Permit`], here and nowhere else.

use std::sync::Arc;

use http::HeaderMap;

use super::grant::Grant;
use super::id::UnixTime;
use super::policy::{Policies, Tenant};
use super::target::Target;

/// The tenant's policy says no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The set changed between proof and decision.
    #[error("the tenant has no policy any more")]
    NoPolicy,
    /// The key, the link id or everything of that age.
    #[error("revoked: {0}")]
    Revoked(&'static str),
    /// Further ahead than `max_link_lifetime`.
    #[error("the link is valid for longer than the policy's `max_link_lifetime`, {}", span(*.0))]
    LivesTooLong(u64),
    /// A deny rule.
    #[error("forbidden by {0}")]
    Forbidden(String),
    /// No allow rule.
    #[error("no allow rule covers {0}")]
    NotAllowed(String),
    /// From https to http.
    #[error("a redirect leads from https to http, to `{0}`")]
    Downgrade(String),
    /// The body's type.
    #[error("content type `{0}` is not among `response.content_types`")]
    TypeNotAllowed(String),
    /// The body's length.
    #[error("the body of {0} bytes is larger than `response.max_bytes`")]
    TooLarge(u64),
}

fn span(seconds: u64) -> impl std::fmt::Display {
    humantime::format_duration(std::time::Duration::from_secs(seconds))
}

/// Allowed: by this rule, for this grant. It goes with every hop of the download.
#[derive(Debug)]
pub struct Permit {
    grant: Grant,
    tenant: Arc<Tenant>,
    rule: Option<Arc<str>>,
    reported: Vec<Denial>,
}

impl Policies {
    /// Lets the grant's own tenant decide; the caller cannot choose whose rules apply.
    pub fn decide(&self, grant: Grant, now: UnixTime) -> Result<Permit, Denial> {
        let tenant = self.tenants.get(grant.tenant()).ok_or(Denial::NoPolicy)?;
        check_revocation(tenant, &grant)?;
        let mut permit = Permit { tenant: Arc::clone(tenant), grant, rule: None, reported: Vec::new() };
        if permit.grant.expires().since(now) > tenant.max_link_lifetime {
            permit.deny(Denial::LivesTooLong(tenant.max_link_lifetime))?;
        }
        match allowing_rule(tenant, permit.grant.target()) {
            Ok(rule) => permit.rule = Some(rule),
            Err(denial) => permit.deny(denial)?,
        }
        Ok(permit)
    }
}

impl Permit {
    /// The proof it rests on.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Whose policy allowed it.
    pub fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }

    /// The rule that decided; empty if only report mode let it through.
    pub fn rule(&self) -> &str {
        self.rule.as_deref().unwrap_or_default()
    }

    /// The same, for who keeps it.
    pub fn shared_rule(&self) -> Option<Arc<str>> {
        self.rule.clone()
    }

    /// Is there a rule that covers `target`, or does only report mode let it through?
    pub fn has_rule_for(&self, target: &Target) -> bool {
        !self.tenant.reports_only() || allowing_rule(&self.tenant, target).is_ok()
    }

    /// What report mode let through although the rules say no.
    pub fn reported(&self) -> &[Denial] {
        &self.reported
    }

    /// Where a redirect leads: every rule again, and never from https down to http.
    pub fn allow_hop(&mut self, from: &Target, to: &Target) -> Result<(), Denial> {
        if from.is_https() && !to.is_https() {
            return Err(Denial::Downgrade(to.loggable().to_owned()));
        }
        match allowing_rule(&self.tenant, to) {
            Ok(_) => Ok(()),
            Err(denial) => self.deny(denial),
        }
    }

    /// May this body be answered? `length` is what the upstream announced for the whole file.
    pub fn allow_body(&mut self, content_type: &mime::Mime, length: Option<u64>) -> Result<(), Denial> {
        if !self.tenant.response.permits_type(content_type) {
            self.deny(Denial::TypeNotAllowed(content_type.essence_str().to_owned()))?;
        }
        match (self.tenant.response.max_bytes, length) {
            (Some(most), Some(length)) if length > most => self.deny(Denial::TooLarge(length)),
            _ => Ok(()),
        }
    }

    /// The most bytes the stream may carry.
    pub fn max_bytes(&self) -> Option<u64> {
        if self.tenant.reports_only() { None } else { self.tenant.response.max_bytes }
    }

    /// The tenant's own headers for the first upstream. They are never for a redirect's target and never for http.
    pub fn upstream_headers(&self) -> HeaderMap {
        let target = self.grant.target();
        let mut headers = HeaderMap::new();
        if target.is_https() {
            for entry in self.tenant.upstream.iter().filter(|entry| entry.host.matches(target.host())) {
                headers.extend(entry.headers.clone());
            }
        }
        headers
    }

    /// Where the client may fetch a file that is too large for the door: the signed URL, if the policy says
    /// `oversize = "redirect"` and the upstream needs nothing that only the gateway knows.
    pub fn direct_url(&self) -> Option<&url::Url> {
        let open = self.tenant.response.redirects_oversize && self.upstream_headers().is_empty();
        open.then(|| self.grant.target().url())
    }

    /// In report mode a denial is noted, otherwise it is the answer.
    fn deny(&mut self, denial: Denial) -> Result<(), Denial> {
        if self.tenant.reports_only() {
            self.reported.push(denial);
            return Ok(());
        }
        Err(denial)
    }
}

/// Revocation is not softened by report mode: it says that a credential is no longer good.
fn check_revocation(tenant: &Tenant, grant: &Grant) -> Result<(), Denial> {
    let revoked = &tenant.revoked;
    if revoked.keys.contains(grant.kid()) || revoked.keys.contains(grant.key()) {
        return Err(Denial::Revoked("the key"));
    }
    if grant.link_id().is_some_and(|id| revoked.link_ids.contains(id)) {
        return Err(Denial::Revoked("the link id"));
    }
    match revoked.issued_before {
        Some(moment) if grant.issued().is_none_or(|issued| issued < moment) => {
            Err(Denial::Revoked("issued before the policy's `issued_before`"))
        }
        _ => Ok(()),
    }
}

/// The allow rule that covers `target`, unless a deny rule does: deny wins.
fn allowing_rule(tenant: &Tenant, target: &Target) -> Result<Arc<str>, Denial> {
    if let Some(rule) = tenant.deny.lookup(target.host()).find(|rule| rule.forbids(target)) {
        return Err(Denial::Forbidden(rule.to_string()));
    }
    let mut near = None;
    for rule in tenant.allow.lookup(target.host()) {
        if rule.permits(target) {
            return Ok(Arc::clone(&rule.name));
        }
        near = near.or(Some(rule));
    }
    let url = target.loggable();
    Err(Denial::NotAllowed(match near {
        Some(rule) => format!("`{url}`; {rule} covers its host, but not its {}", rule.misses(target)),
        None => format!("`{url}`"),
    }))
}
