//! What the gateway is started with.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{HOST, Upstream};

pub(crate) const TENANT: &str = "acme";
pub(crate) const KEY: &str = "acme-1";
pub(crate) const SECRET: &str = "sgk1_rig-0123456789abcdefghijklmnopqrstuvwxyz";

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Policy, configuration and environment of one gateway process.
pub(crate) struct Setup {
    head: String,
    rules: String,
    tail: String,
    tenants: Vec<(String, String)>,
    files: Vec<(String, String)>,
    open: Vec<String>,
    hosts: Vec<(String, SocketAddr)>,
    settings: Vec<(String, String)>,
    variables: Vec<(String, String)>,
}

impl Setup {
    /// One tenant with one key that may fetch `http://files.test.example/`; nothing is opened or mapped.
    pub(crate) fn bare() -> Self {
        let timeouts =
            [("resolve", "2s"), ("connect", "2s"), ("first_byte", "2s"), ("idle", "5s"), ("transfer", "60s")];
        let settings = timeouts.map(|(name, span)| (format!("timeouts.{name}"), span.to_owned()));
        Self {
            head: String::new(),
            rules: format!("[[allow]]\nhost = \"{HOST}\"\nschemes = [\"http\"]\n"),
            tail: String::new(),
            tenants: Vec::new(),
            files: Vec::new(),
            open: Vec::new(),
            hosts: Vec::new(),
            settings: settings.into(),
            variables: Vec::new(),
        }
    }

    /// As [`bare`](Self::bare), with `files.test.example` at `upstream`.
    pub(crate) fn new(upstream: &Upstream) -> Self {
        Self::bare().host(HOST, upstream.address())
    }

    /// Maps a name to an address and opens exactly that address and port.
    pub(crate) fn host(self, name: &str, address: SocketAddr) -> Self {
        self.map(name, address).open(&address.to_string())
    }

    /// Maps a name to an address without opening it.
    pub(crate) fn map(mut self, name: &str, address: SocketAddr) -> Self {
        self.hosts.push((name.to_owned(), address));
        self
    }

    /// Opens an address or range.
    pub(crate) fn open(mut self, address: &str) -> Self {
        self.open.push(address.to_owned());
        self
    }

    /// Allows one more host over http, by default on port 80.
    pub(crate) fn allow(self, host: &str) -> Self {
        self.rule(&format!("[[allow]]\nhost = \"{host}\"\nschemes = [\"http\"]\n"))
    }

    /// One more `[[allow]]` or `[[deny]]` table, as TOML.
    pub(crate) fn rule(mut self, toml: &str) -> Self {
        self.rules.push_str(toml);
        self.rules.push('\n');
        self
    }

    /// Top-level values of the policy, as TOML.
    pub(crate) fn policy_head(mut self, toml: &str) -> Self {
        self.head.push_str(toml);
        self.head.push('\n');
        self
    }

    /// Further tables of the policy, as TOML.
    pub(crate) fn policy(mut self, toml: &str) -> Self {
        self.tail.push_str(toml);
        self.tail.push('\n');
        self
    }

    /// A whole further tenant, as TOML; the secret file `rig.secret` holds [`SECRET`].
    pub(crate) fn tenant(mut self, name: &str, toml: &str) -> Self {
        self.tenants.push((name.to_owned(), toml.to_owned()));
        self
    }

    /// A file of the policy folder, for a `file:` reference.
    pub(crate) fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// A setting such as `timeouts.idle`, given in the environment.
    pub(crate) fn set(mut self, setting: &str, value: &str) -> Self {
        self.settings.push((setting.to_owned(), value.to_owned()));
        self
    }

    /// An environment variable.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// An environment variable, unless the test sets it.
    pub(crate) fn default_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(0, (name.to_owned(), value.to_owned()));
        self
    }

    /// Writes the policy folder and the configuration file; returns the environment.
    pub(super) fn write(&self, folder: &Path) -> Vec<(String, String)> {
        let policy = folder.join("policy");
        std::fs::create_dir(&policy).unwrap();
        std::fs::write(policy.join("rig.secret"), SECRET).unwrap();
        let key = format!("[[keys]]\nid = \"{KEY}\"\nsecret = \"file:rig.secret\"\n");
        let own = format!("tenant = \"{TENANT}\"\n{}\n{key}\n{}\n{}\n", self.head, self.rules, self.tail);
        std::fs::write(policy.join(format!("{TENANT}.toml")), own).unwrap();
        for (name, text) in &self.tenants {
            std::fs::write(policy.join(format!("{name}.toml")), text).unwrap();
        }
        for (name, text) in &self.files {
            std::fs::write(policy.join(name), text).unwrap();
        }
        let mut config = String::from("[origin.hosts]\n");
        for (name, address) in &self.hosts {
            writeln!(config, "\"{name}\" = \"{address}\"").unwrap();
        }
        let file = folder.join("gateway.toml");
        std::fs::write(&file, config).unwrap();
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let mut environment = vec![
            ("SLUICEGATE_CONFIG".to_owned(), path(&file)),
            ("SLUICEGATE_POLICY".to_owned(), path(&policy)),
            ("SLUICEGATE_LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
            ("SLUICEGATE_LOG".to_owned(), "json".to_owned()),
            ("SLUICEGATE_ORIGIN_OPEN".to_owned(), self.open.join(",")),
        ];
        for (setting, value) in &self.settings {
            let name = format!("SLUICEGATE_{}", setting.replace('.', "_").to_ascii_uppercase());
            environment.push((name, value.clone()));
        }
        environment.extend(self.variables.iter().cloned());
        environment
    }
}

/// A folder that goes with its owner.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("rig-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // Left behind by a run that was killed, under a process id that came round again.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
