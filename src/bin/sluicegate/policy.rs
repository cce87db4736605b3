//! `policy check` and `policy schema`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use sluicegate::gate::policy::{PolicyFile, PolicyProblem, PolicyProblems};
use sluicegate::wire::config::SecretsConfig;
use sluicegate::wire::policies::PolicyStore;

use crate::output::{print, print_json};
use crate::{Failure, Verdict};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Policy,
}

#[derive(Subcommand)]
enum Policy {
    /// Read a policy folder as the server would, secrets included, and show every mistake
    Check {
        /// The folder, or one file of it
        #[arg(default_value = "policy", env = "SLUICEGATE_POLICY")]
        folder: PathBuf,
        /// Do not ask AWS for the secrets that are kept there
        #[arg(long)]
        offline: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of a policy file, for editors
    Schema,
}

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    match &args.command {
        Policy::Check { folder, offline, json } => {
            let found = if *offline { inspect(folder) } else { look_up(folder)? };
            report(folder, &found, *json)
        }
        Policy::Schema => {
            let schema =
                serde_json::to_value(schemars::schema_for!(PolicyFile)).map_err(|error| error.to_string())?;
            print_json(&schema)
        }
    }
}

/// What a check found.
#[derive(Default)]
struct Found {
    tenants: usize,
    keys: usize,
    problems: Vec<PolicyProblem>,
    /// Secrets kept in AWS that were not asked for.
    skipped: usize,
}

fn look_up(folder: &Path) -> Result<Found, Failure> {
    let opened = crate::serve::runtime()?.block_on(PolicyStore::open(folder, &SecretsConfig::default()));
    Ok(match opened {
        Ok(store) => {
            let set = store.current();
            let problems = set.left_out().to_vec();
            Found { tenants: set.tenants().count(), keys: set.key_count(), problems, ..Found::default() }
        }
        Err(problems) => Found { problems: problems.0, ..Found::default() },
    })
}

fn inspect(folder: &Path) -> Found {
    let (problems, skipped) = PolicyStore::inspect(folder);
    Found { problems: problems.0, skipped, ..Found::default() }
}

fn report(folder: &Path, found: &Found, json: bool) -> Result<Verdict, Failure> {
    let ok = found.problems.is_empty();
    if json {
        let list: Vec<_> = found
            .problems
            .iter()
            .map(|p| serde_json::json!({ "file": p.file, "line": p.line, "column": p.column, "message": p.message }))
            .collect();
        let mut value = serde_json::json!({ "ok": ok, "problems": list });
        if let Some(object) = value.as_object_mut() {
            if found.skipped > 0 {
                object.insert("secrets_not_fetched".to_owned(), found.skipped.into());
            } else if ok {
                object.insert("tenants".to_owned(), found.tenants.into());
                object.insert("keys".to_owned(), found.keys.into());
            }
        }
        print_json(&value)?;
    } else if !ok {
        let problems = PolicyProblems(found.problems.clone());
        print(&format!("{problems}\n\n{}\n", count(found.problems.len(), "mistake")))?;
    } else if found.skipped > 0 {
        let skipped = count(found.skipped, "secret");
        print(&format!("{}: no mistakes; {skipped} kept in AWS not fetched\n", folder.display()))?;
    } else {
        let (tenants, keys) = (count(found.tenants, "tenant"), count(found.keys, "key"));
        print(&format!("{}: {tenants}, {keys}, no mistakes\n", folder.display()))?;
    }
    Ok(if ok { Verdict::Good } else { Verdict::Bad })
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
