//! What the page signs and asks: the keys there are, a link made to order, a link to walk through the stages.

use http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::gate::explain::{Stage, walk};
use crate::gate::id::KeyId;
use crate::gate::keys::FetchedKeys;
use crate::gate::mint::{LinkOptions, MintError};
use crate::gate::policy::Policies;
use crate::wire::clock;

use super::{About, Complaint};

/// The most keys that are listed; more are typed.
const MOST_KEYS: usize = 500;

/// What the page offers: the keys that mint now, files to try.
#[derive(Serialize)]
pub(super) struct Offer {
    keys: Vec<Key>,
    left_out: usize,
    version: &'static str,
    #[serde(flatten)]
    about: About,
}

#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    tenant: String,
    id: String,
}

impl Offer {
    pub(super) fn of(policies: &Policies, about: &About) -> Self {
        let mut keys: Vec<_> = policies
            .all_minting_keys(clock::now())
            .map(|(tenant, id)| Key { tenant: tenant.to_string(), id: id.to_string() })
            .collect();
        keys.sort();
        let left_out = keys.len().saturating_sub(MOST_KEYS);
        keys.truncate(MOST_KEYS);
        Self { keys, left_out, version: env!("CARGO_PKG_VERSION"), about: about.clone() }
    }
}

/// A link to make.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    kid: String,
    options: LinkOptions,
}

/// A link that was made, and what the tenant's policy will say to it.
#[derive(Serialize)]
pub(super) struct Made {
    query: String,
    string_to_sign: String,
    signature: String,
    exp: u64,
    /// The stage that will refuse it all the same.
    refused: Option<Stage>,
}

/// Signs, and walks the link through the stages before anybody is sent it.
pub(super) fn mint(policies: &Policies, order: &Order) -> Result<Made, Complaint> {
    let now = clock::now();
    let kid = KeyId::parse(order.kid.trim()).map_err(|fault| Complaint::about("kid", fault.to_string()))?;
    let at_fault = |error: MintError| match error.option() {
        Some(option) => Complaint::about(option, order.options.complaint(&error)),
        None => Complaint::new(http::StatusCode::BAD_REQUEST, order.options.complaint(&error)),
    };
    let draft = order.options.draft(&kid, now).map_err(at_fault)?;
    let exp = order.options.end(now).map_err(at_fault)?;
    let minted = policies.mint(draft, &kid, now).map_err(at_fault)?;
    let walk = walk(policies, &minted.query, &HeaderMap::new(), &FetchedKeys::new(), now, None);
    // Whether the client's address fits is not known before somebody uses the link.
    let refused = walk.stages.into_iter().find(|stage| {
        !stage.passes && !matches!(stage.code, Some("client_not_allowed" | "link_not_yet_valid"))
    });
    let (string_to_sign, signature) = (minted.string_to_sign, minted.signature);
    Ok(Made { query: minted.query, string_to_sign, signature, exp: exp.0, refused })
}

/// A link to inspect.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    /// The link, or its query alone.
    pub(super) link: String,
    /// A token that goes in a header.
    pub(super) token: Option<String>,
    /// The client address to judge by.
    pub(super) client: Option<String>,
}
