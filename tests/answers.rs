//! What a good answer says beside the bytes, and what it never says.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use support::{Gateway, HOST, Setup, Signal, Step, TENANT, Upstream, now, ok, pattern, text};

const FILE: &str = "http://files.test.example/a.bin";

fn serving(fields: &'static [(&'static str, &'static str)]) -> Upstream {
    Upstream::start(move |_| vec![Step::Send(ok(fields, b"0123456789"))])
}

/// T45, T56: one disposition, nothing to run, nothing of the upstream's that was not asked for.
#[test]
fn the_fields_of_a_download_are_a_list() {
    let upstream = serving(&[
        ("content-type", "text/html; charset=utf-8"),
        ("set-cookie", "a=b"),
        ("server", "internal/1"),
        ("vary", "*"),
        ("x-frame-options", "DENY"),
        ("link", "</x>; rel=preload"),
        ("refresh", "0; url=http://evil.example/"),
        ("content-disposition", "inline; filename=\"x.html\""),
        ("www-authenticate", "Basic"),
        ("etag", "\"v1\""),
    ]);
    let gateway = Gateway::start(&Setup::new(&upstream));
    let answer = gateway.get(&gateway.link(FILE).with("disposition", "inline").query());
    let mut names: Vec<_> = answer.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "access-control-allow-origin",
            "access-control-expose-headers",
            "cache-control",
            "content-disposition",
            "content-length",
            "content-security-policy",
            "content-type",
            "cross-origin-resource-policy",
            "date",
            "etag",
            "referrer-policy",
            "vary",
            "x-content-type-options",
            "x-request-id",
            "x-sluicegate-length",
        ]
    );
    assert_eq!(
        answer.header("content-disposition"),
        Some("attachment; filename=\"x.html\""),
        "markup is always saved"
    );
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert!(answer.header("content-security-policy").unwrap().contains("sandbox"));
    assert_eq!(answer.header("vary"), Some("authorization, x-sluicegate-token"));
}

#[test]
fn inline_is_for_what_a_browser_only_shows() {
    for (content_type, shown) in [
        ("image/png", true),
        ("video/mp4", true),
        ("application/pdf", true),
        ("text/plain", true),
        ("image/svg+xml", false),
        ("text/html", false),
        ("application/xhtml+xml", false),
        ("text/javascript", false),
        ("nonsense", false),
    ] {
        let upstream =
            Upstream::start(move |_| vec![Step::Send(ok(&[("content-type", content_type)], b"x"))]);
        let gateway = Gateway::start(&Setup::new(&upstream));
        let answer = gateway.get(&gateway.link(FILE).with("disposition", "inline").query());
        let inline = answer.header("content-disposition").unwrap().starts_with("inline;");
        assert_eq!(inline, shown, "{content_type}");
    }
}

/// T55: a browser keeps an answer for the policy's time, never past the link's end, never against the upstream's word.
#[test]
fn how_long_an_answer_may_be_kept() {
    let upstream = Upstream::start(|request| {
        let fields: &[(&str, &str)] = match request.target() {
            "/secret" => &[("cache-control", "max-age=9, No-Store")],
            "/long" => &[("cache-control", "public, max-age=99999999")],
            _ => &[],
        };
        vec![Step::Send(ok(fields, b"x"))]
    });
    let plain = Gateway::start(&Setup::new(&upstream));
    assert_eq!(plain.fetch(FILE).header("cache-control"), Some("private, no-store"));
    let gateway = Gateway::start(&Setup::new(&upstream).policy("[response]\ncache_ttl = \"1m\"\n"));
    let kept = |path: &str, seconds: i64| {
        let link = gateway.link(&format!("http://{HOST}{path}")).expires_in(seconds);
        gateway.get(&link.query()).header("cache-control").unwrap().to_owned()
    };
    assert_eq!(kept("/a", 600), "private, max-age=60");
    assert_eq!(kept("/long", 600), "private, max-age=60");
    assert_eq!(kept("/secret", 600), "private, no-store");
    let soon = kept("/a", 30);
    assert!(
        ["private, max-age=30", "private, max-age=29", "private, max-age=28"].contains(&&*soon),
        "{soon}"
    );
}

/// T49: a strong tag or a date goes upstream with its range, a weak tag takes the range with it, and a 206 answers only
/// the version that was asked for.
#[test]
fn if_range_goes_with_its_range() {
    let upstream = Upstream::start(|request| match (request.header("range"), request.header("if-range")) {
        (Some("bytes=2-4"), Some("\"v1\"")) => text(
            "HTTP/1.1 206 Partial Content\r\nETag: \"v1\"\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 3\r\n\r\n234",
        ),
        (Some("bytes=2-4"), Some("\"unnamed\"")) => text(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/10\r\nContent-Length: 3\r\n\r\n234",
        ),
        _ => vec![Step::Send(ok(&[("etag", "\"v2\"")], b"0123456789"))],
    });
    let gateway = Gateway::start(&Setup::new(&upstream));
    let ask = |if_range: &str| {
        gateway.request("GET", &gateway.link(FILE).query(), &[("Range", "bytes=2-4"), ("If-Range", if_range)])
    };
    let part = ask("\"v1\"");
    assert_eq!((part.status, part.body.as_slice()), (206, &b"234"[..]));
    assert_eq!(
        (part.header("content-range"), part.header("x-sluicegate-length")),
        (Some("bytes 2-4/10"), Some("10"))
    );
    for whole in ["\"old\"", "W/\"v1\"", "Mon, 02 Nov 2026 08:00:00 GMT", "nonsense"] {
        let answer = ask(whole);
        assert_eq!((answer.status, answer.body.len()), (200, 10), "{whole}");
    }
    ask("\"unnamed\"").expect(502, "upstream_unreachable");
}

/// T34: every size arrives exactly, with a length and in chunks.
#[test]
fn every_size_arrives_exactly() {
    const SIZES: [u64; 12] = [0, 1, 2, 4095, 4096, 8191, 8193, 65_535, 65_536, 417_793, 1_048_577, 3_000_001];
    let upstream = Upstream::start(|request| {
        let (kind, size) = request.target()[1..].split_once('/').unwrap();
        let size: u64 = size.parse().unwrap();
        if kind == "length" {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
            return text(head).into_iter().chain([Step::Pattern(0, size)]).collect();
        }
        let mut body = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for piece in pattern(0, size).chunks(10_007) {
            body.extend(format!("{:x}\r\n", piece.len()).bytes());
            body.extend(piece);
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\n\r\n");
        vec![Step::Send(body)]
    });
    let gateway = Gateway::start(&Setup::new(&upstream));
    for size in SIZES {
        for kind in ["length", "chunks"] {
            let answer = gateway.fetch(&format!("http://{HOST}/{kind}/{size}"));
            assert!(answer.complete() && answer.body == pattern(0, size), "{kind} {size} {:?}", answer.end);
        }
    }
}

/// T46: what comes back to the gateway by whatever way is refused by the mark that the gateway leaves.
#[test]
fn a_request_that_came_through_a_gateway_is_refused() {
    let upstream = serving(&[]);
    let gateway = Gateway::start(&Setup::new(&upstream));
    let query = gateway.link(FILE).query();
    gateway.request("GET", &query, &[("Via", "1.1 sluicegate")]).expect(403, "url_not_allowed");
    gateway
        .request("GET", &query, &[("Via", "2 cdn.example (x), 1.1 sluicegate")])
        .expect(403, "url_not_allowed");
    assert!(upstream.requests().is_empty());
    assert_eq!(gateway.request("GET", &query, &[("Via", "1.1 proxy.example")]).status, 200);
    assert_eq!(upstream.requests()[0].header("via"), Some("1.1 sluicegate"));
}

/// T57: links begin at `/`, whatever a path may look like to a cache.
#[test]
fn no_other_path_is_a_link() {
    let upstream = serving(&[]);
    let gateway = Gateway::start(&Setup::new(&upstream));
    let query = gateway.link(FILE).query();
    for path in [
        "/x.css",
        "/;x.css",
        "/%2e",
        "/%2f",
        "//",
        "/index.html",
        "/.well-known/x",
        "/_/",
        "/metrics",
        "/%00",
    ] {
        let mut client = gateway.client();
        client.send(format!("GET {path}?{query} HTTP/1.1\r\nHost: gateway.test\r\n\r\n"));
        client.answer("GET").expect(404, "not_found");
    }
    assert!(upstream.requests().is_empty());
}

/// T04: what is running when its link expires goes on to its end.
#[test]
fn a_running_transfer_outlives_its_link() {
    let go = Signal::new();
    let wait = go.clone();
    let upstream = Upstream::start(move |_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234";
        vec![Step::Send(head.into()), Step::Wait(wait.clone()), Step::Send(b"56789".to_vec())]
    });
    let gateway = Gateway::start(&Setup::new(&upstream).set("timeouts.idle", "15s"));
    let query = gateway.link(FILE).expires_in(2).query();
    let mut client = gateway.client();
    client.request("GET", &query, &[]);
    client.peek(1);
    let end = now() + 3;
    support::poll(|| now() >= end).unwrap();
    gateway.get(&query).expect(403, "link_expired");
    go.give();
    let answer = client.answer("GET");
    assert!(answer.complete() && answer.body == b"0123456789");
}

/// T06: a key of one tenant opens nothing that only another tenant may fetch.
#[test]
fn a_host_of_another_tenant_is_out_of_reach() {
    let upstream = serving(&[]);
    let other = "tenant = \"other\"\n[[keys]]\nid = \"other-1\"\nsecret = \"file:rig.secret\"\n[[allow]]\nhost = \"other.test.example\"\nschemes = [\"http\"]\n";
    let setup = Setup::new(&upstream).host("other.test.example", upstream.address()).tenant("other", other);
    let gateway = Gateway::start(&setup);
    let theirs = "http://other.test.example/a.txt";
    gateway.fetch(theirs).expect(403, "url_not_allowed");
    assert_eq!(gateway.get(&gateway.link(theirs).with("kid", "other-1").query()).status, 200);
    assert_eq!(upstream.requests().len(), 1);
    let line = gateway.line(|line| line["code"] == "url_not_allowed");
    assert_eq!(line["tenant"], TENANT);
}

/// T64: whatever a value holds, a record is one line, and a signature is in none.
#[test]
fn a_record_is_one_line_without_secrets() {
    let upstream = serving(&[]);
    let gateway = Gateway::start(&Setup::new(&upstream));
    let url = format!("http://{HOST}/a%0A%7B%22forged%22%3A1%7D?X-Amz-Signature=topsecret");
    let query = gateway.link(&url).query();
    let answer = gateway.get(&query);
    assert_eq!(answer.status, 200);
    let record = gateway.record(&answer);
    assert_eq!(record["url"], format!("http://{HOST}/a%0A%7B%22forged%22%3A1%7D"));
    let signature = query.split("sig=").nth(1).unwrap();
    let all = format!("{:?}", gateway.lines());
    assert!(!all.contains("topsecret") && !all.contains(signature) && !all.contains("\"forged\":"));
    // The rig fails on any line that is not one JSON object.
}

/// T58: requests side by side cannot take more than there is.
#[test]
fn a_burst_side_by_side_is_counted_exactly() {
    let upstream = serving(&[]);
    let policy = "[limits.key]\nrequests_per_second = 0.01\nburst = 10\n";
    let gateway = Gateway::start(&Setup::new(&upstream).policy(policy));
    let passed = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..8 {
                    if gateway.fetch(FILE).status == 200 {
                        passed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(passed.into_inner(), 10);
    assert_eq!(upstream.requests().len(), 10);
}
