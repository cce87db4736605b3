//! Any raw query and token header: never a panic; what verifies is what was signed, and explaining it agrees.

#![no_main]

use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use sluicegate::gate::explain::walk;
use sluicegate::gate::id::UnixTime;
use sluicegate::gate::keys::FetchedKeys;
use sluicegate::gate::link::SignedRequest;
use sluicegate::gate::policy::{Policies, PolicySource};

static POLICIES: LazyLock<Policies> = LazyLock::new(|| {
    let text = "tenant = \"t\"\n[[keys]]\nid = \"k\"\nsecret = \"env:S\"\n[[allow]]\nhost = \"a.example\"\n";
    let source = PolicySource { file: "t.toml", stem: "t", text };
    let secret = || "sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG".to_owned().into();
    Policies::load(&[source], &|_| Ok(secret())).expect("the policy is good")
});

fuzz_target!(|input: (&str, Option<&[u8]>)| {
    let (query, header) = input;
    let mut headers = HeaderMap::new();
    if let Some(Ok(value)) = header.map(HeaderValue::from_bytes) {
        headers.insert("x-sluicegate-token", value);
    }
    let (now, fetched) = (UnixTime(1_800_000_000), FetchedKeys::new());
    let verdict = SignedRequest::parse(Some(query), &headers)
        .ok()
        .and_then(|request| POLICIES.verify(request, &fetched, now, None).ok())
        .and_then(|grant| POLICIES.decide(grant, now).ok());
    let explained = walk(&POLICIES, query, &headers, &fetched, now, None);
    assert_eq!(verdict.is_some(), explained.passes);
});
