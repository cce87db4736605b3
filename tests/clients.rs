//! The client libraries against the gate: random links are byte for byte the same in every language, what the gate refuses
//! to sign no library signs, and a link from each is fetched through the running gateway.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use http::HeaderMap;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use sluicegate::gate::explain::walk;
use sluicegate::gate::hmac::HmacKey;
use sluicegate::gate::id::{KeyId, UnixTime};
use sluicegate::gate::keys::FetchedKeys;
use sluicegate::gate::mint::{LinkOptions, MintError, Minted};
use sluicegate::gate::policy::{Policies, PolicySource};
use support::*;

const NOW: u64 = 1_800_000_000;
const BASE: &str = "https://gateway.example";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A library behind the programs that its tests have for this: one JSON object a line in, one a line out.
struct Library {
    name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Library {
    fn start(name: &'static str, command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap_or_else(|error| {
                panic!("{name}: {error}; run clients/setup first");
            });
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { name, child, input, output }
    }

    fn javascript() -> Self {
        Self::start("javascript", Command::new("node").arg(root("clients/javascript/test/driver.js")))
    }

    fn python() -> Self {
        let python = root(".tools/clients/bin/python");
        Self::start(
            "python",
            Command::new(python)
                .arg(root("clients/python/tests/driver.py"))
                .env("PYTHONPATH", root("clients/python/src")),
        )
    }

    fn go() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let program = format!("{}/go-driver-{}-{number}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
        let built = Command::new(root(".tools/clients/bin/go"))
            .args(["build", "-o", &program, "./internal/driver"])
            .current_dir(root("clients/go"))
            .envs([("GOTOOLCHAIN", "local"), ("GOPROXY", "off")])
            .env("GOCACHE", root(".tools/clients/go-cache"))
            .output()
            .unwrap_or_else(|error| panic!("go: {error}; run clients/setup first"));
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let library = Self::start("go", &mut Command::new(&program));
        std::fs::remove_file(program).unwrap();
        library
    }

    fn all() -> [Self; 3] {
        [Self::javascript(), Self::python(), Self::go()]
    }

    fn ask(&mut self, options: &Value, base: &str, secret: &str, now: u64) -> Value {
        let question = json!({"base": base, "kid": KEY, "secret": secret, "now": now, "options": options});
        writeln!(self.input.as_mut().unwrap(), "{question}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{} answered `{line}` to {question}", self.name))
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the gate itself signs.
fn ours(options: &Value) -> Result<(Minted, u64), Option<&'static str>> {
    let key = HmacKey::new(&SECRET.to_owned().into()).unwrap();
    let options: LinkOptions = serde_json::from_value(options.clone()).unwrap();
    let minted = || -> Result<_, MintError> {
        let draft = options.draft(&KeyId::parse(KEY).unwrap(), UnixTime(NOW))?;
        Ok((draft.sign(&key)?, options.end(UnixTime(NOW))?.0))
    };
    minted().map_err(|error| error.option())
}

/// Text of every kind: letters of many scripts, what a URL reserves, what must be refused.
fn text(length: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let character = prop_oneof![
        6 => proptest::char::range('!', '~'),
        2 => proptest::char::range('\u{a1}', '\u{17f}'),
        1 => proptest::char::any(),
        1 => proptest::sample::select(vec![' ', '+', '%', '&', '=', '#', '?', '/', '\\', '"', '\'', '\u{ad}', '\u{feff}', '\u{3000}', '\u{202e}', '\u{85}', '\u{7f}', '\n']),
    ];
    proptest::collection::vec(character, length).prop_map(String::from_iter)
}

fn url() -> impl Strategy<Value = String> {
    let host = proptest::sample::select(vec![
        "files.example",
        "a-b.c.example",
        "FILES.example",
        "bücher.example",
        "xn--bcher-kva.example",
        "203.0.113.7",
        "[2001:db8::7]",
        "[::ffff:203.0.113.7]",
        "files.example.",
        "127.1",
        "0x7f.0.0.1",
        "1.2.3",
        "user@files.example",
        "fi%6ces.example",
        "",
        "a..b.example",
        "a_b.example",
        "-a.example",
        "[::1",
        "[1:2]",
        "[::1%25eth0]",
        "example.5",
        "5.example",
    ]);
    let port = proptest::sample::select(vec!["", "", "", ":8080", ":0", ":65536", ":", ":080", ":8o"]);
    let scheme = proptest::sample::select(vec![
        "https://",
        "https://",
        "http://",
        "HTTPS://",
        "ftp://",
        "//",
        "https:/",
        " https://",
    ]);
    (scheme, host, port, text(0..24))
        .prop_map(|(scheme, host, port, rest)| format!("{scheme}{host}{port}/{rest}"))
}

const DISPOSITIONS: [&str; 5] = ["attachment", "inline", "Inline", "", "attachment "];
const ADDRESSES: [&str; 22] = [
    "203.0.113.7",
    "203.0.113.0/24",
    "203.0.113.7/24",
    "203.0.113.0/024",
    "0.0.0.0/0",
    "2001:db8::/32",
    "2001:db8::7",
    "2001:db8::7/128",
    "2001:DB8::7",
    "2001:db8::7/32",
    "::ffff:203.0.113.7",
    "::/0",
    "::",
    "1.2.3",
    "01.2.3.4",
    "fe80::1%eth0",
    "",
    "203.0.113.7/33",
    "::1/129",
    "203.0.113.7/",
    "[::1]",
    " ::1",
];

/// Options of a link: mostly sound, each sometimes not.
fn options() -> impl Strategy<Value = Value> {
    let maybe = |strategy: BoxedStrategy<Value>| proptest::option::weighted(0.3, strategy);
    let number = |numbers: Vec<u64>| {
        prop_oneof![1 => proptest::sample::select(numbers), 4 => 1..5_000_000_u64]
            .prop_map(Value::from)
            .boxed()
    };
    let word = |words: &'static [&str]| proptest::sample::select(words).prop_map(Value::from).boxed();
    let good_url = text(0..16)
        .prop_map(|path| {
            path.replace(|c: char| c.is_whitespace() || c.is_control() || "#\\".contains(c), "-")
        })
        .prop_map(|path| format!("https://files.example/{path}"));
    let times = (
        maybe(number(vec![0, 1, 998_199_999_999, 998_200_000_000, u64::MAX])),
        proptest::option::weighted(0.1, number(vec![0, 999_999_999_999, 1_000_000_000_000])),
        maybe(number(vec![0, 1, 300, 86_400, 999_999_999_999])),
        maybe(number(vec![0, 999_999_999_999, 1_000_000_000_000])),
    );
    let texts = (
        maybe(text(0..40).prop_map(Value::from).boxed()),
        maybe(word(&DISPOSITIONS)),
        maybe(prop_oneof!["[A-Za-z0-9._-]{1,64}", "[ -~]{0,70}"].prop_map(Value::from).boxed()),
        maybe(word(&ADDRESSES)),
    );
    (prop_oneof![3 => good_url, 1 => url()], times, texts).prop_map(|(url, times, texts)| {
        let mut options = json!({"url": url});
        for (name, value) in [
            ("expires_in", times.0),
            ("exp", times.1),
            ("align_to", times.2),
            ("not_before", times.3),
            ("filename", texts.0),
            ("disposition", texts.1),
            ("id", texts.2),
            ("ip", texts.3),
        ] {
            if let Some(value) = value {
                options[name] = value;
            }
        }
        options
    })
}

/// The gateway's set with the one key.
fn policies() -> Policies {
    let text = format!(
        "tenant = \"{TENANT}\"\n[[keys]]\nid = \"{KEY}\"\nsecret = \"env:KEY\"\n[[allow]]\nhost = \"files.example\"\n"
    );
    let source = PolicySource { file: TENANT, stem: TENANT, text: &text };
    Policies::load(&[source], &|_| Ok(SECRET.to_owned().into()))
        .unwrap_or_else(|problems| panic!("{problems}"))
}

/// The gateway reads a link and finds its signature good, whatever it then says to its times, its client and its host.
fn verifies(policies: &Policies, query: &str) -> bool {
    let walk = walk(policies, query, &HeaderMap::new(), &FetchedKeys::new(), UnixTime(NOW), None);
    let codes: Vec<_> = walk.stages.iter().map(|stage| (stage.stage, stage.code)).collect();
    matches!(
        codes.as_slice(),
        [
            ("link", None),
            ("verify", None | Some("link_expired" | "link_not_yet_valid" | "client_not_allowed")),
            ..
        ]
    )
}

/// The hosts that only a whole URL parser can judge; libraries without one may leave them to the gateway.
fn needs_a_url_parser(options: &Value) -> bool {
    !options["url"].as_str().unwrap().split('/').nth(2).unwrap_or("").is_ascii()
        || options["url"].as_str().unwrap().contains("a..b")
}

/// What the shell leaves to the gateway beside that.
fn needs_an_ipv6_reader(options: &Value) -> bool {
    options["url"].as_str().unwrap().contains("/[")
        || options["ip"].as_str().is_some_and(|ip| ip.contains(':'))
}

/// Each of 3,000 random sets of options has the same outcome everywhere: the same bytes, or no link at all.
#[test]
fn every_library_signs_what_the_gate_signs_and_nothing_else() {
    let (mut libraries, policies) = (Library::all(), policies());
    let mut signed = 0;
    let mut runner = TestRunner::new(Config { cases: 3000, failure_persistence: None, ..Config::default() });
    let libraries = std::cell::RefCell::new((&mut libraries, &mut signed));
    let outcome = runner.run(&options(), |options| {
        let (libraries, signed) = &mut *libraries.borrow_mut();
        let expected = ours(&options);
        **signed += usize::from(expected.is_ok());
        for library in libraries.iter_mut() {
            let found = library.ask(&options, BASE, SECRET, NOW);
            match &expected {
                Ok((minted, exp)) => {
                    let wanted = json!({
                        "link": format!("{BASE}/?{}", minted.query), "query": minted.query,
                        "string_to_sign": minted.string_to_sign, "signature": minted.signature, "exp": exp,
                    });
                    prop_assert_eq!(&found, &wanted, "{}", library.name);
                    let query = found["query"].as_str().unwrap_or("");
                    prop_assert!(verifies(&policies, query), "{}: {query}", library.name);
                }
                Err(_) if library.name != "javascript" && needs_a_url_parser(&options) => {}
                Err(_) => {
                    prop_assert!(
                        found["error"].is_string(),
                        "{} signed what the gate does not: {found}",
                        library.name
                    );
                    let at_fault = found["parameter"].as_str().unwrap_or("");
                    prop_assert!(options.get(at_fault).is_some(), "{} blames `{at_fault}`", library.name);
                }
            }
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!((400..2600).contains(&signed), "{signed} of 3000 were signed: too few of one kind");
}

/// The shell forks for each link, so it makes fewer.
#[test]
fn the_shell_signs_what_the_gate_signs() {
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let signed = std::cell::Cell::new(0);
    let outcome = runner.run(&options(), |options| {
        // No argument can hold a NUL.
        prop_assume!(!options.to_string().contains("\\u0000"));
        let found = shell(&options, BASE);
        match ours(&options) {
            Ok((minted, _)) => {
                signed.set(signed.get() + 1);
                prop_assert_eq!(found, Ok(format!("{BASE}/?{}", minted.query)));
            }
            // IPv6 and IDNA are left to the gateway.
            Err(_) if needs_a_url_parser(&options) || needs_an_ipv6_reader(&options) => {}
            Err(_) => prop_assert!(found.is_err(), "{found:?}"),
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!((5..55).contains(&signed.get()), "{} of 60 were signed", signed.get());
}

/// A link from the shell's function, judged at the time that the libraries are told.
fn shell(options: &Value, base: &str) -> Result<String, String> {
    let mut command = Command::new("sh");
    command.args(["-c", r#". "$0"; sluicegate_mint "$@""#]).arg(root("clients/shell/sluicegate.sh"));
    if base == BASE {
        command.env("SLUICEGATE_NOW", NOW.to_string());
    }
    command.args(["--base", base, "--kid", KEY]).env("SLUICEGATE_SECRET", SECRET);
    for (name, value) in options.as_object().unwrap() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        command.arg(format!("--{}", name.replace('_', "-"))).arg(value);
    }
    let output = command.output().unwrap();
    let link = String::from_utf8(output.stdout).unwrap().trim_end_matches('\n').to_owned();
    if output.status.success() { Ok(link) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// What a library makes now, the running gateway serves, under the name that was signed.
#[test]
fn a_link_from_each_library_is_fetched() {
    const BODY: &[u8] = b"the file's bytes";
    let upstream = Upstream::start(|_| vec![Step::Send(ok(&[("content-type", "application/pdf")], BODY))]);
    let gateway = Gateway::start(&Setup::new(&upstream));
    let base = format!("http://{}", gateway.address());
    let options = json!({
        "url": "http://files.test.example/reports/ü 2026.pdf".replace(' ', "%20"), "filename": "Отчёт & 100% + mehr.pdf",
        "expires_in": 600, "align_to": 300, "id": "order-4711", "ip": "127.0.0.0/8", "disposition": "attachment",
    });
    let fetch = |name: &str, link: &str| {
        let query = link.strip_prefix(&format!("{base}/?")).unwrap_or_else(|| panic!("{name}: {link}"));
        let answer = gateway.get(query);
        assert_eq!((answer.status, answer.body.as_slice()), (200, BODY), "{name}: {}", answer.head);
        let disposition = answer.header("content-disposition").unwrap();
        assert!(
            disposition
                .contains("filename*=UTF-8''%D0%9E%D1%82%D1%87%D1%91%D1%82%20&%20100%25%20+%20mehr.pdf"),
            "{disposition}"
        );
        assert_eq!(gateway.record(&answer)["link_id"], "order-4711");
    };
    for mut library in Library::all() {
        let found = library.ask(&options, &base, SECRET, now());
        fetch(library.name, found["link"].as_str().unwrap_or_else(|| panic!("{}: {found}", library.name)));
    }
    fetch("shell", &shell(&options, &base).unwrap());
    assert_eq!(upstream.requests().len(), 4);
}

/// The first downloads of `clients/README.md`, word for word but for the port, each in a shell of its own.
#[test]
fn the_first_downloads_of_the_readme_work() {
    let folder = project("clients");
    let demo = Demo::start(&folder);
    for part in ["clients", "tests"] {
        std::os::unix::fs::symlink(root(part), folder.join(part)).unwrap();
    }
    let readme = std::fs::read_to_string(root("clients/README.md")).unwrap();
    let section = readme.split("## A first download in each language").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks: Vec<_> =
        section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    let saved = ["from JavaScript.txt", "from Python.txt", "from Go.txt", "from the shell.txt"];
    assert_eq!(blocks.len(), saved.len());
    let notes = std::fs::read(root("examples/sample/notes.txt")).unwrap();
    let path = format!("{}:{}", root(".tools/clients/bin").display(), std::env::var("PATH").unwrap());
    for (block, name) in blocks.iter().zip(saved) {
        let output = Command::new("sh")
            .args(["-euc", &block.replace("127.0.0.1:8080", &demo.address().to_string())])
            .current_dir(&folder)
            .envs([("PATH", path.as_str()), ("GOTOOLCHAIN", "local"), ("GOPROXY", "off")])
            .env("GOCACHE", root(".tools/clients/go-cache"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{block}\n{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(std::fs::read(folder.join(name)).unwrap(), notes, "{name}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
