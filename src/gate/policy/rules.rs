//! Rules in the form in which they decide.

use std::sync::Arc;
use std::time::Duration;

use crate::gate::filename::SignedFileName;
use crate::gate::hosts::HostPattern;
use crate::gate::paths::PathPrefix;
use crate::gate::target::Target;

/// One `[[allow]]` or `[[deny]]` entry without its host.
#[derive(Debug)]
pub struct Rule {
    /// What it is called in logs and in `explain`: its kind, file and line.
    pub(in crate::gate) name: Arc<str>,
    pub(super) http: bool,
    pub(super) https: bool,
    pub(super) ports: Ports,
    pub(super) path: Option<PathPrefix>,
}

#[derive(Debug)]
pub(super) enum Ports {
    Any,
    SchemeDefault,
    Listed(Vec<u16>),
}

impl Rule {
    /// Does the rule let `target` pass? A path that could mean another one is let through only where every path is.
    pub(in crate::gate) fn permits(&self, target: &Target) -> bool {
        self.covers_origin(target)
            && self.path.as_ref().is_none_or(|prefix| prefix.matches(target.url().path()))
    }

    /// Does the rule forbid `target`? A path that could mean another one is forbidden wherever any path is.
    pub(in crate::gate) fn forbids(&self, target: &Target) -> bool {
        let path = target.url().path();
        self.covers_origin(target) && self.path.as_ref().is_none_or(|prefix| prefix.may_cover(path))
    }

    /// What of `target` the rule does not cover, its host aside: all of it, so that one look is enough.
    pub(in crate::gate) fn misses(&self, target: &Target) -> String {
        let path = self.path.as_ref().is_none_or(|prefix| prefix.matches(target.url().path()));
        [
            (self.covers_scheme(target), "scheme (`schemes`)"),
            (self.covers_port(target), "port (`ports`)"),
            (path, "path (`path`)"),
        ]
        .iter()
        .filter(|(covered, _)| !covered)
        .map(|(_, part)| *part)
        .collect::<Vec<_>>()
        .join(", nor its ")
    }

    fn covers_origin(&self, target: &Target) -> bool {
        self.covers_scheme(target) && self.covers_port(target)
    }

    fn covers_scheme(&self, target: &Target) -> bool {
        if target.is_https() { self.https } else { self.http }
    }

    fn covers_port(&self, target: &Target) -> bool {
        match &self.ports {
            Ports::Any => true,
            Ports::SchemeDefault => target.port() == if target.is_https() { 443 } else { 80 },
            Ports::Listed(ports) => ports.contains(&target.port()),
        }
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// A rate: one request per `period` in the long run, `burst` at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The time one request takes to be earned back.
    pub period: Duration,
    /// How many may come at once; at least 1.
    pub burst: u32,
}

/// Limits of one tenant or key; what is `None` is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitSet {
    /// Requests.
    pub rate: Option<Rate>,
    /// Downloads at the same time.
    pub concurrent_downloads: Option<u32>,
    /// Body bytes per UTC day.
    pub bytes_per_day: Option<u64>,
}

/// What may be answered.
#[derive(Debug, Default)]
pub struct ResponseRules {
    /// The name of a download that neither link nor upstream names.
    pub default_filename: Option<SignedFileName>,
    /// `None`: every type.
    pub(super) content_types: Option<Vec<TypePattern>>,
    /// The largest body in bytes.
    pub max_bytes: Option<u64>,
    /// Is a file that is too large for the door fetched from its own address?
    pub(in crate::gate) redirects_oversize: bool,
    /// How long browsers, and a cache in front that verifies links, may keep the answer, in seconds.
    pub cache_ttl: Option<u64>,
    pub(super) cache_despite_upstream: Vec<HostPattern>,
}

/// `type/subtype` or `type/*`, in lower case.
#[derive(Debug)]
pub(super) struct TypePattern {
    pub(super) kind: String,
    pub(super) subtype: Option<String>,
}

impl TypePattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let help =
            || format!("`{text}` is not a content type; write one such as `application/pdf` or `video/*`");
        let text = text.to_ascii_lowercase();
        let (kind, subtype) = text.split_once('/').ok_or_else(help)?;
        let token = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
        };
        if !token(kind) || !(token(subtype) || subtype == "*") {
            return Err(help());
        }
        Ok(Self { kind: kind.to_owned(), subtype: (subtype != "*").then(|| subtype.to_owned()) })
    }
}

impl ResponseRules {
    /// May a body of this type be answered?
    pub fn permits_type(&self, content_type: &mime::Mime) -> bool {
        let essence = content_type.essence_str();
        let (kind, subtype) = essence.split_once('/').unwrap_or((essence, ""));
        self.content_types.as_ref().is_none_or(|patterns| {
            patterns
                .iter()
                .any(|p| p.kind == kind && p.subtype.as_deref().is_none_or(|wanted| wanted == subtype))
        })
    }

    /// Does the policy overrule `no-store` and `private` of this upstream?
    pub fn caches_despite_upstream(&self, target: &Target) -> bool {
        self.cache_despite_upstream.iter().any(|host| host.matches(target.host()))
    }
}
