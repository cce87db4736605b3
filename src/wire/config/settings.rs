//! Where settings come from: the file, and the environment, which wins. One table says what there is, in the order in
//! which the command line prints it.

use std::path::Path;

use serde::Deserialize as _;

use super::Config;
use crate::gate::policy::next_step;

/// Every setting with the help that the command line prints: its path, and whether it is a list.
pub const SETTINGS: [(&str, &str); 40] = [
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
    ("origin.ca_file", "certificates (PEM) that are trusted beside the roots"),
    (
        "origin.roots",
        "root certificates: `system`, or `bundled` with the program, the default on Lambda: `system`",
    ),
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
    ("limits.store", "where limits are counted: `process`, `dynamodb:TABLE` or a `redis://` URL: `process`"),
    ("limits.password", "reference to the password of a Redis server, such as `env:REDIS_PASSWORD`; none"),
    ("limits.timeout", "one question to such a store: `250ms`"),
    ("limits.retry", "how long a store that failed is left alone: `1s`"),
    ("limits.lease", "how long a download's place counts after its process died: `60s`"),
    ("limits.batch", "the most requests of one key that are paid with one question; 1 is exact: `1`"),
    ("lambda.max_bytes", "the largest body that the function answers with: `200 MB`"),
    (
        "lambda.fill_bodyless",
        "`true` gives HEAD, 204 and 304 one byte for the platform to drop, where empty streams hang: `false`",
    ),
    (
        "edge.shared_cache",
        "`true` where a cache in front verifies every link itself, as CloudFront does with the functions in `edge/`: `false`",
    ),
    ("metrics.listen", "where the server answers `/metrics` for Prometheus; nowhere"),
    ("metrics.namespace", "the function's metrics in CloudWatch, none if empty: `Sluicegate`"),
    ("metrics.tenants", "list of at most 100 tenants with metrics of their own; none"),
    (
        "traces.endpoint",
        "the OTLP collector, in a build with the feature `otlp`: `http://collector:4318`; none",
    ),
    ("traces.sample", "which part of the requests is traced: `1.0`"),
    (
        "usage.file",
        "where the server appends the decision record of each request that proved a tenant; nowhere",
    ),
];

/// Settings that are lists in the environment.
const LISTS: [&str; 4] = ["client.trusted_proxies", "origin.open", "origin.resolver", "metrics.tenants"];

const PREFIX: &str = "SLUICEGATE_";

/// Variables of the program that are no settings.
const OTHERS: [&str; 3] = ["SLUICEGATE_CONFIG", "SLUICEGATE_LOG_FILTER", "SLUICEGATE_EDGE_STORE"];

/// The environment variable of a setting.
pub fn variable(setting: &str) -> String {
    format!("{PREFIX}{}", setting.replace('.', "_").to_ascii_uppercase())
}

/// Which of these environment variables look like settings and are none. Only those that begin like one: others with the
/// prefix belong to clients and scripts, or come from Kubernetes, which has a `SLUICEGATE_PORT` for a service of this name.
pub fn misspelt(names: impl Iterator<Item = String>) -> Vec<String> {
    let first = |rest: &str| rest.split('_').next().unwrap_or_default().to_owned();
    let known: Vec<String> =
        SETTINGS.iter().map(|(setting, _)| variable(setting)).chain(OTHERS.map(str::to_owned)).collect();
    let beginnings: Vec<String> =
        known.iter().filter_map(|variable| variable.strip_prefix(PREFIX)).map(first).collect();
    let mut found: Vec<String> = names
        .filter(|name| !known.contains(name))
        .filter(|name| name.strip_prefix(PREFIX).is_some_and(|rest| beginnings.contains(&first(rest))))
        .collect();
    found.sort();
    found
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
                toml::from_str::<Self>(&text).map_err(|error| {
                    // It ends with a line break, behind the line that it shows.
                    let next =
                        next_step(error.message()).map_or_else(String::new, |next| format!("next: {next}\n"));
                    format!("in `{name}`: {error}{next}")
                })?;
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
        (count, Ok(number), _) if count.starts_with("max_connections") || count == "limits.batch" => {
            toml::Value::Integer(number)
        }
        ("lambda.fill_bodyless" | "edge.shared_cache", _, Ok(yes)) => toml::Value::Boolean(yes),
        ("traces.sample", ..) if text.parse::<f64>().is_ok() => {
            toml::Value::Float(text.parse().unwrap_or_default())
        }
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
    use std::time::Duration;

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
            ("SLUICEGATE_EDGE_SHARED_CACHE", "1"),
            ("SLUICEGATE_LIMITS_STORE", "memory"),
            ("SLUICEGATE_LIMITS_LEASE", "10ms"),
            ("SLUICEGATE_LIMITS_BATCH", "0"),
            ("SLUICEGATE_METRICS_NAMESPACE", "a b"),
            ("SLUICEGATE_METRICS_TENANTS", "acme, other"),
            ("SLUICEGATE_METRICS_TENANTS", "A"),
            ("SLUICEGATE_TRACES_ENDPOINT", "collector:4318"),
            ("SLUICEGATE_TRACES_SAMPLE", "1.5"),
            ("SLUICEGATE_TRACES_SAMPLE", "half"),
            ("SLUICEGATE_USAGE_FILE", ""),
            ("SLUICEGATE_METRICS_TENANTS", &["t"; 101].join(",")),
        ] {
            let error = Config::load(None, &|asked| (asked == name).then(|| value.to_owned())).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn variables_that_look_like_settings_are_told() {
        let names = [
            "PATH",
            "SLUICEGATE_TIMEOUTS_IDLE",
            "SLUICEGATE_TIMEOUTS_IDEL",
            "SLUICEGATE_MAX_CONECTIONS",
            "SLUICEGATE_LOG_FILTER",
            "SLUICEGATE_CONFIG",
            "SLUICEGATE_SECRET",
            "SLUICEGATE_PORT_8080_TCP_ADDR",
            "SLUICEGATE_SERVICE_HOST",
        ];
        let found = misspelt(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(found, ["SLUICEGATE_MAX_CONECTIONS", "SLUICEGATE_TIMEOUTS_IDEL"]);
    }

    #[test]
    fn nobody_is_locked_out_by_a_zero() {
        for name in ["SLUICEGATE_MAX_CONNECTIONS", "SLUICEGATE_MAX_CONNECTIONS_PER_CLIENT"] {
            let error = Config::load(None, &|asked| (asked == name).then(|| "0".to_owned())).unwrap_err();
            assert!(error.contains(name) && error.contains("above zero"), "{error}");
        }
    }

    #[test]
    fn every_setting_can_be_set_and_no_other() {
        for (setting, _) in SETTINGS {
            let mut table = toml::Table::new();
            insert(&mut table, setting, toml::Value::Float(-0.5));
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
