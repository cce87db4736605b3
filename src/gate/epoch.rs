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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use crate::gate::policy::{Policies, PolicySource, SecretFault, SecretRef};

    const POLICY: &str = r#"
tenant = "acme"
description = "a line for people"
mode = "enforce"
max_link_lifetime = "7d"
[[keys]]
id = "acme-1"
secret = "env:ONE"
[[issuers]]
issuer = "https://login.example"
audience = "files"
[[issuers.keys]]
id = "i1"
algorithm = "HS256"
secret = "env:TWO"
[[allow]]
host = "files.example"
path = "/public"
[[upstream]]
host = "files.example"
headers = { x-api-key = "env:THREE" }
[limits.key]
requests_per_second = 5
[response]
cache_ttl = "1h"
[revoked]
link_ids = ["gone"]
"#;

    /// `changed` is the text with one thing changed, `secret` what each variable holds.
    fn epoch(text: &str, secret: impl Fn(&str) -> Option<String>) -> String {
        let other = "tenant = \"other\"\n[[keys]]\nid = \"other-1\"\nsecret = \"env:OTHER\"\n";
        let sources =
            [("acme", text), ("other", other)].map(|(stem, text)| PolicySource { file: stem, stem, text });
        let set = Policies::load(&sources, &|reference| match reference {
            SecretRef::Env(name) => secret(name)
                .map(Into::into)
                .ok_or(SecretFault::LeftOut { why: "it is not there".to_owned(), stale: false }),
            other => Err(format!("only variables here, not `{other}`").into()),
        });
        set.unwrap().tenant("acme").unwrap().epoch().to_string()
    }

    #[allow(clippy::unnecessary_wraps, reason = "a place of secrets may have none")]
    fn usual(name: &str) -> Option<String> {
        Some(format!("sgk1_{name}-0123456789abcdefghijklmnopqrstuvwxyz"))
    }

    #[test]
    fn an_epoch_changes_exactly_when_policy_or_keys_do() {
        let before = epoch(POLICY, usual);
        assert_eq!(before.len(), 16);
        for same in [
            POLICY.to_owned(),
            format!("# a comment\n\n{POLICY}\n"),
            POLICY.replace("a line for people", "another line"),
            POLICY
                .replace("\"files.example\"\npath = \"/public\"", "'files.example'\n  path   = \"/public\""),
        ] {
            assert_eq!(epoch(&same, usual), before, "{same}");
        }
        let elsewhere = |name: &str| if name == "OTHER" { usual("CHANGED") } else { usual(name) };
        assert_eq!(epoch(POLICY, elsewhere), before, "another tenant's secret");
        let mut seen = HashSet::from([before]);
        for (from, to) in [
            ("7d", "8d"),
            ("enforce", "report"),
            ("acme-1", "acme-2"),
            ("env:ONE", "env:OTHER"),
            ("login.example", "signin.example"),
            ("\"files\"", "\"downloads\""),
            ("i1", "i2"),
            ("HS256\"", "HS384\""),
            ("/public", "/private"),
            ("[[allow]]", "[[deny]]"),
            ("x-api-key", "x-other-key"),
            ("requests_per_second = 5", "requests_per_second = 6"),
            ("cache_ttl = \"1h\"", "cache_ttl = \"2h\""),
            ("\"gone\"", "\"gone\", \"too\""),
        ] {
            assert!(seen.insert(epoch(&POLICY.replace(from, to), |name| usual(&name.repeat(2)))), "{from}");
        }
        for changed in ["ONE", "TWO", "THREE"] {
            let rotated = |name: &str| if name == changed { usual("ROTATED") } else { usual(name) };
            assert!(seen.insert(epoch(POLICY, rotated)), "{changed} rotated");
        }
        // Two secrets that change places are a change.
        let swapped = |name: &str| match name {
            "ONE" => usual("TWO"),
            "TWO" => usual("ONE"),
            name => usual(name),
        };
        assert!(seen.insert(epoch(POLICY, swapped)));
    }
}
