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
}

impl SecretRef {
    /// Reads a reference.
    pub fn parse(text: &str) -> Result<Self, String> {
        const HELP: &str = "write `env:NAME` or `file:PATH`; the secret itself never stands in a policy file";
        match text.split_once(':') {
            Some(("env", name)) if is_variable(name) => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() && !path.contains('\0') => {
                Ok(Self::File(path.to_owned()))
            }
            Some((kind @ ("env" | "file"), _)) => Err(format!("nothing usable follows `{kind}:`; {HELP}")),
            // Whatever else stands here may be a secret: it is not repeated.
            _ => Err(format!("this is not a reference to a secret; {HELP}")),
        }
    }
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
