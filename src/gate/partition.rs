//! The partition of a shared cache: under which name the edge in front keeps an answer, and for which credentials it is
//! then found. The edge names it; nothing is believed of that but what this gateway would name itself.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::id::UnixTime;
use super::link::{Claim, SignedRequest};
use super::permit::Permit;

/// The header in which the edge names the partition.
pub const PARTITION_HEADER: &str = "x-sluicegate-partition";

/// 132 bits of SHA-256, in base64url.
const HASH_CHARS: usize = 22;

/// What the edge names, and what it would have to name for this credential alone.
#[derive(Debug)]
pub struct Partition {
    named: String,
    own: String,
}

impl Partition {
    /// The partition that the edge names for a request.
    pub fn of(named: &str, request: &SignedRequest) -> Self {
        let own = match &request.claim {
            Claim::Link(link) => short_hash(&link.tag.encode()),
            Claim::Token { token, .. } => short_hash(token.as_str()),
        };
        Self { named: named.to_owned(), own }
    }

    /// How long the answer may be kept there, in seconds, of the `most` that the policy allows. None if this is not where
    /// the answer belongs: the edge has another policy or other keys, or cannot have verified what it says it did.
    ///
    /// `tenant.epoch` is found by every credential of the tenant that the edge verifies; `tenant.epoch.hash` by the very
    /// credential, which the edge could not verify, so that the answer must not outlive it.
    pub fn keeps(&self, permit: &Permit, now: UnixTime, most: u64) -> Option<u64> {
        let grant = permit.grant();
        let shared = format!("{}.{}", grant.tenant(), permit.tenant().epoch());
        let own = self.named.strip_prefix(&shared)?.strip_prefix('.');
        match own {
            None if self.named == shared && grant.is_proven_at_the_edge() => Some(most),
            Some(own) if own == self.own => Some(most.min(grant.expires().since(now))),
            _ => None,
        }
    }
}

/// The hash by which the edge names credentials, issuers, audiences and key ids.
pub(in crate::gate) fn short_hash(text: &str) -> String {
    let mut hash = URL_SAFE_NO_PAD.encode(Sha256::digest(text));
    hash.truncate(HASH_CHARS);
    hash
}
