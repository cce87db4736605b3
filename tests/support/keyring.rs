//! The keys of the vectors as policies, and what the gate makes of a request, in the words of the vectors.

use std::collections::HashMap;
use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use sluicegate::gate::grant::Grant;
use sluicegate::gate::id::UnixTime;
use sluicegate::gate::keys::FetchedKeys;
use sluicegate::gate::link::SignedRequest;
use sluicegate::gate::policy::{Policies, PolicySource, SecretFault, SecretRef};
use sluicegate::gate::refusal::Refusal;

/// Policy files by tenant, and the secrets that they refer to.
#[derive(Default)]
pub(crate) struct Keyring {
    files: Vec<(String, String)>,
    secrets: HashMap<String, String>,
}

impl Keyring {
    /// `keys.json`.
    pub(crate) fn of_the_vectors() -> Self {
        let mut keyring = Self::default();
        for tenant in read("keys.json")["tenants"].as_array().unwrap() {
            keyring.add(tenant);
        }
        keyring
    }

    pub(crate) fn policies(&self) -> Policies {
        Policies::load(&self.sources(), &|reference| self.secret(reference))
            .unwrap_or_else(|problems| panic!("{problems}"))
    }

    pub(crate) fn sources(&self) -> Vec<PolicySource<'_>> {
        self.files.iter().map(|(stem, text)| PolicySource { file: stem, stem, text }).collect()
    }

    pub(crate) fn secret(&self, reference: &SecretRef) -> Result<secrecy::SecretString, SecretFault> {
        match reference {
            SecretRef::Env(name) => Ok(self.secrets[name].clone().into()),
            other => Err(format!("only variables here, not `{other}`").into()),
        }
    }

    /// A tenant's policy as it is.
    pub(crate) fn put(&mut self, tenant: &str, text: String) {
        self.files.push((tenant.to_owned(), text));
    }

    /// The name of a variable that holds `text`.
    pub(crate) fn keep(&mut self, text: &str) -> String {
        let name = format!("S{}", self.secrets.len());
        self.secrets.insert(name.clone(), text.to_owned());
        name
    }

    fn add(&mut self, tenant: &Value) {
        let name = tenant["tenant"].as_str().unwrap();
        let mut text = format!("tenant = \"{name}\"\nmax_link_lifetime = \"50000y\"\n");
        for key in tenant["keys"].as_array().unwrap() {
            let secret = self.keep(key["secret"].as_str().unwrap());
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
            self.add_issuer(&mut text, issuer);
        }
        self.put(name, text);
    }

    fn add_issuer(&mut self, text: &mut String, issuer: &Value) {
        let _ =
            write!(text, "[[issuers]]\nissuer = {}\naudience = {}\n", issuer["issuer"], issuer["audience"]);
        for key in issuer["keys"].as_array().unwrap() {
            let (field, value) = match &key["secret"] {
                Value::Null => ("public_key", &key["public_key_pem"]),
                secret => ("secret", secret),
            };
            let (value, alg) = (self.keep(value.as_str().unwrap()), key["alg"].as_str().unwrap());
            let _ = write!(
                text,
                "[[issuers.keys]]\nid = {}\nalgorithm = \"{alg}\"\n{field} = \"env:{value}\"\n",
                key["kid"]
            );
        }
    }
}

pub(crate) fn read(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[derive(Deserialize)]
pub(crate) struct Vector {
    #[allow(dead_code, reason = "not every test names it")]
    pub(crate) name: String,
    pub(crate) now: u64,
    pub(crate) client: String,
    pub(crate) query: String,
    #[serde(default)]
    pub(crate) headers: HashMap<String, Vec<String>>,
    #[allow(dead_code, reason = "likewise")]
    pub(crate) string_to_sign: Option<String>,
    #[allow(dead_code, reason = "likewise")]
    pub(crate) expected_sig: Option<String>,
    #[allow(dead_code, reason = "likewise")]
    pub(crate) expect: Value,
}

/// What the gate proves of a request.
pub(crate) fn grant(
    policies: &Policies,
    now: u64,
    client: &str,
    query: &str,
    fields: &[(String, Vec<String>)],
) -> Result<Grant, Refusal> {
    let mut headers = HeaderMap::new();
    for (name, values) in fields {
        for value in values {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
    }
    let request = SignedRequest::parse(Some(query), &headers)?;
    Ok(policies.verify(request, &FetchedKeys::new(), UnixTime(now), Some(client.parse().unwrap()))?)
}

/// What the gate makes of a request, in the words of the vectors.
pub(crate) fn judge(policies: &Policies, vector: &Vector) -> Value {
    let fields: Vec<_> = vector.headers.iter().map(|(name, values)| (name.clone(), values.clone())).collect();
    let grant = match grant(policies, vector.now, &vector.client, &vector.query, &fields) {
        Ok(grant) => grant,
        Err(refusal) => {
            let code = refusal.code().face().code;
            return serde_json::json!({ "refuse": { "stage": refusal.stage(), "code": code } });
        }
    };
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
    serde_json::json!({ "ok": ok })
}
