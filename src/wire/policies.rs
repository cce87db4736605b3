//! Keeps the current policy set: reads the folder at the start and again when it changes, and with it the secrets kept in
//! AWS when they grow old. A bad edit, or a secret that cannot be had, keeps the old set and says so.

#[cfg(feature = "server")]
mod watch;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::OwnedMutexGuard;

use crate::gate::edge::{EdgeError, Entries};
use crate::gate::policy::{Policies, PolicyProblem, PolicyProblems, PolicySource, SecretFault};

use super::config::SecretsConfig;
use super::metrics;
use super::secrets::{self, Vault};

#[cfg(feature = "server")]
pub use watch::Watch;

/// The largest policy file that is read, in bytes.
const MAX_POLICY_BYTES: u64 = 1024 * 1024;

/// The current policy set.
pub struct PolicyStore {
    folder: PathBuf,
    current: ArcSwap<Policies>,
    /// The files that the current set was read from. A newer edit with a mistake in it does not keep secrets from being
    /// renewed.
    texts: ArcSwap<Texts>,
    vault: Arc<Vault>,
    fetched: Mutex<Fetched>,
    /// One look at a time, at the folder or at AWS.
    looking: Arc<tokio::sync::Mutex<()>>,
}

/// Files by name as errors have it, by stem, and their text.
type Texts = Vec<(String, String, String)>;

/// When secrets were last asked for, and when AWS last answered for all of them.
#[derive(Clone, Copy)]
struct Fetched {
    tried: Instant,
    answered: Instant,
}

impl PolicyStore {
    /// Reads every `*.toml` in `folder`, or the one file that it names, and fetches the secrets that they refer to.
    pub async fn open(folder: &Path, config: &SecretsConfig) -> Result<Arc<Self>, PolicyProblems> {
        let vault = Arc::new(Vault::new(config));
        let texts = Arc::new(read_texts(folder)?);
        // On this thread: nobody waits yet, and a thread of its own would cost the function's start more than one file does.
        let read = read_here(&texts, base_of(folder), &vault);
        let fetched = vault.fetch_missing().await;
        let set = if fetched { read_here(&texts, base_of(folder), &vault) } else { read }?;
        vault.settle();
        count(&set);
        let now = Instant::now();
        Ok(Arc::new(Self {
            folder: folder.to_owned(),
            current: ArcSwap::from_pointee(set),
            texts: ArcSwap::new(texts),
            vault,
            fetched: Mutex::new(Fetched { tried: now, answered: now }),
            looking: Arc::default(),
        }))
    }

    /// Reads a folder without asking AWS: every mistake but those that only the secrets kept there could show, and how
    /// many of these were left out.
    pub fn inspect(folder: &Path) -> (PolicyProblems, usize) {
        let texts = match read_texts(folder) {
            Ok(texts) => texts,
            Err(problems) => return (problems, 0),
        };
        let vault = Vault::new(&SecretsConfig::default());
        let not_asked = || SecretFault::LeftOut { why: String::new(), stale: false };
        let read = Policies::load(&sources(&texts), &|reference| {
            if reference.is_remote() {
                return Err(not_asked());
            }
            secrets::fetch(reference, base_of(folder), &vault)
        });
        match read {
            Ok(set) => (PolicyProblems(Vec::new()), set.left_out().len()),
            Err(problems) => (problems, 0),
        }
    }

    /// The set as of now; a request keeps the one it began with.
    pub fn current(&self) -> Arc<Policies> {
        self.current.load_full()
    }

    /// What the edge must know of the current set.
    pub fn edge_entries(&self) -> Result<Entries, EdgeError> {
        let texts = self.texts.load_full();
        let base = base_of(&self.folder);
        self.current()
            .edge_entries(&sources(&texts), &|reference| secrets::fetch(reference, base, &self.vault))
    }

    /// The set to judge a request by. Secrets kept in AWS are fetched again first if they are too old: one request waits
    /// for that, the others go on with what there is.
    pub async fn fresh(self: &Arc<Self>) -> Arc<Policies> {
        let (config, fetched) = (self.vault.config(), self.fetched());
        if self.vault.is_used()
            && fetched.answered.elapsed() >= config.max_age.0
            && fetched.may_try(config)
            && let Ok(alone) = Arc::clone(&self.looking).try_lock_owned()
        {
            Box::pin(self.look(alone)).await;
        }
        self.current()
    }

    /// The set after another look at the secrets kept in AWS, for a credential that does not fit: its secret may be newer
    /// than ours. `None` if it is not yet time for another look.
    pub async fn renewed(self: &Arc<Self>) -> Option<Arc<Policies>> {
        let came = Instant::now();
        if !self.vault.is_used() || !self.fetched().may_try(self.vault.config()) {
            return None;
        }
        let alone = Arc::clone(&self.looking).lock_owned().await;
        // Whoever waited for someone else's look takes what that brought.
        if self.fetched().tried < came {
            self.look(alone).await;
        }
        Some(self.current())
    }

    /// Reads the folder again; on a mistake the old set stays.
    pub async fn reload(&self) {
        let _alone = self.looking.lock().await;
        let local = self.vault.renew_local();
        let read = match read_texts(&self.folder).map(Arc::new) {
            Ok(texts) => assemble(&texts, &self.folder, &self.vault).await.map(|set| (texts, set)),
            Err(problems) => Err(problems),
        };
        match read {
            Ok((texts, set)) => {
                self.vault.settle();
                self.texts.store(texts);
                self.put(set);
            }
            Err(problems) => {
                self.vault.restore(local);
                not_loaded(&problems);
            }
        }
    }

    /// Looks at AWS in a task of its own: a client that leaves does not end it, and so cannot make it begin again.
    async fn look(self: &Arc<Self>, alone: OwnedMutexGuard<()>) {
        self.note(|fetched| fetched.tried = Instant::now());
        let this = Arc::clone(self);
        let looking = tokio::spawn(async move {
            let _alone = alone;
            this.refetch().await;
        });
        let _ = looking.await;
    }

    async fn refetch(&self) {
        let began = Instant::now();
        match self.vault.refresh().await {
            Ok(()) => self.note(|fetched| fetched.answered = began),
            Err(reason) => {
                tracing::error!(reason, "secrets not fetched: the previous ones stay in force for a while");
            }
        }
        // From the files and the local secrets that are in force, whatever the folder holds by now.
        match assemble(&self.texts.load_full(), &self.folder, &self.vault).await {
            Ok(set) => self.put(set),
            Err(problems) => not_loaded(&problems),
        }
    }

    fn put(&self, set: Policies) {
        let (tenants, keys) = count(&set);
        self.current.store(Arc::new(set));
        tracing::info!(tenants, keys, "policy reloaded");
    }

    fn fetched(&self) -> Fetched {
        *self.fetched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Fetched)) {
        change(&mut self.fetched.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Fetched {
    fn may_try(self, config: &SecretsConfig) -> bool {
        self.tried.elapsed() >= config.retry.0
    }
}

fn not_loaded(problems: &PolicyProblems) {
    metrics::policy_not_loaded();
    complain(&problems.0, "policy not reloaded: the previous set stays in force");
}

/// Tells what a new set lacks, and how many tenants and keys it has.
fn count(set: &Policies) -> (usize, usize) {
    complain(set.left_out(), "left out of the policy for want of its secret: everything else is in force");
    let (tenants, keys) = (set.tenants().count(), set.key_count());
    metrics::policy_loaded(tenants, keys);
    (tenants, keys)
}

fn complain(problems: &[PolicyProblem], message: &str) {
    for problem in problems {
        let PolicyProblem { file, line, column, message: reason, .. } = problem;
        tracing::error!(file, line, column, reason, "{message}");
    }
}

/// Makes a set, and once more if secrets had to be fetched for it.
async fn assemble(texts: &Arc<Texts>, folder: &Path, vault: &Arc<Vault>) -> Result<Policies, PolicyProblems> {
    let read = read_aside(texts, folder, vault).await;
    if vault.fetch_missing().await { read_aside(texts, folder, vault).await } else { read }
}

/// Thousands of files take a while; the requests go on.
async fn read_aside(
    texts: &Arc<Texts>,
    folder: &Path,
    vault: &Arc<Vault>,
) -> Result<Policies, PolicyProblems> {
    let (texts, base, held) = (Arc::clone(texts), base_of(folder).to_owned(), Arc::clone(vault));
    tokio::task::spawn_blocking(move || read_here(&texts, &base, &held)).await.unwrap_or_else(|broken| {
        let file = folder.display().to_string();
        Err(PolicyProblems(vec![PolicyProblem::of_file(&file, format!("reading it ended early: {broken}"))]))
    })
}

fn read_here(texts: &Texts, base: &Path, vault: &Vault) -> Result<Policies, PolicyProblems> {
    vault.begin();
    Policies::load(&sources(texts), &|reference| secrets::fetch(reference, base, vault))
}

fn sources(texts: &Texts) -> Vec<PolicySource<'_>> {
    texts.iter().map(|(file, stem, text)| PolicySource { file, stem, text }).collect()
}

/// What `file:` references are relative to.
fn base_of(folder: &Path) -> &Path {
    if folder.is_file() { folder.parent().unwrap_or(folder) } else { folder }
}

/// The policy files of a folder, or the one that is named.
fn read_texts(folder: &Path) -> Result<Texts, PolicyProblems> {
    let fail = |message: String| {
        PolicyProblems(vec![PolicyProblem::of_file(&folder.display().to_string(), message)])
    };
    let mut paths = Vec::new();
    if folder.is_file() {
        paths.push(folder.to_owned());
    } else {
        let cannot = |error: std::io::Error| {
            fail(format!(
                "cannot read the policy folder: {error}; name another, with `--policy` or `SLUICEGATE_POLICY`"
            ))
        };
        for entry in std::fs::read_dir(folder).map_err(cannot)? {
            paths.push(entry.map_err(cannot)?.path());
        }
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    }
    let mut texts = Vec::new();
    let mut problems = Vec::new();
    for path in paths {
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
    Ok(texts)
}
