//! The operator's exceptions: private addresses that an upstream may have after all.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;

use super::{CARRIERS, MAPPED, special_purpose};

/// The widest range that an operator may open, as a prefix length.
const WIDEST_V4: u8 = 8;
const WIDEST_V6: u8 = 16;
/// Within unique local space the half that is in use, `fd00::/8` (RFC 4193), is what `10.0.0.0/8` is in IPv4.
const WIDEST_UNIQUE_LOCAL: u8 = 8;

/// One exception that the *operator* (never a tenant) makes: an address or a range, on one port or on all.
///
/// Written `10.1.2.3`, `10.0.0.0/8`, `127.0.0.1:8081`, `fd00::/8`, `::1` or `[::1]:80`. A range is at most a `/8` of IPv4, a
/// `/16` of IPv6 or a `/8` of unique local addresses; where IPv6 addresses carry IPv4, a `/8` of what they carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct OpenAddress {
    net: IpNet,
    port: Option<u16>,
}

/// Why a text is not an [`OpenAddress`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenAddressError {
    /// Neither an address, nor a range, nor either with a port.
    #[error("`{0}` is not an address or a range; write one such as `10.1.2.3`, `10.0.0.0/8` or `[::1]:80`")]
    Malformed(String),
    /// A range with bits set beyond its prefix.
    #[error("`{given}` has bits set beyond its prefix; write the range `{range}` or the address alone")]
    HostBits {
        /// As the operator wrote it.
        given: String,
        /// The range that holds it.
        range: IpNet,
    },
    /// A range that would open more than a private network.
    #[error("`{given}` opens too much; write ranges of the networks you mean, each `/{narrowest}` or longer")]
    TooWide {
        /// As the operator wrote it.
        given: String,
        /// The shortest prefix length allowed in this place.
        narrowest: u8,
    },
    /// An IPv4 address in IPv6 clothes; addresses are compared in their IPv4 form.
    #[error("`{given}` is IPv4 written as IPv6; write `{ipv4}`")]
    Mapped {
        /// As the operator wrote it.
        given: String,
        /// The IPv4 address or range.
        ipv4: IpNet,
    },
    /// A range with a port, which has no agreed spelling, or port 0.
    #[error(
        "`{0}` has a port that cannot be opened; write an address with a port from 1 to 65535, or a range without one"
    )]
    Port(String),
}

impl FromStr for OpenAddress {
    type Err = OpenAddressError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let malformed = || OpenAddressError::Malformed(given.to_owned());
        if let Ok(ip) = given.parse::<IpAddr>() {
            return Self::checked(given, IpNet::from(ip), None);
        }
        if let Ok(socket) = given.parse::<SocketAddr>() {
            // A scope id (`[fe80::1%2]:80`) names an interface of one machine and would be lost here.
            if given.contains('%') {
                return Err(malformed());
            }
            return Self::checked(given, IpNet::from(socket.ip()), Some(socket.port()));
        }
        if let Ok(net) = given.parse::<IpNet>() {
            return Self::checked(given, net, None);
        }
        match given.rsplit_once(':') {
            Some((range, port)) if range.contains('/') && port.parse::<u16>().is_ok() => {
                Err(OpenAddressError::Port(given.to_owned()))
            }
            _ => Err(malformed()),
        }
    }
}

impl OpenAddress {
    fn checked(given: &str, net: IpNet, port: Option<u16>) -> Result<Self, OpenAddressError> {
        let given = || given.to_owned();
        if port == Some(0) {
            return Err(OpenAddressError::Port(given()));
        }
        if net.trunc() != net {
            return Err(OpenAddressError::HostBits { given: given(), range: net.trunc() });
        }
        let narrowest = match net {
            IpNet::V4(_) => WIDEST_V4,
            IpNet::V6(net) => narrowest_v6(net),
        };
        if net.prefix_len() < narrowest {
            return Err(OpenAddressError::TooWide { given: given(), narrowest });
        }
        match unmapped(net) {
            Some(ipv4) => Err(OpenAddressError::Mapped { given: given(), ipv4 }),
            None => Ok(Self { net, port }),
        }
    }

    fn opens(&self, ip: IpAddr, port: u16) -> bool {
        self.net.contains(&ip) && self.port.is_none_or(|open| open == port)
    }
}

/// The shortest prefix allowed for a range: a range that carries IPv4 addresses may hold a `/8` of them.
fn narrowest_v6(net: Ipv6Net) -> u8 {
    if net.addr().is_unique_local() {
        return WIDEST_UNIQUE_LOCAL;
    }
    let carried = CARRIERS.iter().filter(|carrier| carrier.contains(&net) || net.contains(*carrier));
    carried.map(|carrier| carrier.prefix_len().saturating_add(WIDEST_V4)).max().unwrap_or(WIDEST_V6)
}

fn unmapped(net: IpNet) -> Option<IpNet> {
    let IpNet::V6(net) = net else { return None };
    let prefix = net.prefix_len().checked_sub(MAPPED.prefix_len())?;
    let ipv4 = Ipv4Net::new(net.addr().to_ipv4_mapped()?, prefix).ok()?;
    Some(IpNet::V4(ipv4))
}

impl TryFrom<String> for OpenAddress {
    type Error = OpenAddressError;

    fn try_from(given: String) -> Result<Self, Self::Error> {
        given.parse()
    }
}

/// The shortest spelling that [`FromStr`] reads back.
impl fmt::Display for OpenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.net, self.port) {
            (net, Some(port)) => SocketAddr::new(net.addr(), port).fmt(f),
            (net, None) if net.prefix_len() == net.max_prefix_len() => net.addr().fmt(f),
            (net, None) => net.fmt(f),
        }
    }
}

/// Everything the operator opened. Empty by default: only global unicast passes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct OpenAddresses(Vec<OpenAddress>);

impl FromIterator<OpenAddress> for OpenAddresses {
    fn from_iter<I: IntoIterator<Item = OpenAddress>>(open: I) -> Self {
        Self(open.into_iter().collect())
    }
}

impl OpenAddresses {
    /// The ports that single addresses are opened on.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.0.iter().filter_map(|open| open.port)
    }

    /// Lets a connection to this address and port pass if it is global unicast or opened by the operator.
    ///
    /// Call it with the address that is connected to, after resolution. An IPv4-mapped address counts as IPv4; any other
    /// carrier of an IPv4 address is opened only by an exception that names the carrier's own address.
    pub fn vet(&self, ip: IpAddr, port: u16) -> Result<(), AddressDenied> {
        let ip = ip.to_canonical();
        match special_purpose(ip) {
            Some(block) if !self.0.iter().any(|open| open.opens(ip, port)) => {
                Err(AddressDenied { ip, block })
            }
            _ => Ok(()),
        }
    }
}

/// An address that no download may connect to. Not for outsiders: it tells where a name leads inside the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "address `{ip}` is not on the public internet: {block}; the operator can open it with `origin.open`, a tenant cannot"
)]
pub struct AddressDenied {
    /// The address, IPv4-mapped ones in their IPv4 form.
    pub ip: IpAddr,
    /// The special-purpose block that holds it.
    pub block: &'static str,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(list: &[&str]) -> OpenAddresses {
        list.iter().map(|one| one.parse().unwrap()).collect()
    }

    fn vet(open: &OpenAddresses, ip: &str, port: u16) -> Result<(), AddressDenied> {
        open.vet(ip.parse().unwrap(), port)
    }

    #[test]
    fn opens_what_is_written_and_nothing_beside_it() {
        for (exception, ip, port, passes) in [
            ("10.1.2.3", "10.1.2.3", 443, true),
            ("10.1.2.3", "10.1.2.4", 443, false),
            ("10.1.2.3", "::ffff:10.1.2.3", 443, true),
            ("10.1.2.3", "64:ff9b::10.1.2.3", 443, false),
            ("10.1.2.3", "2002:a01:203::1", 443, false),
            ("10.0.0.0/8", "10.255.0.1", 80, true),
            ("10.0.0.0/8", "11.0.0.1", 80, true),
            ("10.0.0.0/8", "127.0.0.1", 80, false),
            ("127.0.0.1:8081", "127.0.0.1", 8081, true),
            ("127.0.0.1:8081", "127.0.0.1", 8082, false),
            ("[::1]:80", "::1", 80, true),
            ("[::1]:80", "::1", 81, false),
            ("::1", "::1", 81, true),
            ("fd00::/8", "fd12::1", 443, true),
            ("fd00::/8", "fc00::1", 443, false),
            ("64:ff9b::10.0.0.0/104", "64:ff9b::10.9.9.9", 443, true),
        ] {
            assert_eq!(
                vet(&open(&[exception]), ip, port).is_ok(),
                passes,
                "{exception} against {ip} port {port}"
            );
        }
    }

    #[test]
    fn opens_nothing_by_default() {
        let denied = vet(&OpenAddresses::default(), "::ffff:169.254.169.254", 80).unwrap_err();
        assert_eq!(denied.ip.to_string(), "169.254.169.254");
        assert_eq!(
            denied.to_string(),
            "address `169.254.169.254` is not on the public internet: link-local, cloud metadata (RFC 3927); \
             the operator can open it with `origin.open`, a tenant cannot"
        );
        assert!(vet(&OpenAddresses::default(), "8.8.8.8", 1).is_ok());
    }

    #[test]
    fn refuses_blanket_switches() {
        for (given, narrowest) in [
            ("0.0.0.0/0", 8),
            ("0.0.0.0/1", 8),
            ("128.0.0.0/7", 8),
            ("::/0", 104),
            ("2000::/3", 40),
            ("fc00::/7", 8),
            ("fe00::/15", 16),
            ("::/16", 104),
            ("::/96", 104),
            ("::ffff:0:0/96", 104),
            ("64::/16", 104),
            ("64:ff9b::/96", 104),
            ("64:ff9b::/103", 104),
            ("2002::/16", 24),
            ("2002::/23", 24),
            ("2001::/32", 40),
        ] {
            let error = given.parse::<OpenAddress>().unwrap_err();
            assert_eq!(error, OpenAddressError::TooWide { given: given.to_owned(), narrowest }, "{given}");
        }
    }

    #[test]
    fn says_what_to_write_instead() {
        for (given, told) in [
            ("", "`` is not an address or a range"),
            ("localhost", "`localhost` is not an address"),
            ("10.1.2", "`10.1.2` is not an address"),
            ("010.1.2.3", "`010.1.2.3` is not an address"),
            ("10.1.2.3 ", "`10.1.2.3 ` is not an address"),
            ("[::1]", "`[::1]` is not an address"),
            ("[fe80::1%1]:80", "`[fe80::1%1]:80` is not an address"),
            ("10.0.0.0/33", "`10.0.0.0/33` is not an address"),
            ("10.1.2.3/8", "write the range `10.0.0.0/8` or the address alone"),
            ("fd00::1/8", "write the range `fd00::/8` or the address alone"),
            ("::ffff:10.0.0.1", "write `10.0.0.1/32`"),
            ("::ffff:10.0.0.0/104", "write `10.0.0.0/8`"),
            ("[::ffff:10.0.0.1]:80", "write `10.0.0.1/32`"),
            ("10.0.0.0/8:80", "has a port that cannot be opened"),
            ("127.0.0.1:0", "has a port that cannot be opened"),
            ("127.0.0.1:65536", "is not an address"),
        ] {
            let error = given.parse::<OpenAddress>().unwrap_err().to_string();
            assert!(error.contains(told), "{given}: {error}");
            assert!(error.contains(&format!("`{given}`")), "{error}");
        }
    }

    #[test]
    fn deserializes_from_a_list_of_strings() {
        let read: OpenAddresses = serde_json::from_str(r#"["10.1.2.3", "[::1]:80"]"#).unwrap();
        assert_eq!(read, open(&["10.1.2.3", "[::1]:80"]));
        let error = serde_json::from_str::<OpenAddresses>(r#"["0.0.0.0/0"]"#).unwrap_err();
        assert!(error.to_string().contains("opens too much"), "{error}");
    }

    proptest! {
        #[test]
        fn display_reads_back(v4: u32, v6: u128, is_v4: bool, prefix in 0u8..=128, port: Option<u16>) {
            let net = if is_v4 {
                IpNet::V4(Ipv4Net::new(v4.into(), prefix % 33).unwrap()).trunc()
            } else {
                IpNet::V6(Ipv6Net::new(v6.into(), prefix).unwrap()).trunc()
            };
            let port = port.filter(|_| net.prefix_len() == net.max_prefix_len());
            if let Ok(open) = OpenAddress::checked("", net, port) {
                prop_assert_eq!(open.to_string().parse(), Ok(open));
            }
        }

        #[test]
        fn never_panics(given in "[0-9a-f:./\\[\\]%]{0,30}") {
            let _ = given.parse::<OpenAddress>();
        }
    }
}
