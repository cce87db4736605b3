//! What the process writes about itself: one line an event, on standard error.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry};

use super::config::LogFormat;
use super::metrics;

/// Starts the log. `SLUICEGATE_LOG_FILTER` chooses what is written, in the syntax of `EnvFilter`.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env("SLUICEGATE_LOG_FILTER").unwrap_or_else(|_| {
        EnvFilter::new("info,hickory_resolver=warn,hickory_net=warn,hyper=warn,h2=warn,lambda_runtime=warn")
    });
    let is_terminal = std::io::stderr().is_terminal();
    let log = fmt::layer().with_writer(std::io::stderr).with_ansi(is_terminal);
    let json = match format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    // A panic ends one request; whoever watches the log must see it like any other error.
    std::panic::set_hook(Box::new(|panic| tracing::error!(reason = %panic, "panicked")));
    let chosen = registry().with(filter).with(Errors);
    // A second start in one process, as in tests, keeps the first log.
    let started = if json {
        chosen.with(log.json().flatten_event(true)).try_init()
    } else {
        chosen.with(log.compact()).try_init()
    };
    if started.is_ok() {
        JSON.store(json, Ordering::Relaxed);
    }
}

static JSON: AtomicBool = AtomicBool::new(false);

/// Is the log JSON? Then whoever has a line of it ready may write it with [`write_line`].
pub(in crate::wire) fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// One line, whole, with one call.
pub(in crate::wire) fn write_line(line: &[u8]) {
    // A log that cannot be written has nobody to tell.
    let _ = std::io::stderr().lock().write_all(line);
}

/// Counts what is written with level ERROR, before it is written.
struct Errors;

impl<S: Subscriber> Layer<S> for Errors {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() == Level::ERROR {
            metrics::error_line();
        }
    }
}
