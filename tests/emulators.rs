//! The Lambda door under the emulators of others: what a broken body becomes there. `aws/setup` installs them.
//!
//! * `cargo lambda watch` streams: a client of it must see an error, not a 200 that looks whole.
//! * The interface emulator, in its mode for managed instances, classifies what a function posts as the service does.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::{
    Client, Function, LambdaWatch, Link, Process, RuntimeApi, Setup, Step, Upstream, event, free_port, ok,
    text, tool, wait_for,
};

const BOOTSTRAP: &str = env!("CARGO_BIN_EXE_bootstrap");

fn upstream() -> Upstream {
    Upstream::start(|request| match request.target() {
        "/short" => {
            // The pause is part of the fault: the emulator drops what it has not sent on when the end comes too soon.
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n0123456789".to_vec();
            vec![Step::Drip(vec![head], Duration::from_millis(200)), Step::Close]
        }
        "/empty" => vec![Step::Send(ok(&[], b""))],
        _ if request.method() == "HEAD" => text("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"),
        _ => vec![Step::Send(ok(&[], b"0123456789"))],
    })
}

fn link(path: &str) -> String {
    Link::to(&format!("http://files.test.example{path}")).query()
}

#[test]
fn a_client_of_cargo_lambda_watch_sees_the_break() {
    let emulator = LambdaWatch::start();
    let address = emulator.address();
    let upstream = upstream();
    let setup = emulator
        .variables()
        .iter()
        .fold(Setup::new(&upstream), |setup, (name, value)| setup.variable(name, value));
    let unused = RuntimeApi::start();
    let _function = Function::spawn(Command::new(BOOTSTRAP), &unused, setup);
    let ask = |method: &str, query: &str| {
        let mut client = Client::connect(address);
        client.request(method, query, &[]);
        client.answer(method)
    };
    for _ in 0..2 {
        let whole = ask("GET", &link("/file"));
        assert_eq!((whole.status, whole.complete(), &whole.body[..]), (200, true, &b"0123456789"[..]));
        assert_eq!(whole.header("x-sluicegate-length"), Some("10"));
        let short = ask("GET", &link("/short"));
        assert!(matches!(short.status, 200 | 0) && !short.complete(), "{} {:?}", short.status, short.end);
        assert_eq!(ask("HEAD", &link("/file")).status, 200);
        assert_eq!(ask("GET", &link("/empty")).status, 204);
        ask("GET", "url=x").expect(401, "missing_credential");
    }
    // And the one that people use.
    let curl = |path: &str| {
        let url = format!("http://{address}/?{}", link(path));
        Command::new("curl").args(["--silent", "--output", "/dev/null", &url]).status().unwrap().code()
    };
    assert_eq!(curl("/file"), Some(0));
    // 18 is a partial file; 52 and 56 are what it says if the end came before the head was passed on.
    assert!(matches!(curl("/short"), Some(18 | 52 | 56)), "{:?}", curl("/short"));
}

/// It starts `/var/task/bootstrap` and nothing else, so it gets a `/var` of its own. That takes root.
const STAGE: &str =
    "mount -t tmpfs none /var && mkdir /var/task && ln -s \"$1\" /var/task/bootstrap && shift && exec \"$@\"";

#[test]
fn the_interface_emulator_says_truncated() {
    let (invoke, runtime) = (free_port(), free_port());
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };
    let packages = tool("sam/lib").read_dir().unwrap().next().unwrap().unwrap().path();
    let emulator = packages.join(format!("site-packages/samcli/local/rapid/aws-lambda-rie-{machine}"));
    let own = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("interface-emulator");
    std::fs::copy(emulator, &own).unwrap();
    std::fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let mut command = if is_root { Command::new("unshare") } else { Command::new("sudo") };
    if !is_root {
        command.args(["-n", "-E", "unshare"]);
    }
    // With a process table of its own: what the emulator starts ends with it.
    let apart = ["--mount", "--pid", "--fork", "--kill-child"];
    command.args(apart).args(["sh", "-c", STAGE, "sh", BOOTSTRAP]).arg(own);
    command.args(["--log-level", "warn", "--runtime-interface-emulator-address", &invoke.to_string()]);
    command.args(["--runtime-api-address", &runtime.to_string()]);
    let upstream = upstream();
    let setup = Setup::new(&upstream)
        .variable("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .variable("AWS_LAMBDA_MAX_CONCURRENCY", "2");
    let unused = RuntimeApi::start();
    // The emulator gives the function its environment, and the function's log is in its own.
    let mut process: Process = Function::spawn(command, &unused, setup);
    wait_for(invoke);
    let ask = |path: &str| {
        let event = event("GET", "/", &link(path), &[]).to_string();
        let mut client = Client::connect(invoke);
        client.send(format!(
            "POST /2015-03-31/functions/function/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{event}",
            event.len()
        ));
        client.answer("POST")
    };
    for _ in 0..2 {
        let whole = ask("/file");
        assert!(whole.body.ends_with(b"\0\0\0\0\0\0\0\x000123456789"), "{}", whole.body.escape_ascii());
        let short = ask("/short");
        let verdict: Value = serde_json::from_slice(&short.body).unwrap();
        assert_eq!(verdict["errorType"], "Runtime.TruncatedResponse");
    }
    process.end();
}
