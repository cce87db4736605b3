//! Who the client is: the socket's peer, or what a proxy that the operator named says. Nobody else is believed.

use std::net::IpAddr;

use http::HeaderMap;

use super::config::ClientConfig;

/// The client's address. From the right, addresses of trusted proxies are passed over; the first other one is the
/// client. Something unreadable there means that the client is unknown.
pub fn address(peer: IpAddr, headers: &HeaderMap, config: &ClientConfig) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    let trusted = |ip: IpAddr| config.trusted_proxies.iter().any(|net| net.contains(&ip));
    if !trusted(peer) {
        return Some(peer);
    }
    let values: Vec<_> = headers.get_all(&config.address_header).iter().collect();
    let mut hops = values.iter().rev().flat_map(|value| value.as_bytes().rsplit(|b| *b == b','));
    let mut seen = peer;
    loop {
        let Some(hop) = hops.next() else { return Some(seen) };
        seen = read(hop)?;
        if !trusted(seen) {
            return Some(seen);
        }
    }
}

fn read(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    let ip: IpAddr = text.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn only_named_proxies_are_believed() {
        let config =
            ClientConfig { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..Default::default() };
        for (peer, header, client) in [
            ("203.0.113.9", Some("198.51.100.1"), Some("203.0.113.9")),
            ("10.0.0.1", Some("198.51.100.1"), Some("198.51.100.1")),
            ("10.0.0.1", Some("6.6.6.6, 198.51.100.1, 10.0.0.2"), Some("198.51.100.1")),
            ("10.0.0.1", Some("6.6.6.6, unknown"), None),
            ("10.0.0.1", None, Some("10.0.0.1")),
            ("::ffff:10.0.0.1", Some("2001:db8::1"), Some("2001:db8::1")),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = header {
                headers.insert("x-forwarded-for", HeaderValue::from_static(value));
            }
            let found = address(peer.parse().unwrap(), &headers, &config);
            assert_eq!(found, client.map(|ip| ip.parse().unwrap()), "{peer} {header:?}");
        }
    }
}
