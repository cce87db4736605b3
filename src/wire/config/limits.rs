//! Where the limits are counted: in the process, or in a store that several share.

use serde::{Deserialize, Deserializer};
use url::Url;

use super::{Span, secs};
use crate::gate::policy::SecretRef;

/// Where the limits are counted, and how a store elsewhere is asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Where the counters are.
    pub store: LimitStore,
    /// The password of a Redis server.
    #[serde(deserialize_with = "password")]
    pub password: Option<SecretRef>,
    /// How long one question to a store may take.
    pub timeout: Span,
    /// How long a store that failed three times in a row is left alone.
    pub retry: Span,
    /// How long a download's place counts if its process dies. It is renewed after half of that.
    #[serde(deserialize_with = "lease")]
    pub lease: Span,
    /// The most requests of one key or tenant that are paid with one question; 1 is exact.
    #[serde(deserialize_with = "batch")]
    pub batch: u32,
}

/// Where the counters are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitStore {
    /// In the process, each for itself.
    Process,
    /// In this DynamoDB table.
    DynamoDb(String),
    /// In the Redis or Valkey server at this URL.
    Redis(String),
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            store: LimitStore::Process,
            password: None,
            timeout: Span(std::time::Duration::from_millis(250)),
            retry: secs(1),
            lease: secs(60),
            batch: 1,
        }
    }
}

impl<'de> Deserialize<'de> for LimitStore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        read(&text).map_err(serde::de::Error::custom)
    }
}

fn read(text: &str) -> Result<LimitStore, String> {
    if text == "process" {
        return Ok(LimitStore::Process);
    }
    if let Some(table) = text.strip_prefix("dynamodb:") {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if (3..=255).contains(&table.len()) && table.bytes().all(legal) {
            return Ok(LimitStore::DynamoDb(table.to_owned()));
        }
        return Err(format!(
            "`{table}` is no name of a DynamoDB table; write one such as `dynamodb:sluicegate-limits`"
        ));
    }
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "redis" | "rediss" | "valkey" | "valkeys") && url.host().is_some()
    });
    match url {
        // Not quoted: the password is in it.
        Some(url) if url.password().is_some() => {
            Err("a password does not belong in the URL; set `limits.password` to a reference such as `env:REDIS_PASSWORD`"
                .to_owned())
        }
        Some(url) if url.fragment().is_some() || url.query().is_some() => {
            Err("the URL of the store has a query or a fragment; write one such as `rediss://redis.example:6379/0`".to_owned())
        }
        Some(_) => Ok(LimitStore::Redis(text.to_owned())),
        None if text.contains('@') => {
            Err("the store is no URL; write one such as `redis://127.0.0.1:6379`, without a password".to_owned())
        }
        None => Err(format!(
            "`{text}` is no store of counters; write `process`, `dynamodb:TABLE` or `redis://127.0.0.1:6379`"
        )),
    }
}

fn password<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretRef>, D::Error> {
    let text = String::deserialize(deserializer)?;
    // Not quoted: it may be the password itself.
    let wrong = "it is no reference to a password; write one such as `env:REDIS_PASSWORD` or `file:/run/redis.password`";
    match SecretRef::parse(&text) {
        Ok(reference) if !reference.is_remote() => Ok(Some(reference)),
        _ => Err(serde::de::Error::custom(wrong)),
    }
}

fn lease<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
    let span = Span::deserialize(deserializer)?;
    if span.0 < secs(1).0 || span.0 > secs(3600).0 {
        return Err(serde::de::Error::custom("a lease lasts from `1s` to `1h`"));
    }
    Ok(span)
}

fn batch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number = u32::deserialize(deserializer)?;
    if !(1..=1000).contains(&number) {
        return Err(serde::de::Error::custom(format!(
            "`{number}` is no batch; write a number from 1 to 1000"
        )));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_and_what_is_none() {
        assert_eq!(read("process"), Ok(LimitStore::Process));
        assert_eq!(read("dynamodb:limits-1"), Ok(LimitStore::DynamoDb("limits-1".to_owned())));
        for good in ["redis://127.0.0.1:6379", "rediss://me@redis.example/3", "valkey://[::1]:7000"] {
            assert_eq!(read(good), Ok(LimitStore::Redis(good.to_owned())));
        }
        for bad in ["", "memory", "dynamodb:", "dynamodb:a b", "http://a", "redis:", "redis://h/0#insecure"] {
            let error = read(bad).unwrap_err();
            assert!(error.contains("write"), "{error}");
        }
        for secret in ["redis://:hunter2@h", "redis://me:hunter2@h:1", "redus//:hunter2@h"] {
            let error = read(secret).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_password_is_a_reference_and_is_never_quoted() {
        let read = |text: &str| toml::from_str::<LimitsConfig>(&format!("password = \"{text}\""));
        assert!(read("env:REDIS_PASSWORD").is_ok_and(|config| config.password.is_some()));
        for wrong in ["hunter2", "ssm:hunter2"] {
            let error = read(wrong).unwrap_err();
            assert!(error.message().contains("reference") && !error.message().contains("hunter2"));
        }
    }
}
