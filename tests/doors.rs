//! Both doors are asked the same, and must answer the same but for what the platform forces. Each difference is written
//! down here, and must really be there.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;

use support::{Answer, Function, Gateway, Link, Posted, Request, Setup, Step, Upstream, ok, text};

const FIELDS: [(&str, &str); 3] =
    [("Content-Type", "text/plain"), ("ETag", "\"v1\""), ("Accept-Ranges", "bytes")];

/// What an answer comes to, whichever door it left by.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    status: u64,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
    whole: bool,
}

/// What differs from the server door's answer, and why it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forced {
    /// Nothing but the fields that frame a message.
    Nothing,
    /// The distribution cuts ranges out of what it has cached.
    RangesIgnored,
    /// An empty streamed body may hang.
    EmptyIs204,
    /// The platform undoes codings.
    CodedRefused,
    /// A size limit of the platform's.
    TooLarge,
    /// Only the edge says who the client is.
    ClientByEdge,
}

struct Case {
    name: &'static str,
    method: &'static str,
    query: String,
    headers: Vec<(&'static str, &'static str)>,
    forced: Forced,
}

fn case(name: &'static str, query: String) -> Case {
    Case { name, method: "GET", query, headers: Vec::new(), forced: Forced::Nothing }
}

impl Case {
    fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn forced(mut self, forced: Forced) -> Self {
        self.forced = forced;
        self
    }
}

fn script(request: &Request) -> Vec<Step> {
    let file = b"0123456789";
    let answer = |fields: &[(&str, &str)], body: &[u8]| {
        let mut bytes = ok(fields, body);
        if request.method() == "HEAD" {
            bytes.truncate(bytes.len() - body.len());
        }
        vec![Step::Send(bytes)]
    };
    match request.target() {
        "/missing" => text("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        "/broken" => text("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"),
        "/short" => {
            let mut steps = text("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n0123456789");
            steps.push(Step::Close);
            steps
        }
        "/empty" => answer(&FIELDS, b""),
        "/coded" => answer(&[("Content-Encoding", "gzip")], b"\x1f\x8b"),
        "/large" => answer(&FIELDS, &[0; 1001]),
        "/moved" => text("HTTP/1.1 302 Found\r\nLocation: /file\r\nContent-Length: 0\r\n\r\n"),
        "/away" => text("HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n"),
        _ if request.header("if-none-match") == Some("\"v1\"") => {
            text("HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n")
        }
        _ if request.header("range") == Some("bytes=2-3") => text(
            "HTTP/1.1 206 Partial Content\r\nContent-Type: text/plain\r\nETag: \"v1\"\r\nContent-Length: 2\r\nContent-Range: bytes 2-3/10\r\n\r\n23",
        ),
        _ if request.header("range").is_some() => {
            text("HTTP/1.1 416 Range\r\nContent-Range: bytes */10\r\nContent-Length: 0\r\n\r\n")
        }
        _ => answer(&FIELDS, file),
    }
}

fn cases() -> Vec<Case> {
    let link = |path: &str| Link::to(&format!("http://files.test.example{path}"));
    let file = || link("/file").query();
    let altered = file().replace("file", "other");
    vec![
        case("a file", file()),
        case("its head", file()).method("HEAD"),
        case("under a signed name", link("/file").with("filename", "\u{fc}.txt").query()),
        case("inline", link("/file").with("disposition", "inline").query()),
        case("an unknown parameter", format!("{}&utm_source=x", file())),
        case("a redirect followed", link("/moved").query()),
        case("a redirect to an address", link("/away").query()),
        case("unchanged", file()).header("if-none-match", "\"v1\""),
        case("a range", file()).header("range", "bytes=2-3").forced(Forced::RangesIgnored),
        case("a range past the end", file()).header("range", "bytes=99-").forced(Forced::RangesIgnored),
        case("an empty file", link("/empty").query()).forced(Forced::EmptyIs204),
        case("a coded body", link("/coded").query()).forced(Forced::CodedRefused),
        case("a large file", link("/large").query()).forced(Forced::TooLarge),
        case("a body that breaks", link("/short").query()),
        case("missing upstream", link("/missing").query()),
        case("an upstream error", link("/broken").query()),
        case("its head fails too", link("/broken").query()).method("HEAD"),
        case("no link", String::new()),
        case("no link, head", String::new()).method("HEAD"),
        case("a parameter twice", format!("{}&kid=x", file())),
        case("altered", altered),
        case("another secret", link("/file").secret("sgk1_other-0123456789abcdefghijklmnopqrstuvw").query()),
        case("an unknown key", link("/file").with("kid", "nobody").query()),
        case("expired", link("/file").expires_in(-10).query()),
        case("not yet", link("/file").with("nbf", "9999999998").with("exp", "9999999999").query()),
        case("another host", Link::to("http://other.example/").query()),
        case("another address", link("/file").with("ip", "198.51.100.7").query()),
        case("this address", link("/file").with("ip", "127.0.0.0/8").query()).forced(Forced::ClientByEdge),
        case("another method", file()).method("POST"),
        case("a preflight", String::new()).method("OPTIONS").header("access-control-request-method", "GET"),
        case("options", String::new()).method("OPTIONS"),
        case("a loop", file()).header("via", "1.1 sluicegate"),
        case("a token that is none", "url=http%3A%2F%2Ffiles.test.example%2Ffile".to_owned())
            .header("authorization", "Bearer x.y.z"),
    ]
}

#[test]
fn both_doors_answer_the_same() {
    let upstream = Upstream::start(script);
    let setup = || Setup::new(&upstream).set("lambda.max_bytes", "1000 B");
    let (gateway, function) = (Gateway::start(&setup()), Function::start(setup()));
    for case in cases() {
        let answer = gateway.request(case.method, &case.query, &case.headers);
        let posted = function.request(case.method, &case.query, &case.headers);
        let (server, lambda) = (of_server(&answer), of_lambda(&posted));
        if case.forced == Forced::Nothing {
            assert_eq!(lambda, server, "{}", case.name);
        } else {
            assert_ne!(lambda, server, "{}: the difference is gone", case.name);
            check(&case, &server, &lambda);
        }
    }
}

/// Exactly the difference that the platform forces.
fn check(case: &Case, server: &Seen, lambda: &Seen) {
    let statuses = (server.status, lambda.status);
    let code = |seen: &Seen| {
        let problem: serde_json::Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        problem["code"].as_str().unwrap_or_default().to_owned()
    };
    match case.forced {
        Forced::Nothing => panic!("nothing is forced"),
        Forced::RangesIgnored => {
            assert!(matches!(statuses, (206 | 416, 200)), "{}: {statuses:?}", case.name);
            assert_eq!(lambda.body, b"0123456789");
        }
        Forced::EmptyIs204 => {
            let alike = Seen { status: 204, ..server.clone() };
            assert_eq!(lambda, &alike, "nothing but the status");
        }
        Forced::CodedRefused => assert_eq!((statuses, code(lambda).as_str()), ((200, 502), "upstream_error")),
        Forced::TooLarge => assert_eq!((statuses, code(lambda).as_str()), ((200, 413), "object_too_large")),
        Forced::ClientByEdge => {
            assert_eq!((statuses, code(lambda).as_str()), ((200, 403), "client_not_allowed"));
        }
    }
}

/// Fields that frame the message on its own connection, or that differ from one request to the next.
const FRAMING: [&str; 6] =
    ["content-length", "transfer-encoding", "connection", "accept-ranges", "date", "x-request-id"];

fn of_server(answer: &Answer) -> Seen {
    let headers = answer.headers.iter().cloned().collect();
    seen(answer.status.into(), headers, &answer.body, answer.complete())
}

fn of_lambda(posted: &Posted) -> Seen {
    let prelude = posted.prelude();
    let headers = prelude["headers"].as_object().unwrap().iter();
    let headers = headers.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    seen(posted.status(), headers, &posted.body(), posted.whole)
}

fn seen(status: u64, mut headers: BTreeMap<String, String>, body: &[u8], whole: bool) -> Seen {
    headers.retain(|name, _| !FRAMING.contains(&name.as_str()));
    // The counters are each process's own, and so are the seconds.
    headers.retain(|name, _| !name.starts_with("ratelimit"));
    let mut body = body.to_vec();
    if let Ok(mut problem) = serde_json::from_slice::<serde_json::Value>(&body)
        && let Some(fields) = problem.as_object_mut()
        && fields.remove("request_id").is_some()
    {
        body = problem.to_string().into_bytes();
    }
    Seen { status, headers, body, whole }
}
