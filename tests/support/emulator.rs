//! The emulators of Lambda that `aws/setup` installs.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use super::poll;

/// A program that `aws/setup` installed.
pub(crate) fn tool(path: &str) -> PathBuf {
    let tool = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".tools").join(path);
    assert!(tool.exists(), "there is no `{}`; run `aws/setup` once", tool.display());
    tool
}

/// A port for an emulator, which takes no 0. It lies below those that the kernel gives out by itself, so that nobody gets it
/// in the meantime.
pub(crate) fn free_port() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 100).unwrap() * 100;
    (0..1000)
        .map(|_| 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000)
        .find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .map(|listener| listener.local_addr().unwrap())
        .expect("a free port")
}

pub(crate) fn wait_for(address: SocketAddr) {
    poll(|| TcpStream::connect(address).is_ok()).expect("the emulator does not listen");
}

/// `cargo lambda watch`: a function URL in front of a function that is started by the test. Ends with its owner.
pub(crate) struct LambdaWatch {
    process: Child,
    address: SocketAddr,
}

impl LambdaWatch {
    pub(crate) fn start() -> Self {
        let address = free_port();
        let process = Command::new(tool("lambda/bin/cargo-lambda"))
            .args(["lambda", "watch", "--only-lambda-apis", "--invoke-address", "127.0.0.1", "--invoke-port"])
            .arg(address.port().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for(address);
        Self { process, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The environment of its one function.
    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        [
            ("AWS_LAMBDA_RUNTIME_API", format!("http://{}/.rt", self.address)),
            // The name of the one function, when the emulator did not start it.
            ("AWS_LAMBDA_FUNCTION_NAME", "_".to_owned()),
        ]
    }
}

impl Drop for LambdaWatch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
