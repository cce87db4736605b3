//! The command line as a person and as a program meets it: what is printed, what the exit status says.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::*;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn run(folder: &Path, arguments: &[&str]) -> Output {
    sluicegate(folder).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(output)))
}

/// Runs lines of the banner in a shell, as someone would who pastes them.
fn shell(folder: &Path, script: &str) {
    let output = Command::new("sh").args(["-euc", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", stderr(&output));
}

#[test]
fn the_demo_prints_lines_that_download_real_files() {
    let folder = project("demo");
    std::fs::remove_file(folder.join("policy/demo.secret")).unwrap();
    let demo = Demo::start(&folder);
    let secret = std::fs::metadata(folder.join("policy/demo.secret")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&secret.permissions()) & 0o777, 0o600);

    let curl = demo.banner.lines().find(|line| line.contains("curl -fOJ \"")).unwrap();
    shell(&folder, &format!("{} --silent --show-error", curl.trim()));
    let clip = std::fs::read(folder.join("First download.mp4")).unwrap();
    assert_eq!(clip, std::fs::read(Path::new(ROOT).join("examples/sample/clip.mp4")).unwrap());

    let lines = demo.banner.lines().skip_while(|line| !line.contains("SECRET=$(cat")).take(3);
    shell(&folder, &lines.collect::<Vec<_>>().join("\n"));
    let notes = std::fs::read(folder.join("notes.txt")).unwrap();
    assert_eq!(notes, std::fs::read(Path::new(ROOT).join("examples/sample/notes.txt")).unwrap());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_request_to_stop_lets_a_running_download_finish() {
    let folder = project("stop");
    let mut demo = Demo::start(&folder);
    let address = demo.address();
    let minted = run(&folder, &["mint", "--url", "http://sample.localhost/large.bin", "--json"]);
    let query = json(&minted)["query"].as_str().unwrap().to_owned();
    let mut client = Client::connect(address);
    client.request("GET", &query, &[]);
    client.peek(1);
    demo.terminate();
    // The listener closes first; then the download that had begun goes on to its end.
    while std::net::TcpStream::connect(address).is_ok() {}
    let answer = client.answer("GET");
    assert!(answer.complete());
    assert_eq!(answer.body.len(), 256 * 1024 * 1024);
    assert_eq!(demo.child.wait().unwrap().code(), Some(0));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_demo_says_what_it_lacks() {
    let folder = project("lacks");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&folder, &["--listen", &address]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("name another address with --listen"), "{}", stderr(&output));
    let output = run(&folder, &["--listen", "0.0.0.0:0"]);
    assert!(stderr(&output).contains("loopback only"), "{}", stderr(&output));
    std::fs::remove_file(folder.join("policy/demo.toml")).unwrap();
    let output = run(&folder, &[]);
    assert!(stderr(&output).contains("sluicegate serve --policy FOLDER"), "{}", stderr(&output));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn mint_and_explain_agree() {
    let folder = project("mint");
    let minted = run(
        &folder,
        &[
            "mint",
            "--url",
            "http://sample.localhost/notes.txt",
            "--filename",
            "Отчёт.txt",
            "--id",
            "o-7",
            "--json",
        ],
    );
    assert_eq!(minted.status.code(), Some(0), "{}", stderr(&minted));
    let link = json(&minted)["link"].as_str().unwrap().to_owned();
    let output = run(&folder, &["explain", &link]);
    assert_eq!(output.status.code(), Some(0));
    let page = stdout(&output);
    for part in ["pass  link", "pass  verify", "pass  policy", "| filename=Отчёт.txt", "would fetch the file"]
    {
        assert!(page.contains(part), "{part}\n{page}");
    }
    let tampered = link.replace("notes", "other");
    let output = run(&folder, &["explain", &tampered]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("STOP  verify  the signature does not match  [invalid_signature]"));
    let output = run(&folder, &["explain", &link, "--now", "4000000000", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let stages = json(&output)["stages"].as_array().unwrap().clone();
    assert_eq!(stages.last().unwrap()["code"], "link_expired");
    assert!(!page.contains(SECRET) && !stdout(&minted).contains(SECRET));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn mint_notes_what_the_policy_would_refuse() {
    let folder = project("note");
    let output = run(&folder, &["mint", "--url", "https://sample.localhost/notes.txt"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stderr(&output).contains("covers its host, but not its scheme (`schemes`)"),
        "{}",
        stderr(&output)
    );
    let output = run(&folder, &["mint", "--url", "http://sample.localhost/notes.txt"]);
    assert!(stderr(&output).is_empty(), "{}", stderr(&output));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn mint_says_what_is_wrong_before_it_signs() {
    let folder = project("mintbad");
    let policy = folder.join("policy/demo.toml");
    let mut text = std::fs::read_to_string(&policy).unwrap();
    text.push_str("\n[[keys]]\nid = \"old\"\nsecret = \"file:demo.secret\"\nstatus = \"verify-only\"\n");
    std::fs::write(&policy, text).unwrap();
    let url = "http://sample.localhost/notes.txt";
    for (arguments, hint) in [
        (&["--url", "sample.localhost"][..], "`url` is malformed: write an absolute URL"),
        (&["--url", url, "--filename", "a/b"], "`filename` is malformed"),
        (&["--url", url, "--kid", "nobody"], "no policy has a key `nobody`"),
        (&["--url", url, "--kid", "old"], "key `old` does not mint now"),
        (&["--url", url, "--policy", "nowhere"], "cannot read the policy folder"),
        (&["--url", url, "--base", "gateway"], "`gateway` is no URL"),
        (
            &["--url", url, "--base", "https://gateway.example/files"],
            "is not http or https, host and port alone",
        ),
        (&["--url", url, "--base", "ftp://gateway.example"], "is not http or https, host and port alone"),
        (
            &["--url", url, "--base", "https://user:word@gateway.example"],
            "--base holds a user name or a password",
        ),
        (&["--url", url, "--expires-in", "soon"], "invalid value 'soon'"),
    ] {
        let output = run(&folder, &[&["mint"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(hint), "{arguments:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn policy_check_points_at_the_mistake() {
    let folder = project("check");
    let output = run(&folder, &["policy", "check"]);
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(0), "policy: 1 tenant, 1 key, no mistakes\n")
    );
    std::fs::write(folder.join("policy/bad.toml"), "tenant = \"bad\"\n\n[[allow]]\nhost = \"*.co.uk\"\n")
        .unwrap();
    let output = run(&folder, &["policy", "check"]);
    assert_eq!(output.status.code(), Some(1));
    let page = stdout(&output);
    assert!(page.contains("policy/bad.toml:4:8") && page.contains("^^^^^^^^^"), "{page}");
    let output = run(&folder, &["policy", "check", "--json"]);
    let problem = &json(&output)["problems"][0];
    assert_eq!((&problem["line"], &problem["column"]), (&4.into(), &8.into()));
    let output = run(&folder, &["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("not started: the policy cannot be used"), "{}", stderr(&output));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_new_key_is_strong_and_recognisable() {
    let folder = project("keys");
    let one = stdout(&run(&folder, &["keys", "new"]));
    let two = json(&run(&folder, &["keys", "new", "--json"]))["secret"].as_str().unwrap().to_owned();
    for secret in [one.trim(), &two] {
        assert!(secret.starts_with("sgk1_") && secret.len() == 48, "{secret}");
        assert!(sluicegate::gate::hmac::HmacKey::new(&secret.to_owned().into()).is_ok());
    }
    assert_ne!(one.trim(), two);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let folder = project("settings");
    for (name, value, hint) in [
        ("SLUICEGATE_LISTEN", "8080", "SLUICEGATE_LISTEN"),
        ("SLUICEGATE_TIMEOUTS_IDLE", "soon", "`soon` is not a length of time"),
        ("SLUICEGATE_CLIENT_TRUSTED_PROXIES", "10.0.0.0/24,proxy", "`proxy` is no address and no network"),
        ("SLUICEGATE_ORIGIN_OPEN", "0.0.0.0/0", "SLUICEGATE_ORIGIN_OPEN"),
        ("SLUICEGATE_ORIGIN_CA_FILE", "/nowhere.pem", "cannot read `/nowhere.pem`"),
        ("SLUICEGATE_CONFIG", "/nowhere.toml", "cannot read `/nowhere.toml`"),
    ] {
        let output = sluicegate(&folder).arg("serve").env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(stderr(&output).contains(hint), "{name}: {}", stderr(&output));
    }
    let file = folder.join("sluicegate.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:0\"\n[timeouts]\nidel = \"1s\"\n").unwrap();
    let output = run(&folder, &["serve"]);
    assert!(
        stderr(&output).contains("unknown field `idel`") && stderr(&output).contains("line 3"),
        "{}",
        stderr(&output)
    );
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn health_asks_the_server() {
    let upstream = Upstream::start(|_| Vec::new());
    let gateway = Gateway::start(&Setup::new(&upstream));
    let folder = project("health");
    let base = format!("http://{}", gateway.address());
    assert_eq!(run(&folder, &["health", &base]).status.code(), Some(0));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(run(&folder, &["health", &format!("http://{nobody}")]).status.code(), Some(1));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn help_completions_and_a_closed_pipe() {
    let folder = project("help");
    let help = stdout(&run(&folder, &["serve", "--help"]));
    for (setting, _) in sluicegate::wire::config::SETTINGS {
        assert!(help.contains(setting), "{setting}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&run(&folder, &["completions", shell])).contains("explain"), "{shell}");
    }
    assert_eq!(run(&folder, &["nonsense"]).status.code(), Some(2));
    let mut child = sluicegate(&folder).arg("problems").stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0u8; 1];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    std::fs::remove_dir_all(folder).unwrap();
}
