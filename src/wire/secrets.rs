//! Fetches what a policy refers to: `env:NAME` and `file:PATH`. Errors name the reference, never the secret.

use std::path::Path;

use secrecy::SecretString;

use crate::gate::policy::SecretRef;

/// The largest secret file that is read, in bytes; PEM keys of 8192 bits fit.
const MAX_BYTES: u64 = 16 * 1024;

/// Fetches one secret; files are relative to `folder`.
pub fn fetch(reference: &SecretRef, folder: &Path) -> Result<SecretString, String> {
    match reference {
        SecretRef::Env(name) => match std::env::var(name) {
            Ok(value) => Ok(value.into()),
            Err(std::env::VarError::NotPresent) => {
                Err(format!("environment variable `{name}` is not set; set it before starting"))
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(format!("environment variable `{name}` is not UTF-8 text"))
            }
        },
        SecretRef::File(path) => read_file(&folder.join(path), path),
    }
}

fn read_file(path: &Path, name: &str) -> Result<SecretString, String> {
    let cannot = |why: &dyn std::fmt::Display| format!("cannot read `{name}` in the policy folder: {why}");
    let size = std::fs::metadata(path).map_err(|error| cannot(&error))?.len();
    if size > MAX_BYTES {
        return Err(cannot(&"it is larger than 16 KiB"));
    }
    let mut text = std::fs::read_to_string(path).map_err(|error| cannot(&error))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text.into())
}
