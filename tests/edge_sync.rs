//! The edge's entries on their way into the CloudFront KeyValueStore: over a real socket, into a stand-in that verifies
//! every SigV4A signature by itself and that AWS's own client passes too (`.tools/moto`; `aws/setup` installs it).

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use secrecy::SecretString;
use serde_json::Value;
use sluicegate::wire::edge::{Extent, sync};

type Entries = BTreeMap<String, String>;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const SECRET: &str = "sgk1_edge-0123456789abcdefghijklmnopqrstuvwxyz";
/// The variable that makes this program one sync instead of a test.
const RUN: &str = "EDGE_SYNC_RUN";

/// A running stand-in for the data plane.
struct Kvs {
    child: Child,
    pipe: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    hello: Value,
}

impl Kvs {
    fn start() -> Self {
        let mut child = python("kvs_server.py").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
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
        assert!(!line.is_empty(), "`{command}` ended the stand-in");
        line.trim_end().to_owned()
    }

    fn keys(&self) -> Entries {
        serde_json::from_str(&self.tell("keys")).unwrap()
    }

    fn calls(&self, operation: &str) -> u64 {
        let calls: Value = serde_json::from_str(&self.tell("calls")).unwrap();
        calls[operation].as_u64().unwrap_or(0)
    }

    /// The keys of each batch so far: written, deleted.
    fn updates(&self) -> Vec<(Vec<String>, Vec<String>)> {
        let updates: Vec<Value> = serde_json::from_str(&self.tell("updates")).unwrap();
        let keys = |keys: &Value| serde_json::from_value(keys.clone()).unwrap();
        updates.iter().map(|batch| (keys(&batch["puts"]), keys(&batch["deletes"]))).collect()
    }

    fn arn(&self) -> &str {
        self.hello["arn"].as_str().unwrap()
    }

    /// What AWS's own client makes of it.
    fn boto(&self, user: &str, what: &str) -> String {
        let port = self.hello["endpoint"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
        let mut command = python("kvs_boto.py");
        command.args([&port, self.arn(), what]).envs(self.credentials(user));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn credentials(&self, user: &str) -> Vec<(&'static str, String)> {
        let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
        let values = self.hello[user].as_array().unwrap().iter();
        names
            .into_iter()
            .zip(values)
            .filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())))
            .collect()
    }

    fn run(&self) -> Run {
        let endpoint = self.hello["endpoint"].as_str().unwrap();
        let run = Run { arn: self.arn().to_owned(), variables: Vec::new(), extent: Extent::default() };
        let run = run.variable("AWS_ENDPOINT_URL", endpoint);
        self.credentials("owner").into_iter().fold(run, |run, (name, value)| run.variable(name, &value))
    }

    /// What a sync did, if it is to succeed.
    fn sync(&self, wanted: &Entries) -> Value {
        self.run().of(wanted).unwrap()
    }
}

impl Drop for Kvs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn python(script: &str) -> Command {
    let python = format!("{ROOT}/.tools/moto/bin/python");
    assert!(std::path::Path::new(&python).exists(), "there is no `.tools/moto`; run `aws/setup` once");
    let mut command = Command::new(python);
    command.env_clear().arg(format!("{ROOT}/tests/aws/{script}"));
    command
}

/// One sync in a process of its own, since what it is told by the environment is the whole process's.
struct Run {
    arn: String,
    variables: Vec<(String, String)>,
    extent: Extent,
}

impl Run {
    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn arn(mut self, arn: &str) -> Self {
        arn.clone_into(&mut self.arn);
        self
    }

    fn extent(mut self, dry_run: bool, allow_empty: bool) -> Self {
        self.extent = Extent { dry_run, allow_empty };
        self
    }

    fn of(&self, wanted: &Entries) -> Result<Value, String> {
        let question =
            serde_json::json!([self.arn, wanted, self.extent.dry_run, self.extent.allow_empty]).to_string();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["one_sync", "--exact", "--ignored", "--nocapture"])
            .env_clear()
            .env(RUN, "1")
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(question.as_bytes()).unwrap();
        let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let said = output.lines().find_map(|line| line.split_once("said:")).expect("no answer").1;
        assert!(!said.contains("sgk1_"), "a value is shown: {said}");
        serde_json::from_str::<Result<Value, String>>(said).unwrap()
    }

    fn fails(&self, wanted: &Entries) -> String {
        self.of(wanted).expect_err("it succeeds")
    }
}

#[test]
#[ignore = "a process of the other tests"]
fn one_sync() {
    if std::env::var_os(RUN).is_none() {
        return;
    }
    let (arn, wanted, dry_run, allow_empty): (String, Entries, bool, bool) =
        serde_json::from_reader(std::io::stdin()).unwrap();
    let wanted: BTreeMap<String, SecretString> =
        wanted.into_iter().map(|(key, value)| (key, value.into())).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let said = runtime.block_on(sync(&arn, &wanted, Extent { dry_run, allow_empty })).map(|synced| {
        serde_json::json!({
            "written": synced.written, "deleted": synced.deleted, "unchanged": synced.unchanged,
            "foreign": synced.foreign, "updates": synced.updates, "calls": synced.calls, "bytes": synced.bytes,
            "debug": format!("{synced:?}"),
        })
    });
    println!("said:{}", serde_json::to_string(&said).unwrap());
}

/// `number` link keys of one tenant.
fn links(number: usize) -> Entries {
    (0..number).map(|n| (format!("k/key-{n:04}"), format!("acme:1:{SECRET}{n}"))).collect()
}

fn figures(said: &Value) -> [u64; 5] {
    ["written", "deleted", "unchanged", "foreign", "updates"].map(|name| said[name].as_u64().unwrap())
}

/// The stand-in is no easier than AWS: its own client gets through, and what was changed after signing does not.
#[test]
fn the_stand_in_verifies_signatures() {
    let kvs = Kvs::start();
    for user in ["owner", "temporary"] {
        let through: Value = serde_json::from_str(&kvs.boto(user, "through")).unwrap();
        let expected = serde_json::json!({ "listed": 23, "left": 0, "conflict": "ConflictException" });
        assert_eq!(through, expected, "{user}");
    }
    for what in ["body", "version", "region", "path", "date"] {
        assert_eq!(kvs.boto("owner", what), "InvalidSignatureException", "{what}");
    }
    assert!(kvs.keys().is_empty());
    assert_eq!(kvs.boto("owner", "nothing"), "accepted");
}

#[test]
fn only_what_differs_is_written() {
    let kvs = Kvs::start();
    let mut wanted = links(3);
    wanted.insert("r/acme/leaked".to_owned(), "1".to_owned());
    wanted.insert("i/issuer/audience".to_owned(), "acme:1".to_owned());
    wanted.insert("i/issuer/audience/key \u{e9}\"\\\n1".to_owned(), format!("{SECRET} \u{1f511}\u{1}"));
    kvs.tell("put routes mine");
    let dry = kvs.run().extent(true, false).of(&wanted).unwrap();
    assert_eq!((figures(&dry), kvs.keys().len()), ([6, 0, 0, 1, 1], 1), "a dry run");

    let said = kvs.sync(&wanted);
    assert_eq!(figures(&said), [6, 0, 0, 1, 1]);
    let mut all = wanted.clone();
    all.insert("routes".to_owned(), "mine".to_owned());
    assert_eq!(kvs.keys(), all);
    let bytes: usize = all.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert_eq!((said["bytes"].as_u64(), said["calls"].as_u64()), (Some(bytes as u64), Some(3)));

    assert_eq!(figures(&kvs.sync(&wanted)), [0, 0, 6, 1, 0]);
    assert_eq!(kvs.calls("UpdateKeys"), 1, "nothing to write, nothing written");

    wanted.insert("k/key-0001".to_owned(), "acme:2:other".to_owned());
    wanted.remove("k/key-0002");
    assert_eq!(figures(&kvs.sync(&wanted)), [1, 1, 4, 1, 1]);
    let (puts, deletes) = kvs.updates().pop().unwrap();
    assert_eq!((puts, deletes), (vec!["k/key-0001".to_owned()], vec!["k/key-0002".to_owned()]));
    wanted.insert("routes".to_owned(), "mine".to_owned());
    assert_eq!(kvs.keys(), wanted, "the foreign key stays");
}

#[test]
fn many_entries() {
    let kvs = Kvs::start();
    let said = kvs.sync(&links(1_203));
    assert_eq!(figures(&said), [1_203, 0, 0, 0, 25]);
    assert_eq!(kvs.keys(), links(1_203));
    assert_eq!(kvs.calls("ListKeys"), 1);
    let said = kvs.sync(&links(1_203));
    assert_eq!((figures(&said), kvs.calls("ListKeys")), ([0, 0, 1_203, 0, 0], 1 + 25));
    let said = kvs.sync(&links(3));
    assert_eq!((figures(&said), kvs.keys()), ([0, 1_200, 3, 0, 24], links(3)));
}

/// With temporary credentials, whose token has to be signed too; and by the variable that is the service's own.
#[test]
fn a_session() {
    let kvs = Kvs::start();
    let endpoint = kvs.hello["endpoint"].as_str().unwrap();
    let mut run = kvs
        .run()
        .variable("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        .variable("AWS_ENDPOINT_URL_CLOUDFRONT_KEYVALUESTORE", &format!("{endpoint}/"));
    for (name, value) in kvs.credentials("temporary") {
        run = run.variable(name, &value);
    }
    assert_eq!(figures(&run.of(&links(2)).unwrap()), [2, 0, 0, 0, 1]);
}

#[test]
fn somebody_else_writes_too() {
    let kvs = Kvs::start();
    kvs.tell("race 2");
    assert_eq!(figures(&kvs.sync(&links(60))), [60, 0, 0, 2, 2]);
    assert_eq!(kvs.calls("UpdateKeys"), 4);
    // Whatever the refusal is called.
    for (status, kind) in [(409, "ConflictException"), (412, "PreconditionFailed"), (400, "stale")] {
        kvs.tell(&format!("fail UpdateKeys 1 {status} {kind}"));
        let mut wanted = links(60);
        wanted.insert("k/new".to_owned(), format!("{SECRET}{status}"));
        assert_eq!(figures(&kvs.sync(&wanted)), [1, 0, 60, 2, 1]);
    }
    kvs.tell("race 100");
    let why = kvs.run().fails(&links(70));
    assert!(why.contains("changed by someone else each of 4 times"), "{why}");
    assert!(why.contains("409 ConflictException"), "{why}");
}

#[test]
fn aws_has_a_bad_moment() {
    let kvs = Kvs::start();
    for (operation, status, kind) in [
        ("DescribeKeyValueStore", 400, "ThrottlingException"),
        ("ListKeys", 429, "TooManyRequestsException"),
        ("UpdateKeys", 500, "InternalServerException"),
    ] {
        kvs.tell(&format!("fail {operation} 2 {status} {kind}"));
    }
    let said = kvs.sync(&links(2));
    assert_eq!((figures(&said), said["calls"].as_u64()), ([2, 0, 0, 0, 1], Some(3 + 6)));
    kvs.tell("fail ListKeys 100 503 ServiceUnavailable");
    let began = Instant::now();
    let why = kvs.run().fails(&links(3));
    assert!(why.starts_with("AWS answered 503 ServiceUnavailable: a failure that was asked for"), "{why}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(kvs.calls("ListKeys"), 3 + 4, "bounded");
}

/// An update that was written and not answered counts as what it is: there.
#[test]
fn an_answer_that_is_lost() {
    let kvs = Kvs::start();
    kvs.tell("mute 2");
    kvs.sync(&links(120));
    assert_eq!(kvs.keys(), links(120));
    assert_eq!(kvs.updates().len(), 3, "nothing is written twice");
}

#[test]
fn a_run_that_ends_in_the_middle_is_finished_by_the_next() {
    let kvs = Kvs::start();
    kvs.sync(&links(120));
    let mut wanted: Entries = links(60).into_keys().map(|key| (key, format!("acme:2:{SECRET}"))).collect();
    wanted.insert("r/acme/leaked".to_owned(), "1".to_owned());
    kvs.tell("die 1");
    let why = kvs.run().fails(&wanted);
    assert!(why.starts_with("cannot reach AWS") && why.contains("50 entries were written"), "{why}");
    assert!(why.contains("another run finishes it"), "{why}");
    let now = kvs.keys();
    assert!(now.contains_key("r/acme/leaked"), "revocations come first");
    assert!(now.contains_key("k/key-0119"), "deletions come last");
    kvs.tell("live");
    assert_eq!(figures(&kvs.sync(&wanted)), [11, 60, 50, 0, 2]);
    assert_eq!(kvs.keys(), wanted);
}

#[test]
fn nothing_left_is_a_mistake_until_it_is_meant() {
    let kvs = Kvs::start();
    assert_eq!(figures(&kvs.sync(&Entries::new())), [0; 5], "an empty store");
    kvs.sync(&links(2));
    let revocation = Entries::from([("r/acme/leaked".to_owned(), "1".to_owned())]);
    for wanted in [Entries::new(), revocation] {
        let why = kvs.run().fails(&wanted);
        assert!(why.contains("every link would be refused") && why.contains("--allow-empty"), "{why}");
        assert!(kvs.run().extent(true, false).of(&wanted).is_err(), "nor in a dry run");
    }
    assert_eq!(kvs.keys(), links(2));
    assert_eq!(figures(&kvs.run().extent(false, true).of(&Entries::new()).unwrap()), [0, 2, 0, 0, 1]);
}

/// Each says what is wrong; `Run::of` sees to it that none shows a value.
#[test]
fn what_cannot_be_done_is_said() {
    let kvs = Kvs::start();
    let one = |key: &str, value: &str| Entries::from([(key.to_owned(), value.to_owned())]);
    let links = links(2);
    let nobody = "arn:aws:cloudfront::123456789012:key-value-store/other";
    let long = "k".repeat(511);
    for (run, wanted, reason) in [
        (kvs.run().variable("AWS_SECRET_ACCESS_KEY", "wrong"), &links, "403 InvalidSignatureException"),
        (kvs.run().variable("AWS_ACCESS_KEY_ID", "AKIDNOBODY"), &links, "403 UnrecognizedClientException"),
        (kvs.run().variable("AWS_SESSION_TOKEN", "none"), &links, "403 InvalidSignatureException"),
        (kvs.run().variable("AWS_ACCESS_KEY_ID", ""), &links, "there are no AWS credentials"),
        (kvs.run().variable("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), &links, "cannot reach AWS"),
        (kvs.run().variable("AWS_ENDPOINT_URL", "no url"), &links, "cannot ask `no url/"),
        (kvs.run().arn(nobody), &links, "404 ResourceNotFoundException"),
        (kvs.run().arn("key-value-store/x"), &links, "is not the ARN of a KeyValueStore"),
        (kvs.run().arn(&nobody.replace("aws:", "aws-cn:")), &links, "is not the ARN of a KeyValueStore"),
        (kvs.run().arn(&nobody.replace("::", ":eu-west-1:")), &links, "is not the ARN of a KeyValueStore"),
        (kvs.run(), &one("routes", SECRET), "`routes` is not the key of an entry"),
        (kvs.run(), &one(&format!("k/{long}"), SECRET), "larger than CloudFront allows"),
        (kvs.run(), &one("k/1", &SECRET.repeat(30)), "larger than CloudFront allows"),
    ] {
        let began = Instant::now();
        let why = run.fails(wanted);
        assert!(why.contains(reason), "{reason} is not in {why}");
        assert!(began.elapsed() < Duration::from_secs(20), "{reason}");
    }
    // An error that repeats what was sent.
    kvs.tell("fail UpdateKeys 1 400 echo");
    let why = kvs.run().fails(&links);
    assert_eq!(why, "AWS answered 400 ValidationException: its words repeat a value and are not shown");
    assert!(kvs.keys().is_empty());
}

/// An address that answers nothing is given up on in bounded time.
#[test]
fn an_endpoint_that_is_silent() {
    let kvs = Kvs::start();
    // The kernel accepts the connection, and nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let began = Instant::now();
    let why = kvs.run().variable("AWS_ENDPOINT_URL", &endpoint).fails(&links(1));
    assert!(why.starts_with("cannot reach AWS"), "{why}");
    assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());
}
