//! `sluicegate smoke` against a real gateway, and against stand-ins that break the contract: each break is found by the
//! checks that are meant for it, and by no other.

#![cfg(feature = "wire")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

const FILE: &str = "http://files.test.example/report.bin";
const BREAKING: &str = "http://files.test.example/breaking.bin";
const OTHER_KEY: &str = "globex-1";
const OTHER_SECRET: &str = "sgk1_other-0123456789abcdefghijklmnopqrstuvwxyz";
const SIZE: u64 = 300_000;
const LATE: &str = "the time of --deadline was over";

/// A file with a strong tag that answers conditions and ranges, one that breaks off in the middle, and nothing else.
fn files() -> Upstream {
    Upstream::start(|request| {
        let tag = "ETag: \"v1\"\r\nAccept-Ranges: bytes\r\nContent-Type: application/octet-stream";
        let head = |status: &str, fields: &str| format!("HTTP/1.1 {status}\r\n{fields}\r\n\r\n");
        let body = |to| if request.method() == "HEAD" { Vec::new() } else { vec![Step::Pattern(0, to)] };
        let (head, body) = match request.target() {
            "/breaking.bin" => {
                let length = format!("Content-Length: {}", 4 * 1024 * 1024);
                (head("200 OK", &length), vec![Step::Pattern(0, 2 * 1024 * 1024), Step::Close])
            }
            "/report.bin" if request.header("if-none-match") == Some("\"v1\"") => {
                (head("304 Not Modified", tag), Vec::new())
            }
            "/report.bin" if request.header("range") == Some("bytes=0-9") => {
                let range = format!("{tag}\r\nContent-Range: bytes 0-9/{SIZE}\r\nContent-Length: 10");
                (head("206 Partial Content", &range), body(10))
            }
            "/report.bin" => (head("200 OK", &format!("{tag}\r\nContent-Length: {SIZE}")), body(SIZE)),
            _ => (head("404 Not Found", "Content-Length: 0"), Vec::new()),
        };
        text(head).into_iter().chain(body).collect()
    })
}

/// A gateway with two tenants, of which the first may fetch the files.
fn gateway(upstream: &Upstream) -> Gateway {
    let other = format!(
        "tenant = \"globex\"\n[[keys]]\nid = \"{OTHER_KEY}\"\nsecret = \"env:GLOBEX\"\n\
         [[allow]]\nhost = \"files.globex.example\"\n"
    );
    Gateway::start(&Setup::new(upstream).tenant("globex", &other).variable("GLOBEX", OTHER_SECRET))
}

fn at(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// `sluicegate smoke` with the keys of a gateway's policy folder.
fn smoke(gateway: &Gateway, base: &str, arguments: &[&str]) -> Output {
    let folder = gateway.policy_folder();
    let policy =
        ["--policy", folder.to_str().unwrap(), "--kid", KEY, "--other-kid", OTHER_KEY, "--url", FILE];
    call(base, &[&policy[..], arguments].concat())
}

fn call(base: &str, arguments: &[&str]) -> Output {
    command(base, arguments).output().unwrap()
}

fn command(base: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(support::program());
    command.arg("smoke").args([base].iter().filter(|base| !base.is_empty())).args(arguments);
    command.env_clear().env("GLOBEX", OTHER_SECRET).stdin(Stdio::null());
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The checks by name; every run has all of them. Whatever a run prints holds no secret and no signature.
fn checks(output: &Output) -> HashMap<String, Value> {
    let page = stdout(output);
    assert!(!page.contains(SECRET) && !page.contains("sig="), "{page}");
    let document: Value = serde_json::from_str(&page).unwrap_or_else(|_| panic!("{page}{}", stderr(output)));
    let checks =
        document["checks"].as_array().unwrap().iter().map(|check| (said(check, "name"), check.clone()));
    let checks: HashMap<_, _> = checks.collect();
    assert_eq!(checks.len(), 27, "{page}");
    let in_a_signature = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    assert!(page.split(|c| !in_a_signature(c)).all(|word| word.len() < 43), "{page}");
    let bad = |check: &Value| check["verdict"] == "failed" || check["hint"] == LATE;
    let bad = checks.values().any(bad);
    assert_eq!((&document["ok"], output.status.code()), (&Value::Bool(!bad), Some(i32::from(bad))), "{page}");
    checks
}

fn said(check: &Value, member: &str) -> String {
    check[member].as_str().unwrap().to_owned()
}

/// The names of the checks with this verdict, sorted.
fn with_verdict(checks: &HashMap<String, Value>, verdict: &str) -> Vec<String> {
    let its = checks.iter().filter(|(_, check)| check["verdict"] == verdict);
    let mut names: Vec<_> = its.map(|(name, _)| name.clone()).collect();
    names.sort();
    names
}

/// Fails unless exactly these checks failed.
#[track_caller]
fn expect_failed(output: &Output, names: &[&str]) -> HashMap<String, Value> {
    let checks = checks(output);
    assert_eq!(with_verdict(&checks, "failed"), names, "{}", stdout(output));
    checks
}

/// What the platform answers to whoever asks the function directly.
fn closed_function() -> Upstream {
    let fields = [("Content-Type", "application/json"), ("x-amzn-ErrorType", "AccessDeniedException")];
    let body = "{\"Message\":\"Forbidden\"}";
    let fields = fields.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
    let length = body.len();
    Upstream::always(move || {
        text(format!("HTTP/1.1 403 Forbidden\r\n{fields}Content-Length: {length}\r\n\r\n{body}"))
    })
}

/// Something in front of a gateway that hands every request on as it came and may change the answer.
fn front(
    gateway: SocketAddr,
    change: impl Fn(&Request, Answer) -> Vec<Step> + Send + Sync + 'static,
) -> Upstream {
    Upstream::start(move |request| {
        let mut client = Client::connect(gateway);
        client.send(&request.head);
        let answer = client.answer(request.method());
        change(request, answer)
    })
}

/// The answer as it came, and visibly incomplete if it was.
fn passed_on(answer: Answer) -> Vec<Step> {
    let end = if answer.complete() { Vec::new() } else { vec![Step::Reset] };
    let body = match answer.header("transfer-encoding") {
        Some(_) => {
            [format!("{:x}\r\n", answer.body.len()).as_bytes(), &answer.body, b"\r\n0\r\n\r\n"].concat()
        }
        None => answer.body,
    };
    [Step::Send([answer.head.as_bytes(), &body].concat())].into_iter().chain(end).collect()
}

/// The head without these fields.
fn without(answer: &Answer, names: &[&str]) -> String {
    let kept = |line: &&str| {
        let name = line.split(':').next().unwrap().to_ascii_lowercase();
        !names.contains(&name.as_str())
    };
    let lines: Vec<_> = answer.head.trim_end().lines().filter(kept).collect();
    lines.join("\r\n") + "\r\n"
}

#[test]
fn everything_holds_where_nothing_is_broken() {
    let (upstream, function) = (files(), closed_function());
    let gateway = gateway(&upstream);
    let base = at(gateway.address());
    let function = at(function.address());
    let all = ["--truncating-url", BREAKING, "--function-url", &function];
    let output = smoke(&gateway, &base, &[&all[..], &["--json"]].concat());
    let found = expect_failed(&output, &[]);
    assert_eq!(with_verdict(&found, "skipped"), ["plain-http"], "{}", stdout(&output));
    assert!(with_verdict(&found, "platform").is_empty(), "{}", stdout(&output));

    let output = smoke(&gateway, &base, &all);
    let page = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{page}{}", stderr(&output));
    assert!(page.starts_with(&format!("{base}/  (links signed with key `{KEY}`)\n\ncheck ")), "{page}");
    for row in [
        "\ngood-link           held      200 with 300000 bytes, as many as promised\n",
        "\ncross-tenant        held      403 url_not_allowed, before and after a good link\n",
        "\ntruncated-transfer  held      the client saw an error, twice\n",
        "\nplain-http          skipped   the base is http\n",
        "\nerrors-not-cached   held      8 errors asked twice were made twice; after 7 of them the good link brought the file\n",
    ] {
        assert!(page.contains(row), "{row}\n{page}");
    }
    assert!(page.ends_with("\n\n26 held, 1 skipped: the contract holds where it was tried\n"), "{page}");
    assert!(page.lines().all(|line| line.chars().count() <= 120), "{page}");
    assert!(!page.contains("sig=") && !page.contains(SECRET), "{page}");
}

/// Without a policy folder, and without what must be named, everything else is still tried.
#[test]
fn keys_may_be_given_by_reference() {
    let upstream = files();
    let gateway = gateway(&upstream);
    let secret = gateway.policy_folder().join("rig.secret");
    let key = format!("{KEY}=file:{}", secret.to_str().unwrap());
    let other = format!("{OTHER_KEY}=env:GLOBEX");
    let base = at(gateway.address());
    let given = ["--key", &key, "--url", FILE, "--json"];
    let found = expect_failed(&call(&base, &given), &[]);
    let skipped = ["cross-tenant", "foreign-key-id", "function-url", "plain-http", "truncated-transfer"];
    assert_eq!(with_verdict(&found, "skipped"), skipped);
    let two = [&given[..], &["--key", &other, "--other-kid", OTHER_KEY]].concat();
    let found = expect_failed(&call(&base, &two), &[]);
    assert_eq!(found["cross-tenant"]["got"], "403 url_not_allowed, before and after a good link");
}

/// A real nginx with an open cache: keyed on `url` alone, kept whatever the gateway says about storing.
struct Nginx {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
}

impl Nginx {
    fn before(gateway: SocketAddr, name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("temporary")).unwrap();
        // The test binds the port and hands the socket over, so there is neither a race for it nor a wait until it listens.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        std::fs::write(folder.join("nginx.conf"), Self::configuration(address, gateway)).unwrap();
        let child = Command::new("nginx")
            .args(["-p", folder.to_str().unwrap(), "-c", "nginx.conf", "-e", "error.log"])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin")
            .env("NGINX", "0;")
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed by tests/run");
        Self { child, folder, address }
    }

    fn configuration(address: SocketAddr, gateway: SocketAddr) -> String {
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path temporary/{kind};"))
            .concat();
        format!(
            "daemon off; user root; worker_processes 1; pid nginx.pid; error_log error.log;
             events {{ worker_connections 64; }}
             http {{
                 access_log off; {temporary}
                 proxy_cache_path cache keys_zone=files:1m;
                 server {{
                     listen {address};
                     location / {{
                         proxy_pass http://{gateway};
                         proxy_http_version 1.1;
                         proxy_cache files;
                         proxy_cache_key $arg_url;
                         proxy_cache_valid 200 10m;
                         proxy_ignore_headers Cache-Control Expires Vary;
                         add_header X-Cache $upstream_cache_status;
                     }}
                 }}
             }}"
        )
    }
}

impl Drop for Nginx {
    /// A request to stop, since only that ends its workers with it.
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

#[test]
fn an_open_cache_is_found() {
    let upstream = files();
    let gateway = gateway(&upstream);
    let nginx = Nginx::before(gateway.address(), "open-cache");
    let output = smoke(&gateway, &at(nginx.address), &["--truncating-url", BREAKING, "--json"]);
    let open = [
        "cross-tenant",
        "expired",
        "file-name",
        "foreign-key-id",
        "other-path",
        "repeated-parameter",
        "tampered-exp",
        "tampered-filename",
        "tampered-signature",
        "unknown-key",
        "unsigned",
    ];
    let found = expect_failed(&output, &open);
    assert_eq!(found["good-again"]["got"], "the same bytes; x-cache: HIT");
    assert_eq!(found["unsigned"]["expected"], "401 missing_credential");
    assert_eq!(found["unsigned"]["got"], "200 with the whole file");
    for name in ["unsigned", "expired", "tampered-exp", "unknown-key"] {
        assert!(said(&found[name], "hint").contains("must verify each request first"), "{}", found[name]);
    }
    assert!(said(&found["cross-tenant"], "hint").contains("a cache must keep tenants apart"));
    assert!(said(&found["file-name"], "got").contains("the name `Größe 1"), "{}", found["file-name"]);
}

/// A cache of errors: whatever is refused once is refused with the very same answer again.
#[test]
fn cached_errors_are_found() {
    let upstream = files();
    let gateway = gateway(&upstream);
    let cache: Mutex<HashMap<String, Vec<u8>>> = Mutex::default();
    let address = gateway.address();
    let front = Upstream::start(move |request| {
        let key = format!("{} {}", request.method(), request.target());
        if let Some(kept) = cache.lock().unwrap().get(&key) {
            return vec![Step::Send(kept.clone())];
        }
        let mut client = Client::connect(address);
        client.send(&request.head);
        let answer = client.answer(request.method());
        if answer.status >= 400 {
            let bytes = [answer.head.as_bytes(), &answer.body].concat();
            cache.lock().unwrap().insert(key, bytes);
        }
        passed_on(answer)
    });
    let output = smoke(&gateway, &at(front.address()), &["--truncating-url", BREAKING, "--json"]);
    let found = expect_failed(&output, &["errors-not-cached"]);
    let check = &found["errors-not-cached"];
    assert_eq!(check["got"], "one answer for two requests of `unsigned`");
    assert!(said(check, "hint").contains("no cache may keep an answer of 400 or more"), "{check}");
}

/// An error that is kept under `url` alone is another request's answer.
#[test]
fn an_error_in_place_of_the_file_is_found() {
    let upstream = files();
    let gateway = gateway(&upstream);
    let poisoned = Mutex::new(false);
    // After the first 401, one good link gets it too.
    let front = front(gateway.address(), move |_, answer| {
        let mut poisoned = poisoned.lock().unwrap();
        if answer.status == 401 {
            *poisoned = true;
        } else if answer.status == 200 && std::mem::take(&mut poisoned) {
            return text("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
        }
        passed_on(answer)
    });
    let output = smoke(&gateway, &at(front.address()), &["--json"]);
    let found = expect_failed(&output, &["errors-not-cached"]);
    let got = "401 with 0 bytes for the good link after `unsigned`";
    assert_eq!(found["errors-not-cached"]["got"], got);
}

/// What a runtime does that ends every body cleanly.
#[test]
fn a_broken_download_that_looks_whole_is_found() {
    let upstream = files();
    let gateway = gateway(&upstream);
    for kept in ["", "x-sluicegate-length"] {
        let front = front(gateway.address(), move |_, answer| {
            if answer.complete() {
                return passed_on(answer);
            }
            let lost = ["content-length", "x-sluicegate-length"];
            let lost: Vec<_> = lost.into_iter().filter(|name| *name != kept).collect();
            let head = format!("{}Content-Length: {}\r\n\r\n", without(&answer, &lost), answer.body.len());
            vec![Step::Send([head.as_bytes(), &answer.body].concat())]
        });
        let output = smoke(&gateway, &at(front.address()), &["--truncating-url", BREAKING, "--json"]);
        let found = expect_failed(&output, &["truncated-transfer"]);
        let got = said(&found["truncated-transfer"], "got");
        assert!(got.starts_with("200 that ends as if whole, with "), "{got}");
        assert_eq!(got.contains(" of 4194304"), !kept.is_empty(), "{got}");
    }
}

/// A url that cannot break off proves nothing, and is no proof of the contrary; an error page in its place is one.
#[test]
fn a_broken_download_is_told_from_one_that_never_began() {
    let upstream = files();
    let gateway = gateway(&upstream);
    for (url, got) in [
        (FILE, "200 that ends as if whole, with 300000 of 300000 bytes"),
        ("http://files.test.example/nothing.bin", "404 upstream_not_found"),
        ("http://elsewhere.test.example/", "403 url_not_allowed"),
    ] {
        let output = smoke(&gateway, &at(gateway.address()), &["--truncating-url", url, "--json"]);
        let found = expect_failed(&output, &["truncated-transfer"]);
        assert_eq!(found["truncated-transfer"]["got"], got);
    }
    let front = front(gateway.address(), |_, answer| {
        if answer.complete() {
            passed_on(answer)
        } else {
            text("HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n")
        }
    });
    let output = smoke(&gateway, &at(front.address()), &["--truncating-url", BREAKING, "--json"]);
    let found = expect_failed(&output, &[]);
    assert_eq!(with_verdict(&found, "platform"), ["truncated-transfer"]);
}

#[test]
fn a_lost_file_name_is_found() {
    let upstream = files();
    let gateway = gateway(&upstream);
    let front = front(gateway.address(), |_, mut answer| {
        answer.head = format!("{}\r\n", without(&answer, &["content-disposition"]));
        passed_on(answer)
    });
    let output = smoke(&gateway, &at(front.address()), &["--truncating-url", BREAKING, "--json"]);
    let found = expect_failed(&output, &["file-name"]);
    assert_eq!(found["file-name"]["got"], "no Content-Disposition that is text");
}

#[test]
fn a_server_that_answers_anything_is_found() {
    let upstream = files();
    let gateway = gateway(&upstream);
    let server =
        Upstream::always(|| vec![Step::Send(ok(&[("Connection", "close")], &[b'x'; 64])), Step::Close]);
    let base = at(server.address());
    let all = ["--truncating-url", BREAKING, "--function-url", &base, "--json"];
    let output = smoke(&gateway, &base, &all);
    let found = checks(&output);
    // It says 200 to a good link, too, and nothing shows that this is not the file.
    let held = ["added-parameter", "good-again", "good-link", "head", "reordered", "space-spellings"];
    assert_eq!(with_verdict(&found, "held"), held, "{}", stdout(&output));
    assert_eq!(with_verdict(&found, "platform"), ["range"]);
    assert_eq!(with_verdict(&found, "skipped"), ["conditional", "errors-not-cached", "plain-http"]);
    assert_eq!(with_verdict(&found, "failed").len(), 17);
}

/// Refusals whose fields are changed on their way: without one, and with another.
fn changed_refusals(gateway: SocketAddr, lost: &'static str, added: &'static str) -> Upstream {
    front(gateway, move |_, mut answer| {
        if answer.status >= 400 {
            answer.head = format!("{}{added}\r\n\r\n", without(&answer, &[lost]));
        }
        passed_on(answer)
    })
}

#[test]
fn a_refusal_that_caches_may_keep_is_found() {
    let upstream = files();
    let gateway = gateway(&upstream);
    for field in
        ["Cache-Control: max-age=60, x-no-store", "Cache-Control: private=\"a, no-store, b\"", "X: y"]
    {
        let front = changed_refusals(gateway.address(), "cache-control", field);
        let found = checks(&smoke(&gateway, &at(front.address()), &["--json"]));
        for (name, code) in [("unsigned", "401 missing_credential"), ("post", "405 method_not_allowed")] {
            assert_eq!(found[name]["got"], format!("{code}, without `cache-control: no-store`"), "{field}");
        }
    }
    let front = changed_refusals(gateway.address(), "cache-control", "Cache-Control: private , No-Store,x");
    expect_failed(&smoke(&gateway, &at(front.address()), &["--json"]), &[]);
}

#[test]
fn a_file_that_shared_caches_may_keep_is_found() {
    let upstream = files();
    let gateway = gateway(&upstream);
    for (field, got) in [
        ("public, max-age=60", "a `cache-control` with `public`"),
        ("no-store, S-MaxAge = 60", "a `cache-control` with `s-maxage`"),
        ("private=\"x, no-store\"", "no `cache-control` with `private` or `no-store`"),
        ("max-age=60", "no `cache-control` with `private` or `no-store`"),
        ("Private", ""),
        ("max-age=0, NO-STORE", ""),
    ] {
        let front = front(gateway.address(), move |_, mut answer| {
            if answer.status < 400 {
                let kept = without(&answer, &["cache-control"]);
                answer.head = format!("{kept}Cache-Control: {field}\r\n\r\n");
            }
            passed_on(answer)
        });
        let failed: &[&str] = if got.is_empty() { &[] } else { &["safe-headers"] };
        let found = expect_failed(&smoke(&gateway, &at(front.address()), &["--json"]), failed);
        assert!(got.is_empty() || found["safe-headers"]["got"] == got, "{field}: {}", found["safe-headers"]);
    }
}

#[test]
fn a_refusal_with_a_cookie_a_target_or_a_name_is_found() {
    let upstream = files();
    let gateway = gateway(&upstream);
    for (name, field) in [
        ("set-cookie", "Set-Cookie: a=b"),
        ("location", "Location: https://elsewhere.test.example/"),
        ("content-disposition", "Content-Disposition: attachment"),
    ] {
        let front = changed_refusals(gateway.address(), "", field);
        let found = checks(&smoke(&gateway, &at(front.address()), &["--json"]));
        for (check, code) in [
            ("unsigned", "401 missing_credential"),
            ("post", "405 method_not_allowed"),
            ("missing-file", "404 upstream_not_found"),
        ] {
            assert_eq!(found[check]["got"], format!("{code}, with `{name}`"));
        }
    }
}

/// The beginning or the middle of the file in a refusal that is right in every other way.
#[test]
fn bytes_of_the_file_in_a_refusal_are_found() {
    let upstream = files();
    let gateway = gateway(&upstream);
    let middle = SIZE / 2;
    for (from, to, in_a_field) in
        [(0, 48, false), (0, 48, true), (middle - 7, middle + 48, false), (middle - 8, middle + 48, true)]
    {
        for engine in [&STANDARD, &URL_SAFE] {
            let leak = engine.encode(pattern(from, to));
            let front = front(gateway.address(), move |_, answer| {
                if answer.status == 401 {
                    let mut body = String::from_utf8(answer.body.clone()).unwrap();
                    let mut head = without(&answer, &["content-length", "transfer-encoding"]);
                    if in_a_field {
                        head = format!("{head}X-Debug: {leak}\r\n");
                    } else {
                        body =
                            format!("{},\"debug\":\"{leak}\"}}", body.trim_end().strip_suffix('}').unwrap());
                    }
                    let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
                    return text(head + &body);
                }
                passed_on(answer)
            });
            let output = smoke(&gateway, &at(front.address()), &["--json"]);
            let found = expect_failed(&output, &["unsigned"]);
            assert_eq!(found["unsigned"]["got"], "401 missing_credential, with bytes of the file");
        }
    }
}

/// A connection that ends before any answer is no broken download.
#[test]
fn a_download_that_never_began_is_not_held_for_a_broken_one() {
    let upstream = files();
    let gateway = gateway(&upstream);
    let front =
        front(
            gateway.address(),
            |_, answer| {
                if answer.complete() { passed_on(answer) } else { vec![Step::Close] }
            },
        );
    let output = smoke(&gateway, &at(front.address()), &["--truncating-url", BREAKING, "--json"]);
    let found = expect_failed(&output, &["truncated-transfer"]);
    let check = &found["truncated-transfer"];
    assert!(said(check, "got").starts_with("a connection that ended without an answer"), "{check}");
    assert!(said(check, "hint").starts_with("no download began that could break off"), "{check}");
}

/// A refusal shows a closed function only if it is the platform's.
#[test]
fn a_refusal_at_another_address_is_no_closed_function() {
    let upstream = files();
    let gateway = gateway(&upstream);
    for (fields, body, verdict) in [
        ("Content-Type: text/html", "<html>Forbidden</html>", "platform"),
        ("Content-Type: application/json", "{\"error\":\"Message\"}", "platform"),
        ("Content-Type: application/json", "{\"Message\":\"Forbidden\"}", "held"),
        ("x-amzn-RequestId: 1", "", "held"),
        ("x-amzn-ErrorType: AccessDeniedException", "", "held"),
    ] {
        let length = body.len();
        let server = Upstream::always(move || {
            text(format!("HTTP/1.1 403 Forbidden\r\n{fields}\r\nContent-Length: {length}\r\n\r\n{body}"))
        });
        let function = at(server.address());
        let base = at(gateway.address());
        let found = checks(&smoke(&gateway, &base, &["--function-url", &function, "--json"]));
        let check = &found["function-url"];
        assert_eq!(check["verdict"], verdict, "{check}");
        assert_eq!(
            said(check, "hint").contains("check that --function-url"),
            verdict == "platform",
            "{check}"
        );
    }
}

/// Not even the beginning of a signature is shown, wherever a server sends it back.
#[test]
fn a_signature_that_is_sent_back_is_not_shown() {
    let upstream = files();
    let gateway = gateway(&upstream);
    let signatures: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&signatures);
    let front = front(gateway.address(), move |request, answer| {
        let Some((_, rest)) = request.target().split_once("sig=") else { return passed_on(answer) };
        let signature = rest.split('&').next().unwrap().to_owned();
        let kept = without(&answer, &["content-disposition"]);
        let name = format!("Content-Disposition: attachment; filename*=UTF-8''{signature}");
        let head = format!("{kept}X-Cache: for {signature}\r\nAge: {signature}\r\n{name}\r\n\r\n");
        seen.lock().unwrap().push(signature);
        passed_on(Answer { head, ..answer })
    });
    let base = at(front.address());
    let output = smoke(&gateway, &base, &["--json"]);
    let found = checks(&output);
    assert_eq!(found["good-again"]["got"], "the same bytes; x-cache: for …, age: …");
    assert!(
        said(&found["file-name"], "got").starts_with("the name `…` in place of"),
        "{}",
        found["file-name"]
    );
    let pages = stdout(&output) + &stdout(&smoke(&gateway, &base, &[]));
    let signatures = signatures.lock().unwrap();
    assert!(
        signatures.len() > 20 && signatures.iter().all(|signature| !pages.contains(&signature[..12])),
        "{pages}"
    );
}

/// Nobody is read for ever: neither a file nor a refusal that does not end.
#[test]
fn what_does_not_end_is_not_read_to_its_end() {
    const ENDLESS: u64 = 1 << 30;
    let upstream = files();
    let gateway = gateway(&upstream);
    let endless = |status: &str| {
        let head = text(format!("HTTP/1.1 {status}\r\nConnection: close\r\n\r\n"));
        head.into_iter().chain([Step::Zeros(ENDLESS), Step::Close]).collect::<Vec<_>>()
    };

    let server = Upstream::always(move || endless("200 OK"));
    let output = smoke(&gateway, &at(server.address()), &["--max-bytes", "1 MB", "--json"]);
    let found = checks(&output);
    assert_eq!(found["good-link"]["got"], "200 with more than 1000000 bytes");
    assert_eq!(found["good-link"]["hint"], "give --url a smaller file, or raise --max-bytes");
    assert_eq!(found["unsigned"]["got"], "200 with more than 65536 bytes");

    // The first file is whole; whatever comes for the second name does not end, nor does any refusal of a signature.
    let good = Mutex::new(0);
    let front = front(gateway.address(), move |_, answer| {
        let mut good = good.lock().unwrap();
        *good += usize::from(answer.status == 200);
        match answer.status {
            200 if *good == 2 => endless("200 OK"),
            401 => endless("401 Unauthorized"),
            _ => passed_on(answer),
        }
    });
    let output = smoke(&gateway, &at(front.address()), &["--json"]);
    let found = checks(&output);
    assert_eq!(found["good-again"]["got"], "200 with more than 365536 bytes");
    assert_eq!(found["unsigned"]["got"], "401, a refusal of more than 64 KiB");
}

/// A byte now and then keeps no run alive: what was not tried in time is not good.
#[test]
fn the_deadline_ends_the_run() {
    let upstream = files();
    let gateway = gateway(&upstream);
    let server = Upstream::always(|| {
        let pieces = vec![b"x".to_vec(); 1000];
        let head = text("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        head.into_iter().chain([Step::Drip(pieces, Duration::from_millis(20)), Step::Close]).collect()
    });
    let base = at(server.address());
    let output = smoke(&gateway, &base, &["--deadline", "500ms", "--json"]);
    let found = expect_failed(&output, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(found["good-link"]["hint"], LATE);
    assert_eq!(with_verdict(&found, "skipped").len(), 27);
    let page = stdout(&smoke(&gateway, &base, &["--deadline", "500ms"]));
    let last = "\n\n27 skipped: the time of --deadline was over before everything was tried\n";
    assert!(page.ends_with(last), "{page}");
}

/// An empty streamed body on a platform that waits for its first byte.
#[test]
fn a_head_that_hangs_is_found() {
    let upstream = files();
    let gateway = gateway(&upstream);
    let front = front(gateway.address(), |request, answer| match request.method() {
        "HEAD" => vec![Step::Stall],
        _ => passed_on(answer),
    });
    let output = smoke(&gateway, &at(front.address()), &["--timeout", "6s", "--json"]);
    let found = expect_failed(&output, &["head"]);
    assert_eq!(found["head"]["got"], "no answer within 6s");
    let hint = said(&found["head"], "hint");
    assert!(hint.contains("set `SLUICEGATE_LAMBDA_FILL_BODYLESS=true`"), "{hint}");
}

/// A function that answers whoever asks it directly; and a front that answers neither conditions, ranges nor POST.
#[test]
fn an_open_function_is_found_and_the_platform_marked() {
    let upstream = files();
    let gateway = gateway(&upstream);
    let address = gateway.address();
    let front = Upstream::start(move |request| {
        if request.method() == "POST" {
            return text("HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nno...");
        }
        let mut client = Client::connect(address);
        client.send(request.head.replace("range:", "x-range:").replace("if-none-match:", "x-none:"));
        passed_on(client.answer(request.method()))
    });
    let open = at(address);
    let output = smoke(&gateway, &at(front.address()), &["--function-url", &open, "--json"]);
    let found = expect_failed(&output, &["function-url"]);
    assert_eq!(found["function-url"]["got"], "200 with the whole file");
    assert!(said(&found["function-url"], "hint").contains("AuthType: AWS_IAM"));
    assert_eq!(with_verdict(&found, "platform"), ["conditional", "post", "range"]);
}

/// A good link that does not bring the file: the row says what to do, and what needs the file is not tried.
#[test]
fn what_does_not_work_at_all_says_why() {
    let upstream = files();
    let gateway = gateway(&upstream);
    let nobody = at(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let output = smoke(&gateway, &nobody, &["--json"]);
    let found = expect_failed(&output, &["good-link"]);
    assert!(said(&found["good-link"], "got").starts_with("no connection ("), "{}", found["good-link"]);
    assert_eq!(with_verdict(&found, "skipped").len(), 26);
    assert_eq!(found["unsigned"]["hint"], "the deployment was not reached");
    let page = stdout(&smoke(&gateway, &nobody, &[]));
    assert!(page.ends_with("\n\n1 FAILED, 26 skipped: the contract was not tried\n"), "{page}");

    let closed = closed_function();
    let found = checks(&smoke(&gateway, &at(closed.address()), &["--json"]));
    assert!(said(&found["good-link"], "hint").contains("needs both permissions"), "{}", found["good-link"]);

    let base = at(gateway.address());
    let key = format!("{KEY}=env:GLOBEX");
    let output = call(&base, &["--key", &key, "--url", FILE, "--json"]);
    let found = checks(&output);
    assert_eq!(found["good-link"]["got"], "403 invalid_signature");
    assert!(said(&found["good-link"], "hint").contains("key `acme-1` with the same secret"));
    assert_eq!(
        (&found["unsigned"]["verdict"], &found["head"]["verdict"]),
        (&"held".into(), &"skipped".into())
    );
    let idle = [
        "cross-tenant",
        "denied-url",
        "expired",
        "foreign-key-id",
        "missing-file",
        "tampered-exp",
        "tampered-filename",
        "tampered-signature",
    ];
    expect_failed(&output, &["good-link"]);
    assert_eq!(told_to_see_good_link(&found), idle);

    // A file that the key's tenant may not fetch.
    let (folder, elsewhere) = (gateway.policy_folder(), "http://elsewhere.test.example/");
    let policy = ["--policy", folder.to_str().unwrap(), "--kid", KEY, "--url", elsewhere, "--json"];
    let found = expect_failed(&call(&base, &policy), &["good-link"]);
    assert_eq!(found["good-link"]["got"], "403 url_not_allowed");
    assert_eq!(told_to_see_good_link(&found), ["denied-url", "missing-file"]);
}

/// The checks that leave it to `good-link` to say what to do, sorted.
fn told_to_see_good_link(checks: &HashMap<String, Value>) -> Vec<String> {
    let its = checks.iter().filter(|(_, check)| check["hint"] == "see good-link");
    let mut names: Vec<_> = its.map(|(name, _)| name.clone()).collect();
    names.sort();
    names
}

/// What comes for the good link and for others alike is not blamed on others.
#[test]
fn one_fault_is_explained_once() {
    let upstream = files();
    let gateway = gateway(&upstream);
    let front = front(gateway.address(), |_, answer| match answer.status {
        200 | 404 => {
            let body = "{\"code\":\"unavailable\"}";
            let fields = "Content-Type: application/problem+json\r\nCache-Control: no-store";
            let length = body.len();
            text(format!("HTTP/1.1 503 No\r\n{fields}\r\nContent-Length: {length}\r\n\r\n{body}"))
        }
        _ => passed_on(answer),
    });
    let output = smoke(&gateway, &at(front.address()), &["--truncating-url", FILE, "--json"]);
    let failed = ["good-link", "missing-file", "other-path", "truncated-transfer"];
    let found = expect_failed(&output, &failed);
    assert_eq!(told_to_see_good_link(&found), failed[1..]);
}

/// Somebody else's server: nobody is sent to a policy for that. Whether it is open is still asked.
#[test]
fn a_base_that_is_no_gateway_is_named() {
    let upstream = files();
    let gateway = gateway(&upstream);
    let closed = closed_function();
    let function = at(closed.address());
    for (unsigned, got) in [("404 No", "404 with 0 bytes"), ("200 OK", "200 with 0 bytes")] {
        let server = Upstream::start(move |request| {
            let status = if request.target().contains("sig=") { "404 No" } else { unsigned };
            text(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))
        });
        let base = at(server.address());
        let output = smoke(&gateway, &base, &["--function-url", &function, "--json"]);
        let found = expect_failed(&output, &["good-link", "unsigned"]);
        let hint = said(&found["good-link"], "hint");
        assert!(hint.starts_with(&format!("is `{base}/` the gateway? ")), "{hint}");
        assert_eq!(found["unsigned"]["got"], got);
        assert_eq!(with_verdict(&found, "held"), ["function-url"]);
        let idle = with_verdict(&found, "skipped");
        assert!(
            idle.len() == 24 && idle.iter().all(|name| found[name]["hint"] == "see good-link"),
            "{idle:?}"
        );
        assert_eq!(said(&found["unsigned"], "hint") == "see good-link", unsigned == "404 No");
    }
}

#[test]
fn tls_against_a_plain_port_is_named() {
    let upstream = files();
    let gateway = gateway(&upstream);
    let address = gateway.address();
    let found = checks(&smoke(&gateway, &format!("https://{address}"), &["--json"]));
    let hint = format!("this port speaks no TLS; write `http://{address}`");
    assert_eq!(found["good-link"]["hint"], hint.as_str(), "{}", found["good-link"]);
}

/// What a TLS front does with whoever speaks plain http to it.
#[derive(Clone, Copy)]
enum Plain {
    Redirects,
    Closes,
    Serves,
    Stalls,
}

/// TLS in front of a gateway, with a certificate of its own authority.
struct Tls {
    address: SocketAddr,
    authority: PathBuf,
    _runtime: Runtime,
}

impl Tls {
    fn before(gateway: SocketAddr, protocol: &str, plain: Plain) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        let pem = format!("smoke-{}-{}.pem", protocol.len(), std::process::id());
        let authority = Path::new(env!("CARGO_TARGET_TMPDIR")).join(pem);
        std::fs::write(&authority, certificate.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth();
        let mut config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let tls = TlsAcceptor::from(Arc::new(config));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::serve(stream, tls.clone(), gateway, plain));
            }
        });
        Self { address, authority, _runtime: runtime }
    }

    async fn serve(mut client: TcpStream, tls: TlsAcceptor, gateway: SocketAddr, plain: Plain) -> Option<()> {
        let mut first = [0];
        client.peek(&mut first).await.ok()?;
        let mut gateway = TcpStream::connect(gateway).await.ok()?;
        if first[0] == 0x16 {
            let mut client = tls.accept(client).await.ok()?;
            copy_bidirectional(&mut client, &mut gateway).await.ok()?;
            return Some(());
        }
        match plain {
            Plain::Closes => {}
            Plain::Stalls => while client.read(&mut [0; 8192]).await.is_ok_and(|count| count > 0) {},
            Plain::Serves => drop(copy_bidirectional(&mut client, &mut gateway).await),
            Plain::Redirects => {
                let answer =
                    b"HTTP/1.1 301 Moved\r\nLocation: https://127.0.0.1/\r\nContent-Length: 0\r\n\r\n";
                // The request is read first, so that closing with it unread does not reset the answer.
                let _whole_request = client.read(&mut [0; 8192]).await.ok()?;
                client.write_all(answer).await.ok()?;
            }
        }
        Some(())
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.authority);
    }
}

#[test]
fn a_base_with_tls_serves_nothing_without() {
    let upstream = files();
    let gateway = gateway(&upstream);
    for (protocol, plain, got) in [
        ("h2", Plain::Redirects, "301 to https"),
        ("http/1.1", Plain::Closes, "a connection that ended without an answer"),
        ("http/1.1", Plain::Serves, "401 missing_credential"),
        ("http/1.1", Plain::Stalls, "no answer within 6s"),
    ] {
        let tls = Tls::before(gateway.address(), protocol, plain);
        let base = format!("https://{}", tls.address);
        let folder = gateway.policy_folder();
        let policy = ["--policy", folder.to_str().unwrap(), "--kid", KEY, "--other-kid", OTHER_KEY];
        let output = command(&base, &policy)
            .args(["--url", FILE, "--truncating-url", BREAKING, "--timeout", "6s", "--json"])
            .env("SSL_CERT_FILE", &tls.authority)
            .output()
            .unwrap();
        let failed: &[&str] =
            if matches!(plain, Plain::Serves | Plain::Stalls) { &["plain-http"] } else { &[] };
        let found = expect_failed(&output, failed);
        assert!(said(&found["plain-http"], "got").starts_with(got), "{}", found["plain-http"]);
        assert_eq!(with_verdict(&found, "held").len(), 26 - failed.len(), "{}", stdout(&output));
        // The certificate is nobody's without that file.
        let output = command(&base, &policy).args(["--url", FILE, "--json"]).output().unwrap();
        let found = expect_failed(&output, &["good-link"]);
        assert!(said(&found["good-link"], "got").contains("certificate"), "{}", found["good-link"]);
    }
}

#[test]
fn help_says_what_a_run_may_end_with() {
    let page = stdout(&call("", &["--help"]));
    for piece in
        ["  FAILED    not so;", "  platform  harmless", "  1  something did, nobody answered, or --deadline"]
    {
        assert!(page.contains(piece), "{piece}\n{page}");
    }
    let words: Vec<_> = page.split_whitespace().collect();
    let key = "`KID=secretsmanager:NAME`, `KID=secretsmanager:NAME#FIELD` or `KID=ssm:NAME`";
    assert!(words.join(" ").contains(key), "{page}");
}

#[test]
fn wrong_usage_is_named_and_repeats_no_secret() {
    let upstream = files();
    let gateway = gateway(&upstream);
    let folder = gateway.policy_folder();
    let policy = folder.to_str().unwrap();
    let (base, file) = ("http://127.0.0.1:9", ["--url", FILE]);
    let pasted = format!("{KEY}={SECRET}");
    let here = ["--policy", policy, "--url", FILE];
    for (base, arguments, hint) in [
        (base, &["--policy", policy, "--kid", KEY][..], "--url <URL>"),
        ("", &["--policy", policy, "--url", FILE], "<BASE>"),
        (
            "gateway",
            &[&here[..], &["--kid", KEY]].concat(),
            "`gateway` is no URL; write BASE as `https://host`",
        ),
        ("http://127.0.0.1:9/x", &[&here[..], &["--kid", KEY]].concat(), "write `http://127.0.0.1:9`"),
        ("http://me:pass@127.0.0.1:9", &[&here[..], &["--kid", KEY]].concat(), "write `http://127.0.0.1:9`"),
        (base, &here, "several keys mint; choose one with --kid"),
        (base, &[&here[..], &["--kid", "nobody"]].concat(), "no policy has a key `nobody`"),
        (base, &[&here[..], &["--kid", KEY, "--other-kid", KEY]].concat(), "is of the tenant that signs"),
        (base, &[&here[..], &["--kid", KEY, "--denied-url", "x"]].concat(), "`url` is malformed"),
        (base, &[&file[..], &["--policy", "nowhere"]].concat(), "cannot read the policy folder"),
        (base, &[&file[..], &["--key", &pasted]].concat(), "this is not a reference to a secret"),
        (base, &[&file[..], &["--key", SECRET]].concat(), "--key names no key"),
        (
            base,
            &[&file[..], &["--key", SECRET]].concat(),
            "`KID=secretsmanager:NAME#FIELD` or `KID=ssm:NAME`",
        ),
        (
            base,
            &[&here[..], &["--timeout", "x"]].concat(),
            "`x` is not a length of time; write one such as `30s`",
        ),
        (base, &[&here[..], &["--timeout", "0s"]].concat(), "`0s` is not a length of time"),
        (
            base,
            &[&here[..], &["--deadline", "x"]].concat(),
            "`x` is not a length of time; write one such as `30s`",
        ),
        (base, &[&here[..], &["--max-bytes", "x"]].concat(), "`x` is not a size; write one such as `200 MB`"),
        (
            base,
            &[&file[..], &["--key", "a=env:NOWHERE"]].concat(),
            "environment variable `NOWHERE` is not set",
        ),
        (base, &[&file[..], &["--key", "a=env:GLOBEX", "--kid", "b"]].concat(), "no --key gives `b`"),
    ] {
        let output = call(base, arguments);
        let page = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}{page}", stdout(&output));
        assert!(page.contains(hint), "{arguments:?}: {page}");
        assert!(output.stdout.is_empty() && !page.contains(SECRET) && !page.contains("pass@"), "{page}");
    }
}
