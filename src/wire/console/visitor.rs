//! Who may use the console: a program on this machine that came straight to it, and a page that the console itself served.
//! Other pages in the same browser can reach loopback too, by its address or by a name of theirs that points there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use crate::gate::headers::only;

use super::Complaint;

/// What a proxy adds, beside `x-forwarded-*`: then somebody else asks, from somewhere else.
const FORWARDED: [&str; 7] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "x-sluicegate-client",
];

fn is_a_proxys(name: &HeaderName) -> bool {
    FORWARDED.contains(&name.as_str()) || name.as_str().starts_with("x-forwarded-")
}

/// Under which authority the console was asked; refuses who is not on this machine, came by a proxy, by another name than loopback's (DNS rebinding), or from a page of
/// another origin.
pub(super) fn check(request: &Parts, peer: IpAddr) -> Result<Authority, Complaint> {
    let refuse = |detail: &str| Err(Complaint::new(StatusCode::FORBIDDEN, detail));
    let headers = &request.headers;
    if !peer.is_loopback() {
        return refuse("the console answers this machine alone");
    }
    if headers.keys().any(is_a_proxys) {
        return refuse("the console answers no proxy; open the server's own address");
    }
    let Some(host) = host(request) else {
        return refuse("the console answers at `127.0.0.1`, `[::1]` and `localhost` alone");
    };
    let origin = only(headers, &header::ORIGIN).map(HeaderValue::as_bytes);
    if headers.contains_key(header::ORIGIN) && origin != Some(format!("http://{host}").as_bytes()) {
        return refuse("the console answers its own page alone");
    }
    let site = only(headers, &SITE).map(HeaderValue::as_bytes);
    if headers.contains_key(&SITE) && !matches!(site, Some(b"same-origin" | b"none")) {
        return refuse("the console answers its own page alone; open its address by hand");
    }
    Ok(host)
}

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The authority that was asked for, if it is loopback's and there is exactly one.
fn host(request: &Parts) -> Option<Authority> {
    let mut named = request.headers.get_all(header::HOST).iter();
    let authority: Authority = match (request.uri.authority(), named.next(), named.next()) {
        (Some(authority), None, _) => authority.clone(),
        (None, Some(host), None) => host.to_str().ok()?.parse().ok()?,
        (Some(authority), Some(host), None) if host.as_bytes() == authority.as_str().as_bytes() => {
            authority.clone()
        }
        _ => return None,
    };
    let host = authority.host();
    let is_loopback = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback()),
        None => {
            host.eq_ignore_ascii_case("localhost")
                || host.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
        }
    };
    // Nothing else may stand in it: neither a user name nor a port that is no number.
    let whole = match authority.port_u16() {
        Some(port) => authority.as_str() == format!("{host}:{port}"),
        None => authority.as_str() == host,
    };
    (is_loopback && whole).then_some(authority)
}

/// Does the request carry the console's key? `Authorization` is a header that no other page can add unasked.
pub(super) fn holds(key: &SecretString, headers: &HeaderMap) -> bool {
    only(headers, &header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .is_some_and(|given| given.ct_eq(key.expose_secret().as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn request(headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri("/_/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn its_own_page_may() {
        for headers in [
            &[("host", "127.0.0.1:8080")][..],
            &[("host", "LOCALHOST")],
            &[("host", "[::1]:8080"), ("origin", "http://[::1]:8080")],
            &[
                ("host", "127.0.0.1:8080"),
                ("origin", "http://127.0.0.1:8080"),
                ("sec-fetch-site", "same-origin"),
            ],
            &[("host", "127.0.0.1:8080"), ("sec-fetch-site", "none")],
        ] {
            assert!(check(&request(headers), HERE).is_ok(), "{headers:?}");
        }
    }

    #[test]
    fn nobody_else_may() {
        for headers in [
            &[][..],
            &[("host", "evil.example")],
            &[("host", "evil.localhost.example")],
            &[("host", "sample.localhost:8080")],
            &[("host", "user@127.0.0.1:8080")],
            &[("host", "localhost:evil")],
            &[("host", "127.0.0.1:99999")],
            &[("host", "[127.0.0.1]:8080")],
            &[("host", "127.0.0.1.:8080")],
            &[("host", "0.0.0.0:8080")],
            &[("host", "127.0.0.1:8080"), ("host", "evil.example")],
            &[("host", "127.0.0.1:8080"), ("origin", "http://evil.example")],
            &[("host", "127.0.0.1:8080"), ("origin", "http://127.0.0.1:8081")],
            &[("host", "127.0.0.1:8080"), ("origin", "null")],
            &[
                ("host", "127.0.0.1:8080"),
                ("origin", "http://127.0.0.1:8080"),
                ("origin", "http://evil.example"),
            ],
            &[("host", "127.0.0.1:8080"), ("sec-fetch-site", "cross-site")],
            &[("host", "127.0.0.1:8080"), ("sec-fetch-site", "same-site")],
            &[("host", "127.0.0.1:8080"), ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
            &[("host", "127.0.0.1:8080"), ("x-forwarded-proto", "https")],
            &[("host", "127.0.0.1:8080"), ("cf-connecting-ip", "127.0.0.1")],
            &[("host", "127.0.0.1:8080"), ("x-forwarded-for", "127.0.0.1")],
            &[("host", "127.0.0.1:8080"), ("via", "1.1 proxy")],
            &[("host", "127.0.0.1:8080"), ("forwarded", "for=127.0.0.1")],
        ] {
            assert!(check(&request(headers), HERE).is_err(), "{headers:?}");
        }
        let good = request(&[("host", "127.0.0.1:8080")]);
        assert!(check(&good, "192.0.2.7".parse().unwrap()).is_err());
    }

    #[test]
    fn the_key_is_whole_and_alone() {
        let key = SecretString::from("0123456789abcdef0123456789abcdef");
        let carries = |values: &[&str]| {
            let headers: Vec<_> = values.iter().map(|value| ("authorization", *value)).collect();
            holds(&key, &request(&headers).headers)
        };
        assert!(carries(&["Bearer 0123456789abcdef0123456789abcdef"]));
        for wrong in [
            &[][..],
            &["Bearer "],
            &["Bearer 0123456789abcdef"],
            &["0123456789abcdef0123456789abcdef"],
            &["Bearer 0123456789abcdef0123456789abcdeg"],
            &["Bearer 0123456789abcdef0123456789abcdef", "Bearer x"],
        ] {
            assert!(!carries(wrong), "{wrong:?}");
        }
    }
}
