//! The upstream of the demo: a small file server on loopback with ranges, validators and digests, a large file for progress
//! bars, and a thousand small ones for clients that fetch many.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use sha2::{Digest as _, Sha256};
use sluicegate::gate::headers::only;
use sluicegate::gate::range::{ByteRange, ContentRange, RangeRequest};
use tokio::net::TcpListener;

use crate::Failure;

/// The host name of the sample upstream in links; names below `localhost` never leave the machine (RFC 6761).
pub(crate) const HOST: &str = "sample.localhost";

const LARGE_BYTES: u64 = 256 * 1024 * 1024;
const PIECE: u64 = 64 * 1024;
/// How many small files there are: `/parts/0001.txt` to `/parts/1000.txt`.
pub(crate) const PARTS: u16 = 1000;

#[derive(Clone)]
struct Sample {
    path: Cow<'static, str>,
    content_type: &'static str,
    content: Content,
}

#[derive(Clone, Copy)]
enum Content {
    Given(&'static [u8]),
    Generated(u64),
    Part(u16),
}

const SAMPLES: [Sample; 4] = [
    Sample {
        path: Cow::Borrowed("/clip.mp4"),
        content_type: "video/mp4",
        content: Content::Given(include_bytes!("../../../examples/sample/clip.mp4")),
    },
    Sample {
        path: Cow::Borrowed("/handbook.pdf"),
        content_type: "application/pdf",
        content: Content::Given(include_bytes!("../../../examples/sample/handbook.pdf")),
    },
    Sample {
        path: Cow::Borrowed("/notes.txt"),
        content_type: "text/plain; charset=utf-8",
        content: Content::Given(include_bytes!("../../../examples/sample/notes.txt")),
    },
    Sample {
        path: Cow::Borrowed("/large.bin"),
        content_type: "application/octet-stream",
        content: Content::Generated(LARGE_BYTES),
    },
];

/// What the demo says about each file: its path and length.
pub(crate) fn listing() -> impl Iterator<Item = (&'static str, u64)> {
    SAMPLES.iter().map(|sample| (&*sample.path, sample.content.length()))
}

fn find(path: &str) -> Option<Sample> {
    if let Some(sample) = SAMPLES.iter().find(|sample| sample.path == path) {
        return Some(sample.clone());
    }
    let number = path.strip_prefix("/parts/")?.strip_suffix(".txt")?;
    let part: u16 = number.parse().ok().filter(|part| (1..=PARTS).contains(part))?;
    let content = Content::Part(part);
    // One spelling for each.
    (format!("{part:04}") == number).then(|| Sample {
        path: Cow::Owned(path.to_owned()),
        content_type: "text/plain; charset=utf-8",
        content,
    })
}

/// Starts the sample upstream on a free loopback port; it ends with the process.
pub(crate) async fn start() -> Result<SocketAddr, Failure> {
    let cannot = |error: std::io::Error| format!("cannot start the sample upstream: {error}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(&request)) });
            let connection = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .into_owned();
            tokio::spawn(connection);
        }
    });
    Ok(address)
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn answer(request: &Request<Incoming>) -> Response<Body> {
    let mut response = Response::new(Empty::new().boxed_unsync());
    let Some(sample) = find(request.uri().path()) else {
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let (status, headers, part) = head(&sample, request.headers());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if let (Some((first, length)), &Method::GET) = (part, request.method()) {
        *response.body_mut() = sample.content.stream(first, length);
    }
    response
}

/// Status, fields and the part of the file to send: its first byte and length.
fn head(sample: &Sample, request: &HeaderMap) -> (StatusCode, HeaderMap, Option<(u64, u64)>) {
    let total = sample.content.length();
    let tag = format!("\"{}-{total}\"", sample.path.trim_start_matches('/'));
    let mut headers = HeaderMap::new();
    let mut set =
        |name, value: &str| drop(HeaderValue::from_str(value).map(|value| headers.insert(name, value)));
    set(header::ETAG, &tag);
    set(header::LAST_MODIFIED, "Mon, 02 Nov 2026 08:00:00 GMT");
    set(header::ACCEPT_RANGES, "bytes");
    let is_tag = |value: &HeaderValue| value.as_bytes() == tag.as_bytes();
    if only(request, &header::IF_NONE_MATCH).is_some_and(is_tag) {
        return (StatusCode::NOT_MODIFIED, headers, None);
    }
    set(header::CONTENT_TYPE, sample.content_type);
    if let Some(digest) = sample.content.digest() {
        set(HeaderName::from_static("repr-digest"), &format!("sha-256=:{digest}:"));
    }
    let current = request.get(header::IF_RANGE).is_none_or(is_tag);
    let asked =
        only(request, &header::RANGE).filter(|_| current).map(|value| RangeRequest::read(value.as_bytes()));
    let (status, first, length) = match asked {
        Some(RangeRequest::One(range)) => {
            if let Some((first, last)) = part(range, total) {
                set(
                    header::CONTENT_RANGE,
                    &ContentRange::Part { first, last, total: Some(total) }.to_string(),
                );
                (StatusCode::PARTIAL_CONTENT, first, last - first + 1)
            } else {
                set(header::CONTENT_RANGE, &ContentRange::Unsatisfied { total }.to_string());
                set(header::CONTENT_LENGTH, "0");
                return (StatusCode::RANGE_NOT_SATISFIABLE, headers, None);
            }
        }
        _ => (StatusCode::OK, 0, total),
    };
    set(header::CONTENT_LENGTH, &length.to_string());
    (status, headers, Some((first, length)))
}

/// The first and last byte of a range within `total` bytes; `None` if there are none.
fn part(range: ByteRange, total: u64) -> Option<(u64, u64)> {
    let end = total.checked_sub(1)?;
    let (first, last) = match range {
        ByteRange::From(first) => (first, end),
        ByteRange::FromTo(first, last) => (first, last.min(end)),
        ByteRange::Suffix(0) => return None,
        ByteRange::Suffix(length) => (total.saturating_sub(length), end),
    };
    (first <= last && first < total).then_some((first, last))
}

impl Content {
    fn length(self) -> u64 {
        match self {
            Self::Given(bytes) => bytes.len() as u64,
            Self::Generated(length) => length,
            Self::Part(number) => part_text(number).len() as u64,
        }
    }

    /// SHA-256 of the whole file (RFC 9530), where that costs little.
    fn digest(self) -> Option<String> {
        let digest = match self {
            Self::Given(bytes) => Sha256::digest(bytes),
            Self::Part(number) => Sha256::digest(part_text(number)),
            Self::Generated(_) => return None,
        };
        Some(STANDARD.encode(digest))
    }

    fn stream(self, first: u64, length: u64) -> Body {
        let pieces = stream::iter((first..first + length).step_by(64 * 1024)).map(move |at| {
            let piece = PIECE.min(first + length - at);
            Ok(Frame::data(self.piece(at, piece)))
        });
        StreamBody::new(pieces).boxed_unsync()
    }

    fn piece(self, at: u64, length: u64) -> Bytes {
        let within = |whole: Bytes| {
            let range = usize::try_from(at).ok().zip(usize::try_from(at + length).ok());
            range
                .filter(|(_, to)| *to <= whole.len())
                .map_or_else(Bytes::new, |(from, to)| whole.slice(from..to))
        };
        match self {
            Self::Given(bytes) => within(Bytes::from_static(bytes)),
            Self::Part(number) => within(part_text(number).into()),
            Self::Generated(_) => (at..at + length).map(large_byte).collect(),
        }
    }
}

/// No two parts are alike, and few are equally long.
fn part_text(number: u16) -> String {
    format!("part {number:04} of {PARTS}\n").repeat(1 + usize::from(number % 97))
}

/// Byte `at` of the large file: different in every 251-byte row and every megabyte, so that a shifted or repeated part
/// shows in a checksum.
fn large_byte(at: u64) -> u8 {
    ((at % 251) ^ (at >> 20) ^ (at / 251)).to_le_bytes().first().copied().unwrap_or(0)
}
