//! Several gateways with one store of counters: what they let in together, what happens when the store goes away and when
//! one of them does, and that nothing is left behind.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::*;

const URL: &str = "http://files.test.example/a.txt";

fn upstream() -> Upstream {
    Upstream::start(|_| vec![Step::Send(ok(&[], b"0123456789"))])
}

/// Where a fleet counts.
trait Place {
    fn settings(&self, setup: Setup) -> Setup;
}

impl Place for Redis {
    fn settings(&self, setup: Setup) -> Setup {
        setup.set("limits.store", &self.url())
    }
}

impl Place for Dynamo {
    fn settings(&self, setup: Setup) -> Setup {
        let setup = setup.set("limits.store", &format!("dynamodb:{TABLE}"));
        self.variables().into_iter().fold(setup, |setup, (name, value)| setup.variable(name, &value))
    }
}

/// Each process by itself.
struct Alone;

impl Place for Alone {
    fn settings(&self, setup: Setup) -> Setup {
        setup
    }
}

// --- What they let in together

const FLEET: usize = 8;
const PER_SECOND: u32 = 20;
const BURST: u32 = 20;
const WINDOW: Duration = Duration::from_secs(30);

/// How many requests eight gateways let in, and in how long.
fn let_in(place: &dyn Place, batch: u32) -> (u64, Duration) {
    let upstream = upstream();
    let limits = format!(
        "[limits]\nfail = \"closed\"\n[limits.key]\nrequests_per_second = {PER_SECOND}\nburst = {BURST}\n"
    );
    let gateways: Vec<_> = (0..FLEET)
        .map(|_| {
            // A slow machine is no outage here.
            let setup = Setup::new(&upstream).policy(&limits).set("limits.timeout", "15s");
            Gateway::start(&place.settings(setup).set("limits.batch", &batch.to_string()))
        })
        .collect();
    let (passed, begin) = (AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for gateway in &gateways {
            scope.spawn(|| {
                let query = gateway.link(URL).query();
                let mut client = gateway.client();
                while begin.elapsed() < WINDOW {
                    client.request("GET", &query, &[]);
                    let answer = client.answer("GET");
                    match answer.status {
                        200 => drop(passed.fetch_add(1, Ordering::Relaxed)),
                        _ => answer.expect(429, "rate_limited"),
                    }
                }
            });
        }
    });
    (passed.into_inner(), begin.elapsed())
}

/// GCRA lets a burst through and then the rate; each instance may hold paid requests from before.
fn bound(window: Duration, batch: u32) -> u64 {
    let earned = u128::from(PER_SECOND) * window.as_millis() / 1000 + 1;
    u64::from(BURST) + u64::try_from(earned).unwrap() + FLEET as u64 * u64::from(batch - 1)
}

fn stays_within(place: &dyn Place, batch: u32) {
    let (passed, window) = let_in(place, batch);
    let most = bound(window, batch);
    eprintln!("{passed} of at most {most} in {window:?}, batch {batch}");
    assert!(passed <= most, "{passed} requests passed, at most {most} may");
    // Nearly all of them, or it would be a limit of another height.
    assert!(passed * 10 >= most * 8, "only {passed} requests passed of {most}");
}

#[test]
fn eight_gateways_stay_within_the_limit_at_redis() {
    stays_within(&Redis::start(), 1);
}

#[test]
fn eight_gateways_stay_within_the_bound_in_batches() {
    stays_within(&Redis::start(), 8);
}

#[test]
fn eight_gateways_stay_within_the_limit_at_dynamodb() {
    stays_within(&Dynamo::dynalite(), 1);
}

#[test]
fn eight_gateways_alone_exceed_it() {
    let (passed, window) = let_in(&Alone, 1);
    let most = bound(window, 1);
    eprintln!("{passed} where {most} were allowed");
    assert!(passed > most * 2, "{passed} requests passed; each process has counters of its own");
}

// --- A store that goes away

/// How long an answer may take while the store is away: three questions that wait in vain and the answer itself, on a
/// machine that does other things too.
const PATIENCE: Duration = Duration::from_millis(500);
const BEARABLE: Duration = Duration::from_secs(5);

fn one_tenant_each(upstream: &Upstream) -> Setup {
    let closed = format!(
        "tenant = \"closed\"\n[[keys]]\nid = \"closed-1\"\nsecret = \"file:rig.secret\"\n[[allow]]\nhost = \"{HOST}\"\nschemes = [\"http\"]\n{}",
        "[limits]\nfail = \"closed\"\n[limits.key]\nrequests_per_second = 0.01\nburst = 5\nconcurrent_downloads = 3\n"
    );
    let free = format!(
        "tenant = \"free\"\n[[keys]]\nid = \"free-1\"\nsecret = \"file:rig.secret\"\n[[allow]]\nhost = \"{HOST}\"\nschemes = [\"http\"]\n"
    );
    Setup::new(upstream)
        .policy("[limits.key]\nrequests_per_second = 0.01\nburst = 5\n")
        .tenant("closed", &closed)
        .tenant("free", &free)
        .set("limits.timeout", &humantime(PATIENCE))
        .set("limits.retry", "100ms")
}

fn humantime(span: Duration) -> String {
    format!("{}ms", span.as_millis())
}

fn as_key(gateway: &Gateway, key: &str) -> Answer {
    let begin = Instant::now();
    let answer = gateway.get(&gateway.link(URL).with("kid", key).query());
    let took = begin.elapsed();
    assert!(took < BEARABLE, "an answer took {took:?}");
    answer
}

/// What an answer says of its limits.
fn says(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status, answer.header("x-sluicegate-limits"))
}

fn left(answer: &Answer) -> u32 {
    let field = answer.header("ratelimit").unwrap();
    field.split("r=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap()
}

/// While the store is away, `open` goes on with the process's own counters and `closed` refuses; both say so.
fn each_tenant_fails_as_it_says(gateway: &Gateway, upstream: &Upstream) {
    for expected in [4, 3] {
        let answer = as_key(gateway, KEY);
        assert_eq!(says(&answer), (200, Some("degraded")), "{}", answer.head);
        assert_eq!(left(&answer), expected, "by the process's own count");
        assert_eq!(gateway.record(&answer)["limits_failed"], "open");
    }
    let fetched = upstream.requests().len();
    let answer = as_key(gateway, "closed-1");
    answer.expect(503, "unavailable");
    assert_eq!(says(&answer), (503, Some("degraded")));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let record = gateway.record(&answer);
    assert_eq!(
        (record["limits_failed"].as_str(), record["stage"].as_str()),
        (Some("closed"), Some("limits"))
    );
    assert_eq!(upstream.requests().len(), fetched, "nothing was fetched");
    assert_eq!(says(&as_key(gateway, "free-1")), (200, None), "who has no limits needs no store");
}

fn is_back(gateway: &Gateway) {
    assert!(poll(|| as_key(gateway, "closed-1").status == 200).is_some(), "the store was not found again");
    assert_eq!(says(&as_key(gateway, KEY)), (200, None));
    gateway.line(|line| line["message"] == "the limit store answers again");
}

#[test]
fn redis_dies_and_comes_back() {
    let (upstream, mut redis) = (upstream(), Redis::start());
    let gateway = Gateway::start(&redis.settings(one_tenant_each(&upstream)));
    assert_eq!(
        (says(&as_key(&gateway, KEY)), says(&as_key(&gateway, "closed-1"))),
        ((200, None), (200, None))
    );
    redis.kill();
    each_tenant_fails_as_it_says(&gateway, &upstream);
    gateway.line(|line| {
        line["level"] == "ERROR" && line["message"].as_str().unwrap().contains("the limit store is away")
    });
    redis.restart();
    is_back(&gateway);
}

/// What was set aside in a store that lost its memory is not taken off what others counted since.
#[test]
fn a_redis_that_forgot_is_given_nothing_back() {
    let go = Signal::new();
    let wait = go.clone();
    let upstream = Upstream::start(move |request| match request.target() {
        "/slow" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\nab";
            vec![Step::Send(head.into()), Step::Wait(wait.clone()), Step::Close]
        }
        _ => vec![Step::Send(ok(&[], &[b'x'; 1000]))],
    });
    let mut redis = Redis::start();
    let limits = "[limits]\nfail = \"closed\"\n[limits.key]\nbytes_per_day = \"1 MB\"\n";
    let setup = Setup::new(&upstream).policy(limits).set("limits.retry", "100ms").set("timeouts.idle", "60s");
    let gateway = Gateway::start(&redis.settings(setup));
    let held = a_download_under_way(&gateway);
    redis.kill();
    redis.restart();
    assert!(poll(|| gateway.fetch(URL).status == 200).is_some());
    assert_eq!(gateway.fetch(URL).status, 200);
    let bytes = || {
        redis.ask(&format!(
            "EVAL \"return redis.call('HGET', KEYS[1], 'bytes')\" 1 sluicegate:{{{TENANT}}}:key:{KEY}"
        ))
    };
    let length = bytes();
    let metrics_of_ends = || gateway.lines().iter().filter(|line| line["outcome"] == "aborted").count();
    drop(held);
    go.give();
    assert!(poll(|| metrics_of_ends() == 1).is_some());
    // The end is settled before the next question of the same connection is answered.
    assert!(poll(|| gateway.fetch(URL).status == 200).is_some());
    assert_eq!((length.as_str(), bytes().as_str()), ("$4", "$4"), "thousands of bytes are still counted");
}

/// A server says from the start whether its store is there.
#[test]
fn a_server_greets_its_store() {
    let (upstream, redis) = (upstream(), Redis::start());
    let gateway = Gateway::start(&redis.settings(Setup::new(&upstream)));
    gateway.line(|line| line["message"] == "the limit store answers");
    let nobody = format!("redis://{}", free_port());
    let gateway = Gateway::start(&Setup::new(&upstream).set("limits.store", &nobody));
    gateway.line(|line| line["message"] == "the limit store did not answer");
}

/// A connection on which nothing comes back is worse than one that breaks.
#[test]
fn redis_stands_still_and_goes_on() {
    let (upstream, redis) = (upstream(), Redis::start());
    let gateway = Gateway::start(&redis.settings(one_tenant_each(&upstream)));
    assert_eq!(
        (says(&as_key(&gateway, KEY)), says(&as_key(&gateway, "closed-1"))),
        ((200, None), (200, None))
    );
    redis.freeze();
    each_tenant_fails_as_it_says(&gateway, &upstream);
    redis.thaw();
    is_back(&gateway);
}

#[test]
fn dynamodb_dies_and_comes_back() {
    let (upstream, mut dynamo) = (upstream(), Dynamo::dynalite());
    let gateway = Gateway::start(&dynamo.settings(one_tenant_each(&upstream)));
    assert_eq!(
        (says(&as_key(&gateway, KEY)), says(&as_key(&gateway, "closed-1"))),
        ((200, None), (200, None))
    );
    dynamo.kill();
    each_tenant_fails_as_it_says(&gateway, &upstream);
    dynamo.restart();
    is_back(&gateway);
}

/// A gateway starts without its store, and a store that answers nonsense is none.
#[test]
fn a_store_that_never_was() {
    let upstream = upstream();
    let nonsense = Upstream::start(|_| text("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"));
    let closed = free_port();
    for url in [format!("redis://{closed}"), format!("redis://{}", nonsense.address())] {
        let setup = one_tenant_each(&upstream).set("limits.store", &url);
        each_tenant_fails_as_it_says(&Gateway::start(&setup), &upstream);
    }
    let setup = one_tenant_each(&upstream)
        .set("limits.store", "dynamodb:limits")
        .variable("AWS_ENDPOINT_URL_DYNAMODB", &format!("http://{}", nonsense.address()))
        .variable("AWS_REGION", REGION)
        .variable("AWS_ACCESS_KEY_ID", "id")
        .variable("AWS_SECRET_ACCESS_KEY", "secret");
    each_tenant_fails_as_it_says(&Gateway::start(&setup), &upstream);
}

/// A key that is busier than its item can be is throttled by itself: nobody else is to go without the store for it.
#[test]
fn an_item_that_is_throttled_is_no_outage() {
    let upstream = upstream();
    let throttling = Upstream::start(|_| {
        let body = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ThrottlingException","message":"slow"}"#;
        text(format!("HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    });
    let setup = one_tenant_each(&upstream)
        .set("limits.store", "dynamodb:limits")
        .set("limits.retry", "1h")
        .variable("AWS_ENDPOINT_URL_DYNAMODB", &format!("http://{}", throttling.address()))
        .variable("AWS_REGION", REGION)
        .variable("AWS_ACCESS_KEY_ID", "id")
        .variable("AWS_SECRET_ACCESS_KEY", "secret");
    let gateway = Gateway::start(&setup);
    for number in 1..=8 {
        for key in [KEY, "closed-1"] {
            let answer = as_key(&gateway, key);
            answer.expect(429, "rate_limited");
            assert_eq!(
                answer.header("retry-after"),
                Some("1"),
                "whoever is too much for its item gets no other one"
            );
        }
        assert!(throttling.requests().len() >= number, "the store is still asked");
    }
    let away = |line: &serde_json::Value| line["level"] == "ERROR";
    assert!(!gateway.lines().iter().any(away));
}

/// The password is not in the URL, nor in anything that is said.
#[test]
fn a_redis_with_a_password() {
    let (upstream, redis) = (upstream(), Redis::with_password("hunter2-of-the-limits"));
    let setup = || redis.settings(one_tenant_each(&upstream));
    let gateway = Gateway::start(
        &setup().set("limits.password", "env:LIMITS").variable("LIMITS", "hunter2-of-the-limits"),
    );
    assert_eq!(says(&as_key(&gateway, "closed-1")), (200, None));
    let gateway = Gateway::start(
        &setup().set("limits.password", "env:LIMITS").variable("LIMITS", "hunter3-of-the-limits"),
    );
    as_key(&gateway, "closed-1").expect(503, "unavailable");
    let line = gateway.line(|line| line["message"] == "the limit store did not answer");
    assert!(line["reason"].as_str().unwrap().contains("authentication failed"), "{line}");
    let said = gateway.lines().iter().map(ToString::to_string).collect::<String>();
    assert!(!said.contains("hunter"), "{said}");
}

/// TLS, with a certificate that is checked.
#[test]
fn a_redis_behind_tls() {
    let upstream = upstream();
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = |name: &str| folder.join(format!("redis-{}-{name}.pem", std::process::id()));
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(path("key"), key.serialize_pem()).unwrap();
    std::fs::write(path("certificate"), certificate.pem()).unwrap();
    let redis = Redis::with_tls(&path("certificate"), &path("key"));
    let setup = || one_tenant_each(&upstream).set("limits.store", &format!("rediss://{}", redis.address()));
    let trusting = setup().variable("SSL_CERT_FILE", path("certificate").to_str().unwrap());
    let gateway = Gateway::start(&trusting.set("limits.timeout", "10s"));
    assert_eq!(says(&as_key(&gateway, "closed-1")), (200, None));
    let gateway = Gateway::start(&setup());
    as_key(&gateway, "closed-1").expect(503, "unavailable");
    let line = gateway.line(|line| line["message"] == "the limit store did not answer");
    assert!(line["reason"].as_str().unwrap().to_lowercase().contains("certificate"), "{line}");
    for name in ["key", "certificate"] {
        std::fs::remove_file(path(name)).unwrap();
    }
}

/// What the store is asked can be watched.
#[test]
fn questions_are_measured() {
    let (upstream, mut redis) = (upstream(), Redis::start());
    let setup = redis.settings(one_tenant_each(&upstream).set("metrics.listen", "127.0.0.1:0"));
    let gateway = Gateway::start(&setup);
    let line = gateway.line(|line| line["message"] == "metrics");
    let address = line["address"].as_str().unwrap().strip_prefix("http://").unwrap();
    let address = address.strip_suffix("/metrics").unwrap().parse().unwrap();
    let sample = |name: &str| -> String {
        let mut client = Client::connect(address);
        client.send(b"GET /metrics HTTP/1.1\r\nHost: m\r\n\r\n");
        let page = String::from_utf8(client.answer("GET").body).unwrap();
        let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.rsplit(' ').next().unwrap_or_default().to_owned()
    };
    for _ in 0..3 {
        as_key(&gateway, "closed-1");
        as_key(&gateway, "free-1");
    }
    let calls = "sluicegate_limit_store_calls_total{operation=\"enter\",result=\"ok\"}";
    assert_eq!(sample(calls), "3", "a call each, and none for a tenant without limits");
    assert!(
        poll(|| sample("sluicegate_limit_store_calls_total{operation=\"leave\",result=\"ok\"}") == "3")
            .is_some()
    );
    assert_eq!(sample("sluicegate_limit_store_up"), "1");
    assert_eq!(sample("sluicegate_limit_store_duration_seconds_count{operation=\"enter\"}"), "3");
    redis.kill();
    as_key(&gateway, "closed-1").expect(503, "unavailable");
    as_key(&gateway, KEY);
    assert_eq!(sample("sluicegate_limit_store_up"), "0");
    assert_eq!(sample("sluicegate_limits_degraded_total{fail=\"closed\"}"), "1");
    assert_eq!(sample("sluicegate_limits_degraded_total{fail=\"open\"}"), "1");
}

/// The table in docs/operations.md: writes to DynamoDB for one download in a row of them, one for each scope that is
/// limited. What is refused by a rate costs one in a second.
#[test]
fn a_download_asks_no_more_than_it_must() {
    let upstream = Upstream::start(|request| match request.target() {
        "/chunked" => text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"),
        _ => vec![Step::Send(ok(&[], b"0123456789"))],
    });
    let (rate, places, bytes) =
        ("requests_per_second = 1000\n", "concurrent_downloads = 9\n", "bytes_per_day = \"1 GB\"\n");
    let none = String::new();
    let key = |limits: &[&str]| format!("[limits.key]\n{}", limits.concat());
    let cases = [
        (none, "/a", 0),
        (key(&[rate]), "/a", 1),
        (key(&[places]), "/a", 2),
        (key(&[rate, places]), "/a", 2),
        (key(&[bytes]), "/a", 2),
        (key(&[rate, places, bytes]), "/a", 3),
        (key(&[bytes]), "/chunked", 3),
        (format!("{}[limits.tenant]\n{rate}{places}{bytes}", key(&[rate, places, bytes])), "/a", 6),
    ];
    for (limits, path, expected) in cases {
        let dynamo = Dynamo::dynalite();
        let setup = Setup::new(&upstream).policy(&format!("{limits}[limits]\nfail = \"closed\"\n"));
        let function = Function::start(dynamo.settings(setup.set("limits.timeout", "10s")));
        let download = |number: usize| {
            assert_eq!(function.get(&Link::to(&format!("http://{HOST}{path}")).query()).status(), 200);
            function.api.wait_polls(number + 1);
            dynamo.counts()
        };
        // The first one finds out that there is nothing yet.
        download(1);
        let before = download(2);
        let after = download(3);
        // A rate that is idle again is not what it was thought to be, which one more question tells.
        let (writes, reads) = (after.0 - before.0, after.1 - before.1);
        assert_eq!((writes - reads, reads), (expected, 0), "{limits} {path}");
    }
    let dynamo = Dynamo::dynalite();
    let setup = Setup::new(&upstream).policy("[limits.key]\nrequests_per_second = 0.001\nburst = 1\n");
    let gateway = Gateway::start(&dynamo.settings(setup.set("limits.timeout", "10s")));
    assert_eq!(gateway.fetch(URL).status, 200);
    gateway.fetch(URL).expect(429, "rate_limited");
    let (begin, before) = (Instant::now(), dynamo.counts());
    for _ in 0..20 {
        gateway.fetch(URL).expect(429, "rate_limited");
    }
    let (seconds, after) = (begin.elapsed().as_secs() + 1, dynamo.counts());
    assert!(after.0 - before.0 <= seconds, "{before:?} {after:?} in {seconds} s");
    // Nor does what the rules refuse, which is told its standing all the same.
    let (begin, before) = (Instant::now(), dynamo.counts());
    for _ in 0..20 {
        let answer = gateway.fetch("http://elsewhere.test.example/a.txt");
        answer.expect(403, "url_not_allowed");
        assert_eq!(left(&answer), 0, "{}", answer.head);
    }
    let (seconds, after) = (begin.elapsed().as_secs() + 1, dynamo.counts());
    assert!(after.1 - before.1 <= seconds * 2, "{before:?} {after:?} in {seconds} s");
}

/// Clients that leave while the store is being asked take nothing with them: no place, no byte, no request of anybody else.
fn clients_that_leave_take_nothing_along(place: &dyn Place) {
    // It never gets past the question: what is announced is more than what may be sent.
    let upstream = Upstream::start(|_| text("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nab"));
    let limits = "[limits]\nfail = \"closed\"\n[limits.key]\nconcurrent_downloads = 50\nbytes_per_day = \"100 KB\"\n\
                  [limits.tenant]\nconcurrent_downloads = 50\nbytes_per_day = \"100 KB\"\n";
    let setup = Setup::new(&upstream).policy(limits).set("limits.timeout", "10s").set("limits.lease", "1h");
    let gateway = Gateway::start(&place.settings(setup));
    let query = gateway.link(URL).query();
    for number in 0..400 {
        let mut client = gateway.client();
        client.request("GET", &query, &[]);
        // Most of them leave while something is under way, at one moment or another.
        for _ in 0..(number % 40) * 50 {
            std::hint::spin_loop();
        }
        drop(client);
    }
    // All of it is there again: fifty places, and the day's bytes but for what was sent.
    let all = poll(|| {
        let mut held = Vec::new();
        for _ in 0..50 {
            let mut client = gateway.client();
            client.request("GET", &query, &[]);
            if !client.peek(12).starts_with(b"HTTP/1.1 200") {
                return false;
            }
            held.push(client);
        }
        true
    });
    assert!(all.is_some(), "{}", gateway.fetch(URL).head);
}

#[test]
fn clients_that_leave_take_nothing_along_from_redis() {
    clients_that_leave_take_nothing_along(&Redis::start());
}

#[test]
fn clients_that_leave_take_nothing_along_from_dynamodb() {
    clients_that_leave_take_nothing_along(&Dynamo::dynalite());
}

/// A server that is asked to stop settles first, and writes down what it cuts off.
#[test]
fn a_server_that_stops_settles() {
    let go = Signal::new();
    let (upstream, redis) = (slow_upstream(&go), Redis::start());
    let gateway = Gateway::start(&redis.settings(
        Setup::new(&upstream).policy(PLACES).set("limits.lease", "1h").set("shutdown_grace", "1s"),
    ));
    let _held = a_download_under_way(&gateway);
    let key = format!("sluicegate:{{{TENANT}}}:leases:key:{KEY}");
    assert_eq!(redis.ask(&format!("ZCARD {key}")), ":1");
    gateway.terminate();
    gateway.line(|line| line["message"] == "stopped: some downloads did not finish in time");
    gateway.line(|line| line["outcome"] == "aborted" && line["bytes"] == 2);
    assert_eq!(redis.ask(&format!("ZCARD {key}")), ":0");
}

// --- Downloads

/// `/slow` sends two bytes and then waits.
fn slow_upstream(go: &Signal) -> Upstream {
    let go = go.clone();
    Upstream::start(move |request| match request.target() {
        "/slow" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab";
            vec![Step::Send(head.into()), Step::Wait(go.clone()), Step::Send(b"cd".to_vec())]
        }
        _ => vec![Step::Send(ok(&[], b"0123456789"))],
    })
}

const PLACES: &str = "[limits]\nfail = \"closed\"\n[limits.key]\nconcurrent_downloads = 2\n[limits.tenant]\nconcurrent_downloads = 2\n";
const SLOW: &str = "http://files.test.example/slow";

/// A download that is let in; a place that is just being given back is waited for.
fn a_download_under_way(gateway: &Gateway) -> Client {
    let under_way = RefCell::new(None);
    let query = gateway.link(SLOW).query();
    let begun = poll(|| {
        let mut client = gateway.client();
        client.request("GET", &query, &[]);
        let let_in = client.peek(12).starts_with(b"HTTP/1.1 200");
        under_way.replace(let_in.then_some(client));
        let_in
    });
    begun.expect("there is no place");
    under_way.into_inner().unwrap()
}

/// An instance is killed with all places taken: they come back within the lease, and not before. A living download keeps
/// its place for longer than a lease.
fn places_of_a_dead_instance(place: &dyn Place) {
    let go = Signal::new();
    let upstream = slow_upstream(&go);
    let lease = Duration::from_secs(2);
    let setup = || {
        let setup =
            Setup::new(&upstream).policy(PLACES).set("limits.lease", "2s").set("limits.timeout", "10s");
        place.settings(setup.set("timeouts.idle", "60s"))
    };
    let (doomed, other) = (Gateway::start(&setup()), Gateway::start(&setup()));
    let begin = Instant::now();
    let (_first, mut second) = (a_download_under_way(&doomed), a_download_under_way(&other));
    other.fetch(URL).expect(429, "too_many_downloads");
    drop(doomed);
    let killed = Instant::now();
    assert!(poll(|| other.fetch(URL).status == 200).is_some(), "the dead instance's place did not come back");
    let (since_kill, since_begin) = (killed.elapsed(), begin.elapsed());
    assert!(since_begin >= lease, "a place came back after {since_begin:?}, before its lease was over");
    assert!(since_kill < lease * 3, "it took {since_kill:?}");
    // The other one's download has outlived its first lease; with it, one place is left.
    let third = a_download_under_way(&other);
    other.fetch(URL).expect(429, "too_many_downloads");
    go.give();
    assert!(second.answer("GET").complete());
    drop(third);
    assert!(poll(|| other.fetch(URL).status == 200).is_some());
}

#[test]
fn places_of_a_dead_instance_come_back_at_redis() {
    places_of_a_dead_instance(&Redis::start());
}

#[test]
fn places_of_a_dead_instance_come_back_at_dynamodb() {
    places_of_a_dead_instance(&Dynamo::dynalite());
}

/// However a download ends, its place is free at once: whole, broken off by the client, refused by the upstream.
fn places_come_back_at_once(place: &dyn Place) {
    let go = Signal::new();
    let upstream = slow_upstream(&go);
    let setup = Setup::new(&upstream).policy(PLACES).set("limits.lease", "1h").set("limits.timeout", "10s");
    let gateway = Gateway::start(&place.settings(setup));
    let (first, mut second) = (a_download_under_way(&gateway), a_download_under_way(&gateway));
    gateway.fetch(URL).expect(429, "too_many_downloads");
    drop(first);
    assert!(poll(|| gateway.fetch(URL).status == 200).is_some());
    go.give();
    assert!(second.answer("GET").complete());
    for _ in 0..5 {
        assert!(poll(|| gateway.request("HEAD", &gateway.link(URL).query(), &[]).status == 200).is_some());
        assert!(poll(|| gateway.fetch(URL).status == 200).is_some());
    }
    let (_one, _two) = (a_download_under_way(&gateway), a_download_under_way(&gateway));
}

#[test]
fn places_come_back_at_once_at_redis() {
    places_come_back_at_once(&Redis::start());
}

#[test]
fn places_come_back_at_once_at_dynamodb() {
    places_come_back_at_once(&Dynamo::dynalite());
}

/// A store that is away when a download ends gets to know of it later: nothing is left behind, in it or here.
#[test]
fn ends_are_settled_when_the_store_is_back() {
    let go = Signal::new();
    let (upstream, redis) = (slow_upstream(&go), Redis::start());
    let setup = Setup::new(&upstream)
        .policy(&format!("{PLACES}bytes_per_day = \"1 KB\"\n"))
        .set("limits.lease", "1h")
        .set("limits.timeout", &humantime(PATIENCE))
        .set("limits.retry", "100ms");
    let gateway = Gateway::start(&redis.settings(setup));
    let held = a_download_under_way(&gateway);
    redis.freeze();
    drop(held);
    gateway.line(|line| line["outcome"] == "aborted");
    gateway.line(|line| line["message"].as_str().is_some_and(|text| text.starts_with("the limit store")));
    redis.thaw();
    let key = format!("sluicegate:{{{TENANT}}}:leases:key:{KEY}");
    assert!(poll(|| redis.ask(&format!("ZCARD {key}")) == ":0").is_some(), "the place was not given back");
}

/// Bytes are counted together: those of a body whose length is not known too, and what was not sent comes back.
fn bytes_of_the_day(place: &dyn Place) {
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
    let start = || {
        let setup = Setup::new(&upstream)
            .policy("[limits]\nfail = \"closed\"\n[limits.tenant]\nbytes_per_day = \"30 B\"\n");
        Gateway::start(&place.settings(setup.set("limits.timeout", "10s")))
    };
    let (one, two) = (start(), start());
    let fetch = |gateway: &Gateway, path: &str| gateway.fetch(&format!("http://{HOST}{path}"));
    fetch(&one, "/big").expect(429, "quota_exceeded");
    assert!(!fetch(&one, "/broken").complete()); // 5 of its 20
    // Settled behind its back.
    assert!(poll(|| fetch(&two, "/chunked").complete()).is_some()); // 15
    assert!(poll(|| fetch(&one, "/a").complete()).is_some()); // 25
    let answer = fetch(&two, "/chunked"); // its length is not known before; it runs into the limit
    assert!(!answer.complete(), "{}", answer.head);
    fetch(&one, "/a").expect(429, "quota_exceeded");
}

#[test]
fn bytes_of_the_day_at_redis() {
    bytes_of_the_day(&Redis::start());
}

#[test]
fn bytes_of_the_day_at_dynamodb() {
    bytes_of_the_day(&Dynamo::dynalite());
}

// --- Functions

/// Two functions share a table, and each has settled with it before it asks for the next invocation: then the platform may
/// let it stand still.
#[test]
fn functions_settle_before_they_stand_still() {
    let (upstream, dynamo) = (upstream(), Dynamo::dynalite());
    let start = || {
        let limits = "[limits]\nfail = \"closed\"\n[limits.key]\nrequests_per_second = 0.01\nburst = 3\nconcurrent_downloads = 1\nbytes_per_day = \"1 KB\"\n";
        Function::start(dynamo.settings(Setup::new(&upstream).policy(limits).set("limits.timeout", "10s")))
    };
    let (one, two) = (start(), start());
    // What was posted is not settled yet; whoever asks for the next invocation has settled it.
    for (function, polls) in [(&one, 2), (&two, 2), (&one, 3)] {
        let posted = function.get(&Link::to(URL).query());
        assert_eq!(posted.status(), 200, "{posted:?}");
        function.api.wait_polls(polls);
    }
    let item = dynamo
        .call("GetItem", &format!(r#"{{"TableName":"{TABLE}","Key":{{"id":{{"S":"{TENANT}#{KEY}"}}}}}}"#));
    assert!(item.contains(r#""active":{"N":"0"}"#) && item.contains(r#""bytes":{"N":"30"}"#), "{item}");
    assert_eq!(two.get(&Link::to(URL).query()).status(), 429);
}
