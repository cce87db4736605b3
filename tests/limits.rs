//! Limits through the door: what counts, what is told, what comes back.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use support::*;

const URL: &str = "http://files.test.example/a.txt";

fn upstream() -> Upstream {
    Upstream::start(|_| vec![Step::Send(ok(&[], b"0123456789"))])
}

#[test]
fn a_burst_passes_then_429_says_when_to_come_back() {
    let upstream = upstream();
    let gateway = Gateway::start(
        &Setup::new(&upstream).policy("[limits.key]\nrequests_per_second = 0.01\nburst = 3\n[limits.tenant]\nrequests_per_second = 0.01\nburst = 50\n"),
    );
    for left in [2, 1, 0] {
        let answer = gateway.fetch(URL);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("ratelimit-policy"), Some("\"key\";q=3;w=300, \"tenant\";q=50;w=5000"));
        assert!(
            answer.header("ratelimit").unwrap().starts_with(&format!("\"key\";r={left};t=")),
            "{}",
            answer.head
        );
    }
    let answer = gateway.fetch(URL);
    answer.expect(429, "rate_limited");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((90..=100).contains(&wait), "{wait}");
    assert!(answer.header("ratelimit").unwrap().starts_with("\"key\";r=0;t="), "{}", answer.head);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(upstream.requests().len(), 3);
}

/// The fields are on every answer to a verified request, and on no other: they would tell which keys exist.
#[test]
fn a_verified_request_is_told_its_standing_even_when_the_policy_refuses_it() {
    let upstream = upstream();
    let gateway = Gateway::start(
        &Setup::new(&upstream).policy("[limits.key]\nrequests_per_second = 0.01\nburst = 3\n"),
    );
    assert_eq!(
        gateway.fetch(URL).header("ratelimit").map(|field| field.starts_with("\"key\";r=2;")),
        Some(true)
    );
    for _ in 0..5 {
        let answer = gateway.fetch("http://elsewhere.test.example/a.txt");
        answer.expect(403, "url_not_allowed");
        assert!(answer.header("ratelimit").unwrap().starts_with("\"key\";r=2;"), "{}", answer.head);
    }
    let forged = gateway.link(URL).secret("sgk1_forged-0123456789abcdefghijklmnopqrstuv").query();
    assert_eq!(gateway.get(&forged).header("ratelimit"), None);
}

/// T59: whoever cannot sign cannot use up a budget; nor does a spoofed address make a new one (T58).
#[test]
fn only_verified_requests_count() {
    let upstream = upstream();
    let gateway = Gateway::start(
        &Setup::new(&upstream).policy("[limits.key]\nrequests_per_second = 0.01\nburst = 1\n"),
    );
    for _ in 0..50 {
        let forged = gateway.link(URL).secret("sgk1_forged-0123456789abcdefghijklmnopqrstuv").query();
        gateway.get(&forged).expect(403, "invalid_signature");
        gateway.get(&gateway.link(URL).expires_in(-5).query()).expect(403, "link_expired");
    }
    assert_eq!(gateway.fetch(URL).status, 200);
    let spoofed = [
        ("X-Forwarded-For", "198.51.100.9"),
        ("Forwarded", "for=198.51.100.9"),
        ("True-Client-IP", "198.51.100.9"),
    ];
    gateway.request("GET", &gateway.link(URL).query(), &spoofed).expect(429, "rate_limited");
}

#[test]
fn one_tenants_burst_is_not_anothers() {
    let upstream = upstream();
    let other = "tenant = \"other\"\n[[keys]]\nid = \"other-1\"\nsecret = \"file:rig.secret\"\n[[allow]]\nhost = \"files.test.example\"\nschemes = [\"http\"]\n[limits.tenant]\nrequests_per_second = 0.01\nburst = 1\n";
    let gateway = Gateway::start(
        &Setup::new(&upstream)
            .policy("[limits.tenant]\nrequests_per_second = 0.01\nburst = 1\n")
            .tenant("other", other),
    );
    assert_eq!(gateway.fetch(URL).status, 200);
    gateway.fetch(URL).expect(429, "rate_limited");
    assert_eq!(gateway.get(&gateway.link(URL).with("kid", "other-1").query()).status, 200);
}

#[test]
fn a_place_comes_back_when_a_download_ends_or_its_client_leaves() {
    let go = Signal::new();
    let wait = go.clone();
    let upstream = Upstream::start(move |request| {
        if request.target() != "/slow" {
            return vec![Step::Send(ok(&[], b"x"))];
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab";
        vec![Step::Send(head.into()), Step::Wait(wait.clone()), Step::Send(b"cd".to_vec())]
    });
    let gateway = Gateway::start(
        &Setup::new(&upstream).set("timeouts.idle", "15s").policy("[limits.key]\nconcurrent_downloads = 2\n"),
    );
    let slow = gateway.link("http://files.test.example/slow").query();
    let mut first = gateway.client();
    first.request("GET", &slow, &[]);
    first.peek(1);
    let mut second = gateway.client();
    second.request("GET", &slow, &[]);
    second.peek(1);
    let answer = gateway.fetch(URL);
    answer.expect(429, "too_many_downloads");
    assert!(answer.header("retry-after").is_some());

    drop(second);
    gateway.line(|line| {
        line["outcome"] == "aborted" && line["reason"].as_str().unwrap().contains("client left")
    });
    assert_eq!(gateway.fetch(URL).status, 200);

    go.give();
    assert!(first.answer("GET").complete());
    gateway.line(|line| line["outcome"] == "whole" && line["bytes"] == 4);
    assert_eq!(gateway.fetch(URL).status, 200);
}

#[test]
fn the_days_bytes_are_not_overdrawn_and_unsent_ones_come_back() {
    let upstream = Upstream::start(|request| match request.target() {
        "/chunked" => {
            text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n5\r\nfghij\r\n0\r\n\r\n")
        }
        "/broken" => {
            vec![Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n01234".to_vec()), Step::Close]
        }
        "/big" => vec![Step::Send(ok(&[], &[b'x'; 31]))],
        _ => vec![Step::Send(ok(&[], b"0123456789"))],
    });
    let gateway = Gateway::start(&Setup::new(&upstream).policy("[limits.key]\nbytes_per_day = \"30 B\"\n"));
    let fetch = |path: &str| gateway.fetch(&format!("http://files.test.example{path}"));
    let answer = fetch("/big");
    answer.expect(429, "quota_exceeded");
    let midnight: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&midnight));
    assert!(!fetch("/broken").complete()); // takes 5 of its 20
    gateway.line(|line| line["outcome"] == "aborted" && line["bytes"] == 5);
    assert!(fetch("/a").complete()); // 15
    gateway.line(|line| line["outcome"] == "whole" && line["bytes"] == 10);
    assert!(fetch("/a").complete()); // 25
    let answer = fetch("/chunked"); // its length is not known before; it runs into the limit
    assert!(!answer.complete(), "{}", answer.head);
    fetch("/a").expect(429, "quota_exceeded");
}
