//! Secrets kept in AWS: fetched from a real implementation of the two services that checks signatures and permissions
//! (moto, in `.tools/moto`; `aws/setup` installs it), renewed, bounded in age, and never shown.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;
use support::{
    Function, Gateway, KEY, Link, RuntimeApi, SECRET, Setup, Signal, Step, Upstream, ok, poll, text,
};

const FILE: &str = "http://files.test.example/a.bin";
const NEWER: &str = "sgk1_newer-0123456789abcdefghijklmnopqrstuvwxyz";

/// A running moto.
struct Aws {
    child: Child,
    pipe: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    hello: Value,
}

impl Aws {
    fn start() -> Self {
        let root = env!("CARGO_MANIFEST_DIR");
        let python = format!("{root}/.tools/moto/bin/python");
        assert!(std::path::Path::new(&python).exists(), "there is no `.tools/moto`; run `aws/setup` once");
        let mut child = Command::new(python)
            .arg(format!("{root}/tests/aws/secrets_server.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let hello = serde_json::from_str(&line).unwrap();
        let pipe = Mutex::new((child.stdin.take().unwrap(), stdout));
        Self { child, pipe, hello }
    }

    fn tell(&self, command: &str) -> String {
        let mut pipe = self.pipe.lock().unwrap();
        writeln!(pipe.0, "{command}").unwrap();
        let mut line = String::new();
        pipe.1.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "`{command}` ended moto");
        line.trim_end().to_owned()
    }

    /// How often an operation was asked for.
    fn calls(&self, operation: &str) -> u64 {
        let calls: Value = serde_json::from_str(&self.tell("calls")).unwrap();
        calls[operation].as_u64().unwrap_or(0)
    }

    fn endpoint(&self) -> &str {
        self.hello["endpoint"].as_str().unwrap()
    }

    /// The environment of one who may read.
    fn reader(&self, setup: Setup) -> Setup {
        self.as_user(setup, "reader")
    }

    fn as_user(&self, setup: Setup, user: &str) -> Setup {
        setup
            .variable("AWS_REGION", "eu-central-1")
            .variable("AWS_ENDPOINT_URL", self.endpoint())
            .variable("AWS_ACCESS_KEY_ID", self.hello[user][0].as_str().unwrap())
            .variable("AWS_SECRET_ACCESS_KEY", self.hello[user][1].as_str().unwrap())
    }
}

impl Drop for Aws {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn key(id: &str, reference: &str) -> String {
    format!("[[keys]]\nid = \"{id}\"\nsecret = \"{reference}\"\n")
}

fn signed(kid: &str, secret: &str) -> String {
    Link::to(FILE).with("kid", kid).secret(secret).query()
}

fn files() -> Upstream {
    Upstream::always(|| vec![Step::Send(ok(&[], b"hello"))])
}

const GET_SECRET: &str = "secretsmanager.GetSecretValue";
const GET_PARAMETERS: &str = "AmazonSSM.GetParameters";

#[test]
fn every_kind_of_reference() {
    let aws = Aws::start();
    let other = "sgk1_other-0123456789abcdefghijklmnopqrstuvwxyz";
    aws.tell(&format!("secret acme/keys {}", serde_json::json!({ "one": SECRET, "two": other, "n": 1 })));
    let arn = aws.tell(&format!("secret acme/whole {SECRET}"));
    let mut policy = String::new();
    policy += &key("field-1", "secretsmanager:acme/keys#one");
    policy += &key("field-2", "secretsmanager:acme/keys#two");
    policy += &key("whole", "secretsmanager:acme/whole");
    policy += &key("by-arn", &format!("secretsmanager:{arn}"));
    for number in 0..12 {
        aws.tell(&format!(
            "parameter /acme/key-{number} sgk1_{number:02}-0123456789abcdefghijklmnopqrstuvwxyz"
        ));
        policy += &key(&format!("ssm-{number}"), &format!("ssm:/acme/key-{number}"));
    }
    let upstream = files();
    let setup = || aws.reader(Setup::new(&upstream).policy(&policy));
    let (function, gateway) = (Function::start(setup()), Gateway::start(&setup()));
    // Three secrets, one call each; twelve parameters, ten a call; once for either process.
    assert_eq!((aws.calls(GET_SECRET), aws.calls(GET_PARAMETERS)), (6, 4));
    for (kid, secret) in [
        ("field-1", SECRET),
        ("field-2", other),
        ("whole", SECRET),
        ("by-arn", SECRET),
        ("ssm-0", "sgk1_00-0123456789abcdefghijklmnopqrstuvwxyz"),
        ("ssm-11", "sgk1_11-0123456789abcdefghijklmnopqrstuvwxyz"),
    ] {
        assert_eq!(function.get(&signed(kid, secret)).status(), 200, "{kid}");
        assert_eq!(gateway.get(&signed(kid, secret)).status, 200, "{kid}");
    }
    assert_eq!((aws.calls(GET_SECRET), aws.calls(GET_PARAMETERS)), (6, 4), "good links ask nobody");
    for line in function.lines().iter().chain(&gateway.lines()) {
        assert!(!line.to_string().contains("sgk1_"), "a secret in the log: {line}");
    }
}

#[test]
fn a_secret_that_was_replaced_counts_with_the_first_link_it_signs() {
    let aws = Aws::start();
    aws.tell(&format!("secret acme/key {SECRET}"));
    let upstream = files();
    let setup = |retry: &str| {
        let setup = Setup::new(&upstream).policy(&key("k", "secretsmanager:acme/key"));
        aws.reader(setup).set("secrets.retry", retry)
    };
    let (quick, slow) = (Function::start(setup("1us")), Function::start(setup("1h")));
    assert_eq!(quick.get(&signed("k", SECRET)).status(), 200);
    aws.tell(&format!("secret acme/key {NEWER}"));
    assert_eq!(quick.get(&signed("k", NEWER)).status(), 200, "no cold start needed");
    quick.get(&signed("k", SECRET)).expect(403, "invalid_signature");
    // Whoever sends links that do not fit cannot make us ask more often than the operator allows.
    let before = aws.calls(GET_SECRET);
    for _ in 0..20 {
        slow.get(&signed("k", NEWER)).expect(403, "invalid_signature");
    }
    assert_eq!(aws.calls(GET_SECRET), before);
    assert_eq!(slow.get(&signed("k", SECRET)).status(), 200);
}

#[test]
fn an_old_secret_does_not_count_for_ever() {
    let aws = Aws::start();
    aws.tell(&format!("secret acme/key {SECRET}"));
    let upstream = files();
    let setup = aws.reader(Setup::new(&upstream).policy(&key("k", "secretsmanager:acme/key")));
    let function = Function::start(setup.set("secrets.max_age", "200ms").set("secrets.retry", "1us"));
    assert_eq!(function.get(&signed("k", SECRET)).status(), 200);
    aws.tell(&format!("secret acme/key {NEWER}"));
    poll(|| function.get(&signed("k", SECRET)).status() == 403).expect("the old secret still counts");
    assert_eq!(function.get(&signed("k", NEWER)).status(), 200);
    // Taken away: its links are refused, the log says so, and nothing else changes.
    aws.tell("delete acme/key");
    poll(|| function.get(&signed("k", NEWER)).status() == 403).expect("a secret that is gone still counts");
    assert!(function.lines().iter().any(|line| {
        line["level"] == "ERROR"
            && line["reason"].as_str().is_some_and(|reason| reason.contains("`secretsmanager:acme/key`"))
    }));
    assert_eq!(function.get(&signed(KEY, SECRET)).status(), 200, "a key that is kept here");
    aws.tell(&format!("secret acme/key {NEWER}"));
    poll(|| function.get(&signed("k", NEWER)).status() == 200).expect("and back");
}

/// AWS cannot be asked: what is known stays good for a while, then its links are answered 503, and only they.
#[test]
fn an_outage_is_bridged_for_a_while() {
    let aws = Aws::start();
    aws.tell(&format!("secret acme/key {SECRET}"));
    let upstream = files();
    let setup = aws.reader(Setup::new(&upstream).policy(&key("k", "secretsmanager:acme/key")));
    let function = Function::start(setup.set("secrets.max_age", "200ms").set("secrets.retry", "1us"));
    drop(aws);
    assert_eq!(function.get(&signed("k", SECRET)).status(), 200);
    poll(|| function.get(&signed("k", SECRET)).status() == 503).expect("secrets are kept for ever");
    let refused = function.get(&signed("k", SECRET));
    refused.expect(503, "unavailable");
    assert_eq!(refused.header("retry-after").as_deref(), Some("30"));
    assert_eq!(function.get(&signed(KEY, SECRET)).status(), 200, "a key that is kept here");
    function.get(&signed(KEY, NEWER)).expect(403, "invalid_signature");
}

/// One tenant's missing, unfit or forbidden secret is not another's, neither at the start nor later.
#[test]
fn one_tenants_secret_is_not_anothers() {
    let aws = Aws::start();
    aws.tell(&format!("secret acme/key {SECRET}"));
    aws.tell("secret other/weak secret");
    aws.tell("binary other/binary");
    aws.tell(&format!("parameter /acme/key {SECRET}"));
    let upstream = files();
    let other = |reference: &str| {
        format!(
            "tenant = \"other\"\n{}[[allow]]\nhost = \"files.test.example\"\nschemes = [\"http\"]\n",
            key("o", reference)
        )
    };
    let own = key("k", "secretsmanager:acme/key") + &key("p", "ssm:/acme/key");
    for reference in [
        "secretsmanager:other/none",
        "secretsmanager:other/weak",
        "secretsmanager:other/weak#field",
        "secretsmanager:other/binary",
        "ssm:/other/none",
    ] {
        let setup = aws.reader(Setup::new(&upstream).policy(&own).tenant("other", &other(reference)));
        let function = Function::start(setup.set("secrets.retry", "1us").set("secrets.max_age", "100ms"));
        for kid in ["k", "p", KEY] {
            assert_eq!(function.get(&signed(kid, SECRET)).status(), 200, "{kid} beside {reference}");
        }
        function.get(&signed("o", SECRET)).expect(403, "invalid_signature");
        function.line(|line| {
            line["level"] == "ERROR" && line["message"].as_str().unwrap().starts_with("left out")
        });
        // And a rotation of the one goes on beside the other.
        aws.tell(&format!("secret acme/key {NEWER}"));
        assert_eq!(function.get(&signed("k", NEWER)).status(), 200, "beside {reference}");
        function.get(&signed("k", SECRET)).expect(403, "invalid_signature");
        aws.tell(&format!("secret acme/key {SECRET}"));
    }
}

/// An edit with a mistake in it keeps the set of before in force, and its secrets are renewed all the same.
#[test]
fn a_bad_edit_ages_nothing() {
    let aws = Aws::start();
    aws.tell(&format!("secret acme/key {SECRET}"));
    let upstream = files();
    let setup = aws.reader(Setup::new(&upstream).policy(&key("k", "secretsmanager:acme/key")));
    let gateway = Gateway::start(&setup.set("secrets.retry", "1us").set("secrets.max_age", "50ms"));
    std::fs::write(gateway.policy_folder().join("acme.toml"), "tenant = ").unwrap();
    std::fs::remove_file(gateway.policy_folder().join("rig.secret")).unwrap();
    gateway.line(|line| line["message"] == "policy not reloaded: the previous set stays in force");
    let before = aws.calls(GET_SECRET);
    poll(|| {
        assert_eq!(gateway.get(&signed("k", SECRET)).status, 200);
        aws.calls(GET_SECRET) > before + 14
    })
    .expect("secrets are not renewed");
    assert_eq!(
        gateway.get(&signed(KEY, SECRET)).status,
        200,
        "its file is gone, but not from the set in force"
    );
    aws.tell(&format!("secret acme/key {NEWER}"));
    assert_eq!(gateway.get(&signed("k", NEWER)).status, 200);
}

/// Links that do not fit, of clients that hang up: still one look at a time, and no more often than allowed.
#[test]
fn clients_that_leave_do_not_make_it_ask_again() {
    let aws = Aws::start();
    aws.tell(&format!("secret acme/key {SECRET}"));
    let upstream = files();
    let setup = aws.reader(Setup::new(&upstream).policy(&key("k", "secretsmanager:acme/key")));
    let gateway = Gateway::start(&setup.set("secrets.retry", "1h"));
    assert_eq!(aws.calls(GET_SECRET), 1);
    for _ in 0..20 {
        let mut client = gateway.client();
        client.request("GET", &signed("k", NEWER), &[]);
        drop(client);
    }
    assert_eq!(gateway.get(&signed("k", SECRET)).status, 200);
    assert_eq!(aws.calls(GET_SECRET), 1, "not before `secrets.retry`");

    // An AWS that takes its time, so that clients leave in the middle of the look that they began.
    let (asked, go) = (Signal::new(), Signal::new());
    let (noticed, gate) = (asked.clone(), go.clone());
    let slow = Upstream::start(move |request| {
        let answer = ok(&[], serde_json::json!({ "SecretString": SECRET }).to_string().as_bytes());
        if request.number == 0 {
            return vec![Step::Send(answer)];
        }
        noticed.give();
        vec![Step::Wait(gate.clone()), Step::Send(answer)]
    });
    let setup = aws.reader(Setup::new(&upstream).policy(&key("k", "secretsmanager:acme/key")));
    let setup = setup.variable("AWS_ENDPOINT_URL", &format!("http://{}", slow.address()));
    let gateway = Gateway::start(&setup.set("secrets.retry", "1s").set("secrets.timeout", "20s"));
    slow.wait_requests(1);
    poll(|| {
        let mut client = gateway.client();
        client.request("GET", &signed("k", NEWER), &[]);
        drop(client);
        slow.requests().len() > 1
    })
    .expect("nobody looks again");
    assert!(asked.wait());
    for _ in 0..20 {
        let mut client = gateway.client();
        client.request("GET", &signed("k", NEWER), &[]);
        drop(client);
    }
    assert_eq!(gateway.get(&signed("k", SECRET)).status, 200, "good links do not wait");
    assert_eq!(slow.requests().len(), 2, "one look at a time, whoever leaves");
    go.give();
}

/// Each names the reference and what to do, and none shows a secret.
#[test]
fn what_cannot_be_fetched_is_said() {
    let aws = Aws::start();
    aws.tell("secret acme/text not-json-0123456789");
    aws.tell("secret acme/json {\"number\":1}");
    aws.tell("secret acme/weak aaaaaaaaaaaa");
    aws.tell("binary acme/binary");
    let bare = |reference: &str| Setup::bare().policy(&key("k", reference));
    let said = |text: &str, reason: &str| {
        assert!(text.contains(reason), "{reason} is not in {text}");
        for secret in ["not-json-0123456789", "aaaaaaaaaaaa", aws.hello["reader"][0].as_str().unwrap()] {
            assert!(!text.contains(secret), "{text}");
        }
    };
    // An answer of AWS: the key is left out, and the process starts.
    for (reference, reason) in [
        ("secretsmanager:acme/none", "ResourceNotFoundException"),
        ("secretsmanager:acme/binary", "the secret is binary"),
        ("secretsmanager:acme/text#field", "not a JSON object"),
        ("secretsmanager:acme/json#field", "no field `field`"),
        ("secretsmanager:acme/json#number", "not a string"),
        ("secretsmanager:acme/weak", "sluicegate keys new"),
        ("ssm:/acme/none", "no such parameter"),
    ] {
        let function = Function::start(aws.reader(bare(reference)));
        let line = function.line(|line| line["level"] == "ERROR");
        assert!(line["file"].as_str().unwrap().ends_with("acme.toml"), "{line}");
        let lines: Vec<_> = function.lines().iter().map(Value::to_string).collect();
        said(&lines.join("\n"), reason);
    }
    // No answer: the process does not start.
    let (api, good) = (RuntimeApi::start(), "secretsmanager:acme/text");
    for (setup, reason) in [
        (aws.as_user(bare(good), "nobody"), "AWS answered 403"),
        (aws.reader(bare(good)).variable("AWS_SECRET_ACCESS_KEY", "wrong"), "AWS answered 403"),
        (aws.reader(bare(good)).variable("AWS_SECRET_ACCESS_KEY", "wr\u{1}ong"), "credentials do not have"),
        (aws.reader(bare(good)).variable("AWS_REGION", ""), "AWS_REGION"),
        (aws.reader(bare(good)).variable("AWS_REGION", "eu\r\nx: y"), "AWS_REGION"),
        (aws.reader(bare(good)).variable("AWS_ACCESS_KEY_ID", ""), "no AWS credentials"),
        (aws.reader(bare(good)).variable("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), "cannot reach AWS"),
        (aws.reader(bare(good)).variable("AWS_ENDPOINT_URL", "no url"), "cannot ask `no url/`"),
    ] {
        let (code, text) = Function::spawn(Command::new(support::bootstrap()), &api, setup).wait();
        assert_eq!(code, Some(1), "{reason}");
        said(&text, reason);
        said(&text, "cannot fetch `");
    }
}

/// ECS and EKS give credentials by an endpoint, with a token of its own.
#[test]
fn a_containers_credentials() {
    let aws = Aws::start();
    aws.tell(&format!("secret acme/key {SECRET}"));
    let user = &aws.hello["reader"];
    let document = serde_json::json!({
        "AccessKeyId": user[0], "SecretAccessKey": user[1], "Token": "", "Expiration": "2030-01-01T00:00:00Z",
    });
    let document = serde_json::to_vec(&document).unwrap();
    let credentials = Upstream::start(move |request| match request.header("authorization") {
        Some("container-token") => vec![Step::Send(ok(&[], &document))],
        _ => text("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"),
    });
    let upstream = files();
    let setup = |endpoint: String| {
        Setup::new(&upstream)
            .policy(&key("k", "secretsmanager:acme/key"))
            .variable("AWS_REGION", "eu-central-1")
            .variable("AWS_ENDPOINT_URL", aws.endpoint())
            .variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", &endpoint)
    };
    let token = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
    let own = format!("http://{}/v1/credentials", credentials.address());
    let gateway = Gateway::start(&setup(own.clone()).variable(token, "container-token"));
    assert_eq!(gateway.get(&signed("k", SECRET)).status, 200);
    // The token goes nowhere but to the container's own addresses, or over https.
    let api = RuntimeApi::start();
    let asked = credentials.requests().len();
    let by_name = format!("http://localhost:{}/", credentials.port());
    for (setup, reason) in [
        (setup(by_name).variable(token, "container-token"), "neither https nor one of the container's own"),
        (setup(own).variable(token, "wrong"), "does not answer"),
    ] {
        let (code, text) = Function::spawn(Command::new(support::bootstrap()), &api, setup).wait();
        assert_eq!((code, text.contains(reason)), (Some(1), true), "{text}");
    }
    assert_eq!(credentials.requests().len(), asked + 1);
}

/// A reload that refers to a new secret fetches it; one that cannot be had keeps the previous set.
#[test]
fn a_reload_fetches_what_is_new() {
    let aws = Aws::start();
    aws.tell(&format!("secret acme/one {SECRET}"));
    aws.tell(&format!("secret acme/two {NEWER}"));
    let upstream = files();
    let gateway =
        Gateway::start(&aws.reader(Setup::new(&upstream).policy(&key("one", "secretsmanager:acme/one"))));
    let path = gateway.policy_folder().join("acme.toml");
    let first = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{first}\n{}", key("two", "secretsmanager:acme/none"))).unwrap();
    gateway.line(|line| line["reason"].as_str().is_some_and(|reason| reason.contains("acme/none")));
    assert_eq!(gateway.get(&signed("one", SECRET)).status, 200);
    assert_eq!(gateway.get(&signed("two", NEWER)).status, 403);
    std::fs::write(&path, format!("{first}\n{}", key("two", "secretsmanager:acme/two"))).unwrap();
    poll(|| gateway.get(&signed("two", NEWER)).status == 200).expect("the new secret is not fetched");
}

#[test]
fn a_check_without_network() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("offline-policy");
    std::fs::create_dir_all(&folder).unwrap();
    let policy = "tenant = \"acme\"\n[[keys]]\nid = \"k\"\nsecret = \"secretsmanager:acme/key\"\n[[allow]]\nhost = \"a.example.com\"\n";
    let check = |text: &str, arguments: &[&str]| {
        std::fs::write(folder.join("acme.toml"), text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
            .env_clear()
            .args(["policy", "check"])
            .arg(&folder)
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = check(policy, &["--offline"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("no mistakes; 1 secret kept in AWS not fetched"), "{text}");
    let (code, text) = check(&policy.replace("allow", "alow"), &["--offline"]);
    assert_eq!((code, text.contains("alow")), (Some(1), true), "{text}");
    let (code, text) = check(policy, &[]);
    assert_eq!((code, text.contains("cannot fetch `secretsmanager:acme/key`")), (Some(1), true), "{text}");
}
