//! What clients send, byte by byte: ambiguous framing ends the connection, nothing is tunnelled, and every request gets
//! its own answer.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use support::{Client, End, Gateway, Request, Setup, Signal, Step, Upstream, ok, pattern, poll, text};

const FILE: &str = "http://files.test.example/a.txt";

/// Answers with the path that was asked for.
fn echo() -> Upstream {
    Upstream::start(|request: &Request| vec![Step::Send(ok(&[], request.target().as_bytes()))])
}

fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::start(&Setup::new(upstream).set("timeouts.client_head", "600ms"))
}

/// A request line for a good link to `path`.
fn line(gateway: &Gateway, path: &str) -> String {
    let query = gateway.link(&format!("http://files.test.example{path}")).query();
    format!("GET /?{query} HTTP/1.1")
}

/// What a strict reader cannot understand in one way only is refused, and the connection with it (T52).
#[test]
fn ambiguous_requests_are_refused_and_closed() {
    let upstream = echo();
    let gateway = gateway(&upstream);
    let line = line(&gateway, "/first");
    let smuggled = self::line(&gateway, "/smuggled");
    let host = "Host: gateway.test\r\n";
    for request in [
        format!("{line}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n{host}\r\n0\r\n\r\n"),
        format!("{line}\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n{host}\r\n0\r\n\r\n"),
        format!("{line}\r\nTransfer-Encoding: chunked\r\n{host}\r\n0\r\n\r\n"),
        format!("{line}\r\nContent-Length: 5\r\nContent-Length: 6\r\n{host}\r\nhello"),
        format!("{line}\r\nContent-Length: 5, 6\r\n{host}\r\nhello"),
        format!("{line}\r\nContent-Length: +5\r\n{host}\r\nhello"),
        format!("{line}\r\nContent-Length: x\r\n{host}\r\nhello"),
        format!("{line}\r\nTransfer-Encoding: xchunked\r\n{host}\r\n0\r\n\r\n"),
        format!("{line}\r\nTransfer-Encoding: chunked, identity\r\n{host}\r\n0\r\n\r\n"),
        format!("{line}\r\nTransfer-Encoding: gzip\r\n{host}\r\n0\r\n\r\n"),
        format!("{line}\r\nHost : gateway.test\r\n\r\n"),
        format!("{line}\r\n{host}X-Folded: a\r\n b\r\n\r\n"),
        format!("{line}\r\n {host}\r\n"),
        format!("{line}\r\n{host}X-Null: a\0b\r\n\r\n"),
        format!("{line}\r\n{host}X-Return: a\rb\r\n\r\n"),
        format!("{line}\r\n{host}X Space: a\r\n\r\n"),
        format!("{line}\r\n{host}: nameless\r\n\r\n"),
        line.replace("HTTP/1.1", "HTTP/1.7") + "\r\n" + host + "\r\n",
        line.replace("HTTP/1.1", "HTTP/3.0") + "\r\n" + host + "\r\n",
        line.replace("HTTP/1.1", "http/1.1") + "\r\n" + host + "\r\n",
        line.replace("GET ", "GET\t") + "\r\n" + host + "\r\n",
        line.replace("GET /", "GET http:/") + "\r\n" + host + "\r\n",
        "GET\r\n\r\n".to_owned(),
        "\0\0\0\0\r\n\r\n".to_owned(),
        "\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03\r\n\r\n".to_owned(),
    ] {
        let mut client = gateway.client();
        client.send(format!("{request}{smuggled}\r\n{host}\r\n"));
        let (bytes, _) = client.drain();
        let answers = String::from_utf8_lossy(&bytes).into_owned();
        let shown = request.escape_debug();
        assert!(!answers.contains("/smuggled"), "{shown}\n{answers}");
        let served = answers.starts_with("HTTP/1.1 200");
        assert!(!served, "{shown}\n{answers}");
        assert!(
            answers.is_empty() || answers.starts_with("HTTP/1.1 4") || answers.starts_with("HTTP/1.1 5"),
            "{answers}"
        );
    }
    assert_eq!(upstream.requests().len(), 0, "{:#?}", upstream.requests());
}

#[test]
fn exactly_one_host() {
    let upstream = echo();
    let gateway = gateway(&upstream);
    let line = line(&gateway, "/first");
    for fields in ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n"] {
        let mut client = gateway.client();
        client.send(format!("{line}\r\n{fields}\r\n"));
        client.answer("GET").expect(400, "malformed_link");
    }
    assert_eq!(upstream.requests().len(), 0);
    // HTTP/1.0 knows no Host, and any one name will do.
    for request in [line.replace("1.1", "1.0") + "\r\n\r\n", line + "\r\nhOsT: [::1]:1\r\n\r\n"] {
        let mut client = gateway.client();
        client.send(&request);
        assert_eq!(client.answer("GET").body, b"/first", "{request}");
    }
}

/// A request's body is not read as a request, and does not keep the file from being served (T52).
#[test]
fn a_body_is_no_request() {
    let upstream = echo();
    let gateway = gateway(&upstream);
    let first = line(&gateway, "/first");
    let smuggled = format!("{}\r\nHost: gateway.test\r\n\r\n", line(&gateway, "/smuggled"));
    let length = smuggled.len();
    for request in [
        format!("{first}\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{smuggled}"),
        format!(
            "{first}\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{smuggled}\r\n0\r\n\r\n"
        ),
        format!("{first}\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{smuggled}"),
        format!("{first}\r\nHost: a\r\nContent-Length: 999999\r\n\r\n{smuggled}"),
    ] {
        let mut client = gateway.client();
        client.send(&request);
        let (bytes, _) = client.drain();
        let answers = String::from_utf8_lossy(&bytes).into_owned();
        let coded = request.contains("Transfer-Encoding");
        assert!(answers.contains(if coded { "malformed_link" } else { "/first" }), "{answers}");
        assert!(!answers.contains("/smuggled"), "{answers}");
    }
    assert!(upstream.requests().iter().all(|request| request.target() == "/first"));
}

/// `Expect: 100-continue` is answered with the file; no body is asked for.
#[test]
fn nothing_is_expected() {
    let upstream = echo();
    let gateway = gateway(&upstream);
    let mut client = gateway.client();
    let line = line(&gateway, "/first");
    client.send(format!("{line}\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"));
    assert_eq!(client.answer("GET").body, b"/first");
}

#[test]
fn oversized_heads_are_refused() {
    let upstream = echo();
    let gateway = gateway(&upstream);
    let line = line(&gateway, "/first");
    let long = "x".repeat(40_000);
    for (request, statuses) in [
        (format!("{line}\r\nHost: a\r\nX-Long: {long}\r\n\r\n"), &[431][..]),
        (format!("{line}\r\nHost: a\r\n{}\r\n", "X-Many: x\r\n".repeat(150)), &[431]),
        (format!("GET /?{long} HTTP/1.1\r\nHost: a\r\n\r\n"), &[414, 431]),
        (
            format!("GET /?{}&{} HTTP/1.1\r\nHost: a\r\n\r\n", &line[6..line.len() - 9], &long[..9000]),
            &[400, 414],
        ),
        (
            format!("GET /?{}{} HTTP/1.1\r\nHost: a\r\n\r\n", &line[6..line.len() - 9], "&a=b".repeat(100)),
            &[400],
        ),
    ] {
        let mut client = gateway.client();
        client.send(&request);
        let answer = client.answer("GET");
        assert!(statuses.contains(&answer.status), "{statuses:?} {}", answer.head);
    }
    assert_eq!(upstream.requests().len(), 0);
}

/// The largest that is allowed does pass: a link of 8192 bytes beside large fields.
#[test]
fn large_heads_pass() {
    let upstream = echo();
    let gateway = gateway(&upstream);
    let line = line(&gateway, "/first");
    let rest = "x".repeat(8192 + "GET /? HTTP/1.1".len() - line.len() - "&utm=".len());
    let line = line.replace(" HTTP", &format!("&utm={rest} HTTP"));
    let mut client = gateway.client();
    client.send(format!("{line}\r\nHost: a\r\nCookie: {}\r\n\r\n", "x".repeat(16_000)));
    assert_eq!(client.answer("GET").body, b"/first");
    assert!(!upstream.requests()[0].head.to_lowercase().contains("cookie"));
}

/// The absolute form names this server and is served like the origin form; it makes no proxy of the gateway.
#[test]
fn the_absolute_form_is_no_proxy_request() {
    let upstream = echo();
    let gateway = gateway(&upstream);
    let query = gateway.link("http://files.test.example/first").query();
    let mut client = gateway.client();
    client.send(format!("GET http://gateway.test/?{query} HTTP/1.1\r\nHost: gateway.test\r\n\r\n"));
    assert_eq!(client.answer("GET").body, b"/first");
    let target = format!("http://files.test.example:{}/a.txt", upstream.port());
    client.send(format!("GET {target} HTTP/1.1\r\nHost: gateway.test\r\n\r\n"));
    client.answer("GET").expect(404, "not_found");
    assert_eq!(upstream.requests().len(), 1);
}

/// Other methods reach nothing, whatever else the request says (T09).
#[test]
fn other_methods_reach_nothing() {
    let upstream = echo();
    let gateway = gateway(&upstream);
    let query = gateway.link(FILE).query();
    for method in
        ["POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "get", "GETT", "M-SEARCH", "OPTIONS"]
    {
        let answer = gateway.request(method, &query, &[("Max-Forwards", "0"), ("Cookie", "demon")]);
        answer.expect(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"));
        assert!(!String::from_utf8_lossy(&answer.body).contains("demon"), "{method} reflects");
    }
    for request in [
        "CONNECT files.test.example:80 HTTP/1.1\r\nHost: files.test.example:80\r\n\r\n".to_owned(),
        format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\nHost: a\r\n\r\n", upstream.port()),
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "TRACE / HTTP/1.1\r\nHost: a\r\nX-Secret: demon\r\n\r\n".to_owned(),
    ] {
        let mut client = gateway.client();
        client.send(&request);
        let answer = client.answer("CONNECT");
        assert!(matches!(answer.status, 400 | 405 | 501), "{request}{}", answer.head);
        client.send("GET / HTTP/1.1\r\nHost: tunnelled\r\nConnection: close\r\n\r\n");
        client.finish();
        assert!(!String::from_utf8_lossy(&client.drain().0).contains("demon"));
    }
    assert_eq!(upstream.connections(), 0);
    // A field is not a method.
    let overrides =
        [("X-HTTP-Method-Override", "DELETE"), ("X-HTTP-Method", "PUT"), ("X-Method-Override", "POST")];
    assert_eq!(gateway.request("GET", &query, &overrides).body, b"/a.txt");
    assert_eq!(upstream.requests()[0].method(), "GET");
}

/// What a client sends while its answer is under way stays unread if that is the last one, and must not turn its end into a
/// reset, which would take along what the client has not received yet.
#[test]
fn what_comes_during_the_last_answer_does_not_cut_it() {
    // More than the client's system takes in, and less than the gateway's keeps.
    const LENGTH: u64 = 500_000;
    let long = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    for early in ["\r\n", "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", &long] {
        for (version, field) in [("HTTP/1.1", "Connection: close\r\n"), ("HTTP/1.0", "")] {
            let goes_on = Signal::new();
            let waits = goes_on.clone();
            let upstream = Upstream::always(move || {
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\nConnection: close\r\n\r\n");
                let body = [
                    Step::Pattern(0, 100),
                    Step::Wait(waits.clone()),
                    Step::Pattern(100, LENGTH),
                    Step::Close,
                ];
                text(head).into_iter().chain(body).collect()
            });
            let gateway = gateway(&upstream);
            let query = gateway.link("http://files.test.example/a.bin").query();
            let mut client = Client::connect_narrow(gateway.address());
            client.send(format!("GET /?{query} {version}\r\nHost: gateway.test\r\n{field}\r\n"));
            assert_eq!(client.head().unwrap().status, 200);
            client.peek(100);
            client.send(early);
            let sockets = gateway.descriptors("socket");
            goes_on.give();
            poll(|| gateway.descriptors("socket") <= sockets - 2).expect("both connections are closed");
            let (body, end) = client.drain();
            assert_eq!((body.len() as u64, end), (LENGTH, End::Closed), "{version}: {early:.20}");
            assert!(body == pattern(0, LENGTH));
        }
    }
}

/// Requests on one connection are answered in their order, refusals among them.
#[test]
fn pipelined_requests_get_their_own_answers() {
    let upstream = echo();
    let gateway = gateway(&upstream);
    let mut client = gateway.client();
    let requests: Vec<_> =
        (0..20)
            .map(|n| {
                if n % 3 == 2 { "GET /nothing HTTP/1.1".to_owned() } else { line(&gateway, &format!("/{n}")) }
            })
            .map(|line| format!("{line}\r\nHost: a\r\n\r\n"))
            .collect();
    client.send(requests.concat());
    for n in 0..20 {
        let answer = client.answer("GET");
        match n % 3 {
            2 => answer.expect(404, "not_found"),
            _ => assert_eq!(answer.body, format!("/{n}").into_bytes()),
        }
    }
}

/// A head that does not come in time costs its sender the connection, and nobody else anything (T60).
#[test]
fn slow_heads_are_closed() {
    let upstream = echo();
    let gateway = gateway(&upstream);
    let began = Instant::now();
    let mut silent: Vec<_> = (0..50).map(|_| gateway.client()).collect();
    let mut half: Vec<_> = (0..50)
        .map(|n| {
            let mut client = gateway.client();
            let started =
                ["GET /?url=x HTTP/1.1\r\nHost: a\r\nX-Slow: a", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r"][n % 2];
            client.send(&started[..n % started.len()]);
            client
        })
        .collect();
    assert_eq!(gateway.fetch(FILE).body, b"/a.txt", "a good client is served meanwhile");
    for client in silent.iter_mut().chain(&mut half) {
        let (bytes, _) = client.drain();
        assert!(
            bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 408"),
            "{:?}",
            bytes.escape_ascii().to_string()
        );
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// A connection that idles after an answer is closed as well.
#[test]
fn idle_connections_are_closed() {
    let upstream = echo();
    let gateway = gateway(&upstream);
    let mut client = gateway.client();
    client.request("GET", &gateway.link(FILE).query(), &[]);
    assert_eq!(client.answer("GET").body, b"/a.txt");
    assert_eq!(client.drain(), (Vec::new(), End::Closed));
}

/// A client that stops reading in the middle of a body is cut off, and the upstream with it.
#[test]
fn a_client_that_stops_reading_is_closed() {
    let upstream = Upstream::start(|request| {
        if request.target() == "/small" {
            return vec![Step::Send(
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
            )];
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
        text(head).into_iter().chain([Step::Pattern(0, 1_000_000_000)]).collect()
    });
    let setup = Setup::new(&upstream).set("timeouts.client_write", "500ms").set("timeouts.idle", "1m");
    let gateway = Gateway::start(&setup);
    let query = gateway.link(FILE).query();
    // What the first download of a process opens once is not the client's.
    drop(gateway.fetch("http://files.test.example/small"));
    let idle = gateway.descriptors("socket");
    let mut client = gateway.client();
    client.request("GET", &query, &[]);
    assert_eq!(client.head().unwrap().status, 200);
    let record = gateway.line(|line| line["outcome"] == "aborted");
    assert_eq!(record["code"], "client_stalled", "{record}");
    // Its place is free again although it never reads what would tell it so.
    poll(|| gateway.descriptors("socket") <= idle).expect("the connection is closed");
}

/// An upgrade is not a tunnel: the answer is the file, and the field goes nowhere (T44).
#[test]
fn an_upgrade_is_ignored() {
    let upstream = echo();
    let gateway = gateway(&upstream);
    let query = gateway.link(FILE).query();
    for protocol in ["websocket", "h2c", "TLS/1.0"] {
        let fields = [
            ("Connection", "Upgrade, HTTP2-Settings"),
            ("Upgrade", protocol),
            ("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
        ];
        let answer = gateway.request("GET", &query, &fields);
        assert_eq!((answer.status, &answer.body[..]), (200, &b"/a.txt"[..]), "{protocol}");
    }
    let heads = format!("{:?}", upstream.requests()).to_lowercase();
    assert!(
        !heads.contains("upgrade") && !heads.contains("sec-websocket") && !heads.contains("http2-settings"),
        "{heads}"
    );
}

/// What a client says about itself and others goes nowhere (T10, T33).
#[test]
fn only_vetted_fields_go_upstream() {
    let upstream = echo();
    let gateway = gateway(&upstream);
    let names = [
        "Cookie",
        "Referer",
        "Origin",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "Forwarded",
        "X-Real-IP",
        "X-Original-URL",
        "X-Rewrite-URL",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Keep-Alive",
        "X-Sluicegate-Client",
        "Accept-Language",
        "Cache-Control",
        "Pragma",
        "If-Range",
        "X-Anything",
    ];
    let fields: Vec<_> = names.iter().map(|name| (*name, "demon")).collect();
    let query = gateway.link(FILE).query();
    let plain = gateway.get(&query);
    let answer = gateway.request("GET", &query, &fields);
    assert_eq!((plain.body, plain.status), (answer.body, answer.status));
    let requests = upstream.requests();
    assert_eq!(requests[0].head, requests[1].head);
    assert_eq!(requests[0].names(), ["accept", "accept-encoding", "host", "user-agent", "via"]);
    assert!(!answer.head.contains("demon"));
}

/// HTTP/2 with prior knowledge: many streams on one connection, each with its own file, and an abort that shows.
#[test]
fn http2_with_prior_knowledge() {
    const SIZE: u64 = 300_000;
    let upstream = Upstream::start(|request| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
        let from: u64 = request.target()[1..].parse().unwrap_or(0);
        let end = if request.target() == "/short" { SIZE - 1 } else { SIZE };
        text(head).into_iter().chain([Step::Pattern(from, from + end), Step::Close]).collect()
    });
    let gateway = gateway(&upstream);
    let base = format!("http://{}", gateway.address());
    let url = |path: &str| {
        let query = gateway.link(&format!("http://files.test.example/{path}")).query();
        format!("{base}/?{query}")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
        let downloads = (0..40u64).map(|n| {
            let (request, from) = (client.get(url(&(n * 1000).to_string())), n * 1000);
            tokio::spawn(async move {
                let answer = request.send().await.unwrap();
                assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
                assert_eq!(answer.bytes().await.unwrap(), pattern(from, from + SIZE));
            })
        });
        for download in downloads.collect::<Vec<_>>() {
            download.await.unwrap();
        }
        let refused = client.get(format!("{base}/nothing")).send().await.unwrap();
        assert_eq!(refused.status().as_u16(), 404);
        let short = client.get(url("short")).send().await.unwrap();
        assert!(short.bytes().await.is_err(), "a stream that breaks is reset");
    });
}
