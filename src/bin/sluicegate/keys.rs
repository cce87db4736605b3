//! `keys new`: a secret with 256 random bits behind a prefix that secret scanners know.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Subcommand;
use sluicegate::gate::hmac::SECRET_PREFIX;

use crate::output::{print, print_json};
use crate::{Failure, Verdict};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Keys,
}

#[derive(Subcommand)]
enum Keys {
    /// Print a new secret for a `[[keys]]` entry
    New {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    let Keys::New { json } = args.command;
    let secret = new_secret()?;
    if json {
        return print_json(&serde_json::json!({ "secret": secret }));
    }
    print(&format!("{secret}\n"))
}

pub(crate) fn new_secret() -> Result<String, Failure> {
    let mut bytes = [0u8; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(format!("{SECRET_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}
