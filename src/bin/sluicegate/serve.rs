//! `serve`: the gateway as one HTTP server, and `health`, which asks it whether it answers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sluicegate::wire::books::Books;
use sluicegate::wire::config::{Config, SETTINGS, misspelt, read_address, variable};
use sluicegate::wire::console::{About, Console};
use sluicegate::wire::figures::Figures;
use sluicegate::wire::handler::Gateway;
use sluicegate::wire::log;
use sluicegate::wire::metrics::prometheus::{Exposition, PATH};
use sluicegate::wire::policies::PolicyStore;
use sluicegate::wire::server::{self, Desk};
use sluicegate::wire::traces::{self, Traces};
use sluicegate::wire::usage::{Keeper, Usage};
use tokio::net::TcpListener;

use crate::output::{complain, print};
use crate::{Failure, Verdict};

/// How long a process that is to stop at once waits for the disk.
const AT_ONCE: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
#[command(after_help = settings_help())]
pub(crate) struct Args {
    /// The configuration file (TOML) [default: sluicegate.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "SLUICEGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Where to listen, in place of the configuration
    #[arg(long, value_name = "ADDRESS", value_parser = read_address)]
    listen: Option<SocketAddr>,
    /// The policy folder, or one file of it, in place of the configuration
    #[arg(long, value_name = "FOLDER")]
    policy: Option<PathBuf>,
    /// Also serve the console at `/_/`: it signs with every key of the policies, so it needs a loopback address
    #[arg(long)]
    console: bool,
}

#[derive(clap::Args)]
pub(crate) struct HealthArgs {
    /// Where the server is
    #[arg(default_value = "http://127.0.0.1:8080")]
    base: String,
}

fn settings_help() -> String {
    let lines = SETTINGS.iter().map(|(setting, help)| {
        let variable = if *setting == "origin.hosts" { String::new() } else { variable(setting) };
        format!("  {setting:<24} {variable:<40} {help}")
    });
    let head = "Settings, in the file and in the environment (which wins; lists are separated by commas):"
        .to_owned();
    std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
}

pub(crate) fn run(args: &Args) -> Result<Verdict, Failure> {
    let default = Path::new("sluicegate.toml");
    let file = args.config.as_deref().or_else(|| default.exists().then_some(default));
    let mut config = Config::load(file, &|name| std::env::var(name).ok())?;
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if let Some(policy) = &args.policy {
        config.policy.clone_from(policy);
    }
    if args.console {
        check_console(&config)?;
    }
    log::start(config.log);
    for variable in misspelt(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok())) {
        tracing::warn!(%variable, "this variable is no setting and has no effect; `sluicegate serve --help` lists them");
    }
    let keeper = keep_usage(&config)?;
    run_until_done(async {
        let usage = keeper.as_ref().map(Keeper::usage);
        let running = start(&config, args.console.then(About::default), usage).await?;
        if let Some(address) = running.console_address() {
            print(&format!("console: {address}\n"))?;
        }
        if let Some(address) = running.metrics_address() {
            tracing::info!(%address, "metrics");
        }
        let gateway = Arc::clone(&running.gateway);
        tokio::spawn(async move { gateway.limits().greet().await });
        tracing::info!(address = %running.address, policy = %config.policy.display(), "serving");
        Ok(running.until_stopped(&config).await)
    })
}

/// Whoever reaches the console can sign links, so nobody may reach it but the machine's own user.
fn check_console(config: &Config) -> Result<(), Failure> {
    if !config.listen.ip().is_loopback() {
        return Err(format!(
            "the console needs a loopback address, and `{}` is none; add --listen 127.0.0.1:8080, or leave out --console",
            config.listen
        ));
    }
    if let Some(proxy) = config.client.trusted_proxies.first() {
        return Err(format!(
            "the console goes with no proxy in front, and `client.trusted_proxies` names `{proxy}`; leave out --console"
        ));
    }
    Ok(())
}

/// Opens the file of usage records, if there is to be one. It has to outlive what `run_until_done` runs: downloads that are
/// cut off at the very end have records too.
pub(crate) fn keep_usage(config: &Config) -> Result<Option<Keeper>, Failure> {
    config.usage.file.as_deref().map(Keeper::open).transpose()
}

/// Runs to the end and does not wait for what still reads files behind it.
pub(crate) fn run_until_done<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = runtime()?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_secs(1));
    log::gathered();
    done
}

/// One thread; a server has others for its connections.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    log::gather(tokio::runtime::Builder::new_current_thread().enable_all())
        .build()
        .map_err(|error| format!("cannot start: {error}"))
}

/// A bound listener with everything behind it.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) policies: Arc<PolicyStore>,
    listener: TcpListener,
    gateway: Arc<Gateway>,
    console: Option<Arc<Console>>,
    metrics: Option<Metrics>,
    traces: Option<Traces>,
    usage: Option<Usage>,
    _watch: sluicegate::wire::policies::Watch,
}

/// `/metrics`, with a listener of its own unless the main one answers it.
struct Metrics {
    exposition: Arc<Exposition>,
    own: Option<TcpListener>,
}

/// Opens policies and socket; with a console, if something is to be said in it.
pub(crate) async fn start(
    config: &Config,
    about: Option<About>,
    usage: Option<Usage>,
) -> Result<Running, Failure> {
    // Before anything is counted.
    let metrics = open_metrics(config).await?;
    let traces = traces::start(&config.traces)?;
    let store = PolicyStore::open(&config.policy, &config.secrets)
        .await
        .map_err(|problems| format!("not started: the policy cannot be used\n{problems}"))?;
    let figures = about.is_some().then(Arc::<Figures>::default);
    let books = Books { figures: figures.clone(), usage: usage.clone() };
    let gateway = Gateway::keeping(config, Arc::clone(&store), books)?;
    let console = about
        .zip(figures)
        .map(|(about, figures)| Console::new(about, Arc::clone(&gateway), Arc::clone(&store), figures))
        .transpose()?;
    let pruned = Arc::clone(&gateway);
    let watch = store.watch(move || pruned.prune())?;
    let listener = bind(config.listen, "--listen").await?;
    let address = listener.local_addr().map_err(|error| format!("cannot listen: {error}"))?;
    Ok(Running {
        address,
        policies: store,
        listener,
        gateway,
        console,
        metrics,
        traces,
        usage,
        _watch: watch,
    })
}

async fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        format!("cannot listen on `{address}`: {error}; name another address with {setting}, or port 0 for any free one")
    })
}

/// Begins to measure, if somebody can read it.
async fn open_metrics(config: &Config) -> Result<Option<Metrics>, Failure> {
    let Some(address) = config.metrics.listen else { return Ok(None) };
    // Two ports that the system chooses are never one.
    let shared = address == config.listen && address.port() != 0;
    let own = if shared { None } else { Some(bind(address, "`metrics.listen`").await?) };
    Ok(Some(Metrics { exposition: Arc::new(Exposition::start()?), own }))
}

impl Running {
    /// Where the console is, its key included; for whoever started the server, and not for a log.
    pub(crate) fn console_address(&self) -> Option<String> {
        self.console.as_ref().map(|console| console.address(self.address))
    }

    /// Where metrics can be read.
    pub(crate) fn metrics_address(&self) -> Option<String> {
        let own = self.metrics.as_ref()?.own.as_ref();
        let address = own.map_or(Some(self.address), |listener| listener.local_addr().ok())?;
        Some(format!("http://{address}{PATH}"))
    }

    pub(crate) async fn until_stopped(self, config: &Config) -> Verdict {
        let (exposition, own) = self.metrics.map(|metrics| (metrics.exposition, metrics.own)).unzip();
        // What has a listener of its own is not on the main one, and goes on while downloads finish.
        let here = exposition.clone().filter(|_| own.as_ref().is_some_and(Option::is_none));
        if let Some((metrics, listener)) = exposition.zip(own.flatten()) {
            let config = config.clone();
            tokio::spawn(async move { server::serve_metrics(listener, metrics, &config).await });
        }
        let desk = Desk { gateway: self.gateway, console: self.console, metrics: here };
        let finished = server::serve(self.listener, desk, config, stop_signal(self.usage)).await;
        if let Some(traces) = self.traces {
            traces.shut_down().await;
        }
        if finished {
            tracing::info!("stopped");
            return Verdict::Good;
        }
        tracing::warn!("stopped: some downloads did not finish in time");
        Verdict::Bad
    }
}

/// Resolves at SIGTERM or SIGINT. A second one ends the process at once, and leaves usage whole as far as it is known.
async fn stop_signal(usage: Option<Usage>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => {}, _ = interrupt.recv() => {} }
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {}, _ = interrupt.recv() => {} }
        if let Some(usage) = usage {
            usage.finish(AT_ONCE);
        }
        complain("stopped at once; running downloads were aborted");
        std::process::exit(1);
    });
}

pub(crate) fn health(args: &HealthArgs) -> Result<Verdict, Failure> {
    let url = format!("{}/healthz", args.base.trim_end_matches('/'));
    let ask = async {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        client.get(&url).send().await?.error_for_status()
    };
    match runtime()?.block_on(ask) {
        Ok(_) => print("ok\n"),
        Err(error) => {
            complain(&format!("no healthy answer from `{url}`: {error}"));
            Ok(Verdict::Bad)
        }
    }
}
