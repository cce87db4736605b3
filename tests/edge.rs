//! The edge: a cached file is not an open file. The local CloudFront runs the functions and the cache of the stack in
//! front of either door; the cache is warm, and the question is who gets what from it.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use support::*;

const FILE: &[u8] =
    b"<<<0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 9876543210 zyxwvutsrqponml>>>";
const OTHER_SECRET: &str = "sgk1_other-0123456789abcdefghijklmnopqrstuvw";
const ISSUED_BEFORE: u64 = 1_700_000_000;
const SHARED: &str = "10m";
const CLIENT: &str = "x-sluicegate-client";
const PARTITION: &str = "x-sluicegate-partition";

/// Fields that only one message has, or that frame it.
const OF_ONE_MESSAGE: [&str; 9] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "server",
    "transfer-encoding",
    "via",
    "x-cache",
    "x-request-id",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    Server,
    Lambda,
}

/// Each is a test of its own at either door.
macro_rules! at_either_door {
    ($($name:ident),* $(,)?) => {
        mod the_server_door { $(#[test] fn $name() { super::$name(super::Door::Server); })* }
        mod the_lambda_door { $(#[test] fn $name() { super::$name(super::Door::Lambda); })* }
    };
}

at_either_door! {
    a_bad_request_gets_no_byte_from_a_warm_cache,
    refusals_at_the_edge_read_like_the_origins,
    each_link_gets_its_own_name_and_end_from_what_is_kept,
    any_encoding_of_a_link_finds_the_same_file,
    tenants_share_nothing,
    a_token_of_the_issuers_key_finds_its_own_answer_and_ends_with_it,
    an_hs256_token_shares_with_links_of_its_tenant,
    what_a_client_claims_in_our_fields_counts_for_nothing,
    nothing_is_marked_for_a_partition_that_is_not_its_own,
    what_may_not_be_shared_is_not_marked,
    a_failure_is_never_served_to_the_next,
    a_body_that_breaks_off_is_never_served_to_the_next,
    whoever_waits_for_a_failure_gets_an_answer_of_its_own,
    ranges_conditions_and_head_are_answered_from_what_is_kept,
    only_links_pass,
}

/// What stands behind the edge.
enum Origin {
    Server(Gateway),
    // The function ends before its emulator.
    Lambda(Process, LambdaWatch),
}

impl Origin {
    fn start(door: Door, setup: Setup) -> Self {
        if door == Door::Server {
            let setup =
                setup.set("client.trusted_proxies", "127.0.0.1/32").set("client.address_header", CLIENT);
            return Self::Server(Gateway::start(&setup));
        }
        let watch = LambdaWatch::start();
        let setup = watch.variables().iter().fold(setup, |setup, (name, value)| setup.variable(name, value));
        let process =
            Function::spawn(Command::new(env!("CARGO_BIN_EXE_bootstrap")), &RuntimeApi::start(), setup);
        Self::Lambda(process, watch)
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::Server(gateway) => gateway.address(),
            Self::Lambda(_, watch) => watch.address(),
        }
    }

    /// Asked directly, as nobody but the edge can ask it.
    fn request(&self, method: &str, query: &str, headers: &[(&str, &str)]) -> Answer {
        let mut client = Client::connect(self.address());
        client.request(method, query, headers);
        client.answer(method)
    }
}

impl Deref for Origin {
    type Target = Process;

    fn deref(&self) -> &Process {
        match self {
            Self::Server(gateway) => gateway,
            Self::Lambda(process, _) => process,
        }
    }
}

/// A client, the edge, a door and an upstream.
struct Rig {
    // From front to back: each ends before what it stands in front of.
    edge: Edge,
    origin: Origin,
    upstream: Upstream,
    /// How often the origin was asked by [`Rig::asked`].
    own: Cell<usize>,
}

/// What all tests have in common.
fn setup(upstream: &Upstream) -> Setup {
    let allow =
        format!("[[allow]]\nhost = \"{HOST}\"\nschemes = [\"http\"]\n[response]\ncache_ttl = \"{SHARED}\"\n");
    Setup::new(upstream)
        .set("edge.shared_cache", "true")
        .policy(&format!("[response]\ncache_ttl = \"{SHARED}\"\n"))
        .policy("[limits.key]\nrequests_per_second = 5000\nburst = 5000")
        .policy("[[keys]]\nid = \"acme-2\"\nsecret = \"file:other.secret\"")
        .policy("[[keys]]\nid = \"acme-gone\"\nsecret = \"file:other.secret\"")
        .policy("[revoked]\nlink_ids = [\"gone\"]\nkeys = [\"acme-gone\"]")
        .file("other.secret", OTHER_SECRET)
        .tenant(
            "other",
            &format!("tenant = \"other\"\n{allow}[[keys]]\nid = \"other-1\"\nsecret = \"file:other.secret\"\n"),
        )
        .tenant(
            "since",
            &format!(
                "tenant = \"since\"\n{allow}[[keys]]\nid = \"since-1\"\nsecret = \"file:rig.secret\"\n[revoked]\nissued_before = {}\n",
                jiff::Timestamp::from_second(i64::try_from(ISSUED_BEFORE).unwrap()).unwrap()
            ),
        )
        .tenant(
            "elsewhere",
            "tenant = \"elsewhere\"\n[response]\ncache_ttl = \"10m\"\n[[allow]]\nhost = \"elsewhere.example\"\n[[keys]]\nid = \"elsewhere-1\"\nsecret = \"file:rig.secret\"\n",
        )
}

impl Rig {
    fn start(door: Door) -> Self {
        Self::with(door, Upstream::start(file), |setup| setup)
    }

    fn with(door: Door, upstream: Upstream, change: impl FnOnce(Setup) -> Setup) -> Self {
        let origin = Origin::start(door, change(setup(&upstream)));
        let edge = Edge::start(origin.address(), &origin.policy_folder());
        Self { edge, origin, upstream, own: Cell::new(0) }
    }

    /// Fills the cache, and waits until the origin has written down that it was asked.
    fn warm(&self, query: &str) -> Answer {
        let answer = self.edge.get(query);
        assert_eq!((answer.status, cache(&answer)), (200, "Miss"), "{}", answer.head);
        assert!(answer.complete());
        self.origin.decision(answer.header("x-request-id").unwrap());
        answer
    }

    /// How many requests the edge let through to the origin.
    fn asked(&self) -> usize {
        // What came before this has been written down before this.
        let answer = self.origin.request("GET", "", &[]);
        self.origin.decision(answer.header("x-request-id").unwrap());
        self.own.set(self.own.get() + 1);
        let lines = self.origin.lines();
        lines.iter().filter(|line| line["target"] == "sluicegate::decision").count() - self.own.get()
    }

    /// How often the upstream was asked.
    fn fetched(&self) -> usize {
        self.upstream.requests().len()
    }

    #[track_caller]
    fn hit(&self, query: &str) -> Answer {
        self.hit_with(query, &[])
    }

    /// From the cache, without the upstream.
    #[track_caller]
    fn hit_with(&self, query: &str, headers: &[(&str, &str)]) -> Answer {
        let before = self.fetched();
        let answer = self.edge.request("GET", query, headers);
        assert_eq!((answer.status, cache(&answer), &answer.body[..]), (200, "Hit", FILE), "{}", answer.head);
        assert_eq!(self.fetched(), before);
        answer
    }

    /// The whole file, by way of the upstream.
    #[track_caller]
    fn miss(&self, query: &str) -> Answer {
        let before = self.fetched();
        let answer = self.edge.get(query);
        assert_eq!((answer.status, cache(&answer), &answer.body[..]), (200, "Miss", FILE), "{}", answer.head);
        assert_eq!(self.fetched(), before + 1);
        answer
    }

    /// The partition that the edge names for a tenant's links.
    fn partition(&self, key: &str) -> String {
        let entry = self.edge.entry(&format!("k/{key}"));
        format!("{}.{}", entry["t"].as_str().unwrap(), entry["e"].as_str().unwrap())
    }

    /// The partition for one credential of [`TENANT`] that only the origin can verify: a token, or the signature of a link.
    fn partition_of(&self, credential: &str) -> String {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, credential.as_bytes());
        format!("{}.{}", self.partition(KEY), &URL_SAFE_NO_PAD.encode(hash)[..22])
    }
}

/// An upstream with one file under every path.
fn file(request: &Request) -> Vec<Step> {
    let mut answer = ok(&[("Content-Type", "text/plain"), ("ETag", "\"v1\"")], FILE);
    if request.header("if-none-match") == Some("\"v1\"") {
        return text("HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\n\r\n");
    }
    if request.method() == "HEAD" {
        answer.truncate(answer.len() - FILE.len());
    }
    vec![Step::Send(answer)]
}

fn url(path: &str) -> String {
    format!("http://{HOST}{path}")
}

fn link(path: &str) -> Link {
    Link::to(&url(path))
}

fn other(path: &str) -> Link {
    link(path).with("kid", "other-1").secret(OTHER_SECRET)
}

/// What the cache did.
fn cache(answer: &Answer) -> &str {
    answer.header("x-cache").unwrap_or_default().strip_suffix(" from local cloudfront").unwrap_or_default()
}

/// Seconds that a browser may keep it.
fn max_age(answer: &Answer) -> Option<u64> {
    let value = answer.header("cache-control")?.strip_prefix("private, max-age=")?;
    Some(value.parse().unwrap())
}

/// Any part of it that is longer than chance.
fn holds_file(answer: &Answer) -> bool {
    // Longer than any row of hexadecimal digits in it, which a request id may hold too.
    answer.body.windows(12).any(|piece| FILE.windows(12).any(|own| own == piece))
}

/// Pieces of a query that are to be changed.
fn pieces(query: &str) -> Vec<(String, String)> {
    let split = |piece: &str| piece.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    query.split('&').map(|piece| split(piece).unwrap()).collect()
}

fn join(pieces: &[(String, String)]) -> String {
    pieces.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn altered(query: &str, name: &str, value: &str) -> String {
    let mut pieces = pieces(query);
    let piece = pieces.iter_mut().find(|(found, _)| found == name).unwrap();
    value.clone_into(&mut piece.1);
    join(&pieces)
}

fn without(query: &str, name: &str) -> String {
    join(&pieces(query).into_iter().filter(|(found, _)| found != name).collect::<Vec<_>>())
}

fn refused_before_the_cache(answer: &Answer) -> bool {
    cache(answer) == "FunctionGeneratedResponse" && answer.header("cache-control") == Some("no-store")
}

/// A request that is refused at the edge.
struct Bad {
    name: String,
    query: String,
    viewer: &'static str,
    headers: Vec<(&'static str, String)>,
    status: u16,
    code: &'static str,
}

impl Bad {
    fn headers(&self) -> Vec<(&str, &str)> {
        let mut headers = vec![(VIEWER, self.viewer)];
        headers.extend(self.headers.iter().map(|(name, value)| (*name, value.as_str())));
        headers
    }
}

fn bad(name: &str, query: String, status: u16, code: &'static str) -> Bad {
    Bad { name: name.to_owned(), query, viewer: "192.0.2.1", headers: Vec::new(), status, code }
}

/// A good link with every parameter there is.
fn full_link() -> String {
    link("/file")
        .with("filename", "a.txt")
        .with("disposition", "inline")
        .with("id", "one")
        .with("ip", "192.0.2.0/24")
        .with("nbf", &(now() - 10).to_string())
        .query()
}

/// A good link, changed in every part.
fn tampered() -> Vec<Bad> {
    let full = full_link();
    let parts: HashMap<_, _> = pieces(&full).into_iter().collect();
    let later = |name: &str| (parts[name].parse::<u64>().unwrap() + 1).to_string();
    let first = if parts["sig"].starts_with('A') { "B" } else { "A" };
    let forged = [
        ("url", parts["url"].replace("%2Ffile", "%2Ffile2")),
        ("kid", "acme-2".to_owned()),
        ("exp", later("exp")),
        ("nbf", (parts["nbf"].parse::<u64>().unwrap() - 1).to_string()),
        ("filename", "b.txt".to_owned()),
        ("disposition", "attachment".to_owned()),
        ("id", "two".to_owned()),
        ("ip", "192.0.2.1".to_owned()),
        ("sig", format!("{first}{}", &parts["sig"][1..])),
    ];
    let mut all = Vec::new();
    for (name, value) in forged {
        all.push(bad(&format!("another {name}"), altered(&full, name, &value), 403, "invalid_signature"));
        let needed = matches!(name, "url" | "kid" | "exp" | "sig");
        let (status, code) = if needed { (400, "malformed_link") } else { (403, "invalid_signature") };
        all.push(bad(&format!("no {name}"), without(&full, name), status, code));
        let twice = format!("{full}&{name}={}", parts[name]);
        all.push(bad(&format!("{name} twice"), twice, 400, "malformed_link"));
        all.push(bad(&format!("an empty {name}"), altered(&full, name, ""), 400, "malformed_link"));
        let cut = parts[name][..parts[name].len() - 1].to_owned();
        let (status, code) = if matches!(name, "sig" | "disposition" | "ip") {
            (400, "malformed_link")
        } else {
            (403, "invalid_signature")
        };
        all.push(bad(&format!("a cut {name}"), altered(&full, name, &cut), status, code));
    }
    all
}

fn bad_requests() -> Vec<Bad> {
    let plain = || link("/file");
    let full = full_link();
    let mut all = tampered();
    all.extend([
        bad("unsigned", format!("url={}", urlencode(&url("/file"))), 401, "missing_credential"),
        bad("nothing", String::new(), 401, "missing_credential"),
        bad("expired", plain().expires_in(-1).query(), 403, "link_expired"),
        bad("expires now", plain().expires_in(0).query(), 403, "link_expired"),
        bad(
            "not yet valid",
            plain().with("nbf", &(now() + 300).to_string()).query(),
            403,
            "link_not_yet_valid",
        ),
        bad("a revoked id", plain().with("id", "gone").query(), 403, "link_revoked"),
        bad(
            "a revoked key",
            plain().with("kid", "acme-gone").secret(OTHER_SECRET).query(),
            403,
            "link_revoked",
        ),
        bad("issued too early", plain().with("kid", "since-1").query(), 403, "link_revoked"),
        bad(
            "issued a second too early",
            plain().with("kid", "since-1").with("nbf", &(ISSUED_BEFORE - 1).to_string()).query(),
            403,
            "link_revoked",
        ),
        bad("another tenant's key", plain().with("kid", "other-1").query(), 403, "invalid_signature"),
        bad("another tenant's secret", plain().secret(OTHER_SECRET).query(), 403, "invalid_signature"),
        bad("an unknown key", plain().with("kid", "nobody").query(), 403, "invalid_signature"),
        bad("ten years", plain().expires_in(315_360_000).query(), 403, "lifetime_too_long"),
        bad("not an escape", format!("{full}&token=%"), 400, "malformed_link"),
        bad("a token that is none", "token=x.y.z".to_owned(), 400, "malformed_link"),
        Bad { viewer: "198.51.100.7", ..bad("another address", full.clone(), 403, "client_not_allowed") },
        Bad { viewer: "2001:db8::1", ..bad("another family", full.clone(), 403, "client_not_allowed") },
        Bad {
            headers: vec![("Authorization", "Bearer x.y.z".to_owned())],
            ..bad("a bearer that is none", String::new(), 400, "malformed_link")
        },
        Bad {
            headers: vec![("Authorization", "Basic eDp5".to_owned())],
            ..bad("a password", String::new(), 401, "missing_credential")
        },
        Bad {
            headers: vec![("X-Sluicegate-Token", String::new())],
            ..bad("an empty token", String::new(), 400, "malformed_link")
        },
    ]);
    all
}

fn a_bad_request_gets_no_byte_from_a_warm_cache(door: Door) {
    let rig = Rig::start(door);
    let good = || link("/file").query();
    rig.warm(&good());
    rig.warm(&link("/file2").query());
    rig.warm(&link("/file").with("kid", "since-1").with("nbf", &ISSUED_BEFORE.to_string()).query());
    rig.hit(&good());
    let before = (rig.asked(), rig.fetched());
    for bad in bad_requests() {
        for more in [None, Some(("Range", "bytes=0-9")), Some(("If-None-Match", "\"v1\""))] {
            let mut headers = bad.headers();
            headers.extend(more);
            let answer = rig.edge.request("GET", &bad.query, &headers);
            assert_eq!((answer.status, answer.code().as_str()), (bad.status, bad.code), "{}", bad.name);
            assert!(refused_before_the_cache(&answer), "{}: {}", bad.name, answer.head);
            assert!(answer.complete() && !holds_file(&answer), "{}", bad.name);
        }
        let answer = rig.edge.request("HEAD", &bad.query, &bad.headers());
        assert_eq!(answer.status, bad.status, "{}", bad.name);
        assert!(refused_before_the_cache(&answer), "{}: {}", bad.name, answer.head);
        assert_eq!(answer.header("etag"), None);
    }
    assert_eq!((rig.asked(), rig.fetched()), before, "nobody behind the edge saw them");
    rig.hit(&good());
}

fn refusals_at_the_edge_read_like_the_origins(door: Door) {
    let rig = Rig::with(door, Upstream::start(file), |setup| trust(setup, &[hs256()]));
    // What is left of a key's budget only the origin knows.
    let fields = |answer: &Answer| -> BTreeMap<String, String> {
        let other = |name: &str| {
            !OF_ONE_MESSAGE.contains(&name) && !name.starts_with("ratelimit") && !is_emulators(door, name)
        };
        answer.headers.iter().filter(|(name, _)| other(name)).cloned().collect()
    };
    let token = hs256().token(&json!({"url": url("/one")}));
    let query = format!("token={token}&url={}", urlencode(&url("/two")));
    let out_of_scope = bad("out of the token's scope", query, 403, "url_not_allowed");
    for bad in bad_requests().into_iter().chain([out_of_scope]) {
        let at_edge = rig.edge.request("GET", &bad.query, &bad.headers());
        let mut headers = bad.headers();
        headers[0].0 = CLIENT;
        let at_origin = rig.origin.request("GET", &bad.query, &headers);
        assert_eq!(at_edge.status, at_origin.status, "{}", bad.name);
        assert_eq!(fields(&at_edge), fields(&at_origin), "{}", bad.name);
        let (mut edges, mut origins) = (at_edge.problem(), at_origin.problem());
        for (answer, problem) in [(&at_edge, &mut edges), (&at_origin, &mut origins)] {
            let id = problem.as_object_mut().unwrap().remove("request_id");
            assert_eq!(id.unwrap(), answer.header("x-request-id").unwrap());
        }
        // Here the edge names the parameter alone, and the origin what is wrong with it.
        if bad.code == "malformed_link" {
            for problem in [&mut edges, &mut origins] {
                assert!(
                    !problem.as_object_mut().unwrap().remove("detail").unwrap().as_str().unwrap().is_empty()
                );
            }
        }
        assert_eq!(edges, origins, "{}", bad.name);
        assert!(at_edge.body.ends_with(b"\n"));
    }
}

/// The emulator adds fields of its own to every answer.
fn is_emulators(door: Door, name: &str) -> bool {
    door == Door::Lambda
        && (name.starts_with("access-control-") || name == "vary" || name.starts_with("lambda-"))
}

fn each_link_gets_its_own_name_and_end_from_what_is_kept(door: Door) {
    let rig = Rig::start(door);
    let first = rig.warm(&link("/folder/file.txt").with("filename", "first.txt").query());
    assert!(first.header("ratelimit").is_some(), "a budget of its own: {}", first.head);
    let names = [
        Some("second.txt"),
        Some("отчёт за год.pdf"),
        Some("\u{1f980} crab.txt"),
        Some("he said \"hi\".txt"),
        Some("it's (a) 100%*.txt"),
        Some("semi;colon,comma=.txt"),
        Some(" dots. "),
        Some("con.txt"),
        Some("~tilde"),
        Some("no-extension"),
        None,
    ];
    let mut ids = vec![first.header("x-request-id").unwrap().to_owned()];
    for (name, disposition) in names.iter().flat_map(|name| [None, Some("inline")].map(|kind| (name, kind))) {
        let mut made = link("/folder/file.txt").expires_in(100);
        for (name, value) in [("filename", *name), ("disposition", disposition)] {
            if let Some(value) = value {
                made = made.with(name, value);
            }
        }
        let query = made.query();
        let hit = rig.hit(&query);
        let alone = rig.origin.request("GET", &query, &[(CLIENT, "127.0.0.1")]);
        for field in ["content-disposition", "content-type", "etag"] {
            assert_eq!(hit.header(field), alone.header(field), "{field} of {name:?}");
        }
        assert_eq!(hit.header("vary"), Some("authorization, x-sluicegate-token"));
        let (age, most) = (max_age(&hit).unwrap(), max_age(&alone).unwrap());
        assert!(age <= 100 && age >= most && age - most < 20, "{age} {most}");
        check_nothing_of_ours(&hit);
        assert_eq!(hit.header("ratelimit"), None, "another request's budget");
        assert_eq!(hit.header("ratelimit-policy"), None);
        ids.push(hit.header("x-request-id").unwrap().to_owned());
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "every answer has an id of its own");
    let named = |name| rig.hit(&link("/folder/file.txt").with("filename", name).query());
    let disposition = |answer: &Answer| answer.header("content-disposition").unwrap().to_owned();
    assert_eq!(disposition(&named("second.txt")), "attachment; filename=\"second.txt\"");
    assert_eq!(
        disposition(&named("год.pdf")),
        "attachment; filename=\"___.pdf\"; filename*=UTF-8''%D0%B3%D0%BE%D0%B4.pdf"
    );
    let unnamed = rig.hit(&link("/folder/file.txt").query());
    assert_eq!(disposition(&unnamed), "attachment; filename=\"file.txt\"");
    assert!(max_age(&unnamed).unwrap() > 500, "the end of the first link is not that of the file");
    check_nothing_of_ours(&first);
}

fn check_nothing_of_ours(answer: &Answer) {
    for name in ["filename", "request", "partition", "link", "client"] {
        assert_eq!(answer.header(&format!("x-sluicegate-{name}")), None, "{}", answer.head);
    }
}

fn any_encoding_of_a_link_finds_the_same_file(door: Door) {
    let rig = Rig::start(door);
    let made = || link("/a%20b/f\u{fc}r.txt?x=1&y=2").with("filename", "a b+c.txt");
    let query = made().query();
    rig.warm(&query);
    let mut turned = pieces(&query);
    turned.rotate_left(2);
    let encoded: String =
        pieces(&query)[0].1.replace("%3A", ":").replace("%2F", "/").replace("%3F", "?").replace("%20", "+");
    let parts = pieces(&query);
    for same in [
        query.clone(),
        altered(&query, "url", &encoded),
        altered(
            &query,
            "url",
            &parts[0].1.to_ascii_lowercase().replace("%3a", ":").replace("%c3%bc", "%C3%bc"),
        ),
        altered(&query, "filename", "%61%20b%2bc.txt"),
        altered(&query, "filename", "a+b%2Bc%2Etxt"),
        query.replacen("url=", "%75rl=", 1),
        join(&turned),
        format!("utm_source=mail&utm_medium=x%ZZ&{query}&utm_source=again&fbclid"),
        format!("&&{}&", query.replace('&', "&&")),
        made().expires_in(300).with("id", "another").query(),
    ] {
        let hit = rig.hit(&same);
        assert_eq!(hit.header("content-disposition"), Some("attachment; filename=\"a b+c.txt\""));
    }
    assert_eq!(rig.fetched(), 1);
}

fn tenants_share_nothing(door: Door) {
    let rig = Rig::start(door);
    rig.warm(&link("/file").query());
    // A tenant that may not have it: the link is good, the policy is not, and nothing is found on the way.
    let elsewhere = || link("/file").with("kid", "elsewhere-1").query();
    for _ in 0..2 {
        let answer = rig.edge.get(&elsewhere());
        answer.expect(403, "url_not_allowed");
        assert_eq!((cache(&answer), answer.header("cache-control")), ("Error", Some("no-store")));
        assert!(!holds_file(&answer));
    }
    assert_eq!(rig.fetched(), 1);
    rig.miss(&other("/file").query());
    rig.hit(&other("/file").query());
    rig.hit(&link("/file").query());
    rig.edge.get(&elsewhere()).expect(403, "url_not_allowed");
    // Two keys of one tenant do.
    rig.hit(&link("/file").with("kid", "acme-2").secret(OTHER_SECRET).query());
}

// --- Tokens

const ISSUER: &str = "https://id.example/";
const HS_SECRET: &str = "sgk1_token-0123456789abcdefghijklmnopqrstuvw";

type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// A key of the issuer's.
struct Signer {
    alg: &'static str,
    sign: Sign,
    /// `public_key = "file:…"`, or the secret.
    field: &'static str,
    text: String,
}

fn signers() -> Vec<Signer> {
    let random = SystemRandom::new;
    let rsa = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let ecdsa = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let eddsa = Ed25519KeyPair::generate().unwrap();
    let [rsa_text, ecdsa_text, eddsa_text] =
        [pem(rsa.public_key()), pem(ecdsa.public_key()), pem(eddsa.public_key())];
    let signer = |alg, text, sign| Signer { alg, sign, field: "public_key", text };
    vec![
        signer(
            "RS256",
            rsa_text,
            Box::new(move |text| {
                let mut signature = vec![0; rsa.public_modulus_len()];
                rsa.sign(&RSA_PKCS1_SHA256, &random(), text, &mut signature).unwrap();
                signature
            }),
        ),
        signer(
            "ES256",
            ecdsa_text,
            Box::new(move |text| ecdsa.sign(&random(), text).unwrap().as_ref().to_vec()),
        ),
        signer("EdDSA", eddsa_text, Box::new(move |text| eddsa.sign(text).as_ref().to_vec())),
    ]
}

fn pem(key: &impl AsDer<PublicKeyX509Der<'static>>) -> String {
    let text = STANDARD.encode(key.as_der().unwrap().as_ref());
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

fn hs256() -> Signer {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, HS_SECRET.as_bytes());
    let sign = Box::new(move |text: &[u8]| aws_lc_rs::hmac::sign(&key, text).as_ref().to_vec());
    Signer { alg: "HS256", sign, field: "secret", text: HS_SECRET.to_owned() }
}

impl Signer {
    /// A token whose issuer and audience are set, and its end unless the claims say another.
    fn token(&self, claims: &Value) -> String {
        let mut all = json!({"iss": ISSUER, "aud": "downloads", "exp": now() + 500});
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        let head = json!({"alg": self.alg, "typ": "JWT", "kid": self.alg});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(&all));
        let signature = (self.sign)(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The tenant trusts the issuer with these keys.
fn trust(mut setup: Setup, signers: &[Signer]) -> Setup {
    let mut policy = format!("[[issuers]]\nissuer = \"{ISSUER}\"\naudience = \"downloads\"\n");
    for Signer { alg, field, text, .. } in signers {
        let _ = write!(
            policy,
            "[[issuers.keys]]\nid = \"{alg}\"\nalgorithm = \"{alg}\"\n{field} = \"file:{alg}.key\"\n"
        );
        setup = setup.file(&format!("{alg}.key"), text);
    }
    setup.policy(&policy)
}

fn a_token_of_the_issuers_key_finds_its_own_answer_and_ends_with_it(door: Door) {
    let signers = signers();
    let rig = Rig::with(door, Upstream::start(file), |setup| trust(setup, &signers));
    rig.warm(&link("/file").query());
    for signer in &signers {
        let token = |id: &str| {
            signer.token(&json!({"url": url("/file"), "jti": id, "filename": format!("{id}.txt")}))
        };
        let name = |answer: &Answer| answer.header("content-disposition").unwrap().to_owned();
        let (a, b) = (token("a"), token("b"));
        rig.miss(&format!("token={a}"));
        let hit = rig.hit(&format!("token={a}"));
        assert_eq!(name(&hit), "attachment; filename=\"a.txt\"");
        assert!(max_age(&hit).unwrap() <= 500, "{}", hit.head);
        check_nothing_of_ours(&hit);
        rig.hit_with("", &[("Authorization", &format!("Bearer {a}"))]);
        rig.hit_with("", &[("X-Sluicegate-Token", &a)]);
        // Another token, as good as the first.
        rig.miss(&format!("token={b}"));
        assert_eq!(name(&rig.hit(&format!("token={b}"))), "attachment; filename=\"b.txt\"");

        forged_tokens_find_nothing(&rig, signer, &a, &b);
        a_bound_token_is_for_its_address(&rig, signer);
        a_token_is_kept_for_its_own_life(&rig, signer);
    }
    rig.hit(&link("/file").query());
    let brief = signers.iter().map(|signer| {
        let query = format!("token={}", signer.token(&json!({"url": url("/file"), "exp": now() + 3})));
        assert_eq!(rig.edge.get(&query).status, 200);
        assert!(max_age(&rig.hit(&query)).unwrap() <= 3);
        query
    });
    for query in brief.collect::<Vec<_>>() {
        poll(|| rig.edge.get(&query).status == 403).expect("it goes on after its end");
        let own = rig.partition_of(query.strip_prefix("token=").unwrap());
        for claim in [("x-other", ""), (PARTITION, &own)] {
            let over = rig.edge.request("GET", &query, &[claim]);
            over.expect(403, "link_expired");
            assert!(!holds_file(&over));
        }
    }
}

/// The same header and claims, signed by nobody.
fn forged_tokens_find_nothing(rig: &Rig, signer: &Signer, good: &str, other: &str) {
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let turned: String = signature.chars().rev().collect();
    let before = rig.fetched();
    for forged in [
        format!("{signed}.{}", other.rsplit_once('.').unwrap().1),
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(URL_SAFE_NO_PAD.decode(turned).unwrap_or(vec![1; 64]))),
        format!("{}.{signature}", other.rsplit_once('.').unwrap().0),
    ] {
        for _ in 0..2 {
            let answer = rig.edge.get(&format!("token={forged}"));
            answer.expect(403, "invalid_signature");
            assert!(cache(&answer) == "Error" && !holds_file(&answer), "{}", answer.head);
        }
    }
    // A public key is no secret.
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, signer.text.as_bytes());
    let confused = Signer {
        alg: "HS256",
        sign: Box::new(move |text| aws_lc_rs::hmac::sign(&key, text).as_ref().to_vec()),
        field: "",
        text: String::new(),
    };
    let confused = confused.token(&json!({"url": url("/file")}));
    rig.edge.get(&format!("token={confused}")).expect(403, "invalid_signature");
    assert_eq!(rig.fetched(), before);
}

/// From the address that it names, and from no other, whatever that one claims.
fn a_bound_token_is_for_its_address(rig: &Rig, signer: &Signer) {
    let bound = signer.token(&json!({"url": url("/file"), "ip": "192.0.2.0/24"}));
    let query = format!("token={bound}");
    assert_eq!(rig.edge.request("GET", &query, &[(VIEWER, "192.0.2.9")]).status, 200);
    rig.hit_with(&query, &[(VIEWER, "192.0.2.1")]);
    // Where the edge names no partition, neither may the client.
    let own = rig.partition_of(&bound);
    for claim in [("x-other", ""), (CLIENT, "192.0.2.1"), (PARTITION, &own), ("X-SLUICEGATE-Partition", &own)]
    {
        rig.edge.request("GET", &query, &[(VIEWER, "198.51.100.7"), claim]).expect(403, "client_not_allowed");
    }
}

/// What the origin says of one that has two minutes.
fn a_token_is_kept_for_its_own_life(rig: &Rig, signer: &Signer) {
    let short = signer.token(&json!({"url": url("/file"), "exp": now() + 120}));
    let (shared, own) = (rig.partition(KEY), rig.partition_of(&short));
    let said = rig.origin.request("GET", &format!("token={short}"), &[(PARTITION, &own)]);
    let seconds = shared_for(&said).unwrap();
    assert!(seconds <= 120 && seconds > 90, "{}", said.head);
    let said = rig.origin.request("GET", &format!("token={short}"), &[(PARTITION, &shared)]);
    assert_unmarked(&said);
}

fn an_hs256_token_shares_with_links_of_its_tenant(door: Door) {
    let upstream = Upstream::start(|request| {
        vec![Step::Send(ok(&[("Content-Type", "text/plain")], request.target().as_bytes()))]
    });
    let rig = Rig::with(door, upstream, |setup| trust(setup, &[hs256()]));
    let token = |claims: Value| hs256().token(&claims);
    let one = token(json!({"url": url("/one"), "filename": "first.txt"}));
    let get = |query: &str, headers: &[(&str, &str)]| {
        let answer = rig.edge.request("GET", query, headers);
        let name = answer.header("content-disposition").map(str::to_owned);
        (cache(&answer).to_owned(), String::from_utf8(answer.body).unwrap(), name.unwrap_or_default())
    };
    let seen = |cache: &str, body: &str, name: &str| {
        (cache.to_owned(), body.to_owned(), format!("attachment; filename=\"{name}\""))
    };
    let named = |path: &str| format!("url={}", urlencode(&url(path)));
    assert_eq!(get(&format!("token={one}"), &[]), seen("Miss", "/one", "first.txt"));
    assert_eq!(get(&format!("token={one}&{}", named("/one")), &[]), seen("Hit", "/one", "first.txt"));
    assert_eq!(get(&named("/one"), &[("X-Sluicegate-Token", &one)]), seen("Hit", "/one", "first.txt"));
    assert_eq!(get("", &[("authorization", &format!("bearer {one}"))]), seen("Hit", "/one", "first.txt"));
    assert_eq!(get(&link("/one").with("filename", "l.txt").query(), &[]), seen("Hit", "/one", "l.txt"));
    let again = token(json!({"url": url("/one"), "jti": "another"}));
    assert_eq!(get(&format!("token={again}"), &[]), seen("Hit", "/one", "one.txt"));

    // A token that names another url itself, with none in the query, does not meet it.
    let two = token(json!({"url": url("/two")}));
    for carried in
        [vec![("X-Sluicegate-Token", two.clone())], vec![("Authorization", format!("Bearer {two}"))]]
    {
        let headers: Vec<_> = carried.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let expected = if rig.fetched() == 1 { "Miss" } else { "Hit" };
        assert_eq!(get("", &headers), seen(expected, "/two", "two.txt"));
    }
    assert_eq!(get(&format!("token={two}"), &[]), seen("Hit", "/two", "two.txt"));
    assert_eq!(get(&link("/two").query(), &[]), seen("Hit", "/two", "two.txt"));

    let all = token(json!({"urls": [url("/") + "*"], "jti": "all"}));
    assert_eq!(get(&format!("{}&token={all}", named("/one")), &[]), seen("Hit", "/one", "one.txt"));
    assert_eq!(get(&format!("{}&token={all}", named("/three")), &[]), seen("Miss", "/three", "three.txt"));
    assert_eq!(get(&link("/three").query(), &[]), seen("Hit", "/three", "three.txt"));

    let before = (rig.asked(), rig.fetched());
    let (signed, _) = one.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", again.rsplit_once('.').unwrap().1);
    for (query, code) in [
        (format!("token={forged}"), "invalid_signature"),
        (format!("token={two}&{}", named("/one")), "url_not_allowed"),
        (format!("token={}", token(json!({"url": url("/one"), "exp": now()}))), "link_expired"),
        (format!("token={}", token(json!({"url": url("/one"), "nbf": now() + 100}))), "link_not_yet_valid"),
        (format!("token={}", token(json!({"url": url("/one"), "jti": "gone"}))), "link_revoked"),
        (format!("token={}", token(json!({"url": url("/one"), "ip": "198.51.100.7"}))), "client_not_allowed"),
        (format!("token={}", token(json!({"url": url("/one"), "aud": "others"}))), "invalid_signature"),
        (
            format!("token={}", token(json!({"url": url("/one"), "exp": now() + 315_360_000}))),
            "lifetime_too_long",
        ),
    ] {
        let answer = rig.edge.get(&query);
        answer.expect(403, code);
        assert!(refused_before_the_cache(&answer), "{code}: {}", answer.head);
    }
    assert_eq!((rig.asked(), rig.fetched()), before);
}

fn urlencode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

// --- What a client claims

fn what_a_client_claims_in_our_fields_counts_for_nothing(door: Door) {
    let rig = Rig::start(door);
    rig.warm(&link("/file").query());
    rig.miss(&other("/secret").query());
    let others = rig.partition("other-1");
    let end = "9999999999 inline evil.html".to_owned();
    let claims: Vec<(&str, String)> = vec![
        ("x-sluicegate-partition", others.clone()),
        ("x-sluicegate-client", "192.0.2.1".to_owned()),
        ("x-sluicegate-request", "forged".to_owned()),
        ("x-sluicegate-link", end),
        ("x-sluicegate-filename", "evil.html".to_owned()),
        ("x-sluicegate-length", "1".to_owned()),
        ("x-sluicegate-other", "1".to_owned()),
    ];
    let odd = |name: &str| name.replace("x-s", "X-S").replace("gate-p", "GATE-P").replace('l', "L");
    let mut forged: Vec<Vec<(String, String)>> = Vec::new();
    for (name, value) in &claims {
        forged.push(vec![((*name).to_owned(), value.clone())]);
        forged.push(vec![(odd(name), value.clone())]);
        forged.push(vec![((*name).to_owned(), value.clone()), (odd(name), value.clone())]);
    }
    forged.push(claims.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect());
    for (number, fields) in forged.iter().enumerate() {
        let headers: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let with_viewer = [&headers[..], &[(VIEWER, "198.51.100.7")]].concat();
        let hit = rig.hit_with(&link("/file").with("filename", "own.txt").expires_in(60).query(), &headers);
        assert_eq!(hit.header("content-disposition"), Some("attachment; filename=\"own.txt\""));
        assert!(max_age(&hit).unwrap() <= 60);
        assert_ne!(hit.header("x-request-id"), Some("forged"));
        check_nothing_of_ours(&hit);
        // Without a link.
        let answer = rig.edge.request("GET", &format!("url={}", urlencode(&url("/secret"))), &headers);
        answer.expect(401, "missing_credential");
        // From another address.
        let bound = link("/file").with("ip", "192.0.2.1").query();
        let answer = rig.edge.request("GET", &bound, &with_viewer);
        answer.expect(403, "client_not_allowed");
        assert!(refused_before_the_cache(&answer));
        // What is not kept yet is kept where it belongs, and says whose it is.
        let path = format!("/new/{number}.txt");
        let miss = rig.edge.request("GET", &link(&path).query(), &headers);
        assert_eq!((miss.status, cache(&miss), &miss.body[..]), (200, "Miss", FILE), "{}", miss.head);
        assert_eq!(
            miss.header("content-disposition"),
            Some(&*format!("attachment; filename=\"{number}.txt\""))
        );
        check_nothing_of_ours(&miss);
        rig.hit(&link(&path).query());
        rig.miss(&other(&path).query());
        // Passing on what the edge lets through unread.
        let health = &mut rig.edge.client();
        let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let fields = lines.concat();
        health.send(format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{fields}\r\n"));
        let health = health.answer("GET");
        assert_eq!((health.status, &health.body[..]), (200, &b"ok\n"[..]));
    }
    // Another tenant's file is as far away as ever.
    let before = rig.fetched();
    let answer = rig.edge.request("GET", &link("/secret").query(), &[(PARTITION, &others)]);
    assert_eq!((answer.status, cache(&answer)), (200, "Miss"));
    assert_eq!(rig.fetched(), before + 1);
    for request in rig.upstream.requests() {
        assert!(!request.head.to_ascii_lowercase().contains("x-sluicegate"), "{}", request.head);
    }
}

/// For how many seconds the origin lets the shared cache keep it.
fn shared_for(answer: &Answer) -> Option<u64> {
    let (_, seconds) = answer.header("cache-control")?.split_once("s-maxage=")?;
    answer.header("x-sluicegate-filename")?;
    Some(seconds.parse().unwrap())
}

#[track_caller]
fn assert_unmarked(answer: &Answer) {
    let control = answer.header("cache-control").unwrap();
    assert!(control.starts_with("private") || control == "no-store", "{}", answer.head);
    assert!(!control.contains("s-maxage"), "{}", answer.head);
    assert_eq!(answer.header("x-sluicegate-filename"), None);
    assert_eq!(answer.header("x-sluicegate-request"), None);
}

fn nothing_is_marked_for_a_partition_that_is_not_its_own(door: Door) {
    let rig = Rig::start(door);
    let query = link("/file").query();
    let ask = |partition: &str| {
        let headers = [(PARTITION, partition), ("x-sluicegate-request", "this-one"), (CLIENT, "127.0.0.1")];
        let answer = rig.origin.request("GET", &query, &headers);
        assert_eq!((answer.status, &answer.body[..]), (200, FILE));
        answer
    };
    let own = rig.partition(KEY);
    let marked = ask(&own);
    assert_eq!(shared_for(&marked), Some(600));
    assert_eq!(marked.header("x-sluicegate-request"), Some("this-one"));
    let (tenant, epoch) = own.split_once('.').unwrap();
    let signature = &pieces(&query).pop().unwrap().1;
    let hash =
        URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, signature.as_bytes()));
    // What only this link finds, it may keep for as long as it lives.
    let alone = ask(&format!("{own}.{}", &hash[..22]));
    assert!(shared_for(&alone).unwrap() <= 600);
    let longer = format!("{own}.{}", &hash[..23]);
    for foreign in [
        rig.partition("other-1").as_str(),
        rig.partition("since-1").as_str(),
        &format!("other.{epoch}"),
        &format!("{tenant}.AAAAAAAAAAAAAAAA"),
        tenant,
        &format!("{tenant}."),
        epoch,
        &format!("{own}."),
        &format!("{own}.x"),
        &format!("{own}.AAAAAAAAAAAAAAAAAAAAAA"),
        &longer,
        &format!("{own}.{}", &hash[..21]),
        &format!("{own},{own}"),
        &format!("{own} {own}"),
        &own.to_ascii_uppercase(),
        &format!(".{own}"),
        "*",
        "",
    ] {
        assert_unmarked(&ask(foreign));
    }
    // Of a repeated field the emulator passes on one; a function URL joins them, which is one of the above.
    let twice = if door == Door::Server { vec![(PARTITION, &*own), (PARTITION, &*own)] } else { vec![] };
    for headers in [vec![], twice] {
        let answer = rig.origin.request("GET", &query, &headers);
        assert_eq!(answer.status, 200);
        assert_unmarked(&answer);
    }
    // Another tenant's link for this one's partition.
    let answer = rig.origin.request("GET", &other("/file").query(), &[(PARTITION, &own)]);
    assert_unmarked(&answer);
}

#[test]
fn without_a_shared_cache_nothing_is_marked() {
    let upstream = Upstream::start(file);
    let rig = Rig::with(Door::Server, upstream, |setup| setup.set("edge.shared_cache", "false"));
    let answer = rig.origin.request("GET", &link("/file").query(), &[(PARTITION, &rig.partition(KEY))]);
    assert_eq!(answer.status, 200);
    assert_unmarked(&answer);
    rig.miss(&link("/file").query());
    let again = rig.miss(&link("/file").query());
    assert!(max_age(&again).unwrap() > 500);
}

const DESPITE: &str = "[response]\ncache_ttl = \"10m\"\ncache_despite_upstream = [\"files.test.example\"]\n";

/// Answers that a shared cache may keep, and such that it may not.
fn various(request: &Request) -> Vec<Step> {
    let fields = [("Content-Type", "text/plain"), ("ETag", "\"v1\"")];
    let said = |control| vec![Step::Send(ok(&[fields[0], fields[1], ("Cache-Control", control)], FILE))];
    let part = |range: &str| {
        let mut part =
            format!("HTTP/1.1 206 Partial Content\r\nContent-Range: {range}\r\nContent-Length: 10\r\n\r\n")
                .into_bytes();
        part.extend_from_slice(&FILE[..10]);
        vec![Step::Send(part)]
    };
    match request.target() {
        "/no-store" => said("no-store"),
        "/private" => said("max-age=60, private"),
        "/public" => said("public, max-age=60"),
        "/closed" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";
            vec![Step::Send([head.as_bytes(), FILE].concat()), Step::Close]
        }
        "/chunked" => {
            let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", FILE.len());
            vec![Step::Send([head.as_bytes(), FILE, b"\r\n0\r\n\r\n"].concat())]
        }
        _ if request.header("range") == Some("bytes=0-9") => part(&format!("bytes 0-9/{}", FILE.len())),
        _ => file(request),
    }
}

fn what_may_not_be_shared_is_not_marked(door: Door) {
    let tenant = |name: &str, response: &str| {
        format!(
            "tenant = \"{name}\"\n{response}[[allow]]\nhost = \"{HOST}\"\nschemes = [\"http\"]\n[[keys]]\nid = \"{name}-1\"\nsecret = \"file:rig.secret\"\n"
        )
    };
    let rig = Rig::with(door, Upstream::start(various), |setup| {
        setup.tenant("uncached", &tenant("uncached", "")).tenant("despite", &tenant("despite", DESPITE))
    });
    let own = rig.partition(KEY);
    let ask = |method: &str, query: &str, partition: &str, more: &[(&str, &str)]| {
        rig.origin.request(method, query, &[more, &[(PARTITION, partition)]].concat())
    };
    for path in ["/file", "/public", "/chunked"] {
        let answer = ask("GET", &link(path).query(), &own, &[]);
        assert_eq!(shared_for(&answer), Some(600), "{path}: {}", answer.head);
    }
    for path in ["/no-store", "/private", "/closed"] {
        let answer = ask("GET", &link(path).query(), &own, &[]);
        assert_eq!((answer.status, &answer.body[..]), (200, FILE));
        assert_unmarked(&answer);
        rig.miss(&link(path).query());
        rig.miss(&link(path).query());
    }
    let head = ask("HEAD", &link("/file").query(), &own, &[]);
    assert_eq!(head.status, 200);
    assert_unmarked(&head);
    let unchanged = ask("GET", &link("/file").query(), &own, &[("If-None-Match", "\"v1\"")]);
    assert_eq!(unchanged.status, 304);
    assert_unmarked(&unchanged);
    let keys = |name: &str| link("/no-store").with("kid", name).query();
    let answer = ask("GET", &keys("despite-1"), &rig.partition("despite-1"), &[]);
    assert_eq!(shared_for(&answer), Some(600), "{}", answer.head);
    rig.miss(&keys("despite-1"));
    rig.hit(&keys("despite-1"));
    let uncached = || link("/file").with("kid", "uncached-1").query();
    let answer = ask("GET", &uncached(), &rig.partition("uncached-1"), &[]);
    assert_eq!(answer.status, 200);
    assert_unmarked(&answer);
    rig.miss(&uncached());
    rig.miss(&uncached());
    // The other door answers ranges with the whole, and speaks no HTTP/1.0.
    if door == Door::Server {
        let part = ask("GET", &link("/file").query(), &own, &[("Range", "bytes=0-9")]);
        assert_eq!(part.status, 206);
        assert_unmarked(&part);
        for (path, is_shared) in [("/file", true), ("/chunked", false)] {
            let mut old = Client::connect(rig.origin.address());
            let query = link(path).query();
            old.send(format!("GET /?{query} HTTP/1.0\r\nHost: x\r\n{PARTITION}: {own}\r\n\r\n"));
            let answer = old.answer("GET");
            assert_eq!((answer.status, shared_for(&answer).is_some()), (200, is_shared), "{}", answer.head);
        }
    }
}

// --- What goes wrong

/// Whether the upstream does what it should, for the test to change.
#[derive(Clone, Default)]
struct Health(Arc<Mutex<bool>>);

impl Health {
    fn set(&self, good: bool) {
        *self.0.lock().unwrap() = good;
    }

    fn is_good(&self) -> bool {
        *self.0.lock().unwrap()
    }
}

fn a_failure_is_never_served_to_the_next(door: Door) {
    let health = Health::default();
    let state = health.clone();
    let upstream = Upstream::start(move |request| match request.target() {
        _ if state.is_good() => file(request),
        "/404" => text(
            "HTTP/1.1 404 Not Found\r\nCache-Control: public, max-age=600\r\nContent-Length: 4\r\n\r\nnone",
        ),
        "/410" => text("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"),
        "/403" => text("HTTP/1.1 403 Forbidden\r\nCache-Control: max-age=600\r\nContent-Length: 0\r\n\r\n"),
        "/500" => text("HTTP/1.1 500 Oops\r\nCache-Control: s-maxage=600\r\nContent-Length: 0\r\n\r\n"),
        "/garbage" => [text("no http at all\r\n\r\n"), vec![Step::Close]].into_iter().flatten().collect(),
        "/reset" => vec![Step::Reset],
        "/away" => text("HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n"),
        _ => vec![Step::Stall],
    });
    let down = free_port();
    let rig = Rig::with(door, upstream, |setup| {
        setup.set("timeouts.first_byte", "300ms").host("down.test.example", down).allow("down.test.example")
    });
    for (path, status) in [
        ("/404", 404),
        ("/410", 410),
        ("/403", 502),
        ("/500", 502),
        ("/garbage", 502),
        ("/reset", 502),
        ("/away", 403),
        ("/stall", 504),
    ] {
        health.set(false);
        for _ in 0..2 {
            let before = rig.fetched();
            let answer = rig.edge.get(&link(path).query());
            assert_eq!((answer.status, cache(&answer)), (status, "Error"), "{path}: {}", answer.head);
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
            assert!(rig.fetched() > before, "{path} was asked for again");
        }
        // Another tenant does not find it either, nor does this one once the file is there.
        health.set(true);
        rig.miss(&other(path).query());
        rig.miss(&link(path).query());
        rig.hit(&link(path).query());
    }
    for _ in 0..2 {
        let before = rig.asked();
        let answer = rig.edge.get(&Link::to("http://down.test.example/").query());
        answer.expect(502, "upstream_unreachable");
        assert_eq!(rig.asked(), before + 1);
    }
}

const LARGE: u64 = 100_000;

fn breaking(request: &Request, is_good: bool) -> Vec<Step> {
    // The pause is part of the fault: the emulator of Lambda drops what it has not sent on when the end comes too soon.
    let pause = || Step::Drip(vec![Vec::new()], Duration::from_millis(200));
    let resumable = request.target().starts_with("/resum");
    let fields = if resumable { "ETag: \"v1\"\r\nAccept-Ranges: bytes\r\n" } else { "" };
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{fields}Content-Length: {LARGE}\r\n\r\n");
    let from = request.from();
    let send = |text: String| Step::Send(text.into_bytes());
    let rest = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Type: text/plain\r\n{fields}Content-Length: {}\r\nContent-Range: bytes {from}-{}/{LARGE}\r\n\r\n",
        LARGE - from,
        LARGE - 1
    );
    let half = LARGE / 2;
    match request.target() {
        "/resumed" if from > 0 => vec![send(rest), Step::Pattern(from, LARGE)],
        "/resumed" => vec![send(head), Step::Pattern(0, half), pause(), Step::Reset],
        _ if is_good => vec![send(head), Step::Pattern(0, LARGE)],
        "/resuming" if from > 0 => vec![send(rest), Step::Pattern(from, from + 1), pause(), Step::Reset],
        "/reset" => vec![send(head), Step::Pattern(0, half), pause(), Step::Reset],
        "/chunk" => vec![
            send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
                    .to_owned(),
            ),
            send(format!("{half:x}\r\n")),
            Step::Pattern(0, half),
            send("\r\n".to_owned()),
            pause(),
            Step::Close,
        ],
        _ => vec![send(head), Step::Pattern(0, half), pause(), Step::Close],
    }
}

fn a_body_that_breaks_off_is_never_served_to_the_next(door: Door) {
    let health = Health::default();
    let state = health.clone();
    let rig =
        Rig::with(door, Upstream::start(move |request| breaking(request, state.is_good())), |setup| setup);
    let whole = pattern(0, LARGE);
    for path in ["/short", "/reset", "/chunk", "/resuming"] {
        health.set(false);
        for _ in 0..2 {
            let before = rig.fetched();
            let answer = rig.edge.get(&link(path).query());
            assert!(!answer.complete() || answer.status >= 500, "{path}: {} {:?}", answer.head, answer.end);
            assert!(answer.body.len() < whole.len());
            assert!(rig.fetched() > before, "{path} was asked for again");
        }
        health.set(true);
        for expected in ["Miss", "Hit"] {
            let answer = rig.edge.get(&link(path).query());
            assert_eq!(
                (answer.status, cache(&answer), answer.complete()),
                (200, expected, true),
                "{path}: {}",
                answer.head
            );
            assert!(answer.body == whole, "{path}");
        }
    }
    for expected in ["Miss", "Hit"] {
        let answer = rig.edge.get(&link("/resumed").query());
        assert_eq!(
            (answer.status, cache(&answer), answer.complete()),
            (200, expected, true),
            "{}",
            answer.head
        );
        assert!(answer.body == whole);
    }
    assert!(
        rig.upstream.requests().iter().any(|request| request.target() == "/resumed" && request.from() > 0)
    );
}

/// The first request under a path waits, and fails unless the path is `/good`; those after it find the file.
fn fails_once(gates: HashMap<&'static str, Signal>) -> Upstream {
    let counts = Mutex::new(HashMap::<String, usize>::new());
    Upstream::start(move |request| {
        let path = request.target().to_owned();
        let number = {
            let mut counts = counts.lock().unwrap();
            let count = counts.entry(path.clone()).or_default();
            *count += 1;
            *count
        };
        let missing = || text("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        let answer = match (path.as_str(), number) {
            ("/404", 1) | ("/404-always", _) => missing(),
            ("/short", 1) => breaking(request, false),
            _ => breaking(request, true),
        };
        let wait = (number == 1).then(|| Step::Wait(gates[&*path].clone()));
        wait.into_iter().chain(answer).collect()
    })
}

fn whoever_waits_for_a_failure_gets_an_answer_of_its_own(door: Door) {
    const CLIENTS: usize = 4;
    // What the first request in each path waits for.
    let gates: HashMap<_, _> =
        ["/404", "/404-always", "/short", "/good"].map(|path| (path, Signal::new())).into();
    let upstream = fails_once(gates.clone());
    let rig = Rig::with(door, upstream, |setup| setup.set("timeouts.first_byte", "15s"));
    let whole = pattern(0, LARGE);
    let name = |number: usize| format!("{number}.txt");
    let crowds = Cell::new(0);
    let crowd = |path: &str| {
        let (edge, before) = (&rig.edge, rig.fetched());
        crowds.set(crowds.get() + 1);
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|number| link(path).with("filename", &name(number)).query())
                .map(|query| scope.spawn(move || edge.get(&query)))
                .collect();
            rig.upstream.wait_requests(before + 1);
            edge.wait_logged("passed on to the cache", crowds.get() * CLIENTS);
            gates[path].give();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let mut ids: Vec<_> = answers.iter().filter_map(|answer| answer.header("x-request-id")).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(
            ids.len(),
            answers.iter().filter(|answer| answer.status > 0).count(),
            "{path}: an id for each"
        );
        (answers, rig.fetched() - before)
    };
    let good = |answers: &[Answer]| {
        let good = answers.iter().enumerate().filter(|(_, answer)| answer.status == 200 && answer.complete());
        good.map(|(number, answer)| {
            let disposition = format!("attachment; filename=\"{}\"", name(number));
            assert_eq!(answer.header("content-disposition"), Some(disposition.as_str()));
            assert!(answer.body == whole);
        })
        .count()
    };

    // What they should do.
    let (answers, fetched) = crowd("/good");
    assert_eq!((good(&answers), fetched), (CLIENTS, 1), "one request for all of them");

    let (answers, fetched) = crowd("/404");
    assert_eq!((good(&answers), fetched), (CLIENTS - 1, 2), "the second request was for those who waited");
    answers.iter().find(|answer| answer.status != 200).unwrap().expect(404, "upstream_not_found");

    let (answers, fetched) = crowd("/404-always");
    assert_eq!(fetched, CLIENTS);
    for answer in answers {
        answer.expect(404, "upstream_not_found");
    }

    let (answers, fetched) = crowd("/short");
    assert_eq!((good(&answers), fetched), (CLIENTS - 1, 2));
    assert_eq!(answers.iter().filter(|answer| !answer.complete()).count(), 1);
}

// --- What the cache answers itself, and what passes it

fn ranges_conditions_and_head_are_answered_from_what_is_kept(door: Door) {
    let rig = Rig::start(door);
    // A HEAD that comes first leaves nothing for a GET.
    let head = rig.edge.request("HEAD", &link("/first").query(), &[]);
    assert_eq!((head.status, cache(&head)), (200, "Miss"));
    rig.miss(&link("/first").query());
    // Nor does a condition that holds upstream.
    let unchanged = rig.edge.request("GET", &link("/second").query(), &[("If-None-Match", "\"v1\"")]);
    assert_eq!(unchanged.status, 304);
    rig.miss(&link("/second").query());

    rig.warm(&link("/file").query());
    let before = (rig.asked(), rig.fetched());
    let query = link("/file").with("filename", "own.txt").query();
    let length = FILE.len();
    for (range, from, to) in [
        ("bytes=0-9".to_owned(), 0, 10),
        ("bytes=10-19".to_owned(), 10, 20),
        ("bytes=-5".to_owned(), length - 5, length),
        ("bytes=70-".to_owned(), 70, length),
        (format!("bytes=0-{}", length + 100), 0, length),
    ] {
        let part = rig.edge.request("GET", &query, &[("Range", &range)]);
        assert_eq!(
            (part.status, cache(&part), part.complete()),
            (206, "Hit", true),
            "{range}: {}",
            part.head
        );
        assert_eq!(part.body, &FILE[from..to], "{range}");
        let said = format!("bytes {from}-{}/{length}", to - 1);
        assert_eq!(part.header("content-range"), Some(said.as_str()));
        assert_eq!(part.header("content-disposition"), Some("attachment; filename=\"own.txt\""));
        assert!(max_age(&part).is_some());
        check_nothing_of_ours(&part);
    }
    let beyond = rig.edge.request("GET", &query, &[("Range", "bytes=9999-")]);
    assert!(beyond.status == 416 && !holds_file(&beyond), "{}", beyond.head);
    let same = rig.edge.request("GET", &query, &[("Range", "bytes=0-3"), ("If-Range", "\"v1\"")]);
    assert_eq!((same.status, &same.body[..]), (206, &FILE[..4]));
    let changed = rig.edge.request("GET", &query, &[("Range", "bytes=0-3"), ("If-Range", "\"v0\"")]);
    assert_eq!((changed.status, &changed.body[..]), (200, FILE));
    let unchanged = rig.edge.request("GET", &query, &[("If-None-Match", "\"v1\"")]);
    assert_eq!((unchanged.status, unchanged.header("etag"), cache(&unchanged)), (304, Some("\"v1\""), "Hit"));
    rig.hit_with(&query, &[("If-None-Match", "\"v0\"")]);
    let head = rig.edge.request("HEAD", &query, &[]);
    assert_eq!((head.status, cache(&head)), (200, "Hit"), "{}", head.head);
    assert_eq!(head.header("content-disposition"), Some("attachment; filename=\"own.txt\""));
    check_nothing_of_ours(&head);
    assert_eq!((rig.asked(), rig.fetched()), before, "all of it without the origin");
}

fn only_links_pass(door: Door) {
    let rig = Rig::start(door);
    let good = link("/file").query();
    rig.warm(&good);
    let ask = |method: &str, target: &str, fields: &str| {
        let mut client = rig.edge.client();
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: gateway.test\r\n{fields}\r\n"));
        client.answer(method)
    };
    let preflight =
        ask("OPTIONS", "/", "Origin: https://app.example\r\nAccess-Control-Request-Method: GET\r\n");
    assert!(matches!(preflight.status, 200 | 204) && preflight.body.is_empty(), "{}", preflight.head);
    assert!(preflight.header("access-control-allow-methods").is_some(), "{}", preflight.head);
    let health = ask("GET", "/healthz", "");
    assert_eq!((health.status, &health.body[..]), (200, &b"ok\n"[..]));
    let before = (rig.asked(), rig.fetched());
    for target in [
        "/x",
        "/x.css",
        "/index.html",
        "//",
        "/./",
        "/%2f",
        "/%3f",
        "/healthz/",
        "/healthz.css",
        "/HEALTHZ",
        "/healthz%20",
        "/?/x.css",
        "/;x.css",
    ] {
        let target = if target.starts_with("/?") { "/x.css/?".to_owned() } else { target.to_owned() };
        for target in [format!("{target}?{good}"), target] {
            let answer = ask("GET", &target, "");
            answer.expect(404, "not_found");
            assert!(refused_before_the_cache(&answer) && !holds_file(&answer), "{target}: {}", answer.head);
        }
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "get", "PROPFIND"] {
        let answer = ask(method, &format!("/?{good}"), "");
        assert!(
            matches!(answer.status, 400 | 403 | 405) && !holds_file(&answer),
            "{method}: {}",
            answer.head
        );
    }
    let answer = ask("GET", &format!("/?{good}"), "Content-Length: 1\r\n\r\n1");
    assert_eq!(answer.status, 403, "a body");
    assert_eq!((rig.asked(), rig.fetched()), before);
    // A second `?` begins nothing.
    rig.edge.get(&format!("x.css?{good}")).expect(400, "malformed_link");
}

// --- Policies that change, which they do at the server door alone: the function's are a layer, and another is deployed.

fn edit(folder: &Path, change: impl Fn(String) -> String) {
    let path = folder.join(format!("{TENANT}.toml"));
    let text = change(std::fs::read_to_string(&path).unwrap());
    replace(&path, &text);
}

/// As editors do it: a new file takes the old one's place.
fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

/// A policy folder beside that of the gateway, which it does not see.
struct Beside(PathBuf);

impl Beside {
    fn copy(folder: &Path) -> Self {
        let copy = folder.with_file_name("beside");
        std::fs::create_dir(&copy).unwrap();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
        }
        Self(copy)
    }
}

/// Waits until the gateway answers a link so.
fn settle(rig: &Rig, query: &str, status: u16) {
    let asked = || rig.origin.request("GET", query, &[(CLIENT, "127.0.0.1")]).status == status;
    poll(asked).expect("the gateway does not take the change over");
}

#[test]
fn a_comment_abandons_nothing_and_a_change_everything() {
    let rig = Rig::start(Door::Server);
    let policy = rig.origin.policy_folder();
    let query = || link("/file").query();
    rig.warm(&query());
    rig.warm(&other("/file").query());
    let partition = rig.partition(KEY);
    edit(&policy, |text| format!("# Nothing of note.\ndescription = \"The same.\"\n{text}"));
    rig.origin.line(|line| line["message"] == "policy reloaded");
    rig.edge.export(&policy);
    assert_eq!(rig.partition(KEY), partition);
    rig.hit(&query());
    rig.miss(&link("/more").query());
    rig.hit(&link("/more").query());

    edit(&policy, |text| format!("{text}\n[[deny]]\nhost = \"{HOST}\"\npath = \"/file\"\n"));
    settle(&rig, &query(), 403);
    rig.edge.export(&policy);
    for _ in 0..2 {
        let answer = rig.edge.get(&query());
        answer.expect(403, "url_not_allowed");
        assert!(cache(&answer) == "Error" && !holds_file(&answer));
    }
    rig.miss(&link("/more").query());
    rig.hit(&link("/more").query());
    rig.hit(&other("/file").query());
}

#[test]
fn an_edge_that_knows_a_change_before_the_origin_keeps_nothing_wrong() {
    let rig = Rig::start(Door::Server);
    let policy = rig.origin.policy_folder();
    let query = || link("/file").query();
    rig.warm(&query());
    let beside = Beside::copy(&policy);
    let deny = |text: String| format!("{text}\n[[deny]]\nhost = \"{HOST}\"\npath = \"/file\"\n");
    edit(&beside.0, deny);
    rig.edge.export(&beside.0);
    // The origin still allows it, and knows that this is not what the partition stands for.
    rig.miss(&query());
    rig.miss(&query());
    edit(&policy, deny);
    settle(&rig, &query(), 403);
    for _ in 0..2 {
        let answer = rig.edge.get(&query());
        answer.expect(403, "url_not_allowed");
        assert!(!holds_file(&answer));
    }
    rig.miss(&link("/more").query());
    rig.hit(&link("/more").query());
}

#[test]
fn an_origin_that_knows_a_change_before_the_edge_keeps_nothing_wrong() {
    let rig = Rig::start(Door::Server);
    let policy = rig.origin.policy_folder();
    let query = || link("/file").query();
    rig.warm(&query());
    edit(&policy, |text| format!("{text}\n[[deny]]\nhost = \"{HOST}\"\npath = \"/file\"\n"));
    settle(&rig, &query(), 403);
    // Until the store has the change, the old policy holds for what is kept under it. Nothing is added to that.
    rig.hit(&query());
    rig.miss(&link("/more").query());
    rig.miss(&link("/more").query());
    rig.edge.get(&link("/file/below").query()).expect(403, "url_not_allowed");
    rig.edge.export(&policy);
    rig.edge.get(&query()).expect(403, "url_not_allowed");
    rig.edge.get(&link("/file/below").query()).expect(403, "url_not_allowed");
    rig.miss(&link("/more").query());
    rig.hit(&link("/more").query());
}

#[test]
fn a_rotated_secret_abandons_what_was_kept_under_the_old_one() {
    const FRESH: &str = "sgk1_fresh-0123456789abcdefghijklmnopqrstuvw";
    for edge_first in [true, false] {
        let rig = Rig::start(Door::Server);
        let policy = rig.origin.policy_folder();
        let old = || link("/file").query();
        let fresh = || link("/file").secret(FRESH).query();
        rig.warm(&old());
        let beside = Beside::copy(&policy);
        if edge_first {
            replace(&beside.0.join("rig.secret"), FRESH);
            rig.edge.export(&beside.0);
            rig.edge.get(&fresh()).expect(403, "invalid_signature");
            replace(&policy.join("rig.secret"), FRESH);
            settle(&rig, &fresh(), 200);
        } else {
            replace(&policy.join("rig.secret"), FRESH);
            settle(&rig, &fresh(), 200);
            rig.hit(&old());
            assert!(refused_before_the_cache(&rig.edge.get(&fresh())));
            // Verified at the edge, and no longer at the origin.
            rig.edge.get(&link("/more").query()).expect(403, "invalid_signature");
            rig.edge.export(&policy);
        }
        let answer = rig.edge.get(&old());
        answer.expect(403, "invalid_signature");
        assert!(refused_before_the_cache(&answer));
        rig.miss(&fresh());
        rig.hit(&fresh());
    }
}
