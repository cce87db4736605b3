use super::*;
use crate::gate::keys::FetchedKeys;

fn secret(name: &str) -> String {
    format!("sgk1_{name}-0123456789abcdefghijklmnopqrstuvwxyz")
}

/// The set and its entries as text.
fn compile(files: &[(String, String)]) -> Result<BTreeMap<String, String>, EdgeError> {
    let sources: Vec<_> = files.iter().map(|(stem, text)| PolicySource { file: stem, stem, text }).collect();
    let secrets = |reference: &SecretRef| match reference {
        SecretRef::Env(name) if name == "LONG" => Ok("long-0123456789-".repeat(6).into()),
        SecretRef::Env(name) => Ok(secret(name).into()),
        other => Err(SecretFault::Wrong(format!("only variables here, not `{other}`"))),
    };
    let set = Policies::load(&sources, &secrets).unwrap();
    let entries = set.edge_entries(&sources, &secrets)?;
    Ok(entries.into_iter().map(|(key, value)| (key, value.expose_secret().to_owned())).collect())
}

fn one(text: &str) -> BTreeMap<String, String> {
    compile(&[("acme".to_owned(), format!("tenant = \"acme\"\n{text}"))]).unwrap()
}

fn read(entries: &BTreeMap<String, String>, key: &str) -> serde_json::Value {
    serde_json::from_str(entries.get(key).unwrap_or_else(|| panic!("no {key} in {entries:?}"))).unwrap()
}

#[test]
fn a_key_says_all_that_the_edge_asks_of_it() {
    let entries = one(r#"
max_link_lifetime = "1d"
[[keys]]
id = "a"
secret = "env:A"
status = "verify-only"
not_before = 2026-01-01T00:00:00Z
not_after = 2027-01-01T00:00:00Z
[[keys]]
id = "b"
secret = "env:LONG"
[[keys]]
id = "c"
secret = "env:C"
status = "retired"
[revoked]
keys = ["b"]
link_ids = ["order-7"]
issued_before = 2026-06-01T00:00:00Z
"#);
    let a = read(&entries, "k/a");
    assert_eq!((&a["t"], &a["s"], &a["l"]), (&"acme".into(), &secret("A").into(), &86_400.into()));
    assert_eq!(
        (&a["n"], &a["x"], &a["b"]),
        (&1_767_225_600.into(), &1_798_761_600.into(), &1_780_272_000.into())
    );
    assert_eq!((&a["r"], &a["h"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    let b = read(&entries, "k/b");
    assert_eq!(b["r"], 1, "revoked");
    assert_eq!(b["s"], serde_json::Value::Null, "a secret longer than a block is there as its hash");
    assert_eq!(b["h"], URL_SAFE_NO_PAD.encode(Sha256::digest("long-0123456789-".repeat(6))));
    assert_eq!(a["e"], b["e"]);
    assert!(!entries.contains_key("k/c"), "a retired key is an unknown one");
    assert_eq!(entries["r/acme/order-7"], "1");
}

#[test]
fn an_issuers_secrets_are_there_only_if_the_edge_can_verify_with_them() {
    let entries = one(r#"
mode = "report"
[[issuers]]
issuer = "https://one.example"
audience = "files"
[[issuers.keys]]
id = "only"
algorithm = "HS256"
secret = "env:A"
[[issuers]]
issuer = "https://two.example"
audience = "files"
[[issuers.keys]]
id = "x"
algorithm = "HS384"
secret = "env:LONG"
[[issuers.keys]]
id = "y"
algorithm = "HS256"
secret = "env:B"
[[issuers]]
issuer = "https://published.example"
audience = "files"
jwks_url = "https://published.example/keys"
algorithm = "ES256"
[revoked]
keys = ["https://two.example#y"]
"#);
    let name = |issuer: &str| format!("i/{}/{}", short_hash(issuer), short_hash("files"));
    let pair = read(&entries, &name("https://one.example"));
    assert_eq!(pair["o"], short_hash("only"), "a token need not name the only key");
    assert_eq!(pair["l"], serde_json::Value::Null, "report mode caps no lifetime");
    let key = |issuer: &str, kid: &str| read(&entries, &format!("{}/{}", name(issuer), short_hash(kid)));
    assert_eq!(key("https://one.example", "only")["s"], secret("A"));
    assert_eq!(read(&entries, &name("https://two.example"))["o"], serde_json::Value::Null);
    let x = key("https://two.example", "x");
    assert_eq!(
        (&x["a"], &x["s"], &x["h"]),
        (&"HS384".into(), &serde_json::Value::Null, &serde_json::Value::Null)
    );
    assert_eq!(key("https://two.example", "y")["r"], 1);
    assert_eq!(read(&entries, &name("https://published.example"))["p"], "ES256");
}

#[test]
fn refusals_read_as_in_the_table() {
    let entries = one("");
    for code in REFUSALS {
        let face = code.face();
        let value = read(&entries, &format!("f/{}", face.code));
        assert_eq!(
            (&value["s"], &value["t"], &value["d"]),
            (&face.status.into(), &face.title.into(), &face.detail.into())
        );
        assert_eq!(value["h"]["cache-control"], "no-store");
    }
    assert_eq!(read(&entries, "f/missing_credential")["h"]["www-authenticate"], CHALLENGE);
}

/// Figures for docs/performance.md: `cargo test --lib a_thousand_tenants -- --nocapture`.
#[test]
fn a_thousand_tenants_fit_and_too_many_are_a_clear_error() {
    let tenant = |number: usize, ids: usize| {
        let name = format!("tenant-{number}");
        let list: Vec<_> = (0..ids).map(|id| format!("\"order-{number}-{id}\"")).collect();
        let text = format!(
            "tenant = \"{name}\"\n[[keys]]\nid = \"{name}-1\"\nsecret = \"env:A{number}\"\n[[keys]]\nid = \"{name}-2\"\n\
             secret = \"env:B{number}\"\nstatus = \"verify-only\"\n[[issuers]]\nissuer = \"https://login.{name}.example\"\n\
             audience = \"downloads\"\n[[issuers.keys]]\nid = \"one\"\nalgorithm = \"HS256\"\nsecret = \"env:C{number}\"\n\
             [revoked]\nlink_ids = [{}]\n",
            list.join(", ")
        );
        (name, text)
    };
    let files: Vec<_> = (0..1000).map(|number| tenant(number, 10)).collect();
    let entries = compile(&files).unwrap();
    let bytes: usize = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
    println!(
        "1,000 tenants, 2 keys, 1 issuer with 1 key, 10 revoked links each: {} entries, {bytes} bytes",
        entries.len()
    );
    assert_eq!(entries.len(), 1000 * (2 + 2 + 10) + REFUSALS.len());
    assert!(bytes < MAX_STORE_BYTES / 3, "{bytes}");

    let error = compile(&[tenant(1, 10), tenant(2, 250_000)]).unwrap_err();
    let EdgeError::TooLarge { largest, .. } = &error else { panic!("{error}") };
    assert_eq!(largest, "tenant-2");
    assert!(error.to_string().contains("5242880"), "{error}");
}

/// What the edge is told of a key is what the gate goes by.
#[test]
fn the_gate_knows_which_credentials_the_edge_can_prove() {
    let text =
        "tenant = \"acme\"\n[[keys]]\nid = \"a\"\nsecret = \"env:A\"\n[[allow]]\nhost = \"files.example\"\n";
    let source = PolicySource { file: "acme", stem: "acme", text };
    let set = Policies::load(&[source], &|_| Ok(secret("A").into())).unwrap();
    let minted = crate::gate::mint::Draft::new(
        "https://files.example/x",
        &crate::gate::id::KeyId::parse("a").unwrap(),
        UnixTime(2000),
    )
    .sign(&crate::gate::hmac::HmacKey::new(&secret("A").into()).unwrap())
    .unwrap();
    let request =
        || crate::gate::link::SignedRequest::parse(Some(&minted.query), &http::HeaderMap::new()).unwrap();
    let permit = |now| {
        let grant = set.verify(request(), &FetchedKeys::new(), UnixTime(now), None).unwrap();
        set.decide(grant, UnixTime(now)).unwrap()
    };
    let epoch = set.tenant("acme").unwrap().epoch().to_string();
    let own = short_hash(&minted.signature);
    let keeps = |named: &str| {
        crate::gate::partition::Partition::of(named, &request()).keeps(&permit(1900), UnixTime(1900), 3600)
    };
    assert_eq!(keeps(&format!("acme.{epoch}")), Some(3600));
    assert_eq!(keeps(&format!("acme.{epoch}.{own}")), Some(100), "no longer than the credential");
    for foreign in [
        String::new(),
        ".".to_owned(),
        "acme".to_owned(),
        "acme.".to_owned(),
        format!("acme.{epoch}."),
        format!("acme.{epoch}x"),
        format!("acme.{epoch}.{own}x"),
        format!("acme.{epoch}.{}", short_hash("another")),
        format!("acme.{}", "A".repeat(16)),
        format!("other.{epoch}"),
        format!(" acme.{epoch}"),
        format!("ACME.{epoch}"),
    ] {
        assert_eq!(keeps(&foreign), None, "{foreign}");
    }
}
