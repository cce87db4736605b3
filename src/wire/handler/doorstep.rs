//! What is settled before a link is read: health, preflights, requests that cannot be links, and the id of each.

use std::cell::RefCell;
use std::sync::Arc;

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Response, Version, header};

use crate::gate::fault::UpstreamFault;
use crate::gate::refusal::Refusal;
use crate::wire::answer;
use crate::wire::body::Body;
use crate::wire::origin::is_loop;

use super::Arrival;

/// What is settled before a link is read: health, preflights, and requests that cannot be links.
pub(super) fn at_the_door(arrival: &Arrival<'_>) -> Result<Option<Response<Body>>, Refusal> {
    let Parts { method, uri, headers, version, .. } = arrival.request;
    check_host(*version, uri.authority().is_some(), headers)?;
    match (method, uri.path()) {
        (&Method::GET | &Method::HEAD, _) if is_coded(headers) => Err(Refusal::Coded),
        (&Method::GET | &Method::HEAD, "/healthz") => Ok(Some(answer::health(arrival.request_id))),
        (&Method::OPTIONS, "/") if headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) => {
            Ok(Some(answer::preflight(arrival.request_id)))
        }
        (&Method::GET | &Method::HEAD, "/") if is_loop(headers) => Err(UpstreamFault::Loop.into()),
        (&Method::GET | &Method::HEAD, "/") => Ok(None),
        (&Method::GET | &Method::HEAD, _) => Err(Refusal::NotFound),
        (method, _) => Err(Refusal::Method(method.as_str().chars().take(16).collect())),
    }
}

/// Exactly one Host in HTTP/1.1 (RFC 9112 section 3.2), at most one elsewhere.
fn check_host(version: Version, has_authority: bool, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    let valid = |host: &HeaderValue| {
        is_plain_name(host.as_bytes()) || host.to_str().is_ok_and(|text| text.parse::<Authority>().is_ok())
    };
    let required = version == Version::HTTP_11 || (version > Version::HTTP_11 && !has_authority);
    let good = another.is_none() && host.map_or(!required, valid);
    if good { Ok(()) } else { Err(Refusal::Host) }
}

/// What nearly every client sends: a name or an IPv4 address, and maybe a port. Anything else is parsed.
fn is_plain_name(host: &[u8]) -> bool {
    let (name, port) = match host.iter().rposition(|b| *b == b':').and_then(|at| host.split_at_checked(at)) {
        Some((name, [_, port @ ..])) if (1..=5).contains(&port.len()) => (name, port),
        _ => (host, &[][..]),
    };
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    !name.is_empty() && name.iter().all(is_name) && port.iter().all(u8::is_ascii_digit)
}

/// Has the request a body in a transfer coding? Downloads need none, and it is what smuggled requests are made of.
pub(super) fn is_coded(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
}

/// How many ids are made of one draw: the generator costs much the same for one as for many.
const IDS: usize = 32;

thread_local! {
    static DRAWN: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
}

/// 128 random bits in hex; an inbound id is not taken over.
pub(super) fn new_request_id() -> Arc<str> {
    let bytes = DRAWN.with_borrow_mut(|drawn| {
        drawn.pop().unwrap_or_else(|| {
            let mut more = [[0; 16]; IDS];
            // Without randomness there is no TLS either; a fixed id only makes a log harder to read.
            let _ = aws_lc_rs::rand::fill(more.as_flattened_mut());
            drawn.extend_from_slice(&more);
            drawn.pop().unwrap_or_default()
        })
    });
    let mut text = [0; 32];
    for (digits, byte) in text.as_chunks_mut().0.iter_mut().zip(bytes) {
        *digits = [byte >> 4, byte & 15].map(|half| if half < 10 { b'0' + half } else { b'a' - 10 + half });
    }
    std::str::from_utf8(&text).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is not parsed would be read as a host too.
    #[test]
    fn a_plain_name_is_a_host() {
        for (host, plain) in [
            ("a.example", true),
            ("a.example:8080", true),
            ("127.0.0.1:1", true),
            ("a:65535", true),
            ("a:99999", true),
            ("a:", false),
            ("a:123456", false),
            (":80", false),
            ("a:b:80", false),
            ("[::1]:80", false),
            ("a@b:80", false),
            ("a_b", false),
            ("a:8o", false),
            ("", false),
        ] {
            assert_eq!(is_plain_name(host.as_bytes()), plain, "{host}");
            assert!(!plain || host.parse::<Authority>().is_ok(), "{host}");
        }
    }
}
