//! Tokens through the door: every way to carry one, and key sets that an issuer publishes.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use support::*;

const URL: &str = "http://files.test.example/a.txt";
const BODY: &[u8] = b"granted";
const ISSUER: &str = "https://id.example/";

/// An issuer's ES256 key.
struct Issuer {
    kid: &'static str,
    pkcs8: Vec<u8>,
    point: Vec<u8>,
}

impl Issuer {
    fn new(kid: &'static str) -> Self {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap();
        Self { kid, point: pair.public_key().as_ref().to_vec(), pkcs8: pkcs8.as_ref().to_vec() }
    }

    fn jwk(&self) -> Value {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "kid": self.kid, "alg": "ES256", "use": "sig",
               "x": part(&self.point[1..33]), "y": part(&self.point[33..])})
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.to_owned());
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_ec_der(&self.pkcs8)).unwrap()
    }

    fn token(&self) -> String {
        self.sign(&json!({"iss": ISSUER, "aud": "downloads", "exp": now() + 60, "url": URL}))
    }
}

type KeySet = Arc<Mutex<Vec<u8>>>;

fn key_set(issuers: &[&Issuer]) -> Vec<u8> {
    let keys: Vec<_> = issuers.iter().map(|issuer| issuer.jwk()).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

/// A gateway whose tenant trusts an issuer that publishes `keys`, with the upstream of files and that of keys.
fn gateway(keys: &KeySet, setup: impl Fn(Setup) -> Setup) -> (Gateway, Upstream, Upstream) {
    let files = Upstream::start(|_| vec![Step::Send(ok(&[("content-type", "text/plain")], BODY))]);
    let published = Arc::clone(keys);
    let id = Upstream::start(move |_| vec![Step::Send(ok(&[], &published.lock().unwrap()))]);
    let policy = format!(
        "[[issuers]]\nissuer = \"{ISSUER}\"\naudience = \"downloads\"\njwks_url = \"http://id.localhost/jwks\"\nalgorithm = \"ES256\"\n"
    );
    let setup = setup(Setup::new(&files).host("id.localhost", id.address()).policy(&policy));
    (Gateway::start(&setup), files, id)
}

fn bearer(gateway: &Gateway, token: &str) -> Answer {
    gateway.request("GET", "", &[("Authorization", &format!("Bearer {token}"))])
}

#[test]
fn a_token_may_come_in_the_query_as_a_bearer_or_in_our_header() {
    let issuer = Issuer::new("k1");
    let (gateway, files, id) = gateway(&Arc::new(Mutex::new(key_set(&[&issuer]))), |setup| setup);
    let token = issuer.token();
    for answer in [
        gateway.get(&format!("token={token}")),
        bearer(&gateway, &token),
        gateway.request("GET", "", &[("x-sluicegate-token", &token)]),
        gateway.request(
            "GET",
            "url=http%3A%2F%2Ffiles.test.example%2Fa.txt",
            &[("x-sluicegate-token", &token)],
        ),
    ] {
        assert_eq!((answer.status, answer.body.as_slice()), (200, BODY), "{}", answer.head);
    }
    assert_eq!(id.requests().len(), 1, "the key set is fetched once");
    assert_eq!(files.requests().len(), 4);
    for request in files.requests() {
        assert!(!request.head.contains(&token), "a token never goes upstream");
    }
    assert!(!format!("{:?}", gateway.lines()).contains(&token), "a token is never logged");
}

#[test]
fn two_credentials_are_refused() {
    let issuer = Issuer::new("k1");
    let (gateway, files, _id) = gateway(&Arc::new(Mutex::new(key_set(&[&issuer]))), |setup| setup);
    let token = issuer.token();
    let header: &[(&str, &str)] = &[("x-sluicegate-token", &token)];
    for answer in [
        gateway.request("GET", &format!("token={token}"), header),
        gateway.request("GET", &gateway.link(URL).query(), header),
        gateway.request("GET", "filename=other.txt", header),
        gateway.request("GET", "", &[header[0], header[0]]),
    ] {
        answer.expect(400, "malformed_link");
    }
    gateway
        .request("GET", "url=http%3A%2F%2Ffiles.test.example%2Fb.txt", header)
        .expect(403, "url_not_allowed");
    assert!(files.requests().is_empty());
}

#[test]
fn a_new_key_is_found_and_forged_ids_do_not_make_us_fetch() {
    let (old, new, forged) = (Issuer::new("old"), Issuer::new("new"), Issuer::new("forged"));
    let keys = Arc::new(Mutex::new(key_set(&[&old])));
    let (gateway, files, id) = gateway(&keys, |setup| setup.set("timeouts.key_set_retry", "1h"));
    assert_eq!(bearer(&gateway, &old.token()).status, 200);
    for _ in 0..20 {
        bearer(&gateway, &forged.token()).expect(403, "invalid_signature");
    }
    assert_eq!(
        (id.requests().len(), files.requests().len()),
        (1, 1),
        "an unknown kid is asked for at a bounded rate"
    );
    drop(gateway);

    let (gateway, _files, id) = self::gateway(&keys, |setup| setup.set("timeouts.key_set_retry", "1us"));
    assert_eq!(bearer(&gateway, &old.token()).status, 200);
    *keys.lock().unwrap() = key_set(&[&new]);
    assert_eq!(bearer(&gateway, &new.token()).status, 200, "an unknown kid is looked for");
    assert_eq!(id.requests().len(), 2);
    bearer(&gateway, &old.token()).expect(403, "invalid_signature");
}

/// Tokens of clients that hang up: one fetch goes on, and no other begins.
#[test]
fn clients_that_leave_do_not_make_us_fetch_again() {
    let (issuer, unknown) = (Issuer::new("k1"), Issuer::new("k2"));
    let go = Signal::new();
    let (gate, set) = (go.clone(), key_set(&[&issuer]));
    let id = Upstream::start(move |_| vec![Step::Wait(gate.clone()), Step::Send(ok(&[], &set))]);
    let files = Upstream::always(|| vec![Step::Send(ok(&[], BODY))]);
    let policy = format!(
        "[[issuers]]\nissuer = \"{ISSUER}\"\naudience = \"downloads\"\njwks_url = \"http://id.localhost/jwks\"\nalgorithm = \"ES256\"\n"
    );
    let setup = Setup::new(&files).host("id.localhost", id.address()).policy(&policy);
    let gateway = Gateway::start(&setup);
    for _ in 0..20 {
        let mut client = gateway.client();
        client.request("GET", "", &[("Authorization", &format!("Bearer {}", unknown.token()))]);
        id.wait_requests(1);
        drop(client);
    }
    go.give();
    assert_eq!(bearer(&gateway, &issuer.token()).status, 200);
    assert_eq!(id.requests().len(), 1, "within `key_set_retry`");
}

#[test]
fn a_key_set_is_fetched_under_the_address_checks() {
    let issuer = Issuer::new("k1");
    let keys = Arc::new(Mutex::new(key_set(&[&issuer])));
    let canary = Canary::on("127.0.0.1");
    let files = Upstream::start(|_| Vec::new());
    let policy = format!(
        "[[issuers]]\nissuer = \"{ISSUER}\"\naudience = \"downloads\"\njwks_url = \"http://127.0.0.1:{}/jwks\"\nalgorithm = \"ES256\"\n",
        canary.address().port()
    );
    let gateway = Gateway::start(&Setup::new(&files).policy(&policy));
    bearer(&gateway, &issuer.token()).expect(403, "invalid_signature");
    let line = gateway.line(|line| line["message"] == "token keys not fetched");
    assert!(line["reason"].as_str().unwrap().contains("loopback"), "{line}");
    drop((gateway, keys));
    assert!(files.requests().is_empty());
}

#[test]
fn a_broken_key_set_leaves_the_last_good_one_in_force() {
    let (issuer, unknown) = (Issuer::new("k1"), Issuer::new("k2"));
    let keys = Arc::new(Mutex::new(key_set(&[&issuer])));
    let (gateway, _files, id) = gateway(&keys, |setup| setup.set("timeouts.key_set_retry", "1us"));
    assert_eq!(bearer(&gateway, &issuer.token()).status, 200);
    for broken in [
        &b"<html>"[..],
        br#"{"keys":[]}"#,
        br#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
        &vec![b' '; 300 * 1024],
    ] {
        *keys.lock().unwrap() = broken.to_vec();
        let before = id.requests().len();
        bearer(&gateway, &unknown.token()).expect(403, "invalid_signature");
        assert!(id.requests().len() > before, "the unknown kid was looked for");
        assert_eq!(bearer(&gateway, &issuer.token()).status, 200);
    }
}
