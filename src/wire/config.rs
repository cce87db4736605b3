//! The operator's configuration: one file, `sluicegate.toml`, and the same settings from the environment, which wins.
//!
//! A setting `timeouts.idle` is the variable `SLUICEGATE_TIMEOUTS_IDLE`; lists are separated by commas.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use crate::gate::address::OpenAddress;

/// Everything an operator can set.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the server listens.
    pub listen: SocketAddr,
    /// The folder of policy files.
    pub policy: PathBuf,
    /// How log lines look.
    pub log: LogFormat,
    /// The most client connections at once; further ones wait.
    pub max_connections: usize,
    /// The most connections of one client address at once; further ones are closed. Trusted proxies are exempt.
    pub max_connections_per_client: usize,
    /// How long running downloads may go on after a request to stop.
    pub shutdown_grace: Span,
    /// Who the client is.
    pub client: ClientConfig,
    /// How upstreams are reached.
    pub origin: OriginConfig,
    /// How long each phase may take.
    pub timeouts: Timeouts,
    /// Secrets that are kept elsewhere.
    pub secrets: SecretsConfig,
    /// The function on AWS Lambda.
    pub lambda: LambdaConfig,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Who the client is: the peer of the socket, unless that is a proxy named here.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientConfig {
    /// Networks whose `address_header` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which they append the address that they saw.
    #[serde(deserialize_with = "header_name")]
    pub address_header: HeaderName,
}

/// How upstreams are reached.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OriginConfig {
    /// Addresses or networks that may be connected to although they are not public, such as `10.1.2.3:8080`.
    pub open: Vec<OpenAddress>,
    /// Names that are not resolved but connected to this address, which is checked like any other. A URL that writes
    /// another port is refused.
    #[serde(deserialize_with = "addresses")]
    pub hosts: BTreeMap<String, SocketAddr>,
    /// Name servers in place of the system's.
    pub resolver: Vec<SocketAddr>,
    /// Certificates (PEM) that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// How long each phase may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Resolving an upstream's name.
    pub resolve: Span,
    /// Connecting to an upstream, TLS included.
    pub connect: Span,
    /// From connection to response head.
    pub first_byte: Span,
    /// Between two pieces of an upstream's body.
    pub idle: Span,
    /// The whole transfer.
    pub transfer: Span,
    /// For a client to send its request head, and for an idle connection to be used again.
    pub client_head: Span,
    /// For a client to take anything at all while a body is being sent.
    pub client_write: Span,
    /// The age at which fetched token keys are fetched again.
    pub key_set_age: Span,
    /// The shortest time between two fetches of one key set.
    pub key_set_retry: Span,
}

/// Secrets in AWS Secrets Manager and SSM Parameter Store.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretsConfig {
    /// The age at which they are fetched again.
    pub max_age: Span,
    /// The shortest time between two fetches, whatever links arrive.
    pub retry: Span,
    /// How long one fetch of all of them may take.
    pub timeout: Span,
}

/// What the platform can carry.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LambdaConfig {
    /// The largest body; a larger one is refused, or redirected where the policy says so.
    pub max_bytes: Size,
    /// Give answers that have no body one byte for the platform to drop: some accounts see empty streams hang.
    pub fill_bodyless: bool,
}

/// A number of bytes, written as `200 MB` or `1 GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse::<bytesize::ByteSize>() {
            Ok(size) if size.as_u64() > 0 => Ok(Self(size.as_u64())),
            _ => Err(serde::de::Error::custom(format!(
                "`{text}` is not a size above zero; write one such as `200 MB` or `1 GiB`"
            ))),
        }
    }
}

/// A length of time, written as `15s` or `2m 30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match humantime::parse_duration(&text) {
            Ok(span) if !span.is_zero() => Ok(Self(span)),
            _ => Err(serde::de::Error::custom(format!(
                "`{text}` is not a length of time above zero; write one such as `15s`, `500ms` or `2m`"
            ))),
        }
    }
}

fn header_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderName, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| serde::de::Error::custom(format!("`{text}` is not a header name")))
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, SocketAddr>, D::Error> {
    let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
    let read = |(name, text): (String, String)| match text.parse() {
        Ok(address) => Ok((name, address)),
        Err(_) => Err(serde::de::Error::custom(format!(
            "`{text}` is not an address with a port; write one such as `10.1.2.3:443` or `[fd00::1]:443`"
        ))),
    };
    texts.into_iter().map(read).collect()
}

const fn secs(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            policy: "policy".into(),
            log: LogFormat::Auto,
            max_connections: 4096,
            max_connections_per_client: 1024,
            shutdown_grace: secs(60),
            client: ClientConfig::default(),
            origin: OriginConfig::default(),
            timeouts: Timeouts::default(),
            secrets: SecretsConfig::default(),
            lambda: LambdaConfig::default(),
        }
    }
}

impl Default for SecretsConfig {
    fn default() -> Self {
        Self { max_age: secs(300), retry: secs(30), timeout: secs(5) }
    }
}

impl Default for LambdaConfig {
    /// The platform's own quota for a streamed response.
    fn default() -> Self {
        Self { max_bytes: Size(200_000_000), fill_bodyless: false }
    }
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self { trusted_proxies: Vec::new(), address_header: HeaderName::from_static("x-forwarded-for") }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            resolve: secs(5),
            connect: secs(5),
            first_byte: secs(20),
            idle: secs(30),
            transfer: secs(3600),
            client_head: secs(15),
            client_write: secs(60),
            key_set_age: secs(600),
            key_set_retry: secs(30),
        }
    }
}

/// Every setting with the help that the command line prints: its path, and whether it is a list.
pub const SETTINGS: [(&str, &str); 26] = [
    ("listen", "where the server listens: `127.0.0.1:8080`"),
    ("policy", "the folder of policy files: `policy`"),
    ("log", "`auto` (text on a terminal, JSON elsewhere), `json` or `text`"),
    ("max_connections", "the most client connections at once: `4096`"),
    ("max_connections_per_client", "the most of one client address, trusted proxies excepted: `1024`"),
    ("shutdown_grace", "how long running downloads may go on after a request to stop: `60s`"),
    ("client.trusted_proxies", "list of networks whose address header is believed; none"),
    ("client.address_header", "the header in which those append the client's address: `x-forwarded-for`"),
    (
        "origin.open",
        "list of addresses or networks, with or without port, that may be fetched from although they are not public; none",
    ),
    (
        "origin.hosts",
        "only in the file: a table of names and the address and port each is connected to, in place of DNS; none",
    ),
    ("origin.resolver", "list of name servers in place of the system's"),
    ("origin.ca_file", "certificates (PEM) that are trusted beside the system's"),
    ("timeouts.resolve", "resolving an upstream's name: `5s`"),
    ("timeouts.connect", "connecting to an upstream, TLS included: `5s`"),
    ("timeouts.first_byte", "from connection to response head: `20s`"),
    ("timeouts.idle", "between two pieces of an upstream's body: `30s`"),
    ("timeouts.transfer", "the whole transfer: `1h`"),
    ("timeouts.client_head", "for a client to send its request head: `15s`"),
    ("timeouts.client_write", "for a client to take anything while a body is sent: `60s`"),
    ("timeouts.key_set_age", "the age at which fetched token keys are fetched again: `10m`"),
    ("timeouts.key_set_retry", "the shortest time between two fetches of one key set: `30s`"),
    ("secrets.max_age", "the age at which secrets kept in AWS are fetched again: `5m`"),
    ("secrets.retry", "the shortest time between two such fetches: `30s`"),
    ("secrets.timeout", "one such fetch: `5s`"),
    ("lambda.max_bytes", "the largest body that the function answers with: `200 MB`"),
    (
        "lambda.fill_bodyless",
        "`true` gives HEAD, 204 and 304 one byte for the platform to drop, where empty streams hang: `false`",
    ),
];

/// Settings that are lists in the environment.
const LISTS: [&str; 3] = ["client.trusted_proxies", "origin.open", "origin.resolver"];

/// The environment variable of a setting.
pub fn variable(setting: &str) -> String {
    format!("SLUICEGATE_{}", setting.replace('.', "_").to_ascii_uppercase())
}

impl Config {
    /// Reads `file` if there is one, then what `lookup` knows of the environment.
    pub fn load(file: Option<&Path>, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut table = match file {
            None => toml::Table::new(),
            Some(path) => {
                let name = path.display();
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("cannot read `{name}`: {error}"))?;
                // Read once on its own, so that a mistake is shown where it stands.
                toml::from_str::<Self>(&text).map_err(|error| format!("in `{name}`: {error}"))?;
                text.parse().map_err(|error| format!("in `{name}`: {error}"))?
            }
        };
        for (setting, _) in SETTINGS.iter().filter(|(setting, _)| *setting != "origin.hosts") {
            let variable = variable(setting);
            if let Some(text) = lookup(&variable) {
                let value = from_text(setting, &text);
                let mut alone = toml::Table::new();
                insert(&mut alone, setting, value.clone());
                Self::deserialize(alone)
                    .map_err(|error| format!("in environment variable `{variable}`: {}", error.message()))?;
                insert(&mut table, setting, value);
            }
        }
        Self::deserialize(table).map_err(|error| error.message().to_owned())
    }
}

fn from_text(setting: &str, text: &str) -> toml::Value {
    if LISTS.contains(&setting) {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        return toml::Value::Array(items.map(|item| item.to_owned().into()).collect());
    }
    match (setting, text.parse::<i64>(), text.parse::<bool>()) {
        (count, Ok(number), _) if count.starts_with("max_connections") => toml::Value::Integer(number),
        ("lambda.fill_bodyless", _, Ok(yes)) => toml::Value::Boolean(yes),
        _ => toml::Value::String(text.to_owned()),
    }
}

fn insert(table: &mut toml::Table, setting: &str, value: toml::Value) {
    match setting.split_once('.') {
        None => drop(table.insert(setting.to_owned(), value)),
        Some((section, name)) => {
            let entry = table.entry(section).or_insert_with(|| toml::Table::new().into());
            if let Some(section) = entry.as_table_mut() {
                section.insert(name.to_owned(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_and_says_what_is_wrong() {
        let env = |name: &str| match name {
            "SLUICEGATE_TIMEOUTS_IDLE" => Some("250ms".to_owned()),
            "SLUICEGATE_ORIGIN_OPEN" => Some("127.0.0.1:8081, 10.0.0.0/8".to_owned()),
            "SLUICEGATE_MAX_CONNECTIONS" => Some("7".to_owned()),
            _ => None,
        };
        let config = Config::load(None, &env).unwrap();
        assert_eq!(config.timeouts.idle.0, Duration::from_millis(250));
        assert_eq!((config.origin.open.len(), config.max_connections), (2, 7));
        for (name, value) in [
            ("SLUICEGATE_LISTEN", "8080"),
            ("SLUICEGATE_TIMEOUTS_IDLE", "soon"),
            ("SLUICEGATE_ORIGIN_OPEN", "0.0.0.0/0"),
            ("SLUICEGATE_LOG", "xml"),
            ("SLUICEGATE_CLIENT_TRUSTED_PROXIES", "proxy"),
            ("SLUICEGATE_LAMBDA_MAX_BYTES", "much"),
            ("SLUICEGATE_LAMBDA_FILL_BODYLESS", "maybe"),
        ] {
            let error = Config::load(None, &|asked| (asked == name).then(|| value.to_owned())).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn every_setting_can_be_set_and_no_other() {
        for (setting, _) in SETTINGS {
            let mut table = toml::Table::new();
            insert(&mut table, setting, toml::Value::Float(0.5));
            let error = Config::deserialize(table).unwrap_err().to_string();
            assert!(!error.contains("unknown field"), "{setting}: {error}");
        }
        assert!(
            toml::from_str::<Config>("[timeouts]\nidel = \"1s\"")
                .unwrap_err()
                .message()
                .contains("unknown field `idel`")
        );
    }
}
