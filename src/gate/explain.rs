//! Walks a link through the stages and says, to someone who holds the keys, where it stops and why. The answer to an
//! outsider says much less; see [`refusal`](super::refusal).

mod guesses;

use std::net::IpAddr;

use http::HeaderMap;
use serde::Serialize;

use super::canonical::{KNOWN, Parameters};
use super::hmac::Tag;
use super::id::UnixTime;
use super::keys::FetchedKeys;
use super::link::SignedRequest;
use super::policy::Policies;
use super::query;
use super::refusal::{Code, Refusal};
use guesses::{guesses, spelling_of};

/// A tag in base64url.
const SIG_LENGTH: usize = 43;

/// How far a link comes.
#[derive(Debug, Serialize)]
pub struct Walk {
    /// Would the gateway fetch the file?
    pub passes: bool,
    /// The stages in order; the walk ends at the first that refuses.
    pub stages: Vec<Stage>,
    /// What a signature must cover, line by line; empty for tokens and for queries that cannot be read.
    pub string_to_sign: Vec<Line>,
    /// What would help, as far as it can be told.
    pub hints: Vec<String>,
}

/// One stage's verdict.
#[derive(Debug, Serialize)]
pub struct Stage {
    /// `link`, `verify` or `policy`.
    pub stage: &'static str,
    /// Did it let the link through?
    pub passes: bool,
    /// The code the public would see, if it refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// What decided.
    pub reason: String,
}

/// A line of the string to sign.
#[derive(Debug, Serialize)]
pub struct Line {
    /// The line without its newline.
    pub text: String,
    /// Was this line signed differently, as far as can be told?
    pub differs: bool,
}

/// What follows the first `?` of a link, without a fragment; a text without `?` is taken for a query.
pub fn query_of(link: &str) -> &str {
    let link = link.trim();
    let query = link.split_once('?').map_or(link, |(_, query)| query);
    query.split_once('#').map_or(query, |(query, _)| query)
}

/// Walks `raw_query` and `headers` through link, verify and policy.
pub fn walk(
    policies: &Policies,
    raw_query: &str,
    headers: &HeaderMap,
    fetched: &FetchedKeys,
    now: UnixTime,
    client: Option<IpAddr>,
) -> Walk {
    let mut walk = Walk { passes: false, stages: Vec::new(), string_to_sign: Vec::new(), hints: Vec::new() };
    let mut unexplained = false;
    if let Ok(parameters) = query::read(raw_query)
        && parameters.contains_key("sig")
    {
        let lines = parameters.string_to_sign().lines();
        walk.string_to_sign = lines.map(|text| Line { text: text.to_owned(), differs: false }).collect();
        unexplained = !walk.look_at_the_signature(policies, raw_query, &parameters);
    }
    walk.mention_strangers(raw_query);
    if let Err(refusal) = walk.stages(policies, raw_query, headers, fetched, now, client) {
        walk.refused(&refusal);
        // A link that is no link has said what is wrong with it.
        if unexplained && refusal.code() == Code::InvalidSignature {
            walk.hints.push(
                "none of the usual mistakes fits: a value was changed after signing, or another secret was used; \
                 compare the string to sign with the signer's, line by line"
                    .to_owned(),
            );
        }
        walk.look_at_the_end(raw_query, now);
    }
    walk
}

impl Walk {
    fn stages(
        &mut self,
        policies: &Policies,
        raw_query: &str,
        headers: &HeaderMap,
        fetched: &FetchedKeys,
        now: UnixTime,
        client: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        let request = SignedRequest::parse(Some(raw_query), headers)?;
        self.passed("link", "every parameter is well formed".to_owned());
        if policies.missing_key_set(&request, fetched).is_some() {
            self.hints.push(
                "the issuer publishes its keys at a URL, which is not fetched here; the gateway would"
                    .to_owned(),
            );
        }
        let grant = policies.verify(request, fetched, now, client)?;
        let left = grant.expires().since(now);
        self.passed(
            "verify",
            format!(
                "signed by key `{}` of tenant `{}`; good for another {}",
                grant.key(),
                grant.tenant(),
                span(left)
            ),
        );
        let permit = policies.decide(grant, now)?;
        for denial in permit.reported() {
            self.hints.push(format!("report mode lets this through: {denial}"));
        }
        self.passed(
            "policy",
            if permit.rule().is_empty() { "report mode".to_owned() } else { permit.rule().to_owned() },
        );
        self.passes = true;
        Ok(())
    }

    fn passed(&mut self, stage: &'static str, reason: String) {
        self.stages.push(Stage { stage, passes: true, code: None, reason });
    }

    fn refused(&mut self, refusal: &Refusal) {
        let code = Some(refusal.code().face().code);
        self.stages.push(Stage { stage: refusal.stage(), passes: false, code, reason: refusal.to_string() });
    }

    /// Is the link over, or is its end missing?
    fn look_at_the_end(&mut self, raw_query: &str, now: UnixTime) {
        let Ok(parameters) = query::read(raw_query) else { return };
        let sig = parameters.get("sig");
        if parameters.contains_key("url") && parameters.contains_key("kid") && sig.is_none() {
            self.hints.push("there is no `sig`: the link looks cut off".to_owned());
        }
        if let Some(sig) = sig.filter(|sig| sig.len() < SIG_LENGTH) {
            let hint = format!("the link looks cut off: `sig` has {} of {SIG_LENGTH} characters", sig.len());
            self.hints.push(hint);
        }
        let end = parameters.get("exp").and_then(|exp| UnixTime::parse(exp).ok());
        if let Some(end) = end.filter(|end| *end <= now) {
            self.hints.push(format!("`exp={end}` was {} ago", span(now.since(end))));
        }
    }

    /// Tries the usual mistakes of signers; each that fits the signature becomes a hint. False if the signature is of no
    /// string that was tried.
    fn look_at_the_signature(
        &mut self,
        policies: &Policies,
        raw_query: &str,
        parameters: &Parameters,
    ) -> bool {
        let given = parameters.get("sig").unwrap_or_default();
        let Ok(tag) = Tag::parse(given) else {
            self.hints.extend(spelling_of(given));
            return true;
        };
        let Some(signer) = parameters.get("kid").and_then(|kid| policies.link_keys.get(kid)) else {
            return true;
        };
        let text = parameters.string_to_sign();
        if signer.key.hmac.verifies(text, &tag) {
            return true;
        }
        for other in policies.link_keys.values().filter(|other| other.key.hmac.verifies(text, &tag)) {
            self.hints.push(format!("it was signed with the secret of key `{}`", other.key.id));
        }
        for guess in guesses(raw_query, parameters) {
            if signer.key.hmac.verifies(&guess.text, &tag) {
                self.hints.push(guess.hint);
                for line in &mut self.string_to_sign {
                    line.differs |= guess.parameter.is_some_and(|name| {
                        line.text.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
                    });
                }
            }
        }
        !self.hints.is_empty()
    }

    fn mention_strangers(&mut self, raw_query: &str) {
        let known = |name: &str| KNOWN.contains(&name);
        let mut strangers: Vec<&str> = raw_query
            .split('&')
            .map(|piece| piece.split_once('=').map_or(piece, |(name, _)| name))
            .filter(|name| !name.is_empty() && !name.contains('%') && !known(name))
            .collect();
        strangers.dedup();
        for name in strangers.into_iter().take(8) {
            let near = KNOWN.iter().find(|known| known.eq_ignore_ascii_case(name));
            self.hints.push(match near {
                Some(known) => format!("parameter `{name}` is ignored; did you mean `{known}`?"),
                None => format!("parameter `{name}` is not part of a link; it is ignored"),
            });
        }
    }
}

fn span(seconds: u64) -> String {
    humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests;
