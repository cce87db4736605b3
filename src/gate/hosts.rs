//! Host patterns of a policy, and a table that finds a host's entries without walking all of them.
//!
//! A pattern is one exact host, or `*.` and a registrable domain or a name below one. Names are compared in their ASCII
//! form, label by label, as [`url::Url`] gives them: lower case, IDNA done, IPv4 in dotted form.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use url::Host;

use super::table::Table;

/// The longest host name that matches anything, in bytes without a trailing dot: RFC 1035, section 2.3.4.
/// It also bounds the work of one look-up.
const LONGEST_NAME: usize = 253;
/// The longest label, in bytes: RFC 1035, section 2.3.4.
const LONGEST_LABEL: usize = 63;

/// One host, or every host below a domain.
///
/// ```
/// # use sluicegate::gate::hosts::HostPattern;
/// # use url::Host;
/// let pattern = HostPattern::parse("*.example.com")?;
/// assert!(pattern.matches(Host::Domain("cdn.eu.example.com")));
/// assert!(!pattern.matches(Host::Domain("example.com")));
/// assert!(!pattern.matches(Host::Domain("evilexample.com")));
/// # Ok::<(), sluicegate::gate::hosts::HostPatternError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct HostPattern(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// A name in ASCII form.
    Name(Box<str>),
    /// Every name with one label or more in front of `.` and this name.
    Below(Box<str>),
    Address(IpAddr),
}

/// Why a text is not a [`HostPattern`]. Each message says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostPatternError {
    /// Nothing.
    #[error("a host pattern is empty; write a host such as `files.example.com` or `*.example.com`")]
    Empty,
    /// A URL.
    #[error("`{0}` has a scheme; write the host alone, such as `files.example.com`")]
    Scheme(String),
    /// `user@host`.
    #[error("`{0}` has user information; write the host alone, after the `@`")]
    UserInfo(String),
    /// `host/path`.
    #[error("`{0}` has more than a host; write the host alone, and paths as path prefixes")]
    Path(String),
    /// `host:443`.
    #[error("`{0}` has a port; write the host alone, and ports in their own list")]
    Port(String),
    /// An IPv6 address without brackets.
    #[error("`{0}` is an IPv6 address without brackets; write `[{0}]`")]
    Brackets(String),
    /// An IPv4 address in hexadecimal, octal, short or padded form.
    #[error("`{given}` is an IPv4 address in an unusual form; write `{canonical}`")]
    UnusualIpv4 {
        /// As the policy has it.
        given: String,
        /// The dotted form.
        canonical: std::net::Ipv4Addr,
    },
    /// `*` alone.
    #[error("`*` would allow every host; write each host, or `*.` and a domain such as `*.example.com`")]
    AnyHost,
    /// `*` in another place than as the whole first label.
    #[error(
        "`{0}` has a `*` that is not the whole first label; write `*.` and a domain, such as `*.example.com`"
    )]
    Wildcard(String),
    /// `*.192.0.2.1`.
    #[error("`{0}` has a `*` before an address, which has nothing below it; write the address alone")]
    WildcardAddress(String),
    /// A wildcard below a suffix under which anyone can register.
    #[error(
        "`{given}` would allow every customer of the public suffix `{suffix}`; write a domain below it, such as `*.yours.{suffix}`"
    )]
    PublicSuffix {
        /// As the policy has it.
        given: String,
        /// The suffix in ASCII form.
        suffix: String,
    },
    /// `example.com.`
    #[error("`{0}` ends with a dot; write it without")]
    TrailingDot(String),
    /// Not a host name at all.
    #[error(
        "`{0}` is not a host name; write labels of letters, digits, `-` and `_`, at most 63 bytes each and 253 in all"
    )]
    Name(String),
}

impl HostPattern {
    /// Reads a pattern: `files.example.com`, `*.example.com`, `bücher.example`, `192.0.2.1` or `[2001:db8::1]`.
    ///
    /// Case and IDNA are settled here. `*.` in front of a public suffix is refused, for both sections of the Public
    /// Suffix List (`co.uk`, `github.io`); a single label, such as `internal`, counts as one.
    pub fn parse(given: &str) -> Result<Self, HostPatternError> {
        refuse_more_than_a_host(given)?;
        let (below, rest) = split_wildcard(given)?;
        if rest.ends_with(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']) {
            return Err(HostPatternError::TrailingDot(given.to_owned()));
        }
        // The parser of URLs would decode `%2e`; a pattern is meant to be read.
        let host = if rest.contains('%') { None } else { Host::parse(rest).ok() };
        let name = match host {
            Some(Host::Domain(name)) if is_name(&name) => name,
            Some(Host::Ipv4(_) | Host::Ipv6(_)) if below => {
                return Err(HostPatternError::WildcardAddress(given.to_owned()));
            }
            Some(Host::Ipv6(ip)) => return Ok(Self(Kind::Address(ip.into()))),
            Some(Host::Ipv4(ip)) if ip.to_string() == rest => return Ok(Self(Kind::Address(ip.into()))),
            Some(Host::Ipv4(canonical)) => {
                return Err(HostPatternError::UnusualIpv4 { given: given.to_owned(), canonical });
            }
            Some(Host::Domain(_)) | None => return Err(HostPatternError::Name(given.to_owned())),
        };
        if !below {
            return Ok(Self(Kind::Name(name.into())));
        }
        if psl::domain_str(&name).is_none() {
            return Err(HostPatternError::PublicSuffix { given: given.to_owned(), suffix: name });
        }
        Ok(Self(Kind::Below(name.into())))
    }

    /// Whether this pattern stands for the host, given as [`url::Url::host`] gives it.
    ///
    /// A name with an empty label (`example.com.`, `a..example.com`) or of more than 253 bytes matches nothing, and so
    /// can be allowed by no pattern.
    pub fn matches(&self, host: Host<&str>) -> bool {
        match (&self.0, host) {
            (Kind::Name(own), Host::Domain(name)) => &**own == name && is_resolvable(name),
            (Kind::Below(own), Host::Domain(name)) => {
                let front = name.strip_suffix(&**own).and_then(|front| front.strip_suffix('.'));
                front.is_some_and(|front| !front.is_empty()) && is_resolvable(name)
            }
            (Kind::Address(own), Host::Ipv4(ip)) => *own == IpAddr::V4(ip),
            (Kind::Address(own), Host::Ipv6(ip)) => *own == IpAddr::V6(ip),
            (Kind::Address(_), Host::Domain(_)) | (Kind::Name(_) | Kind::Below(_), _) => false,
        }
    }
}

/// What a URL has and a pattern has not, each with its own advice.
fn refuse_more_than_a_host(given: &str) -> Result<(), HostPatternError> {
    let text = || given.to_owned();
    if given.is_empty() {
        return Err(HostPatternError::Empty);
    }
    if given.contains("://") {
        return Err(HostPatternError::Scheme(text()));
    }
    if given.contains('@') {
        return Err(HostPatternError::UserInfo(text()));
    }
    if given.contains(['/', '\\', '?', '#']) {
        return Err(HostPatternError::Path(text()));
    }
    if given.parse::<std::net::Ipv6Addr>().is_ok() {
        return Err(HostPatternError::Brackets(text()));
    }
    let after_brackets = given.rsplit_once(']').map_or(given, |(_, after)| after);
    if after_brackets.contains(':') { Err(HostPatternError::Port(text())) } else { Ok(()) }
}

fn split_wildcard(given: &str) -> Result<(bool, &str), HostPatternError> {
    if given == "*" {
        return Err(HostPatternError::AnyHost);
    }
    let (below, rest) = match given.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, given),
    };
    if rest.contains('*') || (below && rest.is_empty()) {
        return Err(HostPatternError::Wildcard(given.to_owned()));
    }
    Ok((below, rest))
}

/// Labels that a resolver takes, and no more: a name in a policy is typed by a person.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        label.len() <= LONGEST_LABEL
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    is_resolvable(name) && name.split('.').all(is_label)
}

/// At most 253 bytes and no empty label.
fn is_resolvable(name: &str) -> bool {
    let bytes = name.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    bytes.len() <= LONGEST_NAME
        && ends.iter().all(|end| end.is_some_and(|byte| *byte != b'.'))
        && !bytes.windows(2).any(|pair| pair == b"..")
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        Self::parse(given)
    }
}

impl TryFrom<String> for HostPattern {
    type Error = HostPatternError;

    fn try_from(given: String) -> Result<Self, Self::Error> {
        Self::parse(&given)
    }
}

/// The pattern in its ASCII form, which [`HostPattern::parse`] reads back.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Name(name) => f.write_str(name),
            Kind::Below(name) => write!(f, "*.{name}"),
            Kind::Address(IpAddr::V4(ip)) => ip.fmt(f),
            Kind::Address(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// Entries by host pattern. A look-up costs one hash per label of the host, however many patterns there are.
#[derive(Clone, Debug)]
pub struct HostTable<T> {
    exact: Table<Box<str>, Vec<T>>,
    below: Table<Box<str>, Vec<T>>,
    addresses: Table<IpAddr, Vec<T>>,
}

impl<T> Default for HostTable<T> {
    fn default() -> Self {
        Self { exact: Table::default(), below: Table::default(), addresses: Table::default() }
    }
}

impl<T> HostTable<T> {
    /// Adds an entry. A pattern may hold several.
    pub fn insert(&mut self, pattern: HostPattern, entry: T) {
        match pattern.0 {
            Kind::Name(name) => self.exact.entry(name).or_default().push(entry),
            Kind::Below(name) => self.below.entry(name).or_default().push(entry),
            Kind::Address(ip) => self.addresses.entry(ip).or_default().push(entry),
        }
    }

    /// Every entry whose pattern [matches](HostPattern::matches) the host: the exact ones, then those of the wildcards
    /// from the narrowest to the widest, each group in the order of its insertion. Allocates nothing.
    #[allow(clippy::needless_pass_by_value, reason = "`Url::host` gives it by value")]
    pub fn lookup(&self, host: Host<&str>) -> impl Iterator<Item = &T> {
        // Most tenants forbid nothing.
        let names = !(self.exact.is_empty() && self.below.is_empty());
        let (name, address) = match host {
            Host::Domain(name) => (Some(name).filter(|name| names && is_resolvable(name)), None),
            Host::Ipv4(ip) => (None, Some(IpAddr::V4(ip))),
            Host::Ipv6(ip) => (None, Some(IpAddr::V6(ip))),
        };
        let parents = std::iter::successors(name.and_then(parent), |name| parent(name));
        let exact = name.and_then(|name| self.exact.get(name));
        let address = address.and_then(|ip| self.addresses.get(&ip));
        let below = parents.filter_map(|name| self.below.get(name));
        exact.into_iter().chain(address).chain(below).flatten()
    }
}

/// The name without its first label.
fn parent(name: &str) -> Option<&str> {
    let dot = name.bytes().position(|byte| byte == b'.')?;
    name.get(dot + 1..)
}

impl<T> FromIterator<(HostPattern, T)> for HostTable<T> {
    fn from_iter<I: IntoIterator<Item = (HostPattern, T)>>(entries: I) -> Self {
        let mut table = Self::default();
        for (pattern, entry) in entries {
            table.insert(pattern, entry);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    fn pattern(given: &str) -> HostPattern {
        HostPattern::parse(given).unwrap_or_else(|error| panic!("{error}"))
    }

    fn refusal(given: &str) -> HostPatternError {
        HostPattern::parse(given).expect_err(given)
    }

    #[test]
    fn stores_the_ascii_form() {
        for (given, stored) in [
            ("files.example.com", "files.example.com"),
            ("Files.EXAMPLE.com", "files.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
            ("my_bucket.s3.amazonaws.com", "my_bucket.s3.amazonaws.com"),
            ("localhost", "localhost"),
            ("github.io", "github.io"),
            ("*.example.com", "*.example.com"),
            ("*.a.Example.co.uk", "*.a.example.co.uk"),
            ("*.bücher.de", "*.xn--bcher-kva.de"),
            ("*.corp.internal", "*.corp.internal"),
            ("*.someone.github.io", "*.someone.github.io"),
            ("192.0.2.1", "192.0.2.1"),
            ("[2001:DB8:0::1]", "[2001:db8::1]"),
        ] {
            assert_eq!(pattern(given).to_string(), stored, "{given}");
        }
    }

    #[test]
    fn says_what_to_write_instead() {
        for (given, told) in [
            ("", "a host pattern is empty"),
            ("https://example.com", "has a scheme; write the host alone"),
            ("user@example.com", "has user information"),
            ("example.com/path", "has more than a host"),
            ("example.com\\path", "has more than a host"),
            ("example.com?q", "has more than a host"),
            ("example.com:443", "has a port"),
            ("[::1]:443", "has a port"),
            ("*.example.com:443", "has a port"),
            ("::1", "write `[::1]`"),
            ("0x7f.1", "write `127.0.0.1`"),
            ("2130706433", "write `127.0.0.1`"),
            ("127.1", "write `127.0.0.1`"),
            ("0177.0.0.1", "write `127.0.0.1`"),
            ("１２７.0.0.1", "write `127.0.0.1`"),
            ("*", "`*` would allow every host"),
            ("*.", "not the whole first label"),
            ("**.example.com", "not the whole first label"),
            ("*.*.example.com", "not the whole first label"),
            ("a*.example.com", "not the whole first label"),
            ("*example.com", "not the whole first label"),
            ("files.*.example.com", "not the whole first label"),
            ("example.*", "not the whole first label"),
            ("*.192.0.2.1", "write the address alone"),
            ("*.[::1]", "write the address alone"),
            ("*.4", "write the address alone"),
            ("example.com.", "ends with a dot"),
            ("*.example.com.", "ends with a dot"),
            ("example.com。", "ends with a dot"),
            (".example.com", "is not a host name"),
            ("a..example.com", "is not a host name"),
            ("*..example.com", "is not a host name"),
            ("exa mple.com", "is not a host name"),
            (" example.com", "is not a host name"),
            ("ex%61mple.com", "is not a host name"),
            ("example.com\n", "is not a host name"),
            ("exa!mple.com", "is not a host name"),
            ("[::1", "has a port"),
            ("[zz]", "is not a host name"),
        ] {
            let error = refusal(given).to_string();
            assert!(error.contains(told), "{given}: {error}");
        }
        assert!(matches!(refusal(&format!("{}.com", "a".repeat(64))), HostPatternError::Name(_)));
        assert!(matches!(refusal(&format!("{}com", "a.".repeat(126))), HostPatternError::Name(_)));
    }

    #[test]
    fn refuses_a_wildcard_on_a_public_suffix() {
        for suffix in [
            "com",
            "co.uk",
            "github.io",
            "s3.amazonaws.com",
            "cloudfront.net",
            "test",
            "internal",
            "ck",
            "foo.ck",
            "foo.kobe.jp",
        ] {
            let given = format!("*.{suffix}");
            let suffix = suffix.to_owned();
            assert_eq!(refusal(&given), HostPatternError::PublicSuffix { given: given.clone(), suffix });
        }
        for idn in ["*.公司.cn", "*.xn--55qx5d.cn", "*.рф", "*.xn--p1ai", "*.個人.hk"] {
            assert!(matches!(refusal(idn), HostPatternError::PublicSuffix { .. }), "{idn}");
        }
        for registrable in ["*.www.ck", "*.city.kobe.jp", "*.foo.bar.ck", "*.食狮.公司.cn"] {
            pattern(registrable);
        }
    }

    #[test]
    fn matches_label_by_label() {
        for (given, url, expected) in [
            ("example.com", "https://example.com/", true),
            ("example.com", "https://EXAMPLE.com:8443/", true),
            ("example.com", "https://example.com./", false),
            ("example.com", "https://www.example.com/", false),
            ("*.example.com", "https://a.example.com/", true),
            ("*.example.com", "https://a.b.example.com/", true),
            ("*.example.com", "https://example.com/", false),
            ("*.example.com", "https://evilexample.com/", false),
            ("*.example.com", "https://a.example.com./", false),
            ("*.example.com", "https://a..example.com/", false),
            ("*.example.com", "https://.example.com/", false),
            ("*.example.com", "https://example.com.evil.test/", false),
            ("*.example.com", "https://a.example.com.evil.test/", false),
            ("*.example.com", "https://a.example.com@evil.test/", false),
            ("bücher.example", "https://b%C3%BCcher.example/", true),
            ("*.bücher.de", "https://a.xn--bcher-kva.de/", true),
            ("192.0.2.1", "https://0xc0.0.2.1/", true),
            ("192.0.2.1", "https://[::ffff:192.0.2.1]/", false),
            ("[2001:db8::1]", "https://[2001:db8:0:0::1]/", true),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(pattern(given).matches(url.host().unwrap()), expected, "{given} against {url}");
        }
        let long = format!("{}example.com", "a.".repeat(125));
        assert!(!pattern("*.example.com").matches(Host::Domain(&long)));
    }

    #[test]
    fn lookup_goes_from_the_narrowest_to_the_widest() {
        let table: HostTable<&str> = [
            ("*.example.com", "all"),
            ("*.eu.example.com", "eu"),
            ("a.eu.example.com", "exact"),
            ("a.eu.example.com", "exact, again"),
            ("*.example.org", "other"),
            ("192.0.2.1", "address"),
        ]
        .into_iter()
        .map(|(given, entry)| (pattern(given), entry))
        .collect();
        let found = |host| table.lookup(host).copied().collect::<Vec<_>>();
        assert_eq!(found(Host::Domain("a.eu.example.com")), ["exact", "exact, again", "eu", "all"]);
        assert_eq!(found(Host::Domain("eu.example.com")), ["all"]);
        assert_eq!(found(Host::Domain("example.com")), [""; 0]);
        assert_eq!(found(Host::Domain("192.0.2.1")), [""; 0]);
        assert_eq!(found(Host::Ipv4([192, 0, 2, 1].into())), ["address"]);
    }

    /// Names over a small alphabet, so that they meet.
    fn name() -> impl Strategy<Value = String> {
        proptest::collection::vec("[ab]|ab", 0..5).prop_map(|labels| labels.join("."))
    }

    proptest! {
        #[test]
        fn a_table_agrees_with_a_linear_scan(
            patterns in proptest::collection::vec((any::<bool>(), name(), any::<bool>()), 0..30),
            host in "[ab.]{0,12}",
            ip in 0u32..4,
        ) {
            let patterns: Vec<HostPattern> = patterns
                .into_iter()
                .map(|(below, name, site)| {
                    let dot = if name.is_empty() { "" } else { "." };
                    let star = if below { "*." } else { "" };
                    let tail = if site { "example.com" } else { "corp.internal" };
                    pattern(&format!("{star}{name}{dot}{tail}"))
                })
                .chain([pattern("0.0.0.1"), pattern("[::1]")])
                .collect();
            let table: HostTable<usize> = patterns.iter().cloned().zip(0..).collect();
            for tail in ["", ".example.com", "example.com", ".corp.internal", ".example.com."] {
                let name = format!("{host}{tail}");
                for host in [Host::Domain(&*name), Host::Ipv4(ip.into()), Host::Ipv6(u128::from(ip).into())] {
                    let mut found: Vec<usize> = table.lookup(host.clone()).copied().collect();
                    found.sort_unstable();
                    let scanned: Vec<usize> =
                        (0..patterns.len()).filter(|n| patterns[*n].matches(host.clone())).collect();
                    prop_assert_eq!(found, scanned, "{}", host);
                }
            }
        }

        #[test]
        fn display_reads_back(given in "(\\*\\.)?[a-zäß0-9_.-]{1,20}") {
            if let Ok(read) = HostPattern::parse(&given) {
                prop_assert_eq!(HostPattern::parse(&read.to_string()), Ok(read));
            }
        }

        #[test]
        fn an_exact_pattern_matches_the_url_it_was_taken_from(host in "[a-z0-9ü_-]{1,9}(\\.[a-z0-9ü-]{1,9}){0,3}") {
            if let Ok(read) = HostPattern::parse(&host) {
                let url = Url::parse(&format!("https://{host}/")).unwrap();
                prop_assert!(read.matches(url.host().unwrap()), "{} against {}", read, url);
            }
        }
    }
}
