//! Tenants, and a good credential of each kind for the first of them.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData as _};
use secrecy::SecretString;
use serde_json::json;
use sluicegate::gate::id::{KeyId, UnixTime};
use sluicegate::gate::mint::Draft;
use sluicegate::gate::policy::{Policies, PolicySource, SecretFault, SecretRef};

/// A link, and tokens by algorithm.
pub(crate) const CREDENTIALS: [&str; 5] = ["HMAC", "HS256", "RS256", "ES256", "EdDSA"];
pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);

const SECRET: &str = "sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
/// What the credentials are for.
pub(crate) const URL: &str = "https://files.h0.example/public/reports/2026/annual.pdf";

/// A set of tenants, of whom the first has issuers too.
pub(crate) struct World {
    pub(crate) policies: Policies,
    texts: Vec<(String, String)>,
    rsa: KeyPair,
    ec: KeyPair,
    ed: KeyPair,
}

impl World {
    pub(crate) fn new(tenants: usize) -> Self {
        let texts: Vec<_> = (0..tenants).map(|n| (format!("t{n}"), policy(n))).collect();
        let (rsa, ec, ed) = (&PKCS_RSA_SHA256, &PKCS_ECDSA_P256_SHA256, &PKCS_ED25519);
        let [rsa, ec, ed] = [rsa, ec, ed].map(|algorithm| KeyPair::generate_for(algorithm).unwrap());
        let policies = load(&texts, &[&rsa, &ec, &ed]);
        Self { policies, texts, rsa, ec, ed }
    }

    /// The whole set anew, from its text.
    pub(crate) fn load(&self) -> Policies {
        load(&self.texts, &[&self.rsa, &self.ec, &self.ed])
    }

    /// The query of a request that is allowed.
    pub(crate) fn query(&self, credential: &str) -> String {
        let pem = |pair: &KeyPair| pair.serialize_pem().into_bytes();
        let (algorithm, key) = match credential {
            "HS256" => (Algorithm::HS256, EncodingKey::from_secret(SECRET.as_bytes())),
            "RS256" => (Algorithm::RS256, EncodingKey::from_rsa_pem(&pem(&self.rsa)).unwrap()),
            "ES256" => (Algorithm::ES256, EncodingKey::from_ec_pem(&pem(&self.ec)).unwrap()),
            "EdDSA" => (Algorithm::EdDSA, EncodingKey::from_ed_pem(&pem(&self.ed)).unwrap()),
            _ => return self.link(),
        };
        let mut header = Header::new(algorithm);
        header.kid = Some(credential.to_lowercase());
        let claims = json!({
            "iss": format!("https://{credential}.example"), "aud": "downloads", "exp": NOW.0 + 3600, "url": URL
        });
        format!("token={}", jsonwebtoken::encode(&header, &claims, &key).unwrap())
    }

    fn link(&self) -> String {
        let kid = KeyId::parse("k0").unwrap();
        let draft = Draft::new(URL, &kid, UnixTime(NOW.0 + 3600)).with("filename", "Annual report 2026.pdf");
        self.policies.mint(draft, &kid, NOW).unwrap().query
    }

    /// The public key of ES256, as a point.
    pub(crate) fn es256_point(&self) -> &[u8] {
        self.ec.der_bytes()
    }
}

fn policy(n: usize) -> String {
    let issuers = CREDENTIALS[1..]
        .iter()
        .filter(|_| n == 0)
        .map(|name| {
            let (id, field) = (name.to_lowercase(), if *name == "HS256" { "secret" } else { "public_key" });
            format!(
                "[[issuers]]\nissuer = \"https://{name}.example\"\naudience = \"downloads\"\n\
                 [[issuers.keys]]\nid = \"{id}\"\nalgorithm = \"{name}\"\n{field} = \"env:{name}\"\n"
            )
        })
        .collect::<Vec<_>>()
        .concat();
    // A rate that is counted and that no benchmark reaches.
    format!(
        "tenant = \"t{n}\"\n[[keys]]\nid = \"k{n}\"\nsecret = \"env:S\"\n{issuers}\
         [[allow]]\nhost = \"*.h{n}.example\"\npath = \"/public/\"\n\
         [limits.key]\nrequests_per_second = 1000000.0\nburst = 4000000000\n"
    )
}

fn load(texts: &[(String, String)], [rsa, ec, ed]: &[&KeyPair; 3]) -> Policies {
    let secret = |reference: &SecretRef| -> Result<SecretString, SecretFault> {
        let SecretRef::Env(name) = reference else { return Err("only variables here".to_owned().into()) };
        Ok(match name.as_str() {
            "RS256" => rsa.public_key_pem().into(),
            "ES256" => ec.public_key_pem().into(),
            "EdDSA" => ed.public_key_pem().into(),
            _ => SECRET.to_owned().into(),
        })
    };
    let sources: Vec<_> = texts.iter().map(|(stem, text)| PolicySource { file: stem, stem, text }).collect();
    Policies::load(&sources, &secret).unwrap()
}
