//! What the gate costs per request: parse, verify, decide; for one tenant and for ten thousand.
//!
//! `cargo bench` prints the times. They are figures to compare on one machine, side by side; no test depends on them.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use divan::{Bencher, black_box};
use http::HeaderMap;
use sluicegate::gate::id::{KeyId, UnixTime};
use sluicegate::gate::keys::FetchedKeys;
use sluicegate::gate::link::SignedRequest;
use sluicegate::gate::mint::Draft;
use sluicegate::gate::policy::{Policies, PolicySource};

const SECRET: &str = "sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
const NOW: UnixTime = UnixTime(1_800_000_000);

fn main() {
    divan::main();
}

fn policies(tenants: usize) -> Policies {
    let texts: Vec<_> = (0..tenants)
        .map(|n| {
            let text = format!(
                "tenant = \"t{n}\"\n[[keys]]\nid = \"k{n}\"\nsecret = \"env:S\"\n[[allow]]\nhost = \"*.h{n}.example\"\npath = \"/public/\"\n"
            );
            (format!("t{n}"), text)
        })
        .collect();
    let sources: Vec<_> = texts.iter().map(|(stem, text)| PolicySource { file: stem, stem, text }).collect();
    Policies::load(&sources, &|_| Ok(SECRET.to_owned().into())).unwrap()
}

fn query(policies: &Policies) -> String {
    let kid = KeyId::parse("k0").unwrap();
    let url = "https://files.h0.example/public/reports/2026/annual.pdf";
    let draft = Draft::new(url, &kid, UnixTime(NOW.0 + 3600)).with("filename", "Annual report 2026.pdf");
    policies.mint(draft, &kid, NOW).unwrap().query
}

#[divan::bench]
fn parse(bencher: Bencher<'_, '_>) {
    let (query, headers) = (query(&policies(1)), HeaderMap::new());
    bencher.bench(|| SignedRequest::parse(Some(black_box(&query)), &headers));
}

#[divan::bench(args = [1, 10_000])]
fn parse_verify_decide(bencher: Bencher<'_, '_>, tenants: usize) {
    let policies = policies(tenants);
    let (query, headers, fetched) = (query(&policies), HeaderMap::new(), FetchedKeys::new());
    bencher.bench(|| {
        let request = SignedRequest::parse(Some(black_box(&query)), &headers).unwrap();
        let grant = policies.verify(request, &fetched, NOW, None).unwrap();
        policies.decide(grant, NOW).unwrap()
    });
}

#[divan::bench(args = [1, 10_000], sample_count = 10)]
fn load(tenants: usize) -> Policies {
    policies(tenants)
}
