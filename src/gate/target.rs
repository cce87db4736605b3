//! The upstream URL, parsed once. What is checked here is what is connected to: no later code parses text again.
//!
//! Where URL parsers are known to disagree (userinfo, backslashes, odd IPv4 spellings, white space, missing slashes)
//! the text is refused instead of interpreted, so that signer, edge, gate and client all mean the same file.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use memchr::memchr2;
use url::{Host, Position, Url};

use super::bytes::Bytes;

/// The longest `url` value, in bytes.
pub const MAX_URL_BYTES: usize = 4096;

/// Why a text is not an upstream URL; the text says what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(&'static str);

impl UrlError {
    /// The reason, without the URL.
    pub fn text(self) -> &'static str {
        self.0
    }
}

/// An absolute http or https URL without userinfo, fragment or second spelling of its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    // Many hold it: grant, hop, record. It never changes.
    url: Arc<Url>,
}

impl Target {
    /// Reads a URL as it stands in a link or token.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        check_text(text)?;
        let authority = authority(text)?;
        check_authority(authority)?;
        let url = Url::parse(text).map_err(|_| UrlError("this is not a valid URL"))?;
        if let Some(Host::Ipv4(ip)) = url.host() {
            let (host, _) = split_port(authority);
            if host.parse::<Ipv4Addr>() != Ok(ip) {
                return Err(UrlError("write an IPv4 host in plain dotted decimal form"));
            }
        }
        Self::from_url(url)
    }

    /// Takes over a URL that a redirect led to. Its fragment is dropped; it is never sent upstream.
    pub fn from_url(mut url: Url) -> Result<Self, UrlError> {
        url.set_fragment(None);
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UrlError("the scheme must be http or https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError("a URL must not carry a user name or password"));
        }
        match url.host() {
            None => Err(UrlError("the URL names no host")),
            Some(Host::Domain(name)) if name.is_empty() || name.ends_with('.') => {
                Err(UrlError("the host must not be empty or end with a dot"))
            }
            Some(_) if url.port_or_known_default().is_none_or(|port| port == 0) => {
                Err(UrlError("the port must lie between 1 and 65535"))
            }
            Some(_) => Ok(Self { url: Arc::new(url) }),
        }
    }

    /// Where a `Location` value leads from here (RFC 9110 section 10.2.2).
    pub fn join(&self, location: &str) -> Result<Self, UrlError> {
        let url =
            self.url.join(location).map_err(|_| UrlError("the redirect's Location is not a valid URL"))?;
        Self::from_url(url)
    }

    /// The parsed URL, for the connection.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The host in its ASCII form.
    pub fn host(&self) -> Host<&str> {
        self.url.host().unwrap_or(Host::Domain(""))
    }

    /// The host's address, if it is written as one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.host() {
            Host::Ipv4(ip) => Some(ip.into()),
            Host::Ipv6(ip) => Some(ip.into()),
            Host::Domain(_) => None,
        }
    }

    /// The port, the scheme's default if none is written.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(0)
    }

    /// Is the connection encrypted?
    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Same scheme, host and port (RFC 6454)?
    pub fn same_origin(&self, other: &Self) -> bool {
        self.url.scheme() == other.url.scheme() && self.host() == other.host() && self.port() == other.port()
    }

    /// Scheme, host, port and path: what a log may show. A query can hold another system's signature.
    pub fn loggable(&self) -> &str {
        &self.url[..Position::AfterPath]
    }
}

fn check_text(text: &str) -> Result<(), UrlError> {
    if text.len() > MAX_URL_BYTES {
        return Err(UrlError("the URL is longer than 4096 bytes"));
    }
    // In ASCII a byte is a character; white space there is a control character or the space.
    let plain = |byte: u8| byte > b' ' && byte < 0x7f && byte != b'\\' && byte != b'#';
    // Of a long text the compiler looks at many bytes at once.
    if text.bytes().fold(true, |all, byte| all & plain(byte)) {
        return Ok(());
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(UrlError("the URL contains white space or control characters; percent-encode them"));
    }
    if text.contains('\\') {
        return Err(UrlError("the URL contains a backslash; write `/`, or `%5C` in a path"));
    }
    if text.contains('#') {
        return Err(UrlError("the URL has a fragment; leave out `#` and what follows"));
    }
    Ok(())
}

/// The text between `//` and the path, as written.
fn authority(text: &str) -> Result<&str, UrlError> {
    let after = |scheme: &str| {
        text.get(..scheme.len())
            .filter(|head| head.eq_ignore_ascii_case(scheme))
            .and_then(|_| text.get(scheme.len()..))
    };
    let rest = after("https://")
        .or_else(|| after("http://"))
        .ok_or(UrlError("write an absolute URL that begins with `https://` or `http://`"))?;
    let end = memchr2(b'/', b'?', rest.as_bytes()).unwrap_or(rest.len());
    rest.get(..end).ok_or(UrlError("the URL names no host"))
}

fn check_authority(authority: &str) -> Result<(), UrlError> {
    static ORDINARY: Bytes = Bytes::ALPHANUMERIC.with(b".-");
    // A name without a port, as nearly every URL has it: nothing below finds fault with that.
    if !authority.is_empty() && !authority.ends_with('.') && ORDINARY.are_all_of(authority.as_bytes()) {
        return Ok(());
    }
    let (host, port) = split_port(authority);
    if host.is_empty() {
        return Err(UrlError("the URL names no host"));
    }
    if authority.contains('@') {
        return Err(UrlError("a URL must not carry a user name or password"));
    }
    if authority.contains('%') {
        return Err(UrlError("write the host without percent-encoding"));
    }
    if host.ends_with('.') || host.ends_with('\u{3002}') {
        return Err(UrlError("write the host without a trailing dot"));
    }
    match port {
        Some(digits) if !is_port(digits) => Err(UrlError("the port must be a number between 1 and 65535")),
        _ => Ok(()),
    }
}

fn is_port(digits: &str) -> bool {
    !digits.starts_with('0')
        && digits.bytes().all(|b| b.is_ascii_digit())
        && digits.parse::<u16>().is_ok_and(|port| port > 0)
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    let in_brackets = authority.rfind(']').unwrap_or(0);
    match authority.rfind(':').filter(|at| *at >= in_brackets) {
        Some(at) => (authority.get(..at).unwrap_or(""), authority.get(at + 1..)),
        None => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_of_each_host() {
        for (text, host, port) in [
            ("https://example.com/a?b=c", "example.com", 443),
            ("HTTPS://EXAMPLE.com:8443", "example.com", 8443),
            ("http://192.0.2.1/", "192.0.2.1", 80),
            ("https://[2001:db8::1]:444/x", "[2001:db8::1]", 444),
            ("https://bücher.example/ä", "xn--bcher-kva.example", 443),
            ("https://example.com/a@b:c%2Fd", "example.com", 443),
            ("https://example.com?x=1", "example.com", 443),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.host().to_string().as_str(), target.port()), (host, port), "{text}");
        }
    }

    #[test]
    fn texts_that_parsers_read_differently_are_refused() {
        for text in [
            "",
            "example.com/x",
            "//example.com/x",
            "/x",
            "https:example.com",
            "https:/example.com",
            "https:///example.com",
            "ftp://example.com/x",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "https://user@example.com/",
            "https://user:pw@example.com/",
            "https://@example.com/",
            "https://example.com\\@evil.example/",
            "https:\\\\example.com/",
            "https://exa mple.com/",
            " https://example.com/",
            "https://example.com/ ",
            "https://exa\tmple.com/",
            "https://example.com/\n",
            "https://ex%61mple.com/",
            "https://example.com./",
            "https://example.com。/",
            "https://example.com:/",
            "https://example.com:0/",
            "https://example.com:65536/",
            "https://example.com:0443/",
            "https://example.com:+80/",
            "https://example.com/#x",
            "https://:443/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://127.0.0.1./",
            "https://１２７.0.0.1/",
            "https://[::1%25lo]/",
            "https://[::1/",
            "https://[fe80::1%lo]/",
            "https://\u{ad}/",
            "https://a..b/\u{7f}",
        ] {
            assert!(Target::parse(text).is_err(), "{text:?}");
        }
        assert!(Target::parse(&format!("https://a.example/{}", "x".repeat(4096))).is_err());
    }

    #[test]
    fn a_redirect_is_resolved_against_the_page_it_came_from() {
        let here = Target::parse("https://a.example/dir/file?q=1").unwrap();
        assert_eq!(here.join("../x#frag").unwrap().url().as_str(), "https://a.example/x");
        assert_eq!(here.join("//b.example/y").unwrap().url().as_str(), "https://b.example/y");
        for bad in ["javascript:1", "https://u:p@b.example/", "https://b.example./", "https://b.example:0/"] {
            assert!(here.join(bad).is_err(), "{bad}");
        }
        assert!(here.same_origin(&Target::parse("https://a.example:443/z").unwrap()));
        assert!(!here.same_origin(&Target::parse("http://a.example/z").unwrap()));
    }

    #[test]
    fn a_log_shows_no_query() {
        let target = Target::parse("https://a.example/x?X-Amz-Signature=abc").unwrap();
        assert_eq!(target.loggable(), "https://a.example/x");
    }
}
