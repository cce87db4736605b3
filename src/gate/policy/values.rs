//! Values that policy and configuration share: durations, sizes, moments, references to secrets.

use std::time::Duration;

use toml::value::Datetime;

use crate::gate::id::UnixTime;

/// Where a secret is kept. The secret itself never stands in a policy file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SecretRef {
    /// `env:NAME`: an environment variable.
    Env(String),
    /// `file:PATH`: a file, relative to the policy folder; one trailing newline is not part of the secret.
    File(String),
    /// `secretsmanager:NAME` or `secretsmanager:NAME#FIELD`: a secret in AWS Secrets Manager, or one field of a secret
    /// that is a JSON object. The name may be an ARN.
    SecretsManager {
        /// Name or ARN.
        name: String,
        /// The member of the JSON object; the whole secret if there is none.
        field: Option<String>,
    },
    /// `ssm:NAME`: a parameter in AWS Systems Manager Parameter Store. The name may be an ARN.
    Parameter(String),
}

/// Why there is no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretFault {
    /// A mistake of whoever wrote the policy or runs the gateway: the whole set is refused.
    Wrong(String),
    /// Where it is kept, it is not, or not any more: what needs it is left out of the set, and nothing else.
    LeftOut {
        /// What its keeper said.
        why: String,
        /// Was it there, and its keeper cannot be asked any more?
        stale: bool,
    },
}

impl From<String> for SecretFault {
    fn from(text: String) -> Self {
        Self::Wrong(text)
    }
}

impl std::fmt::Display for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::SecretsManager { name, field: None } => write!(f, "secretsmanager:{name}"),
            Self::SecretsManager { name, field: Some(field) } => write!(f, "secretsmanager:{name}#{field}"),
            Self::Parameter(name) => write!(f, "ssm:{name}"),
        }
    }
}

impl SecretRef {
    /// Reads a reference.
    pub fn parse(text: &str) -> Result<Self, String> {
        const HELP: &str = "write `env:NAME`, `file:PATH`, `secretsmanager:NAME`, `secretsmanager:NAME#FIELD` or \
                            `ssm:NAME`; the secret itself never stands in a policy file";
        match text.split_once(':') {
            Some(("env", name)) if is_variable(name) => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() && !path.contains('\0') => {
                Ok(Self::File(path.to_owned()))
            }
            Some(("secretsmanager", rest)) if is_secret_name(rest) => {
                let (name, field) =
                    rest.split_once('#').map_or((rest, None), |(name, field)| (name, Some(field)));
                Ok(Self::SecretsManager { name: name.to_owned(), field: field.map(str::to_owned) })
            }
            Some(("ssm", name)) if is_parameter_name(name) => Ok(Self::Parameter(name.to_owned())),
            Some(("ssm", name)) if name.contains('#') => {
                Err(format!("a parameter has no `#FIELD`, only `secretsmanager:` does; {HELP}"))
            }
            Some((kind @ ("env" | "file" | "secretsmanager" | "ssm"), _)) => {
                Err(format!("nothing usable follows `{kind}:`; {HELP}"))
            }
            Some(("arn", _)) => Err(format!("write `secretsmanager:` or `ssm:` in front of the ARN; {HELP}")),
            Some((kind, _)) if kind.to_ascii_lowercase().starts_with("secret") => {
                Err(format!("did you mean `secretsmanager:`? {HELP}"))
            }
            // Whatever else stands here may be a secret: it is not repeated.
            _ => Err(format!("this is not a reference to a secret; {HELP}")),
        }
    }
}

impl SecretRef {
    /// Is it kept where only the network reaches?
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::SecretsManager { .. } | Self::Parameter(_))
    }
}

/// The characters that Secrets Manager takes in a name or an ARN, and a field that is not empty.
fn is_secret_name(text: &str) -> bool {
    let (name, field) = text.split_once('#').map_or((text, None), |(name, field)| (name, Some(field)));
    (1..=2048).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+=.@-:".contains(&b))
        && field.is_none_or(|field| !field.is_empty() && !field.chars().any(char::is_control))
}

/// The characters that Parameter Store takes in a name or an ARN.
fn is_parameter_name(name: &str) -> bool {
    (1..=2048).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_.-:".contains(&b))
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Reads a length of time such as `7d` or `1h 30m`; zero is refused.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.as_secs() > 0 => Ok(duration),
        _ => Err(format!(
            "`{text}` is not a length of time of a second or more; write one such as `15m`, `12h` or `7d`"
        )),
    }
}

/// Reads a size such as `200 MB` (10^6) or `1 GiB` (2^30); zero is refused.
pub(super) fn size(text: &str) -> Result<u64, String> {
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) if size.as_u64() > 0 => Ok(size.as_u64()),
        _ => Err(format!("`{text}` is not a size above zero; write one such as `200 MB` or `1 GiB`")),
    }
}

/// Reads a TOML date-time with an offset.
pub(super) fn moment(value: &Datetime) -> Result<UnixTime, String> {
    let text = value.to_string();
    text.parse::<jiff::Timestamp>()
        .ok()
        .and_then(|moment| u64::try_from(moment.as_second()).ok())
        .map(UnixTime)
        .ok_or_else(|| {
            format!("`{text}` is not a moment; write date, time and offset such as `2027-01-31T00:00:00Z`")
        })
}
