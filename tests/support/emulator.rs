//! The emulators of Lambda that `aws/setup` installs.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::poll;

/// A program that `aws/setup` installed.
pub(crate) fn tool(path: &str) -> PathBuf {
    let tool = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".tools").join(path);
    assert!(tool.exists(), "there is no `{}`; run `aws/setup` once", tool.display());
    tool
}

/// A port that was free a moment ago; the emulators take no 0.
pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
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
