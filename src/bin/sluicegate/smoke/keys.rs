//! The keys that sign: those of a policy folder, or some that are given by reference.

use std::path::Path;
use std::sync::Arc;

use http::HeaderMap;
use sluicegate::gate::explain::walk;
use sluicegate::gate::hmac::HmacKey;
use sluicegate::gate::id::{KeyId, TenantName};
use sluicegate::gate::keys::FetchedKeys;
use sluicegate::gate::mint::{Draft, Minted};
use sluicegate::gate::policy::{Policies, SecretRef};
use sluicegate::wire::config::SecretsConfig;
use sluicegate::wire::{clock, secrets};

use super::Args;
use crate::serve::runtime;
use crate::{Failure, mint};

pub(super) enum Keys {
    Policy(Arc<Policies>),
    Given(Vec<(KeyId, HmacKey)>),
}

impl Keys {
    /// The keys, the one that signs, and the one of another tenant.
    pub(super) fn open(args: &Args) -> Result<(Self, KeyId, Option<KeyId>), Failure> {
        let other = args.other_kid.as_deref().map(|kid| key_id("--other-kid", kid)).transpose()?;
        let (keys, kid) = if args.keys.is_empty() {
            let policies = mint::open(&args.policy)?;
            let kid = mint::pick_key(&policies, args.kid.as_deref(), clock::now())?;
            (Self::Policy(policies), kid)
        } else {
            let given = args.keys.iter().map(|text| read(text)).collect::<Result<Vec<_>, _>>()?;
            let kid = pick(&given, args.kid.as_deref(), other.as_ref())?;
            (Self::Given(given), kid)
        };
        for kid in [Some(&kid), other.as_ref()].into_iter().flatten() {
            // What cannot sign is found before anything is asked.
            keys.sign(Draft::new(&args.url, kid, clock::now()), kid)?;
        }
        if let Some(other) = &other
            && (other == &kid || keys.tenant(&kid).is_some_and(|tenant| keys.tenant(other) == Some(tenant)))
        {
            return Err(format!(
                "--other-kid `{other}` is of the tenant that signs; name a key of another one"
            ));
        }
        Ok((keys, kid, other))
    }

    pub(super) fn sign(&self, draft: Draft, kid: &KeyId) -> Result<Minted, Failure> {
        match self {
            Self::Policy(policies) => mint::sign(policies, draft, kid),
            Self::Given(given) => {
                let (_, key) = given
                    .iter()
                    .find(|(id, _)| id == kid)
                    .ok_or_else(|| format!("no --key gives `{kid}`; write --key {kid}=env:NAME"))?;
                draft.sign(key).map_err(|fault| fault.to_string())
            }
        }
    }

    /// Would the policies at hand let this link through? `None` if there are none.
    pub(super) fn allow(&self, query: &str) -> Option<bool> {
        let Self::Policy(policies) = self else { return None };
        let fetched = FetchedKeys::new();
        Some(walk(policies, query, &HeaderMap::new(), &fetched, clock::now(), None).passes)
    }

    fn tenant(&self, kid: &KeyId) -> Option<&TenantName> {
        let Self::Policy(policies) = self else { return None };
        policies
            .tenants()
            .map(|tenant| tenant.name())
            .find(|name| policies.minting_keys(name.as_str(), clock::now()).contains(&kid))
    }
}

fn key_id(option: &str, text: &str) -> Result<KeyId, Failure> {
    KeyId::parse(text).map_err(|fault| format!("{option} `{text}`: {fault}"))
}

/// Reads `KID=REFERENCE`. What stands where a reference belongs may be a secret: it is not repeated.
fn read(text: &str) -> Result<(KeyId, HmacKey), Failure> {
    let (kid, reference) = text.split_once('=').ok_or(
        "--key names no key; write `KID=env:NAME`, `KID=file:PATH`, `KID=secretsmanager:NAME`, \
             `KID=secretsmanager:NAME#FIELD` or `KID=ssm:NAME`, never the secret itself",
    )?;
    let kid = KeyId::parse(kid).map_err(|fault| format!("--key does not begin with a key id: {fault}"))?;
    let fault = |fault: String| format!("--key `{kid}`: {fault}");
    let reference = SecretRef::parse(reference).map_err(fault)?;
    let config = SecretsConfig::default();
    let fetched = secrets::fetch_alone(&reference, Path::new("."), &config);
    let secret = runtime()?.block_on(fetched).map_err(fault)?;
    let key = HmacKey::new(&secret).map_err(|weak| fault(weak.to_string()))?;
    Ok((kid, key))
}

fn pick(given: &[(KeyId, HmacKey)], asked: Option<&str>, other: Option<&KeyId>) -> Result<KeyId, Failure> {
    if let Some(asked) = asked {
        return key_id("--kid", asked);
    }
    let able: Vec<_> = given.iter().map(|(kid, _)| kid).filter(|kid| Some(*kid) != other).collect();
    match able.as_slice() {
        [only] => Ok((*only).clone()),
        [] => Err("no --key is left to sign with; give one that is not --other-kid".to_owned()),
        _ => Err("several keys are given; choose the one that signs with --kid".to_owned()),
    }
}
