//! What was fetched from AWS, kept for a bounded time. A policy is read from what the vault holds; it asks for what is
//! missing, and asks again for everything when that has grown old.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, StreamExt as _};
use secrecy::{ExposeSecret as _, SecretString};

use super::aws::{Aws, PARAMETERS_PER_CALL};
use crate::gate::policy::SecretRef;
use crate::wire::config::SecretsConfig;

/// Calls to AWS at the same time.
const CALLS: usize = 8;

/// Secrets that are kept in AWS.
pub struct Vault {
    config: SecretsConfig,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    values: HashMap<SecretRef, Result<SecretString, String>>,
    /// What the set that is being read asked for, and of that what is not here.
    asked: HashSet<SecretRef>,
    missing: HashSet<SecretRef>,
}

impl Vault {
    /// Holds nothing yet, and asks nobody until a policy refers to AWS.
    pub fn new(config: &SecretsConfig) -> Self {
        Self { config: config.clone(), held: Mutex::default() }
    }

    pub(in crate::wire) fn config(&self) -> &SecretsConfig {
        &self.config
    }

    /// A secret that was fetched; one that was not is noted as missing.
    pub(super) fn get(&self, reference: &SecretRef) -> Result<SecretString, String> {
        let mut held = self.lock();
        held.asked.insert(reference.clone());
        let why = match held.values.get(reference) {
            Some(Ok(value)) => return Ok(value.clone()),
            Some(Err(why)) => why.clone(),
            None => super::NOT_ASKED.to_owned(),
        };
        held.missing.insert(reference.clone());
        Err(format!("cannot fetch `{reference}`: {why}"))
    }

    /// A set is about to be read.
    pub(in crate::wire) fn begin(&self) {
        let mut held = self.lock();
        held.asked.clear();
        held.missing.clear();
    }

    /// The set that was read is in force: what it did not ask for is forgotten.
    pub(in crate::wire) fn settle(&self) {
        let mut held = self.lock();
        let asked = std::mem::take(&mut held.asked);
        held.values.retain(|reference, _| asked.contains(reference));
    }

    /// Is anything kept in AWS at all?
    pub(in crate::wire) fn is_used(&self) -> bool {
        !self.lock().values.is_empty()
    }

    /// Fetches what was asked for in vain; false if there was nothing.
    pub(in crate::wire) async fn fetch_missing(&self) -> bool {
        let missing: Vec<SecretRef> = std::mem::take(&mut self.lock().missing).into_iter().collect();
        if missing.is_empty() {
            return false;
        }
        let fetched = self.fetch(&missing).await;
        self.lock().values.extend(fetched);
        true
    }

    /// Fetches everything again. One that cannot be had leaves all as they were, so that no set is half old, half new.
    pub(in crate::wire) async fn refresh(&self) -> Result<(), String> {
        let known: Vec<SecretRef> = self.lock().values.keys().cloned().collect();
        let fetched = self.fetch(&known).await;
        if let Some((reference, Err(why))) = fetched.iter().find(|(_, value)| value.is_err()) {
            return Err(format!("`{reference}`: {why}"));
        }
        self.lock().values = fetched;
        Ok(())
    }

    async fn fetch(&self, references: &[SecretRef]) -> HashMap<SecretRef, Result<SecretString, String>> {
        let all_fail = |why: &str| references.iter().map(|r| (r.clone(), Err(why.to_owned()))).collect();
        let all = async {
            let aws = Aws::new()?;
            let as_whom = aws.credentials().await?;
            let (secrets, parameters) =
                tokio::join!(secrets(&aws, &as_whom, references), parameters(&aws, &as_whom, references));
            Ok::<_, String>(secrets.into_iter().chain(parameters).collect())
        };
        match tokio::time::timeout(self.config.timeout.0, all).await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(why)) => all_fail(&why),
            Err(_) => all_fail("AWS took too long to answer; raise `secrets.timeout`"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Fetched = Vec<(SecretRef, Result<SecretString, String>)>;

/// One call for each secret, however many of its fields are referred to.
async fn secrets(
    aws: &Aws,
    as_whom: &aws_credential_types::Credentials,
    references: &[SecretRef],
) -> Fetched {
    let mut by_name: HashMap<&str, Vec<&SecretRef>> = HashMap::new();
    for reference in references {
        if let SecretRef::SecretsManager { name, .. } = reference {
            by_name.entry(name).or_default().push(reference);
        }
    }
    let mut calls = Vec::new();
    for (name, wanted) in by_name {
        let call = async move {
            let text = aws.secret(as_whom, name).await;
            wanted.into_iter().map(|reference| (reference.clone(), pick(reference, &text))).collect()
        };
        calls.push(call.boxed());
    }
    a_few_at_a_time(calls).await
}

/// The whole secret, or the field that is referred to.
fn pick(reference: &SecretRef, text: &Result<SecretString, String>) -> Result<SecretString, String> {
    let text = text.as_ref().map_err(Clone::clone)?;
    let SecretRef::SecretsManager { field: Some(field), .. } = reference else { return Ok(text.clone()) };
    let object: HashMap<String, serde_json::Value> = serde_json::from_str(text.expose_secret())
        .map_err(|_| "the secret is not a JSON object; leave `#FIELD` out, or store one".to_owned())?;
    match object.get(field) {
        Some(serde_json::Value::String(value)) => Ok(value.clone().into()),
        Some(_) => Err(format!("field `{field}` of the secret is not a string")),
        None => Err(format!("the secret has no field `{field}`")),
    }
}

async fn parameters(
    aws: &Aws,
    as_whom: &aws_credential_types::Credentials,
    references: &[SecretRef],
) -> Fetched {
    let names: Vec<&str> = references
        .iter()
        .filter_map(|reference| match reference {
            SecretRef::Parameter(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let mut calls = Vec::new();
    for names in names.chunks(PARAMETERS_PER_CALL) {
        let call = async move {
            let values = aws.parameters(as_whom, names).await;
            let value_of = |name: &str| match &values {
                Ok(values) => {
                    values.get(name).cloned().ok_or_else(|| "there is no such parameter".to_owned())
                }
                Err(why) => Err(why.clone()),
            };
            names.iter().map(|name| (SecretRef::Parameter((*name).to_owned()), value_of(name))).collect()
        };
        calls.push(call.boxed());
    }
    a_few_at_a_time(calls).await
}

async fn a_few_at_a_time(calls: Vec<BoxFuture<'_, Fetched>>) -> Fetched {
    stream::iter(calls).buffer_unordered(CALLS).concat().await
}
