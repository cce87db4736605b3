//! The edge against the gate: the built viewer-request function, under njs itself, gives every vector and a large corpus of
//! mutated credentials the gate's verdict.
//!
//! The edge may say less than the gate, in the ways that [`Difference`] lists. It may never vouch for what the gate refuses.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/edge_function.rs"]
mod edge_function;
#[path = "support/keyring.rs"]
mod keyring;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use edge_function::{Asked, EdgeFunction, Verdict};
use keyring::{Keyring, Vector, judge, read};
use serde_json::Value;

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
    /// Another refusal: the edge saw another of several faults first. Only where the host is one that it cannot judge.
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
