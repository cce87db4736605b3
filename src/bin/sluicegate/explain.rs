//! `explain`: every stage of a link, with the string to sign line by line.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;

use http::{HeaderMap, HeaderValue};
use sluicegate::gate::explain::{Walk, query_of, walk};
use sluicegate::gate::id::UnixTime;
use sluicegate::gate::keys::FetchedKeys;
use sluicegate::gate::link::TOKEN_HEADER;
use sluicegate::wire::clock;

use crate::mint::open;
use crate::output::{print, print_json};
use crate::{Failure, Verdict};

/// Reads the keys from the policy folder, as the gateway does, so that it can say more than the gateway tells an outsider.
/// Limits and upstream are not tried. Exit status 1 if the link would be refused.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The link, or its query alone; `-` reads it from standard input
    link: String,
    /// The policy folder, or one file of it
    #[arg(long, value_name = "FOLDER", env = "SLUICEGATE_POLICY", default_value = "policy")]
    policy: PathBuf,
    /// The time to judge by, in Unix seconds [default: now]
    #[arg(long, value_name = "UNIX")]
    now: Option<u64>,
    /// The client address to judge by
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// Read a token for the header `x-sluicegate-token` from this file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    let link = if args.link == "-" {
        std::io::read_to_string(std::io::stdin())
            .map_err(|error| format!("cannot read standard input: {error}"))?
    } else {
        args.link.clone()
    };
    let query = query_of(&link);
    let policies = open(&args.policy)?;
    let now = args.now.map_or_else(clock::now, UnixTime);
    let walk = walk(&policies, query, &headers(args)?, &FetchedKeys::new(), now, args.client);
    if args.json {
        let value = serde_json::to_value(&walk).map_err(|error| error.to_string())?;
        print_json(&value)?;
    } else {
        print(&page(&walk))?;
    }
    Ok(if walk.passes { Verdict::Good } else { Verdict::Bad })
}

fn headers(args: &Args) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    if let Some(path) = &args.token_file {
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read `{name}`: {error}"))?;
        let value = HeaderValue::from_str(text.trim()).map_err(|_| format!("`{name}` holds no token"))?;
        headers.insert(TOKEN_HEADER, value);
    }
    Ok(headers)
}

fn page(walk: &Walk) -> String {
    let mut page = String::new();
    for stage in &walk.stages {
        let mark = if stage.passes { "pass" } else { "STOP" };
        let code = stage.code.map(|code| format!("  [{code}]")).unwrap_or_default();
        let _ = writeln!(page, "{mark}  {:<7} {}{code}", stage.stage, stage.reason);
    }
    if !walk.string_to_sign.is_empty() {
        let _ = writeln!(page, "\nstring to sign, each line ended by a newline:");
        for line in &walk.string_to_sign {
            let _ = writeln!(page, "  {} {}", if line.differs { ">" } else { "|" }, line.text);
        }
    }
    if !walk.hints.is_empty() {
        let _ = writeln!(page, "\nhints:");
        for hint in &walk.hints {
            let _ = writeln!(page, "  - {hint}");
        }
    }
    let verdict = if walk.passes {
        "the gateway would fetch the file, if its address is public or opened by the operator"
    } else {
        "the gateway would refuse this link"
    };
    let _ = writeln!(page, "\n{verdict}");
    page
}
