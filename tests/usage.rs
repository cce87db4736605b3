//! Usage from end to end: requests whose bytes the client counts itself, the server's log and its `usage.file`, and
//! `sluicegate usage` over both.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use support::{
    Answer, Client, End, Gateway, Link, Request, Setup, Signal, Step, Upstream, ok, pattern, poll, sluicegate,
};

const SIZE: u64 = 100_000;
const FLOW: u64 = 1_000_000;

/// A folder that goes with its owner.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let name = format!("usage-{name}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        std::fs::write(self.file(name), text).unwrap();
        self.file(name)
    }

    fn usage(&self, arguments: &[&str]) -> Output {
        sluicegate(&self.0).arg("usage").args(arguments).output().unwrap()
    }

    /// The rows of `usage --json`, which has to end well.
    fn sums(&self, arguments: &[&str]) -> Value {
        let output = self.usage(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn lines(file: &str) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Waits until the file has so many lines.
fn wait_lines(file: &str, count: usize) {
    poll(|| lines(file).len() >= count).unwrap_or_else(|| panic!("only {:?}", lines(file)));
}

const GLOBEX: &str = "tenant = \"globex\"\n[[keys]]\nid = \"globex-1\"\nsecret = \"file:rig.secret\"\n\
    [[allow]]\nhost = \"files.test.example\"\nschemes = [\"http\"]\n";

fn setup(upstream: &Upstream, usage: &str) -> Setup {
    Setup::new(upstream)
        .policy("[[keys]]\nid = \"acme-2\"\nsecret = \"file:rig.secret\"")
        .tenant("globex", GLOBEX)
        .set("usage.file", usage)
}

/// A file, or the part of it that is asked for, without what a gateway could resume it by unless there is a tag.
fn head(request: &Request, size: u64, tag: &str) -> Step {
    let from = request.from();
    let (status, range) = match request.header("range") {
        Some(_) => ("206 Partial Content", format!("Content-Range: bytes {from}-{}/{size}\r\n", size - 1)),
        None => ("200 OK", String::new()),
    };
    let text = format!("HTTP/1.1 {status}\r\n{range}{tag}Content-Length: {}\r\n\r\n", size - from);
    Step::Send(text.into_bytes())
}

fn script(request: &Request, cut: &Signal) -> Vec<Step> {
    let from = request.from();
    match request.target() {
        _ if request.method() == "HEAD" => vec![head(request, SIZE, "")],
        "/same" => vec![Step::Send(b"HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n".to_vec())],
        "/cut" if from == 0 => {
            vec![head(request, 100, ""), Step::Pattern(0, 40), Step::Wait(cut.clone()), Step::Close]
        }
        "/cut" => vec![head(request, 100, ""), Step::Pattern(from, 100)],
        "/flow" => vec![head(request, 10 * FLOW, ""), Step::Pattern(0, FLOW), Step::Stall],
        "/resumed" => {
            let to = if from == 0 { SIZE / 3 } else { SIZE };
            let tag = "ETag: \"v1\"\r\nAccept-Ranges: bytes\r\n";
            vec![head(request, SIZE, tag), Step::Pattern(from, to), Step::Close]
        }
        _ => vec![head(request, SIZE, ""), Step::Pattern(from, SIZE)],
    }
}

fn link(path: &str, kid: &str) -> String {
    Link::to(&format!("http://files.test.example{path}")).with("kid", kid).query()
}

/// What a client got, by key.
#[derive(Default)]
struct Received(BTreeMap<&'static str, u64>);

impl Received {
    fn take(&mut self, gateway: &Gateway, kid: &'static str, answer: &Answer) {
        gateway.record(answer);
        *self.0.entry(kid).or_default() += answer.body.len() as u64;
    }
}

/// Every kind of request, each waited for to its record. What the client that leaves had by then comes back too.
fn requests(gateway: &Gateway, cut: &Signal) -> (Received, u64) {
    let mut received = Received::default();
    let mut ask = |method: &str, path: &str, kid: &'static str, fields: &[(&str, &str)]| {
        let answer = gateway.request(method, &link(path, kid), fields);
        received.take(gateway, kid, &answer);
        (answer.status, answer.body.len() as u64, answer.end)
    };
    assert_eq!(ask("GET", "/a.bin", "acme-1", &[]), (200, SIZE, End::Length));
    assert_eq!(ask("HEAD", "/a.bin", "acme-1", &[]), (200, 0, End::Bodiless));
    assert_eq!(ask("GET", "/same", "acme-1", &[("If-None-Match", "\"v1\"")]).0, 304);
    assert_eq!(ask("GET", "/resumed", "acme-1", &[]), (200, SIZE, End::Length));
    assert_eq!(ask("GET", "/a.bin", "acme-2", &[("Range", "bytes=0-")]), (206, SIZE, End::Length));
    assert_eq!(ask("GET", "/a.bin", "globex-1", &[]), (200, SIZE, End::Length));

    // Cut off at the upstream, and gone on with by the client: two requests, one download.
    let mut client = gateway.client();
    client.request("GET", &link("/cut", "acme-2"), &[]);
    let mut half = client.head().unwrap();
    client.peek(40);
    cut.give();
    half.body = client.drain().0;
    assert_eq!((half.status, half.body.len()), (200, 40));
    received.take(gateway, "acme-2", &half);
    let rest = gateway.request("GET", &link("/cut", "acme-2"), &[("Range", "bytes=40-")]);
    assert_eq!([half.body, rest.body.clone()].concat(), pattern(0, 100));
    received.take(gateway, "acme-2", &rest);

    let mut leaving = gateway.client();
    leaving.request("GET", &link("/flow", "globex-1"), &[]);
    let head = leaving.head().unwrap();
    let had = leaving.peek(5000).len() as u64;
    drop(leaving);
    gateway.record(&head);

    // Refused after proof, refused before it, and what is no link at all.
    let elsewhere = gateway.get(&Link::to("http://elsewhere.example/").query());
    elsewhere.expect(403, "url_not_allowed");
    gateway.record(&elsewhere);
    let forged = gateway.get(
        &Link::to("http://files.test.example/").secret("not the secret, but long enough to be one").query(),
    );
    forged.expect(403, "invalid_signature");
    gateway.record(&forged);
    (received, had)
}

/// The rows by key, without what takes time.
fn by_key(sums: &Value) -> BTreeMap<String, [u64; 9]> {
    let number = |row: &Value, name: &str| row[name].as_u64().unwrap_or_else(|| panic!("{name} of {row}"));
    let names =
        ["requests", "downloads", "continued", "whole", "aborted", "refused", "bodiless", "resumed", "bytes"];
    let mut rows: BTreeMap<String, [u64; 9]> = BTreeMap::new();
    for row in sums["rows"].as_array().unwrap() {
        let tenant = row["tenant"].as_str().unwrap();
        let key = row["key"].as_str().map_or_else(|| tenant.to_owned(), |key| format!("{tenant} {key}"));
        // Midnight may pass in between: then a key has two rows.
        let sum = rows.entry(key).or_default();
        names.iter().zip(sum).for_each(|(name, sum)| *sum += number(row, name));
    }
    rows
}

#[test]
fn sums_are_what_clients_received() {
    let cut = Signal::new();
    let held = cut.clone();
    let upstream = Upstream::start(move |request| script(request, &held));
    let place = Place::new("sums");
    let usage = place.file("usage.jsonl");
    let mut gateway = Gateway::start(&setup(&upstream, &usage));
    let (received, had) = requests(&gateway, &cut);
    assert_eq!(gateway.stop().0, Some(0));
    let log: Vec<_> = gateway.lines().iter().map(|line| line.to_string() + "\n").collect();
    let log = place.write("log.jsonl", log.concat());

    let sums = place.sums(&["--by", "key", &usage]);
    let rows = by_key(&sums);
    let flow = rows["globex globex-1"][8] - SIZE;
    assert!((had..=FLOW).contains(&flow), "{had} to {FLOW}: {flow}");
    let expected = [
        // requests, downloads, continued, whole, aborted, refused, bodiless, resumed, bytes
        ("acme acme-1", [5, 2, 0, 2, 0, 1, 2, 1, 2 * SIZE]),
        ("acme acme-2", [3, 2, 1, 2, 1, 0, 0, 0, SIZE + 100]),
        ("globex globex-1", [2, 2, 0, 1, 1, 0, 0, 0, SIZE + flow]),
    ];
    assert_eq!(rows, expected.map(|(key, sum)| (key.to_owned(), sum)).into());
    for (kid, bytes) in received.0 {
        let tenant = kid.split('-').next().unwrap();
        let flow = if kid == "globex-1" { flow } else { 0 };
        assert_eq!(rows[&format!("{tenant} {kid}")][8], bytes + flow, "{kid}");
    }
    assert_eq!(by_key(&place.sums(&["--by", "key", &log])), rows, "the log and the file differ");
    let tenants = by_key(&place.sums(&[&usage]));
    assert_eq!(tenants["acme"], [8, 4, 1, 4, 1, 1, 2, 1, 3 * SIZE + 100]);
    // Shipped twice, and from both sources.
    let twice = place.sums(&["--by", "key", &usage, &log, &usage]);
    assert_eq!((by_key(&twice), &twice["duplicates"]), (rows, &20.into()));
    check_lines(&usage, &gateway.lines());
}

/// The file has the log's records of proven tenants, field by field, and no other line.
fn check_lines(usage: &str, log: &[Value]) {
    let without_time = |mut line: Value| {
        let time = line.as_object_mut().unwrap().remove("timestamp").unwrap();
        assert!(time.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{time}");
        assert_eq!(time.as_str().unwrap().len(), "2026-11-24T02:22:36.116243Z".len(), "{time}");
        (line["request_id"].as_str().unwrap().to_owned(), line)
    };
    let kept: BTreeMap<_, _> =
        lines(usage).iter().map(|line| without_time(serde_json::from_str(line).unwrap())).collect();
    let proven = |line: &&Value| line["target"] == "sluicegate::decision" && line["tenant"].is_string();
    let logged: BTreeMap<_, _> = log.iter().filter(proven).cloned().map(without_time).collect();
    assert_eq!((kept.len(), &kept), (10, &logged));
    for line in kept.values() {
        let host = if line["code"] == "url_not_allowed" { "elsewhere.example" } else { "files.test.example" };
        assert_eq!(line["host"], host, "{line}");
        assert_eq!(line["range_from"].is_u64(), line["status"] == 206, "{line}");
    }
    let first: Value = serde_json::from_str(&lines(usage)[0]).unwrap();
    assert_eq!(first["message"], "request");
    assert!(lines(usage)[0].starts_with("{\"timestamp\":"), "what a reader finds the next record by");
}

fn hello() -> Upstream {
    Upstream::always(|| vec![Step::Send(ok(&[], b"hello"))])
}

fn fetch(gateway: &Gateway) {
    let answer = gateway.get(&link("/a.bin", "acme-1"));
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
    gateway.record(&answer);
}

#[test]
fn a_killed_process_leaves_whole_lines() {
    let upstream = Upstream::start(|request| match request.target() {
        "/held" => vec![head(request, SIZE, ""), Step::Pattern(0, 5), Step::Stall],
        _ => vec![Step::Send(ok(&[], b"hello"))],
    });
    let place = Place::new("killed");
    let usage = place.file("usage.jsonl");
    let mut gateway = Gateway::start(&setup(&upstream, &usage));
    (0..3).for_each(|_| fetch(&gateway));
    wait_lines(&usage, 3);
    let mut held = gateway.client();
    held.request("GET", &link("/held", "acme-1"), &[]);
    held.peek(5);
    gateway.kill();
    assert_eq!(by_key(&place.sums(&[&usage]))["acme"], [3, 3, 0, 3, 0, 0, 0, 0, 15]);

    // A machine that lost its power may leave less than a line. It stays alone on its line, and is not passed over.
    let half = lines(&usage)[0].split_at(150).0.to_owned();
    std::fs::OpenOptions::new().append(true).open(&usage).unwrap().write_all(half.as_bytes()).unwrap();
    let mut gateway = Gateway::start(&setup(&upstream, &usage));
    fetch(&gateway);
    assert_eq!(gateway.stop().0, Some(0));
    assert_eq!((lines(&usage).len(), &lines(&usage)[3]), (5, &half));
    let output = place.usage(&["--json", &usage]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains(&format!("{usage}:4: a record that cannot be counted")),
        "{}",
        said(&output)
    );
    let sums: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&sums["total"]["requests"], &sums["unreadable"]), (&4.into(), &1.into()));
}

/// What the end of the process cuts off has its record too, in the log as in the file.
#[test]
fn a_stop_leaves_everything_in_the_file_and_in_the_log() {
    let upstream = Upstream::start(|request| vec![head(request, SIZE, ""), Step::Pattern(0, 5), Step::Stall]);
    let place = Place::new("stopped");
    let usage = place.file("usage.jsonl");
    let mut gateway = Gateway::start(&setup(&upstream, &usage).set("shutdown_grace", "100ms"));
    // On several threads, where there are several cores.
    let held: Vec<_> = (0..6)
        .map(|_| {
            let mut held = gateway.client();
            held.request("GET", &link("/held", "acme-1"), &[]);
            assert_eq!(held.head().unwrap().status, 200);
            held.peek(5);
            held
        })
        .collect();
    let (code, log) = gateway.stop();
    drop(held);
    assert_eq!(code, Some(1), "downloads did not finish");
    assert_eq!(by_key(&place.sums(&[&usage]))["acme"], [6, 6, 0, 0, 6, 0, 0, 0, 30]);
    assert_eq!(log.matches("sluicegate::decision").count(), 6, "{log}");
}

#[test]
fn a_renamed_or_removed_file_is_begun_anew() {
    let (upstream, place) = (hello(), Place::new("rotated"));
    let (usage, old) = (place.file("usage.jsonl"), place.file("usage.jsonl.1"));
    let mut gateway = Gateway::start(&setup(&upstream, &usage));
    fetch(&gateway);
    wait_lines(&usage, 1);
    std::fs::rename(&usage, &old).unwrap();
    fetch(&gateway);
    wait_lines(&usage, 1);
    assert_eq!(by_key(&place.sums(&[&old, &usage]))["acme"], [2, 2, 0, 2, 0, 0, 0, 0, 10]);
    std::fs::remove_file(&usage).unwrap();
    fetch(&gateway);
    wait_lines(&usage, 1);
    fetch(&gateway);
    assert_eq!(gateway.stop().0, Some(0));
    assert_eq!((lines(&old).len(), lines(&usage).len()), (1, 2));
}

/// The value of the one metric about it.
fn lost(gateway: &Gateway) -> u64 {
    let line = gateway.line(|line| line["message"] == "metrics");
    let address = line["address"].as_str().unwrap().strip_prefix("http://").unwrap();
    let mut client = Client::connect(address.strip_suffix("/metrics").unwrap().parse().unwrap());
    client.send("GET /metrics HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n");
    let text = String::from_utf8(client.answer("GET").body).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix("sluicegate_usage_records_lost_total "));
    value.expect("no such metric").parse().unwrap()
}

fn outages(gateway: &Gateway) -> usize {
    let is_one = |line: &&Value| {
        line["level"] == "ERROR" && line["message"].as_str().unwrap().starts_with("usage records are lost")
    };
    gateway.lines().iter().filter(is_one).count()
}

#[test]
fn a_full_disk_loses_records_and_no_request() {
    let upstream = hello();
    let mut gateway = Gateway::start(&setup(&upstream, "/dev/full").set("metrics.listen", "127.0.0.1:0"));
    assert_eq!(lost(&gateway), 0);
    (0..5).for_each(|_| fetch(&gateway));
    poll(|| lost(&gateway) == 5).expect("five are lost");
    assert_eq!(gateway.stop().0, Some(0));
    assert_eq!(outages(&gateway), 1);
}

/// A limit on the size of files cuts a line in the middle, as a disk that becomes full does.
#[test]
fn a_file_that_cannot_grow_keeps_whole_lines() {
    let (upstream, place) = (hello(), Place::new("limited"));
    let (usage, old) = (place.file("usage.jsonl"), place.file("usage.jsonl.1"));
    let mut command = Command::new("/bin/sh");
    // Blocks of 512 bytes. The signal would end the process; a full disk sends none.
    command.args(["-c", "trap '' XFSZ; ulimit -f 5; exec \"$0\" serve"]).arg(support::program());
    let setup = setup(&upstream, &usage).set("metrics.listen", "127.0.0.1:0");
    let mut gateway = Gateway::start_by(command, &setup);
    (0..10).for_each(|_| fetch(&gateway));
    poll(|| lost(&gateway) + lines(&usage).len() as u64 == 10).expect("each is there or lost");
    let kept = lines(&usage).len() as u64;
    assert!((2..10).contains(&kept), "{kept}");
    assert_eq!(by_key(&place.sums(&[&usage]))["acme"][0], kept, "and no half line");
    std::fs::rename(&usage, &old).unwrap();
    fetch(&gateway);
    let again = gateway.line(|line| line["message"] == "usage records are written again");
    assert_eq!((again["lost"].as_u64(), lines(&usage).len()), (Some(10 - kept), 1));
    assert_eq!(gateway.stop().0, Some(0));
    assert_eq!(outages(&gateway), 1);
}

#[test]
fn a_file_that_cannot_be_opened_is_refused_at_the_start() {
    let place = Place::new("unwritable");
    let pipe = place.file("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (file, reason) in [
        (place.file("missing/usage.jsonl"), "No such file"),
        (place.file(""), "directory"),
        (pipe, "it is a pipe"),
    ] {
        let output = sluicegate(&place.0).arg("serve").env("SLUICEGATE_USAGE_FILE", &file).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("cannot append to `{file}`: ")) && said.contains(reason), "{said}");
        assert!(said.contains("`usage.file`"), "{said}");
    }
}

// --- The command, over records that are written here.

fn record(id: &str, time: &str, fields: &Value) -> String {
    let mut record = json!({
        "timestamp": time, "request_id": id, "tenant": "acme", "key": "acme-1", "status": 200, "outcome": "whole",
        "bytes": 1000, "total_ms": 1500, "target": "sluicegate::decision",
    });
    record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    // `timestamp` comes first in a log.
    let rest = record.as_object_mut().unwrap();
    let time = rest.remove("timestamp").unwrap();
    format!("{{\"timestamp\":{time},{}\n", record.to_string().split_at(1).1)
}

fn some_records() -> String {
    [
        record("1", "2026-11-24T23:59:59Z", &json!({})),
        record("2", "2026-11-24T10:00:00Z", &json!({ "key": "acme-2", "outcome": "aborted", "bytes": 400 })),
        record(
            "3",
            "2026-11-25T00:00:00Z",
            &json!({ "status": 206, "range_from": 400, "bytes": 600, "resumed": 2 }),
        ),
        record(
            "4",
            "2026-11-24T12:00:00Z",
            &json!({ "tenant": "globex", "key": "g,\"1", "total_ms": 3_600_000 }),
        ),
        "a line of something else\n".to_owned(),
    ]
    .concat()
}

#[test]
fn prints_a_table_csv_and_json() {
    let place = Place::new("printed");
    let log = place.write("log", some_records());
    let table = "\
tenant  day         requests  downloads  continued  whole  aborted  refused  bodiless  resumed  bytes     transfer
acme    2026-11-24         2          2          0      1        1        0         0        0   1400  0:00:03.000
acme    2026-11-25         1          0          1      1        0        0         0        2    600  0:00:01.500
globex  2026-11-24         1          1          0      1        0        0         0        0   1000  1:00:00.000
total                      4          3          1      3        1        0         0        2   3000  1:00:04.500
";
    assert_eq!(printed(&place.usage(&[&log])), table);
    let csv = "\
tenant,key,day,requests,downloads,continued,whole,aborted,refused,bodiless,resumed,bytes,transfer_ms
acme,acme-1,2026-11-24,1,1,0,1,0,0,0,0,1000,1500
acme,acme-1,2026-11-25,1,0,1,1,0,0,0,2,600,1500
acme,acme-2,2026-11-24,1,1,0,0,1,0,0,0,400,1500
globex,\"g,\\\"\"1\",2026-11-24,1,1,0,1,0,0,0,0,1000,3600000
";
    assert_eq!(printed(&place.usage(&["--by", "key", "--csv", &log])), csv);
    let chosen = place.sums(&["--from", "2026-11-24", "--to", "2026-11-24", "--tenant", "acme", &log]);
    assert_eq!(
        (
            &chosen["rows"].as_array().unwrap().len(),
            &chosen["total"]["bytes"],
            &chosen["from"],
            &chosen["by"]
        ),
        (&1, &1400.into(), &"2026-11-24".into(), &"tenant".into())
    );
    assert_eq!(chosen["rows"][0]["day"], "2026-11-24");
    let none = place.usage(&["--from", "2026-11-26", &log]);
    assert_eq!(none.status.code(), Some(0));
    assert!(said(&none).contains("there are some of 2026-11-24 to 2026-11-25"), "{}", said(&none));
}

#[test]
fn reads_standard_input_and_several_files() {
    let place = Place::new("input");
    let log = place.write("log", some_records());
    let whole = printed(&place.usage(&[&log]));
    for arguments in [&[][..], &["-"]] {
        let mut command = sluicegate(&place.0);
        command.arg("usage").args(arguments).stdin(Stdio::from(std::fs::File::open(&log).unwrap()));
        assert_eq!(printed(&command.output().unwrap()), whole);
    }
    // A container's name in front, CR at the end, all glued together, and the other way round in two files.
    let records = some_records();
    let mut all: Vec<_> = records.lines().filter(|line| line.starts_with('{')).collect();
    let glued = place.write("glued", all.concat());
    let framed = place.write("framed", format!("gateway-1 | {}\r\n", all.join("\r\ngateway-1 | ")));
    all.reverse();
    let (one, two) = (place.write("one", all[..1].join("\n")), place.write("two", all[1..].join("\n")));
    for files in [&[&*glued][..], &[&framed], &[&one, &two], &[&two, &one]] {
        assert_eq!(printed(&place.usage(files)), whole, "{files:?}");
    }
}

#[test]
fn says_what_is_wrong_with_what_was_given() {
    let place = Place::new("wrong");
    let log = place.write("log", some_records());
    let text = place.write("text", "2026-11-24T10:00:00Z  INFO sluicegate::decision: request status=200\n");
    let packed = place.write("log.gz", b"\x1f\x8b\x08\0");
    let missing = place.file("missing");
    for (arguments, status, reason) in [
        (&[&*missing][..], 2, "name a log in JSON"),
        (&[&log, &missing], 2, "cannot read"),
        (&[&packed], 2, "zcat"),
        (&[&text], 1, "no decision records in what was read; is `log = \"json\"` set"),
        (&["/dev/null"], 1, "no decision records"),
        (&["--from", "20261124", &log], 2, "write one such as 2026-11-24"),
        (&["--to", "2026-11-31", &log], 2, "write one such as 2026-11-24"),
        (&["--from", "2026-11-25", "--to", "2026-11-24", &log], 2, "`2026-11-25` is after `2026-11-24`"),
        (&["--tenant", "A b", &log], 2, "A b"),
        (&["--json", "--csv", &log], 2, "--csv"),
    ] {
        let output = place.usage(arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?} {}", said(&output));
        assert!(
            said(&output).contains(reason) && printed(&output).is_empty(),
            "{arguments:?} {}",
            said(&output)
        );
    }
}

/// Records that cannot be counted are said to be, the first few with their place, and what can be is counted all the same.
#[test]
fn nothing_is_lost_silently() {
    let place = Place::new("unreadable");
    let bad = record("9", "2026-11-24T10:00:00Z", &json!({ "bytes": -1 }));
    let long = format!("{}\n", "x".repeat(2 << 20));
    let log = place.write("log", some_records() + &bad.repeat(7) + &long + &some_records());
    let output = place.usage(&[&log]);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert_eq!(said.matches("a record that cannot be counted: ").count(), 5, "{said}");
    assert!(said.contains(&format!("{log}:6: ")) && said.contains("8 records cannot be counted"), "{said}");
    assert!(said.contains("4 records were there once more and are counted once"), "{said}");
    assert!(printed(&output).contains("total                      4          3"), "{}", printed(&output));
}
