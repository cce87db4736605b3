//! Which addresses a download may connect to: global unicast, and what the operator opened ([`OpenAddresses`]).
//!
//! The table is ours, made from IANA's two special-purpose address registries (RFC 6890) with multicast and everything
//! outside `2000::/3` added; `tests/registries.rs` holds it against copies of those registries. An IPv6 address that
//! carries an IPv4 address is judged by what it carries. A NAT64 prefix that a network chose for itself (RFC 6052,
//! section 2.2) cannot be told from any other address: the firewall of such a network has to know it.

mod open;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

pub use open::{AddressDenied, OpenAddress, OpenAddressError, OpenAddresses};

/// Blocks inside a special-purpose block that the registry calls globally reachable.
const REACHABLE_V4: &[Ipv4Net] = &[
    v4(192, 0, 0, 9, 32),  // Port Control Protocol anycast, RFC 7723
    v4(192, 0, 0, 10, 32), // TURN anycast, RFC 8155
];

/// Special-purpose IPv4. The first block that holds an address names it, so the narrow ones come first.
const SPECIAL_V4: &[(Ipv4Net, &str)] = &[
    (v4(0, 0, 0, 0, 32), "unspecified (RFC 1122)"),
    (v4(0, 0, 0, 0, 8), "this network (RFC 791)"),
    (v4(10, 0, 0, 0, 8), "private use (RFC 1918)"),
    (v4(100, 64, 0, 0, 10), "shared address space of carriers (RFC 6598)"),
    (v4(127, 0, 0, 0, 8), "loopback (RFC 1122)"),
    (v4(169, 254, 0, 0, 16), "link-local, cloud metadata (RFC 3927)"),
    (v4(172, 16, 0, 0, 12), "private use (RFC 1918)"),
    (v4(192, 0, 0, 0, 29), "IPv4 service continuity (RFC 7335)"),
    (v4(192, 0, 0, 0, 24), "IETF protocol assignments (RFC 6890)"),
    (v4(192, 0, 2, 0, 24), "documentation (RFC 5737)"),
    (v4(192, 88, 99, 0, 24), "deprecated 6to4 relay anycast (RFC 7526)"),
    (v4(192, 168, 0, 0, 16), "private use (RFC 1918)"),
    (v4(198, 18, 0, 0, 15), "benchmarking (RFC 2544)"),
    (v4(198, 51, 100, 0, 24), "documentation (RFC 5737)"),
    (v4(203, 0, 113, 0, 24), "documentation (RFC 5737)"),
    (v4(224, 0, 0, 0, 4), "multicast (RFC 5771)"),
    (v4(255, 255, 255, 255, 32), "limited broadcast (RFC 919)"),
    (v4(240, 0, 0, 0, 4), "reserved (RFC 1112)"),
];

/// Blocks of `2001::/23` that the registry calls globally reachable.
const REACHABLE_V6: &[Ipv6Net] = &[
    v6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128), // Port Control Protocol anycast, RFC 7723
    v6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128), // TURN anycast, RFC 8155
    v6([0x2001, 1, 0, 0, 0, 0, 0, 3], 128), // service registration anycast, RFC 9665
    v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32),  // AMT, RFC 7450
    v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48), // AS112, RFC 7535
    v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28), // ORCHIDv2, RFC 7343
    v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28), // drone remote identification, RFC 9374
];

/// Special-purpose IPv6, narrow blocks first. What lies outside `2000::/3` and has no name here is refused all the same.
const SPECIAL_V6: &[(Ipv6Net, &str)] = &[
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "unspecified (RFC 4291)"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback (RFC 4291)"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "IPv4-compatible (RFC 4291)"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "local-use NAT64 (RFC 8215)"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "discard-only (RFC 6666)"),
    (v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64), "dummy prefix (RFC 9780)"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), "Teredo (RFC 4380)"),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), "benchmarking (RFC 5180)"),
    (v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28), "deprecated ORCHID (RFC 4843)"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "IETF protocol assignments (RFC 2928)"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "documentation (RFC 3849)"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "documentation (RFC 9637)"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "segment routing (RFC 9602)"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "unique local (RFC 4193)"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local (RFC 4291)"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "deprecated site-local (RFC 3879)"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast (RFC 4291)"),
];

const GLOBAL_UNICAST_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);
const MAPPED: Ipv6Net = v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96);
const COMPATIBLE: Ipv6Net = v6([0, 0, 0, 0, 0, 0, 0, 0], 96);
const TEREDO: Ipv6Net = v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32);

/// Every fixed prefix whose addresses carry an IPv4 address.
const CARRIERS: [Ipv6Net; 5] = [MAPPED, COMPATIBLE, NAT64, SIX_TO_FOUR, TEREDO];

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(s: [u16; 8], prefix: u8) -> Ipv6Net {
    let [s0, s1, s2, s3, s4, s5, s6, s7] = s;
    Ipv6Net::new_assert(Ipv6Addr::new(s0, s1, s2, s3, s4, s5, s6, s7), prefix)
}

/// The special-purpose block that holds this address, or `None` for global unicast.
///
/// Source: IANA's IPv4 and IPv6 special-purpose address registries (RFC 6890), RFC 5771, RFC 4291.
///
/// | form | judged as |
/// |---|---|
/// | IPv4-mapped `::ffff:0:0/96`, NAT64 `64:ff9b::/96` | the IPv4 address inside |
/// | 6to4 `2002::/16`, ISATAP (RFC 5214) | the IPv4 address inside; global if that is |
/// | IPv4-compatible `::/96`, Teredo `2001::/32` | always special |
/// | outside `2000::/3` | always special |
///
/// ```
/// # use sluicegate::gate::address::special_purpose;
/// assert_eq!(special_purpose("2606:4700::1".parse().unwrap()), None);
/// assert_eq!(special_purpose("64:ff9b::7f00:1".parse().unwrap()), Some("loopback (RFC 1122)"));
/// ```
pub fn special_purpose(ip: IpAddr) -> Option<&'static str> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => special_v4(ip),
        IpAddr::V6(ip) => special_v6(ip),
    }
}

fn special_v4(ip: Ipv4Addr) -> Option<&'static str> {
    if REACHABLE_V4.iter().any(|net| net.contains(&ip)) {
        return None;
    }
    SPECIAL_V4.iter().find(|(net, _)| net.contains(&ip)).map(|(_, name)| *name)
}

fn special_v6(ip: Ipv6Addr) -> Option<&'static str> {
    if NAT64.contains(&ip) {
        return special_v4(low_bits(ip));
    }
    // First, so that an address of a special block that also looks like ISATAP is named after the block.
    let block = SPECIAL_V6.iter().find(|(net, _)| net.contains(&ip)).map(|(_, name)| *name);
    if block.is_some() && !REACHABLE_V6.iter().any(|net| net.contains(&ip)) {
        return block;
    }
    if !GLOBAL_UNICAST_V6.contains(&ip) {
        return Some("outside global unicast (RFC 4291)");
    }
    six_to_four(ip).and_then(special_v4).or_else(|| isatap(ip).and_then(special_v4))
}

/// The IPv4 address inside a 6to4 address: RFC 3056, section 2.
fn six_to_four(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [_, _, a, b, c, d, ..] = ip.octets();
    SIX_TO_FOUR.contains(&ip).then(|| Ipv4Addr::new(a, b, c, d))
}

/// The IPv4 address inside an ISATAP interface identifier, under any prefix: RFC 5214, section 6.1.
fn isatap(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [_, _, _, _, high, low, _, _] = ip.segments();
    (matches!(high, 0x0000 | 0x0200) && low == 0x5efe).then(|| low_bits(ip))
}

fn low_bits(ip: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = ip.octets();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judged(ip: &str) -> Option<&'static str> {
        special_purpose(ip.parse().unwrap())
    }

    fn named(table: &[(&str, &str)]) {
        for (ip, block) in table {
            let name = judged(ip).unwrap_or_else(|| panic!("{ip} passes as global unicast"));
            assert!(name.starts_with(block), "{ip} is named `{name}`, not `{block}`");
        }
    }

    #[test]
    fn names_the_block_of_every_special_ipv4_address() {
        named(&[
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "this network"),
            ("10.255.255.255", "private"),
            ("100.64.0.1", "shared"),
            ("100.127.255.255", "shared"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.254", "loopback"),
            ("169.254.169.254", "link-local"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.0.0.1", "IPv4 service"),
            ("192.0.0.8", "IETF"),
            ("192.0.0.11", "IETF"),
            ("192.0.0.170", "IETF"),
            ("192.0.2.1", "documentation"),
            ("192.88.99.1", "deprecated 6to4"),
            ("192.168.1.1", "private"),
            ("198.18.0.1", "benchmarking"),
            ("198.19.255.255", "benchmarking"),
            ("198.51.100.7", "documentation"),
            ("203.0.113.7", "documentation"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved"),
            ("255.255.255.255", "limited broadcast"),
        ]);
    }

    #[test]
    fn names_the_block_of_every_special_ipv6_address() {
        named(&[
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("::8.8.8.8", "IPv4-compatible"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:a9fe:a9fe", "link-local"),
            ("::ffff:0:8.8.8.8", "outside"),
            ("64:ff9b::10.0.0.1", "private"),
            ("64:ff9b::169.254.169.254", "link-local"),
            ("64:ff9b:1::8.8.8.8", "local-use NAT64"),
            ("64:ff9b::1:8.8.8.8", "outside"),
            ("100::1", "discard-only"),
            ("100:0:0:1::1", "dummy"),
            ("2001::1", "Teredo"),
            ("2001:0:808:808::1", "Teredo"),
            ("2001:1::4", "IETF"),
            ("2001:2::1", "benchmarking"),
            ("2001:4:113::1", "IETF"),
            ("2001:10::1", "deprecated ORCHID"),
            ("2001:1ff:ffff::1", "IETF"),
            ("2001:db8::1", "documentation"),
            ("2002:7f00:1::1", "loopback"),
            ("2002:a9fe:a9fe::", "link-local"),
            ("2002:0a00:1::1", "private"),
            ("2606:4700::5efe:10.0.0.1", "private"),
            ("2606:4700::200:5efe:127.0.0.1", "loopback"),
            ("2002:808:808::5efe:192.168.0.1", "private"),
            ("3fff:fff::1", "documentation"),
            ("5f00::1", "segment routing"),
            ("fc00::1", "unique local"),
            ("fd00:ec2::254", "unique local"),
            ("fe80::1", "link-local"),
            ("fe80::5efe:8.8.8.8", "link-local"),
            ("fec0::1", "deprecated site-local"),
            ("ff02::1", "multicast"),
            ("4000::1", "outside"),
            ("1fff:ffff::1", "outside"),
        ]);
    }

    #[test]
    fn leaves_public_space_alone() {
        for ip in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.0.9",
            "192.0.0.10",
            "192.0.1.1",
            "192.31.196.1",
            "192.52.193.1",
            "192.167.255.255",
            "192.175.48.1",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2000::1",
            "2001:1::1",
            "2001:1::3",
            "2001:3::1",
            "2001:4:112::1",
            "2001:20::1",
            "2001:30::1",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2002:808:808::1",
            "2606:4700::5efe:8.8.8.8",
            "2606:4700::100:5efe:10.0.0.1",
            "2620:4f:8000::1",
            "2a00:1450:4001::200e",
            "3fff:1000::1",
        ] {
            assert_eq!(judged(ip), None, "{ip}");
        }
    }

    #[test]
    fn every_block_of_the_table_is_refused_from_end_to_end() {
        for (net, _) in SPECIAL_V4 {
            assert!(special_purpose(net.network().into()).is_some(), "{net}");
            assert!(special_purpose(net.broadcast().into()).is_some(), "{net}");
        }
        for (net, _) in SPECIAL_V6 {
            assert!(special_purpose(net.network().into()).is_some(), "{net}");
            assert!(special_purpose(net.broadcast().into()).is_some(), "{net}");
        }
    }

    proptest! {
        #[test]
        fn a_carrier_is_judged_by_what_it_carries(bits: u32, site: u16, subnet: u16) {
            let carried = Ipv4Addr::from(bits);
            let [_, _, _, _, _, _, high, low] = carried.to_ipv6_mapped().segments();
            for carrier in [
                carried.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, subnet, 0, 0, 0, 1),
                Ipv6Addr::new(0x2a00, site, 0, subnet, 0, 0x5efe, high, low),
                Ipv6Addr::new(0x2a00, site, 0, subnet, 0x0200, 0x5efe, high, low),
            ] {
                prop_assert_eq!(special_purpose(carrier.into()), special_purpose(carried.into()), "{}", carrier);
            }
            prop_assert!(special_purpose(Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low).into()).is_some());
            prop_assert!(special_purpose(Ipv6Addr::new(0x2001, 0, high, low, 0, 0, site, subnet).into()).is_some());
        }

        /// Everything that the standard library knows to be special is special here.
        #[test]
        fn agrees_with_the_standard_library(v4: u32, v6: u128) {
            let ip = Ipv4Addr::from(v4);
            if ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast()
                || ip.is_broadcast() || ip.is_documentation() || ip.is_unspecified()
            {
                prop_assert!(special_v4(ip).is_some(), "{}", ip);
            }
            let ip = Ipv6Addr::from(v6);
            if v6 >> 125 != 1 {
                prop_assert!(special_v6(ip).is_some(), "{}", ip);
            }
        }
    }
}
