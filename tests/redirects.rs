//! Where an upstream may lead, and where not: every hop passes every check, and no client ever sees a Location.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use support::{Answer, Canary, Gateway, Setup, Step, Upstream, ok, text};

fn redirect_to(location: &str) -> Vec<Step> {
    text(format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 5\r\n\r\ndemon"))
}

/// `/5` leads to `/4`, and so on to `/0`, which is the file.
fn chain() -> Upstream {
    Upstream::start(|request| match request.target() {
        "/0" => vec![Step::Send(ok(&[], b"found"))],
        "/loop" => redirect_to("/loop"),
        path => redirect_to(&format!("/{}", path[1..].parse::<u32>().unwrap() - 1)),
    })
}

#[test]
fn five_redirects_and_no_more() {
    let upstream = chain();
    let gateway = Gateway::start(&Setup::new(&upstream));
    let answer = gateway.fetch("http://files.test.example/5");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"found"[..]));
    assert_eq!(answer.header("location"), None);
    assert_eq!(upstream.requests().len(), 6);
    for url in ["http://files.test.example/6", "http://files.test.example/loop"] {
        let before = upstream.requests().len();
        gateway.fetch(url).expect(502, "upstream_error");
        assert_eq!(upstream.requests().len() - before, 6, "{url}");
    }
}

#[test]
fn every_redirect_status_is_followed_with_the_same_request() {
    for status in [301, 302, 303, 307, 308] {
        let upstream = Upstream::start(move |request| match request.target() {
            "/from" => text(format!(
                "HTTP/1.1 {status} Moved\r\nLocation: to?a=b#fragment\r\nContent-Length: 0\r\n\r\n"
            )),
            _ => vec![Step::Send(ok(&[], b"found"))],
        });
        let gateway = Gateway::start(&Setup::new(&upstream));
        let query = gateway.link("http://files.test.example/from").query();
        let answer = gateway.request(
            "GET",
            &query,
            &[("Range", "bytes=0-"), ("Cookie", "demon"), ("Referer", "demon")],
        );
        assert_eq!((answer.status, &answer.body[..]), (200, &b"found"[..]), "{status}");
        let requests = upstream.requests();
        assert_eq!(requests[1].target(), "/to?a=b");
        assert_eq!(requests[1].method(), "GET");
        assert_eq!(requests[0].names(), requests[1].names());
        assert!(!format!("{requests:?}").contains("demon"), "{requests:#?}");
    }
}

/// The answer to a link whose upstream redirects to `location`, with everything opened that an operator could open.
fn follow(location: &str, setup: impl FnOnce(Setup) -> Setup) -> Answer {
    let target = location.to_owned();
    let upstream = Upstream::start(move |_| redirect_to(&target));
    let gateway = Gateway::start(&setup(Setup::new(&upstream)));
    let answer = gateway.fetch("http://files.test.example/from");
    assert_eq!(answer.header("location"), None);
    assert!(!String::from_utf8_lossy(&answer.body).contains("demon"));
    assert_eq!(upstream.requests().len(), 1, "{location}");
    answer
}

/// The policy does not allow it: refused before anything is connected to, although the operator opened the address.
#[test]
fn a_hop_that_the_policy_does_not_allow() {
    let canary = Canary::on("127.0.0.1");
    let port = canary.port();
    for location in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://other.test.example:{port}/"),
        format!("//other.test.example:{port}/"),
        format!("http://files.test.example:{port}/"),
        format!("http://sub.files.test.example:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[fd00:ec2::254]/".to_owned(),
        "https://files.test.example/".to_owned(),
        "/private/a".to_owned(),
        "/x/../private/a".to_owned(),
        "/%70rivate/a".to_owned(),
    ] {
        let answer = follow(&location, |setup| {
            setup
                .open("127.0.0.1")
                .map("other.test.example", canary.address())
                .map("sub.files.test.example", canary.address())
                .rule("[[deny]]\nhost = \"files.test.example\"\npath = \"/private\"")
        });
        answer.expect(403, "url_not_allowed");
    }
}

/// The policy allows it, but the address is special and not opened.
#[test]
fn a_hop_to_an_address_that_is_not_opened() {
    let canary = Canary::on("127.0.0.1");
    let six = Canary::on("::1");
    let rule = |host: &str, port: u16| {
        format!("[[allow]]\nhost = \"{host}\"\nschemes = [\"http\"]\nports = [{port}]\n")
    };
    for (host, port) in
        [("127.0.0.1", canary.port()), ("[::1]", six.port()), ("169.254.169.254", 80), ("10.0.0.1", 80)]
    {
        let location = format!("http://{host}:{port}/");
        let answer = follow(&location, |setup| setup.rule(&rule(host, port)));
        answer.expect(403, "url_not_allowed");
    }
    let named = format!("http://other.test.example:{}/", canary.port());
    let answer = follow(&named, |setup| {
        setup.map("other.test.example", canary.address()).rule(&rule("other.test.example", canary.port()))
    });
    answer.expect(403, "url_not_allowed");
}

#[test]
fn a_redirect_that_cannot_be_read() {
    for location in [
        "ftp://files.test.example/",
        "http://user@files.test.example/",
        "http://",
        "http://files.test.example:0/",
        "javascript:alert(1)",
        "http://a b/",
    ] {
        let answer = follow(location, |setup| setup);
        assert!(matches!(answer.status, 403 | 502), "{location}: {}", answer.head);
    }
    for fields in ["", "Location: /a\r\nLocation: /b\r\n", "Location: \u{7f}\u{e9}\r\n"] {
        let upstream = Upstream::always(move || {
            text(format!("HTTP/1.1 302 Found\r\n{fields}Content-Length: 0\r\n\r\n"))
        });
        let gateway = Gateway::start(&Setup::new(&upstream));
        assert_eq!(gateway.fetch("http://files.test.example/from").status, 502, "{fields}");
        assert_eq!(upstream.requests().len(), 1);
    }
}
