use http::HeaderMap;

use super::*;
use crate::gate::grant::Grant;
use crate::gate::hmac::HmacKey;
use crate::gate::mint::Draft;
use crate::gate::permit::{Denial, Permit};
use crate::gate::target::Target;

const SECRET: &str = "sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
const NOW: UnixTime = UnixTime(1_800_000_000);

fn secrets(reference: &SecretRef) -> Result<secrecy::SecretString, SecretFault> {
    match reference {
        SecretRef::Env(name) if name == "WEAK" => Ok("secret".to_owned().into()),
        SecretRef::Env(name) if name == "MISSING" => {
            Err("environment variable `MISSING` is not set".to_owned().into())
        }
        SecretRef::Env(name) if name == "OFF_CURVE" => Ok(OFF_CURVE.to_owned().into()),
        _ => Ok(SECRET.to_owned().into()),
    }
}

/// A P-256 key in PEM whose point (1, 1) is not on the curve.
const OFF_CURVE: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEAAAAAAAAAAAAAAAAAAAAAAAAAAAA
AAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAQ==
-----END PUBLIC KEY-----";

fn load(files: &[(&str, &str)]) -> Result<Policies, PolicyProblems> {
    let names: Vec<_> = files.iter().map(|(stem, _)| format!("policy/{stem}.toml")).collect();
    let sources: Vec<_> =
        files.iter().zip(&names).map(|((stem, text), file)| PolicySource { file, stem, text }).collect();
    Policies::load(&sources, &secrets)
}

fn one(text: &str) -> Policies {
    let text = format!("tenant = \"acme\"\n{text}\n[[keys]]\nid = \"k\"\nsecret = \"env:S\"\n");
    load(&[("acme", &text)]).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A grant for `url` as a real link gives it.
fn grant(policies: &Policies, url: &str, options: &[(&'static str, &str)]) -> Grant {
    let mut draft = Draft::new(url, &KeyId::parse("k").unwrap(), UnixTime(NOW.0 + 3600));
    for (name, value) in options {
        draft = draft.with(name, *value);
    }
    let link = draft.sign(&HmacKey::new(&SECRET.to_owned().into()).unwrap()).unwrap();
    let request = SignedRequest::parse(Some(&link.query), &HeaderMap::new()).unwrap();
    policies.verify(request, &FetchedKeys::new(), NOW, None).unwrap()
}

fn decide(policies: &Policies, url: &str) -> Result<Permit, Denial> {
    policies.decide(grant(policies, url, &[]), NOW)
}

#[test]
fn a_mistake_is_shown_where_it_stands_with_what_to_write_instead() {
    let key = "[[keys]]\nid = \"k\"\nsecret = \"env:S\"\n";
    for (text, line, column, hint) in [
        ("tenant = \"other\"", 1, 10, "name both the same"),
        ("tenant = \"Acme\"", 1, 10, "a-z"),
        ("tenant = \"acme\"\nalow = []", 2, 1, "unknown field `alow`"),
        ("tenant = \"acme\"\nmode = \"off\"", 2, 8, "`enforce` or `report`"),
        ("tenant = \"acme\"\nmax_link_lifetime = \"0s\"", 2, 21, "such as `15m`"),
        ("tenant = \"acme\"\n[[allow]]\nhost = \"*.co.uk\"", 3, 8, "public suffix"),
        ("tenant = \"acme\"\n[[allow]]\nhost = \"*\"", 3, 8, "`*`"),
        ("tenant = \"acme\"\n[[allow]]\nhost = \"https://a.example\"", 3, 8, "scheme"),
        ("tenant = \"acme\"\n[[allow]]\nhost = \"a.example.\"", 3, 8, "dot"),
        ("tenant = \"acme\"\n[[allow]]\nhost = \"a.example\"\npath = \"public\"", 4, 8, "`/` in front"),
        ("tenant = \"acme\"\n[[allow]]\nhost = \"a.example\"\npath = \"/a/../b\"", 4, 8, "segment"),
        ("tenant = \"acme\"\n[[allow]]\nhost = \"a.example\"\nports = [0]", 4, 10, "port 0"),
        ("tenant = \"acme\"\n[[allow]]\nhost = \"a.example\"\nports = []", 3, 8, "empty list"),
        (
            "tenant = \"acme\"\n[[allow]]\nhost = \"a.example\"\nschemes = [\"ftp\"]",
            4,
            12,
            "cannot be fetched",
        ),
        ("tenant = \"acme\"\n[limits.key]\nrequests_per_second = 0.0", 3, 23, "between 0.001"),
        ("tenant = \"acme\"\n[limits.key]\nrequests_per_second = nan", 3, 23, "between 0.001"),
        ("tenant = \"acme\"\n[limits.key]\nrequests_per_second = 0.001\nburst = 4294967295", 4, 9, "30 days"),
        ("tenant = \"acme\"\n[limits.key]\nburst = 5", 3, 9, "needs `requests_per_second`"),
        ("tenant = \"acme\"\n[limits.tenant]\nconcurrent_downloads = 0", 3, 24, "lets nothing through"),
        ("tenant = \"acme\"\n[limits.tenant]\nbytes_per_day = \"lots\"", 3, 17, "such as `200 MB`"),
        ("tenant = \"acme\"\n[response]\ncontent_types = [\"video\"]", 3, 18, "`video/*`"),
        ("tenant = \"acme\"\n[response]\ncontent_types = []", 3, 17, "permits nothing"),
        ("tenant = \"acme\"\n[response]\ndefault_filename = \"a/b\"", 3, 20, "`/`"),
        ("tenant = \"acme\"\n[[keys]]\nid = \"K\"\nsecret = \"env:S\"", 3, 6, "a-z"),
        (
            "tenant = \"acme\"\n[[keys]]\nid = \"k\"\nsecret = \"hunter2hunter2\"",
            4,
            10,
            "write `env:NAME`, `file:PATH`, `secretsmanager:NAME`",
        ),
        (
            "tenant = \"acme\"\n[[keys]]\nid = \"k\"\nsecret = \"secretsmanager:#x\"",
            4,
            10,
            "nothing usable follows",
        ),
        (
            "tenant = \"acme\"\n[[keys]]\nid = \"k\"\nsecret = \"secretsmanager:a#\"",
            4,
            10,
            "nothing usable follows",
        ),
        ("tenant = \"acme\"\n[[keys]]\nid = \"k\"\nsecret = \"ssm:a b\"", 4, 10, "nothing usable follows"),
        ("tenant = \"acme\"\n[[keys]]\nid = \"k\"\nsecret = \"ssm:/a#b\"", 4, 10, "has no `#FIELD`"),
        ("tenant = \"acme\"\n[[keys]]\nid = \"k\"\nsecret = \"arn:aws:ssm:x\"", 4, 10, "in front of the ARN"),
        ("tenant = \"acme\"\n[[keys]]\nid = \"k\"\nsecret = \"SecretsManager:a\"", 4, 10, "did you mean"),
        ("tenant = \"acme\"\n[response]\noversize = \"maybe\"", 3, 12, "unknown variant `maybe`"),
        ("tenant = \"acme\"\n[[keys]]\nid = \"k\"\nsecret = \"env:WEAK\"", 4, 10, "sluicegate keys new"),
        ("tenant = \"acme\"\n[[keys]]\nid = \"k\"\nsecret = \"env:MISSING\"", 4, 10, "`MISSING` is not set"),
        (
            "tenant = \"acme\"\n[[keys]]\nid = \"k\"\nsecret = \"env:S\"\nnot_before = 2026-01-01T00:00:00",
            5,
            14,
            "offset",
        ),
        (
            "tenant = \"acme\"\n[[keys]]\nid = \"k\"\nsecret = \"env:S\"\nnot_before = 2026-01-02T00:00:00Z\nnot_after = 2026-01-01T00:00:00Z",
            6,
            13,
            "behind `not_before`",
        ),
        ("tenant = \"acme\"\n[[issuers]]\nissuer = \"i\"\naudience = \"a\"", 3, 10, "either `jwks_url`"),
        (
            "tenant = \"acme\"\n[[issuers]]\nissuer = \"i\"\naudience = \"a\"\njwks_url = \"http://id.example/\"\nalgorithm = \"ES256\"",
            5,
            12,
            "https://",
        ),
        (
            "tenant = \"acme\"\n[[issuers]]\nissuer = \"i\"\naudience = \"a\"\njwks_url = \"https://id.example/\"\nalgorithm = \"HS256\"",
            6,
            13,
            "cannot be published",
        ),
        (
            "tenant = \"acme\"\n[[issuers]]\nissuer = \"i\"\naudience = \"a\"\n[[issuers.keys]]\nid = \"x\"\nalgorithm = \"none\"",
            7,
            13,
            "unknown variant `none`",
        ),
        (
            "tenant = \"acme\"\n[[issuers]]\nissuer = \"i\"\naudience = \"a\"\n[[issuers.keys]]\nid = \"x\"\nalgorithm = \"ES256\"\npublic_key = \"env:OFF_CURVE\"",
            8,
            14,
            "public key",
        ),
        (
            "tenant = \"acme\"\n[[issuers]]\nissuer = \"i\"\naudience = \"a\"\n[[issuers.keys]]\nid = \"x\"\nalgorithm = \"HS512\"\nsecret = \"env:S\"",
            8,
            10,
            "HS512 64",
        ),
        (
            "tenant = \"acme\"\n[[issuers]]\nissuer = \"i\"\naudience = \"a\"\n[[issuers.keys]]\nid = \"x\"\nalgorithm = \"RS256\"\nsecret = \"env:S\"",
            6,
            6,
            "takes `public_key`",
        ),
        (
            "tenant = \"acme\"\n[[upstream]]\nhost = \"a.example\"\nheaders = { host = \"env:S\" }",
            4,
            13,
            "gateway itself",
        ),
        ("tenant = \"acme\"\n[revoked]\nkeys = [\"K\"]", 3, 9, "no key `K` here"),
        ("tenant = \"acme\"\n[revoked]\nlink_ids = [\"a b\"]", 3, 13, "a link id"),
        ("tenant = \"acme\"\nfoo", 2, 4, "expected"),
    ] {
        let problems = load(&[("acme", text)]).expect_err(text).0;
        let first = problems.first().unwrap();
        assert_eq!((first.line, first.column), (line, column), "{text}\n{}", first.excerpt());
        assert!(first.message.contains(hint), "{text}\n{}", first.excerpt());
        assert!(
            first.excerpt().contains(&format!("policy/acme.toml:{line}:{column}")),
            "{}",
            first.excerpt()
        );
        assert!(
            !first.excerpt().contains(SECRET) && !first.excerpt().contains("hunter2"),
            "{}",
            first.excerpt()
        );
    }
    assert!(load(&[("acme", &format!("tenant = \"acme\"\n{key}"))]).is_ok());
}

#[test]
fn every_mistake_of_every_file_is_reported_at_once() {
    let problems = load(&[
        ("a", "tenant = \"a\"\n[[allow]]\nhost = \"*\"\n[[deny]]\nhost = \"com.\""),
        ("b", "tenant = \"b\"\n[[allow]]\nhost = \"*\""),
    ])
    .unwrap_err();
    let places: Vec<_> = problems.0.iter().map(|p| (p.file.as_str(), p.line)).collect();
    assert_eq!(places, [("policy/a.toml", 3), ("policy/a.toml", 5), ("policy/b.toml", 3)]);
}

#[test]
fn names_are_unique_across_tenants_but_an_issuer_may_be_shared() {
    let tenant = |name: &str, kid: &str, audience: &str| {
        format!(
            "tenant = \"{name}\"\n[[keys]]\nid = \"{kid}\"\nsecret = \"env:S\"\n[[issuers]]\nissuer = \"i\"\naudience = \"{audience}\"\n[[issuers.keys]]\nid = \"x\"\nalgorithm = \"HS256\"\nsecret = \"env:S\"\n"
        )
    };
    let both = |b: &str| load(&[("a", &tenant("a", "ka", "aud-a")), ("b", b)]);
    assert!(both(&tenant("b", "kb", "aud-b")).is_ok());
    for (b, hint) in [
        (tenant("b", "ka", "aud-b"), "key id `ka` is already used in policy/a.toml"),
        (tenant("b", "kb", "aud-a"), "is already used in policy/a.toml"),
    ] {
        assert!(both(&b).unwrap_err().to_string().contains(hint));
    }
}

#[test]
fn rules_cover_host_port_scheme_and_path_and_deny_wins() {
    let policies = one(r#"
        [[allow]]
        host = "*.a.example"
        path = "/public/"
        [[allow]]
        host = "b.example"
        ports = [8443]
        [[allow]]
        host = "c.example"
        schemes = ["http", "https"]
        [[deny]]
        host = "secret.a.example"
        [[deny]]
        host = "c.example"
        path = "/internal"
    "#);
    for (url, allowed) in [
        ("https://x.a.example/public/f", true),
        ("https://y.x.a.example/public/f", true),
        ("https://a.example/public/f", false),
        ("https://evila.example/public/f", false),
        ("https://x.a.example.evil.example/public/f", false),
        ("https://x.a.example/private", false),
        ("https://x.a.example/public/../private", false),
        ("https://x.a.example/public/%2e%2e/private", false),
        ("https://x.a.example/public/..%2fprivate", false),
        ("https://x.a.example/public/%252e%252e/private", false),
        ("http://x.a.example/public/f", false),
        ("https://x.a.example:8443/public/f", false),
        ("https://secret.a.example/public/f", false),
        ("https://b.example:8443/", true),
        ("https://b.example/", false),
        ("http://c.example/f", true),
        ("https://c.example/f", true),
        ("https://c.example:444/f", false),
        ("https://c.example/internal", false),
        ("https://c.example/internal/f", false),
        ("https://c.example/Internal/f", false),
        ("https://c.example/%69nternal/f", false),
        ("https://c.example//internal/f", false),
        ("https://c.example/x/%2e%2e%2finternal", false),
        ("https://c.example/internals", true),
        ("https://203.0.113.1/public/f", false),
    ] {
        assert_eq!(decide(&policies, url).is_ok(), allowed, "{url}");
    }
    assert_eq!(decide(&policies, "https://b.example:8443/").unwrap().rule(), "allow at policy/acme.toml:7");
}

#[test]
fn a_tenant_without_rules_may_fetch_nothing() {
    assert!(matches!(decide(&one(""), "https://a.example/"), Err(Denial::NotAllowed(_))));
}

#[test]
fn a_redirect_passes_the_same_rules_and_never_goes_down_to_http() {
    let policies = one(
        "[[allow]]\nhost = \"a.example\"\nschemes = [\"http\", \"https\"]\n[[allow]]\nhost = \"b.example\"",
    );
    let mut permit = decide(&policies, "https://a.example/").unwrap();
    let target = |url: &str| Target::parse(url).unwrap();
    let from = target("https://a.example/");
    assert!(permit.allow_hop(&from, &target("https://b.example/x")).is_ok());
    assert!(matches!(permit.allow_hop(&from, &target("http://a.example/x")), Err(Denial::Downgrade(_))));
    assert!(matches!(permit.allow_hop(&from, &target("https://c.example/x")), Err(Denial::NotAllowed(_))));
}

#[test]
fn revocation_ends_keys_ids_and_everything_of_an_age() {
    let allow = "[[allow]]\nhost = \"a.example\"\n";
    let url = "https://a.example/";
    let outcome = |revoked: &str, options: &[(&'static str, &str)]| {
        let policies = one(&format!("mode = \"report\"\n{allow}[revoked]\n{revoked}"));
        let grant = grant(&policies, url, options);
        policies.decide(grant, NOW).map(|_| ())
    };
    assert_eq!(outcome("", &[]), Ok(()));
    assert!(matches!(outcome("keys = [\"k\"]", &[]), Err(Denial::Revoked(_))));
    assert!(matches!(outcome("link_ids = [\"seven\"]", &[("id", "seven")]), Err(Denial::Revoked(_))));
    assert_eq!(outcome("link_ids = [\"seven\"]", &[("id", "eight")]), Ok(()));
    let before = "issued_before = 2027-01-15T08:00:00Z"; // = NOW
    assert!(matches!(outcome(before, &[]), Err(Denial::Revoked(_))), "no nbf counts as older");
    assert!(matches!(outcome(before, &[("nbf", "1799999999")]), Err(Denial::Revoked(_))));
    assert_eq!(outcome(before, &[("nbf", "1800000000")]), Ok(()));
}

#[test]
fn a_link_must_not_live_longer_than_the_policy_says() {
    let policies = one("max_link_lifetime = \"30m\"\n[[allow]]\nhost = \"a.example\"");
    assert_eq!(decide(&policies, "https://a.example/").unwrap_err(), Denial::LivesTooLong(1800));
    let later = UnixTime(NOW.0 + 1800);
    let granted = grant(&policies, "https://a.example/", &[]);
    assert!(policies.decide(granted, later).is_ok(), "what is left is within the cap");
}

#[test]
fn report_mode_notes_denials_and_lets_through() {
    let policies = one(
        "mode = \"report\"\nmax_link_lifetime = \"1m\"\n[response]\ncontent_types = [\"video/*\"]\nmax_bytes = \"1 kB\"",
    );
    let mut permit = decide(&policies, "https://a.example/").unwrap();
    permit.allow_body(&mime::TEXT_PLAIN, Some(2000)).unwrap();
    assert_eq!(permit.reported().len(), 4, "{:?}", permit.reported());
    assert_eq!((permit.rule(), permit.max_bytes()), ("", None));
}

#[test]
fn bodies_are_held_against_type_and_size() {
    let policies = one(
        "[[allow]]\nhost = \"a.example\"\n[response]\ncontent_types = [\"video/*\", \"application/pdf\"]\nmax_bytes = \"1 kB\"",
    );
    let mut permit = decide(&policies, "https://a.example/").unwrap();
    for (content_type, length, allowed) in [
        ("video/mp4", Some(1000), true),
        ("VIDEO/MP4; codecs=x", None, true),
        ("application/pdf", Some(1), true),
        ("application/pdfx", Some(1), false),
        ("text/html", Some(1), false),
        ("video/mp4", Some(1001), false),
    ] {
        let outcome = permit.allow_body(&content_type.parse().unwrap(), length);
        assert_eq!(outcome.is_ok(), allowed, "{content_type} {length:?}");
    }
}

#[test]
fn upstream_headers_go_to_their_host_over_https_only() {
    let policies = one(
        "[[allow]]\nhost = \"*.a.example\"\nschemes = [\"http\", \"https\"]\n[[upstream]]\nhost = \"x.a.example\"\nheaders = { x-api-key = \"env:S\" }",
    );
    for (url, sent) in
        [("https://x.a.example/", true), ("http://x.a.example/", false), ("https://y.a.example/", false)]
    {
        let headers = decide(&policies, url).unwrap().upstream_headers();
        assert_eq!(headers.contains_key("x-api-key"), sent, "{url}");
        assert!(headers.values().all(http::HeaderValue::is_sensitive));
        assert!(!format!("{headers:?}").contains(SECRET));
    }
}

#[test]
fn ten_thousand_tenants_are_found_by_key() {
    let files: Vec<_> = (0..10_000)
        .map(|n| {
            let text = format!(
                "tenant = \"t{n}\"\n[[keys]]\nid = \"k{n}\"\nsecret = \"env:S\"\n[[allow]]\nhost = \"*.h{n}.example\"\n"
            );
            (format!("t{n}"), text)
        })
        .collect();
    let sources: Vec<_> = files.iter().map(|(stem, text)| PolicySource { file: stem, stem, text }).collect();
    let policies = Policies::load(&sources, &secrets).unwrap();
    assert_eq!((policies.tenants().count(), policies.key_count()), (10_000, 10_000));
    assert_eq!(policies.minting_keys("t9999", NOW).len(), 1);
}

#[test]
fn nothing_secret_is_shown_by_debug() {
    let policies = one("[[upstream]]\nhost = \"a.example\"\nheaders = { x-api-key = \"env:S\" }");
    assert!(!format!("{policies:?}").contains("sgk1_"));
}
