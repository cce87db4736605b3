//! `edge export` and `edge sync`: from policies to what the edge verifies with.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use secrecy::ExposeSecret as _;
use sluicegate::gate::edge::{Entries, MAX_STORE_BYTES};
use sluicegate::gate::policy::PolicyProblems;
use sluicegate::wire::config::SecretsConfig;
use sluicegate::wire::edge::{Extent, Synced, sync};
use sluicegate::wire::policies::PolicyStore;

use crate::output::{print, print_json};
use crate::{Failure, Verdict};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Edge,
}

#[derive(Subcommand)]
enum Edge {
    /// Write what the edge's key-value store must hold, as JSON that a KeyValueStore imports; it contains the secrets
    Export {
        /// The policy folder, or one file of it
        #[arg(long, value_name = "FOLDER", default_value = "policy", env = "SLUICEGATE_POLICY")]
        policy: PathBuf,
        /// The file to write, which only you may read; `-` for standard output
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Print what was written as JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring the policies into the KeyValueStore that the edge reads: what changed, in an order that opens no gap
    Sync {
        /// The ARN of the store; the stack's output `EdgeStore`
        #[arg(long, value_name = "ARN", env = "SLUICEGATE_EDGE_STORE")]
        store: String,
        /// The policy folder: all tenants; what is not in it is taken from the store
        #[arg(long, value_name = "FOLDER", default_value = "policy", env = "SLUICEGATE_POLICY")]
        policy: PathBuf,
        /// Say how much would change, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Take away the last key too: from then on the edge refuses every link
        #[arg(long)]
        allow_empty: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    match &args.command {
        Edge::Export { policy, out, json } => export(policy, out, *json),
        Edge::Sync { store, policy, dry_run, allow_empty, json } => {
            let extent = Extent { dry_run: *dry_run, allow_empty: *allow_empty };
            synchronise(store, policy, extent, *json)
        }
    }
}

fn export(policy: &Path, out: &Path, json: bool) -> Result<Verdict, Failure> {
    let entries = match entries(policy)? {
        Ok(entries) => entries,
        Err(problems) => return problems_of(policy, &problems),
    };
    let document = document(&entries);
    if out == Path::new("-") {
        return print(&document);
    }
    write_private(out, &document)?;
    let (count, bytes) = (entries.len(), size(&entries));
    if json {
        return print_json(&serde_json::json!({ "entries": count, "bytes": bytes }));
    }
    print(&format!("{}: {count} entries, {bytes} bytes; it contains the signing secrets\n", out.display()))
}

fn synchronise(store: &str, policy: &Path, extent: Extent, json: bool) -> Result<Verdict, Failure> {
    if policy.is_file() {
        let file = policy.display();
        return Err(format!(
            "`{file}` is one tenant's policy, and every other tenant's keys would be taken away; name the whole folder"
        ));
    }
    let entries = match entries(policy)? {
        Ok(entries) => entries,
        Err(problems) => return problems_of(policy, &problems),
    };
    let Synced { written, deleted, unchanged, foreign, updates, calls, bytes } =
        crate::serve::runtime()?.block_on(sync(store, &entries, extent))?;
    if json {
        return print_json(&serde_json::json!({
            "dry_run": extent.dry_run, "written": written, "deleted": deleted, "unchanged": unchanged,
            "foreign": foreign, "updates": updates, "calls": calls, "bytes": bytes,
        }));
    }
    let done = if extent.dry_run { "would be" } else { "were" };
    print(&format!(
        "{written} entries {done} written, {deleted} deleted, {unchanged} are as they should be; the store holds \
         {bytes} of {MAX_STORE_BYTES} bytes\n"
    ))?;
    if foreign > 0 {
        print(&format!("{foreign} entries are not the edge's and {done} left alone\n"))?;
    }
    Ok(Verdict::Good)
}

/// The entries for a folder, or its mistakes. A missing secret is one too: its links would be refused at the edge.
fn entries(policy: &Path) -> Result<Result<Entries, PolicyProblems>, Failure> {
    let runtime = crate::serve::runtime()?;
    let store = match runtime.block_on(PolicyStore::open(policy, &SecretsConfig::default())) {
        Ok(store) => store,
        Err(problems) => return Ok(Err(problems)),
    };
    let left_out = store.current().left_out().to_vec();
    if !left_out.is_empty() {
        return Ok(Err(PolicyProblems(left_out)));
    }
    store.edge_entries().map(Ok).map_err(|error| error.to_string())
}

fn problems_of(policy: &Path, problems: &PolicyProblems) -> Result<Verdict, Failure> {
    // Not on standard output, where the entries may go.
    let text =
        format!("{problems}\n\nnothing was written; correct what stands above in `{}`\n", policy.display());
    std::io::stderr().write_all(text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(Verdict::Bad)
}

/// The format that CloudFront imports into a KeyValueStore.
fn document(entries: &Entries) -> String {
    let data: Vec<_> = entries
        .iter()
        .map(|(key, value)| serde_json::json!({ "key": key, "value": value.expose_secret() }))
        .collect();
    let mut text = serde_json::json!({ "data": data }).to_string();
    text.push('\n');
    text
}

fn size(entries: &Entries) -> usize {
    entries.iter().map(|(key, value)| key.len() + value.expose_secret().len()).sum()
}

/// A file that nobody else may read, put in place whole: never half of it, never readable in between.
fn write_private(out: &Path, text: &str) -> Result<(), Failure> {
    let cannot =
        |error: std::io::Error| format!("cannot write `{}`: {error}; name another file", out.display());
    // What is put in place would take the place of a device or a pipe.
    if std::fs::symlink_metadata(out).is_ok_and(|there| !there.is_file()) {
        let out = out.display();
        return Err(format!("`{out}` is no regular file; name another, or write `-` for standard output"));
    }
    let mut beside = out.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, out)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written.map_err(cannot)
}
