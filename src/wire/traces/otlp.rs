//! Spans by OpenTelemetry, exported in batches by OTLP over HTTP with the HTTP client that the gateway has anyway. A
//! collector that is slow or down costs spans, never a request: they wait in a queue of fixed size, and what does not fit
//! is dropped.

use std::future::Future;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::trace::{
    SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanData};
use tokio::runtime::Handle;

use crate::wire::config::TracesConfig;

/// How long one export may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nobody waits for a collector that kept somebody waiting.
const REST: Duration = Duration::from_secs(60);

/// Where spans are made; empty until somebody starts it.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// The traces of a process.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    /// Until then the collector is not waited for.
    resting: Mutex<Option<Instant>>,
}

/// From now on requests are traced, if the setting says where to. In a runtime.
pub fn start(config: &TracesConfig) -> Result<Option<Traces>, String> {
    let Some(endpoint) = &config.endpoint else { return Ok(None) };
    let cannot =
        |error: &dyn std::fmt::Display| format!("cannot send traces to `{}`: {error}", endpoint.as_str());
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .map_err(|error| cannot(&error))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client { client, runtime: Handle::current() })
        .with_endpoint(format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/')))
        .with_timeout(PATIENCE)
        .build()
        .map_err(|error| cannot(&error))?;
    let service = Resource::builder()
        .with_service_name("sluicegate")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(Complaining(exporter))
        // What clients claim about traces of their own is not looked at: they would decide what is sent.
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample))))
        .with_resource(service)
        .build();
    let _ = TRACER.set(provider.tracer("sluicegate"));
    Ok(Some(Traces { provider, resting: Mutex::default() }))
}

impl Traces {
    /// Sends what is there, and waits for that at most for `most`. Whoever had to wait in vain is followed by a while in
    /// which nobody waits.
    pub async fn flush(&self, most: Duration) {
        let resting = || self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        if resting().is_some_and(|until| Instant::now() < until) {
            return;
        }
        let provider = self.provider.clone();
        let flushed = tokio::task::spawn_blocking(move || provider.force_flush());
        if !matches!(tokio::time::timeout(most, flushed).await, Ok(Ok(Ok(())))) {
            *resting() = Some(Instant::now() + REST);
        }
    }

    /// Sends what is there, for the last time.
    pub async fn shut_down(self) {
        let ending = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(PATIENCE));
        let _ = tokio::time::timeout(PATIENCE, ending).await;
    }
}

/// A span, which ends when this is dropped.
#[derive(Debug)]
pub(in crate::wire) struct Span(Option<Context>);

impl Span {
    /// The span of a request.
    pub(in crate::wire) fn request() -> Self {
        Self::begin(SpanBuilder::from_name("request").with_kind(SpanKind::Server), &Context::new())
    }

    /// A stage of it.
    pub(in crate::wire) fn child(&self, name: &'static str) -> Self {
        match &self.0 {
            Some(parent) => Self::begin(SpanBuilder::from_name(name), parent),
            None => Self(None),
        }
    }

    /// It is over.
    pub(in crate::wire) fn end(self) {
        drop(self);
    }

    fn begin(builder: SpanBuilder, parent: &Context) -> Self {
        Self(TRACER.get().map(|tracer| parent.with_span(tracer.build_with_context(builder, parent))))
    }

    pub(in crate::wire) fn text(&self, key: &'static str, value: &str) {
        if let Some(context) = self.0.as_ref().filter(|_| !value.is_empty()) {
            context.span().set_attribute(KeyValue::new(key, value.to_owned()));
        }
    }

    pub(in crate::wire) fn number(&self, key: &'static str, value: u64) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(key, i64::try_from(value).unwrap_or(i64::MAX)));
        }
    }

    /// It did not do what it was for.
    pub(in crate::wire) fn failed(&self, code: &'static str) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(code));
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// Sends in the gateway's runtime, from whichever thread exports.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

impl HttpClient for Client {
    fn send_bytes<'c, 'a>(
        &'c self,
        request: Request<Bytes>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>
    where
        'c: 'a,
        Self: 'a,
    {
        let client = self.client.clone();
        let sending = self.runtime.spawn(async move {
            let (parts, body) = request.into_parts();
            let url = parts.uri.to_string();
            let answer = client.request(parts.method, url).headers(parts.headers).body(body).send().await?;
            // What a collector says beside its status is of no use here, and may be long.
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = answer.status();
            Ok::<_, reqwest::Error>(response)
        });
        Box::pin(async move { Ok(sending.await??) })
    }
}

/// Says in the log when spans are lost: at most once for a batch.
#[derive(Debug)]
struct Complaining(SpanExporter);

impl opentelemetry_sdk::trace::SpanExporter for Complaining {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let done = self.0.export(batch).await;
        if let Err(error) = &done {
            tracing::warn!(spans, reason = %error, "traces not sent");
        }
        done
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}
