//! A client of bytes: it sends what it is told and says how each answer ended by its own framing.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use super::DEADLINE;

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// No body by its status or method.
    Bodiless,
    /// As many bytes as `Content-Length` says.
    Length,
    /// The last chunk came.
    Chunked,
    /// Neither framing: the connection's end is the body's.
    Closed,
    /// The connection ended (`Eof`) or was reset before the framing was satisfied: visibly incomplete.
    Eof,
    Reset,
    /// Bytes that are no chunk.
    BadChunk,
}

/// One answer, read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and fields as they came.
    pub(crate) head: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

impl Answer {
    /// Is it whole by its own framing?
    pub(crate) fn complete(&self) -> bool {
        matches!(self.end, End::Bodiless | End::Length | End::Chunked)
    }

    /// A field's value; a field that stands twice fails the test.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} stands twice in {}", self.head);
        value
    }

    /// The problem document.
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.head);
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The `code` of the problem document.
    pub(crate) fn code(&self) -> String {
        self.problem()["code"].as_str().unwrap().to_owned()
    }

    /// Fails unless it is a refusal of this status and code.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}\n{}", self.head, String::from_utf8_lossy(&self.body));
        assert_eq!(self.code(), code);
    }
}

/// One connection to the gateway.
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// A client whose kernel takes in no more than 128 KiB that it has not read.
    pub(crate) fn connect_narrow(address: SocketAddr) -> Self {
        Self::connect_by(address, |socket| socket.set_recv_buffer_size(64 * 1024))
    }

    /// A client as on a real network, whose packets are small: so is the send buffer that the gateway's system begins with. Its
    /// own kernel takes in next to nothing.
    pub(crate) fn connect_far(address: SocketAddr) -> Self {
        Self::connect_by(address, |socket| {
            socket.set_tcp_mss(1448)?;
            socket.set_recv_buffer_size(4096)
        })
    }

    /// The same with a kernel that takes in as much as others do.
    pub(crate) fn connect_small_packets(address: SocketAddr) -> Self {
        Self::connect_by(address, |socket| socket.set_tcp_mss(1448))
    }

    fn connect_by(address: SocketAddr, set: impl FnOnce(&socket2::Socket) -> std::io::Result<()>) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        set(&socket).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Sends exactly these bytes. A gateway that has closed already is no error: its answer may be there to be read.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        match self.stream.write_all(bytes.as_ref()) {
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            result => result.unwrap(),
        }
    }

    /// Sends a well-formed request for `/?query`.
    pub(crate) fn request(&mut self, method: &str, query: &str, headers: &[(&str, &str)]) {
        let fields: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let fields = fields.concat();
        self.send(format!("{method} /?{query} HTTP/1.1\r\nHost: gateway.test\r\n{fields}\r\n"));
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads one answer to its end. A connection that ends without one is an answer with status 0, which is what an
    /// abort looks like if it comes before the head was flushed.
    pub(crate) fn answer(&mut self, method: &str) -> Answer {
        let Some(mut answer) = self.head() else {
            return Answer {
                status: 0,
                head: String::new(),
                headers: Vec::new(),
                body: Vec::new(),
                end: End::Eof,
            };
        };
        let bodiless = method == "HEAD" || answer.status < 200 || matches!(answer.status, 204 | 304);
        let coding = answer.header("transfer-encoding").map(str::to_owned);
        let length = answer.header("content-length").map(|text| text.parse::<usize>().unwrap());
        answer.end = match (coding.as_deref(), length) {
            _ if bodiless => End::Bodiless,
            (Some("chunked"), None) => self.chunks(&mut answer.body),
            (None, Some(length)) => self.exactly(length, &mut answer.body).unwrap_or(End::Length),
            (None, None) => self.rest(&mut answer.body),
            framing => panic!("ambiguous framing {framing:?}"),
        };
        answer
    }

    /// Reads the head of an answer and leaves the body; `None` if the connection ended instead.
    pub(crate) fn head(&mut self) -> Option<Answer> {
        let end = loop {
            match self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => break end,
                None => {
                    if self.more().is_some() {
                        assert!(
                            self.buffer.is_empty(),
                            "a broken head: {:?}",
                            self.buffer.escape_ascii().to_string()
                        );
                        return None;
                    }
                }
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap();
        assert!(status_line.starts_with("HTTP/1.1 ") || status_line.starts_with("HTTP/1.0 "), "{head}");
        let status = status_line.split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Some(Answer { status, head, headers, body: Vec::new(), end: End::Bodiless })
    }

    /// Reads at least `count` bytes of what follows and keeps them for later; for clients that read a little and stop.
    pub(crate) fn peek(&mut self, count: usize) -> &[u8] {
        while self.buffer.len() < count {
            assert!(self.more().is_none(), "the answer ended early");
        }
        &self.buffer
    }

    /// Waits until the gateway closes: what came before that, and how it ended.
    pub(crate) fn drain(&mut self) -> (Vec<u8>, End) {
        let mut rest = Vec::new();
        let end = self.rest(&mut rest);
        (rest, end)
    }

    /// Reads once; says how the connection ended, if it did.
    fn more(&mut self) -> Option<End> {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => Some(End::Eof),
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                None
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(End::Reset),
            // A child of the test's own that ended.
            Err(error) if error.kind() == ErrorKind::Interrupted => None,
            Err(error) => panic!("the gateway neither answers nor closes: {error}"),
        }
    }

    /// Reads `count` bytes; says how the connection ended, if it did before.
    fn exactly(&mut self, count: usize, into: &mut Vec<u8>) -> Option<End> {
        while self.buffer.len() < count {
            if let Some(end) = self.more() {
                into.append(&mut self.buffer);
                return Some(end);
            }
        }
        into.extend(self.buffer.drain(..count));
        None
    }

    fn rest(&mut self, into: &mut Vec<u8>) -> End {
        let end = loop {
            if let Some(end) = self.more() {
                break end;
            }
        };
        into.append(&mut self.buffer);
        if end == End::Eof { End::Closed } else { end }
    }

    fn line(&mut self) -> Result<String, End> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return String::from_utf8(line[..end].to_vec()).map_err(|_| End::BadChunk);
            }
            if let Some(end) = self.more() {
                return Err(end);
            }
        }
    }

    fn chunks(&mut self, into: &mut Vec<u8>) -> End {
        let mut all = || -> Result<End, End> {
            loop {
                let size = usize::from_str_radix(&self.line()?, 16).map_err(|_| End::BadChunk)?;
                if size > 0
                    && let Some(end) = self.exactly(size, into)
                {
                    return Err(end);
                }
                // After the last chunk come trailers, of which the gateway sends none.
                if !self.line()?.is_empty() {
                    return Err(End::BadChunk);
                }
                if size == 0 {
                    return Ok(End::Chunked);
                }
            }
        };
        all().unwrap_or_else(|end| end)
    }
}
