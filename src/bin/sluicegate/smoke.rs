//! `smoke`: the contract, tried from outside on a deployment that runs.
//!
//! Every check has a stable name and one row. A check asks over connections of its own and changes nothing but what a
//! client may change: counters, logs and what caches hold.

mod client;
mod edge;
mod errors;
mod file;
mod keys;
mod link;
mod methods;
mod refused;
mod report;
mod site;
mod spellings;

use std::path::PathBuf;
use std::time::Duration;

use crate::serve::runtime;
use crate::{Failure, Verdict};

use errors::Errors;
use report::{Report, SEE};
use site::Site;

const AFTER_HELP: &str = "\
Verdicts (in lower case in JSON):
  held      as the contract says
  FAILED    not so; the row says what was expected, what came, and what to do
  platform  harmless, and decided by what stands around the gateway
  skipped   not tried; the row says why

Exit status:
  0  nothing failed
  1  something did, nobody answered, or --deadline ended the run
  2  wrong usage, or a key that cannot be used";

/// Run the contract against a live deployment: a server, a container, or a function behind its edge. It signs its own links,
/// shows what held and what did not, and needs no account where the deployment runs. Exit status 1 if anything failed,
/// also if nobody answers.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Where the deployment is, such as `https://downloads.example.com`
    #[arg(value_name = "BASE")]
    base: String,
    /// A file that the key's tenant may fetch; a small one is best, since it is fetched some 15 times
    #[arg(long)]
    url: String,
    /// The policy folder whose keys sign, or one file of it
    #[arg(long, value_name = "FOLDER", env = "SLUICEGATE_POLICY", default_value = "policy")]
    policy: PathBuf,
    /// A key and where its secret is kept, `KID=env:NAME`, `KID=file:PATH`, `KID=secretsmanager:NAME`, `KID=secretsmanager:NAME#FIELD` or `KID=ssm:NAME`, in place of the policy folder; may be repeated
    #[arg(long = "key", value_name = "KID=REFERENCE")]
    keys: Vec<String>,
    /// The key that signs; may be left out if there is only one
    #[arg(long, value_name = "ID")]
    kid: Option<String>,
    /// A key of another tenant, which must not get the file
    #[arg(long, value_name = "ID")]
    other_kid: Option<String>,
    /// A url that the policy does not allow [default: one on a reserved host that no policy names]
    #[arg(long, value_name = "URL")]
    denied_url: Option<String>,
    /// A file that does not exist [default: --url with another last segment]
    #[arg(long, value_name = "URL")]
    missing_url: Option<String>,
    /// A file whose upstream breaks off in the middle [default: not tried]
    #[arg(long, value_name = "URL")]
    truncating_url: Option<String>,
    /// The function's own URL, which must refuse whoever does not come through the edge [default: not tried]
    #[arg(long, value_name = "URL")]
    function_url: Option<String>,
    /// How long to wait for a connection, and for each next byte
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    timeout: Duration,
    /// How long the whole run may take; what was not tried by then is skipped, and the exit status is 1
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    deadline: Duration,
    /// The longest file to fetch, --truncating-url too; other answers may be 64 KiB longer than --url's file, refusals 64 KiB long
    #[arg(long, value_name = "SIZE", default_value = "200 MB", value_parser = size)]
    max_bytes: u64,
    /// Print JSON: `base`, `ok`, and `checks` with name, verdict, expected, got, hint
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    let site = Site::new(args)?;
    let mut report = Report::new(site.base.as_str(), site.kid.as_str(), args.json);
    report.begin()?;
    let runtime = runtime()?;
    let in_time =
        runtime.block_on(async { tokio::time::timeout(args.deadline, check(&site, &mut report)).await });
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    match in_time {
        Ok(done) => done?,
        Err(_) => report.end_early()?,
    }
    report.end()
}

fn time(text: &str) -> Result<Duration, Failure> {
    let time = humantime::parse_duration(text).ok().filter(|time| !time.is_zero());
    time.ok_or_else(|| format!("`{text}` is not a length of time; write one such as `30s`"))
}

fn size(text: &str) -> Result<u64, Failure> {
    let size = text.parse::<bytesize::ByteSize>().ok().map(|size| size.as_u64()).filter(|size| *size > 0);
    size.ok_or_else(|| format!("`{text}` is not a size; write one such as `200 MB`"))
}

const NO_FILE: &str = "the good link did not bring the file, so there is nothing to compare with";

/// Every check, in the order of the table.
async fn check(site: &Site, report: &mut Report) -> Result<(), Failure> {
    let first = site.get(&site.good()?).await;
    let reached = !first.as_ref().is_err_and(client::Silence::is_unreachable);
    let strange = file::is_strange(site, &first).await?;
    let mut file = file::whole(site, first, strange, report)?;
    if !reached {
        return report.end_unreached();
    }
    if let Some(file) = &mut file {
        file::again(site, file, report).await?;
        file::headers(file, report)?;
    }
    report.skip_until("unsigned", if strange { SEE } else { NO_FILE })?;
    let mut errors = Errors::default();
    refused::on_a_warm_cache(site, file.as_ref(), &mut errors, report).await?;
    if strange {
        report.skip_until("function-url", SEE)?;
        edge::function(site, None, report).await?;
        return report.skip_the_rest(SEE);
    }
    refused::without_a_hint(site, file.as_ref(), report).await?;
    refused::repeated(site, file.as_ref(), report).await?;
    refused::other_path(site, file.as_ref(), report).await?;
    if let Some(file) = &file {
        spellings::check(site, file, report).await?;
        methods::head(site, file, report).await?;
        methods::conditional(site, file, report).await?;
        methods::range(site, file, report).await?;
    }
    report.skip_until("post", NO_FILE)?;
    methods::post(site, file.as_ref(), report).await?;
    refused::denied(site, file.as_ref(), report).await?;
    refused::missing(site, file.as_ref(), &mut errors, report).await?;
    report.add(errors.check())?;
    edge::truncated(site, file.as_ref(), report).await?;
    edge::function(site, file.as_ref(), report).await?;
    edge::plain(site, report).await
}
