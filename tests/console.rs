//! The console at `/_/`: who may use it, what it answers, and the page itself in a browser.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::*;

/// The demo and the key of its console.
struct Console {
    demo: Demo,
    folder: std::path::PathBuf,
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Console {
    fn start(name: &str) -> Self {
        let folder = project(&format!("console-{name}"));
        Self { demo: Demo::start(&folder), folder }
    }

    fn key(&self) -> &str {
        self.demo.console().split_once("#key=").unwrap().1
    }

    /// One request with exactly these fields; a field `host: -` leaves Host out.
    fn send(&self, request: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let mut head = format!("{request} HTTP/1.1\r\n");
        if !fields.iter().any(|(name, _)| *name == "host") {
            write!(head, "host: {}\r\n", self.demo.address()).unwrap();
        }
        for (name, value) in fields.iter().filter(|(_, value)| *value != "-") {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        if !body.is_empty() {
            write!(head, "content-length: {}\r\n", body.len()).unwrap();
        }
        let mut client = Client::connect(self.demo.address());
        client.send(format!("{head}\r\n{body}"));
        client.answer(request.split_whitespace().next().unwrap())
    }

    /// A call as the page makes it.
    fn call(&self, request: &str, body: &Value) -> Answer {
        let key = format!("Bearer {}", self.key());
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.send(request, &[("authorization", &key), ("content-type", "application/json")], &text)
    }

    fn mint(&self, options: &Value) -> Value {
        let answer = self.call("POST /_/api/mint", &json!({"kid": "demo", "options": options}));
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        serde_json::from_slice(&answer.body).unwrap()
    }

    fn json(answer: &Answer) -> Value {
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        serde_json::from_slice(&answer.body).unwrap()
    }
}

const CLIP: &str = "http://sample.localhost/clip.mp4";

#[test]
fn the_page_works_in_a_browser() {
    let console = Console::start("browser");
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("console-pictures");
    let _ = std::fs::remove_dir_all(&pictures);
    std::fs::create_dir_all(&pictures).unwrap();
    let output = Command::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/console.mjs"))
        .args([console.demo.console(), pictures.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let saved = std::fs::read(pictures.join("saved").join(said["name"].as_str().unwrap())).unwrap();
    let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/sample/clip.mp4");
    assert_eq!(saved, std::fs::read(clip).unwrap());
}

#[test]
fn a_link_from_the_console_downloads() {
    let console = Console::start("mint");
    let made =
        console.mint(&json!({"url": CLIP, "filename": "Ünïcode.mp4", "expires_in": 60, "id": "order-1"}));
    assert_eq!(made["refused"], Value::Null);
    assert!(made["string_to_sign"].as_str().unwrap().contains("\nfilename=Ünïcode.mp4\nid=order-1\n"));
    let query = made["query"].as_str().unwrap();
    let answer = console.send(&format!("GET /?{query}"), &[], "");
    assert_eq!((answer.status, answer.body.len()), (200, 29558));

    let walk = Console::json(
        &console
            .call("POST /_/api/inspect", &json!({"link": format!("http://gateway.example/?{query}#part")})),
    );
    assert_eq!(walk["passes"], true);
    let tampered = query.replace("order-1", "order-2");
    let walk = Console::json(&console.call("POST /_/api/inspect", &json!({"link": tampered})));
    assert_eq!((&walk["passes"], &walk["stages"][1]["code"]), (&json!(false), &json!("invalid_signature")));

    let report = Console::json(&console.call("GET /_/api/figures", &Value::Null));
    let key = &report["tenants"][0]["keys"][0];
    assert_eq!((&key["id"], &key["bytes"]), (&json!("demo"), &json!(29558)));
    assert_eq!(key["requests"], json!([{"outcome": "whole", "count": 1}]), "inspecting counts nothing");
    assert_eq!(key["limits"]["bytes_today"]["of"].as_u64(), Some(50_000_000_000));
}

#[test]
fn figures_tell_outcomes_apart() {
    let console = Console::start("figures");
    let query = console.mint(&json!({"url": "http://sample.localhost/large.bin"}))["query"]
        .as_str()
        .unwrap()
        .to_owned();
    let figures = || Console::json(&console.call("GET /_/api/figures", &Value::Null));
    // A download under way is seen, with what it has sent so far.
    let mut client = Client::connect(console.demo.address());
    client.request("GET", &query, &[]);
    client.peek(1);
    let under_way = poll(|| {
        let report = figures();
        let key = &report["tenants"][0]["keys"][0];
        key["limits"]["active"] == 1 && key["bytes"].as_u64() > Some(0)
    });
    assert!(under_way.is_some(), "{}", figures());
    drop(client);
    // The client left; then a refusal of the tenant's own, and one of nobody's.
    console.send(&format!("GET /?{}", query.replace("&sig=", "&sig=A")), &[], "");
    console.send(&format!("GET /?{}", query.replace("kid=demo", "kid=nobody")), &[], "");
    let missing =
        console.mint(&json!({"url": "http://sample.localhost/none"}))["query"].as_str().unwrap().to_owned();
    console.send(&format!("GET /?{missing}"), &[], "");
    let told = poll(|| {
        let report = figures();
        let key = &report["tenants"][0]["keys"][0];
        key["limits"]["active"] == 0
            && key["requests"]
                == json!([
                    {"outcome": "aborted", "code": "client_left", "count": 1},
                    {"outcome": "refused", "code": "upstream_not_found", "count": 1},
                ])
            && report["unproven"]["requests"]
                == json!([
                    {"outcome": "refused", "code": "invalid_signature", "count": 1},
                    {"outcome": "refused", "code": "malformed_link", "count": 1},
                ])
    });
    assert!(told.is_some(), "{:#}", figures());
}

/// Each names the field that is at fault.
#[test]
fn mistakes_are_told_by_field() {
    let console = Console::start("mistakes");
    for (options, field) in [
        (json!({"url": "nonsense"}), "url"),
        (json!({"url": CLIP, "filename": "a/b"}), "filename"),
        (json!({"url": CLIP, "filename": "a\nb"}), "filename"),
        (json!({"url": CLIP, "expires_in": 0}), "expires_in"),
        (json!({"url": CLIP, "expires_in": 5, "exp": 5}), "exp"),
        (json!({"url": CLIP, "align_to": 0}), "align_to"),
        (json!({"url": CLIP, "not_before": 1_000_000_000_000_u64}), "not_before"),
        (json!({"url": CLIP, "id": "a b"}), "id"),
        (json!({"url": CLIP, "ip": "203.0.113.1/24"}), "ip"),
        (json!({"url": CLIP, "disposition": "inlined"}), "disposition"),
    ] {
        let answer = console.call("POST /_/api/mint", &json!({"kid": "demo", "options": options}));
        assert_eq!((answer.status, answer.problem()["parameter"].as_str()), (400, Some(field)), "{options}");
    }
    for (kid, field) in [("", "kid"), ("Demo", "kid"), ("nobody", "kid")] {
        let answer = console.call("POST /_/api/mint", &json!({"kid": kid, "options": {"url": CLIP}}));
        assert_eq!((answer.status, answer.problem()["parameter"].as_str()), (400, Some(field)), "{kid}");
    }
    for body in
        [json!({"kid": "demo"}), json!([]), json!({"kid": "demo", "options": {"url": CLIP, "sig": "x"}})]
    {
        assert_eq!(console.call("POST /_/api/mint", &body).status, 400, "{body}");
    }
    let bad = console.call("POST /_/api/inspect", &json!({"link": "x", "client": "nobody"}));
    assert_eq!(bad.problem()["parameter"], "client");
    let bad = console.call("POST /_/api/inspect", &json!({"link": "x", "token": "a\nb"}));
    assert_eq!(bad.problem()["parameter"], "token");
    // Signed, but of no use: the page says so at once.
    let made = console.mint(&json!({"url": "https://elsewhere.example/"}));
    assert_eq!(made["refused"]["code"], "url_not_allowed");
}

/// Whatever it is asked, by whomever but its own page: no link is signed and nothing is told.
#[test]
fn nobody_else_may_use_it() {
    let console = Console::start("others");
    let good = format!("Bearer {}", console.key());
    let order = json!({"kid": "demo", "options": {"url": CLIP}}).to_string();
    let here = console.demo.address().to_string();
    let origin = format!("http://{here}");
    let call = |request: &str, fields: &[(&str, &str)]| console.send(request, fields, &order);
    let json = ("content-type", "application/json");
    let auth = ("authorization", good.as_str());

    assert_eq!(call("POST /_/api/mint", &[auth, json]).status, 200, "the control");
    assert_eq!(call("POST /_/api/mint", &[auth, json, ("origin", &origin)]).status, 200, "the control");
    for (status, fields) in [
        (401, &[json][..]),
        (401, &[json, ("authorization", "Bearer 00000000000000000000000000000000")]),
        (401, &[json, ("authorization", console.key())]),
        (401, &[json, auth, auth]),
        (415, &[auth]),
        (415, &[auth, ("content-type", "text/plain")]),
        (415, &[auth, ("content-type", "application/x-www-form-urlencoded")]),
        (403, &[auth, json, ("host", "evil.example")]),
        (403, &[auth, json, ("host", "sample.localhost")]),
        (403, &[auth, json, ("origin", "http://evil.example")]),
        (403, &[auth, json, ("origin", "null")]),
        (403, &[auth, json, ("sec-fetch-site", "cross-site")]),
        (403, &[auth, json, ("sec-fetch-site", "same-site")]),
        (403, &[auth, json, ("x-forwarded-for", "127.0.0.1")]),
        (403, &[auth, json, ("forwarded", "for=127.0.0.1")]),
        (403, &[auth, json, ("via", "1.1 proxy")]),
    ] {
        let answer = call("POST /_/api/mint", fields);
        assert_eq!(answer.status, status, "{fields:?}");
        let told = format!("{}{}", answer.head, String::from_utf8_lossy(&answer.body));
        assert!(!told.contains("sig=") && !told.contains(console.key()), "{fields:?}: {told}");
        assert!(!told.to_ascii_lowercase().contains("access-control-"), "{fields:?}: {told}");
    }
    for (status, request) in [
        (401, "GET /_/api/keys"),
        (401, "GET /_/api/figures"),
        (401, "POST /_/api/inspect"),
        (401, "GET /_/api/nothing"),
        (404, "GET /_/nothing"),
        (404, "GET /_/../policy/demo.secret"),
        (404, "GET /_/%2e%2e/policy/demo.secret"),
        (405, "POST /_/"),
        (405, "DELETE /_/page.js"),
    ] {
        assert_eq!(console.send(request, &[], "").status, status, "{request}");
    }
    assert_eq!(call("GET /_/api/mint", &[auth, json]).status, 405);
    let large = format!("{{\"kid\": \"{}\"}}", "k".repeat(70_000));
    assert_eq!(console.send("POST /_/api/mint", &[auth, json], &large).status, 413);
    let preflight = [("origin", "http://evil.example"), ("access-control-request-method", "POST")];
    assert_eq!(console.send("OPTIONS /_/api/mint", &preflight, "").status, 403);
}

#[test]
fn the_page_carries_a_strict_policy_and_no_secret() {
    let console = Console::start("page");
    let page = console.send("GET /_/", &[], "");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    let own = format!("script-src http://{}/_/;", console.demo.address());
    for rule in ["default-src 'none'", &own, "frame-ancestors 'none'", "require-trusted-types-for 'script'"] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    assert_eq!(page.header("access-control-allow-origin"), None);
    let text = String::from_utf8(page.body).unwrap();
    let mut files: Vec<&str> =
        text.split('"').filter(|word| matches!(word.rsplit_once('.'), Some((_, "js" | "css")))).collect();
    assert_eq!(files, ["page.css", "page.js"]);
    let secret = std::fs::read_to_string(console.folder.join("policy/demo.secret")).unwrap();
    files.extend(["icon.svg", "server.js", "build.js", "inspect.js", "live.js", "plot.js", "download.js"]);
    for file in files {
        let asset = console.send(&format!("GET /_/{file}"), &[], "");
        assert_eq!(asset.status, 200, "{file}");
        let text = String::from_utf8(asset.body).unwrap();
        assert!(!text.contains(secret.trim()) && !text.contains(console.key()), "{file}");
        assert!(!text.contains("innerHTML") && !text.contains("https://"), "{file} brings something in");
        assert_eq!(console.send(&format!("HEAD /_/{file}"), &[], "").body, b"");
    }
    let moved = console.send("GET /_", &[], "");
    assert_eq!((moved.status, moved.header("location")), (308, Some("/_/")));
}

/// Without `--console` there is none, whatever the address; with it, only on loopback and behind no proxy.
#[test]
fn a_server_has_no_console_unless_it_is_told() {
    let upstream = Upstream::start(|_| vec![Step::Send(ok(&[], b"x"))]);
    let gateway = Gateway::start(&Setup::new(&upstream));
    for path in ["/_", "/_/", "/_/page.js", "/_/api/keys"] {
        let mut client = gateway.client();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"));
        client.answer("GET").expect(404, "not_found");
    }
    assert_eq!(upstream.connections(), 0);
    let folder = project("console-off");
    let refused = |arguments: &[&str], variable: Option<(&str, &str)>| {
        let mut command = sluicegate(&folder);
        command.args(["serve", "--console"]).args(arguments).envs(variable);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&["--listen", "0.0.0.0:0"], None).contains("the console needs a loopback address"));
    assert!(refused(&["--listen", "[::]:0"], None).contains("the console needs a loopback address"));
    let proxy = Some(("SLUICEGATE_CLIENT_TRUSTED_PROXIES", "127.0.0.1"));
    assert!(refused(&["--listen", "127.0.0.1:0"], proxy).contains("the console goes with no proxy in front"));
    std::fs::remove_dir_all(folder).unwrap();
}

/// A `serve --console`, and the line that it prints.
struct Server {
    child: std::process::Child,
    folder: std::path::PathBuf,
    console: String,
}

impl Server {
    fn start(folder: std::path::PathBuf) -> Self {
        use std::io::BufRead as _;
        let mut child = sluicegate(&folder)
            .args(["serve", "--console", "--listen", "127.0.0.1:0"])
            .env("SLUICEGATE_LOG", "json")
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let console = said.trim().strip_prefix("console: ").unwrap().to_owned();
        Self { child, folder, console }
    }

    /// Its address and its console's key.
    fn parts(&self) -> (&str, &str) {
        self.console.strip_prefix("http://").unwrap().split_once("/_/#key=").unwrap()
    }

    /// Ends it: what it logged.
    fn end(mut self) -> String {
        self.child.kill().unwrap();
        let mut log = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut log).unwrap();
        log
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// `serve --console` prints where it is, on standard output and never in the log.
#[test]
fn a_server_that_is_told_has_one() {
    let server = Server::start(project("console-on"));
    let (address, key) = server.parts();
    let mut client = Client::connect(address.parse().unwrap());
    client
        .send(format!("GET /_/api/keys HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\r\n"));
    let keys = Console::json(&client.answer("GET"));
    assert_eq!(keys["keys"], json!([{"tenant": "demo", "id": "demo"}]));
    let key = key.to_owned();
    let log = server.end();
    assert!(log.contains("serving") && !log.contains(&key), "{log}");
}

/// An upstream's markup is saved, never shown, in the console's own tab and origin; its text is shown and can do nothing.
#[test]
fn an_inline_page_cannot_touch_the_console() {
    const RUN: &str = "document.documentElement.setAttribute('data-ran', sessionStorage.length)";
    let page = format!("<!doctype html><title>x</title><script>{RUN}</script><img src=x onerror=\"{RUN}\">");
    let svg =
        format!("<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"{RUN}\"><script>{RUN}</script></svg>");
    let xhtml =
        format!("<html xmlns=\"http://www.w3.org/1999/xhtml\"><body><script>{RUN}</script></body></html>");
    let upstream = Upstream::start(move |request| {
        let (content_type, body) = match request.target() {
            "/page.html" => ("text/html", &page),
            "/image.svg" => ("image/svg+xml", &svg),
            "/notes.txt" => ("text/plain", &page),
            _ => ("application/xhtml+xml", &xhtml),
        };
        vec![Step::Send(ok(&[("content-type", content_type)], body.as_bytes()))]
    });
    let folder = project("console-inline");
    let settings = format!(
        "[origin]\nopen = [\"{0}\"]\n[origin.hosts]\n\"sample.localhost\" = \"{0}\"\n",
        upstream.address()
    );
    std::fs::write(folder.join("sluicegate.toml"), settings).unwrap();
    let server = Server::start(folder);
    let (address, _) = server.parts();
    let links = ["notes.txt", "page.html", "image.svg", "page.xhtml"].map(|name| {
        let url = format!("http://sample.localhost/{name}");
        let link = Link::to(&url).with("kid", "demo").with("disposition", "inline");
        format!("http://{address}/?{}", link.query())
    });
    let output = Command::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/inline.mjs"))
        .args([&server.console, server.folder.to_str().unwrap()])
        .args(&links)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let saved = ["page.html", "image.svg", "page.xhtml"].map(|name| json!([name, "completed"]));
    assert_eq!(told["saved"], json!(saved));
    let shown = json!({"type": "text/plain", "origin": "null", "elements": 1, "stored": "SecurityError", "asked": "TypeError"});
    assert_eq!(told["shown"], shown);
}
