//! Fetches what a policy refers to: variables, files, and secrets kept in AWS. Errors name the reference, never the secret.

mod aws;
mod vault;

use std::io::{ErrorKind, Read as _};
use std::path::Path;

use secrecy::SecretString;

use super::config::SecretsConfig;
use crate::gate::policy::{SecretFault, SecretRef};

pub use vault::Vault;

/// The largest secret file that is read, in bytes; PEM keys of 8192 bits fit.
pub(in crate::wire) const MAX_BYTES: u64 = 16 * 1024;

/// One secret as `vault` has it; a file is relative to `folder`.
pub(in crate::wire) fn fetch(
    reference: &SecretRef,
    folder: &Path,
    vault: &Vault,
) -> Result<SecretString, SecretFault> {
    if reference.is_remote() {
        return vault.remote(reference);
    }
    vault.local(reference, || read(reference, folder))
}

/// A secret of the operator's own, from the environment or a file; a relative one is relative to the working directory.
#[cfg(feature = "server")]
pub(in crate::wire) fn read_here(reference: &SecretRef) -> Result<SecretString, String> {
    read(reference, Path::new(""))
}

fn read(reference: &SecretRef, folder: &Path) -> Result<SecretString, String> {
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
        SecretRef::File(path) => read_file(folder, path),
        SecretRef::SecretsManager { .. } | SecretRef::Parameter(_) => {
            Err(format!("`{reference}` is kept in AWS"))
        }
    }
}

/// Fetches one secret by itself, for a command that needs no policy; a file is relative to `folder`.
pub async fn fetch_alone(
    reference: &SecretRef,
    folder: &Path,
    config: &SecretsConfig,
) -> Result<SecretString, String> {
    let vault = Vault::new(config);
    let mut found = fetch(reference, folder, &vault);
    if vault.fetch_missing().await {
        found = fetch(reference, folder, &vault);
    }
    found.map_err(|fault| match fault {
        SecretFault::Wrong(why) | SecretFault::LeftOut { why, .. } => why,
    })
}

/// Reads a text file of at most `most` bytes. Pipes and devices are refused: they could keep a reload waiting for ever.
pub(in crate::wire) fn read_regular(path: &Path, most: u64) -> Result<String, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    // Room for all of it at once; otherwise the first reads are of 32 bytes.
    let room = usize::try_from(metadata.len().min(most)).unwrap_or_default().saturating_add(1);
    let mut text = String::with_capacity(room);
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(most.saturating_add(1)).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > most {
        return Err(format!("it is larger than {most} bytes"));
    }
    Ok(text)
}

fn read_file(folder: &Path, name: &str) -> Result<SecretString, String> {
    let mut text = read_regular(&folder.join(name), MAX_BYTES).map_err(|why| {
        let missing =
            std::fs::metadata(folder.join(name)).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        let next = if missing { "; put the secret there, `sluicegate keys new` makes one" } else { "" };
        format!("cannot read `{name}` in `{}`: {why}{next}", folder.display())
    })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text.into())
}
