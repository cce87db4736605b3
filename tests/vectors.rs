//! The vectors of `tests/vectors`, which every implementation passes, held against the gate.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/keyring.rs"]
mod keyring;

use std::collections::HashMap;
use std::fmt::Write as _;

use keyring::{Keyring, Vector, judge, read};
use sluicegate::gate::hmac::HmacKey;
use sluicegate::gate::id::{KeyId, UnixTime};
use sluicegate::gate::mint::{Draft, LinkOptions};
use sluicegate::gate::target::Target;

/// Compares every vector of a file and reports all differences at once.
fn compare(file: &str) -> usize {
    let policies = Keyring::of_the_vectors().policies();
    let vectors = read(file)["vectors"].take();
    let vectors: Vec<Vector> = serde_json::from_value(vectors).unwrap();
    let mut wrong = String::new();
    for vector in &vectors {
        let mut expected = vector.expect.clone();
        if let Some(url) = expected["ok"]["url"].as_str() {
            let parsed = Target::parse(url).unwrap().url().to_string();
            expected["ok"]["url"] = parsed.into();
        }
        let found = judge(&policies, vector);
        if found != expected {
            let _ = writeln!(wrong, "{}:\n  expected {expected}\n  found    {found}", vector.name);
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    vectors.len()
}

#[test]
fn every_link_vector_gets_its_verdict() {
    assert!(compare("verify.json") > 90);
}

#[test]
fn every_token_vector_gets_its_verdict() {
    assert!(compare("token.json") > 80);
}

/// The string to sign and the tag of every presented link, wherever the query can be decoded.
#[test]
fn every_string_to_sign_is_the_vectors() {
    let secrets = secrets();
    let vectors: Vec<Vector> = serde_json::from_value(read("verify.json")["vectors"].take()).unwrap();
    let mut compared = 0;
    for vector in &vectors {
        let Ok(parameters) = sluicegate::gate::query::read(&vector.query) else {
            continue;
        };
        let Some(expected) = &vector.string_to_sign else { continue };
        let text = parameters.string_to_sign();
        assert_eq!(text, expected, "{}", vector.name);
        let key = parameters.get("kid").and_then(|kid| secrets.get(kid));
        if let (Some(key), Some(sig)) = (key, &vector.expected_sig) {
            assert_eq!(&key.tag(text).encode(), sig, "{}", vector.name);
        }
        compared += 1;
    }
    assert!(compared > 90);
}

/// What no library signs, the gate does not sign either, and it names the same option.
#[test]
fn what_is_not_signed_is_refused_by_its_option() {
    let keys = secret_texts();
    let vectors = read("refuse.json")["vectors"].take();
    let vectors = vectors.as_array().unwrap();
    assert!(vectors.len() > 100);
    for vector in vectors {
        let name = &vector["name"];
        let signs_as = vector["secret_of"].as_str().or(vector["kid"].as_str()).unwrap();
        let secret = vector["secret"].as_str().unwrap_or_else(|| &keys[signs_as]).to_owned();
        let at_fault = match (HmacKey::new(&secret.into()), KeyId::parse(vector["kid"].as_str().unwrap())) {
            (Err(_), _) => Some("secret"),
            (_, Err(_)) => Some("kid"),
            (Ok(key), Ok(kid)) => match serde_json::from_value::<LinkOptions>(vector["options"].clone()) {
                // A value of another type, or a name that is none: the reader says which, in its own words.
                Err(_) => vector["parameter"].as_str(),
                Ok(options) => {
                    let draft = options.draft(&kid, UnixTime(1_800_000_000));
                    let signed = draft.and_then(|draft| Ok(draft.sign(&key)?));
                    signed.expect_err(name.as_str().unwrap()).option()
                }
            },
        };
        assert_eq!(at_fault, vector["parameter"].as_str(), "{name}");
    }
}

#[test]
fn every_end_is_the_vectors() {
    let vectors = read("expiry.json")["vectors"].take();
    for vector in vectors.as_array().unwrap() {
        let number = |name: &str| vector[name].as_u64();
        let options = LinkOptions {
            expires_in: number("expires_in"),
            exp: number("exp"),
            align_to: number("align_to"),
            ..LinkOptions::default()
        };
        let end = options.end(UnixTime(number("now").unwrap())).unwrap();
        assert_eq!(Some(end.0), number("expect"), "{}", vector["name"]);
    }
}

fn secrets() -> HashMap<String, HmacKey> {
    let texts = secret_texts().into_iter();
    texts.map(|(kid, text)| (kid, HmacKey::new(&text.into()).unwrap())).collect()
}

fn secret_texts() -> HashMap<String, String> {
    let keys = read("keys.json");
    let tenants = keys["tenants"].as_array().unwrap();
    let all = tenants.iter().flat_map(|tenant| tenant["keys"].as_array().unwrap());
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    all.map(|key| (text(&key["kid"]), text(&key["secret"]))).collect()
}

#[test]
fn every_minted_link_is_the_vectors_byte_for_byte() {
    let secrets = secrets();
    let mint = read("mint.json");
    let vectors = mint["vectors"].as_array().unwrap();
    for vector in vectors {
        let kid = vector["kid"].as_str().unwrap();
        let text = |name: &str| vector["params"][name].as_str().map(str::to_owned);
        let exp = UnixTime::parse(&text("exp").unwrap()).unwrap();
        let mut draft = Draft::new(&text("url").unwrap(), &KeyId::parse(kid).unwrap(), exp);
        for name in ["nbf", "filename", "disposition", "id", "ip"] {
            if let Some(value) = text(name) {
                draft = draft.with(name, value);
            }
        }
        let minted = draft.sign(&secrets[kid]).unwrap();
        assert_eq!(minted.string_to_sign, vector["string_to_sign"], "{}", vector["name"]);
        assert_eq!(minted.signature, vector["sig"], "{}", vector["name"]);
        assert_eq!(minted.query, vector["query"], "{}", vector["name"]);
    }
    assert!(vectors.len() >= 20);
}
