//! The AWS Lambda function: the gateway behind a function URL that streams. Settings come from the environment, and from
//! the file that `SLUICEGATE_CONFIG` names, if any.

#[cfg(not(panic = "unwind"))]
compile_error!(
    "a panic must end one answer and not the process: build the function with `panic = \"unwind\"`"
);

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use sluicegate::wire::config::{Config, LogFormat, Roots};
use sluicegate::wire::handler::Gateway;
use sluicegate::wire::lambda::{self, Reports};
use sluicegate::wire::metrics::emf::Emf;
use sluicegate::wire::policies::PolicyStore;
use sluicegate::wire::{log, traces};

// musl's own asks the system for a page or two at a time, which a starting process does often.
#[cfg(target_env = "musl")]
#[global_allocator]
static MEMORY: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let file = std::env::var_os("SLUICEGATE_CONFIG").map(PathBuf::from);
    let loaded = Config::load(file.as_deref(), &|name| std::env::var(name).ok());
    log::start(loaded.as_ref().map_or(LogFormat::Auto, |config| config.log));
    let checked = loaded.and_then(|mut config| {
        // Nobody maintains a store of certificates beside a function, and reading one takes longer than the rest of its start.
        config.origin.roots.get_or_insert(Roots::Bundled);
        lambda::check_settings(&config).map(|()| config)
    });
    let config = match lambda::check_environment().and(checked) {
        Ok(config) => config,
        Err(reason) => return complain(&reason),
    };
    // One invocation at a time needs no second thread; only managed instances send several.
    let several = std::env::var_os("AWS_LAMBDA_MAX_CONCURRENCY").is_some();
    let mut runtime = if several {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    match runtime.enable_all().build() {
        Ok(runtime) => match runtime.block_on(serve(&config)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => complain(&reason),
        },
        Err(error) => complain(&format!("cannot start: {error}")),
    }
}

async fn serve(config: &Config) -> Result<(), String> {
    // Before anything is counted.
    let metrics = Emf::start(&config.metrics.namespace);
    let traces = traces::start(&config.traces)?;
    let policies = PolicyStore::open(&config.policy, &config.secrets)
        .await
        .map_err(|problems| format!("the policy cannot be used\n{problems}"))?;
    let gateway = Gateway::new(config, Arc::clone(&policies))?;
    lambda::serve(gateway, &config.lambda, Reports { metrics, traces }).await
}

fn complain(reason: &str) -> ExitCode {
    tracing::error!(reason, "not started");
    ExitCode::FAILURE
}
