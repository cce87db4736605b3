//! The small values that links, tokens and policies are made of: names, times and client addresses, each with
//! exactly one spelling.

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// Why a value is not what it claims to be; the text says what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub(crate) &'static str);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $rule:expr, $text:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("Reads the name: ", $text, ".")]
            pub fn parse(text: &str) -> Result<Self, ValueError> {
                Self::check(text).map(|()| Self(text.into()))
            }

            /// Is it one? For who only reads it.
            pub fn check(text: &str) -> Result<(), ValueError> {
                let rule: fn(&[u8]) -> bool = $rule;
                if rule(text.as_bytes()) { Ok(()) } else { Err(ValueError($text)) }
            }

            /// The name as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The same text, for whoever keeps it.
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// A key id, the `kid` of a link: unique across all tenants, so that it names tenant and key.
    KeyId,
    |b| starts_alphanumeric(b, 64, |c| matches!(c, b'.' | b'_' | b'-')),
    "a key id is 1 to 64 characters of a-z, 0-9, `.`, `_` and `-`, and begins with a letter or digit"
);
name!(
    /// A tenant's name, which is also its policy file's name.
    TenantName,
    |b| starts_alphanumeric(b, 63, |c| c == b'-'),
    "a tenant name is 1 to 63 characters of a-z, 0-9 and `-`, and begins with a letter or digit"
);
name!(
    /// A link id (`id` of a link, `jti` of a token) for revocation and audit.
    LinkId,
    |b| (1..=64).contains(&b.len())
        && b.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-')),
    "a link id is 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`"
);

fn starts_alphanumeric(bytes: &[u8], longest: usize, also: fn(u8) -> bool) -> bool {
    let alphanumeric = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    bytes.len() <= longest
        && bytes.first().is_some_and(alphanumeric)
        && bytes.iter().all(|c| alphanumeric(c) || also(*c))
}

/// A moment in whole seconds since 1970-01-01T00:00:00Z. The gate has no clock: callers pass the time in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// The latest moment a link can name; twelve digits.
    pub const MAX: Self = Self(999_999_999_999);

    /// Reads decimal ASCII digits: no sign, no leading zero, twelve digits at most.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        const RULE: ValueError =
            ValueError("a time is Unix seconds: 1 to 12 decimal digits, no sign, no leading zero");
        let canonical = (1..=12).contains(&text.len()) && (text.len() == 1 || !text.starts_with('0'));
        // `u64` reads a sign too.
        if !canonical || text.starts_with('+') {
            return Err(RULE);
        }
        text.parse().map(Self).map_err(|_| RULE)
    }

    /// Seconds from `earlier` to this moment, zero if it lies behind.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The client address or network that may use a link (parameter `ip`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientRange(IpNet);

impl ClientRange {
    /// Reads an IPv4 or IPv6 address, or a network of either whose host bits are zero.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        const RULE: ValueError = ValueError(
            "an address is IPv4 or IPv6, or a network such as `203.0.113.0/24` with zero host bits",
        );
        let (address, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((address, prefix)) => (address, Some(prefix)),
        };
        // Not ipnet's own reader: it takes `203.000.113.0/24`, a second spelling.
        let address: IpAddr = address.parse().map_err(|_| RULE)?;
        let net: IpNet = match prefix {
            None => address.into(),
            Some(prefix) => {
                let canonical =
                    prefix == "0" || (!prefix.starts_with('0') && prefix.bytes().all(|b| b.is_ascii_digit()));
                let length = prefix.parse().ok().filter(|_| canonical).ok_or(RULE)?;
                IpNet::new(address, length).map_err(|_| RULE)?
            }
        };
        if net.trunc() != net {
            return Err(RULE);
        }
        // An IPv4-mapped spelling would be a second name for an IPv4 client.
        match net.addr() {
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err(RULE),
            _ => Ok(Self(net)),
        }
    }

    /// Is `client` inside? An IPv4-mapped IPv6 client counts as its IPv4 address.
    pub fn contains(&self, client: IpAddr) -> bool {
        self.0.contains(&client.to_canonical())
    }
}

impl fmt::Display for ClientRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_one_spelling() {
        for good in ["0", "1", "1700000000", "999999999999"] {
            assert_eq!(UnixTime::parse(good).unwrap().to_string(), good);
        }
        for bad in ["", "00", "01", "+1", "-1", " 1", "1 ", "1e9", "1.0", "0x1", "1000000000000", "١", "1_0"]
        {
            assert!(UnixTime::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_client_range_has_zero_host_bits_and_no_mapped_spelling() {
        for (text, inside, outside) in [
            ("203.0.113.7", "203.0.113.7", "203.0.113.8"),
            ("203.0.113.7", "::ffff:203.0.113.7", "::1"),
            ("203.0.113.0/24", "203.0.113.255", "203.0.114.0"),
            ("2001:db8::/32", "2001:db8::1", "203.0.113.7"),
            ("0.0.0.0/0", "203.0.113.7", "2001:db8::1"),
        ] {
            let range = ClientRange::parse(text).unwrap();
            assert!(range.contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!range.contains(outside.parse().unwrap()), "{text} {outside}");
        }
        for bad in [
            "",
            "203.0.113.07",
            "203.000.113.0/24",
            "203.0.113.1/24",
            "203.0.113.0/024",
            "203.0.113.0/33",
            "::ffff:1.2.3.4",
            "fe80::1%eth0",
            "1.2.3",
            "[::1]",
            "203.0.113.0/",
            "203.0.113.0/+24",
            "::ffff:0:0/96",
        ] {
            assert!(ClientRange::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_keep_to_their_alphabet() {
        assert!(KeyId::parse("a.b_c-1").is_ok() && KeyId::parse(&"k".repeat(64)).is_ok());
        for bad in ["", "-a", ".a", "A", "a b", "a/../b", "ключ", &"k".repeat(65)] {
            assert!(KeyId::parse(bad).is_err(), "{bad}");
        }
        assert!(LinkId::parse("Order-7.pdf").is_ok() && LinkId::parse("a b").is_err());
        assert!(TenantName::parse("acme").is_ok() && TenantName::parse("acme.x").is_err());
    }
}
