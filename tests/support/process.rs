//! A process under test and its log.

use std::cell::Cell;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::setup::Folder;
use super::{Setup, Watched, poll};

/// A running binary of the package, with its policy folder and its log.
pub(crate) struct Process {
    child: Child,
    log: Arc<Watched<Log>>,
    printed: Arc<Watched<Printed>>,
    folder: Folder,
}

#[derive(Default)]
struct Log {
    lines: Vec<Value>,
    /// What is no JSON, such as the text of a panic.
    stray: Vec<String>,
    ended: bool,
}

/// Standard output.
#[derive(Default)]
struct Printed {
    lines: Vec<String>,
    ended: bool,
}

impl Process {
    /// Starts `command` with what `setup` says and nothing else of this process's environment.
    pub(super) fn start(mut command: Command, setup: &Setup) -> Self {
        let folder = Folder::new();
        let environment = setup.write(&folder.0);
        let mut child = command
            .current_dir(&folder.0)
            .env_clear()
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Watched::new(Log::default());
        let (stderr, written) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                written.change(|log| match serde_json::from_str(&line) {
                    Ok(value) => log.lines.push(value),
                    Err(_) => log.stray.push(line),
                });
            }
            written.change(|log| log.ended = true);
        });
        let printed = Watched::new(Printed::default());
        let (stdout, out) = (child.stdout.take().unwrap(), Arc::clone(&printed));
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                out.change(|out| out.lines.push(line));
            }
            out.change(|out| out.ended = true);
        });
        Self { child, log, printed, folder }
    }

    /// The policy folder, to edit while the process runs.
    pub(crate) fn policy_folder(&self) -> std::path::PathBuf {
        self.folder.0.join("policy")
    }

    /// Waits for the first log line that `matches`.
    pub(crate) fn line(&self, matches: impl Fn(&Value) -> bool) -> Value {
        let found = self.log.wait(|log| match log.lines.iter().find(|line| matches(line)) {
            Some(line) => Some(Some(line.clone())),
            None => log.ended.then_some(None),
        });
        found.flatten().unwrap_or_else(|| {
            let log = self.log.lock();
            panic!("no such log line among {:#?}\n{}", log.lines, log.stray.join("\n"))
        })
    }

    /// Waits for the decision record of a request.
    pub(crate) fn decision(&self, request_id: &str) -> Value {
        self.line(|line| line["target"] == "sluicegate::decision" && line["request_id"] == request_id)
    }

    /// Waits until so many lines came on standard output; all that came.
    pub(crate) fn printed(&self, count: usize) -> Vec<String> {
        let printed = self.printed.wait(|out| (out.lines.len() >= count).then(|| out.lines.clone()));
        printed.unwrap_or_else(|| panic!("only {:?} was printed", self.printed.lock().lines))
    }

    /// Every log line so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.log.lock().lines.clone()
    }

    /// Waits until the process has ended: its exit code, and all that it wrote.
    pub(crate) fn wait(&mut self) -> (Option<i32>, String) {
        self.log.wait(|log| log.ended.then_some(())).expect("the process goes on");
        self.printed.wait(|out| out.ended.then_some(())).expect("the process goes on");
        let code = self.child.wait().unwrap().code();
        let mut log = self.log.lock();
        let lines: Vec<_> = log.lines.iter().map(Value::to_string).collect();
        (code, std::mem::take(&mut log.stray).join("\n") + &lines.join("\n"))
    }

    /// Asks the process to stop.
    pub(crate) fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Ends the process: its exit code, and all that it wrote.
    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        let _ = self.child.kill();
        self.wait()
    }

    /// Resident memory in bytes.
    pub(crate) fn rss(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory so far in bytes.
    pub(crate) fn peak_rss(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Resident memory once it has not grown for a second.
    pub(crate) fn settled_rss(&self) -> u64 {
        let seen = Cell::new((self.rss(), Instant::now()));
        let settled = poll(|| {
            let (most, since) = seen.get();
            let now = self.rss();
            if now > most {
                seen.set((now, Instant::now()));
            }
            since.elapsed() > Duration::from_secs(1)
        });
        settled.expect("memory keeps growing");
        seen.get().0
    }

    /// Processor time of all its threads so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let nanoseconds = tasks.filter_map(|task| {
            // A thread may end while it is looked at.
            let times = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            times.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    /// Page faults so far that needed no disk.
    pub(crate) fn minor_faults(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name in brackets may hold spaces; the count is the tenth field, the eighth after the name.
        let after = stat.rsplit_once(')').unwrap().1;
        after.split_whitespace().nth(7).unwrap().parse().unwrap()
    }

    /// Open file descriptors of a kind, such as `socket` or `pipe`.
    pub(crate) fn descriptors(&self, kind: &str) -> usize {
        let all = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        // One that was closed in between is none.
        let links = all.filter_map(|one| std::fs::read_link(one.unwrap().path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with(&format!("{kind}:"))).count()
    }
}

impl Drop for Process {
    /// Ends the process, and holds what must be true after every test: no panic and no 500.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            return;
        }
        self.log.wait(|log| log.ended.then_some(())).expect("the log ends with the process");
        let log = self.log.lock();
        assert!(log.stray.is_empty(), "not a log line: {}", log.stray.join("\n"));
        let panicked = log.lines.iter().find(|line| line["message"] == "panicked");
        assert!(panicked.is_none(), "{panicked:?}");
        let broken = log.lines.iter().find(|line| line["status"] == 500);
        assert!(broken.is_none(), "a 500 is a bug: {broken:?}");
    }
}
