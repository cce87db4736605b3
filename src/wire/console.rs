//! The console at `/_/`: a page on the local server where a person builds, inspects and tries links and watches live
//! figures. It can sign with every key of the policies, so it serves one machine's own user alone.

mod build;
mod figures;
mod page;
mod visitor;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::gate::explain::query_of;
use crate::gate::headers::PROBLEM_TYPE;
use crate::gate::link::TOKEN_HEADER;

use super::body::{Body, full};
use super::figures::Figures;
use super::handler::Gateway;
use super::policies::PolicyStore;

/// Where it is. Everything below belongs to it.
pub const PREFIX: &str = "/_/";

/// Is this path the console's?
pub fn covers(path: &str) -> bool {
    path.starts_with(PREFIX) || path == PREFIX.trim_end_matches('/')
}

/// The longest request: a link of 8192 bytes, written in JSON, and a token.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long its body may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the page is told of its server, beside policies and figures.
#[derive(Debug, Clone, Default, Serialize)]
pub struct About {
    /// Upstream files to try, as the demo has them.
    pub samples: Vec<String>,
}

/// The console of one server.
pub struct Console {
    key: SecretString,
    about: About,
    gateway: Arc<Gateway>,
    policies: Arc<PolicyStore>,
    figures: Arc<Figures>,
}

/// Why the console does not do what was asked.
struct Complaint {
    status: StatusCode,
    detail: String,
    /// The field of the form that is at fault.
    parameter: Option<&'static str>,
}

impl Console {
    /// A console with a key of its own, which every call must carry. `figures` are those that `gateway` counts in.
    pub fn new(
        about: About,
        gateway: Arc<Gateway>,
        policies: Arc<PolicyStore>,
        figures: Arc<Figures>,
    ) -> Result<Arc<Self>, String> {
        let mut random = [0u8; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| "there is no randomness for the console's key")?;
        let key = u128::from_ne_bytes(random);
        Ok(Arc::new(Self { key: format!("{key:032x}").into(), about, gateway, policies, figures }))
    }

    /// The address to open. The key stands in the fragment, which browsers send to nobody; print it to the person who
    /// started the server, and never to a log.
    pub fn address(&self, server: SocketAddr) -> String {
        format!("http://{server}{PREFIX}#key={}", self.key.expose_secret())
    }

    /// Answers a request below [`PREFIX`].
    pub async fn answer(&self, request: &Parts, body: Incoming, peer: IpAddr) -> Response<Body> {
        let authority = match visitor::check(request, peer) {
            Ok(authority) => authority,
            Err(complaint) => return complain(&complaint),
        };
        let mut response = self.serve(request, body, peer).await;
        if let Ok(policy) = HeaderValue::from_str(&page::policy(&authority)) {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        response
    }

    async fn serve(&self, request: &Parts, body: Incoming, peer: IpAddr) -> Response<Body> {
        let Some(path) = request.uri.path().strip_prefix(PREFIX) else {
            return page::moved();
        };
        let Some(call) = path.strip_prefix("api/") else { return page::asset(&request.method, path) };
        if !visitor::holds(&self.key, &request.headers) {
            return complain(&Complaint::new(
                StatusCode::UNAUTHORIZED,
                "this page has not the key of the running server; open the address that the server printed when it started",
            ));
        }
        let done = match (&request.method, call) {
            (&Method::GET, "keys") => json(&build::Offer::of(&self.policies.current(), &self.about)),
            (&Method::GET, "figures") => {
                let policies = self.policies.current();
                json(&figures::Report::of(&self.figures, self.gateway.limits(), &policies).await)
            }
            (&Method::GET, "reason") => self.reason(request),
            (&Method::POST, "mint") => self.mint(request, body).await,
            (&Method::POST, "inspect") => self.inspect(request, body, peer).await,
            (_, "keys" | "figures" | "reason") => Err(Complaint::method("GET")),
            (_, "mint" | "inspect") => Err(Complaint::method("POST")),
            _ => Err(Complaint::new(StatusCode::NOT_FOUND, "the console has no such call")),
        };
        done.unwrap_or_else(|complaint| complain(&complaint))
    }

    async fn mint(&self, request: &Parts, body: Incoming) -> Result<Response<Body>, Complaint> {
        let order = read(request, body).await?;
        let policies = self.policies.fresh().await;
        json(&build::mint(&policies, &order)?)
    }

    /// What the log says of a request, by its id.
    fn reason(&self, request: &Parts) -> Result<Response<Body>, Complaint> {
        let id = request.uri.query().unwrap_or_default();
        match self.figures.reason(id) {
            Some(reason) => json(&serde_json::json!({ "reason": reason })),
            None => Err(Complaint::new(StatusCode::NOT_FOUND, "this request is unknown, or too long ago")),
        }
    }

    async fn inspect(
        &self,
        request: &Parts,
        body: Incoming,
        peer: IpAddr,
    ) -> Result<Response<Body>, Complaint> {
        let question: build::Question = read(request, body).await?;
        let mut headers = HeaderMap::new();
        if let Some(token) = question.token.as_deref().map(str::trim).filter(|token| !token.is_empty()) {
            let value = HeaderValue::from_str(token).map_err(|_| {
                Complaint::about("token", "this is no token: it has characters that no header can hold")
            })?;
            headers.insert(HeaderName::from_static(TOKEN_HEADER), value);
        }
        let client = match question.client.as_deref().map(str::trim).filter(|client| !client.is_empty()) {
            None => peer,
            Some(text) => text.parse().map_err(|_| {
                Complaint::about(
                    "client",
                    format!("`{text}` is no IP address; leave it empty to be judged as yourself"),
                )
            })?,
        };
        json(&self.gateway.explain(query_of(&question.link), &headers, Some(client)).await)
    }
}

impl Complaint {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), parameter: None }
    }

    fn about(parameter: &'static str, detail: impl Into<String>) -> Self {
        Self { parameter: Some(parameter), ..Self::new(StatusCode::BAD_REQUEST, detail) }
    }

    fn method(allowed: &str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("this call takes {allowed}"))
    }
}

/// Reads a JSON body. The content type is one that no form on another page can send.
async fn read<T: DeserializeOwned>(request: &Parts, body: Incoming) -> Result<T, Complaint> {
    let kind = request.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if kind != Some(b"application/json") {
        return Err(Complaint::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send `content-type: application/json`",
        ));
    }
    let bytes = match timeout(PATIENCE, Limited::new(body, MAX_BODY_BYTES).collect()).await {
        Ok(Ok(whole)) => whole.to_bytes(),
        Ok(Err(_)) => {
            let detail = format!("the request broke off, or is longer than {MAX_BODY_BYTES} bytes");
            return Err(Complaint::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        Err(_) => {
            return Err(Complaint::new(
                StatusCode::REQUEST_TIMEOUT,
                "the request's body did not come in time",
            ));
        }
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        Complaint::new(StatusCode::BAD_REQUEST, format!("the request cannot be read: {error}"))
    })
}

fn json(value: &impl Serialize) -> Result<Response<Body>, Complaint> {
    let text = serde_json::to_vec(value)
        .map_err(|_| Complaint::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written"))?;
    Ok(respond(StatusCode::OK, "application/json", text))
}

fn complain(complaint: &Complaint) -> Response<Body> {
    let problem = serde_json::json!({
        "type": "about:blank",
        "title": complaint.status.canonical_reason().unwrap_or("refused"),
        "status": complaint.status.as_u16(),
        "detail": complaint.detail,
        "parameter": complaint.parameter,
    });
    respond(complaint.status, PROBLEM_TYPE, problem.to_string())
}

fn respond(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in page::FIELDS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
