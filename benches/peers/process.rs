//! A process that the rig started: which core it has, what it used, how it ends.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a start may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// The core of whoever is measured.
pub(crate) const MEASURED: usize = 0;
/// The core of load and upstream.
pub(crate) const AROUND: usize = 1;

/// A started program, ended when dropped.
pub(crate) struct Process {
    child: Child,
    /// The one that does the work: nginx's worker, else the program itself.
    worker: u32,
    /// From its start until it took a connection.
    pub(crate) ready_after: Duration,
}

/// `program`, bound to one core.
pub(crate) fn on_core(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Process {
    /// Starts `command` and waits until something listens at `address`.
    pub(crate) fn start(mut command: Command, address: SocketAddr) -> Self {
        let begun = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        while TcpStream::connect(address).is_err() {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < DEADLINE, "{command:?} does not listen: {ended:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
        let ready_after = begun.elapsed();
        let worker = child.id();
        Self { child, worker, ready_after }
    }

    /// The same for nginx, whose only worker is what counts.
    pub(crate) fn start_nginx(command: Command, address: SocketAddr) -> Self {
        let mut process = Self::start(command, address);
        let master = process.worker;
        let begun = Instant::now();
        loop {
            // The socket listens before there is a worker.
            let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
            if let Some(worker) = children.unwrap().split_whitespace().find_map(|pid| pid.parse().ok()) {
                process.worker = worker;
                return process;
            }
            assert!(begun.elapsed() < DEADLINE, "nginx has no worker");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Time on a processor so far, of all threads, in user mode and in the kernel; and time in which they could have run
    /// while something else had their core.
    pub(crate) fn cpu(&self) -> (Duration, Duration) {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.worker)).unwrap();
        // A thread may end between the list and the look.
        let texts =
            tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
        texts.fold((Duration::ZERO, Duration::ZERO), |(ran, waited), text| {
            let mut nanos = text.split_whitespace().map(|nanos| Duration::from_nanos(nanos.parse().unwrap()));
            (ran + nanos.next().unwrap(), waited + nanos.next().unwrap())
        })
    }

    /// Memory of its own and its part of what is shared, in KiB.
    pub(crate) fn pss(&self) -> u64 {
        self.field("smaps_rollup", "Pss:")
    }

    /// Resident memory in KiB.
    pub(crate) fn rss(&self) -> u64 {
        self.field("status", "VmRSS:")
    }

    /// The most resident memory since [`forget_peak`](Self::forget_peak), in KiB.
    pub(crate) fn peak(&self) -> u64 {
        self.field("status", "VmHWM:")
    }

    /// Lets [`peak`](Self::peak) begin anew (proc(5), `clear_refs`).
    pub(crate) fn forget_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.worker), "5").unwrap();
    }

    fn field(&self, file: &str, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.worker)).unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // nginx's master ends its worker too, and a program that counts its own steps writes them at its end (release/train).
        // Nobody has downloads to finish: the load has closed its connections.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
