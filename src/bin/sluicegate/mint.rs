//! `mint`: a link from a policy's key.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ArgGroup;
use http::HeaderMap;
use sluicegate::gate::explain::walk;
use sluicegate::gate::id::{KeyId, UnixTime};
use sluicegate::gate::keys::FetchedKeys;
use sluicegate::gate::mint::{Draft, LinkOptions, MintError, Minted};
use sluicegate::gate::policy::Policies;
use sluicegate::wire::clock;
use sluicegate::wire::config::SecretsConfig;
use sluicegate::wire::policies::PolicyStore;

use crate::output::{complain, print, print_json};
use crate::{Failure, Verdict};

/// Sign with a key of a policy folder. The secret is read from where the policy says it is kept; it is never an argument.
#[derive(clap::Args)]
#[command(group(ArgGroup::new("end").args(["expires_in", "exp"])))]
pub(crate) struct Args {
    /// The upstream file
    #[arg(long)]
    url: String,
    /// The policy folder, or one file of it
    #[arg(long, value_name = "FOLDER", env = "SLUICEGATE_POLICY", default_value = "policy")]
    policy: PathBuf,
    /// The key's id; may be left out if the folder has only one that mints
    #[arg(long, value_name = "ID")]
    kid: Option<String>,
    /// How long the link is good, such as `15m` or `7d` [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = span)]
    expires_in: Option<Duration>,
    /// When it ends, in Unix seconds, in place of --expires-in
    #[arg(long, value_name = "UNIX")]
    exp: Option<u64>,
    /// Moves the end up to the next multiple of this, such as `5m`, so that links made within that time are equal
    #[arg(long, value_name = "TIME", value_parser = span)]
    align_to: Option<Duration>,
    /// When it begins to be good, in Unix seconds (parameter `nbf`)
    #[arg(long, value_name = "UNIX")]
    not_before: Option<u64>,
    /// The name under which the file is saved
    #[arg(long)]
    filename: Option<String>,
    /// `attachment` or `inline`
    #[arg(long)]
    disposition: Option<String>,
    /// A link id, for revocation and audit
    #[arg(long)]
    id: Option<String>,
    /// The client address or network that may use the link
    #[arg(long)]
    ip: Option<String>,
    /// Where the gateway is
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    base: String,
    /// Print JSON: link, query, string to sign, signature
    #[arg(long)]
    json: bool,
}

impl Args {
    fn options(&self) -> LinkOptions {
        LinkOptions {
            url: self.url.clone(),
            expires_in: self.expires_in.map(|span| span.as_secs()),
            exp: self.exp,
            align_to: self.align_to.map(|span| span.as_secs()),
            not_before: self.not_before,
            filename: self.filename.clone(),
            disposition: self.disposition.clone(),
            id: self.id.clone(),
            ip: self.ip.clone(),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    let base = gateway(&args.base)?;
    let policies = open(&args.policy)?;
    let now = clock::now();
    let kid = pick_key(&policies, args.kid.as_deref(), now)?;
    let options = args.options();
    let complain_of = |fault: MintError| options.complaint(&fault);
    let exp = options.end(now).map_err(complain_of)?;
    let draft = options.draft(&kid, now).map_err(complain_of)?;
    let minted = policies.mint(draft, &kid, now).map_err(complain_of)?;
    let link = link(&base, &minted);
    let walk = walk(&policies, &minted.query, &HeaderMap::new(), &FetchedKeys::new(), now, None);
    if let Some(denied) = walk.stages.iter().find(|stage| stage.stage == "policy" && !stage.passes) {
        complain(&format!("note: the link is signed, but the gateway would refuse it: {}", denied.reason));
    }
    if args.json {
        return print_json(&serde_json::json!({
            "link": link, "query": minted.query, "string_to_sign": minted.string_to_sign,
            "signature": minted.signature, "kid": kid.as_str(), "exp": exp.0,
        }));
    }
    print(&format!("{link}\n"))
}

fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "write a length of time such as `90s`, `15m` or `7d`".to_owned())
}

/// Where the gateway is. It answers at `/` alone, so that a path would be lost.
fn gateway(base: &str) -> Result<url::Url, Failure> {
    let url = url::Url::parse(base)
        .map_err(|_| format!("--base `{base}` is no URL; write one such as https://host"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("--base holds a user name or a password; leave them out".to_owned());
    }
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !bare || !matches!(url.scheme(), "http" | "https") {
        return Err(format!(
            "--base `{base}` is not http or https, host and port alone; write one such as https://host"
        ));
    }
    Ok(url)
}

pub(crate) fn open(folder: &Path) -> Result<std::sync::Arc<Policies>, Failure> {
    // Secrets may be kept in AWS.
    crate::serve::runtime()?
        .block_on(PolicyStore::open(folder, &SecretsConfig::default()))
        .map(|store| store.current())
        .map_err(|problems| format!("the policy cannot be used\n{problems}"))
}

pub(crate) fn pick_key(policies: &Policies, asked: Option<&str>, now: UnixTime) -> Result<KeyId, Failure> {
    if let Some(asked) = asked {
        return KeyId::parse(asked).map_err(|fault| format!("--kid `{asked}`: {fault}"));
    }
    let mut able: Vec<_> =
        policies.tenants().flat_map(|tenant| policies.minting_keys(tenant.name().as_str(), now)).collect();
    able.sort();
    match able.as_slice() {
        [only] => Ok((*only).clone()),
        [] => Err("no key of these policies mints now; add one with status `active`".to_owned()),
        several => {
            let names: Vec<_> = several.iter().take(8).map(|id| format!("`{id}`")).collect();
            Err(format!("several keys mint; choose one with --kid: {}", names.join(", ")))
        }
    }
}

pub(crate) fn sign(policies: &Policies, draft: Draft, kid: &KeyId) -> Result<Minted, Failure> {
    policies.mint(draft, kid, clock::now()).map_err(|fault| fault.to_string())
}

/// The link as it is given out.
pub(crate) fn link(base: &url::Url, minted: &Minted) -> String {
    let mut link = base.clone();
    link.set_path("/");
    link.set_query(None);
    link.set_fragment(None);
    format!("{link}?{}", minted.query)
}
