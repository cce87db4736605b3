//! Live figures as the page shows them: what was counted, beside what is left of the limits.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::gate::policy::Policies;
use crate::wire::clock;
use crate::wire::figures::{End, Figures, Tally};
use crate::wire::limits::{Left, Limits};

/// The most keys that are shown; the busiest come first.
const MOST_ROWS: usize = 100;

/// The figures at one moment.
#[derive(Serialize)]
pub(super) struct Report {
    now: u64,
    tenants: Vec<TenantRow>,
    /// Requests that proved nothing.
    unproven: Counts,
    /// Keys that are not shown.
    left_out: usize,
}

#[derive(Serialize)]
struct TenantRow {
    name: String,
    limits: Left,
    keys: Vec<KeyRow>,
}

#[derive(Serialize)]
struct KeyRow {
    id: String,
    limits: Left,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct Counts {
    requests: Vec<End>,
    bytes: u64,
}

impl Report {
    /// Keys that had a request, and as many of the others as there is room for.
    pub(super) async fn of(figures: &Figures, limits: &Limits, policies: &Policies) -> Self {
        let now = clock::now();
        let mut seen = figures.pairs();
        seen.sort_by_key(|(.., tally)| {
            std::cmp::Reverse(tally.ends().iter().map(|end| end.count).sum::<u64>())
        });
        let mut rows: BTreeMap<(String, String), Counts> = BTreeMap::new();
        let mut left_out = seen.len().saturating_sub(MOST_ROWS);
        for (tenant, key, tally) in seen.into_iter().take(MOST_ROWS) {
            rows.insert((tenant, key), Counts::of(&tally));
        }
        for (tenant, key) in policies.all_minting_keys(now) {
            let pair = (tenant.to_string(), key.to_string());
            if rows.len() < MOST_ROWS {
                rows.entry(pair).or_insert_with(|| Counts::of(&Tally::default()));
            } else if !rows.contains_key(&pair) {
                left_out += 1;
            }
        }
        let tenants = by_tenant(rows, limits, policies).await;
        Self { now: now.0, tenants, unproven: Counts::of(&figures.unproven()), left_out }
    }
}

async fn by_tenant(
    rows: BTreeMap<(String, String), Counts>,
    limits: &Limits,
    policies: &Policies,
) -> Vec<TenantRow> {
    let mut tenants: Vec<TenantRow> = Vec::new();
    for ((name, id), counts) in rows {
        // A tenant that was taken away has counts and no limits.
        let Some(tenant) = policies.tenant(&name) else { continue };
        let key = KeyRow { limits: limits.left(tenant, Some(&id)).await, id, counts };
        match tenants.last_mut() {
            Some(last) if last.name == name => last.keys.push(key),
            _ => tenants.push(TenantRow { limits: limits.left(tenant, None).await, name, keys: vec![key] }),
        }
    }
    tenants
}

impl Counts {
    fn of(tally: &Tally) -> Self {
        Self { requests: tally.ends(), bytes: tally.bytes() }
    }
}
