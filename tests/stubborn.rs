//! Clients, issuers and upstreams that are stubborn rather than wrong: what they hold is bounded, and nobody else waits.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::{
    Answer, Client, DEADLINE, End, Gateway, HOST, Request, Setup, Signal, Step, Upstream, ok, pattern, text,
};

const FILE: &str = "http://files.test.example/a.bin";

fn tagged(request: &Request, first: &str, resumed: &str) -> Vec<Step> {
    let head = if request.header("range").is_some() { resumed } else { first };
    text(format!("HTTP/1.1 {head}")).into_iter().chain([Step::Close]).collect()
}

fn fetch(first: &'static str, resumed: &'static str) -> (Answer, Gateway, Upstream) {
    let upstream = Upstream::start(move |request| tagged(request, first, resumed));
    let gateway = Gateway::start(&Setup::new(&upstream));
    let answer = gateway.fetch(FILE);
    (answer, gateway, upstream)
}

const BROKEN: &str = "200 OK\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\nContent-Length: 10\r\n\r\nOLDv1";
const BROKEN_OPEN: &str =
    "200 OK\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nOLDv1\r\n";

/// T50: nothing is stitched to a part whose version is not named, named otherwise, or coded otherwise.
#[test]
fn a_resume_must_name_the_same_version() {
    for resumed in [
        "206 Partial Content\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\nNEWv2",
        "206 Partial Content\r\nETag: W/\"v1\"\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\nNEWv2",
        "206 Partial Content\r\nETag: \"v2\"\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\nNEWv2",
        "206 Partial Content\r\nETag: \"v1\"\r\nContent-Encoding: gzip\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\nNEWv2",
        "206 Partial Content\r\nETag: \"v1\"\r\nContent-Range: bytes 5-9/10\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nNEWv2\r\n0\r\n\r\n",
    ] {
        let (answer, gateway, _upstream) = fetch(BROKEN, resumed);
        assert!(!answer.complete() && !answer.body.ends_with(b"v2"), "{resumed}");
        assert_eq!(gateway.record(&answer)["outcome"], "aborted", "{resumed}");
    }
    let good = "206 Partial Content\r\nETag: \"v1\"\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\nREST!";
    let (answer, ..) = fetch(BROKEN, good);
    assert!(answer.complete() && answer.body == b"OLDv1REST!");
}

/// A body whose length nobody said is whole only when a resume says how long it is and brings exactly the rest.
#[test]
fn a_resume_of_unknown_length_brings_the_whole_rest() {
    for resumed in [
        "206 Partial Content\r\nETag: \"v1\"\r\nContent-Range: bytes 5-9/100\r\nContent-Length: 5\r\n\r\nREST!",
        "206 Partial Content\r\nETag: \"v1\"\r\nContent-Range: bytes 5-9/*\r\nContent-Length: 5\r\n\r\nREST!",
        "206 Partial Content\r\nETag: \"v1\"\r\nContent-Range: bytes 5-9/10\r\n\r\nRES",
    ] {
        let (answer, ..) = fetch(BROKEN_OPEN, resumed);
        assert!(!answer.complete(), "{resumed}: {:?}", answer.body);
    }
    let good = "206 Partial Content\r\nETag: \"v1\"\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\nREST!";
    let (answer, ..) = fetch(BROKEN_OPEN, good);
    assert!(answer.complete() && answer.body == b"OLDv1REST!");
}

#[test]
fn a_range_at_the_end_of_numbers_is_no_panic() {
    for range in ["bytes 0-18446744073709551615/*", "bytes 0-18446744073709551614/18446744073709551615"] {
        for framing in ["Content-Length: 0\r\n\r\n", "\r\n"] {
            let head = format!("HTTP/1.1 206 Partial Content\r\nContent-Range: {range}\r\n{framing}");
            let upstream = Upstream::always(move || text(&head).into_iter().chain([Step::Close]).collect());
            let gateway = Gateway::start(&Setup::new(&upstream));
            let answer = gateway.request("GET", &gateway.link(FILE).query(), &[("Range", "bytes=0-")]);
            assert!(answer.status == 502 || !answer.complete(), "{range} {framing:?} {}", answer.head);
        }
    }
}

/// Large pieces go past the process, within the kernel; they arrive as they left, also at a client that takes them in bits,
/// asks for several files at once, or speaks HTTP/1.0.
#[test]
fn large_files_arrive_byte_for_byte() {
    const SIZE: u64 = 5_000_001;
    let file = |number: u64| number * SIZE..(number + 1) * SIZE;
    let upstream = Upstream::start(move |request| {
        let bytes = file(request.target()[1..].parse().unwrap());
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
        text(head).into_iter().chain([Step::Pattern(bytes.start, bytes.end)]).collect()
    });
    let gateway = Gateway::start(&Setup::new(&upstream));
    let query = |number: u64| gateway.link(&format!("http://{HOST}/{number}")).query();
    for mut client in [gateway.client(), Client::connect_narrow(gateway.address())] {
        for number in 0..3 {
            client.request("GET", &query(number), &[]);
        }
        for number in 0..3 {
            let answer = client.answer("GET");
            assert_eq!((answer.status, answer.end), (200, End::Length), "{}", answer.head);
            assert!(answer.body == pattern(file(number).start, file(number).end), "file {number}");
        }
    }
    let mut client = Client::connect_narrow(gateway.address());
    client.send(format!("GET /?{} HTTP/1.0\r\nHost: gateway.test\r\n\r\n", query(3)));
    let (bytes, end) = client.drain();
    assert_eq!(end, End::Closed);
    assert!(bytes.ends_with(&pattern(file(3).start, file(3).end)));
}

/// HTTP/1.0 knows no chunks: a body without length ends with the connection, so a broken one must end in a reset.
#[test]
fn an_http_1_0_client_sees_a_reset() {
    let upstream = Upstream::start(|request| {
        let chunks = if request.target() == "/whole" { "5\r\nhello\r\n0\r\n\r\n" } else { "5\r\nhello\r\n" };
        let head = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        // The pause lets the first bytes pass before the break.
        vec![Step::Drip(vec![head.into_bytes()], Duration::from_millis(100)), Step::Close]
    });
    let gateway = Gateway::start(&Setup::new(&upstream));
    for (path, end) in [("/whole", End::Closed), ("/broken", End::Reset)] {
        let query = gateway.link(&format!("http://{HOST}{path}")).query();
        let mut client = gateway.client();
        client.send(format!("GET /?{query} HTTP/1.0\r\nHost: gateway.test\r\n\r\n"));
        let (bytes, found) = client.drain();
        assert_eq!(found, end, "{path}: {}", String::from_utf8_lossy(&bytes));
    }
}

/// Nor may the end of the process look like the end of a file, or of a part whose length stands in Content-Range alone.
#[test]
fn an_http_1_0_client_sees_a_reset_where_the_gateway_is_killed() {
    for (status, field, range) in [
        ("200 OK", "ETag: \"a\"", ""),
        ("206 Partial Content", "Content-Range: bytes 0-9/100", "Range: bytes=0-9\r\n"),
    ] {
        let upstream = Upstream::start(move |_| {
            let head =
                format!("HTTP/1.1 {status}\r\n{field}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            vec![Step::Send(head.into()), Step::Stall]
        });
        let mut gateway = Gateway::start(&Setup::new(&upstream));
        let query = gateway.link(FILE).query();
        let mut client = gateway.client();
        client.send(format!("GET /?{query} HTTP/1.0\r\nHost: gateway.test\r\n{range}\r\n"));
        assert_eq!(client.head().unwrap().status.to_string(), status[..3]);
        assert_eq!(client.peek(5), b"hello");
        gateway.kill();
        assert_eq!(client.drain(), (b"hello".to_vec(), End::Reset), "{status}");
    }
}

/// RFC 9112 section 9.3.1: an upstream may close a kept connection just when the next request goes out on it.
#[test]
fn a_request_that_met_a_closing_connection_is_sent_again() {
    let upstream = Upstream::start(|request| match request.number {
        0 => vec![Step::Send(ok(&[], b"first"))],
        1 => vec![Step::Close],
        _ => vec![Step::Send(ok(&[], b"third"))],
    });
    let gateway = Gateway::start(&Setup::new(&upstream));
    assert_eq!(gateway.fetch(FILE).body, b"first");
    assert_eq!(gateway.fetch(FILE).body, b"third");
    assert_eq!(upstream.requests().len(), 3);
}

/// What HTTP/2 calls flow control: a client may keep its window shut for ever. Its place must not stay taken.
#[test]
fn a_client_that_opens_no_window_loses_its_place() {
    let upstream = Upstream::start(|_| vec![Step::Send(ok(&[], &[b'x'; 100_000]))]);
    let gateway = Gateway::start(
        &Setup::new(&upstream)
            .set("timeouts.client_write", "500ms")
            .policy("[limits.key]\nconcurrent_downloads = 1\n"),
    );
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    // SETTINGS with INITIAL_WINDOW_SIZE 0, then one request.
    stream.write_all(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]).unwrap();
    stream.write_all(&headers_frame(1, &gateway.link(FILE).query())).unwrap();
    upstream.wait_requests(1);
    let line = gateway.line(|line| line["outcome"] == "aborted");
    assert!(line["reason"].as_str().unwrap().contains("took nothing for too long"), "{line}");
    assert_eq!(gateway.fetch(FILE).status, 200, "its place is free while its connection still stands");
}

/// HEADERS with END_STREAM and END_HEADERS: literal fields without indexing (RFC 7541 section 6.2.2).
fn headers_frame(stream: u8, query: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86]; // :method GET, :scheme http
    let mut literal = |index: u8, value: &str| {
        block.push(index);
        let length = value.len();
        if length < 127 {
            block.push(u8::try_from(length).unwrap());
        } else {
            block.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                block.push(u8::try_from(rest % 128).unwrap() | 0x80);
                rest /= 128;
            }
            block.push(u8::try_from(rest).unwrap());
        }
        block.extend_from_slice(value.as_bytes());
    };
    literal(0x04, &format!("/?{query}")); // :path
    literal(0x01, "gateway.test"); // :authority
    let length = u32::try_from(block.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], 1, 5, 0, 0, 0, stream];
    frame.append(&mut block);
    frame
}

#[test]
fn an_http2_client_that_only_answers_pings_is_sent_away() {
    let upstream = Upstream::start(|_| Vec::new());
    let gateway = Gateway::start(&Setup::new(&upstream).set("timeouts.client_head", "500ms"));
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
    let began = Instant::now();
    let mut header = [0; 9];
    // Every PING is answered (RFC 9113 section 6.7) and every SETTINGS acknowledged; the connection ends all the same.
    while stream.read_exact(&mut header).is_ok() {
        let length = usize::from(header[1]) << 8 | usize::from(header[2]);
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).is_err() {
            break;
        }
        let acknowledged = header[4] & 1 == 1;
        if matches!(header[3], 4 | 6) && !acknowledged {
            let payload = if header[3] == 6 { payload } else { Vec::new() };
            let length = u8::try_from(payload.len()).unwrap();
            let mut answer = vec![0, 0, length, header[3], 1, 0, 0, 0, 0];
            answer.extend(payload);
            let _ = stream.write_all(&answer);
        }
    }
    assert!(began.elapsed() < DEADLINE, "the connection was never ended");
}

/// All is answered at once, and goes out over a slow line for longer than an idle connection may stay. Nothing of it may be
/// missing.
#[test]
fn a_slow_http2_client_gets_all_that_was_answered() {
    const LENGTH: usize = 60_000;
    const STREAMS: u8 = 64;
    const PER_SECOND: f64 = 600_000.0;
    let upstream = Upstream::start(|_| vec![Step::Send(ok(&[], &[b'x'; LENGTH]))]);
    let gateway = Gateway::start(&Setup::new(&upstream).set("timeouts.client_head", "3s"));
    let mut stream = TcpStream::connect(gateway.address()).unwrap();
    socket2::SockRef::from(&stream).set_recv_buffer_size(128 * 1024).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    // SETTINGS with INITIAL_WINDOW_SIZE 2^24, and WINDOW_UPDATE by 2^30 for the connection.
    stream.write_all(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0]).unwrap();
    stream.write_all(&[0, 0, 4, 8, 0, 0, 0, 0, 0, 0x40, 0, 0, 0]).unwrap();
    for number in 0..STREAMS {
        stream.write_all(&headers_frame(2 * number + 1, &gateway.link(FILE).query())).unwrap();
    }
    let (began, mut taken, mut bytes, mut ended) = (Instant::now(), 0, 0, 0);
    while ended < STREAMS {
        let mut header = [0; 9];
        stream
            .read_exact(&mut header)
            .unwrap_or_else(|error| panic!("{error} after {bytes} bytes, {:?}", began.elapsed()));
        let length = usize::from(header[1]) << 8 | usize::from(header[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        taken += 9 + length;
        match (header[3], header[4] & 1) {
            (0, end) => {
                bytes += length;
                ended += end;
            }
            (4, 0) => stream.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).unwrap(),
            (6, 0) => stream.write_all(&[&[0, 0, 8, 6, 1, 0, 0, 0, 0], &payload[..]].concat()).unwrap(),
            (3, _) => panic!("a stream was reset"),
            _ => {}
        }
        // This is what makes the client slow, not what anything waits for.
        let due = Duration::from_secs_f64(f64::from(u32::try_from(taken).unwrap()) / PER_SECOND);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    assert_eq!(bytes, LENGTH * usize::from(STREAMS));
}

#[test]
fn one_client_cannot_take_every_place() {
    let upstream = Upstream::start(|_| vec![Step::Send(ok(&[], b"x"))]);
    let setup =
        Setup::new(&upstream).set("max_connections_per_client", "3").set("timeouts.client_head", "1m");
    let gateway = Gateway::start(&setup);
    let silent: Vec<_> = (0..3).map(|_| gateway.client()).collect();
    let mut fourth = gateway.client();
    let (bytes, end) = fourth.drain();
    assert!(bytes.is_empty() && matches!(end, End::Closed | End::Reset), "{end:?}");
    // Another address still finds a place.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.2:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&gateway.address().into()).unwrap();
    let mut other = TcpStream::from(socket);
    other.write_all(b"GET /healthz HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    other.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    drop(silent);
}

/// An issuer that hangs holds up those whose key it has, one flight at a time, and nobody whose key is known.
#[test]
fn a_hanging_issuer_delays_only_who_needs_it() {
    let hang = Signal::new();
    let wait = hang.clone();
    let id = Upstream::start(move |_| vec![Step::Wait(wait.clone()), Step::Close]);
    let files = Upstream::start(|_| vec![Step::Send(ok(&[], b"x"))]);
    let policy = "[[issuers]]\nissuer = \"https://id.example/\"\naudience = \"downloads\"\njwks_url = \"http://id.localhost/jwks\"\nalgorithm = \"ES256\"\n";
    let setup = Setup::new(&files).host("id.localhost", id.address()).policy(policy);
    let setup = setup.set("timeouts.first_byte", "500ms").set("timeouts.key_set_retry", "1ms");
    let gateway = Gateway::start(&setup);
    let encode = |text: String| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
    };
    let token = format!(
        "{}.{}.{}",
        encode(r#"{"alg":"ES256","kid":"nobody"}"#.to_owned()),
        encode(format!(
            r#"{{"iss":"https://id.example/","aud":"downloads","exp":{},"url":"{FILE}"}}"#,
            support::now() + 60
        )),
        "A".repeat(86)
    );
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| gateway.get(&format!("token={token}")).expect(403, "invalid_signature"));
        }
        id.wait_requests(1);
        assert_eq!(gateway.fetch(FILE).status, 200, "a link needs no issuer");
    });
    // Eight flights one after the other would take eight times 2.5 s; whoever waited shares the first one's end.
    assert!(id.requests().len() <= 2, "{}", id.requests().len());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    hang.give();
}
