//! The usage file itself: whole lines are appended, brought to the disk in groups, and follow the path when the file there
//! is another one, as after logrotate.

use std::borrow::Cow;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::wire::metrics;

/// After this time at the latest a line that was written is on its way to the disk itself.
const SYNC_AFTER: Duration = Duration::from_millis(500);

/// The file, and what is not on the disk yet.
pub(super) struct Book {
    path: PathBuf,
    page: Page,
    /// Lines that were written and not synced.
    unsynced: u64,
    due: Option<Instant>,
    /// The last group did not get in whole.
    failing: bool,
    /// How many lines were lost since something went wrong.
    outage: Option<u64>,
}

/// One open file.
struct Page {
    file: File,
    identity: (u64, u64),
    /// Has it an end that can be looked at, and a disk behind it?
    is_regular: bool,
    /// It does not end with a line's end.
    is_torn: bool,
}

impl Book {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let page = Page::open(path)?;
        Ok(Self { path: path.to_owned(), page, unsynced: 0, due: None, failing: false, outage: None })
    }

    /// When the disk has to have what was written.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Appends a group of so many whole lines.
    pub(super) fn append(&mut self, group: &[u8], lines: u64) {
        if group.is_empty() {
            return;
        }
        let (kept, error) = match self.follow() {
            Ok(()) => self.page.append(group),
            Err(error) => (0, Some(error)),
        };
        self.failing = error.is_some();
        if kept > 0 {
            self.unsynced += kept;
            self.due.get_or_insert_with(|| Instant::now() + SYNC_AFTER);
        }
        if let Some(error) = error {
            self.lose(lines.saturating_sub(kept), &error);
        }
    }

    /// Brings what was written to the disk.
    pub(super) fn sync(&mut self) {
        self.due = None;
        let written = std::mem::take(&mut self.unsynced);
        match self.page.sync() {
            Err(error) => self.lose(written, &error),
            Ok(()) if !self.failing => self.recover(),
            Ok(()) => {}
        }
    }

    /// Opens anew what is another file by now, or none.
    fn follow(&mut self) -> io::Result<()> {
        if std::fs::metadata(&self.path).is_ok_and(|there| identity(&there) == self.page.identity) {
            return Ok(());
        }
        if self.unsynced > 0 {
            self.sync();
        }
        self.page = Page::open(&self.path)?;
        Ok(())
    }

    fn lose(&mut self, lines: u64, error: &io::Error) {
        metrics::usage_lost(lines);
        let lost = self.outage.unwrap_or_else(|| {
            tracing::error!(
                file = %self.path.display(),
                reason = %error,
                "usage records are lost: make room, or let the gateway write to `usage.file`; the log has them"
            );
            0
        });
        self.outage = Some(lost.saturating_add(lines));
    }

    fn recover(&mut self) {
        if let Some(lost) = self.outage.take() {
            tracing::warn!(file = %self.path.display(), lost, "usage records are written again");
        }
    }
}

impl Page {
    fn open(path: &Path) -> io::Result<Self> {
        // Opening a pipe would wait for whoever reads it.
        if std::fs::metadata(path).is_ok_and(|there| there.file_type().is_fifo()) {
            return Err(io::Error::other("it is a pipe"));
        }
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
        let found = file.metadata()?;
        let mut page = Self { file, identity: identity(&found), is_regular: found.is_file(), is_torn: false };
        if page.is_regular {
            match found.len().checked_sub(1) {
                Some(last) => page.is_torn = !page.ends_line_at(last)?,
                None => sync_folder(path),
            }
        }
        Ok(page)
    }

    fn ends_line_at(&self, last: u64) -> io::Result<bool> {
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, last)?;
        Ok(byte == *b"\n")
    }

    /// How many whole lines got in, and why not all of them.
    fn append(&mut self, group: &[u8]) -> (u64, Option<io::Error>) {
        // Half a line that somebody left stays alone on its line.
        let text = if self.is_torn { Cow::Owned([b"\n", group].concat()) } else { Cow::Borrowed(group) };
        let before = self.length();
        let (written, error) = write(&mut self.file, &text);
        let passed = text.get(..written).unwrap_or_default();
        let whole = passed.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        if written > 0 {
            self.is_torn = whole < written && !self.cut(before, whole, written);
        }
        // One more piece than ends of lines, and one more end if half a line was ended first.
        let more = if text.len() > group.len() { 2 } else { 1 };
        let lines = passed.split(|byte| *byte == b'\n').count().saturating_sub(more);
        (u64::try_from(lines).unwrap_or(u64::MAX), error)
    }

    /// Takes back half a line, unless somebody else has written meanwhile.
    fn cut(&self, before: Option<u64>, whole: usize, written: usize) -> bool {
        let at = |more: usize| before?.checked_add(u64::try_from(more).ok()?);
        match at(whole) {
            Some(end) if self.length() == at(written) => self.file.set_len(end).is_ok(),
            _ => false,
        }
    }

    fn length(&self) -> Option<u64> {
        self.file.metadata().ok().filter(|_| self.is_regular).map(|found| found.len())
    }

    fn sync(&self) -> io::Result<()> {
        if self.is_regular { self.file.sync_data() } else { Ok(()) }
    }
}

/// Writes as much as it can: how much, and what ended it.
fn write(file: &mut File, text: &[u8]) -> (usize, Option<io::Error>) {
    let mut written = 0;
    while let Some(rest) = text.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return (written, Some(ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (written, Some(error)),
        }
    }
    (written, None)
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// A new file is there after a crash only if its folder was brought to the disk too. Some file systems cannot do that.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}
