//! Reads the policy folder again when it changes, and on SIGHUP.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::PolicyStore;

/// Editors write a file in several steps; changes within this time are one change.
const SETTLE: Duration = Duration::from_millis(100);

impl PolicyStore {
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
        let watcher = std::sync::Mutex::new(watcher);
        let rewatch = move || {
            if let Ok(mut watcher) = watcher.lock() {
                // If the folder was swapped, its name now stands for another one.
                let _ = watcher.unwatch(&folder);
                let _ = watcher.watch(&folder, RecursiveMode::NonRecursive);
            }
        };
        let task = tokio::spawn(reload_on(changes, Arc::clone(self), rewatch, after));
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

async fn reload_on(
    mut changes: mpsc::Receiver<()>,
    store: Arc<PolicyStore>,
    rewatch: impl Fn(),
    after: impl Fn(),
) {
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
        rewatch();
        store.reload().await;
        after();
    }
}
