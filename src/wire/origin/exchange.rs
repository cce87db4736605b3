//! One request on a connection, and the head of its answer (RFC 9112). Heads are parsed by `httparse`; what it leaves open is
//! which answers count, and where a body ends.

use std::io;
use std::mem::MaybeUninit;

use bytes::BytesMut;
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode, Version};
use url::Position;

use super::head::check_framing;
use super::incoming::{Framing, Incoming};
use super::stream::{FIRST, Stream};
use crate::gate::fault::UpstreamFault;
use crate::gate::fields::{self, Fields, Places};
use crate::gate::target::Target;

const MAX_HEADERS: usize = 100;
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Answers before the answer, such as `103 Early Hints` (RFC 9110 section 15.2).
const MAX_INTERIM: usize = 16;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// The connection ended before any byte of an answer.
    #[error("the connection ended before an answer: {0}")]
    Cut(io::Error),
    #[error("{0}")]
    Broken(io::Error),
    #[error("{0}")]
    Malformed(&'static str),
}

/// An answer: its head, and its body still upstream.
pub(in crate::wire) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: Fields,
    /// Has its framing one meaning?
    pub(super) framed: Result<(), UpstreamFault>,
    pub(in crate::wire) body: Incoming,
}

/// What every request says, whatever else is to be said. By `via` the gateway recognises a request that it made itself (RFC
/// 9110 section 7.6.3).
const FIXED: &str = concat!(
    "accept: */*\r\naccept-encoding: identity\r\nuser-agent: sluicegate/",
    env!("CARGO_PKG_VERSION"),
    "\r\nvia: 1.1 sluicegate\r\n"
);
/// Fields that no other header map may set.
const OWN: [HeaderName; 7] = [
    header::HOST,
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::USER_AGENT,
    header::VIA,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];

/// What is asked: no body, and nothing in the target but what the URL says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'r> {
    pub(super) target: &'r Target,
    pub(super) method: &'r Method,
    pub(super) headers: [&'r HeaderMap; 2],
}

impl Request<'_> {
    fn write(self, text: &mut Vec<u8>) {
        let url = self.target.url();
        let path = &url[Position::BeforePath..Position::AfterQuery];
        for part in [self.method.as_str(), " ", path, " HTTP/1.1\r\nhost: "] {
            text.extend_from_slice(part.as_bytes());
        }
        text.extend_from_slice(url[Position::BeforeHost..Position::AfterPort].as_bytes());
        text.extend_from_slice(b"\r\n");
        text.extend_from_slice(FIXED.as_bytes());
        for (name, value) in self.headers.into_iter().flatten().filter(|(name, _)| !OWN.contains(name)) {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"\r\n");
    }
}

/// Sends `request` and reads the head of its answer, with at most `first` bytes at once at first. The connection goes with the
/// answer's body.
pub(super) async fn exchange(
    mut stream: Stream,
    request: Request<'_>,
    first: usize,
) -> Result<Box<Response>, ExchangeError> {
    stream.write(|text| request.write(text)).await.map_err(ExchangeError::Cut)?;
    let mut read = stream.read(first).await.map_err(ExchangeError::Cut)?;
    if read.is_empty() {
        return Err(ExchangeError::Cut(io::ErrorKind::UnexpectedEof.into()));
    }
    let mut interim = 0;
    loop {
        let parsed = parse(&read)?;
        let is_too_long = match &parsed {
            Some(head) => head.length > MAX_HEAD_BYTES,
            None => read.len() >= MAX_HEAD_BYTES,
        };
        if is_too_long {
            return Err(ExchangeError::Malformed("a head of more than 64 KiB"));
        }
        let Some(head) = parsed else {
            Box::pin(lengthen(&mut stream, &mut read)).await?;
            continue;
        };
        let text = read.split_to(head.length).freeze();
        if head.status.is_informational() {
            interim += 1;
            if head.status == StatusCode::SWITCHING_PROTOCOLS || interim > MAX_INTERIM {
                return Err(ExchangeError::Malformed("an interim answer that nobody asked for"));
            }
            continue;
        }
        let bodyless = *request.method == Method::HEAD || matches!(head.status.as_u16(), 204 | 304);
        let headers = Fields::new(text, head.places);
        let framed = check_framing(head.version, &headers);
        let framing = if bodyless { Framing::Length(0) } else { Framing::of(framed.is_ok(), &headers) };
        // What comes before all of the request has left answers something else.
        let kept = head.version == Version::HTTP_11 && !closes(&headers) && stream.has_asked();
        let body = Incoming::new(stream, read, framing, kept);
        return Ok(Box::new(Response { status: head.status, headers, framed, body }));
    }
}

/// Reads on until there is another line: a head that comes byte by byte is not parsed byte by byte.
async fn lengthen(stream: &mut Stream, read: &mut BytesMut) -> Result<(), ExchangeError> {
    // What is shared is not held while the rest is waited for.
    let mut whole = BytesMut::from(&std::mem::take(read)[..]);
    loop {
        let more = stream.read(FIRST).await.map_err(ExchangeError::Broken)?;
        if more.is_empty() {
            return Err(ExchangeError::Malformed("a head that breaks off"));
        }
        whole.extend_from_slice(&more);
        if more.contains(&b'\n') || whole.len() >= MAX_HEAD_BYTES {
            *read = whole;
            return Ok(());
        }
    }
}

struct Head {
    status: StatusCode,
    version: Version,
    places: Places,
    length: usize,
}

/// The head at the beginning of `bytes`; `None` if its end is not there yet.
fn parse(bytes: &[u8]) -> Result<Option<Head>, ExchangeError> {
    // Room for many fields, of which most stays as it is: nothing is written there beforehand.
    let mut found = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let length = match parser.parse_response_with_uninit_headers(&mut parsed, bytes, &mut found) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(ExchangeError::Malformed("more than 100 header fields"));
        }
        Err(_) => return Err(ExchangeError::Malformed("a head that is no HTTP/1 response")),
    };
    let malformed = ExchangeError::Malformed("a head that is no HTTP/1 response");
    let (Some(code), Some(minor)) = (parsed.code, parsed.version) else { return Err(malformed) };
    let Ok(status) = StatusCode::from_u16(code) else { return Err(malformed) };
    let mut places = Places::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        places.push(bytes, field.name, field.value);
    }
    let version = if minor == 1 { Version::HTTP_11 } else { Version::HTTP_10 };
    Ok(Some(Head { status, version, places, length }))
}

/// Will the upstream close the connection after this answer (RFC 9112 section 9.6)?
fn closes(headers: &Fields) -> bool {
    let is_close = |word: &[u8]| word.trim_ascii().eq_ignore_ascii_case(b"close");
    headers.all(fields::CONNECTION).any(|value| value.split(|byte| *byte == b',').any(is_close))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderValue;

    use super::*;
    use crate::gate::fields::Name;
    use crate::wire::outbox::Outlet;

    fn target(url: &str) -> Target {
        Target::parse(url).unwrap()
    }

    #[test]
    fn a_request_says_what_the_url_says() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=5-"));
        headers.insert(header::VIA, HeaderValue::from_static("1.1 other"));
        let none = HeaderMap::new();
        let text = |url, method, headers| {
            let mut text = Vec::new();
            Request { target: &target(url), method, headers }.write(&mut text);
            String::from_utf8(text).unwrap()
        };
        let sent = text("http://a.example:8080/b%20c?d=e", &Method::GET, [&none, &headers]);
        assert_eq!(
            sent,
            format!("GET /b%20c?d=e HTTP/1.1\r\nhost: a.example:8080\r\n{FIXED}range: bytes=5-\r\n\r\n")
        );
        let sent = text("https://[2001:db8::1]/", &Method::HEAD, [&none, &none]);
        assert_eq!(sent, format!("HEAD / HTTP/1.1\r\nhost: [2001:db8::1]\r\n{FIXED}\r\n"));
    }

    #[test]
    fn heads() {
        let whole = b"HTTP/1.1 200 OK\r\nA: 1\r\na: 2\r\nB:\r\n\r\nbody";
        let head = parse(whole).unwrap().unwrap();
        assert_eq!(
            (head.status, head.version, head.length),
            (StatusCode::OK, Version::HTTP_11, whole.len() - 4)
        );
        let headers = Fields::new(Bytes::from_static(whole), head.places);
        assert_eq!(headers.all(Name::new("a", "A")).collect::<Vec<_>>(), [b"1", b"2"]);
        for end in 0..head.length {
            assert!(parse(&whole[..end]).unwrap().is_none());
        }
        for bad in [
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: 1\r\n b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: 1\0\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
        assert!(parse(many.as_bytes()).is_err());
    }

    /// The answer to one request, from an upstream that sends `parts` one after the other and then closes.
    async fn answered(parts: Vec<Vec<u8>>) -> Result<Box<Response>, ExchangeError> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        use tokio::net::{TcpListener, TcpStream};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let upstream = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            // What is closed with something unread is reset.
            let _ = stream.read(&mut [0; 64]).await.unwrap();
            for part in parts {
                // The client may have seen enough.
                let _ = stream.write_all(&part).await;
                tokio::task::yield_now().await;
            }
        };
        let (target, none) = (target("http://a.example/"), HeaderMap::new());
        let request = Request { target: &target, method: &Method::GET, headers: [&none; 2] };
        let (answer, ()) =
            tokio::join!(exchange(Stream::Plain(Outlet::new(stream)), request, FIRST), upstream);
        answer
    }

    #[tokio::test]
    async fn a_head_may_come_in_pieces_and_not_too_long() {
        let text =
            b"HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\nok";
        let mut answer = answered(text.chunks(1).map(<[u8]>::to_vec).collect()).await.unwrap();
        assert_eq!(
            (answer.status, answer.headers.only(Name::new("a", "A"))),
            (StatusCode::OK, Some(&b"b"[..]))
        );
        let mut body = Vec::new();
        while let Some(piece) = answer.body.piece(1).await.unwrap() {
            body.extend_from_slice(&piece);
        }
        assert_eq!(body, b"ok");
        let long = [b"HTTP/1.1 200 OK\r\na: ".to_vec(), vec![b'a'; MAX_HEAD_BYTES]];
        let ended = [long.concat(), b"\r\n\r\n".to_vec()].concat();
        for parts in [long.to_vec(), vec![ended]] {
            let refused = answered(parts).await.err().unwrap();
            assert!(matches!(refused, ExchangeError::Malformed("a head of more than 64 KiB")), "{refused}");
        }
        let flood = answered(vec![b"HTTP/1.1 100 Continue\r\n\r\n".repeat(20)]).await.err().unwrap();
        assert!(matches!(flood, ExchangeError::Malformed(_)), "{flood}");
        assert!(matches!(
            answered(Vec::new()).await.err().unwrap(),
            ExchangeError::Broken(_) | ExchangeError::Cut(_)
        ));
    }

    #[test]
    fn whoever_says_close_in_a_list_closes() {
        for (value, closed) in [("close", true), ("x, CLOSE", true), ("keep-alive", false), ("closed", false)]
        {
            let headers = [("Connection", value.as_bytes())].into_iter().collect();
            assert_eq!(closes(&headers), closed, "{value}");
        }
    }
}
