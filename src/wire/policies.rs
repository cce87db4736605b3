//! Keeps the current policy set: reads the folder at the start and again when it changes, and with it the secrets kept in
//! AWS when they grow old. A bad edit, or a secret that cannot be had, keeps the old set and says so.

#[cfg(feature = "server")]
mod watch;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;

use crate::gate::policy::{Policies, PolicyProblem, PolicyProblems, PolicySource};
use crate::gate::refusal::Refusal;

use super::config::SecretsConfig;
use super::secrets::{self, Vault};

#[cfg(feature = "server")]
pub use watch::Watch;

/// The largest policy file that is read, in bytes.
const MAX_POLICY_BYTES: u64 = 1024 * 1024;
/// How long secrets stay good although they cannot be fetched again, as a multiple of their age limit.
const STALE_FACTOR: u32 = 12;

/// The current policy set.
pub struct PolicyStore {
    folder: PathBuf,
    current: ArcSwap<Policies>,
    vault: Arc<Vault>,
    fetched: Mutex<Fetched>,
    /// One read of the folder at a time.
    reading: tokio::sync::Mutex<()>,
}

/// When secrets were last fetched from AWS, and when that last went well.
#[derive(Clone, Copy)]
struct Fetched {
    tried: Instant,
    succeeded: Instant,
}

impl PolicyStore {
    /// Reads every `*.toml` in `folder`, and fetches the secrets that they refer to.
    pub async fn open(folder: &Path, config: &SecretsConfig) -> Result<Arc<Self>, PolicyProblems> {
        let vault = Arc::new(Vault::new(config));
        let set = load(folder, &vault).await?;
        let now = Instant::now();
        Ok(Arc::new(Self {
            folder: folder.to_owned(),
            current: ArcSwap::from_pointee(set),
            vault,
            fetched: Mutex::new(Fetched { tried: now, succeeded: now }),
            reading: tokio::sync::Mutex::default(),
        }))
    }

    /// Reads a folder without asking AWS: every mistake but those that only the secrets kept there could show, and how
    /// many of these were left out.
    pub fn inspect(folder: &Path) -> (PolicyProblems, usize) {
        let vault = Vault::new(&SecretsConfig::default());
        let problems = read_folder(folder, &vault).err().map(|problems| problems.0).unwrap_or_default();
        let skipped = |problem: &PolicyProblem| problem.message.contains(secrets::NOT_ASKED);
        let (skipped, found): (Vec<_>, Vec<_>) = problems.into_iter().partition(skipped);
        (PolicyProblems(found), skipped.len())
    }

    /// The set as of now; a request keeps the one it began with.
    pub fn current(&self) -> Arc<Policies> {
        self.current.load_full()
    }

    /// The set to judge a request by. Secrets kept in AWS are fetched again first if they are too old; one request waits
    /// for that, the others go on with what there is, which ends when it is far too old.
    pub async fn fresh(&self) -> Result<Arc<Policies>, Refusal> {
        let config = self.vault.config();
        if self.vault.is_used() && self.fetched().succeeded.elapsed() >= config.max_age.0 {
            if let Ok(_alone) = self.reading.try_lock()
                && self.fetched().may_try(config)
            {
                self.refetch().await;
            }
            if self.fetched().succeeded.elapsed() >= config.max_age.0.saturating_mul(STALE_FACTOR) {
                return Err(Refusal::Unavailable(
                    "the secrets kept in AWS are too old and cannot be fetched",
                ));
            }
        }
        Ok(self.current())
    }

    /// The set after another look at the secrets kept in AWS, for a credential that does not fit: its secret may be newer
    /// than ours. `None` if it is not yet time for another look.
    pub async fn renewed(&self) -> Option<Arc<Policies>> {
        let came = Instant::now();
        if !self.vault.is_used() || !self.fetched().may_try(self.vault.config()) {
            return None;
        }
        let _alone = self.reading.lock().await;
        // Whoever waited for someone else's look takes what that brought.
        if self.fetched().tried < came {
            self.refetch().await;
        }
        Some(self.current())
    }

    /// Reads the folder again; on a mistake the old set stays.
    pub async fn reload(&self) {
        let _alone = self.reading.lock().await;
        match load(&self.folder, &self.vault).await {
            Ok(set) => self.put(set),
            Err(problems) => complain(&problems),
        }
    }

    async fn refetch(&self) {
        let done = self.vault.refresh().await;
        let now = Instant::now();
        let renewed = match done {
            Ok(()) => load(&self.folder, &self.vault).await.map_err(|problems| complain(&problems)),
            Err(reason) => {
                tracing::error!(reason, "secrets not fetched: the previous ones stay in force");
                Err(())
            }
        };
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.tried = now;
        if let Ok(set) = renewed {
            fetched.succeeded = now;
            self.put(set);
        }
    }

    fn put(&self, set: Policies) {
        let (tenants, keys) = (set.tenants().count(), set.key_count());
        self.current.store(Arc::new(set));
        tracing::info!(tenants, keys, "policy reloaded");
    }

    fn fetched(&self) -> Fetched {
        *self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fetched {
    fn may_try(self, config: &SecretsConfig) -> bool {
        self.tried.elapsed() >= config.retry.0
    }
}

fn complain(problems: &PolicyProblems) {
    for problem in &problems.0 {
        tracing::error!(
            file = problem.file,
            line = problem.line,
            column = problem.column,
            reason = problem.message,
            "policy not reloaded: the previous set stays in force",
        );
    }
}

/// Reads the folder, and once more if secrets had to be fetched for it.
async fn load(folder: &Path, vault: &Arc<Vault>) -> Result<Policies, PolicyProblems> {
    let mut read = read_aside(folder, vault).await;
    if vault.fetch_missing().await {
        read = read_aside(folder, vault).await;
    }
    let set = read?;
    vault.settle();
    Ok(set)
}

/// Thousands of files take a while; the requests go on.
async fn read_aside(folder: &Path, vault: &Arc<Vault>) -> Result<Policies, PolicyProblems> {
    let (path, held) = (folder.to_owned(), Arc::clone(vault));
    let read = tokio::task::spawn_blocking(move || read_folder(&path, &held)).await;
    read.unwrap_or_else(|broken| {
        let file = folder.display().to_string();
        Err(PolicyProblems(vec![PolicyProblem::of_file(&file, format!("reading it ended early: {broken}"))]))
    })
}

fn read_folder(folder: &Path, vault: &Vault) -> Result<Policies, PolicyProblems> {
    vault.begin();
    let fail = |message: String| {
        PolicyProblems(vec![PolicyProblem::of_file(&folder.display().to_string(), message)])
    };
    let entries = std::fs::read_dir(folder).map_err(|error| {
        fail(format!("cannot read the policy folder: {error}; name another with `--policy`"))
    })?;
    let mut texts = Vec::new();
    let mut problems = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| fail(format!("cannot read the policy folder: {error}")))?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let file = path.display().to_string();
        match path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned) {
            // What editors leave beside a file.
            Some(stem) if stem.starts_with('.') => {}
            Some(stem) => match secrets::read_regular(&path, MAX_POLICY_BYTES) {
                Ok(text) => texts.push((file, stem, text)),
                Err(why) => problems.push(PolicyProblem::of_file(&file, format!("cannot read it: {why}"))),
            },
            None => {
                problems.push(PolicyProblem::of_file(&file, "its name is not UTF-8; rename it".to_owned()));
            }
        }
    }
    if !problems.is_empty() {
        return Err(PolicyProblems(problems));
    }
    if texts.is_empty() {
        return Err(fail("there is no policy here; add a file such as `acme.toml`".to_owned()));
    }
    texts.sort();
    let sources: Vec<PolicySource<'_>> =
        texts.iter().map(|(file, stem, text)| PolicySource { file, stem, text }).collect();
    Policies::load(&sources, &|reference| secrets::fetch(reference, folder, vault))
}
