//! Keeps the current policy set: reads the folder at the start and again when it changes. A bad edit keeps the old set
//! and says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use crate::gate::policy::{Policies, PolicyProblem, PolicyProblems, PolicySource};

use super::secrets;

/// Editors write a file in several steps; changes within this time are one change.
const SETTLE: Duration = Duration::from_millis(100);

/// The largest policy file that is read, in bytes.
const MAX_POLICY_BYTES: u64 = 1024 * 1024;

/// The current policy set.
pub struct PolicyStore {
    folder: PathBuf,
    current: ArcSwap<Policies>,
}

impl PolicyStore {
    /// Reads every `*.toml` in `folder`.
    pub fn open(folder: &Path) -> Result<Arc<Self>, PolicyProblems> {
        let current = ArcSwap::from_pointee(read_folder(folder)?);
        Ok(Arc::new(Self { folder: folder.to_owned(), current }))
    }

    /// The set as of now; a request keeps the one it began with.
    pub fn current(&self) -> Arc<Policies> {
        self.current.load_full()
    }

    /// Reads the folder again; on a mistake the old set stays.
    pub fn reload(&self) {
        match read_folder(&self.folder) {
            Ok(set) => {
                let (tenants, keys) = (set.tenants().count(), set.key_count());
                self.current.store(Arc::new(set));
                tracing::info!(tenants, keys, "policy reloaded");
            }
            Err(problems) => {
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
        }
    }

    /// Reloads whenever a file in the folder changes, and on SIGHUP, until the returned guard is dropped. `after` is
    /// called after each reload.
    pub fn watch(self: &Arc<Self>, after: impl Fn() + Send + Sync + 'static) -> Result<Watch, String> {
        let (changed, changes) = mpsc::channel(1);
        let folder = self.folder.canonicalize().map_err(|error| cannot_watch(&self.folder, &error))?;
        let ours = folder.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let concerns = |event: &notify::Event| event.paths.iter().any(|path| path.starts_with(&ours));
            if event.is_ok_and(|event| !event.kind.is_access() && concerns(&event)) {
                // A full channel means that a reload is due anyway.
                let _ = changed.try_send(());
            }
        })
        .map_err(|error| cannot_watch(&folder, &error))?;
        // The folder as a whole may be swapped for another, which only its parent sees.
        for watched in folder.parent().into_iter().chain([folder.as_path()]) {
            watcher
                .watch(watched, RecursiveMode::NonRecursive)
                .map_err(|error| cannot_watch(watched, &error))?;
        }
        let store = Arc::clone(self);
        let watcher = std::sync::Mutex::new(watcher);
        let reload: Reload = Arc::new(move || {
            if let Ok(mut watcher) = watcher.lock() {
                // If the folder was swapped, its name now stands for another one.
                let _ = watcher.unwatch(&folder);
                let _ = watcher.watch(&folder, RecursiveMode::NonRecursive);
            }
            store.reload();
            after();
        });
        let task = tokio::spawn(reload_on(changes, reload));
        Ok(Watch { task })
    }
}

fn cannot_watch(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("cannot watch `{}` for changes: {error}", path.display())
}

/// Watching ends when this is dropped.
pub struct Watch {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Reload = Arc<dyn Fn() + Send + Sync>;

async fn reload_on(mut changes: mpsc::Receiver<()>, reload: Reload) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    loop {
        tokio::select! {
            change = changes.recv() => {
                if change.is_none() {
                    return;
                }
                tokio::time::sleep(SETTLE).await;
                let _ = changes.try_recv();
            }
            _ = hangup.recv() => {}
        }
        let reload = Arc::clone(&reload);
        // Thousands of files take a while; the requests go on.
        let _ = tokio::task::spawn_blocking(move || reload()).await;
    }
}

fn read_folder(folder: &Path) -> Result<Policies, PolicyProblems> {
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
    Policies::load(&sources, &|reference| secrets::fetch(reference, folder))
}
