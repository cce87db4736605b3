//! A stand-in for Lambda's Runtime API that writes down what is posted to it, byte by byte, and how it ended.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::{Signal, Watched};

/// What was posted for one invocation.
#[derive(Debug, Clone)]
pub(crate) struct Posted {
    /// The path's last part: `response` or `error`.
    pub(crate) what: String,
    /// The request's head in lower case.
    pub(crate) head: String,
    /// The pieces as the chunks brought them; with a length, the body as a whole.
    pub(crate) chunks: Vec<Vec<u8>>,
    /// Did the framing's end come?
    pub(crate) whole: bool,
    /// From handing out the invocation to the first byte of the body after prelude and separator.
    pub(crate) first_byte: Option<Duration>,
    /// From handing out the invocation to the end of the post.
    pub(crate) total: Duration,
}

impl Posted {
    /// Everything that came, in one piece.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.chunks.concat()
    }

    /// The JSON in front of the eight NULs.
    pub(crate) fn prelude(&self) -> Value {
        let bytes = self.bytes();
        let end = separator(&bytes).expect("no eight NULs");
        serde_json::from_slice(&bytes[..end]).unwrap()
    }

    /// What follows the eight NULs.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut bytes = self.bytes();
        let end = separator(&bytes).expect("no eight NULs");
        bytes.drain(..end + 8);
        bytes
    }

    pub(crate) fn status(&self) -> u64 {
        self.prelude()["statusCode"].as_u64().unwrap()
    }

    /// A header of the answer.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.prelude()["headers"].get(name).map(|value| value.as_str().unwrap().to_owned())
    }

    /// The problem document's code.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.header("content-type").as_deref(), Some("application/problem+json"));
        let problem: Value = serde_json::from_slice(&self.body()).unwrap();
        problem["code"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn expect(&self, status: u64, code: &str) {
        assert!(self.whole, "a refusal is whole: {self:?}");
        assert_eq!((self.status(), self.code().as_str()), (status, code));
    }
}

fn separator(bytes: &[u8]) -> Option<usize> {
    bytes.windows(8).position(|eight| eight == [0; 8])
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(String, String, Duration)>,
    handed_out: Vec<(String, Instant)>,
    posted: Vec<(String, Posted)>,
    /// Refused posts, and whether their connection was closed.
    refused: Vec<(String, bool)>,
    polls: usize,
    given: usize,
    /// While this is there, posts are not read beyond their head.
    stalled: Option<Signal>,
    /// Posts are refused as soon as their head is there.
    refusing: bool,
    stopped: bool,
}

/// A running stand-in.
pub(crate) struct RuntimeApi {
    address: SocketAddr,
    state: Arc<Watched<State>>,
}

impl RuntimeApi {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Watched::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if shared.lock().stopped {
                    break;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { address, state }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hands `event` to whoever asks next, with a deadline a minute ahead; returns the invocation's id.
    pub(crate) fn invoke(&self, event: &Value) -> String {
        self.invoke_within(event, Duration::from_secs(60))
    }

    pub(crate) fn invoke_within(&self, event: &Value, time: Duration) -> String {
        self.state.change(|state| {
            state.given += 1;
            let id = format!("00000000-0000-4000-8000-{:012}", state.given);
            state.waiting.push_back((id.clone(), event.to_string(), time));
            id
        })
    }

    /// Waits for what is posted for an invocation, to its end.
    pub(crate) fn posted(&self, id: &str) -> Posted {
        let found = self.state.wait(|state| {
            state.posted.iter().find(|(posted, _)| posted == id).map(|(_, posted)| posted.clone())
        });
        found.unwrap_or_else(|| panic!("nothing was posted for {id}"))
    }

    /// Waits until the connection of a refused post is closed.
    pub(crate) fn wait_given_up(&self, id: &str) {
        let closed = self
            .state
            .wait(|state| state.refused.iter().find(|(refused, _)| refused == id).map(|(_, closed)| *closed));
        assert_eq!(closed, Some(true), "the refused post goes on");
    }

    /// Waits until so many polls for an invocation came.
    pub(crate) fn wait_polls(&self, count: usize) {
        self.state.wait(|state| (state.polls >= count).then_some(())).expect("nobody asks for an invocation");
    }

    /// From now on posts are refused at once, by an answer that does not end, and not read.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.state.change(|state| state.refusing = refusing);
    }

    /// From now on posts are not read until the signal is given.
    pub(crate) fn stall(&self, until: &Signal) {
        self.state.change(|state| state.stalled = Some(until.clone()));
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.state.change(|state| state.stopped = true);
        drop(TcpStream::connect(self.address));
    }
}

fn serve(stream: &TcpStream, state: &Watched<State>) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::with_capacity(256 * 1024, stream);
    while let Some(head) = read_head(&mut reader) {
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let carries_on = match path.strip_prefix("/2018-06-01/runtime/invocation/") {
            Some("next") => next(stream, state),
            Some(rest) => {
                let (id, what) = rest.split_once('/').unwrap();
                take(&mut reader, &head, id, what, state)
            }
            None => panic!("unexpected path {path}"),
        };
        if !carries_on {
            return;
        }
    }
}

fn read_head(reader: &mut BufReader<&TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// Answers a poll when there is an invocation.
fn next(mut stream: &TcpStream, state: &Watched<State>) -> bool {
    state.change(|state| state.polls += 1);
    let found = loop {
        let found = state.wait(|state| (state.stopped || !state.waiting.is_empty()).then_some(()));
        if found.is_none() {
            continue;
        }
        match state.change(|state| if state.stopped { Err(()) } else { Ok(state.waiting.pop_front()) }) {
            Err(()) => return false,
            Ok(Some(found)) => break found,
            Ok(None) => {}
        }
    };
    let (id, event, time) = found;
    let deadline = (SystemTime::now() + time).duration_since(UNIX_EPOCH).unwrap().as_millis();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Lambda-Runtime-Aws-Request-Id: {id}\r\nLambda-Runtime-Deadline-Ms: {deadline}\r\n\
         Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:123456789012:function:sluicegate\r\n\
         Lambda-Runtime-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793\r\n\
         Lambda-Runtime-Invocation-Id: attempt-{id}\r\n\r\n",
        event.len()
    );
    state.change(|state| state.handed_out.push((id, Instant::now())));
    stream.write_all((head + &event).as_bytes()).is_ok()
}

/// Reads a post to its end and writes it down.
fn take(
    reader: &mut BufReader<&TcpStream>,
    head: &str,
    id: &str,
    what: &str,
    state: &Watched<State>,
) -> bool {
    let head = head.to_ascii_lowercase();
    let (began, stalled, refusing) = {
        let state = state.lock();
        let began = state.handed_out.iter().find(|(handed_out, _)| handed_out == id).map(|(_, at)| *at);
        (began.unwrap(), state.stalled.clone(), state.refusing)
    };
    if refusing {
        let _ = (&**reader.get_ref()).write_all(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\n\r\n");
        // Neither read nor closed: what arrives is thrown away once the other side gives up.
        let _ = reader.get_ref().set_read_timeout(Some(Duration::from_secs(20)));
        let gone = until_closed(reader);
        state.change(|state| state.refused.push((id.to_owned(), gone)));
        return false;
    }
    if let Some(until) = stalled {
        until.wait();
    }
    let mut posted = Posted {
        what: what.to_owned(),
        chunks: Vec::new(),
        whole: false,
        first_byte: None,
        total: Duration::ZERO,
        head: head.clone(),
    };
    if head.contains("\r\ntransfer-encoding: chunked\r\n") {
        while let Some(chunk) = read_chunk(reader) {
            if chunk.is_empty() {
                posted.whole = true;
                break;
            }
            posted.chunks.push(chunk);
            // Prelude, separator, first piece.
            if posted.chunks.len() == 3 {
                posted.first_byte = Some(began.elapsed());
            }
        }
    } else {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("no framing");
        let mut body = vec![0; length.parse().unwrap()];
        posted.whole = reader.read_exact(&mut body).is_ok();
        posted.chunks.push(body);
    }
    posted.total = began.elapsed();
    let whole = posted.whole;
    // The invocation is over for the function only when it hears so; what was posted is known before.
    state.change(|state| state.posted.push((id.to_owned(), posted)));
    whole && (&**reader.get_ref()).write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").is_ok()
}

/// Does the other side close, whatever it sends before?
fn until_closed(reader: &mut BufReader<&TcpStream>) -> bool {
    let mut piece = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// One chunk; empty for the last one, `None` when the connection ended before it.
fn read_chunk(reader: &mut BufReader<&TcpStream>) -> Option<Vec<u8>> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let length = usize::from_str_radix(line.strip_suffix("\r\n")?, 16).ok()?;
    let mut chunk = vec![0; length + 2];
    reader.read_exact(&mut chunk).ok()?;
    chunk.truncate(length);
    Some(chunk)
}
