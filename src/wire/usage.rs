//! The server's own file of usage, on request: the decision record of every request that proved a tenant, a line each, by
//! a thread of its own. A request is never held up by the disk: what cannot be written is lost there, counted, and said.

mod book;
#[cfg(feature = "cli")]
pub mod records;
#[cfg(feature = "cli")]
pub mod sums;

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::metrics;
use book::Book;

/// How many bytes may wait for the disk: more than ten thousand records.
const MOST_WAITING: usize = 8 << 20;
/// How long the process's end waits for the disk.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// Where records are handed in; cheap to clone.
#[derive(Debug, Clone)]
pub struct Usage(Arc<Queue>);

/// The file under way. When this is dropped, all that was handed in is on disk, or said to be lost.
#[derive(Debug)]
pub struct Keeper(Usage);

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines, and how many.
    waiting: Vec<u8>,
    lines: u64,
    /// Something was turned away since the writer was here.
    full: bool,
    /// Nothing more is taken.
    closed: bool,
    /// The writer has gone.
    ended: bool,
}

/// What was waiting.
struct Group {
    bytes: Vec<u8>,
    lines: u64,
    is_last: bool,
}

impl Keeper {
    /// Opens the file and starts its writer. The error names the setting.
    pub fn open(file: &Path) -> Result<Self, String> {
        let book = Book::open(file).map_err(|error| {
            format!(
                "cannot append to `{}`: {error}; name another file with `usage.file`, or let the gateway write there",
                file.display()
            )
        })?;
        let usage = Usage(Arc::default());
        let queue = Arc::clone(&usage.0);
        thread::Builder::new()
            .name("usage".to_owned())
            .spawn(move || queue.write_into(book))
            .map_err(|error| format!("cannot start the writer of `usage.file`: {error}"))?;
        Ok(Self(usage))
    }

    /// Where records are handed in.
    pub fn usage(&self) -> Usage {
        self.0.clone()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.finish(LAST_WAIT);
    }
}

impl Usage {
    /// Takes in one line, or counts it as lost if there are too many.
    pub(in crate::wire) fn keep(&self, line: &[u8]) {
        let Some(first) = self.0.push(line) else { return };
        metrics::usage_lost(1);
        if first {
            tracing::error!(
                waiting = MOST_WAITING,
                "usage records are lost: the disk of `usage.file` is too slow; the log has them"
            );
        }
    }

    /// Takes nothing more, and waits until the rest is on disk.
    pub fn finish(&self, patience: Duration) {
        let end = Instant::now() + patience;
        let mut state = self.0.lock();
        state.closed = true;
        self.0.changed.notify_all();
        while !state.ended {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                tracing::error!(
                    "usage records may be lost: the disk of `usage.file` does not answer; the log has them"
                );
                return;
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` if the line was taken; otherwise whether it is the first that was not.
    fn push(&self, line: &[u8]) -> Option<bool> {
        let mut state = self.lock();
        if state.closed || state.waiting.len().saturating_add(line.len()) > MOST_WAITING {
            return Some(!std::mem::replace(&mut state.full, true));
        }
        state.waiting.extend_from_slice(line);
        state.lines += 1;
        self.changed.notify_all();
        None
    }

    fn write_into(&self, mut book: Book) {
        loop {
            let group = self.next(book.due());
            book.append(&group.bytes, group.lines);
            if group.is_last || book.due().is_some_and(|due| due <= Instant::now()) {
                book.sync();
            }
            if group.is_last {
                break;
            }
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// What waits, as soon as there is something; nothing at `due`.
    fn next(&self, due: Option<Instant>) -> Group {
        let mut state = self.lock();
        while state.waiting.is_empty() && !state.closed {
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => break,
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.full = false;
        Group {
            bytes: std::mem::take(&mut state.waiting),
            lines: std::mem::take(&mut state.lines),
            is_last: state.closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The disk does not answer: nothing waits for it, and what does not fit is turned away and said once.
    #[test]
    fn a_full_queue_turns_away_and_does_not_wait() {
        let queue = Queue::default();
        let line = vec![b'x'; MOST_WAITING / 2];
        assert_eq!([queue.push(&line), queue.push(&line)], [None, None]);
        assert_eq!([queue.push(&line), queue.push(&line)], [Some(true), Some(false)]);
        let group = queue.next(None);
        assert_eq!((group.bytes.len(), group.lines, group.is_last), (MOST_WAITING, 2, false));
        assert_eq!(queue.push(&line), None, "there is room again");
        assert_eq!([queue.push(&line), queue.push(&line)], [None, Some(true)], "a new outage is said again");
    }

    /// Much is handed in at once, so that a writer that nobody waits for would be behind.
    #[test]
    fn the_end_waits_for_the_disk() {
        let name = format!("sluicegate-usage-{}.jsonl", std::process::id());
        let file = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&file);
        let keeper = Keeper::open(&file).unwrap();
        let mut line = vec![b'x'; MOST_WAITING / 4];
        line.push(b'\n');
        (0..3).for_each(|_| keeper.usage().keep(&line));
        drop(keeper);
        let written = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(written == line.repeat(3), "{} bytes", written.len());
    }

    #[test]
    fn nothing_is_taken_after_the_end() {
        let queue = Queue::default();
        assert_eq!(queue.push(b"a\n"), None);
        queue.lock().closed = true;
        assert_eq!(queue.push(b"b\n"), Some(true));
        let group = queue.next(None);
        assert_eq!((group.bytes, group.is_last), (b"a\n".to_vec(), true));
    }
}
