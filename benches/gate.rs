//! What the gate costs per request: parse, verify, decide, and what letting in costs behind it; each by itself and together,
//! for one tenant and for ten thousand.
//!
//! `cargo bench --bench gate` prints the times. They are figures to compare on one machine, side by side; no test depends on
//! them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

#[path = "gate/credentials.rs"]
mod credentials;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credentials::{CREDENTIALS, NOW, World};
use divan::{Bencher, black_box};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use sha2::Sha256;
use sluicegate::gate::grant::Grant;
use sluicegate::gate::keys::FetchedKeys;
use sluicegate::gate::link::SignedRequest;
use sluicegate::gate::policy::Policies;

const TENANTS: [usize; 2] = [1, 10_000];

fn main() {
    divan::main();
}

fn parsed(query: &str) -> SignedRequest {
    SignedRequest::parse(Some(black_box(query)), &HeaderMap::new()).unwrap()
}

fn granted(policies: &Policies, query: &str) -> Grant {
    policies.verify(parsed(query), &FetchedKeys::new(), NOW, None).unwrap()
}

#[divan::bench(args = CREDENTIALS)]
fn parse(bencher: Bencher<'_, '_>, credential: &str) {
    let query = World::new(1).query(credential);
    let headers = HeaderMap::new();
    bencher.bench(|| SignedRequest::parse(Some(black_box(&query)), &headers).unwrap());
}

#[divan::bench(args = CREDENTIALS)]
fn verify(bencher: Bencher<'_, '_>, credential: &str) {
    let world = World::new(1);
    let (query, fetched) = (world.query(credential), FetchedKeys::new());
    bencher
        .with_inputs(|| parsed(&query))
        .bench_values(|request| world.policies.verify(request, &fetched, NOW, None).unwrap());
}

/// What a link's judgement cannot do without, by the libraries alone: a yardstick for one machine next to another.
#[divan::bench(args = ["Url::parse", "form_urlencoded", "HMAC-SHA256 of 300 bytes"])]
fn parts(bencher: Bencher<'_, '_>, part: &str) {
    let query = World::new(1).query("HMAC");
    match part {
        "Url::parse" => bencher.bench(|| url::Url::parse(black_box(credentials::URL)).unwrap()),
        "form_urlencoded" => bencher.bench(|| {
            let pairs = url::form_urlencoded::parse(black_box(query.as_bytes()));
            pairs.map(|(name, value)| name.len() + value.len()).sum::<usize>()
        }),
        _ => {
            let key = Hmac::<Sha256>::new_from_slice(&[b'k'; 48]).unwrap();
            bencher.bench(|| key.clone().chain_update(black_box([b'm'; 300])).finalize());
        }
    }
}

/// What of `verify` with ES256 is the curve's own: the same signature, by the library alone.
#[divan::bench(args = ["key as bytes", "key as read before"])]
fn verify_es256_alone(bencher: Bencher<'_, '_>, key: &str) {
    let world = World::new(1);
    let query = world.query("ES256");
    let (text, signature) = query.strip_prefix("token=").unwrap().rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (text, point) = (text.as_bytes(), world.es256_point());
    if key == "key as bytes" {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        bencher.bench(|| key.verify(black_box(text), &signature).unwrap());
    } else {
        let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).unwrap();
        bencher.bench(|| key.verify_sig(black_box(text), &signature).unwrap());
    }
}

#[divan::bench(args = TENANTS)]
fn decide(bencher: Bencher<'_, '_>, tenants: usize) {
    let world = World::new(tenants);
    let query = world.query("HMAC");
    bencher
        .with_inputs(|| granted(&world.policies, &query))
        .bench_values(|grant| world.policies.decide(grant, NOW).unwrap());
}

/// Memory is given back within the time, as it is within a request's. A hundred at once, since asking what time it is takes as long
/// as a part of it.
#[divan::bench(args = TENANTS, sample_size = 100)]
fn parse_verify_decide(bencher: Bencher<'_, '_>, tenants: usize) {
    let world = World::new(tenants);
    let (query, headers, fetched) = (world.query("HMAC"), HeaderMap::new(), FetchedKeys::new());
    bencher.bench(|| {
        let request = SignedRequest::parse(Some(black_box(&query)), &headers).unwrap();
        let grant = world.policies.verify(request, &fetched, NOW, None).unwrap();
        drop(world.policies.decide(grant, NOW).unwrap());
    });
}

/// With the counters of the process, which is no part of the gate and has no place in a build without `wire`.
#[cfg(feature = "wire")]
mod admit {
    use divan::{Bencher, black_box};
    use futures_util::FutureExt as _;
    use http::HeaderMap;
    use sluicegate::gate::keys::FetchedKeys;
    use sluicegate::gate::link::SignedRequest;
    use sluicegate::gate::permit::Permit;
    use sluicegate::wire::config::LimitsConfig;
    use sluicegate::wire::limits::{Admission, Limits};

    use super::{NOW, TENANTS, World, granted};

    /// Nothing waits in the process, so no runtime's own cost is in the time.
    fn admitted(limits: &Limits, permit: Permit) -> Option<Box<Admission>> {
        limits.admit(permit).now_or_never().unwrap().ok()
    }

    #[divan::bench(args = TENANTS)]
    fn alone(bencher: Bencher<'_, '_>, tenants: usize) {
        let (world, limits) = (World::new(tenants), Limits::open(&LimitsConfig::default()).unwrap());
        let query = world.query("HMAC");
        bencher
            .with_inputs(|| world.policies.decide(granted(&world.policies, &query), NOW).unwrap())
            .bench_values(|permit| admitted(&limits, permit).unwrap());
    }

    #[divan::bench(args = TENANTS, sample_size = 100)]
    fn after_parse_verify_decide(bencher: Bencher<'_, '_>, tenants: usize) {
        let (world, limits) = (World::new(tenants), Limits::open(&LimitsConfig::default()).unwrap());
        let (query, headers, fetched) = (world.query("HMAC"), HeaderMap::new(), FetchedKeys::new());
        bencher.bench(|| {
            let request = SignedRequest::parse(Some(black_box(&query)), &headers).unwrap();
            let grant = world.policies.verify(request, &fetched, NOW, None).unwrap();
            drop(admitted(&limits, world.policies.decide(grant, NOW).unwrap()).unwrap());
        });
    }
}

#[divan::bench(args = TENANTS, sample_count = 10)]
fn load(bencher: Bencher<'_, '_>, tenants: usize) {
    let world = World::new(tenants);
    bencher.bench(|| world.load());
}
