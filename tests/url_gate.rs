//! WPT's URL cases through the URL gate: no panic, no other host than a browser would reach, no way around an allow list.
//!
//! The cases come with the url crate's own package, at the version in Cargo.lock.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::PathBuf;
use std::process::Command;

use http::HeaderMap;
use serde_json::Value;
use sluicegate::gate::hmac::HmacKey;
use sluicegate::gate::id::{KeyId, UnixTime};
use sluicegate::gate::keys::FetchedKeys;
use sluicegate::gate::link::SignedRequest;
use sluicegate::gate::mint::Draft;
use sluicegate::gate::policy::{Policies, PolicySource};
use sluicegate::gate::target::Target;

const SECRET: &str = "sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
const NOW: UnixTime = UnixTime(1_800_000_000);

fn cases() -> Vec<Value> {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        // Packages for other platforms need not be here.
        .args(["--filter-platform", &host(), "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let url = packages.iter().find(|package| package["name"] == "url").unwrap();
    let file = PathBuf::from(url["manifest_path"].as_str().unwrap()).with_file_name("tests/urltestdata.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    cases.into_iter().filter(Value::is_object).collect()
}

fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

fn policies() -> Policies {
    let text = "tenant = \"t\"\n[[keys]]\nid = \"k\"\nsecret = \"env:S\"\n\
                [[allow]]\nhost = \"example.com\"\nschemes = [\"http\", \"https\"]\npath = \"/foo/\"\n";
    let source = PolicySource { file: "t.toml", stem: "t", text };
    Policies::load(&[source], &|_| Ok(SECRET.to_owned().into())).unwrap()
}

#[test]
fn an_accepted_url_is_the_one_a_browser_would_fetch() {
    let (mut accepted, mut refused) = (0, 0);
    for case in cases().iter().filter(|case| case["base"].is_null()) {
        let input = case["input"].as_str().unwrap();
        let Ok(target) = Target::parse(input) else {
            refused += 1;
            continue;
        };
        accepted += 1;
        assert!(case["failure"].is_null(), "accepted although it is no URL: {input:?}");
        assert_eq!(target.url().as_str(), case["href"].as_str().unwrap(), "{input:?}");
        assert_eq!(target.host().to_string(), case["hostname"].as_str().unwrap(), "{input:?}");
        assert_eq!((case["username"].as_str(), case["password"].as_str()), (Some(""), Some("")), "{input:?}");
    }
    assert!(accepted > 30 && refused > 300, "{accepted} {refused}");
}

#[test]
fn a_redirect_stays_what_a_browser_makes_of_it() {
    for case in cases() {
        let (Some(base), Some(input)) = (case["base"].as_str(), case["input"].as_str()) else { continue };
        let Ok(base) = Target::parse(base) else { continue };
        let Ok(target) = base.join(input) else { continue };
        let href = case["href"].as_str().expect("followed although it is no URL");
        let without_fragment = href.split('#').next().unwrap();
        assert_eq!(target.url().as_str(), without_fragment, "{input:?}");
        assert!(["http", "https"].contains(&target.url().scheme()));
    }
}

/// Every case and variants of it, signed, read back from the query and decided: only `example.com/foo/` gets through.
#[test]
fn no_url_escapes_the_allow_list() {
    let policies = policies();
    let key = HmacKey::new(&SECRET.to_owned().into()).unwrap();
    let kid = KeyId::parse("k").unwrap();
    let mut permitted = 0;
    for case in cases() {
        let input = case["input"].as_str().unwrap();
        for url in [
            input.to_owned(),
            format!("https://example.com/foo/{input}"),
            format!("https://example.com{input}"),
            format!("https://{input}.example.com/foo/x"),
            format!("https://example.com@{input}/foo/x"),
        ] {
            let Ok(link) = Draft::new(&url, &kid, UnixTime(NOW.0 + 60)).sign(&key) else { continue };
            let request = SignedRequest::parse(Some(&link.query), &HeaderMap::new()).unwrap();
            let grant = policies.verify(request, &FetchedKeys::new(), NOW, None).unwrap();
            let Ok(permit) = policies.decide(grant, NOW) else { continue };
            let target = permit.grant().target().url();
            assert_eq!(target.host_str(), Some("example.com"), "{url:?}");
            assert!(target.path().starts_with("/foo/"), "{url:?}");
            assert!(!target.path().to_ascii_lowercase().contains("%2f"), "{url:?}");
            permitted += 1;
        }
    }
    assert!(permitted > 100, "{permitted}");
}
