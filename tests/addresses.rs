//! Whatever a link or a name server says, the gateway connects to nothing but public addresses and what the operator
//! opened, exactly. A canary listens wherever it must not arrive.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{Duration, Instant};

use support::{Canary, Dns, Gateway, HOST, Query, Record, Reply, Setup, Step, Upstream, ok};

/// What a name server does.
type Script = Box<dyn Fn(&Query) -> Reply + Send + Sync>;

/// Allows `host` on `port` and nothing else.
fn rule(host: &str, port: u16) -> String {
    format!("[[allow]]\nhost = \"{host}\"\nschemes = [\"http\"]\nports = [{port}]\n")
}

/// A gateway that asks `dns` and whose tenant may fetch `files.test.example` on `port`.
fn behind(dns: &Dns, port: u16) -> Setup {
    Setup::bare().rule(&rule(HOST, port)).set("origin.resolver", &dns.address().to_string())
}

fn url(port: u16) -> String {
    format!("http://{HOST}:{port}/a")
}

fn hello() -> Upstream {
    Upstream::always(|| vec![Step::Send(ok(&[], b"hello"))])
}

/// Hosts that a WHATWG parser reads as 127.0.0.1, or that others do (T24). None of them is plain dotted decimal.
const ODD_LOOPBACKS: [&str; 22] = [
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0x7f.1",
    "017700000001",
    "0177.0.0.1",
    "127.1",
    "127.0.1",
    "127.0.0.1.",
    "127.0.0.01",
    "0127.0.0.1",
    "127.00.0.1",
    "127.0.0.0x1",
    "%31%32%37.0.0.1",
    "１２７.0.0.1",
    "①27.0.0.1",
    "127。0。0。1",
    "127.0.0.1%00",
    "127.0.0.256",
    "00000000000000000000000177.1",
    "[::ffff:127.0.0.1%25lo]",
    "[fe80::1%25lo]",
];

#[test]
fn odd_spellings_are_no_link() {
    let canary = Canary::on("127.0.0.1");
    let port = canary.port();
    let setup = Setup::bare().rule(&rule("127.0.0.1", port)).open("127.0.0.1");
    let gateway = Gateway::start(&setup);
    let good = gateway.link("http://files.test.example/").query();
    for host in ODD_LOOPBACKS {
        for text in [
            format!("http://{host}:{port}/"),
            format!("HTTP://{host}:{port}"),
            format!("http:/{host}:{port}/"),
        ] {
            // It cannot be minted, so the url is put into a good link: reading it comes before the signature.
            let encoded: Vec<_> = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let query =
                good.replace("url=http%3A%2F%2Ffiles.test.example%2F", &format!("url={}", encoded.concat()));
            assert_ne!(query, good);
            gateway.get(&query).expect(400, "malformed_link");
        }
    }
    for text in [
        "file%3A%2F%2F%2Fetc%2Fpasswd",
        "gopher%3A%2F%2F127.0.0.1%2F",
        "ftp%3A%2F%2F127.0.0.1%2F",
        "%2F%2F127.0.0.1%2F",
        "http%3A127.0.0.1",
        "http%3A%2F%2F%2F127.0.0.1%2F",
        "http%3A%5C%5C127.0.0.1%5C",
        "http%3A%2F%2Fa%40127.0.0.1%2F",
        "http%3A%2F%2F127.0.0.1%3A0%2F",
        "http%3A%2F%2F127.0.0.1%3A99999%2F",
        "data%3A%2Chello",
        "jar%3Ahttp%3A%2F%2F127.0.0.1%21%2F",
    ] {
        let query = good.replace("url=http%3A%2F%2Ffiles.test.example%2F", &format!("url={text}"));
        gateway.get(&query).expect(400, "malformed_link");
    }
}

/// Well-spelled special addresses pass as links and even as rules, and are refused when it comes to connecting.
#[test]
fn special_addresses_are_not_connected_to() {
    let four = Canary::on("127.0.0.1");
    let six = Canary::on("::1");
    let every = Canary::on("0.0.0.0");
    let hosts = [
        ("127.0.0.1", four.port()),
        ("127.1.2.3", every.port()),
        ("0.0.0.0", every.port()),
        ("[::1]", six.port()),
        ("[::ffff:127.0.0.1]", four.port()),
        ("[::ffff:7f00:1]", four.port()),
        ("[::127.0.0.1]", four.port()),
        ("[64:ff9b::7f00:1]", four.port()),
        ("[2002:7f00:1::]", four.port()),
        ("[2001:0:7f00:1::80ff:fffe]", four.port()),
        ("[2a00:1::5efe:7f00:1]", four.port()),
        ("[::]", six.port()),
        ("169.254.169.254", 80),
        ("100.100.100.200", 80),
        ("[fd00:ec2::254]", 80),
        ("[fe80::1]", 80),
        ("10.0.0.1", 80),
        ("172.16.0.1", 80),
        ("192.168.0.1", 80),
        ("100.64.0.1", 80),
        ("198.18.0.1", 80),
        ("192.0.2.1", 80),
        ("224.0.0.1", 80),
        ("255.255.255.255", 80),
    ];
    let rules = hosts.map(|(host, port)| rule(host, port)).concat();
    let gateway = Gateway::start(&Setup::bare().rule(&rules));
    for (host, port) in hosts {
        let answer = gateway.fetch(&format!("http://{host}:{port}/"));
        answer.expect(403, "url_not_allowed");
        let record = gateway.record(&answer);
        assert_eq!(record["stage"], "upstream", "{host}: the rule allows it, the address does not: {record}");
    }
}

/// What is opened is opened for its port alone.
#[test]
fn an_opened_address_is_opened_for_its_port() {
    let upstream = hello();
    let canary = Canary::on("127.0.0.1");
    let setup = Setup::bare()
        .open(&upstream.address().to_string())
        .rule(&rule("127.0.0.1", upstream.port()))
        .rule(&rule("127.0.0.1", canary.port()));
    let gateway = Gateway::start(&setup);
    assert_eq!(gateway.fetch(&format!("http://127.0.0.1:{}/", upstream.port())).body, b"hello");
    gateway.fetch(&format!("http://127.0.0.1:{}/", canary.port())).expect(403, "url_not_allowed");
}

/// The operator's table maps a name to one address and port; a port in the link does not lead past it.
#[test]
fn a_mapped_name_leads_to_its_port_alone() {
    let upstream = hello();
    let canary = Canary::on("127.0.0.1");
    let gateway = Gateway::start(&Setup::new(&upstream).rule(&rule(HOST, canary.port())));
    assert_eq!(gateway.fetch(&format!("http://{HOST}/")).body, b"hello");
    gateway.fetch(&url(canary.port())).expect(403, "url_not_allowed");
    // A written port that is the mapped one leads where the operator said; another scheme's own port does not.
    let rules = [rule(HOST, upstream.port()), rule(HOST, 443)].concat();
    let gateway = Gateway::start(&Setup::new(&upstream).rule(&rules));
    assert_eq!(gateway.fetch(&url(upstream.port())).body, b"hello");
    gateway.fetch(&url(443)).expect(403, "url_not_allowed");
}

#[test]
fn a_mapped_name_is_vetted_too() {
    let canary = Canary::on("127.0.0.1");
    let gateway = Gateway::start(&Setup::bare().map(HOST, canary.address()));
    gateway.fetch(&format!("http://{HOST}/")).expect(403, "url_not_allowed");
}

/// Variables that name a proxy for others mean nothing here.
#[test]
fn proxy_variables_are_ignored() {
    let upstream = hello();
    let canary = Canary::on("127.0.0.1");
    let mut setup = Setup::new(&upstream);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        setup = setup.variable(name, &format!("http://{}", canary.address()));
    }
    let gateway = Gateway::start(&setup);
    assert_eq!(gateway.fetch(&format!("http://{HOST}/")).body, b"hello");
}

/// The positive control: a name that resolves to an opened address is fetched, over either family, through a CNAME too.
#[test]
fn a_name_that_resolves_to_an_opened_address() {
    let upstream = hello();
    let dns = Dns::start(|query| match query.name.as_str() {
        HOST => {
            let alias = Record::Cname(HOST.to_owned(), "real.test.example".to_owned());
            let address = Record::Address("real.test.example".to_owned(), "127.0.0.1".parse().unwrap());
            Reply::Records(if query.is_a() { vec![alias, address] } else { vec![alias] })
        }
        _ => query.addresses(&["127.0.0.1"]),
    });
    let setup = behind(&dns, upstream.port()).open(&upstream.address().to_string());
    let gateway = Gateway::start(&setup);
    let answer = gateway.fetch(&url(upstream.port()));
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]), "{:?}", gateway.record(&answer));
    assert_eq!(upstream.requests()[0].header("host"), Some(&*format!("{HOST}:{}", upstream.port())));
}

/// One forbidden address among the answers refuses the name: nothing is tried, whichever comes first (T25, T26).
#[test]
fn forbidden_answers_are_not_connected_to() {
    // 127.0.0.9 is opened, and stands for a good address beside the forbidden ones.
    let canaries = Canary::on_one_port(["127.0.0.1", "::1", "127.0.0.9"]);
    let port = canaries[0].port();
    let answers: [&[&str]; 16] = [
        &["127.0.0.1"],
        &["::1"],
        &["127.0.0.1", "::1"],
        &["127.0.0.9", "127.0.0.1"],
        &["127.0.0.1", "127.0.0.9"],
        &["127.0.0.9", "::1"],
        &["127.0.0.9", "10.0.0.1"],
        &["0.0.0.0"],
        &["::"],
        &["169.254.169.254"],
        &["::ffff:127.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["2002:7f00:1::"],
        &["fd00:ec2::254"],
        &["100.64.0.1"],
        &["255.255.255.255"],
    ];
    for ips in answers {
        let dns = Dns::start(move |query| query.addresses(ips));
        let gateway = Gateway::start(&behind(&dns, port).open("127.0.0.9"));
        let answer = gateway.fetch(&url(port));
        answer.expect(403, "url_not_allowed");
        let record = gateway.record(&answer);
        assert!(record["reason"].as_str().unwrap().contains("resolves to"), "{ips:?}: {record}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("127.0.0"), "{ips:?}");
    }
}

#[test]
fn an_alias_of_loopback_is_not_connected_to() {
    let canary = Canary::on("127.0.0.1");
    for inside in ["localhost", "inside.test.example"] {
        let dns = Dns::start(move |query| match query.name.as_str() {
            HOST => {
                let alias = Record::Cname(HOST.to_owned(), inside.to_owned());
                let address = Record::Address(inside.to_owned(), "127.0.0.1".parse().unwrap());
                Reply::Records(if query.is_a() { vec![alias, address] } else { vec![alias] })
            }
            _ => query.addresses(&["127.0.0.1"]),
        });
        let gateway = Gateway::start(&behind(&dns, canary.port()));
        let answer = gateway.fetch(&url(canary.port()));
        assert!(matches!(answer.status, 403 | 502), "{}", answer.head);
    }
}

/// The connection goes to the address that was vetted, even if the next answer is another one (T26).
#[test]
fn an_answer_that_changes_its_mind() {
    let (upstream, _canary) = beside_a_canary();
    let port = upstream.port();
    // The first answer is good, every further one is not.
    let dns = Dns::start(|query: &Query| {
        query.addresses(if query.number == 0 { &["127.0.0.2"] } else { &["127.0.0.1"] })
    });
    let gateway = Gateway::start(&behind(&dns, port).open(&upstream.address().to_string()));
    let answer = gateway.fetch(&url(port));
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]), "{:?}", gateway.record(&answer));
    let asked = dns.queries().iter().filter(|query| query.is_a()).count();
    assert_eq!(asked, 1, "resolved once for one connection");
    gateway.fetch(&url(port)).expect(403, "url_not_allowed");
}

/// An upstream on 127.0.0.2 and a canary on the same port of 127.0.0.1.
fn beside_a_canary() -> (Upstream, Canary) {
    (0..100)
        .find_map(|_| {
            let upstream = Upstream::start_on("127.0.0.2", |_| {
                vec![Step::Send(ok(&[("Connection", "close")], b"hello")), Step::Close]
            });
            let canary = Canary::at(("127.0.0.1", upstream.port()))?;
            Some((upstream, canary))
        })
        .expect("a port that is free on both addresses")
}

/// No name server hears of a request that is refused before fetching (T28).
#[test]
fn no_look_up_without_a_permit() {
    let dns = Dns::start(|query| query.addresses(&["127.0.0.1"]));
    let gateway = Gateway::start(&behind(&dns, 80));
    gateway.get(
        &gateway
            .link("http://files.test.example/")
            .secret("sgk1_another-secret-of-enough-bytes-0123")
            .query(),
    );
    gateway.get(&gateway.link("http://files.test.example/").expires_in(-1).query());
    gateway.fetch("http://other.test.example/").expect(403, "url_not_allowed");
    gateway.request("POST", &gateway.link("http://files.test.example/").query(), &[]);
    drop(gateway);
    assert_eq!(dns.queries(), []);
}

/// What a name server does wrong ends in bounded time and never in a connection (T27).
#[test]
fn name_server_faults() {
    let canary = Canary::on("127.0.0.1");
    let loopback = || vec![Record::Address(HOST.to_owned(), "127.0.0.1".parse().unwrap())];
    let cases: [(&str, u16, Script); 8] = [
        ("NXDOMAIN", 502, Box::new(|_| Reply::NxDomain)),
        ("SERVFAIL", 502, Box::new(|_| Reply::ServFail)),
        ("an empty answer", 502, Box::new(|_| Reply::Records(Vec::new()))),
        ("silence", 504, Box::new(|_| Reply::Silence)),
        ("another id", 504, Box::new(move |_| Reply::WrongId(loopback()))),
        (
            "an alias of itself",
            502,
            Box::new(|_| Reply::Records(vec![Record::Cname(HOST.to_owned(), HOST.to_owned())])),
        ),
        (
            "an endless chain of aliases",
            502,
            Box::new(|query| {
                let next = format!("n{}.test.example", query.name.len() % 7 + query.number);
                Reply::Records(vec![Record::Cname(query.name.clone(), next)])
            }),
        ),
        (
            "3000 records",
            502,
            Box::new(|query| {
                let ips: Vec<_> = (0..3000).map(|n| format!("127.7.{}.{}", n / 250, n % 250 + 1)).collect();
                query.addresses(&ips.iter().map(String::as_str).collect::<Vec<_>>())
            }),
        ),
    ];
    for (name, status, script) in cases {
        let dns = Dns::start(script);
        let setup = behind(&dns, canary.port()).set("timeouts.resolve", "900ms");
        let gateway = Gateway::start(&setup);
        let began = Instant::now();
        let answer = gateway.fetch(&url(canary.port()));
        assert!(began.elapsed() < Duration::from_secs(5), "{name}: {:?}", began.elapsed());
        let record = gateway.record(&answer);
        assert_eq!(answer.status, status, "{name}: {record}");
        assert!(!dns.queries().is_empty(), "{name}");
    }
}

/// What only report mode lets through gets no exception of the operator's: those are for tenants with a rule.
#[test]
fn report_mode_reaches_no_opened_address() {
    let (upstream, other) = (hello(), hello());
    let setup =
        Setup::new(&upstream).host("other.test.example", other.address()).policy_head("mode = \"report\"");
    let gateway = Gateway::start(&setup);
    let answer = gateway.fetch("http://files.test.example/a.txt");
    assert_eq!(answer.status, 200, "{}", answer.head);
    for url in ["http://other.test.example/a.txt".to_owned(), format!("http://{}/a.txt", other.address())] {
        gateway.fetch(&url).expect(403, "url_not_allowed");
    }
    assert!(other.requests().is_empty());
}
