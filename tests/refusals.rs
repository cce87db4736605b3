//! Every refusal of the contract, provoked at the real door: its status, its code, its fields, and that a request which
//! is refused before fetching leaves no trace upstream.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::HashSet;

use sluicegate::gate::refusal::Code;
use support::{Answer, End, Gateway, HOST, KEY, Request, SECRET, Setup, Step, Upstream, now, ok, text};

const FILE: &str = "http://files.test.example/secret-name.txt?token=secret-query";

/// One code and a request that is refused with it.
struct Case {
    code: Code,
    setup: fn(Setup) -> Setup,
    script: fn(&Request) -> Vec<Step>,
    provoke: fn(&Gateway) -> Answer,
    /// How many requests the upstream sees.
    asked: usize,
}

impl Case {
    /// Refused before anything is fetched.
    fn early(code: Code, provoke: fn(&Gateway) -> Answer) -> Self {
        Self { code, setup: |setup| setup, script: |_| panic!("refused too late"), provoke, asked: 0 }
    }

    /// Refused for what the upstream answers.
    fn late(code: Code, script: fn(&Request) -> Vec<Step>) -> Self {
        Self { code, setup: |setup| setup, script, provoke: |gateway| gateway.fetch(FILE), asked: 1 }
    }

    fn with(mut self, setup: fn(Setup) -> Setup) -> Self {
        self.setup = setup;
        self
    }

    fn by(mut self, provoke: fn(&Gateway) -> Answer) -> Self {
        self.provoke = provoke;
        self
    }

    fn run(&self) {
        let upstream = Upstream::start(self.script);
        let gateway = Gateway::start(&(self.setup)(Setup::new(&upstream)));
        let answer = (self.provoke)(&gateway);
        check_shape(self.code, &answer, &upstream);
        let record = gateway.record(&answer);
        assert_eq!((&record["outcome"], &record["code"]), (&"refused".into(), &self.code.face().code.into()));
        assert_eq!(record["status"], self.code.face().status);
        assert!(!record.to_string().contains("secret-query"), "{record}");
        drop(gateway);
        assert_eq!(upstream.requests().len(), self.asked, "{:?}: {:#?}", self.code, upstream.requests());
        assert!(upstream.connections() <= self.asked, "{:?} connected upstream", self.code);
    }
}

fn check_shape(code: Code, answer: &Answer, upstream: &Upstream) {
    let face = code.face();
    answer.expect(face.status, face.code);
    assert_eq!(answer.end, End::Length, "{code:?}");
    let problem = answer.problem();
    let members: HashSet<_> = problem.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, HashSet::from(["type", "title", "status", "detail", "code", "request_id"]));
    assert_eq!(problem["type"], format!("urn:sluicegate:problem:{}", face.code));
    assert_eq!((&problem["title"], &problem["status"]), (&face.title.into(), &face.status.into()));
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.ends_with('.')), "{problem}");
    assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"));
    for (name, value) in [
        ("cache-control", "no-store"),
        ("access-control-allow-origin", "*"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{code:?} {name}");
    }
    let exposed = answer.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("x-request-id") && exposed.contains("retry-after"), "{exposed}");
    let retry = answer.header("retry-after").map(|seconds| seconds.parse::<u64>().unwrap());
    assert_eq!(retry.is_some_and(|seconds| seconds >= 1), face.status == 429, "{code:?}");
    assert_eq!(answer.header("allow").is_some(), face.status == 405, "{code:?}");
    assert_eq!(answer.header("www-authenticate").is_some(), face.status == 401, "{code:?}");
    assert_eq!(answer.header("content-range").is_some(), face.status == 416, "{code:?}");
    for name in ["set-cookie", "location", "server", "via", "etag"] {
        assert_eq!(answer.header(name), None, "{code:?}");
    }
    let said = format!("{}{}", answer.head, String::from_utf8_lossy(&answer.body));
    for secret in [SECRET, KEY, HOST, "secret-", "127.0.0.1", "sig=", "demon", &upstream.port().to_string()] {
        assert!(!said.contains(secret), "{code:?} says {secret}: {said}");
    }
}

/// An upstream's own error, with all that must not be passed on.
fn upstream_says(status: &str, fields: &str) -> Vec<Step> {
    text(format!(
        "HTTP/1.1 {status}\r\n{fields}Set-Cookie: a=demon\r\nServer: demon\r\nETag: \"demon\"\r\nWWW-Authentic: demon\r\n\
         Content-Length: 5\r\n\r\ndemon"
    ))
}

fn get_with(gateway: &Gateway, headers: &[(&str, &str)]) -> Answer {
    gateway.request("GET", &gateway.link(FILE).query(), headers)
}

fn early_cases() -> Vec<Case> {
    vec![
        Case::early(Code::MalformedLink, |gateway| {
            let query = gateway.link(FILE).query();
            gateway.get(&query.replace("&exp=", "&exp=x"))
        }),
        Case::early(Code::MissingCredential, |gateway| gateway.get("url=http%3A%2F%2Ffiles.test.example%2F")),
        Case::early(Code::InvalidSignature, |gateway| {
            gateway.get(&gateway.link(FILE).secret("sgk1_another-secret-of-enough-bytes-0123").query())
        }),
        Case::early(Code::LinkExpired, |gateway| gateway.get(&gateway.link(FILE).expires_in(-1).query())),
        Case::early(Code::LinkNotYetValid, |gateway| {
            gateway.get(&gateway.link(FILE).with("nbf", &(now() + 300).to_string()).query())
        }),
        Case::early(Code::LinkRevoked, |gateway| gateway.get(&gateway.link(FILE).with("id", "gone").query()))
            .with(|setup| setup.policy("[revoked]\nlink_ids = [\"gone\"]")),
        Case::early(Code::ClientNotAllowed, |gateway| {
            gateway.get(&gateway.link(FILE).with("ip", "203.0.113.0/24").query())
        }),
        Case::early(Code::LifetimeTooLong, |gateway| {
            gateway.get(&gateway.link(FILE).expires_in(7200).query())
        })
        .with(|setup| setup.policy_head("max_link_lifetime = \"1h\"")),
        Case::early(Code::UrlNotAllowed, |gateway| gateway.fetch("http://files.test.example/private/a"))
            .with(|setup| setup.rule("[[deny]]\nhost = \"files.test.example\"\npath = \"/private\"")),
        Case::early(Code::MethodNotAllowed, |gateway| {
            let answer = gateway.request("POST", &gateway.link(FILE).query(), &[]);
            assert_eq!(answer.header("allow"), Some("GET, HEAD, OPTIONS"));
            answer
        }),
        Case::early(Code::NotFound, |gateway| {
            let mut client = gateway.client();
            let query = gateway.link(FILE).query();
            client.send(format!("GET /x.css?{query} HTTP/1.1\r\nHost: gateway.test\r\n\r\n"));
            client.answer("GET")
        }),
        Case::early(Code::UpstreamUnreachable, |gateway| gateway.fetch("http://gone.test.example/")).with(
            |setup| {
                setup.map("gone.test.example", closed_port()).open("127.0.0.1").allow("gone.test.example")
            },
        ),
    ]
}

/// A port that is taken, so that nobody else listens there, and refuses connections.
fn closed_port() -> std::net::SocketAddr {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // Kept for the rest of the test process.
    std::mem::forget(socket);
    address
}

fn limit_cases() -> Vec<Case> {
    vec![
        Case::late(Code::RateLimited, |_| vec![Step::Send(ok(&[], b"hello"))])
            .with(|setup| setup.policy("[limits.key]\nrequests_per_second = 0.01\nburst = 1"))
            .by(|gateway| {
                let first = gateway.fetch(FILE);
                assert_eq!(first.status, 200);
                assert_eq!(first.header("ratelimit-policy"), Some("\"key\";q=1;w=100"));
                assert_eq!(first.header("ratelimit"), Some("\"key\";r=0;t=100"));
                let second = gateway.fetch(FILE);
                assert_eq!(second.header("ratelimit-policy"), Some("\"key\";q=1;w=100"));
                let wait = second.header("retry-after").unwrap();
                assert_eq!(second.header("ratelimit"), Some(&*format!("\"key\";r=0;t={wait}")));
                assert!((90..=100).contains(&wait.parse::<u32>().unwrap()), "{wait}");
                second
            }),
        Case::late(Code::TooManyDownloads, |_| {
            let mut steps = text("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe");
            steps.push(Step::Stall);
            steps
        })
        .with(|setup| setup.set("timeouts.idle", "1m").policy("[limits.tenant]\nconcurrent_downloads = 1"))
        .by(|gateway| {
            let mut first = gateway.client();
            first.request("GET", &gateway.link(FILE).query(), &[]);
            assert_eq!(first.head().unwrap().status, 200);
            gateway.fetch(FILE)
        }),
        Case::late(Code::QuotaExceeded, |_| vec![Step::Send(ok(&[], b"hello"))])
            .with(|setup| setup.policy("[limits.key]\nbytes_per_day = \"5 B\""))
            .by(|gateway| {
                assert_eq!(gateway.fetch(FILE).body, b"hello");
                gateway.fetch(FILE)
            }),
    ]
}

fn late_cases() -> Vec<Case> {
    vec![
        Case::late(Code::TypeNotAllowed, |_| {
            vec![Step::Send(ok(&[("Content-Type", "text/html")], b"demon"))]
        })
        .with(|setup| setup.policy("[response]\ncontent_types = [\"video/*\", \"text/plain\"]")),
        Case::late(Code::ObjectTooLarge, |_| vec![Step::Send(ok(&[], b"demon"))])
            .with(|setup| setup.policy("[response]\nmax_bytes = \"4 B\"")),
        Case::late(Code::UpstreamNotFound, |_| upstream_says("404 Not Found", "")),
        Case::late(Code::UpstreamGone, |_| upstream_says("410 Gone", "")),
        Case::late(Code::RangeNotSatisfiable, |request| {
            assert_eq!(request.header("range"), Some("bytes=9-"));
            upstream_says("416 Range Not Satisfiable", "Content-Range: bytes */5\r\n")
        })
        .by(|gateway| {
            let answer = get_with(gateway, &[("Range", "bytes=9-")]);
            assert_eq!(answer.header("content-range"), Some("bytes */5"));
            answer
        }),
        Case::late(Code::PreconditionFailed, |_| upstream_says("412 Precondition Failed", ""))
            .by(|gateway| get_with(gateway, &[("If-Match", "\"v1\"")])),
        Case::late(Code::UpstreamError, |_| upstream_says("503 Service Unavailable", "Retry-After: 9\r\n")),
        Case::late(Code::UpstreamTimeout, |_| vec![Step::Stall]).with(|setup| {
            setup
                .set("timeouts.resolve", "200ms")
                .set("timeouts.connect", "200ms")
                .set("timeouts.first_byte", "200ms")
        }),
    ]
}

#[test]
fn every_code_has_a_case() {
    let cases = early_cases().into_iter().chain(limit_cases()).chain(late_cases());
    let cases: Vec<_> = cases.map(|case| case.code).collect();
    let distinct: HashSet<_> = cases.iter().copied().collect();
    assert_eq!(distinct.len(), cases.len(), "a code stands twice");
    let missing: Vec<_> = Code::ALL.into_iter().filter(|code| !distinct.contains(code)).collect();
    // `lambda::what_is_too_large_is_refused_before_its_first_byte`, `secrets::an_outage_is_bridged_for_a_while`, and only
    // a defect of the gateway is answered with 500.
    assert_eq!(missing, [Code::FetchDirectly, Code::Unavailable, Code::InternalError]);
}

#[test]
fn refused_before_fetching() {
    early_cases().iter().for_each(Case::run);
}

#[test]
fn refused_by_the_limits() {
    limit_cases().iter().for_each(Case::run);
}

#[test]
fn refused_for_the_upstreams_answer() {
    late_cases().iter().for_each(Case::run);
}

/// The credential of one tenant opens nothing of another, and an outsider cannot tell the reasons apart.
#[test]
fn outsiders_learn_nothing() {
    let upstream = Upstream::start(|_| panic!("nothing may be fetched"));
    let gateway = Gateway::start(&Setup::new(&upstream).tenant(
        "other",
        "tenant = \"other\"\n[[keys]]\nid = \"other-1\"\nsecret = \"file:rig.secret\"\nstatus = \"retired\"\n",
    ));
    let good = gateway.link(FILE);
    let body = |query: &str| {
        let answer = gateway.get(query);
        answer.expect(403, "invalid_signature");
        let mut problem = answer.problem();
        problem["request_id"] = "".into();
        let names: Vec<_> = answer.headers.iter().map(|(name, _)| name.clone()).collect();
        (problem.to_string(), names, answer.body.len())
    };
    let forged = body(&good.secret("sgk1_another-secret-of-enough-bytes-0123").query());
    let unknown = body(&gateway.link(FILE).with("kid", "nobody").query());
    let retired = body(&gateway.link(FILE).with("kid", "other-1").query());
    let late = body(&gateway.link(FILE).with("kid", "nobody").expires_in(-100).query());
    assert_eq!((&forged, &forged, &forged), (&unknown, &retired, &late));
}

#[test]
fn head_is_refused_alike_without_a_body() {
    let upstream = Upstream::start(|_| upstream_says("404 Not Found", ""));
    let gateway = Gateway::start(&Setup::new(&upstream));
    for (query, status) in [("url=x", 401), ("exp=x", 400), (&*gateway.link(FILE).query(), 404)] {
        let mut client = gateway.client();
        client.request("HEAD", query, &[("Connection", "close")]);
        let answer = client.answer("HEAD");
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(client.drain(), (Vec::new(), End::Closed));
    }
}

/// An announced body that does not fit into the rest of the day is refused before its first byte.
#[test]
fn what_exceeds_the_day_is_not_begun() {
    let upstream = Upstream::always(|| vec![Step::Send(ok(&[], b"hello"))]);
    let gateway = Gateway::start(&Setup::new(&upstream).policy("[limits.tenant]\nbytes_per_day = \"12 B\""));
    assert_eq!(gateway.fetch(FILE).body, b"hello");
    assert_eq!(gateway.fetch(FILE).body, b"hello");
    let answer = gateway.fetch(FILE);
    answer.expect(429, "quota_exceeded");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&wait), "{wait}");
}

/// Forged requests count against nobody's budget (T59).
#[test]
fn only_authenticated_requests_count() {
    let upstream = Upstream::always(|| vec![Step::Send(ok(&[], b"hello"))]);
    let setup = Setup::new(&upstream).policy("[limits.key]\nrequests_per_second = 0.01\nburst = 2");
    let gateway = Gateway::start(&setup);
    for _ in 0..10 {
        let forged = gateway.link(FILE).secret("sgk1_another-secret-of-enough-bytes-0123").query();
        let answer = gateway.get(&forged);
        answer.expect(403, "invalid_signature");
        assert_eq!(answer.header("ratelimit"), None);
    }
    assert_eq!((gateway.fetch(FILE).status, gateway.fetch(FILE).status), (200, 200));
    // What a client says about itself does not give it another bucket (T58).
    let answer = get_with(&gateway, &[("X-Forwarded-For", "198.51.100.7"), ("X-Real-IP", "198.51.100.8")]);
    answer.expect(429, "rate_limited");
}
