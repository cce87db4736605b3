//! The client of the Runtime API for answers. One connection carries one answer at a time and is closed in the middle of it
//! when the body breaks: the one thing that the platform takes for an incomplete response. (lambda_runtime writes the error
//! into the body and ends it as if it were whole.)

use std::sync::{Mutex, PoisonError};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use lambda_runtime::LambdaInvocation;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::envelope::Envelope;

const VERSION: &str = "2018-06-01";
const STREAMING: &str = "application/vnd.awslambda.http-integration-response";
const RESPONSE_MODE: HeaderName = HeaderName::from_static("lambda-runtime-function-response-mode");
const ERROR_TYPE: HeaderName = HeaderName::from_static("lambda-runtime-function-error-type");
const INVOCATION_ID: HeaderName = HeaderName::from_static("lambda-runtime-invocation-id");
/// How much of the API's own answer is looked at, in bytes.
const MAX_ANSWER: usize = 4096;
/// From how many unsent bytes on a connection asks the body for no more; a piece that it asked for comes on top.
const MAX_HELD: usize = 64 * 1024;

/// Which invocation an answer is for.
pub(super) struct Invocation {
    pub(super) request_id: String,
    /// Given to tell two attempts at one request apart; echoed.
    invocation_id: Option<HeaderValue>,
}

impl Invocation {
    pub(super) fn read(invocation: &LambdaInvocation) -> Self {
        Self {
            request_id: invocation.context.request_id.clone(),
            invocation_id: invocation.parts.headers.get(INVOCATION_ID).cloned(),
        }
    }
}

/// Where answers go.
pub(super) struct RuntimeApi {
    authority: String,
    /// In front of every path; only emulators have one.
    base: String,
    idle: Mutex<Vec<Connection>>,
}

/// An open connection; it is closed when this is dropped, whatever is being sent on it.
struct Connection {
    sender: SendRequest<Envelope>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RuntimeApi {
    pub(super) fn from_environment() -> Self {
        let given = std::env::var("AWS_LAMBDA_RUNTIME_API").unwrap_or_default();
        let uri = given.trim_start_matches("http://").trim_end_matches('/');
        let (authority, base) = uri.find('/').map_or((uri, ""), |slash| uri.split_at(slash));
        Self { authority: authority.to_owned(), base: base.to_owned(), idle: Mutex::default() }
    }

    /// Sends an answer. An error means that it was cut off, as it must be when its body breaks.
    pub(super) async fn respond(
        &self,
        invocation: &Invocation,
        envelope: Envelope,
        gone: &mut watch::Receiver<()>,
    ) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(STREAMING));
        headers.insert(RESPONSE_MODE, HeaderValue::from_static("streaming"));
        self.post(invocation, "response", headers, envelope, gone).await
    }

    /// Reports an invocation that cannot be answered.
    pub(super) async fn fail(&self, invocation: &Invocation, reason: &str) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ERROR_TYPE, HeaderValue::from_static("Sluicegate.NotARequest"));
        let report = serde_json::json!({ "errorType": "Sluicegate.NotARequest", "errorMessage": reason });
        let (envelope, mut gone) = Envelope::plain(report.to_string());
        self.post(invocation, "error", headers, envelope, &mut gone).await
    }

    async fn post(
        &self,
        invocation: &Invocation,
        what: &str,
        headers: HeaderMap,
        envelope: Envelope,
        gone: &mut watch::Receiver<()>,
    ) -> Result<(), String> {
        let path = format!("{}/{VERSION}/runtime/invocation/{}/{what}", self.base, invocation.request_id);
        let mut request = Request::post(path).body(envelope).map_err(|error| error.to_string())?;
        *request.headers_mut() = headers;
        let host = HeaderValue::from_str(&self.authority).map_err(|error| error.to_string())?;
        request.headers_mut().insert(header::HOST, host);
        if let Some(id) = &invocation.invocation_id {
            request.headers_mut().insert(INVOCATION_ID, id.clone());
        }
        let (mut connection, response) = self.send(request).await?;
        let status = response.status();
        if !status.is_success() {
            // The answer is cut off before its refusal is read, which may never end.
            drop(connection);
            return Err(format!("the Runtime API answered {status}"));
        }
        // An answer may come before the whole body was taken; the invocation ends when both are there.
        let _ = gone.changed().await;
        let drained = http_body_util::Limited::new(response.into_body(), MAX_ANSWER).collect().await.is_ok();
        if drained && connection.sender.ready().await.is_ok() {
            self.idle().push(connection);
        }
        Ok(())
    }

    /// Sends on a connection that is open, or on a new one. One that was closed meanwhile gives the request back.
    async fn send(
        &self,
        mut request: Request<Envelope>,
    ) -> Result<(Connection, Response<hyper::body::Incoming>), String> {
        loop {
            let kept = self.idle().pop();
            let is_new = kept.is_none();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok((connection, response)),
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if !is_new => request = unsent,
                    _ => return Err(innermost(&failed.into_error())),
                },
            }
        }
    }

    async fn connect(&self) -> Result<Connection, String> {
        let cannot = |error: &dyn std::fmt::Display| format!("cannot reach the Runtime API: {error}");
        let stream = TcpStream::connect(&self.authority).await.map_err(|error| cannot(&error))?;
        // Without this the prelude waits for the acknowledgement of what went before, about 40 ms.
        stream.set_nodelay(true).map_err(|error| cannot(&error))?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HELD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| cannot(&error))?;
        // A body that panics does so in this task, which takes the connection with it and nothing else.
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(reason = %error, "connection to the Runtime API ended");
            }
        });
        Ok(Connection { sender, task: task.abort_handle() })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cause, such as the fault that broke the body.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
