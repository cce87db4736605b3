//! The files of the page, as they are in `console/page/`, and the fields that every answer of the console carries.

use http::header::{self, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{Method, Response, StatusCode};

use crate::wire::body::Body;

use super::{Complaint, PREFIX, complain, respond};

/// What refusals may bring in.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// Nothing from elsewhere, nothing inline, in no frame; text never becomes markup (Trusted Types). Downloads come from the
/// same origin, so that code is taken from the page's own folder alone.
pub(super) fn policy(authority: &Authority) -> String {
    let own = format!("http://{authority}{PREFIX}");
    format!(
        "default-src 'none'; script-src {own}; style-src {own}; img-src {own}; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

/// The fields of every answer of the console. Unlike a download it may be read by no other origin.
pub(super) const FIELDS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, NOTHING),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The page uses the download helper that the JavaScript client library ships.
const ASSETS: [(&str, &str, &str); 10] = [
    ("", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("page.js", SCRIPT, include_str!("page/page.js")),
    ("server.js", SCRIPT, include_str!("page/server.js")),
    ("build.js", SCRIPT, include_str!("page/build.js")),
    ("inspect.js", SCRIPT, include_str!("page/inspect.js")),
    ("live.js", SCRIPT, include_str!("page/live.js")),
    ("plot.js", SCRIPT, include_str!("page/plot.js")),
    ("download.js", SCRIPT, include_str!("../../../clients/javascript/src/download.js")),
];

/// Without its last slash the page would not find its files.
pub(super) fn moved() -> Response<Body> {
    let mut response = respond(StatusCode::PERMANENT_REDIRECT, "text/plain", "");
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(PREFIX));
    response
}

/// A file of the page. They hold no secret and are given to whoever may visit.
pub(super) fn asset(method: &Method, path: &str) -> Response<Body> {
    if !matches!(method, &Method::GET | &Method::HEAD) {
        return complain(&Complaint::method("GET"));
    }
    match ASSETS.iter().find(|(name, ..)| *name == path) {
        Some((_, content_type, text)) => {
            let text = if method == Method::HEAD { "" } else { text };
            respond(StatusCode::OK, content_type, text)
        }
        None => complain(&Complaint::new(StatusCode::NOT_FOUND, "the console has no such page; open `/_/`")),
    }
}
