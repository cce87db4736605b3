//! Holds the address table against IANA's own registries, row by row.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use sluicegate::gate::address::special_purpose;

struct Row {
    net: IpNet,
    name: String,
    /// `None` where the registry says N/A, or nothing because the block is deprecated.
    reachable: Option<bool>,
}

fn registry(file: &str) -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/registries").join(file);
    let mut reader = csv::Reader::from_path(&path).unwrap();
    let column = |name: &str, reader: &mut csv::Reader<_>| {
        reader.headers().unwrap().iter().position(|header| header == name).unwrap()
    };
    let (block, name) = (column("Address Block", &mut reader), column("Name", &mut reader));
    let reachable = column("Globally Reachable", &mut reader);
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.unwrap();
        // A cell may hold several blocks, and each cell may end in the mark of a footnote: `192.0.0.0/24 [2]`.
        for one in record[block].split(',') {
            let net = one.split_whitespace().next().unwrap().parse().unwrap();
            let reachable = match record[reachable].split_whitespace().next() {
                Some("True") => Some(true),
                Some("False") => Some(false),
                Some("N/A") | None => None,
                Some(other) => panic!("`{other}` in column Globally Reachable of {file}"),
            };
            rows.push(Row { net, name: record[name].to_owned(), reachable });
        }
    }
    rows
}

/// Both ends and three addresses between, as the prefix leaves room for them.
fn samples(net: &IpNet) -> Vec<IpAddr> {
    match net {
        IpNet::V4(net) => {
            let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
            let span = last - first;
            [0, span / 3, span / 2, span - span / 5, span].map(|n| IpAddr::V4((first + n).into())).to_vec()
        }
        IpNet::V6(net) => {
            let (first, last) = (u128::from(net.network()), u128::from(net.broadcast()));
            let span = last - first;
            [0, span / 3, span / 2, span - span / 5, span].map(|n| IpAddr::V6((first + n).into())).to_vec()
        }
    }
}

/// What the registry says of one address: the longest prefix that holds it decides.
fn narrowest(rows: &[Row], ip: IpAddr) -> Option<&Row> {
    rows.iter().filter(|row| row.net.contains(&ip)).max_by_key(|row| row.net.prefix_len())
}

/// Blocks whose addresses are judged by the IPv4 address they carry, and blocks without a yes or no in the registry.
fn judged_elsewhere(row: &Row) -> bool {
    let carriers = ["::ffff:0:0/96", "64:ff9b::/96", "2002::/16"];
    carriers.iter().any(|net| row.net == net.parse::<IpNet>().unwrap())
}

fn compare(file: &str, at_least: usize) {
    let rows = registry(file);
    assert!(rows.len() >= at_least, "{file} has lost rows: {} left", rows.len());
    for row in rows.iter().filter(|row| !judged_elsewhere(row)) {
        for ip in samples(&row.net) {
            let row = narrowest(&rows, ip).unwrap();
            // N/A (Teredo) and blocks that IANA took back: nothing there is a server on the internet.
            let expected = row.reachable.unwrap_or(false);
            let found = special_purpose(ip);
            assert_eq!(found.is_none(), expected, "{ip} in {} ({}): {found:?}", row.net, row.name);
        }
    }
}

#[test]
fn ipv4_table_agrees_with_the_registry() {
    compare("iana-ipv4-special-registry-1.csv", 25);
}

#[test]
fn ipv6_table_agrees_with_the_registry() {
    compare("iana-ipv6-special-registry-1.csv", 25);
}

/// Outside every registered block (and multicast) IPv4 is public: the neighbours of each block pass.
#[test]
fn the_neighbours_of_each_ipv4_block_are_public() {
    let rows = registry("iana-ipv4-special-registry-1.csv");
    for row in &rows {
        let IpNet::V4(net) = row.net else { continue };
        let before = u32::from(net.network()).checked_sub(1);
        let after = u32::from(net.broadcast()).checked_add(1);
        for ip in before.into_iter().chain(after).map(std::net::Ipv4Addr::from) {
            if narrowest(&rows, ip.into()).is_none() && !ip.is_multicast() {
                assert_eq!(special_purpose(ip.into()), None, "{ip}, next to {net}");
            }
        }
    }
}
