//! The vectors of `tests/vectors`, which every implementation passes, held against the gate.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use sluicegate::gate::hmac::HmacKey;
use sluicegate::gate::id::{KeyId, UnixTime};
use sluicegate::gate::keys::FetchedKeys;
use sluicegate::gate::link::SignedRequest;
use sluicegate::gate::mint::Draft;
use sluicegate::gate::policy::{Policies, PolicySource, SecretRef};
use sluicegate::gate::refusal::Refusal;
use sluicegate::gate::target::Target;

fn read(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// `keys.json` as policy files, and the secrets they refer to.
fn policies() -> Policies {
    let keys = read("keys.json");
    let mut secrets: HashMap<String, String> = HashMap::new();
    let mut keep = |text: &Value| {
        let name = format!("S{}", secrets.len());
        secrets.insert(name.clone(), text.as_str().unwrap().to_owned());
        name
    };
    let mut files = Vec::new();
    for tenant in keys["tenants"].as_array().unwrap() {
        let name = tenant["tenant"].as_str().unwrap().to_owned();
        let mut text = format!("tenant = \"{name}\"\nmax_link_lifetime = \"50000y\"\n");
        for key in tenant["keys"].as_array().unwrap() {
            let secret = keep(&key["secret"]);
            let _ = write!(
                text,
                "[[keys]]\nid = {}\nsecret = \"env:{secret}\"\nstatus = {}\n",
                key["kid"], key["status"]
            );
            for bound in ["not_before", "not_after"] {
                if let Some(seconds) = key[bound].as_i64() {
                    let _ = writeln!(text, "{bound} = {}", jiff::Timestamp::from_second(seconds).unwrap());
                }
            }
        }
        for issuer in tenant["issuers"].as_array().unwrap() {
            let _ = write!(
                text,
                "[[issuers]]\nissuer = {}\naudience = {}\n",
                issuer["issuer"], issuer["audience"]
            );
            for key in issuer["keys"].as_array().unwrap() {
                let (field, value) = match &key["secret"] {
                    Value::Null => ("public_key", &key["public_key_pem"]),
                    secret => ("secret", secret),
                };
                let (value, alg) = (keep(value), key["alg"].as_str().unwrap());
                let _ = write!(
                    text,
                    "[[issuers.keys]]\nid = {}\nalgorithm = \"{alg}\"\n{field} = \"env:{value}\"\n",
                    key["kid"]
                );
            }
        }
        files.push((name, text));
    }
    let sources: Vec<_> = files.iter().map(|(stem, text)| PolicySource { file: stem, stem, text }).collect();
    Policies::load(&sources, &|reference| match reference {
        SecretRef::Env(name) => Ok(secrets[name].clone().into()),
        other => Err(format!("only variables here, not `{other}`").into()),
    })
    .unwrap_or_else(|problems| panic!("{problems}"))
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    now: u64,
    client: String,
    query: String,
    #[serde(default)]
    headers: HashMap<String, Vec<String>>,
    string_to_sign: Option<String>,
    expected_sig: Option<String>,
    expect: Value,
}

/// What the gate makes of a request, in the words of the vectors.
fn judge(policies: &Policies, vector: &Vector) -> Value {
    let mut headers = HeaderMap::new();
    for (name, values) in &vector.headers {
        for value in values {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
    }
    let refused = |refusal: Refusal| {
        let code = refusal.code().face().code;
        serde_json::json!({"refuse": {"stage": refusal.stage(), "code": code}})
    };
    let request = match SignedRequest::parse(Some(&vector.query), &headers) {
        Ok(request) => request,
        Err(error) => return refused(error.into()),
    };
    let client = Some(vector.client.parse().unwrap());
    match policies.verify(request, &FetchedKeys::new(), UnixTime(vector.now), client) {
        Err(error) => refused(error.into()),
        Ok(grant) => {
            let mut ok = serde_json::json!({
                "tenant": grant.tenant().as_str(),
                "kid": grant.kid(),
                "url": grant.target().url().as_str(),
                "disposition": grant.disposition().as_str(),
                "exp": grant.expires().0,
            });
            if let Some(name) = grant.filename() {
                ok["filename"] = name.as_str().into();
            }
            if let Some(id) = grant.link_id() {
                ok["id"] = id.as_str().into();
            }
            serde_json::json!({"ok": ok})
        }
    }
}

/// Compares every vector of a file and reports all differences at once.
fn compare(file: &str) -> usize {
    let policies = policies();
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
        let text = sluicegate::gate::canonical::string_to_sign(&parameters);
        assert_eq!(&text, expected, "{}", vector.name);
        let key = parameters.get("kid").and_then(|kid| secrets.get(kid));
        if let (Some(key), Some(sig)) = (key, &vector.expected_sig) {
            assert_eq!(&key.tag(&text).encode(), sig, "{}", vector.name);
        }
        compared += 1;
    }
    assert!(compared > 90);
}

fn secrets() -> HashMap<String, HmacKey> {
    let keys = read("keys.json");
    let tenants = keys["tenants"].as_array().unwrap();
    let all = tenants.iter().flat_map(|tenant| tenant["keys"].as_array().unwrap());
    all.map(|key| {
        let secret = key["secret"].as_str().unwrap().to_owned().into();
        (key["kid"].as_str().unwrap().to_owned(), HmacKey::new(&secret).unwrap())
    })
    .collect()
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
