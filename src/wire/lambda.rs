//! The Lambda door: invocations of a function URL in, streamed responses out. A broken body aborts its response, so that
//! what is in front sees it end too early; the process goes on with the next invocation.

mod envelope;
mod event;
mod runtime_api;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt as _;
use http::Response;
use http::request::Parts;
use lambda_runtime::{LambdaEvent, LambdaInvocation, Runtime};
use tokio::time::Instant;

use super::answer::keep_for_the_next;
use super::body::Body;
use super::config::{Config, LambdaConfig};
use super::handler::{Gateway, Terms};
use super::metrics::emf::Emf;
use super::origin::LARGE;
use super::traces::Traces;
use envelope::Envelope;
use event::Arrived;
use runtime_api::{Invocation, RuntimeApi};

/// What is kept of an invocation's time to end a response visibly, before the platform ends the process.
const MARGIN: Duration = Duration::from_secs(1);
/// The longest that the platform lets an invocation run.
const LONGEST: Duration = Duration::from_secs(900);
/// How long an invocation goes on for a collector after its answer was sent. It is paid for.
const COLLECTOR_PATIENCE: Duration = Duration::from_millis(500);

/// What answers requests: the gateway, and in tests something that breaks.
pub trait Answer: Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, request: Parts, terms: Terms) -> impl Future<Output = Response<Body>> + Send;

    /// Ends what an answered request left behind, before the platform lets the process stand still.
    fn settle(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

impl Answer for Gateway {
    async fn answer(&self, request: Parts, terms: Terms) -> Response<Body> {
        let response = self.handle(&request, &terms).await;
        keep_for_the_next(request.headers);
        response
    }

    async fn settle(&self) {
        self.limits().settled().await;
    }
}

/// Serves invocations until the platform ends the process; one at a time, or as many as it says. What there is
/// to report is written after each.
pub async fn serve<A: Answer>(
    answers: Arc<A>,
    config: &LambdaConfig,
    reports: Reports,
) -> Result<(), String> {
    check_environment()?;
    let api = RuntimeApi::from_environment();
    let door = Arc::new(Door { answers, api, config: config.clone(), reports });
    // Never called: the layer answers in its place.
    let unused = tower::service_fn(|_: LambdaEvent<serde::de::IgnoredAny>| async {
        Ok::<_, std::convert::Infallible>(())
    });
    let runtime = Runtime::new(unused).layer(tower::layer::layer_fn(|_| DoorService(Arc::clone(&door))));
    runtime.run_concurrent().await.map_err(|error| format!("the Runtime API failed: {error}"))
}

/// Is this process on Lambda at all? The error names what is missing.
pub fn check_environment() -> Result<(), String> {
    let needed = [
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    ];
    let absent = |name: &&&str| std::env::var(name).map_or(true, |value| value.is_empty());
    let missing: Vec<_> = needed.iter().filter(absent).map(|name| format!("`{name}`")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    Err(format!(
        "this is the AWS Lambda function, and {missing} is not set; elsewhere run `sluicegate serve`"
    ))
}

/// Settings that mean nothing here, and that somebody who sets them relies on.
pub fn check_settings(config: &Config) -> Result<(), String> {
    let Some(file) = &config.usage.file else { return Ok(()) };
    Err(format!(
        "`usage.file` is `{}`, and a function has no file that lasts; leave the setting out: usage is in the log, and the \
         template's `UsageRecords` keeps it in a bucket",
        file.display()
    ))
}

struct Door<A> {
    answers: Arc<A>,
    api: RuntimeApi,
    config: LambdaConfig,
    reports: Reports,
}

/// What is reported after each invocation.
#[derive(Debug, Default)]
pub struct Reports {
    /// Lines for CloudWatch.
    pub metrics: Option<Arc<Emf>>,
    /// Spans for a collector.
    pub traces: Option<Traces>,
}

impl Reports {
    /// The stream has ended, and the next invocation is not asked for yet: the process still runs.
    async fn write(&self, until: Instant) {
        if let Some(metrics) = &self.metrics {
            metrics.flush();
        }
        if let Some(traces) = &self.traces {
            let left = (until + MARGIN * 3 / 4).saturating_duration_since(Instant::now());
            traces.flush(left.min(COLLECTOR_PATIENCE)).await;
        }
    }
}

/// The door as `lambda_runtime` calls it.
struct DoorService<A>(Arc<Door<A>>);

impl<A> Clone for DoorService<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Answer> tower::Service<LambdaInvocation> for DoorService<A> {
    type Response = ();
    type Error = lambda_runtime::Error;
    type Future = Pin<Box<dyn Future<Output = Result<(), lambda_runtime::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    /// Never an error: that would end the process, and with it what others are doing.
    fn call(&mut self, invocation: LambdaInvocation) -> Self::Future {
        let door = Arc::clone(&self.0);
        Box::pin(async move {
            let until = closing_time(invocation.context.deadline);
            door.invoke(invocation, until).await;
            door.reports.write(until).await;
            Ok(())
        })
    }
}

impl<A: Answer> Door<A> {
    async fn invoke(&self, invocation: LambdaInvocation, until: Instant) {
        let id = Invocation::read(&invocation);
        let (request, client) = match event::read(&invocation.body) {
            Arrived::Request(request, client) => (request, client),
            Arrived::Malformed(method) => {
                let response = event::malformed(&method, &id.request_id);
                return self.respond(&id, response, until).await;
            }
            Arrived::SomethingElse(reason) => return self.reject(&id, &reason, until).await,
        };
        let terms = Terms {
            client,
            request_id: Some(id.request_id.clone()),
            line: None,
            piece: LARGE,
            max_bytes: Some(self.config.max_bytes.0),
            plain_only: true,
            until: Some(until),
        };
        let head_only = request.method == http::Method::HEAD;
        let answer = async {
            let response = self.answers.answer(*request, terms).await;
            envelope::adapt(response, head_only, self.config.fill_bodyless).await
        };
        // A panic until here is answered; one in the middle of the body breaks it.
        let answered = AssertUnwindSafe(answer).catch_unwind().await;
        let response = answered.unwrap_or_else(|_| event::broken(head_only, &id.request_id));
        self.respond(&id, response, until).await;
        self.answers.settle().await;
    }

    async fn respond(&self, id: &Invocation, response: Response<envelope::Answered>, until: Instant) {
        // The body knows the deadline too; this is for a platform that takes nothing any more.
        let (envelope, mut gone) = Envelope::seal(response);
        let posting = self.api.respond(id, envelope, &mut gone);
        let posted = tokio::time::timeout_at(until + MARGIN / 2, posting).await;
        match posted {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => tracing::warn!(request_id = id.request_id, reason, "response aborted"),
            Err(_) => {
                let reason = "the invocation's time is over";
                tracing::warn!(request_id = id.request_id, reason, "response aborted");
            }
        }
        // A connection that is being closed lets its body go a moment later, and the request's record with it.
        let _ = tokio::time::timeout(MARGIN / 4, gone.changed()).await;
    }

    async fn reject(&self, id: &Invocation, reason: &str, until: Instant) {
        tracing::error!(request_id = id.request_id, reason, "invocation not understood");
        let failed = match tokio::time::timeout_at(until, self.api.fail(id, reason)).await {
            Ok(Ok(())) => return,
            Ok(Err(reason)) => reason,
            Err(_) => "it takes nothing".to_owned(),
        };
        tracing::error!(request_id = id.request_id, reason = failed, "cannot say so to the Runtime API");
    }
}

/// When an answer must be whole. Emulators send deadlines from 1970: what is over already is not believed.
fn closing_time(deadline_ms: u64) -> Instant {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let left = Duration::from_millis(deadline_ms).saturating_sub(now);
    let left = if left.is_zero() { LONGEST } else { left.min(LONGEST) };
    // Of a very short time half is kept, so that something can be answered at all.
    Instant::now() + left.saturating_sub(MARGIN.min(left / 2))
}
