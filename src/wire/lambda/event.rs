//! From a function URL's event to an HTTP request. Nothing in an event may panic, and nothing is decoded twice: the query
//! is taken raw, since the parsed one joins repeated parameters with a comma.

use std::net::IpAddr;

use aws_lambda_events::lambda_function_urls::LambdaFunctionUrlRequest;
use http::header::{self, HeaderMap};
use http::request::Parts;
use http::{Method, Request, Response, Uri};

use crate::gate::link::LinkError;
use crate::gate::refusal::Refusal;
use crate::wire::answer;
use crate::wire::audit::Record;

use super::envelope::{self, Answered};

/// The client's address, as the edge saw it. Only the edge reaches the function, and it overwrites what came in.
const CLIENT: &str = "x-sluicegate-client";

/// What an invocation turned out to be.
pub(super) enum Arrived {
    Request(Box<Parts>, Option<IpAddr>),
    /// A request, but one whose query or headers no HTTP message could carry.
    Malformed(Method),
    /// A test event from the console, a schedule: the reason why it is no request.
    SomethingElse(String),
}

pub(super) fn read(body: &[u8]) -> Arrived {
    let event: LambdaFunctionUrlRequest = match serde_json::from_slice(body) {
        Ok(event) => event,
        Err(error) => return unreadable(body, &error),
    };
    let Some(method) = event.request_context.http.method.as_deref() else {
        return Arrived::SomethingElse("the event is not a function URL's: it names no method".to_owned());
    };
    let Ok(method) = method.parse::<Method>() else { return Arrived::Malformed(Method::GET) };
    let Some(uri) = uri(event.raw_path.as_deref(), event.raw_query_string.as_deref()) else {
        return Arrived::Malformed(method);
    };
    let client = only(&event.headers, CLIENT).and_then(|text| text.parse::<IpAddr>().ok());
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method;
    parts.uri = uri;
    parts.headers = event.headers;
    // A function URL always answers whole and chunked; the distribution in front cuts ranges out of what it has cached.
    for name in [header::RANGE, header::IF_RANGE] {
        parts.headers.remove(name);
    }
    Arrived::Request(Box::new(parts), client.map(|ip| ip.to_canonical()))
}

/// Path and query as they came. What is not exactly a link's path stays none, however it is spelt: a `?` in a path that
/// was decoded on the way must not begin a query.
fn uri(path: Option<&str>, query: Option<&str>) -> Option<Uri> {
    let plain = |path: &&str| {
        path.starts_with('/')
            && !path.contains(['?', '#'])
            && path.parse::<Uri>().is_ok_and(|uri| uri.authority().is_none())
    };
    let path = path.map_or("/", |path| Some(path).filter(plain).unwrap_or("/-"));
    match query.filter(|query| !query.is_empty()) {
        Some(query) if query.contains('#') => None,
        Some(query) => format!("{path}?{query}").parse().ok(),
        None => path.parse().ok(),
    }
}

fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}

/// A request with a header that is none, or an event of another kind.
fn unreadable(body: &[u8], error: &serde_json::Error) -> Arrived {
    let event: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    match event.pointer("/requestContext/http/method").and_then(serde_json::Value::as_str) {
        Some(method) => Arrived::Malformed(method.parse().unwrap_or(Method::GET)),
        None => Arrived::SomethingElse(format!(
            "the event is not a function URL's: {error}; invoke the function through its URL"
        )),
    }
}

/// 400 for a request that could not be read, with its record.
pub(super) fn malformed(method: &Method, request_id: &str) -> Response<Answered> {
    refused(&Refusal::Link(LinkError::QueryNotAscii), method, request_id)
}

/// 500 for a request whose handling panicked.
pub(super) fn broken(head_only: bool, request_id: &str) -> Response<Answered> {
    let method = if head_only { Method::HEAD } else { Method::GET };
    refused(&Refusal::Internal("the handler panicked"), &method, request_id)
}

fn refused(refusal: &Refusal, method: &Method, request_id: &str) -> Response<Answered> {
    let mut record = Record::begin(&request_id.into(), None, method);
    record.refused(refusal.code().face().status, refusal);
    envelope::known(answer::refusal(refusal, request_id), *method == Method::HEAD)
}
