//! What secrets the policy in force rests on. Those kept in AWS are held for a bounded time: a policy is read from what is
//! here, asks for what is missing, and everything is asked for again when it has grown old.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use aws_credential_types::Credentials;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{self, StreamExt as _};
use secrecy::{ExposeSecret as _, SecretString};

use super::aws::{Aws, Fault, PARAMETERS_PER_CALL};
use crate::gate::policy::{SecretFault, SecretRef};
use crate::wire::config::SecretsConfig;

/// Calls to AWS at the same time.
const CALLS: usize = 8;
/// How long a secret stays good although AWS cannot be asked for it, as a multiple of its age limit.
const STALE_FACTOR: u32 = 12;

/// The secrets of a policy.
pub struct Vault {
    config: SecretsConfig,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    kept: HashMap<SecretRef, Kept>,
    /// Why AWS could not be asked for what is not kept.
    failing: HashMap<SecretRef, String>,
    /// What the set that is being read asked for, and of that what is not here.
    asked: HashSet<SecretRef>,
    missing: HashSet<SecretRef>,
    /// Variables and files as they were when the set in force was read.
    local: Option<HashMap<SecretRef, SecretString>>,
    /// The same of a set that is being read anew.
    draft: HashMap<SecretRef, SecretString>,
}

/// The last word of AWS on a secret: what it is, or why it is not.
struct Kept {
    word: Result<SecretString, String>,
    since: Instant,
}

type Fetched = Vec<(SecretRef, Result<SecretString, Fault>)>;

impl Vault {
    /// Holds nothing yet, and asks nobody until a policy refers to AWS.
    pub fn new(config: &SecretsConfig) -> Self {
        Self { config: config.clone(), held: Mutex::default() }
    }

    pub(in crate::wire) fn config(&self) -> &SecretsConfig {
        &self.config
    }

    /// A variable or a file: as it was when the set in force was read, or as `read` finds it for a new set.
    pub(super) fn local(
        &self,
        reference: &SecretRef,
        read: impl FnOnce() -> Result<SecretString, String>,
    ) -> Result<SecretString, SecretFault> {
        if let Some(known) = self.lock().local.as_ref().and_then(|local| local.get(reference)) {
            return Ok(known.clone());
        }
        let secret = read()?;
        self.lock().draft.insert(reference.clone(), secret.clone());
        Ok(secret)
    }

    /// What AWS keeps, as far as it was fetched; what was not is noted as missing.
    pub(super) fn remote(&self, reference: &SecretRef) -> Result<SecretString, SecretFault> {
        let mut held = self.lock();
        held.asked.insert(reference.clone());
        let left_out = |why: &str, stale| {
            let why = format!("cannot fetch `{reference}`: {why}");
            Err(SecretFault::LeftOut { why, stale })
        };
        match held.kept.get(reference) {
            Some(Kept { since, .. })
                if since.elapsed() >= self.config.max_age.0.saturating_mul(STALE_FACTOR) =>
            {
                left_out("AWS could not be asked for it for too long", true)
            }
            Some(Kept { word: Ok(secret), .. }) => Ok(secret.clone()),
            Some(Kept { word: Err(why), .. }) => left_out(why, false),
            None => {
                let why = held.failing.get(reference).map_or("AWS was not asked for it", String::as_str);
                let fault = format!("cannot fetch `{reference}`: {why}");
                held.missing.insert(reference.clone());
                Err(SecretFault::Wrong(fault))
            }
        }
    }

    /// A set is about to be read.
    pub(in crate::wire) fn begin(&self) {
        let mut held = self.lock();
        held.asked.clear();
        held.missing.clear();
    }

    /// A new set is about to be read: variables and files count as they are now.
    pub(in crate::wire) fn renew_local(&self) -> Option<Local> {
        let mut held = self.lock();
        held.draft.clear();
        held.local.take().map(Local)
    }

    /// The new set is in force: what it did not ask for is forgotten.
    pub(in crate::wire) fn settle(&self) {
        let mut held = self.lock();
        let asked = std::mem::take(&mut held.asked);
        held.kept.retain(|reference, _| asked.contains(reference));
        held.failing.clear();
        held.local = Some(std::mem::take(&mut held.draft));
    }

    /// The new set has a mistake: the old one's variables and files stay in force with it.
    pub(in crate::wire) fn restore(&self, local: Option<Local>) {
        let mut held = self.lock();
        held.draft.clear();
        held.local = local.map(|local| local.0);
    }

    /// Is anything kept in AWS at all?
    pub(in crate::wire) fn is_used(&self) -> bool {
        !self.lock().kept.is_empty()
    }

    /// Fetches what was asked for in vain; false if there was nothing.
    pub(in crate::wire) async fn fetch_missing(&self) -> bool {
        let missing: Vec<SecretRef> = std::mem::take(&mut self.lock().missing).into_iter().collect();
        if missing.is_empty() {
            return false;
        }
        self.learn(self.fetch(&missing).await);
        true
    }

    /// Asks for everything again. What AWS does not answer for stays as it is; the error is one such reason.
    pub(in crate::wire) async fn refresh(&self) -> Result<(), String> {
        let known: Vec<SecretRef> = self.lock().kept.keys().cloned().collect();
        self.learn(self.fetch(&known).await).map_or(Ok(()), Err)
    }

    /// Takes in answers; gives back why one could not be had.
    fn learn(&self, fetched: Fetched) -> Option<String> {
        let since = Instant::now();
        let mut held = self.lock();
        let mut failure = None;
        for (reference, answer) in fetched {
            let word = match answer {
                Ok(secret) => Ok(secret),
                Err(Fault::Absent(why)) => Err(why),
                Err(Fault::Silent(why)) => {
                    failure.get_or_insert_with(|| format!("`{reference}`: {why}"));
                    held.failing.insert(reference, why);
                    continue;
                }
            };
            held.kept.insert(reference, Kept { word, since });
        }
        failure
    }

    async fn fetch(&self, references: &[SecretRef]) -> Fetched {
        let all_fail = |why: String| {
            references.iter().map(|reference| (reference.clone(), Err(Fault::Silent(why.clone())))).collect()
        };
        let all = async {
            let aws = Aws::new()?;
            let as_whom = aws.credentials().await?;
            let (secrets, parameters) =
                tokio::join!(secrets(&aws, &as_whom, references), parameters(&aws, &as_whom, references));
            Ok::<_, String>(secrets.into_iter().chain(parameters).collect())
        };
        match tokio::time::timeout(self.config.timeout.0, all).await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(why)) => all_fail(why),
            Err(_) => all_fail("AWS took too long to answer; raise `secrets.timeout`".to_owned()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Variables and files of the set in force, put aside while another one is read.
pub(in crate::wire) struct Local(HashMap<SecretRef, SecretString>);

/// One call for each secret, however many of its fields are referred to.
async fn secrets(aws: &Aws, as_whom: &Credentials, references: &[SecretRef]) -> Fetched {
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
fn pick(reference: &SecretRef, text: &Result<SecretString, Fault>) -> Result<SecretString, Fault> {
    let absent = |why: String| Err(Fault::Absent(why));
    let text = text.as_ref().map_err(Clone::clone)?;
    let SecretRef::SecretsManager { field: Some(field), .. } = reference else { return Ok(text.clone()) };
    let Ok(object) = serde_json::from_str::<HashMap<String, serde_json::Value>>(text.expose_secret()) else {
        return absent("the secret is not a JSON object; leave `#FIELD` out, or store one".to_owned());
    };
    match object.get(field) {
        Some(serde_json::Value::String(value)) => Ok(value.clone().into()),
        Some(_) => absent(format!("field `{field}` of the secret is not a string")),
        None => absent(format!("the secret has no field `{field}`")),
    }
}

async fn parameters(aws: &Aws, as_whom: &Credentials, references: &[SecretRef]) -> Fetched {
    let names: Vec<&str> = references
        .iter()
        .filter_map(|reference| match reference {
            SecretRef::Parameter(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    let calls = names.chunks(PARAMETERS_PER_CALL).map(|names| some_parameters(aws, as_whom, names).boxed());
    a_few_at_a_time(calls.collect()).await
}

/// A call for several is refused as a whole for the sake of one; then each is asked for by itself, so that one tenant's
/// name is not another's fault.
async fn some_parameters(aws: &Aws, as_whom: &Credentials, names: &[&str]) -> Fetched {
    let mut values = vec![(names, aws.parameters(as_whom, names).await)];
    if let (true, [(_, Err(Fault::Absent(_)))]) = (names.len() > 1, values.as_slice()) {
        values.clear();
        for one in names.chunks(1) {
            values.push((one, aws.parameters(as_whom, one).await));
        }
    }
    let mut fetched = Vec::new();
    for (names, values) in values {
        for name in names {
            let value = match &values {
                Ok(values) => values
                    .get(*name)
                    .cloned()
                    .ok_or_else(|| Fault::Absent("there is no such parameter".to_owned())),
                Err(fault) => Err(fault.clone()),
            };
            fetched.push((SecretRef::Parameter((*name).to_owned()), value));
        }
    }
    fetched
}

async fn a_few_at_a_time(calls: Vec<BoxFuture<'_, Fetched>>) -> Fetched {
    stream::iter(calls).buffer_unordered(CALLS).concat().await
}
