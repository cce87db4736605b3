//! Settings of what is reported: metrics, traces and usage.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use crate::gate::id::TenantName;
use crate::wire::metrics::{MAX_TENANTS, NONE, OTHER};

/// What is measured, and where it goes.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Where the server answers `/metrics`; nowhere without it.
    pub listen: Option<SocketAddr>,
    /// The namespace of the function's metrics in CloudWatch; none are written if it is empty.
    #[serde(deserialize_with = "namespace")]
    pub namespace: String,
    /// Tenants with series of their own.
    #[serde(deserialize_with = "measured_tenants")]
    pub tenants: Vec<TenantName>,
}

/// Traces, in a build with the feature `otlp`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracesConfig {
    /// The OTLP collector, such as `http://collector:4318`; none without it.
    pub endpoint: Option<Endpoint>,
    /// Which part of the requests is traced.
    #[serde(deserialize_with = "ratio")]
    pub sample: f64,
}

/// Where usage is kept, beside the log.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UsageConfig {
    /// The file that the server appends decision records to; none without it.
    #[serde(deserialize_with = "file")]
    pub file: Option<PathBuf>,
}

/// The address of a collector: http or https, without user, query or fragment.
#[derive(Debug, Clone)]
pub struct Endpoint(url::Url);

impl Endpoint {
    /// As a URL.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let plain = |url: &url::Url| {
            ["http", "https"].contains(&url.scheme())
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        };
        text.parse().ok().filter(plain).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{text}` is no collector; write one such as `http://collector:4318`"
            ))
        })
    }
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { listen: None, namespace: "Sluicegate".to_owned(), tenants: Vec::new() }
    }
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self { endpoint: None, sample: 1.0 }
    }
}

/// As CloudWatch takes it (PutMetricData's `Namespace`).
fn namespace<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/#:".contains(&byte);
    if text.len() <= 255 && text.bytes().all(fits) && !text.starts_with("AWS/") {
        return Ok(text);
    }
    Err(serde::de::Error::custom(format!(
        "`{text}` is no CloudWatch namespace; write up to 255 of a-z, A-Z, 0-9 and `._-/#:`, not beginning with `AWS/`"
    )))
}

fn file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Err(serde::de::Error::custom(
            "`` is no file; write a path such as `/var/lib/sluicegate/usage.jsonl`, or leave the setting out",
        ));
    }
    Ok(Some(text.into()))
}

fn measured_tenants<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TenantName>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    if texts.len() > MAX_TENANTS {
        return Err(serde::de::Error::custom(format!(
            "`metrics.tenants` names {} tenants; name at most {MAX_TENANTS}, the others are counted together as `{OTHER}`",
            texts.len()
        )));
    }
    let read = |text: &String| match TenantName::parse(text) {
        Ok(name) if ![OTHER, NONE].contains(&name.as_str()) => Ok(name),
        Ok(_) => Err(serde::de::Error::custom(format!(
            "`{text}` has a meaning of its own in metrics; leave it out"
        ))),
        Err(fault) => Err(serde::de::Error::custom(fault)),
    };
    texts.iter().map(read).collect()
}

fn ratio<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let number = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&number) {
        return Ok(number);
    }
    Err(serde::de::Error::custom(format!(
        "`{number}` is no part of the requests; write a number from 0 to 1"
    )))
}
