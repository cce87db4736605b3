//! Without a command: the demo tenant on loopback, a sample upstream, and a link to try.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sluicegate::gate::id::{KeyId, UnixTime};
use sluicegate::gate::mint::Draft;
use sluicegate::wire::clock;
use sluicegate::wire::config::{Config, LogFormat};
use sluicegate::wire::console::About;
use sluicegate::wire::log;
use sluicegate::wire::usage::Keeper;

use crate::output::print;
use crate::serve::{Running, keep_usage, run_until_done, start};
use crate::{Failure, Verdict, keys, mint, sample};

/// How long the printed link is good, in seconds.
const LIFETIME: u64 = 24 * 3600;

pub(crate) fn run(listen: Option<SocketAddr>) -> Result<Verdict, Failure> {
    let mut config = Config::load(None, &|name| std::env::var(name).ok())?;
    if let Some(listen) = listen {
        config.listen = listen;
    }
    if !config.listen.ip().is_loopback() {
        return Err(format!(
            "the demo listens on loopback only, not on `{}`; use `sluicegate serve`",
            config.listen
        ));
    }
    // A port of its own: the main address is for links, and what the demo counts is nobody else's business.
    config.metrics.listen.get_or_insert(SocketAddr::from(([127, 0, 0, 1], 0)));
    if config.log == LogFormat::Auto {
        config.log = LogFormat::Text;
    }
    prepare_secret(&config.policy)?;
    // Other tenants in the folder may need what this machine does not have.
    let folder = config.policy.clone();
    config.policy.push("demo.toml");
    log::start(config.log);
    let keeper = keep_usage(&config)?;
    run_until_done(async {
        let upstream = sample::start().await?;
        config.origin.hosts.insert(sample::HOST.to_owned(), upstream);
        let open = upstream.to_string().parse().map_err(|error| format!("`{upstream}`: {error}"))?;
        config.origin.open.push(open);
        let samples = sample::listing().map(|(path, _)| format!("http://{}{path}", sample::HOST)).collect();
        let usage = keeper.as_ref().map(Keeper::usage);
        let running = start(&config, Some(About { samples }), usage).await?;
        introduce(&config, &folder, &running)?;
        Ok(running.until_stopped(&config).await)
    })
}

/// The demo's secret is made on the first start and kept beside its policy, readable by its owner alone.
fn prepare_secret(folder: &Path) -> Result<(), Failure> {
    let policy = folder.join("demo.toml");
    if !policy.exists() {
        return Err(format!(
            "there is no `{}`; start the demo in the project's folder, or serve your own policy with `sluicegate serve --policy FOLDER`",
            policy.display()
        ));
    }
    let path = folder.join("demo.secret");
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(format!("cannot write `{}`: {error}", path.display())),
    };
    writeln!(file, "{}", keys::new_secret()?)
        .map_err(|error| format!("cannot write `{}`: {error}", path.display()))
}

fn introduce(config: &Config, folder: &Path, running: &Running) -> Result<Verdict, Failure> {
    let (address, policies) = (running.address, running.policies.current());
    let kid = KeyId::parse("demo").map_err(|fault| fault.to_string())?;
    let base = url::Url::parse(&format!("http://{address}")).map_err(|error| error.to_string())?;
    let exp = UnixTime(clock::now().0 + LIFETIME);
    let draft = Draft::new(&format!("http://{}/clip.mp4", sample::HOST), &kid, exp)
        .with("filename", "First download.mp4");
    let link = mint::link(&base, &mint::sign(&policies, draft, &kid)?);
    let files: Vec<_> = sample::listing()
        .map(|(path, length)| format!("  http://{}{path:<16} {:>12} bytes", sample::HOST, length))
        .collect();
    let (policy, file) = (folder.display(), config.policy.display());
    let console = running.console_address().unwrap_or_default();
    let metrics = running.metrics_address().unwrap_or_default();
    print(&format!(
        r#"Sluicegate is running: http://{address}  (tenant `demo`, policy folder `{policy}`; stop with Ctrl-C)

Download a file with a signed link (`-J` takes its name and overwrites nothing):

  curl -fOJ "{link}"

Build, inspect and try links in a browser:

  {console}

What is counted, for Prometheus: {metrics}

Files of the sample upstream that the demo tenant may fetch:

{files}
  http://{host}/parts/0001.txt to /parts/{parts}.txt, for clients that fetch many

Sign a link yourself, with openssl alone:

  SECRET=$(cat {policy}/demo.secret) URL=http://{host}/notes.txt EXP=$(($(date +%s) + 3600))
  SIG=$(printf 'sluicegate-link-v1\nexp=%s\nkid=demo\nurl=%s\n' "$EXP" "$URL" | openssl dgst -sha256 -hmac "$SECRET" -binary | openssl base64 -A | tr '+/' '-_' | tr -d =)
  curl -fOJG "http://{address}/" --data-urlencode "url=$URL" -d kid=demo -d "exp=$EXP" -d "sig=$SIG"

See what a link says, stage by stage:

  cargo run -q -- explain --policy {file} "{link}"

"#,
        files = files.join("\n"),
        host = sample::HOST,
        parts = sample::PARTS,
    ))
}
