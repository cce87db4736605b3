//! Upstreams with TLS: who they are, which HTTP is spoken, the tenant's own headers, and a body that ends without saying so.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rcgen::{CertificateParams, Issuer, KeyPair};
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

const SECURE: &str = "secure.test.example";

/// A certificate authority that the gateway trusts.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
        let file = folder.join(format!("ca-{name}-{}.pem", std::process::id()));
        std::fs::write(&file, certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// A server's configuration with a certificate for `host`, good until `year`.
    fn server(&self, host: &str, year: i32, protocols: &[&str]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// What an upstream saw of each request: version, path and the tenant's header.
type Seen = Arc<Mutex<Vec<(Version, String, Option<String>)>>>;
type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

/// An HTTP server behind TLS.
struct Secure {
    address: SocketAddr,
    seen: Seen,
    _runtime: Runtime,
}

fn listener(runtime: &Runtime) -> (TcpListener, SocketAddr) {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

impl Secure {
    fn start(tls: TlsAcceptor, answer: impl Fn(&str) -> Response<Body> + Clone + Send + 'static) -> Self {
        let runtime = Runtime::new().unwrap();
        let (listener, address) = listener(&runtime);
        let seen = Seen::default();
        let log = Arc::clone(&seen);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, log, answer) = (tls.clone(), Arc::clone(&log), answer.clone());
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let key = request
                            .headers()
                            .get("x-api-key")
                            .map(|value| value.to_str().unwrap().to_owned());
                        let path = request.uri().path().to_owned();
                        let response = answer(&path);
                        log.lock().unwrap().push((request.version(), path, key));
                        async move { Ok::<_, Infallible>(response) }
                    });
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, seen, _runtime: runtime }
    }

    fn seen(&self) -> Vec<(Version, String, Option<String>)> {
        self.seen.lock().unwrap().clone()
    }
}

/// A body in pieces; an error among them resets the stream.
fn body(pieces: Vec<Result<&'static str, ()>>) -> Body {
    let frames = pieces.into_iter().map(|piece| match piece {
        Ok(text) => Ok(Frame::data(Bytes::from_static(text.as_bytes()))),
        Err(()) => Err(std::io::Error::other("broken on purpose")),
    });
    StreamBody::new(stream::iter(frames)).boxed_unsync()
}

fn setup(authority: &Authority, address: SocketAddr) -> Setup {
    Setup::bare()
        .host(SECURE, address)
        .rule(&format!("[[allow]]\nhost = \"{SECURE}\"\n"))
        .set("origin.ca_file", authority.file.to_str().unwrap())
}

#[test]
fn a_trusted_upstream_is_fetched() {
    let authority = Authority::new("good");
    let upstream = Secure::start(authority.server(SECURE, 2100, &["h2", "http/1.1"]), |_| {
        Response::new(body(vec![Ok("over "), Ok("tls")]))
    });
    let gateway = Gateway::start(&setup(&authority, upstream.address));
    let answer = gateway.fetch(&format!("https://{SECURE}/a.txt"));
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"over tls"[..]), "{}", answer.head);
    // One download a connection, also where more would be possible (ADR 0026).
    assert_eq!(upstream.seen(), [(Version::HTTP_11, "/a.txt".to_owned(), None)]);
}

#[test]
fn a_body_that_breaks_under_tls_is_no_whole_file() {
    let authority = Authority::new("reset");
    let upstream = Secure::start(authority.server(SECURE, 2100, &["http/1.1"]), |path| {
        let mut response = Response::new(body(vec![Ok("part"), Err(())]));
        if path == "/known" {
            response.headers_mut().insert("content-length", 8.into());
        }
        response
    });
    let gateway = Gateway::start(&setup(&authority, upstream.address));
    for path in ["/known", "/unknown"] {
        let answer = gateway.fetch(&format!("https://{SECURE}{path}"));
        assert!(!answer.complete() || answer.status == 502, "{path} {}", answer.head);
    }
}

#[test]
fn an_upstream_that_speaks_http2_alone_is_a_clear_502() {
    let authority = Authority::new("h2");
    let upstream =
        Secure::start(authority.server(SECURE, 2100, &["h2"]), |_| Response::new(body(vec![Ok("x")])));
    let gateway = Gateway::start(&setup(&authority, upstream.address));
    let answer = gateway.fetch(&format!("https://{SECURE}/a.txt"));
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unreachable"), "{}", answer.head);
    assert!(upstream.seen().is_empty());
}

/// T29: nothing is asked of a server that cannot prove who it is.
#[test]
fn an_upstream_that_is_someone_else_is_not_asked() {
    let (authority, stranger) = (Authority::new("known"), Authority::new("stranger"));
    for (case, tls) in [
        ("another host", authority.server("other.test.example", 2100, &["http/1.1"])),
        ("expired", authority.server(SECURE, 2020, &["http/1.1"])),
        ("another authority", stranger.server(SECURE, 2100, &["http/1.1"])),
    ] {
        let upstream = Secure::start(tls, |_| Response::new(body(vec![Ok("secret")])));
        let gateway = Gateway::start(&setup(&authority, upstream.address));
        gateway.fetch(&format!("https://{SECURE}/a.txt")).expect(502, "upstream_unreachable");
        assert!(upstream.seen().is_empty(), "{case}");
    }
}

#[test]
fn the_tenants_headers_go_to_their_origin_and_to_no_other() {
    let authority = Authority::new("headers");
    let other = Secure::start(authority.server("other.test.example", 2100, &["http/1.1"]), |_| {
        Response::new(body(vec![Ok("other")]))
    });
    let upstream = Secure::start(authority.server(SECURE, 2100, &["http/1.1"]), |path| {
        let location = match path {
            "/same" => Some("/end"),
            "/away" => Some("https://other.test.example/end"),
            _ => None,
        };
        let mut response = Response::new(body(vec![Ok("own")]));
        if let Some(location) = location {
            *response.status_mut() = http::StatusCode::FOUND;
            response.headers_mut().insert("location", location.parse().unwrap());
        }
        response
    });
    let setup = setup(&authority, upstream.address)
        .host("other.test.example", other.address)
        .rule("[[allow]]\nhost = \"other.test.example\"\n")
        .policy(&format!(
            "[[upstream]]\nhost = \"{SECURE}\"\nheaders = {{ x-api-key = \"file:rig.secret\" }}\n"
        ));
    let gateway = Gateway::start(&setup);
    assert_eq!(gateway.fetch(&format!("https://{SECURE}/same")).body, b"own");
    assert_eq!(gateway.fetch(&format!("https://{SECURE}/away")).body, b"other");
    let keys: Vec<_> = upstream.seen().into_iter().map(|(_, path, key)| (path, key)).collect();
    let with = Some(SECRET.to_owned());
    let expected = [("/same", with.clone()), ("/end", with.clone()), ("/away", with)];
    assert_eq!(keys, expected.map(|(path, key)| (path.to_owned(), key)));
    assert_eq!(other.seen()[0].2, None);
    assert!(!format!("{:?}", gateway.lines()).contains(SECRET));
}

#[test]
fn a_redirect_down_to_http_is_not_followed() {
    let authority = Authority::new("down");
    let plain = Canary::on("127.0.0.1");
    let upstream = Secure::start(authority.server(SECURE, 2100, &["http/1.1"]), |_| {
        let mut response = Response::new(body(Vec::new()));
        *response.status_mut() = http::StatusCode::FOUND;
        response.headers_mut().insert("location", format!("http://{HOST}/a.txt").parse().unwrap());
        response
    });
    let gateway = Gateway::start(&setup(&authority, upstream.address).host(HOST, plain.address()));
    gateway.fetch(&format!("https://{SECURE}/a.txt")).expect(403, "url_not_allowed");
}

/// A body without length ends with the connection; with TLS the end must be said, or it may have been cut (RFC 8446 6.1).
#[test]
fn tls_without_close_notify_is_a_cut_body() {
    let authority = Authority::new("notify");
    let tls = authority.server(SECURE, 2100, &["http/1.1"]);
    let runtime = Runtime::new().unwrap();
    let (listener, address) = listener(&runtime);
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = tls.accept(stream).await else { continue };
            let mut request = [0; 2048];
            let count = stream.read(&mut request).await.unwrap();
            let says_so = request[..count].starts_with(b"GET /whole");
            stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it?").await.unwrap();
            stream.flush().await.unwrap();
            if says_so {
                stream.shutdown().await.unwrap();
            } else {
                // Only the TCP connection ends.
                stream.get_mut().0.shutdown().await.unwrap();
            }
        }
    });
    let gateway = Gateway::start(&setup(&authority, address));
    assert!(gateway.fetch(&format!("https://{SECURE}/whole")).complete());
    let answer = gateway.fetch(&format!("https://{SECURE}/cut"));
    assert!(!answer.complete(), "{}", answer.head);
}

/// Small pieces are let grow (ADR 0032), which holds nothing back: an upstream that goes on only when its client has everything so
/// far does go on.
#[test]
fn many_small_records_come_whole_and_none_waits_for_the_next() {
    const PART: usize = 4_000_000;
    const PARTS: usize = 3;
    let authority = Authority::new("small");
    let tls = authority.server(SECURE, 2100, &["http/1.1"]);
    let runtime = Runtime::new().unwrap();
    let (listener, address) = listener(&runtime);
    let file: Vec<u8> = (0..251).cycle().take(PARTS * PART).collect();
    let (arrived, mut has_arrived) = tokio::sync::mpsc::unbounded_channel();
    let sent = file.clone();
    runtime.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = tls.accept(stream).await.unwrap();
        assert!(stream.read(&mut [0; 2048]).await.unwrap() > 0);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", sent.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        for part in sent.chunks(PART) {
            for record in part.chunks(1000) {
                stream.write_all(record).await.unwrap();
                stream.flush().await.unwrap();
            }
            has_arrived.recv().await.unwrap();
        }
    });
    let gateway = Gateway::start(&setup(&authority, address));
    let mut client = gateway.client();
    client.request("GET", &gateway.link(&format!("https://{SECURE}/a.bin")).query(), &[]);
    assert_eq!(client.head().unwrap().status, 200);
    for part in 1..=PARTS {
        assert!(client.peek(part * PART) == &file[..part * PART], "part {part}");
        arrived.send(()).unwrap();
    }
    assert_eq!(gateway.line(|line| line["target"] == "sluicegate::decision")["outcome"], "whole");
}

/// What TLS says behind the last bytes is not lost with them.
#[test]
fn a_bad_record_behind_good_bytes_ends_the_download() {
    let authority = Authority::new("bad-record");
    let tls = authority.server(SECURE, 2100, &["http/1.1"]);
    let runtime = Runtime::new().unwrap();
    let (listener, address) = listener(&runtime);
    runtime.spawn(async move {
        let (mut kept, mut wire) = (Vec::new(), Vec::new());
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = tls.accept(stream).await else { continue };
            let mut request = [0; 2048];
            let count = stream.read(&mut request).await.unwrap();
            let head = if request[..count].starts_with(b"GET /known") {
                "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
            };
            let (socket, session) = stream.get_mut();
            std::io::Write::write_all(&mut session.writer(), format!("{head}good bytes").as_bytes()).unwrap();
            wire.clear();
            while session.wants_write() {
                session.write_tls(&mut wire).unwrap();
            }
            // A record of application data that nobody sealed. The connection stays open.
            wire.extend_from_slice(&[0x17, 3, 3, 0, 32]);
            wire.extend_from_slice(&[7; 32]);
            socket.write_all(&wire).await.unwrap();
            kept.push(stream);
        }
    });
    let gateway = Gateway::start(&setup(&authority, address));
    for path in ["/known", "/unknown"] {
        let answer = gateway.fetch(&format!("https://{SECURE}{path}"));
        assert!(!answer.complete() || answer.status == 502, "{path} {}", answer.head);
        assert_ne!(gateway.record(&answer)["outcome"], "whole", "{path}");
    }
}
