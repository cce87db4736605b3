//! What goes back to the client: the head of a download, a problem document, and the fields that every answer carries.

use std::cell::Cell;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::gate::fault::UpstreamFault;
use crate::gate::filename::{Disposition, write_disposition};
use crate::gate::headers::{CHALLENGE, COMMON, PROBLEM_TYPE};
use crate::gate::refusal::Refusal;

use super::body::{Body, full};
use super::origin::Download;
use super::{clock, values};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static LENGTH: HeaderName = HeaderName::from_static("x-sluicegate-length");
static VARY: HeaderValue = HeaderValue::from_static("authorization, x-sluicegate-token");

/// As many fields as an answer has, so that its map never grows.
const FIELDS: usize = 24;

thread_local! {
    // A map of so many fields is larger than what the allocator keeps at hand.
    static SPARE: Cell<Option<HeaderMap>> = const { Cell::new(None) };
}

/// Takes a map that nobody needs any more, such as a request's, for the fields of the next answer on this thread.
pub fn keep_for_the_next(mut headers: HeaderMap) {
    if (FIELDS..=4 * FIELDS).contains(&headers.capacity()) {
        headers.clear();
        SPARE.set(Some(headers));
    }
}

/// The fields of every answer, refusals included.
fn common(request_id: &str) -> HeaderMap {
    let mut headers = SPARE.take().unwrap_or_else(|| HeaderMap::with_capacity(FIELDS));
    for (name, value) in &COMMON {
        headers.insert(name, value.clone());
    }
    if let Some(id) = values::value(&[request_id]) {
        headers.insert(REQUEST_ID.clone(), id);
    }
    headers
}

/// A problem document (RFC 9457).
pub fn refusal(refusal: &Refusal, request_id: &str) -> Response<Body> {
    let face = refusal.code().face();
    let problem = serde_json::json!({
        "type": format!("urn:sluicegate:problem:{}", face.code),
        "title": face.title,
        "status": face.status,
        "detail": refusal.detail(),
        "code": face.code,
        "request_id": request_id,
    });
    let mut headers = common(request_id);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = refusal.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    match refusal {
        Refusal::Method(_) => {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
        }
        Refusal::Link(crate::gate::link::LinkError::NoCredential) => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
        }
        Refusal::Upstream(UpstreamFault::FetchDirectly(_, url)) => {
            if let Ok(location) = HeaderValue::from_str(url) {
                headers.insert(header::LOCATION, location);
            }
        }
        Refusal::Upstream(UpstreamFault::RangeNotSatisfiable(Some(total))) => {
            if let Ok(range) = HeaderValue::from_str(&format!("bytes */{total}")) {
                headers.insert(header::CONTENT_RANGE, range);
            }
        }
        _ => {}
    }
    let mut text = problem.to_string();
    text.push('\n');
    respond(face.status, headers, full(text))
}

/// What the shared cache in front is told: how long it may keep an answer, and what it needs to answer others with it.
#[derive(Debug)]
pub struct Shared {
    /// Seconds.
    pub seconds: u64,
    /// The edge's own id of this request, repeated, so that it can tell a hit from this very answer.
    pub edge_request: Option<HeaderValue>,
}

/// How long the policy lets anybody keep this answer, in seconds; what the upstream keeps back counts unless the policy
/// overrules it.
pub fn policy_ttl(download: &Download) -> Option<u64> {
    let permit = download.admission.permit();
    let rules = permit.tenant().response();
    let kept_back = download.head.forbids_caching && !rules.caches_despite_upstream(permit.grant().target());
    rules.cache_ttl.filter(|_| !kept_back)
}

/// The head of a download; the caller adds the body. `waits` if it is not written as soon as it is there.
pub fn download(
    download: &mut Download,
    request_id: &str,
    shared: Option<Shared>,
    waits: bool,
) -> (StatusCode, HeaderMap) {
    let mut headers = common(request_id);
    for (name, mut value) in download.head.relayed.drain(..) {
        if waits && let Ok(own) = HeaderValue::from_bytes(value.as_bytes()) {
            // It must not hold the memory that others are read into.
            value = own;
        }
        headers.insert(name, value);
    }
    let download = &*download;
    let head = &download.head;
    let permit = download.admission.permit();
    headers.insert(header::CACHE_CONTROL, cache_control(download));
    if head.accepts_ranges {
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    }
    if head.status == StatusCode::NOT_MODIFIED {
        headers.remove(header::CONTENT_ENCODING);
        headers.remove(header::ACCEPT_RANGES);
        return (head.status, headers);
    }
    // The same URL with another token may be answered under another name.
    headers.insert(header::VARY, VARY.clone());
    let kind = disposition(permit.grant().disposition(), &head.content_type);
    let named = values::written(|text| {
        write_disposition(kind, &download.filename, |part| text.extend_from_slice(part.as_bytes()));
    });
    // It holds visible ASCII and spaces only; without that the browser still gets the disposition.
    let named = named.unwrap_or_else(|| HeaderValue::from_static(kind.as_str()));
    headers.insert(header::CONTENT_DISPOSITION, named);
    if let Some(value) = values::value(&[head.content_type.as_ref()]) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    for (name, length) in [(&header::CONTENT_LENGTH, head.body_length), (&LENGTH, head.whole_length)] {
        if let Some(length) = length.and_then(values::number) {
            headers.insert(name, length);
        }
    }
    if let Some(Ok(value)) = head.range.map(|range| HeaderValue::from_str(&range.to_string())) {
        headers.insert(header::CONTENT_RANGE, value);
    }
    if let Some(shared) = shared {
        share(&mut headers, download, shared);
    }
    (head.status, headers)
}

/// Marks an answer for the shared cache. The edge's viewer-response function puts each link's own name, end and `Vary`
/// back before a client sees it.
fn share(headers: &mut HeaderMap, download: &Download, shared: Shared) {
    let unnamed = download.unnamed.as_ref().unwrap_or(&download.filename);
    let most = policy_ttl(download).unwrap_or(0);
    let kept = format!("max-age={most}, s-maxage={}", shared.seconds);
    let name = percent_encoding::utf8_percent_encode(unnamed.as_str(), percent_encoding::NON_ALPHANUMERIC);
    let (Ok(kept), Ok(name)) = (HeaderValue::from_str(&kept), HeaderValue::from_str(&name.to_string()))
    else {
        return;
    };
    headers.insert(header::CACHE_CONTROL, kept);
    headers.insert(HeaderName::from_static("x-sluicegate-filename"), name);
    headers.remove(header::VARY);
    if let Some(id) = shared.edge_request {
        headers.insert(HeaderName::from_static("x-sluicegate-request"), id);
    }
}

/// `inline` is for what a browser shows without running it; markup and scripts are always saved.
fn disposition(signed: Disposition, content_type: &mime::Mime) -> Disposition {
    let shown = match (content_type.type_(), content_type.subtype().as_str()) {
        (mime::IMAGE, subtype) => subtype != "svg",
        (mime::VIDEO | mime::AUDIO, _) | (mime::TEXT, "plain") | (mime::APPLICATION, "pdf") => true,
        _ => false,
    };
    if shown { signed } else { Disposition::Attachment }
}

/// What browsers may keep: the policy's time, never past the link's own end, never what the upstream keeps back.
fn cache_control(download: &Download) -> HeaderValue {
    let left = || download.admission.permit().grant().expires().since(clock::now());
    match policy_ttl(download).map(|ttl| ttl.min(left())) {
        Some(seconds) if seconds > 0 => HeaderValue::from_str(&format!("private, max-age={seconds}"))
            .unwrap_or(HeaderValue::from_static("no-store")),
        _ => HeaderValue::from_static("private, no-store"),
    }
}

/// The answer to a CORS preflight (Fetch standard, section 3.2.2): the methods and fields that a link may be used with.
pub fn preflight(request_id: &str) -> Response<Body> {
    let mut headers = common(request_id);
    let mut set =
        |name: HeaderName, value: &'static str| drop(headers.insert(name, HeaderValue::from_static(value)));
    set(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD");
    set(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        "authorization, if-match, if-modified-since, if-none-match, if-range, if-unmodified-since, range, x-sluicegate-token",
    );
    set(header::ACCESS_CONTROL_MAX_AGE, "600");
    set(header::CACHE_CONTROL, "no-store");
    set(header::ALLOW, "GET, HEAD, OPTIONS");
    respond(204, headers, full(""))
}

/// `/healthz`: the process answers.
pub fn health(request_id: &str) -> Response<Body> {
    let mut headers = common(request_id);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    respond(200, headers, full("ok\n"))
}

/// Puts an answer together.
pub fn respond(status: u16, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = headers;
    response
}
