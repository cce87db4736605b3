//! The local CloudFront (`edge/local`) in front of a door: the functions and the cache of the stack, under nginx with njs.
//! `aws/setup` installs what generates its configuration.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::emulator::tool;
use super::setup::Folder;
use super::{Answer, Client, Watched};

/// The request field that says the client's address, so that a test can be many clients.
pub(crate) const VIEWER: &str = "x-test-viewer";

/// A running local CloudFront.
pub(crate) struct Edge {
    nginx: Child,
    address: SocketAddr,
    log: Arc<Watched<Vec<String>>>,
    /// Holds the log open, so that its reader ends when it is told to and not before.
    pipe: File,
    reader: Option<std::thread::JoinHandle<()>>,
    folder: Folder,
}

impl Edge {
    /// In front of what listens at `origin`, with the keys of the policy folder.
    pub(crate) fn start(origin: SocketAddr, policy: &Path) -> Self {
        let folder = Folder::new();
        fill(&folder.0, policy);
        // The socket is handed over, so that a client may connect before nginx has begun.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut generator = python("cloudfront.py");
        generator.args(["--origin", &format!("http://{origin}"), "--listen", &address.to_string()]);
        generator.args(["--viewer-header", VIEWER]);
        generator.arg("--folder").arg(&folder.0).arg("--store").arg(folder.0.join("store"));
        succeed(&mut generator);
        let (log, pipe, reader) = read_log(&folder.0.join("error.log"));
        let nginx = Command::new("nginx")
            .arg("-p")
            .arg(format!("{}/", folder.0.display()))
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin")
            .env("NGINX", "0;")
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { nginx, address, log, pipe, reader: Some(reader), folder }
    }

    /// Makes the store what the policy folder says now.
    pub(crate) fn export(&self, policy: &Path) {
        fill(&self.folder.0, policy);
    }

    /// An entry of the store.
    pub(crate) fn entry(&self, key: &str) -> Value {
        let path = self.folder.0.join("store").join(URL_SAFE_NO_PAD.encode(key));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// GET of `/?query` over a connection of its own.
    pub(crate) fn get(&self, query: &str) -> Answer {
        self.request("GET", query, &[])
    }

    /// A request for `/?query` over a connection of its own.
    pub(crate) fn request(&self, method: &str, query: &str, headers: &[(&str, &str)]) -> Answer {
        let mut client = self.client();
        client.request(method, query, headers);
        client.answer(method)
    }

    /// Waits until so many lines of the log have these words.
    pub(crate) fn wait_logged(&self, words: &str, count: usize) {
        let found = |log: &Vec<String>| log.iter().filter(|line| line.contains(words)).count() >= count;
        self.log
            .wait(|log| found(log).then_some(()))
            .unwrap_or_else(|| panic!("not {count} times `{words}`:\n{}", self.log.lock().concat()));
    }
}

impl Drop for Edge {
    /// Ends nginx, and holds what must be true after every test: no function failed.
    fn drop(&mut self) {
        // SIGTERM, so that the worker ends with its master.
        let _ = Command::new("kill").arg(self.nginx.id().to_string()).status();
        let _ = self.nginx.wait();
        let _ = self.pipe.write_all(END.as_bytes());
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let log = self.log.lock();
        let failed =
            log.iter().find(|line| line.contains("function threw") || line.contains("function failed"));
        assert!(failed.is_none() || std::thread::panicking(), "{failed:?}");
    }
}

const END: &str = "the end\n";

/// A pipe in the log's place, so that a test can wait for a line.
fn read_log(path: &Path) -> (Arc<Watched<Vec<String>>>, File, std::thread::JoinHandle<()>) {
    succeed(Command::new("mkfifo").arg(path));
    let pipe = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let lines = BufReader::new(pipe.try_clone().unwrap());
    let log = Watched::new(Vec::new());
    let written = Arc::clone(&log);
    let reader = std::thread::spawn(move || {
        for line in lines.lines().map_while(Result::ok).map(|line| line + "\n").take_while(|line| line != END)
        {
            written.change(|log| log.push(line));
        }
    });
    (log, pipe, reader)
}

/// The way of `task edge`: the real binary's export, then the script that fills the store.
fn fill(folder: &Path, policy: &Path) {
    let entries = folder.join("entries.json");
    let mut export = Command::new(super::program());
    succeed(export.args(["edge", "export", "--policy"]).arg(policy).arg("--out").arg(&entries));
    succeed(python("store.py").arg("--entries").arg(&entries).arg(folder.join("store")));
}

fn python(script: &str) -> Command {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("edge/local").join(script);
    let mut command = Command::new(tool("sam/bin/python"));
    command.arg("-B").arg(path);
    command
}

fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}
