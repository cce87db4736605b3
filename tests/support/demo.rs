//! The demo as `cargo run` starts it, in a folder as a fresh clone has it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::SECRET;

/// The command line in a folder, with nothing of this process's environment but `PATH`.
pub(crate) fn sluicegate(folder: &Path) -> Command {
    let mut command = Command::new(super::program());
    command.current_dir(folder).stdin(Stdio::null());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command
}

/// A folder with the demo policy and a secret, as a fresh clone has after its first start.
pub(crate) fn project(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("demo-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("policy")).unwrap();
    std::fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("policy/demo.toml"),
        folder.join("policy/demo.toml"),
    )
    .unwrap();
    std::fs::write(folder.join("policy/demo.secret"), format!("{SECRET}\n")).unwrap();
    folder
}

/// The demo as `cargo run` starts it, with everything it printed before it began to wait.
pub(crate) struct Demo {
    pub(crate) child: Child,
    pub(crate) banner: String,
}

impl Demo {
    pub(crate) fn start(folder: &Path) -> Self {
        let mut child = sluicegate(folder)
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut banner = String::new();
        for line in BufReader::new(child.stdout.as_mut().unwrap()).lines() {
            let line = line.unwrap();
            banner.push_str(&line);
            banner.push('\n');
            if line.contains("explain --policy") {
                break;
            }
        }
        Self { child, banner }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        let address = self.banner.split_once("running: http://").unwrap().1.split_whitespace().next();
        address.unwrap().parse().unwrap()
    }

    /// The console's address with its key.
    pub(crate) fn console(&self) -> &str {
        self.banner.split_whitespace().find(|word| word.contains("/_/#key=")).unwrap()
    }

    pub(crate) fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
