//! What the process writes about itself: one line an event, on standard error.

use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
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
    let log = fmt::layer().with_writer(after_lines).with_ansi(is_terminal);
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
        // Nothing but its target and its level decides, and both stay what they are.
        DECISIONS.store(tracing::enabled!(target: DECISION, Level::INFO), Ordering::Relaxed);
        JSON.store(json, Ordering::Relaxed);
    }
}

/// The target of decision records.
pub(in crate::wire) const DECISION: &str = "sluicegate::decision";

static JSON: AtomicBool = AtomicBool::new(false);
static DECISIONS: AtomicBool = AtomicBool::new(false);

/// Are decision records among what a JSON log writes? The filter would look through its directives for each.
pub(in crate::wire) fn has_decisions() -> bool {
    DECISIONS.load(Ordering::Relaxed)
}

/// Is the log JSON? Then whoever has a line of it ready may write it with [`write_line`].
pub(in crate::wire) fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// The most bytes of lines that wait: what a pipe takes whole, with nobody's lines in between (`PIPE_BUF`, pipe(7)).
const MOST_WAITING: usize = 4096;
/// How long lines wait at most, on a thread that always has something to do.
const LONGEST: Duration = Duration::from_millis(100);

/// Lines of one thread.
struct Lines {
    waiting: Vec<u8>,
    /// Does the thread say when it has nothing to do?
    gathers: bool,
    /// Whom to tell that lines wait, if that was not done yet.
    keeper: Option<Arc<Notify>>,
}

thread_local! {
    static LINES: RefCell<Lines> = const { RefCell::new(Lines { waiting: Vec::new(), gathers: false, keeper: None }) };
}

impl Lines {
    fn write(&mut self, line: &[u8]) {
        if self.waiting.len() + line.len() > MOST_WAITING {
            self.flush();
        }
        if self.gathers && line.len() < MOST_WAITING {
            self.waiting.extend_from_slice(line);
            if let Some(keeper) = self.keeper.take() {
                keeper.notify_one();
            }
        } else {
            write(line);
        }
    }

    fn flush(&mut self) {
        if !self.waiting.is_empty() {
            write(&self.waiting);
            self.waiting.clear();
        }
    }
}

impl Drop for Lines {
    /// With its thread.
    fn drop(&mut self) {
        self.flush();
    }
}

/// Has the lines of a thread that runs nothing but this runtime go out together: with one call when the thread has nothing to do,
/// and whenever there are 4,096 bytes of them. With [`keep`] under way there, they wait for 100 ms at most. Whoever ends the runtime
/// calls [`gathered`] then.
pub fn gather(runtime: &mut tokio::runtime::Builder) -> &mut tokio::runtime::Builder {
    runtime.on_thread_park(|| flush(true))
}

/// Writes, for as long as it is polled, what waits on a thread that never comes to rest, such as for one connection that always has
/// something to read.
pub async fn keep() {
    let waits = Arc::new(Notify::new());
    loop {
        let _ = LINES.try_with(|lines| {
            let mut lines = lines.borrow_mut();
            lines.flush();
            lines.keeper = Some(Arc::clone(&waits));
        });
        waits.notified().await;
        tokio::time::sleep(LONGEST).await;
    }
}

/// This thread gathers no more lines; those that wait are written.
pub fn gathered() {
    flush(false);
}

fn flush(gathers: bool) {
    // A thread that is about to end has written them.
    let _ = LINES.try_with(|lines| {
        let mut lines = lines.borrow_mut();
        lines.gathers = gathers;
        lines.flush();
    });
}

/// One line, whole.
pub(in crate::wire) fn write_line(line: &[u8]) {
    if LINES.try_with(|lines| lines.borrow_mut().write(line)).is_err() {
        write(line);
    }
}

/// Where an event is written, behind the lines that this thread wrote before.
fn after_lines() -> std::io::Stderr {
    let _ = LINES.try_with(|lines| lines.borrow_mut().flush());
    std::io::stderr()
}

fn write(lines: &[u8]) {
    // A log that cannot be written has nobody to tell.
    let _ = std::io::stderr().lock().write_all(lines);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting() -> usize {
        LINES.with_borrow(|lines| lines.waiting.len())
    }

    #[test]
    fn lines_wait_while_there_is_something_to_do() {
        let runtime = gather(tokio::runtime::Builder::new_current_thread().enable_time()).build().unwrap();
        let line = [b'\n'; 1500];
        runtime.block_on(async {
            write_line(b"\n");
            assert_eq!(waiting(), 0, "nobody said that this thread ever rests");
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            for expected in [1500, 3000, 1500] {
                write_line(&line);
                assert_eq!(waiting(), expected);
            }
            after_lines();
            assert_eq!(waiting(), 0, "an event comes behind them");
            write_line(&line);
            write_line(&[b'\n'; MOST_WAITING]);
            assert_eq!(waiting(), 0, "a long line waits for none");
            write_line(&line);
            tokio::task::yield_now().await;
            assert_eq!(waiting(), 1500);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            assert_eq!(waiting(), 0, "the thread had nothing to do");
            write_line(&line);
        });
        // One whose queue is never empty.
        runtime.block_on(async {
            let kept = tokio::spawn(keep());
            tokio::task::yield_now().await;
            write_line(&line);
            let begun = std::time::Instant::now();
            while waiting() > 0 {
                assert!(begun.elapsed() < 100 * LONGEST, "the lines still wait");
                tokio::task::yield_now().await;
            }
            assert!(begun.elapsed() >= LONGEST);
            kept.abort();
            write_line(&line);
        });
        drop(runtime);
        assert_eq!(waiting(), 1500);
        gathered();
        write_line(&line);
        assert_eq!(waiting(), 0);
    }
}
