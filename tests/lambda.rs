//! The Lambda door behind a stand-in Runtime API, byte by byte: what is posted, how it ends, and that the process goes on.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::Response;
use http::request::Parts;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Value, json};
use sluicegate::wire::body::{Body, full};
use sluicegate::wire::config::LambdaConfig;
use sluicegate::wire::handler::Terms;
use sluicegate::wire::lambda::{self, Answer, Reports};
use support::{Function, Link, Posted, RuntimeApi, Setup, Signal, Step, Upstream, event, ok, pattern, text};

const FILE: &str = "http://files.test.example/a.bin";

fn link() -> String {
    Link::to(FILE).query()
}

fn function(steps: impl Fn() -> Vec<Step> + Send + Sync + 'static) -> (Upstream, Function) {
    let upstream = Upstream::always(steps);
    let function = Function::start(short_times(Setup::new(&upstream)));
    (upstream, function)
}

fn short_times(setup: Setup) -> Setup {
    setup.set("timeouts.first_byte", "400ms").set("timeouts.idle", "400ms")
}

fn record(function: &Function, posted: &Posted) -> Value {
    function.decision(&posted.header("x-request-id").unwrap())
}

fn head_then(head: &str, steps: impl IntoIterator<Item = Step>) -> Vec<Step> {
    text(format!("HTTP/1.1 {head}\r\n\r\n")).into_iter().chain(steps).collect()
}

fn send(bytes: &str) -> Step {
    Step::Send(bytes.as_bytes().to_vec())
}

#[test]
fn a_file_as_the_platform_gets_it() {
    let fields = [("Content-Type", "text/plain"), ("ETag", "\"v1\""), ("Accept-Ranges", "bytes")];
    let (upstream, function) = function(move || vec![Step::Send(ok(&fields, b"hello"))]);
    let id =
        function.api.invoke(&event("GET", "/", &Link::to(FILE).with("filename", "Grüße.txt").query(), &[]));
    let posted = function.api.posted(&id);
    assert_eq!(posted.what, "response");
    for line in [
        "content-type: application/vnd.awslambda.http-integration-response",
        "lambda-runtime-function-response-mode: streaming",
        "transfer-encoding: chunked",
        &format!("lambda-runtime-invocation-id: attempt-{id}"),
    ] {
        assert!(posted.head.contains(&format!("\r\n{line}\r\n")), "{line} is not in {}", posted.head);
    }
    // Some emulators look for prelude and separator as pieces of their own.
    assert_eq!(posted.chunks[1], [0; 8]);
    assert_eq!((posted.body(), posted.whole), (b"hello".to_vec(), true));
    let prelude = posted.prelude();
    assert_eq!((&prelude["statusCode"], &prelude["cookies"]), (&json!(200), &json!([])));
    let headers = prelude["headers"].as_object().unwrap();
    assert!(headers.values().all(Value::is_string), "one value each: {headers:?}");
    for absent in ["content-length", "connection", "transfer-encoding", "accept-ranges", "set-cookie"] {
        assert!(!headers.contains_key(absent), "{absent}: {headers:?}");
    }
    for (name, value) in [
        ("x-sluicegate-length", "5"),
        ("x-request-id", id.as_str()),
        ("etag", "\"v1\""),
        ("content-disposition", "attachment; filename=\"Gr__e.txt\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe.txt"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    let record = function.decision(&id);
    assert_eq!((&record["outcome"], &record["bytes"]), (&json!("whole"), &json!(5)));
    assert_eq!(upstream.requests().len(), 1);
}

type Script = fn() -> Vec<Step>;

/// In every fault the post ends aborted, never clean, and the same process goes on.
#[test]
fn a_broken_body_aborts_the_post_and_the_process_goes_on() {
    let faults: [(&str, Script); 7] = [
        ("reset after five bytes", || {
            let drip = Step::Drip(vec![b"hello".to_vec()], Duration::from_millis(100));
            head_then("200 OK\r\nContent-Length: 10", [drip, Step::Reset])
        }),
        ("reset before the first byte", || head_then("200 OK\r\nContent-Length: 10", [Step::Reset])),
        ("closed short", || head_then("200 OK\r\nContent-Length: 10", [send("hello wor"), Step::Close])),
        ("no last chunk", || {
            head_then("200 OK\r\nTransfer-Encoding: chunked", [send("5\r\nhello\r\n"), Step::Close])
        }),
        ("broken chunk", || {
            head_then("200 OK\r\nTransfer-Encoding: chunked", [send("5\r\nhello\r\nzz\r\n"), Step::Stall])
        }),
        ("stall", || head_then("200 OK\r\nContent-Length: 10", [send("hello"), Step::Stall])),
        ("stall before the first byte", || head_then("200 OK\r\nContent-Length: 10", [Step::Stall])),
    ];
    let upstream = Upstream::start(move |request| match request.target().strip_prefix("/fault-") {
        Some(number) => faults[number.parse::<usize>().unwrap()].1(),
        None => vec![Step::Send(ok(&[], b"whole"))],
    });
    let function = Function::start(short_times(Setup::new(&upstream)));
    for (number, (name, _)) in faults.iter().enumerate() {
        let url = format!("http://files.test.example/fault-{number}");
        let posted = function.get(&Link::to(&url).query());
        assert!(!posted.whole, "{name} looks whole: {posted:?}");
        assert_eq!(posted.status(), 200, "{name}");
        assert!(b"hello wor".starts_with(&posted.body()), "{name}: {:?}", posted.body().escape_ascii());
        let record = record(&function, &posted);
        assert_eq!(record["outcome"], "aborted", "{name}: {record}");
        let next = function.get(&link());
        assert_eq!((next.body(), next.whole), (b"whole".to_vec(), true), "after {name}");
    }
}

#[test]
fn answers_without_a_body() {
    let script = |request: &support::Request| match (request.method(), request.target()) {
        (_, "/empty") => vec![Step::Send(ok(&[("Content-Type", "text/plain")], b""))],
        (_, "/empty-chunked") => text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (_, "/same") if request.header("if-none-match").is_some() => {
            text("HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n")
        }
        ("HEAD", _) => text("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        _ => vec![Step::Send(ok(&[], b"hello"))],
    };
    for fill in [false, true] {
        let upstream = Upstream::start(script);
        let function = Function::start(Setup::new(&upstream).set("lambda.fill_bodyless", &fill.to_string()));
        let nothing: &[u8] = if fill { b"\n" } else { b"" };
        let file = |path: &str| Link::to(&format!("http://files.test.example{path}")).query();
        for (method, query, headers, status) in [
            ("HEAD", link(), vec![], 200),
            ("HEAD", "url=x".to_owned(), vec![], 401),
            ("GET", file("/same"), vec![("if-none-match", "\"v1\"")], 304),
            ("OPTIONS", String::new(), vec![("access-control-request-method", "GET")], 204),
            // 204 is how an empty file is answered: it says the same and has no body that could hang.
            ("GET", file("/empty"), vec![], 204),
            ("GET", file("/empty-chunked"), vec![], 204),
            ("HEAD", file("/empty"), vec![], 204),
        ] {
            let posted = function.request(method, &query, &headers);
            assert_eq!((posted.status(), posted.whole), (status, true), "{method} {query}");
            assert_eq!(posted.body(), nothing, "{method} {query}");
        }
        let empty = function.get(&file("/empty"));
        assert_eq!(empty.header("x-sluicegate-length").as_deref(), Some("0"));
        assert_eq!(function.get(&link()).body(), b"hello", "a body is never filled");
    }
}

/// Stands in for the gateway and panics where it is told to; started as a process of its own by the test below.
struct Panics;

impl Answer for Panics {
    async fn answer(&self, request: Parts, _: Terms) -> Response<Body> {
        let body = match request.uri.query() {
            Some("head") => panic!("on purpose, in the handler"),
            Some("first") => stream::poll_fn(|_| panic!("on purpose, before the first byte")).boxed(),
            Some("later") => {
                let hello = stream::once(async { Ok(Frame::data(Bytes::from_static(b"hello"))) });
                hello.chain(stream::poll_fn(|_| panic!("on purpose, after five bytes"))).boxed()
            }
            _ => return Response::new(full("whole")),
        };
        Response::new(StreamBody::new(body).boxed_unsync())
    }
}

const PANICS: &str = "SLUICEGATE_TEST_PANICS";

#[test]
fn serve_what_panics() {
    if std::env::var_os(PANICS).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime
            .block_on(lambda::serve(Arc::new(Panics), &LambdaConfig::default(), Reports::default()))
            .unwrap();
    }
}

/// A panic in the middle of a body aborts the post; one before the first byte is answered with 500. The process goes on.
#[test]
fn a_panic_ends_one_answer_and_nothing_else() {
    let api = RuntimeApi::start();
    let own = std::env::current_exe().unwrap();
    let mut command = Command::new(own);
    command.args(["serve_what_panics", "--exact", "--nocapture"]);
    let mut process = Function::spawn(command, &api, Setup::bare().variable(PANICS, "1"));
    let invoke = |query: &str| api.posted(&api.invoke(&event("GET", "/", query, &[])));
    for _ in 0..2 {
        let later = invoke("later");
        assert!(!later.whole, "{later:?}");
        assert_eq!((later.status(), later.body()), (200, b"hello".to_vec()));
        assert_eq!(invoke("").body(), b"whole");
        for query in ["head", "first"] {
            invoke(query).expect(500, "internal_error");
            assert_eq!((invoke("").body(), invoke("").whole), (b"whole".to_vec(), true), "after {query}");
        }
    }
    let (_, text) = process.end();
    assert_eq!(text.matches("on purpose").count(), 6, "{text}");
}

/// Managed instances send several invocations to one process.
#[test]
fn several_invocations_at_once() {
    let both = Signal::new();
    let gate = both.clone();
    let upstream = Upstream::start(move |request| match request.target() {
        "/broken" => {
            head_then("200 OK\r\nContent-Length: 9", [send("hel"), Step::Wait(gate.clone()), Step::Close])
        }
        _ => head_then("200 OK\r\nContent-Length: 5", [send("hel"), Step::Wait(gate.clone()), send("lo")]),
    });
    let setup = Setup::new(&upstream).variable("AWS_LAMBDA_MAX_CONCURRENCY", "4");
    let function = Function::start(setup);
    function.api.wait_polls(4);
    let broken = Link::to("http://files.test.example/broken").query();
    let ids = [link(), broken, link()].map(|query| function.api.invoke(&event("GET", "/", &query, &[])));
    upstream.wait_requests(3);
    both.give();
    let posted = ids.map(|id| function.api.posted(&id));
    assert_eq!(posted.each_ref().map(|posted| posted.whole), [true, false, true]);
    assert_eq!((posted[0].body(), posted[2].body()), (b"hello".to_vec(), b"hello".to_vec()));
}

#[test]
fn ranges_are_answered_whole() {
    let (upstream, function) = function(|| vec![Step::Send(ok(&[("Accept-Ranges", "bytes")], b"hello"))]);
    let posted = function.request("GET", &link(), &[("range", "bytes=1-2"), ("if-range", "\"v1\"")]);
    assert_eq!((posted.status(), posted.body()), (200, b"hello".to_vec()));
    assert_eq!(
        (upstream.requests()[0].header("range"), upstream.requests()[0].header("if-range")),
        (None, None)
    );
}

#[test]
fn what_is_too_large_is_refused_before_its_first_byte() {
    let upstream = Upstream::start(|request| match request.target() {
        // What follows the answer to HEAD would be read as the next one, if it comes late enough.
        "/known" if request.method() == "HEAD" => head_then("200 OK\r\nContent-Length: 1001", []),
        "/known" => head_then("200 OK\r\nContent-Length: 1001", [Step::Zeros(1001)]),
        "/fits" => head_then("200 OK\r\nContent-Length: 1000", [Step::Zeros(1000)]),
        _ => head_then(
            "200 OK\r\nTransfer-Encoding: chunked",
            [send("3e9\r\n"), Step::Zeros(1001), send("\r\n0\r\n\r\n")],
        ),
    });
    let file = |path: &str| Link::to(&format!("http://files.test.example{path}")).query();
    let refusing = Function::start(Setup::new(&upstream).set("lambda.max_bytes", "1000 B"));
    for method in ["GET", "HEAD"] {
        assert_eq!(refusing.request(method, &file("/known"), &[]).status(), 413);
    }
    refusing.get(&file("/known")).expect(413, "object_too_large");
    assert_eq!(refusing.get(&file("/fits")).body().len(), 1000);
    let unknown = refusing.get(&file("/unknown"));
    assert!(!unknown.whole && unknown.body().len() <= 1000, "aborted at the limit");

    let redirects = "[response]\noversize = \"redirect\"";
    let redirecting =
        Function::start(Setup::new(&upstream).policy(redirects).set("lambda.max_bytes", "1000 B"));
    let posted = redirecting.get(&file("/known"));
    posted.expect(307, "fetch_directly");
    assert_eq!(posted.header("location").as_deref(), Some("http://files.test.example/known"));
    assert_eq!(posted.header("cache-control").as_deref(), Some("no-store"));
    let head = redirecting.request("HEAD", &file("/known"), &[]);
    assert_eq!((head.status(), head.body()), (307, Vec::new()), "a HEAD carries nothing");
    assert_eq!(redirecting.get(&file("/fits")).status(), 200);
}

/// The platform undoes codings and drops their label; what arrived would be another file.
#[test]
fn a_coded_body_is_not_relayed() {
    let (_upstream, function) =
        function(|| vec![Step::Send(ok(&[("Content-Encoding", "gzip")], b"\x1f\x8b"))]);
    function.get(&link()).expect(502, "upstream_error");
}

#[test]
fn the_invocations_time_is_respected() {
    let (_upstream, function) = function(|| {
        let drips = vec![b"x".to_vec(); 100];
        head_then("200 OK\r\nContent-Length: 100", [Step::Drip(drips, Duration::from_millis(100))])
    });
    // Three seconds, of which one is kept to end the response visibly: an emulator would see it within the time.
    let id = function.api.invoke_within(&event("GET", "/", &link(), &[]), Duration::from_secs(3));
    let posted = function.api.posted(&id);
    assert!(!posted.whole && !posted.body().is_empty(), "{posted:?}");
    let record = function.decision(&id);
    assert_eq!(record["outcome"], "aborted");
    assert!(record["reason"].as_str().unwrap().contains("longer than allowed"), "{record}");
    assert!(record["total_ms"].as_u64().unwrap() < 3000, "{record}");
}

/// `cargo lambda watch` says 1970.
#[test]
fn a_deadline_in_the_past_is_not_believed() {
    let (_upstream, function) = function(|| vec![Step::Send(ok(&[], b"hello"))]);
    let id = function.api.invoke_within(&event("GET", "/", &link(), &[]), Duration::ZERO);
    assert_eq!(function.api.posted(&id).body(), b"hello");
}

/// A platform that takes nothing any more cannot keep the process.
#[test]
fn a_platform_that_stalls_ends_the_invocation() {
    let (upstream, function) =
        function(|| head_then("200 OK\r\nContent-Length: 100000000", [Step::Zeros(100_000_000)]));
    let signal = Signal::new();
    function.api.stall(&signal);
    let id = function.api.invoke_within(&event("GET", "/", &link(), &[]), Duration::from_secs(3));
    let record = function.decision(&id);
    assert_eq!(record["outcome"], "aborted", "{record}");
    upstream.wait_ended(0);
    function.api.wait_polls(2);
    signal.give();
    assert!(!function.api.posted(&id).whole);
}

/// Nor one that refuses: what it refused is given up at once, and so is its upstream.
#[test]
fn a_platform_that_refuses_is_not_sent_the_rest() {
    let (upstream, function) = function(|| {
        let drips = vec![vec![b'x'; 1000]; 600];
        head_then("200 OK\r\nContent-Length: 600000", [Step::Drip(drips, Duration::from_millis(100))])
    });
    function.api.refuse(true);
    let id = function.api.invoke(&event("GET", "/", &link(), &[]));
    function.api.wait_given_up(&id);
    upstream.wait_ended(0);
    function.api.wait_polls(2);
}

/// A report of what is no request may go unanswered as well.
#[test]
fn a_report_that_nobody_takes_ends_with_its_time() {
    let (_upstream, function) = function(|| vec![Step::Send(ok(&[], b"hello"))]);
    let signal = Signal::new();
    function.api.stall(&signal);
    function.api.invoke_within(&json!({}), Duration::from_secs(3));
    function.api.wait_polls(2);
    signal.give();
}

#[test]
fn an_upstream_connection_is_used_again() {
    let (upstream, function) = function(|| vec![Step::Send(ok(&[], b"hello"))]);
    for _ in 0..3 {
        assert_eq!(function.get(&link()).body(), b"hello");
    }
    assert_eq!((upstream.requests().len(), upstream.connections()), (3, 1));
}

/// Only the edge's word counts, and there is exactly one.
#[test]
fn who_the_client_is() {
    let (upstream, function) = function(|| vec![Step::Send(ok(&[], b"hello"))]);
    let query = Link::to(FILE).with("ip", "198.51.100.7").query();
    for (headers, status) in [
        (vec![("x-sluicegate-client", "198.51.100.7")], 200),
        (vec![("x-sluicegate-client", "::ffff:198.51.100.7")], 200),
        (vec![("x-sluicegate-client", "198.51.100.8")], 403),
        (vec![("x-sluicegate-client", "198.51.100.7"), ("x-sluicegate-client", "198.51.100.7")], 403),
        (vec![("x-forwarded-for", "198.51.100.7")], 403),
        (vec![], 403),
    ] {
        assert_eq!(function.request("GET", &query, &headers).status(), status, "{headers:?}");
    }
    assert_eq!(upstream.requests().len(), 2);
}

/// What no HTTP message could carry, and events that are no requests: an answer or a report, never a panic.
#[test]
fn hostile_events() {
    let (upstream, function) = function(|| vec![Step::Send(ok(&[], b"hello"))]);
    let good = link();
    let path = |path: &str| event("GET", path, &good, &[]);
    let mut no_path = path("/");
    no_path.as_object_mut().unwrap().remove("rawPath");
    let mut bad_header = path("/");
    bad_header["headers"]["x-bad"] = json!("a\r\nb: c");
    let mut bad_name = path("/");
    bad_name["headers"]["x bad"] = json!("a");
    let mut bad_host = path("/");
    bad_host["headers"]["host"] = json!("a b");
    let mut method = path("/");
    method["requestContext"]["http"]["method"] = json!("G E T");
    for (name, event, status) in [
        ("no path is the root", no_path, 200),
        ("another path", path("/x"), 404),
        ("a path with a query in it", path(&format!("/?{good}&x=")), 404),
        ("a path that is none", path("/a b"), 404),
        ("a path that names a host", path("http://x/"), 404),
        ("a path that names a host alone", path("HTTP://evil:80/"), 404),
        ("a path without a slash", path("x"), 404),
        ("a raw space", event("GET", "/", "url=a b", &[]), 400),
        ("a fragment", event("GET", "/", &format!("{good}#x"), &[]), 400),
        ("raw quotes", event("GET", "/", "url=\"<>\\^`{|}\"", &[]), 400),
        ("not ASCII", event("GET", "/", "url=\u{e9}", &[]), 400),
        ("a header with a line break", bad_header, 400),
        ("a header name with a space", bad_name, 400),
        ("a host that is none", bad_host, 400),
        ("a method that is none", method, 400),
        ("POST", event("POST", "/", &good, &[]), 405),
        ("no query", event("GET", "/", "", &[]), 401),
    ] {
        let posted = function.invoke(&event);
        assert_eq!(
            (posted.what.as_str(), posted.status(), posted.whole),
            ("response", status, true),
            "{name}"
        );
    }
    for (name, event) in [
        ("nothing", json!(null)),
        ("an empty test event", json!({})),
        ("a schedule", json!({ "source": "aws.events", "detail-type": "Scheduled Event" })),
        ("a list", json!([1, 2, 3])),
        ("a deep one", (0..100).fold(json!({}), |inner, _| json!([inner]))),
    ] {
        let posted = function.invoke(&event);
        assert_eq!((posted.what.as_str(), posted.whole), ("error", true), "{name}");
        let report: Value = serde_json::from_slice(&posted.bytes()).unwrap();
        assert_eq!(report["errorType"], "Sluicegate.NotARequest", "{name}");
    }
    assert_eq!(upstream.requests().len(), 1, "only the good one");
    assert_eq!(function.get(&good).body(), b"hello", "the process goes on");
}

#[test]
fn two_hundred_megabytes() {
    const LENGTH: u64 = 200_000_000;
    let (_upstream, function) =
        function(|| head_then("200 OK\r\nContent-Length: 200000000", [Step::Pattern(0, LENGTH)]));
    let posted = function.get(&link());
    assert!(posted.whole);
    assert!(posted.body() == pattern(0, LENGTH), "not the same bytes");
    assert!(function.peak_rss() < 64 << 20, "{} bytes", function.peak_rss());
}

/// What keeps the function from starting is said, and the platform sees the process end.
#[test]
fn what_cannot_start_says_why() {
    let api = RuntimeApi::start();
    for (setup, reason) in [
        (Setup::bare().policy("nonsense"), "the policy cannot be used"),
        (Setup::bare().set("lambda.max_bytes", "much"), "SLUICEGATE_LAMBDA_MAX_BYTES"),
        (Setup::bare().set("usage.file", "/tmp/usage.jsonl"), "`usage.file` is `/tmp/usage.jsonl`"),
        (Setup::bare().variable("AWS_LAMBDA_RUNTIME_API", ""), "AWS_LAMBDA_RUNTIME_API"),
    ] {
        let (code, text) = Function::spawn(Command::new(support::bootstrap()), &api, setup).wait();
        assert_eq!(code, Some(1));
        assert!(text.contains(reason), "{text}");
    }
}
