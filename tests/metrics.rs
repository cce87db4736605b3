//! `/metrics` of a running server: every name with its right value after requests that are known, and nothing where nobody
//! asked for it.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use sluicegate::wire::metrics::{Kind, NAMES};
use support::{
    Answer, Client, Demo, End, Gateway, Link, Request, Setup, Signal, Step, Upstream, free_port, ok, poll,
    project, text,
};

const FILE: &str = "http://files.test.example/a.bin";

/// A scrape, strictly parsed: samples by name and labels as written.
struct Scrape {
    samples: BTreeMap<String, f64>,
    kinds: BTreeMap<String, String>,
    helps: BTreeMap<String, String>,
}

impl Scrape {
    fn of(address: SocketAddr) -> Self {
        let answer = ask(address, "GET", "/metrics");
        assert_eq!((answer.status, answer.end), (200, End::Length), "{}", answer.head);
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Self::parse(&String::from_utf8(answer.body).unwrap())
    }

    /// The text format 0.0.4: a family is HELP, TYPE, then its samples; every sample stands once.
    fn parse(text: &str) -> Self {
        let mut scrape = Self { samples: BTreeMap::new(), kinds: BTreeMap::new(), helps: BTreeMap::new() };
        let mut family = String::new();
        assert!(text.ends_with('\n'), "the last line does not end");
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(scrape.helps.insert(name.to_owned(), help.to_owned()).is_none(), "twice: {line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(scrape.helps.contains_key(name), "no HELP before {line}");
                assert!(scrape.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "twice: {line}");
                name.clone_into(&mut family);
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = check_series(series);
                let own = name.strip_prefix(family.as_str()).unwrap_or_else(|| panic!("{line} in {family}"));
                let allowed: &[&str] = match scrape.kinds[&family].as_str() {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(allowed.contains(&own), "{line} in {family}");
                let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
                assert!(scrape.samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
            }
        }
        scrape
    }

    fn value(&self, series: &str) -> Option<f64> {
        self.samples.get(series).copied()
    }

    /// Every series of a name, without the name.
    fn all(&self, name: &str) -> BTreeMap<&str, u64> {
        let own = |(series, value): (&'_ String, &f64)| -> Option<(&str, u64)> {
            let labels = series.strip_prefix(name).filter(|rest| rest.is_empty() || rest.starts_with('{'))?;
            // Found again in the key, which lives longer than the closure's argument.
            let (key, _) = self.samples.get_key_value(series)?;
            Some((&key[key.len() - labels.len()..], format!("{value}").parse().unwrap()))
        };
        self.samples.iter().filter_map(own).collect()
    }

    /// Buckets never fall, and the last one is the count.
    fn check_histogram(&self, name: &str, labels: &str, count: f64) {
        let prefix = format!("{name}_bucket{{{labels}");
        let mut buckets: Vec<_> = self
            .samples
            .iter()
            .filter_map(|(series, value)| {
                let bound = series.strip_prefix(&prefix)?.split_once("le=\"")?.1.trim_end_matches("\"}");
                Some((if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() }, *value))
            })
            .collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert_eq!((buckets[0].0, buckets[buckets.len() - 2].0), (0.001, 3600.0), "{name}");
        assert!(buckets.is_sorted_by(|one, other| one.1 <= other.1), "{name}: {buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{name}");
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        assert_eq!(self.value(&format!("{name}_count{labels}")), Some(count), "{name}");
        assert!(self.value(&format!("{name}_sum{labels}")).unwrap() > 0.0, "{name}");
    }
}

/// The name of a series whose labels are well formed.
fn check_series(series: &str) -> &str {
    let (name, labels) = series.split_once('{').map_or((series, None), |(name, rest)| (name, Some(rest)));
    assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{series}");
    for label in labels.into_iter().flat_map(|rest| rest.strip_suffix('}').unwrap().split(',')) {
        let (key, value) = label.split_once('=').unwrap();
        assert!(key.bytes().all(|byte| byte.is_ascii_lowercase()), "{series}");
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap();
        assert!(!value.is_empty() && !value.contains(['"', '\\']), "{series}");
    }
    name
}

fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    let mut client = Client::connect(address);
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n"));
    client.answer(method)
}

/// Where the metrics of a running gateway are.
fn metrics_of(gateway: &Gateway) -> SocketAddr {
    let line = gateway.line(|line| line["message"] == "metrics");
    let address = line["address"].as_str().unwrap().strip_prefix("http://").unwrap();
    address.strip_suffix("/metrics").unwrap().parse().unwrap()
}

fn measured(upstream: &Upstream) -> Setup {
    Setup::new(upstream).set("metrics.listen", "127.0.0.1:0").set("metrics.tenants", "acme")
}

const GLOBEX: &str = "tenant = \"globex\"\n[[keys]]\nid = \"globex-1\"\nsecret = \"file:rig.secret\"\n\
    [[allow]]\nhost = \"files.test.example\"\nschemes = [\"http\"]\n";

fn script(request: &Request, held: &Signal) -> Vec<Step> {
    let head = |rest: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n{rest}\r\n").into_bytes();
    let hello = || Step::Send(b"hello".to_vec());
    match request.target() {
        "/short" => vec![Step::Send(head("")), hello(), Step::Close],
        "/held" => vec![Step::Send(head("")), hello(), Step::Wait(held.clone()), hello()],
        "/left" => vec![Step::Send(head("")), hello(), Step::Stall],
        "/broken" => text("HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n"),
        "/resumed" if request.from() == 0 => {
            vec![Step::Send(head("ETag: \"v1\"\r\nAccept-Ranges: bytes\r\n")), hello(), Step::Close]
        }
        "/resumed" => text(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nETag: \"v1\"\r\n\
             Content-Range: bytes 5-9/10\r\n\r\nworld",
        ),
        _ => vec![Step::Send(ok(&[], b"hello"))],
    }
}

fn file(path: &str) -> String {
    Link::to(&format!("http://files.test.example{path}")).query()
}

/// Requests of every kind, each waited for to its record.
fn known_requests(gateway: &Gateway) {
    let done = |answer: &Answer| drop(gateway.record(answer));
    for query in [file("/a.bin"), file("/a.bin"), Link::to(FILE).with("kid", "globex-1").query()] {
        let answer = gateway.get(&query);
        assert_eq!(answer.body, b"hello");
        done(&answer);
    }
    for (query, status, code) in [
        (Link::to(FILE).expires_in(-5).query(), 403, "link_expired"),
        (
            Link::to(FILE).secret("sgk1_wrong-0123456789abcdefghijklmnopqrstuvwx").query(),
            403,
            "invalid_signature",
        ),
        (Link::to("http://elsewhere.example/").query(), 403, "url_not_allowed"),
        (file("/broken"), 502, "upstream_error"),
    ] {
        let answer = gateway.get(&query);
        answer.expect(status, code);
        done(&answer);
    }
    let resumed = gateway.get(&file("/resumed"));
    assert_eq!(resumed.body, b"helloworld");
    done(&resumed);
    let short = gateway.get(&file("/short"));
    assert!(!short.complete());
    gateway.line(|line| line["code"] == "broke_off");
    let mut leaving = gateway.client();
    leaving.request("GET", &file("/left"), &[]);
    leaving.head().unwrap();
    leaving.peek(5);
    drop(leaving);
    gateway.line(|line| line["code"] == "client_left");
    done(&ask(gateway.address(), "GET", "/healthz"));
    done(&ask(gateway.address(), "GET", "/nothing-here"));
}

#[test]
fn every_name_has_its_value_after_known_requests() {
    let held = Signal::new();
    let holding = held.clone();
    let upstream = Upstream::start(move |request| script(request, &holding));
    let gateway = Gateway::start(&measured(&upstream).tenant("globex", GLOBEX));
    let address = metrics_of(&gateway);
    known_requests(&gateway);

    let scrape = Scrape::of(address);
    check_requests(&scrape);
    check_sums(&scrape);
    check_the_list(&scrape);

    // Under way: one download, on the one connection that is left.
    let mut client = gateway.client();
    client.request("GET", &file("/held"), &[]);
    let head = client.head().unwrap();
    client.peek(5);
    let now = || Scrape::of(address);
    assert_eq!(now().value("sluicegate_requests_active"), Some(1.0));
    assert_eq!(now().value("sluicegate_sent_bytes_total{tenant=\"acme\"}"), Some(35.0), "as they are sent");
    poll(|| now().value("sluicegate_connections_active") == Some(1.0)).expect("one connection is left");
    held.give();
    client.peek(10);
    gateway.record(&head);
    assert_eq!(now().value("sluicegate_requests_active"), Some(0.0));
}

/// How requests ended, by outcome, code and tenant.
fn check_requests(scrape: &Scrape) {
    let requests = [
        ("answered", "none", "none", 1),
        ("aborted", "client_left", "acme", 1),
        ("aborted", "broke_off", "acme", 1),
        ("refused", "invalid_signature", "none", 1),
        ("refused", "link_expired", "none", 1),
        ("refused", "not_found", "none", 1),
        ("refused", "upstream_error", "acme", 1),
        ("refused", "url_not_allowed", "acme", 1),
        ("whole", "none", "acme", 3),
        ("whole", "none", "other", 1),
    ];
    let expected: BTreeMap<String, u64> = requests
        .map(|(outcome, code, tenant, count)| {
            (format!("{{outcome=\"{outcome}\",code=\"{code}\",tenant=\"{tenant}\"}}"), count)
        })
        .into();
    let found: BTreeMap<String, u64> = scrape
        .all("sluicegate_requests_total")
        .into_iter()
        .map(|(labels, count)| (labels.to_owned(), count))
        .collect();
    assert_eq!(found, expected);
}

/// What has been counted beside that.
fn check_sums(scrape: &Scrape) {
    let sent = scrape.all("sluicegate_sent_bytes_total");
    assert_eq!(sent, [("{tenant=\"acme\"}", 30), ("{tenant=\"other\"}", 5)].into());
    let version = format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    for (name, labels, value) in [
        ("sluicegate_refused_total", "", 5.0),
        ("sluicegate_aborted_total", "", 1.0),
        ("sluicegate_server_errors_total", "", 1.0),
        ("sluicegate_resumes_total", "", 1.0),
        ("sluicegate_requests_active", "", 0.0),
        ("sluicegate_policy_tenants", "", 2.0),
        ("sluicegate_policy_keys", "", 2.0),
        ("sluicegate_policy_loads_total", "{result=\"ok\"}", 1.0),
        ("sluicegate_error_lines_total", "", 0.0),
        ("sluicegate_build_info", version.as_str(), 1.0),
    ] {
        assert_eq!(scrape.value(&format!("{name}{labels}")), Some(value), "{name}");
    }
    for (outcome, count) in [("whole", 4.0), ("refused", 5.0), ("aborted", 2.0), ("answered", 1.0)] {
        let labels = format!("outcome=\"{outcome}\"");
        scrape.check_histogram("sluicegate_request_duration_seconds", &labels, count);
    }
    scrape.check_histogram("sluicegate_first_byte_seconds", "", 6.0);
}

/// What the scrape has is in the list, with its kind and help; what the list has and could occur is in the scrape.
fn check_the_list(scrape: &Scrape) {
    for metric in NAMES {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let shared_limits = metric.name.contains("_limit_store_") || metric.name.contains("_limits_");
        let found = scrape.kinds.get(metric.name);
        assert!(found.is_some() || shared_limits, "{} is not there", metric.name);
        assert!(found.is_none_or(|found| found == kind), "{}", metric.name);
        assert!(scrape.helps.get(metric.name).is_none_or(|help| help == metric.help), "{}", metric.name);
    }
    for name in scrape.kinds.keys() {
        assert!(NAMES.iter().any(|metric| metric.name == name), "{name} is not in the list");
    }
}

/// What clients send never becomes a label.
#[test]
fn hostile_requests_make_no_series() {
    let upstream = Upstream::always(|| vec![Step::Send(ok(&[], b"hello"))]);
    let gateway = Gateway::start(&measured(&upstream));
    let address = metrics_of(&gateway);
    let send = |number: usize| {
        let mut client = gateway.client();
        client.send(format!(
            "BREW{number} /{number} HTTP/1.1\r\nHost: h{number}.test\r\nUser-Agent: a{number}\r\n\r\n"
        ));
        let answer = client.answer("GET");
        answer.expect(405, "method_not_allowed");
        gateway.record(&answer);
        let link =
            Link::to(&format!("http://files.test.example/{number}")).with("kid", &format!("k{number}"));
        let answer = gateway.get(&link.with("id", &format!("id-{number}")).query());
        answer.expect(403, "invalid_signature");
        gateway.record(&answer);
        let link =
            Link::to(&format!("http://files.test.example/{number}")).with("id", &format!("id-{number}"));
        gateway.record(&gateway.get(&link.query()));
        Scrape::of(address).samples.into_keys().collect::<Vec<_>>()
    };
    let first = send(0);
    for number in 1..40 {
        assert_eq!(send(number), first);
    }
}

#[test]
fn a_reload_that_fails_is_counted() {
    let upstream = Upstream::always(|| vec![Step::Send(ok(&[], b"hello"))]);
    let gateway = Gateway::start(&measured(&upstream));
    let address = metrics_of(&gateway);
    std::fs::write(gateway.policy_folder().join("acme.toml"), "tenant = 1\n").unwrap();
    gateway.line(|line| line["level"] == "ERROR");
    let scrape = Scrape::of(address);
    let loads = scrape.all("sluicegate_policy_loads_total");
    assert!(loads["{result=\"failed\"}"] >= 1 && loads["{result=\"ok\"}"] == 1, "{loads:?}");
    assert!(scrape.value("sluicegate_error_lines_total").unwrap() >= 1.0);
    assert_eq!(scrape.value("sluicegate_policy_tenants"), Some(1.0));
}

#[test]
fn the_main_door_keeps_its_metrics_to_itself() {
    let upstream = Upstream::always(|| vec![Step::Send(ok(&[], b"hello"))]);
    let silent = Gateway::start(&Setup::new(&upstream));
    ask(silent.address(), "GET", "/metrics").expect(404, "not_found");
    let gateway = Gateway::start(&measured(&upstream));
    ask(gateway.address(), "GET", "/metrics").expect(404, "not_found");
    let address = metrics_of(&gateway);
    let link = format!("/?{}", file("/a.bin"));
    for (method, path) in
        [("GET", "/"), ("GET", "/metrics/"), ("GET", "/healthz"), ("POST", "/metrics"), ("GET", &link)]
    {
        let answer = ask(address, method, path);
        assert_eq!((answer.status, answer.body.len()), (404, 0), "{method} {path}");
    }
    let head = ask(address, "HEAD", "/metrics");
    assert_eq!((head.status, head.end), (200, End::Bodiless));
    assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 1000, "{}", head.head);
    assert_eq!(upstream.requests().len(), 0);
}

#[test]
fn the_same_address_is_the_main_door() {
    let upstream = Upstream::always(|| vec![Step::Send(ok(&[], b"hello"))]);
    let address = free_port().to_string();
    let setup = Setup::new(&upstream).set("listen", &address).set("metrics.listen", &address);
    let gateway = Gateway::start(&setup);
    assert_eq!(metrics_of(&gateway), gateway.address());
    let answer = gateway.fetch(FILE);
    assert_eq!(answer.body, b"hello");
    gateway.record(&answer);
    let scrape = Scrape::of(gateway.address());
    let requests = scrape.all("sluicegate_requests_total");
    assert_eq!(
        requests,
        [("{outcome=\"whole\",code=\"none\",tenant=\"other\"}", 1)].into(),
        "a scrape is no request"
    );
    ask(gateway.address(), "POST", "/metrics").expect(405, "method_not_allowed");
}

/// Who says nothing does not keep a place.
#[test]
fn a_silent_reader_is_closed() {
    let upstream = Upstream::always(|| vec![Step::Send(ok(&[], b"hello"))]);
    let gateway = Gateway::start(&measured(&upstream).set("timeouts.client_head", "300ms"));
    let address = metrics_of(&gateway);
    for said in ["", "GET /metrics HTTP/1.1\r\nHost: x\r\n"] {
        let mut client = Client::connect(address);
        client.send(said);
        let answer = client.answer("GET");
        assert!([0, 408].contains(&answer.status), "{}", answer.head);
    }
    assert_eq!(ask(address, "GET", "/metrics").status, 200);
}

#[test]
fn the_demo_says_where_its_metrics_are() {
    let folder = project("metrics");
    let demo = Demo::start(&folder);
    let (_, rest) = demo.banner.split_once("for Prometheus: http://").expect("no such line");
    let address = rest.split_once("/metrics").unwrap().0.parse().unwrap();
    let scrape = Scrape::of(address);
    assert_eq!(scrape.value("sluicegate_policy_tenants"), Some(1.0));
    std::fs::remove_dir_all(folder).unwrap();
}
