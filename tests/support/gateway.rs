//! The process under test, its log, and links that it accepts.

use std::cell::Cell;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluicegate::gate::hmac::HmacKey;
use sluicegate::gate::id::{KeyId, UnixTime};
use sluicegate::gate::mint::Draft;

use super::setup::Folder;
use super::{Answer, Client, KEY, SECRET, Setup, Watched, now, poll};

/// A running `sluicegate serve`.
pub(crate) struct Gateway {
    child: Child,
    address: SocketAddr,
    log: Arc<Watched<Log>>,
    folder: Folder,
}

#[derive(Default)]
struct Log {
    lines: Vec<Value>,
    /// What is no JSON, such as the text of a panic.
    stray: Vec<String>,
    ended: bool,
}

impl Gateway {
    /// Starts it and waits until it listens.
    pub(crate) fn start(setup: &Setup) -> Self {
        let folder = Folder::new();
        let environment = setup.write(&folder.0);
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
            .arg("serve")
            .current_dir(&folder.0)
            .env_clear()
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
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
        let mut gateway = Self { child, address: SocketAddr::from(([0; 4], 0)), log, folder };
        let serving = gateway.line(|line| line["message"] == "serving");
        gateway.address = serving["address"].as_str().unwrap().parse().unwrap();
        gateway
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The policy folder, to edit while the gateway runs.
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

    /// Waits for the decision record of an answer; for the first record if there was none.
    pub(crate) fn record(&self, answer: &Answer) -> Value {
        let id = answer.header("x-request-id");
        assert!(id.is_some() || answer.status == 0, "every answer has a request id: {}", answer.head);
        let is_its = |line: &Value| id.is_none_or(|id| line["request_id"] == id);
        self.line(|line| line["target"] == "sluicegate::decision" && is_its(line))
    }

    /// Every log line so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.log.lock().lines.clone()
    }

    /// A new connection.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// A link to `url` that is good for ten minutes.
    #[allow(clippy::unused_self, reason = "a link is for a gateway")]
    pub(crate) fn link(&self, url: &str) -> Link {
        let draft = Draft::new(url, &KeyId::parse(KEY).unwrap(), UnixTime(now() + 600));
        Link { draft, secret: SECRET.to_owned() }
    }

    /// GET over a connection of its own.
    pub(crate) fn get(&self, query: &str) -> Answer {
        self.request("GET", query, &[])
    }

    /// A request over a connection of its own.
    pub(crate) fn request(&self, method: &str, query: &str, headers: &[(&str, &str)]) -> Answer {
        let mut client = self.client();
        client.request(method, query, headers);
        client.answer(method)
    }

    /// GET of `url` through a good link.
    pub(crate) fn fetch(&self, url: &str) -> Answer {
        self.get(&self.link(url).query())
    }

    /// Resident memory in bytes.
    pub(crate) fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
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

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Gateway {
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
        let broken = log.lines.iter().find(|line| line["status"] == 500);
        assert!(broken.is_none(), "a 500 is a bug: {broken:?}");
    }
}

/// A link in the making.
pub(crate) struct Link {
    draft: Draft,
    secret: String,
}

impl Link {
    /// Sets any parameter but `sig`.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.draft = self.draft.with(name, value);
        self
    }

    /// Ends so many seconds from now, or has ended so many ago.
    pub(crate) fn expires_in(self, seconds: i64) -> Self {
        let end = now().checked_add_signed(seconds).unwrap();
        self.with("exp", &end.to_string())
    }

    /// Signs with another secret.
    pub(crate) fn secret(mut self, secret: &str) -> Self {
        secret.clone_into(&mut self.secret);
        self
    }

    /// The signed query, without `?`.
    pub(crate) fn query(self) -> String {
        let key = HmacKey::new(&self.secret.into()).unwrap();
        self.draft.sign(&key).unwrap().query
    }
}
