//! What an upstream may do wrong, byte by byte: a truncated file is never presented as whole, two versions are never
//! stitched together, and one answer is never taken for another's.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use support::{Answer, End, Gateway, Request, Setup, Signal, Step, Upstream, ok, pattern, text};

const FILE: &str = "http://files.test.example/a.bin";
const IDLE: Duration = Duration::from_millis(400);

/// What an upstream does, always.
type Script = fn() -> Vec<Step>;

fn short_times(setup: Setup) -> Setup {
    setup
        .set("timeouts.resolve", "200ms")
        .set("timeouts.connect", "200ms")
        .set("timeouts.first_byte", "200ms")
        .set("timeouts.idle", "400ms")
}

/// A head and then these steps.
fn head_then(head: &str, steps: impl IntoIterator<Item = Step>) -> Vec<Step> {
    text(format!("HTTP/1.1 {head}\r\n\r\n")).into_iter().chain(steps).collect()
}

fn send(bytes: &str) -> Step {
    Step::Send(bytes.as_bytes().to_vec())
}

/// The answer to a single request, and its decision record.
fn once(steps: impl Fn() -> Vec<Step> + Send + Sync + 'static) -> (Answer, serde_json::Value) {
    let upstream = Upstream::always(steps);
    let gateway = Gateway::start(&short_times(Setup::new(&upstream)));
    let answer = gateway.fetch(FILE);
    let record = gateway.record(&answer);
    (answer, record)
}

/// A body that fails at once takes the head with it: the client then sees a connection that ends without an answer.
#[track_caller]
fn expect_abort(name: &str, answer: &Answer, record: &serde_json::Value) {
    assert!(matches!(answer.status, 200 | 0), "{name}: {}", answer.head);
    assert!(!answer.complete(), "{name} looks whole: {:?} {}", answer.end, answer.head);
    assert_eq!((&record["outcome"], &record["status"]), (&"aborted".into(), &200.into()), "{name}: {record}");
    assert!(record["bytes"].as_u64() >= Some(answer.body.len() as u64), "{name}: {record}");
}

#[test]
fn a_truncated_file_is_never_whole() {
    let cases: [(&str, &str, Script); 10] = [
        ("reset within the length", "hello", || {
            // The pause lets the bytes arrive before the reset, which throws away what waits to be read.
            let drip = Step::Drip(vec![b"hello".to_vec()], Duration::from_millis(100));
            head_then("200 OK\r\nContent-Length: 10", [drip, Step::Reset])
        }),
        ("reset before the first byte", "", || head_then("200 OK\r\nContent-Length: 10", [Step::Reset])),
        ("closed short of the length", "hello", || {
            head_then("200 OK\r\nContent-Length: 10", [send("hello"), Step::Close])
        }),
        ("closed one byte short", "hello wor", || {
            head_then("200 OK\r\nContent-Length: 10", [send("hello wor"), Step::Close])
        }),
        ("no last chunk", "hello", || {
            head_then("200 OK\r\nTransfer-Encoding: chunked", [send("5\r\nhello\r\n"), Step::Close])
        }),
        ("closed within a chunk", "hel", || {
            head_then("200 OK\r\nTransfer-Encoding: chunked", [send("5\r\nhel"), Step::Close])
        }),
        ("broken chunk size", "hello", || {
            head_then(
                "200 OK\r\nTransfer-Encoding: chunked",
                [send("5\r\nhello\r\nzz\r\nhello\r\n0\r\n\r\n")],
            )
        }),
        ("chunk size past 64 bits", "hello", || {
            head_then(
                "200 OK\r\nTransfer-Encoding: chunked",
                [send("5\r\nhello\r\n1ffffffffffffffff\r\nhello")],
            )
        }),
        ("stall within the length", "hello", || {
            head_then("200 OK\r\nContent-Length: 10", [send("hello"), Step::Stall])
        }),
        ("stall between chunks", "hello", || {
            head_then("200 OK\r\nTransfer-Encoding: chunked", [send("5\r\nhello\r\n"), Step::Stall])
        }),
    ];
    for (name, most, script) in cases {
        let (answer, record) = once(script);
        expect_abort(name, &answer, &record);
        assert!(most.as_bytes().starts_with(&answer.body), "{name}: {:?}", answer.body.escape_ascii());
    }
}

/// HTTP/1.0 and the like promise no length: FIN is the end of the body, but a reset is not.
#[test]
fn a_body_that_ends_with_the_connection() {
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let head = format!("{version} 200 OK\r\nContent-Type: text/plain\r\n\r\nhello");
        let whole = head.clone();
        let (answer, record) = once(move || text(&whole).into_iter().chain([Step::Close]).collect());
        assert_eq!((&answer.body[..], answer.end), (&b"hello"[..], End::Chunked), "{}", answer.head);
        assert_eq!(record["outcome"], "whole");
        let (answer, record) = once(move || {
            vec![Step::Drip(vec![head.clone().into_bytes()], Duration::from_millis(100)), Step::Reset]
        });
        expect_abort(version, &answer, &record);
    }
}

/// Bytes behind an answer are nobody's answer, whether they come with it or later (T37).
#[test]
fn surplus_bytes_are_nobodys_answer() {
    const FORGED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nETag: \"forged\"\r\n\r\nforged";
    let script = |request: &Request| match request.target() {
        "/surplus" => vec![Step::Send([&ok(&[], b"first")[..], FORGED.as_bytes()].concat())],
        "/bodied-304" => text(format!("HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n{FORGED}")),
        "/bodied-head" => vec![Step::Send([&ok(&[], FORGED.as_bytes())[..], FORGED.as_bytes()].concat())],
        _ => vec![Step::Send(ok(&[], b"own"))],
    };
    let upstream = Upstream::start(script);
    let gateway = Gateway::start(&Setup::new(&upstream));
    for _ in 0..20 {
        for (method, path, headers, status, body) in [
            ("GET", "/surplus", &[][..], 200, &b"first"[..]),
            ("GET", "/bodied-304", &[("If-None-Match", "\"v1\"")][..], 304, b""),
            ("HEAD", "/bodied-head", &[], 200, b""),
        ] {
            let query = gateway.link(&format!("http://files.test.example{path}")).query();
            let answer = gateway.request(method, &query, headers);
            assert_eq!((answer.status, &answer.body[..]), (status, body), "{path}");
            let next = gateway.fetch(FILE);
            assert_eq!((next.status, &next.body[..]), (200, &b"own"[..]), "after {path}: {}", next.head);
            assert_eq!(next.header("etag"), None);
        }
    }
}

/// A forged answer on an idle connection ends that connection.
#[test]
fn late_surplus_ends_the_connection() {
    let late = Signal::new();
    let given = late.clone();
    let upstream = Upstream::start(move |request| match request.number {
        0 => vec![
            Step::Send(ok(&[], b"first")),
            Step::Wait(given.clone()),
            Step::Send(ok(&[], b"forged")),
            Step::Stall,
        ],
        _ => vec![Step::Send(ok(&[], b"own"))],
    });
    let gateway = Gateway::start(&Setup::new(&upstream));
    assert_eq!(gateway.fetch(FILE).body, b"first");
    late.give();
    upstream.wait_ended(0);
    assert_eq!(gateway.fetch(FILE).body, b"own");
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn a_206_that_does_not_answer_is_refused() {
    for (asked, answer) in [
        ("bytes=2-5", "206 Partial Content\r\nContent-Length: 4\r\n\r\n2345"),
        ("bytes=2-5", "206 Partial Content\r\nContent-Range: bytes 0-3/10\r\nContent-Length: 4\r\n\r\n0123"),
        ("bytes=2-5", "206 Partial Content\r\nContent-Range: bytes 2-6/10\r\nContent-Length: 5\r\n\r\n23456"),
        ("bytes=2-5", "206 Partial Content\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 3\r\n\r\n234"),
        ("bytes=2-5", "206 Partial Content\r\nContent-Range: bytes 2-5/10\r\nContent-Length: 3\r\n\r\n234"),
        ("bytes=2-5", "206 Partial Content\r\nContent-Range: bytes 2-5/10\r\nContent-Length: 5\r\n\r\n23456"),
        ("bytes=2-5", "206 Partial Content\r\nContent-Range: bytes 2-5/4\r\nContent-Length: 4\r\n\r\n2345"),
        ("bytes=2-5", "206 Partial Content\r\nContent-Range: bytes */10\r\nContent-Length: 4\r\n\r\n2345"),
        (
            "bytes=2-5",
            "206 Partial Content\r\nContent-Range: bytes 2-5/10\r\nContent-Range: bytes 2-5/10\r\nContent-Length: 4\r\n\r\n2345",
        ),
        (
            "bytes=2-5",
            "206 Partial Content\r\nContent-Type: multipart/byteranges; boundary=x\r\nContent-Length: 4\r\n\r\n2345",
        ),
        ("bytes=-4", "206 Partial Content\r\nContent-Range: bytes 5-8/10\r\nContent-Length: 4\r\n\r\n5678"),
        ("bytes=2-5", "200 OK\r\nContent-Range: bytes 2-5/10\r\nContent-Length: 4\r\n\r\n2345"),
        ("", "206 Partial Content\r\nContent-Range: bytes 0-9/10\r\nContent-Length: 10\r\n\r\n0123456789"),
        ("", "416 Range Not Satisfiable\r\nContent-Range: bytes */10\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let upstream = Upstream::always(move || text(format!("HTTP/1.1 {answer}")));
        let gateway = Gateway::start(&Setup::new(&upstream));
        let headers = [("Range", asked)];
        let headers = if asked.is_empty() { &[][..] } else { &headers[..] };
        let refused = gateway.request("GET", &gateway.link(FILE).query(), headers);
        assert_eq!(refused.status, 502, "{asked} {answer}: {}", refused.head);
    }
}

/// A 206 in chunks promises as many bytes as its Content-Range.
#[test]
fn a_206_carries_its_range_or_is_aborted() {
    for (body, whole) in [
        ("4\r\n2345\r\n0\r\n\r\n", true),
        ("3\r\n234\r\n0\r\n\r\n", false),
        ("5\r\n23456\r\n0\r\n\r\n", false),
    ] {
        let upstream = Upstream::always(move || {
            head_then(
                "206 Partial Content\r\nContent-Range: bytes 2-5/10\r\nTransfer-Encoding: chunked",
                [send(body)],
            )
        });
        let gateway = Gateway::start(&Setup::new(&upstream));
        let answer = gateway.request("GET", &gateway.link(FILE).query(), &[("Range", "bytes=2-5")]);
        assert!(answer.status == 206 || (answer.status == 0 && !whole), "{}", answer.head);
        assert_eq!(answer.complete(), whole, "{body:?} {:?}", answer.end);
        assert_eq!(answer.body == b"2345", whole);
    }
}

/// The versioned upstream of the resume tests: the file is the pattern.
fn part(request: &Request, size: u64, tag: &str) -> String {
    let from = request.from();
    let (status, range) = if from > 0 || request.header("range").is_some() {
        ("206 Partial Content", format!("Content-Range: bytes {from}-{}/{size}\r\n", size - 1))
    } else {
        ("200 OK", String::new())
    };
    format!("{status}\r\n{range}ETag: {tag}\r\nAccept-Ranges: bytes\r\nContent-Length: {}", size - from)
}

#[test]
fn a_large_file_survives_five_deaths() {
    const SIZE: u64 = 50_000_000;
    const PIECE: u64 = 9_000_000;
    let upstream = Upstream::start(|request| {
        let from = request.from();
        if request.number > 0 {
            assert_eq!(request.header("if-range"), Some("\"v1\""));
        }
        let to = if request.number < 5 { from + PIECE } else { SIZE };
        let death = if request.number % 2 == 0 { Step::Reset } else { Step::Close };
        head_then(&part(request, SIZE, "\"v1\""), [Step::Pattern(from, to), death])
    });
    let gateway = Gateway::start(&Setup::new(&upstream));
    let answer = gateway.fetch(FILE);
    assert_eq!((answer.status, answer.end), (200, End::Length), "{}", answer.head);
    assert_eq!(Sha256::digest(&answer.body), Sha256::digest(pattern(0, SIZE)));
    let record = gateway.record(&answer);
    assert_eq!((&record["outcome"], &record["resumed"]), (&"whole".into(), &5.into()), "{record}");
    assert_eq!(record["bytes"], SIZE);
    assert_eq!(upstream.requests().len(), 6);
}

/// A part is resumed within its own bounds.
#[test]
fn a_part_is_resumed_as_a_part() {
    let upstream = Upstream::start(|request| {
        let (from, to) = if request.number == 0 { (10, 30) } else { (30, 100) };
        assert_eq!(request.header("range"), Some(&*format!("bytes={from}-99")));
        let head = format!(
            "206 Partial Content\r\nContent-Range: bytes {from}-99/1000\r\nETag: \"v1\"\r\nContent-Length: {}",
            100 - from
        );
        head_then(&head, [Step::Pattern(from, to), Step::Close])
    });
    let gateway = Gateway::start(&Setup::new(&upstream));
    let answer = gateway.request("GET", &gateway.link(FILE).query(), &[("Range", "bytes=10-99")]);
    assert_eq!((answer.status, answer.end), (206, End::Length));
    assert_eq!(answer.body, pattern(10, 100));
}

/// Two versions are never stitched together (T50).
#[test]
fn a_resume_that_is_not_the_rest_of_the_same_file_aborts() {
    for second in [
        "206 Partial Content\r\nContent-Range: bytes 10-99/100\r\nETag: \"v2\"\r\nContent-Length: 90",
        "206 Partial Content\r\nContent-Range: bytes 10-99/100\r\nETag: W/\"v1\"\r\nContent-Length: 90",
        "206 Partial Content\r\nContent-Range: bytes 11-99/100\r\nETag: \"v1\"\r\nContent-Length: 89",
        "206 Partial Content\r\nContent-Range: bytes 0-99/100\r\nETag: \"v1\"\r\nContent-Length: 100",
        "206 Partial Content\r\nContent-Range: bytes 10-98/100\r\nETag: \"v1\"\r\nContent-Length: 89",
        "206 Partial Content\r\nContent-Range: bytes 10-99/101\r\nETag: \"v1\"\r\nContent-Length: 90",
        "206 Partial Content\r\nContent-Range: bytes 10-99/100\r\nETag: \"v1\"\r\nContent-Length: 91",
        "206 Partial Content\r\nETag: \"v1\"\r\nContent-Length: 90",
        "200 OK\r\nETag: \"v1\"\r\nContent-Length: 100",
        "200 OK\r\nETag: \"v2\"\r\nContent-Length: 100",
        "416 Range Not Satisfiable\r\nContent-Range: bytes */10\r\nContent-Length: 0",
        "404 Not Found\r\nContent-Length: 0",
        "302 Found\r\nLocation: http://elsewhere.test.example/\r\nContent-Length: 0",
    ] {
        let upstream = Upstream::start(move |request| match request.header("range") {
            None => head_then(&part(request, 100, "\"v1\""), [Step::Pattern(0, 10), Step::Close]),
            Some(_) => head_then(second, [Step::Pattern(10, 110), Step::Close]),
        });
        let gateway = Gateway::start(&Setup::new(&upstream));
        let answer = gateway.fetch(FILE);
        let record = gateway.record(&answer);
        expect_abort(second, &answer, &record);
        assert_eq!(answer.body, pattern(0, 10), "{second}");
        assert_eq!(upstream.requests().len(), 2, "{second}");
    }
}

/// Without a strong validator or without ranges there is nothing to resume with.
#[test]
fn what_cannot_be_named_is_not_resumed() {
    for fields in [
        "ETag: W/\"v1\"\r\nAccept-Ranges: bytes",
        "ETag: v1\r\nAccept-Ranges: bytes",
        "ETag: \"v1\"\r\nAccept-Ranges: none",
        "ETag: \"v1\"",
        "ETag: \"v1\"\r\nETag: \"v1\"\r\nAccept-Ranges: bytes",
        "Accept-Ranges: bytes",
    ] {
        let upstream = Upstream::always(move || {
            head_then(&format!("200 OK\r\n{fields}\r\nContent-Length: 10"), [send("hello"), Step::Close])
        });
        let gateway = Gateway::start(&Setup::new(&upstream));
        let answer = gateway.fetch(FILE);
        expect_abort(fields, &answer, &gateway.record(&answer));
        assert_eq!(upstream.requests().len(), 1, "{fields}");
    }
}

/// An upstream that is gone for good is given up after a few tries.
#[test]
fn resuming_ends() {
    let upstream = Upstream::start(|request| {
        if request.number > 0 {
            return vec![Step::Close];
        }
        head_then(&part(request, 100, "\"v1\""), [Step::Pattern(0, 10), Step::Close])
    });
    let gateway = Gateway::start(&Setup::new(&upstream));
    let answer = gateway.fetch(FILE);
    expect_abort("gone", &answer, &gateway.record(&answer));
    assert!((2..=8).contains(&upstream.requests().len()), "{}", upstream.requests().len());
}

#[test]
fn a_body_that_outgrows_the_policy_is_aborted() {
    let upstream = Upstream::always(|| {
        head_then("200 OK\r\nTransfer-Encoding: chunked", [send("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")])
    });
    let gateway = Gateway::start(&Setup::new(&upstream).policy("[response]\nmax_bytes = \"10 B\""));
    let answer = gateway.fetch(FILE);
    let record = gateway.record(&answer);
    expect_abort("11 of 10 bytes", &answer, &record);
    assert!(answer.body.len() <= 10, "{:?}", answer.body);
    let exactly = Gateway::start(&Setup::new(&upstream).policy("[response]\nmax_bytes = \"11 B\""));
    assert_eq!(exactly.fetch(FILE).body, b"hello world");
}

#[test]
fn a_head_that_does_not_come_is_a_timeout() {
    let pieces = || vec![b"a".to_vec(); 200];
    let scripts: [(&str, Script); 3] = [
        ("nothing", || vec![Step::Stall]),
        ("half a head", || vec![send("HTTP/1.1 200 OK\r\nX-Half: "), Step::Stall]),
        ("1xx only", || vec![send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), Step::Stall]),
    ];
    for (name, script) in scripts {
        let (answer, _) = once(script);
        assert_eq!((answer.status, answer.code()), (504, "upstream_timeout".to_owned()), "{name}");
    }
    let began = Instant::now();
    let (answer, _) = once(move || {
        vec![send("HTTP/1.1 200 OK\r\nX-Slow: "), Step::Drip(pieces(), Duration::from_millis(50))]
    });
    answer.expect(504, "upstream_timeout");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// Slow is allowed, standing still is not (T38).
#[test]
fn slow_but_steady_is_allowed() {
    let letters = || (b'a'..=b'j').map(|letter| vec![letter]).collect::<Vec<_>>();
    let (answer, record) =
        once(move || head_then("200 OK\r\nContent-Length: 10", [Step::Drip(letters(), IDLE / 4)]));
    assert_eq!((&answer.body[..], answer.end), (&b"abcdefghij"[..], End::Length));
    assert!(record["total_ms"].as_u64() > Some(u64::try_from(IDLE.as_millis()).unwrap()), "{record}");
    let (answer, record) =
        once(move || head_then("200 OK\r\nContent-Length: 10", [Step::Drip(letters(), IDLE * 3)]));
    expect_abort("slower than the idle time-out", &answer, &record);
    assert!(record["reason"].as_str().unwrap().contains("stalled"), "{record}");
}

#[test]
fn a_transfer_ends_at_its_deadline() {
    let upstream = Upstream::always(|| {
        head_then(
            "200 OK\r\nContent-Length: 1000",
            [Step::Drip(vec![b"x".to_vec(); 1000], Duration::from_millis(20))],
        )
    });
    let gateway = Gateway::start(&Setup::new(&upstream).set("timeouts.transfer", "500ms"));
    let answer = gateway.fetch(FILE);
    let record = gateway.record(&answer);
    expect_abort("past the deadline", &answer, &record);
    assert!(record["reason"].as_str().unwrap().contains("longer than allowed"), "{record}");
}

/// What a head says is read in one way only, or refused (T36, T44).
#[test]
fn a_contradictory_head_is_refused() {
    let long = format!("200 OK\r\nX-Long: {}\r\nContent-Length: 5\r\n\r\nhello", "x".repeat(600_000));
    let many = format!("200 OK\r\n{}Content-Length: 5\r\n\r\nhello", "X-Many: x\r\n".repeat(150));
    let flood = format!("100 Continue\r\n\r\n{}", "HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000));
    for answer in [
        "200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "200 OK\r\nContent-Length: 5, 6\r\n\r\nhello!",
        "200 OK\r\nContent-Length: +5\r\n\r\nhello",
        "200 OK\r\nContent-Length: -5\r\n\r\nhello",
        "200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
        "200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        "200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        "200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "101 Switching Protocols\r\nUpgrade: demon\r\nConnection: Upgrade\r\n\r\ndemon",
        "200 OK\r\nX-Null: a\0b\r\nContent-Length: 5\r\n\r\nhello",
        "200 OK\r\nX Space: a\r\nContent-Length: 5\r\n\r\nhello",
        "200 OK\r\nContent-Length : 5\r\n\r\nhello",
        "99 Low\r\nContent-Length: 5\r\n\r\nhello",
        "204 No Content\r\n\r\n",
        "304 Not Modified\r\n\r\n",
        "300 Multiple Choices\r\nContent-Length: 5\r\n\r\nhello",
        "407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
        "401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
        &long,
        &many,
        &flood,
    ] {
        let bytes = format!("HTTP/1.1 {answer}");
        let (refused, _) = once(move || text(&bytes).into_iter().chain([Step::Close]).collect());
        let start = &answer[..answer.len().min(80)];
        assert_eq!(refused.status, 502, "{start}: {}", refused.head);
        assert_eq!((refused.header("upgrade"), refused.header("www-authenticate")), (None, None), "{start}");
    }
    for garbage in [
        "",
        "\0\0\0\0",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let (refused, _) = once(move || text(garbage).into_iter().chain([Step::Close]).collect());
        assert_eq!(refused.status, 502, "{garbage}");
    }
}

/// Interim answers are read and forgotten; a length that stands twice with one value is one length (RFC 9110 8.6).
#[test]
fn what_is_unusual_but_clear_is_served() {
    for answer in [
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </demon>\r\nETag: \"demon\"\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5;ext=1\r\nhello\r\n0\r\nX-Trailer: demon\r\n\r\n",
        "HTTP/1.1 200 \r\ncontent-length:5\r\n\r\nhello",
        "HTTP/1.1 203 Non-Authoritative Information\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let (served, record) = once(move || text(answer));
        assert_eq!((served.status, &served.body[..]), (200, &b"hello"[..]), "{answer}: {}", served.head);
        assert!(served.complete() && !served.head.contains("demon"), "{}", served.head);
        assert_eq!(record["outcome"], "whole");
    }
}

/// A coding that was not asked for passes through, labelled and untouched (T41, T42).
#[test]
fn nothing_is_decompressed() {
    let bomb = b"\x1f\x8b\x08\0\0\0\0\0\0\x03not really";
    let (answer, _) = once(move || vec![Step::Send(ok(&[("Content-Encoding", "gzip")], bomb))]);
    assert_eq!((answer.header("content-encoding"), &answer.body[..]), (Some("gzip"), &bomb[..]));
}

/// A client that goes away ends the upstream's work within seconds (T40).
#[test]
fn the_upstream_ends_with_the_client() {
    let scripts: [(&str, Script); 3] = [
        ("before the head", || vec![Step::Stall]),
        ("between two bytes", || head_then("200 OK\r\nContent-Length: 10", [send("hello"), Step::Stall])),
        ("in full flow", || {
            head_then("200 OK\r\nContent-Length: 4000000000", [Step::Pattern(0, 4_000_000_000)])
        }),
    ];
    // Who says that nothing more will come goes too.
    for ((name, script), says_so) in scripts.into_iter().flat_map(|script| [(script, false), (script, true)])
    {
        let upstream = Upstream::always(script);
        let setup = Setup::new(&upstream).set("timeouts.idle", "1m").set("timeouts.first_byte", "1m");
        let gateway = Gateway::start(&setup);
        let mut client = gateway.client();
        client.request("GET", &gateway.link(FILE).query(), &[]);
        upstream.wait_requests(1);
        if name != "before the head" {
            assert_eq!(client.head().unwrap().status, 200);
            client.peek(5);
        }
        let _still_there = if says_so {
            client.finish();
            Some(client)
        } else {
            drop(client);
            None
        };
        let left = Instant::now();
        upstream.wait_ended(0);
        assert!(left.elapsed() < Duration::from_secs(5), "{name}: {:?}", left.elapsed());
        let record = gateway.line(|line| line["target"] == "sluicegate::decision");
        let outcome = if name == "before the head" { "unanswered" } else { "aborted" };
        assert_eq!(record["outcome"], outcome, "{name}: {record}");
    }
}
