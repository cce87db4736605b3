//! Reads the policy folder again when it changes, and on SIGHUP.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};

use super::PolicyStore;

/// Editors write a file in several steps; changes within this time are one change.
const SETTLE: Duration = Duration::from_millis(100);

/// Room for some hundred events at a time; the kernel keeps those that do not fit.
const EVENTS: usize = 4096;

impl PolicyStore {
    /// Reloads whenever a file in the folder changes, and on SIGHUP, until the returned guard is dropped. `after` is
    /// called after each reload.
    pub fn watch(self: &Arc<Self>, after: impl Fn() + Send + Sync + 'static) -> Result<Watch, String> {
        let watched = Watched::new(&self.folder)
            .map_err(|error| format!("cannot watch `{}` for changes: {error}", self.folder.display()))?;
        let task = tokio::spawn(reload_on(watched, Arc::clone(self), after));
        Ok(Watch { task })
    }
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

async fn reload_on(mut watched: Watched, store: Arc<PolicyStore>, after: impl Fn()) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    loop {
        tokio::select! {
            () = watched.changed() => {
                tokio::time::sleep(SETTLE).await;
                watched.pass_over();
            }
            _ = hangup.recv() => {}
        }
        watched.find_again();
        store.reload().await;
        after();
    }
}

/// The folder, or the one file, that the policy is in. By inotify on the server's own runtime: a thread for it would make
/// the kernel count whoever uses a file descriptor, in each call of a server that is else of one thread (`fdget`).
struct Watched {
    events: EventStream<Vec<u8>>,
    folder: PathBuf,
    /// The folder may be swapped for another as a whole, which only its parent sees, under this name.
    parent: Option<(WatchDescriptor, OsString)>,
    inside: Option<WatchDescriptor>,
}

impl Watched {
    fn new(folder: &Path) -> io::Result<Self> {
        let folder = folder.canonicalize()?;
        let events = Inotify::init()?.into_event_stream(vec![0; EVENTS])?;
        let inside = Some(events.watches().add(&folder, changes())?);
        let parent = match (folder.parent(), folder.file_name()) {
            (Some(parent), Some(name)) => Some((events.watches().add(parent, swaps())?, name.to_owned())),
            _ => None,
        };
        Ok(Self { events, folder, parent, inside })
    }

    /// Resolves with the next change.
    async fn changed(&mut self) {
        loop {
            match self.events.next().await {
                Some(Ok(event)) if self.concerns(&event) => return,
                Some(Ok(_)) => {}
                ended => {
                    let reason = ended.and_then(Result::err).map(tracing::field::display);
                    tracing::error!(reason, "the policy folder is not watched any more: reload it by SIGHUP");
                    return std::future::pending().await;
                }
            }
        }
    }

    /// Passes over the changes that are known by now.
    fn pass_over(&mut self) {
        while let Some(Some(Ok(_))) = self.events.next().now_or_never() {}
    }

    /// Watches what has the folder's name now. What it was is let go first: a user has only so many watches.
    fn find_again(&mut self) {
        let mut watches = self.events.watches();
        if let Some(before) = self.inside.take() {
            // The kernel may have forgotten it already, with the folder.
            let _ = watches.remove(before);
        }
        match watches.add(&self.folder, changes()) {
            Ok(now) => self.inside = Some(now),
            Err(error) => {
                let folder = self.folder.display();
                tracing::error!(reason = %error, "cannot watch `{folder}` for changes: mend that, or reload it by SIGHUP");
            }
        }
    }

    fn concerns(&self, event: &EventOwned) -> bool {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            return true;
        }
        // That a watch has ended says nothing about files.
        if event.mask.contains(EventMask::IGNORED) {
            return false;
        }
        self.inside.as_ref() == Some(&event.wd)
            || self
                .parent
                .as_ref()
                .is_some_and(|(parent, name)| *parent == event.wd && event.name.as_ref() == Some(name))
    }
}

fn changes() -> WatchMask {
    swaps() | WatchMask::DELETE_SELF | WatchMask::MODIFY | WatchMask::MOVE_SELF
}

/// What is written to files of a folder that is not ours, such as the server's own log, wakes nobody. Who may read the policy is among
/// it: without that right it cannot be watched itself.
fn swaps() -> WatchMask {
    WatchMask::ATTRIB | WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE
}
