//! The operator's configuration: one file, `sluicegate.toml`, and the same settings from the environment, which wins.
//!
//! A setting `timeouts.idle` is the variable `SLUICEGATE_TIMEOUTS_IDLE`; lists are separated by commas.

mod limits;
mod reports;
mod settings;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use crate::gate::address::OpenAddress;

pub use limits::{LimitStore, LimitsConfig};
pub use reports::{Endpoint, MetricsConfig, TracesConfig, UsageConfig};
pub use settings::{SETTINGS, misspelt, variable};

/// Everything an operator can set.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the server listens.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// The folder of policy files.
    pub policy: PathBuf,
    /// How log lines look.
    pub log: LogFormat,
    /// The most client connections at once; further ones wait.
    #[serde(deserialize_with = "count")]
    pub max_connections: usize,
    /// The most connections of one client address at once; further ones are closed. Trusted proxies are exempt.
    #[serde(deserialize_with = "count")]
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
    /// Where the limits are counted.
    pub limits: LimitsConfig,
    /// The function on AWS Lambda.
    pub lambda: LambdaConfig,
    /// What stands in front.
    pub edge: EdgeConfig,
    /// What is measured, and where it goes.
    pub metrics: MetricsConfig,
    /// Traces, in a build that has them.
    pub traces: TracesConfig,
    /// Where usage is kept.
    pub usage: UsageConfig,
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
    #[serde(deserialize_with = "networks")]
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
    /// Certificates (PEM) that are trusted beside the roots.
    pub ca_file: Option<PathBuf>,
    /// Whose root certificates are trusted; the system's, but on Lambda those in the program.
    pub roots: Option<Roots>,
}

/// Root certificates that upstreams' certificates lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Roots {
    /// The system's store, read once.
    System,
    /// Mozilla's list as it was when the program was built.
    Bundled,
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

/// What stands in front of the gateway.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeConfig {
    /// Is there a shared cache in front that verifies every link before it answers from what it holds, as the functions in
    /// `edge/` do? Only then are answers marked for it.
    pub shared_cache: bool,
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

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let read = |text: &String| {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| {
            serde::de::Error::custom(format!(
                "`{text}` is no address and no network; write one such as `10.0.0.7` or `10.0.0.0/24`"
            ))
        })
    };
    Vec::<String>::deserialize(deserializer)?.iter().map(read).collect()
}

/// Reads an address to listen on. Names are not looked up: one may have several addresses, or none that is meant.
pub fn read_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is not an address with a port; write one such as `127.0.0.1:8080` or `[::1]:8080`")
    })
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    read_address(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        0 => {
            Err(serde::de::Error::custom("`0` would let nobody in; write a number of connections above zero"))
        }
        count => Ok(count),
    }
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
            limits: LimitsConfig::default(),
            lambda: LambdaConfig::default(),
            edge: EdgeConfig::default(),
            metrics: MetricsConfig::default(),
            traces: TracesConfig::default(),
            usage: UsageConfig::default(),
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
