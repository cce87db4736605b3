//! `policy check` and `policy schema`.

use std::path::PathBuf;

use clap::Subcommand;
use sluicegate::gate::policy::PolicyFile;
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
        /// The folder
        #[arg(default_value = "policy")]
        folder: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of a policy file, for editors
    Schema,
}

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    match &args.command {
        Policy::Check { folder, json } => check(folder, *json),
        Policy::Schema => {
            let schema =
                serde_json::to_value(schemars::schema_for!(PolicyFile)).map_err(|error| error.to_string())?;
            print_json(&schema)
        }
    }
}

fn check(folder: &std::path::Path, json: bool) -> Result<Verdict, Failure> {
    match PolicyStore::open(folder) {
        Ok(store) => {
            let set = store.current();
            let (tenants, keys) = (set.tenants().count(), set.key_count());
            if json {
                return print_json(
                    &serde_json::json!({ "ok": true, "tenants": tenants, "keys": keys, "problems": [] }),
                );
            }
            print(&format!(
                "{}: {}, {}, no mistakes\n",
                folder.display(),
                count(tenants, "tenant"),
                count(keys, "key")
            ))
        }
        Err(problems) => {
            if json {
                let list: Vec<_> = problems
                    .0
                    .iter()
                    .map(|p| serde_json::json!({ "file": p.file, "line": p.line, "column": p.column, "message": p.message }))
                    .collect();
                print_json(&serde_json::json!({ "ok": false, "problems": list }))?;
            } else {
                print(&format!("{problems}\n\n{}\n", count(problems.0.len(), "mistake")))?;
            }
            Ok(Verdict::Bad)
        }
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
