//! How far a request came with the limits, as the answer tells it: the `RateLimit` fields
//! (draft-ietf-httpapi-ratelimit-headers-10), and whether the shared counters were there to ask.

use http::{HeaderName, HeaderValue};

use crate::gate::headers::LIMITS_HEADER;
use crate::gate::policy::{LimitSet, Rate};

use super::store::{Both, SCOPES, Seen};
use super::whole_seconds;

/// How far a request came with the limits.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    policy: String,
    left: String,
    alone: Option<Alone>,
}

/// The shared store was away; what the tenant's `fail` made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alone {
    Open,
    Closed,
}

impl Standing {
    /// Notes the scopes that have a rate and were asked.
    pub(super) fn note(&mut self, limits: Both<&LimitSet>, seen: &Both<Option<Seen>>) {
        for ((scope, limits), seen) in SCOPES.into_iter().zip(limits).zip(seen) {
            let (Some(rate), Some(seen)) = (limits.rate, seen) else { continue };
            let window = whole_seconds(rate.period.saturating_mul(rate.burst)).max(1);
            if !self.policy.is_empty() {
                self.policy.push_str(", ");
                self.left.push_str(", ");
            }
            let name = scope.name();
            item(&mut self.policy, name, [(";q=", rate.burst.into()), (";w=", window)]);
            item(&mut self.left, name, [(";r=", seen.left.into()), (";t=", until(rate, seen))]);
        }
    }

    /// The shared store was away: this process decided by itself, or refused.
    pub(super) fn decided_alone(&mut self, open: bool) {
        self.alone = Some(if open { Alone::Open } else { Alone::Closed });
    }

    /// `open` or `closed` if the shared store was away.
    pub fn alone(&self) -> Option<&'static str> {
        self.alone.map(|alone| match alone {
            Alone::Open => "open",
            Alone::Closed => "closed",
        })
    }

    /// The fields of the answer; none without a rate.
    pub fn fields(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
        let degraded = self
            .alone
            .map(|_| (HeaderName::from_static(LIMITS_HEADER), HeaderValue::from_static("degraded")));
        let rates = [("ratelimit-policy", &self.policy), ("ratelimit", &self.left)];
        let rates = rates.into_iter().filter(|(_, items)| !items.is_empty()).filter_map(|(name, items)| {
            Some((HeaderName::from_static(name), HeaderValue::from_str(items).ok()?))
        });
        rates.chain(degraded)
    }
}

/// An item of a structured field (RFC 9651 section 3.3.3): a string with two numbers.
fn item(text: &mut String, name: &str, parameters: [(&str, u64); 2]) {
    // Room for two scopes.
    text.reserve(64);
    for part in ["\"", name, "\""] {
        text.push_str(part);
    }
    for (key, number) in parameters {
        text.push_str(key);
        text.push_str(itoa::Buffer::new().format(number));
    }
}

/// Seconds until the whole burst is back; where nothing is left, until one request would pass.
fn until(rate: Rate, seen: &Seen) -> u64 {
    if seen.left == 0 && !seen.wait.is_zero() {
        return whole_seconds(seen.wait);
    }
    whole_seconds(rate.period.saturating_mul(rate.burst.saturating_sub(seen.left)))
}
