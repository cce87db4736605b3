//! The edge against the gate: the built viewer-request function, under njs itself, gives every vector and a large corpus of
//! mutated credentials the gate's verdict.
//!
//! The edge may say less than the gate, in the ways that [`Difference`] lists. It may never vouch for what the gate refuses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/deployed.rs"]
mod deployed;
#[path = "support/edge_function.rs"]
mod edge_function;
#[path = "support/keyring.rs"]
mod keyring;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use corpus::{Dice, Signer};
use edge_function::{Asked, EdgeFunction, Verdict};
use keyring::{Keyring, Vector, judge, read};
use serde_json::{Value, json};
use sluicegate::gate::permit::Denial;
use sluicegate::gate::policy::Policies;
use sluicegate::gate::refusal::Refusal;

/// What the edge leaves to the origin: it neither refuses nor lets anybody else find the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// Vouched for, and the gate allows it.
    None,
    /// The same refusal.
    SameRefusal,
    /// A partition of its own: a signature that the edge cannot verify, a host that only UTS 46 can judge, or a scope that
    /// only the URL Standard can.
    Own,
    /// No partition, so never a hit: a token that the edge cannot verify and that is over, or for another address.
    Origin,
    /// Another refusal: the edge saw another of several faults first. Only where the host is one that it cannot judge, or where
    /// a token's JSON has a second reading, which it looks for behind issuer, key and signature.
    OtherRefusal,
}

fn compare(asked: &Asked, gate: &Value, edge: &Verdict) -> Result<Difference, String> {
    let fail = || Err(format!("{asked:?}\n  gate {gate}\n  edge {edge:?}"));
    let code = gate["refuse"]["code"].as_str();
    match (edge, code) {
        (Verdict::Shared { .. }, None) => Ok(Difference::None),
        (Verdict::Own { .. }, _) => Ok(Difference::Own),
        (Verdict::Origin, _) => Ok(Difference::Origin),
        (Verdict::Refused(edge), Some(gate)) if edge == gate => Ok(Difference::SameRefusal),
        (Verdict::Refused(_), Some(_)) if asked.has_odd_host() => Ok(Difference::OtherRefusal),
        (Verdict::Refused(edge), Some("malformed_link"))
            if asked.has_token() && edge == "invalid_signature" =>
        {
            Ok(Difference::OtherRefusal)
        }
        _ => fail(),
    }
}

fn asked(vector: &Vector) -> Asked {
    Asked {
        now: vector.now,
        client: vector.client.clone(),
        query: vector.query.clone(),
        headers: vector.headers.iter().map(|(name, values)| (name.clone(), values.clone())).collect(),
    }
}

/// Compares everything and reports all failures at once.
fn compare_all(requests: &[(Asked, Value)], edge: &EdgeFunction) -> BTreeMap<Difference, usize> {
    let verdicts = edge.judge(requests.iter().map(|(asked, _)| asked));
    assert_eq!(verdicts.len(), requests.len());
    let mut counts = BTreeMap::new();
    let mut wrong = String::new();
    for ((asked, gate), verdict) in requests.iter().zip(&verdicts) {
        match compare(asked, gate, verdict) {
            Ok(difference) => *counts.entry(difference).or_default() += 1,
            Err(text) if wrong.len() < 10_000 => writeln!(wrong, "{text}").unwrap(),
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    counts
}

#[test]
fn every_vector_gets_the_gates_verdict() {
    let keyring = Keyring::of_the_vectors();
    let policies = keyring.policies();
    let edge = EdgeFunction::with(&policies, &keyring);
    for file in ["verify.json", "token.json"] {
        let vectors: Vec<Vector> = serde_json::from_value(read(file)["vectors"].take()).unwrap();
        let requests: Vec<_> =
            vectors.iter().map(|vector| (asked(vector), judge(&policies, vector))).collect();
        let counts = compare_all(&requests, &edge);
        println!("{file}: {counts:?}");
    }
}

/// Tenants with what the vectors have not: revocation, lifetimes, report mode, secrets of more than a block, published keys.
const TENANTS: [(&str, &str); 4] = [
    (
        "strict",
        r#"
max_link_lifetime = "1d"
[[keys]]
id = "strict-1"
secret = "env:LONG"
[[keys]]
id = "strict-gone"
secret = "env:GONE"
[[issuers]]
issuer = "https://strict.example"
audience = "acme-downloads"
[[issuers.keys]]
id = "one"
algorithm = "HS256"
secret = "env:LONG"
[[issuers.keys]]
id = "two"
algorithm = "HS256"
secret = "env:GONE"
[revoked]
keys = ["strict-gone", "two"]
link_ids = ["gone-1", "gone-2"]
"#,
    ),
    (
        "fresh",
        r#"
[[keys]]
id = "fresh-1"
secret = "env:PLAIN"
[[issuers]]
issuer = "https://fresh.example"
audience = "acme-downloads"
[[issuers.keys]]
id = "one"
algorithm = "HS256"
secret = "env:PLAIN"
[[issuers]]
issuer = "https://published.example"
audience = "acme-downloads"
jwks_url = "https://published.example/keys"
algorithm = "ES256"
[revoked]
issued_before = 2027-01-15T08:00:00Z
"#,
    ),
    (
        // A moment that is 0.
        "over",
        r#"
[[keys]]
id = "over-1"
secret = "env:PLAIN"
not_after = 1970-01-01T00:00:00Z
[[keys]]
id = "over-2"
secret = "env:PLAIN"
[revoked]
issued_before = 1970-01-01T00:00:00Z
"#,
    ),
    (
        "lax",
        r#"
mode = "report"
max_link_lifetime = "1h"
[[keys]]
id = "lax-1"
secret = "env:PLAIN"
"#,
    ),
];

struct World {
    keyring: Keyring,
    policies: Policies,
    links: Vec<Signer>,
    tokens: Vec<Signer>,
}

impl World {
    fn new() -> Self {
        let mut keyring = Keyring::of_the_vectors();
        let secrets = [
            ("LONG", format!("sgk1_{}", "long-0123456789-".repeat(6))),
            ("GONE", "sgk1_gone-0123456789abcdefghijklmnopqrstuv".to_owned()),
            ("PLAIN", "sgk1_plain-0123456789abcdefghijklmnopqrstu".to_owned()),
        ];
        for (tenant, text) in TENANTS {
            let mut text = format!("tenant = \"{tenant}\"\n{text}");
            for (name, secret) in &secrets {
                text = text.replace(&format!("env:{name}\""), &format!("env:{}\"", keyring.keep(secret)));
            }
            keyring.put(tenant, text);
        }
        let signer = |name: &str, secret: &str| Signer { name: name.to_owned(), secret: secret.to_owned() };
        let [long, gone, plain] = secrets.map(|(_, secret)| secret);
        let mut links = vec![
            signer("strict-1", &long),
            signer("strict-gone", &gone),
            signer("fresh-1", &plain),
            signer("lax-1", &plain),
            signer("over-1", &plain),
            signer("over-2", &plain),
            signer("nobody", &plain),
        ];
        let mut tokens = vec![
            signer("https://strict.example#one", &long),
            signer("https://strict.example#two", &gone),
            signer("https://fresh.example#one", &plain),
            signer("https://published.example#one", &plain),
            signer("https://nobody.example#one", &plain),
        ];
        let keys = read("keys.json");
        for tenant in keys["tenants"].as_array().unwrap() {
            for key in tenant["keys"].as_array().unwrap() {
                links.push(signer(key["kid"].as_str().unwrap(), key["secret"].as_str().unwrap()));
            }
            for issuer in tenant["issuers"].as_array().unwrap() {
                for key in issuer["keys"].as_array().unwrap().iter().filter(|key| key["alg"] == "HS256") {
                    let name =
                        format!("{}#{}", issuer["issuer"].as_str().unwrap(), key["kid"].as_str().unwrap());
                    tokens.push(signer(&name, key["secret"].as_str().unwrap()));
                }
            }
        }
        Self { policies: keyring.policies(), keyring, links, tokens }
    }

    /// The gate's verdict, and its policy's on what is cached. What the rules say of a url is the origin's part: nothing is
    /// cached that they did not allow.
    fn judge(&self, asked: &Asked) -> Value {
        let refused = |refusal: &Refusal| json!({ "refuse": { "code": refusal.code().face().code } });
        let grant =
            match keyring::grant(&self.policies, asked.now, &asked.client, &asked.query, &asked.headers) {
                Ok(grant) => grant,
                Err(refusal) => return refused(&refusal),
            };
        match self.policies.decide(grant, sluicegate::gate::id::UnixTime(asked.now)) {
            Ok(_) | Err(Denial::NotAllowed(_) | Denial::Forbidden(_)) => json!({ "ok": {} }),
            Err(denial) => refused(&denial.into()),
        }
    }
}

#[test]
fn a_hundred_thousand_mutated_credentials_get_the_gates_verdict() {
    let world = World::new();
    let edge = EdgeFunction::with(&world.policies, &world.keyring);
    let mut dice = Dice(0x51);
    let mut requests = Vec::new();
    let mut add = |asked: Asked| requests.push((asked.clone(), world.judge(&asked)));
    for _ in 0..50_000 {
        let link = corpus::signed_link(&world.links, &mut dice);
        let query = link.query.clone();
        add(link);
        if query.len() < 1000 {
            add(corpus::broken_query(&query, &mut dice));
        }
    }
    for _ in 0..40_000 {
        add(corpus::signed_token(&world.tokens, &mut dice));
    }
    let counts = compare_all(&requests, &edge);
    println!("{} requests: {counts:?}", requests.len());
    let mut codes = BTreeMap::<String, usize>::new();
    for (_, verdict) in &requests {
        *codes.entry(verdict["refuse"]["code"].as_str().unwrap_or("ok").to_owned()).or_default() += 1;
    }
    println!("{codes:?}");
    // The corpus reaches everything that the edge can say.
    assert!(requests.len() >= 130_000);
    for code in [
        "ok",
        "malformed_link",
        "missing_credential",
        "invalid_signature",
        "link_expired",
        "link_not_yet_valid",
        "link_revoked",
        "client_not_allowed",
        "lifetime_too_long",
        "url_not_allowed",
    ] {
        assert!(codes.get(code).is_some_and(|count| *count >= 20), "{code}: {codes:?}");
    }
}
