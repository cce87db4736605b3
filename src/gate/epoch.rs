//! A tenant's epoch: a short hash of its policy and keys. What a cache keeps for a tenant is kept under it, so that a
//! changed policy abandons what was cached under the old one.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::policy::PolicyFile;

/// 96 bits of the hash: two epochs of one tenant do not meet by chance, and nobody can choose them.
const BYTES: usize = 12;

/// 16 characters of base64url. Equal while the tenant's policy means the same and its secrets are the same; the layout of
/// the file, its comments and its `description` do not count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Epoch(String);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An epoch in the making: the file first, then what each of its references leads to, in the order of reading.
pub(in crate::gate) struct Sum(Sha256);

impl Sum {
    /// Begins with a policy file as it is understood.
    pub(in crate::gate) fn begin(file: &PolicyFile) -> Self {
        let mut sum = Self(Sha256::new_with_prefix("sluicegate-epoch-v1\n"));
        // A policy file holds texts, numbers, lists and dates only, which JSON can always say.
        sum.add(&serde_json::to_vec(file).unwrap_or_default());
        sum
    }

    /// A secret, or that there is none.
    pub(in crate::gate) fn add_secret(&mut self, secret: Option<&SecretString>) {
        self.0.update([u8::from(secret.is_some())]);
        self.add(secret.map_or("", |secret| secret.expose_secret()).as_bytes());
    }

    pub(in crate::gate) fn finish(self) -> Epoch {
        let hash = self.0.finalize();
        Epoch(URL_SAFE_NO_PAD.encode(hash.get(..BYTES).unwrap_or_default()))
    }

    /// With its length in front, so that bytes cannot move from one part to the next.
    fn add(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }
}
