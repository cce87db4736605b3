//! How far a request came with the limits, as the answer tells it: the `RateLimit` fields
//! (draft-ietf-httpapi-ratelimit-headers-10), and whether the shared counters were there to ask.

use http::{HeaderName, HeaderValue};

use crate::gate::fault::LimitScope;
use crate::gate::headers::LIMITS_HEADER;
use crate::gate::policy::{LimitSet, Rate};
use crate::wire::values;

use super::store::{Both, SCOPES, Seen};
use super::whole_seconds;

static POLICY_FIELD: HeaderName = HeaderName::from_static("ratelimit-policy");
static LEFT_FIELD: HeaderName = HeaderName::from_static("ratelimit");

/// How far a request came with the limits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standing {
    rates: Both<Option<Rated>>,
    alone: Option<Alone>,
}

/// What is left of one scope's rate.
#[derive(Debug, Clone, Copy)]
struct Rated {
    scope: LimitScope,
    /// Requests at once, and seconds until as many are back.
    burst: u32,
    window: u64,
    left: u32,
    until: u64,
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
        for (((scope, limits), seen), noted) in SCOPES.into_iter().zip(limits).zip(seen).zip(&mut self.rates)
        {
            let (Some(rate), Some(seen)) = (limits.rate, seen) else { continue };
            *noted = Some(Rated {
                scope,
                burst: rate.burst,
                window: whole_seconds(rate.period.saturating_mul(rate.burst)).max(1),
                left: seen.left,
                until: until(rate, seen),
            });
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
        let policy = self.items(|rate| [(";q=", rate.burst.into()), (";w=", rate.window)]);
        let left = self.items(|rate| [(";r=", rate.left.into()), (";t=", rate.until)]);
        let rates = [(&POLICY_FIELD, policy), (&LEFT_FIELD, left)];
        rates.into_iter().filter_map(|(name, value)| Some((name.clone(), value?))).chain(degraded)
    }

    /// Items of a structured field (RFC 9651 section 3.3.3), a string with two numbers each; `None` without a rate.
    fn items(&self, numbers: impl Fn(&Rated) -> [(&'static str, u64); 2]) -> Option<HeaderValue> {
        if self.rates.iter().all(Option::is_none) {
            return None;
        }
        values::written(|text| {
            for (rate, mark) in self.rates.iter().flatten().zip(["\"", ", \""]) {
                for part in [mark, rate.scope.name(), "\""] {
                    text.extend_from_slice(part.as_bytes());
                }
                for (key, number) in numbers(rate) {
                    text.extend_from_slice(key.as_bytes());
                    text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
                }
            }
        })
    }
}

/// Seconds until the whole burst is back; where nothing is left, until one request would pass.
fn until(rate: Rate, seen: &Seen) -> u64 {
    if seen.left == 0 && !seen.wait.is_zero() {
        return whole_seconds(seen.wait);
    }
    whole_seconds(rate.period.saturating_mul(rate.burst.saturating_sub(seen.left)))
}
