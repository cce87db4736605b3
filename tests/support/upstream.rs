//! An upstream that does what a script says, byte by byte, and writes down what it was asked.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{DEADLINE, Signal, Watched};

/// What an upstream does with a connection after it has read a request head.
pub(crate) enum Step {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Send bytes `from..to` of the [`pattern`].
    Pattern(u64, u64),
    /// Send so many zero bytes, which cost the test nothing to make.
    Zeros(u64),
    /// Send at least so many zero bytes in chunks of 16, without the last one.
    Chunks(u64),
    /// Send each piece, and wait so long after each. This is the fault itself, not a way to wait for something.
    Drip(Vec<Vec<u8>>, Duration),
    /// Go on when the test says so.
    Wait(Signal),
    /// Send nothing until the gateway closes.
    Stall,
    /// Close with FIN.
    Close,
    /// Close with RST.
    Reset,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// How many requests came before it.
    pub(crate) number: usize,
    /// Which connection it came on.
    pub(crate) connection: usize,
    /// The head, verbatim.
    pub(crate) head: String,
}

impl Request {
    pub(crate) fn method(&self) -> &str {
        self.head.split(' ').next().unwrap()
    }

    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// A field's value; a field that stands twice fails the test.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().skip(1).filter_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        let value = values.next();
        assert!(values.next().is_none(), "{name} stands twice in {}", self.head);
        value
    }

    /// The names of all fields, in lower case and sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let lines = self.head.lines().skip(1);
        let mut names: Vec<_> =
            lines.filter_map(|line| Some(line.split_once(':')?.0.to_ascii_lowercase())).collect();
        names.sort();
        names
    }

    /// Where `Range: bytes=N-` begins; 0 without a range.
    pub(crate) fn from(&self) -> u64 {
        self.header("range")
            .and_then(|value| value.strip_prefix("bytes=")?.split('-').next()?.parse().ok())
            .unwrap_or(0)
    }
}

#[derive(Default)]
struct Seen {
    requests: Vec<Request>,
    accepted: usize,
    /// Connections that have ended, by number.
    ended: Vec<usize>,
    live: Vec<Weak<TcpStream>>,
    stopped: bool,
    /// A script panicked: what it was asked is not what the test expects.
    failed: bool,
}

/// A listener with a script.
pub(crate) struct Upstream {
    address: SocketAddr,
    seen: Arc<Watched<Seen>>,
}

impl Upstream {
    /// Listens on a free port of 127.0.0.1 and does with each request what `script` says.
    pub(crate) fn start(script: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::start_on("127.0.0.1", script)
    }

    /// Listens on a free port of `ip`.
    pub(crate) fn start_on(ip: &str, script: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (script, seen) = (Arc::new(script), Watched::new(Seen::default()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let stream = Arc::new(stream);
                let number = shared.change(|seen| {
                    seen.live.push(Arc::downgrade(&stream));
                    seen.accepted += 1;
                    (!seen.stopped).then_some(seen.accepted - 1)
                });
                let Some(number) = number else { break };
                let (script, shared) = (Arc::clone(&script), Arc::clone(&shared));
                std::thread::spawn(move || {
                    let serving = AssertUnwindSafe(|| serve(&stream, number, &*script, &shared));
                    let failed = catch_unwind(serving).is_err();
                    drop(stream);
                    shared.change(|seen| {
                        seen.ended.push(number);
                        seen.failed |= failed;
                    });
                });
            }
        });
        Self { address, seen }
    }

    /// Answers every request with the same steps.
    pub(crate) fn always(steps: impl Fn() -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::start(move |_| steps())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What has been asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.lock().requests.clone()
    }

    /// How many connections have been accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().accepted
    }

    /// Waits until so many requests came.
    pub(crate) fn wait_requests(&self, count: usize) -> Vec<Request> {
        self.seen
            .wait(|seen| (seen.requests.len() >= count).then(|| seen.requests.clone()))
            .unwrap_or_else(|| panic!("only {} requests came", self.requests().len()))
    }

    /// Waits until the connection with this number has ended.
    pub(crate) fn wait_ended(&self, connection: usize) {
        self.seen
            .wait(|seen| seen.ended.contains(&connection).then_some(()))
            .expect("the gateway keeps its upstream connection open");
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let (live, failed) = self.seen.change(|seen| {
            seen.stopped = true;
            (std::mem::take(&mut seen.live), seen.failed)
        });
        for stream in live.iter().filter_map(Weak::upgrade) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        // Wakes the accepting thread, so that it ends and the port is free.
        drop(TcpStream::connect(self.address));
        assert!(
            !failed || std::thread::panicking(),
            "the upstream's script did not expect what it was asked"
        );
    }
}

fn serve(
    stream: &TcpStream,
    connection: usize,
    script: &dyn Fn(&Request) -> Vec<Step>,
    seen: &Watched<Seen>,
) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    while let Some(head) = read_head(stream, &mut buffer) {
        let request = seen.change(|seen| {
            let request = Request { number: seen.requests.len(), connection, head };
            seen.requests.push(request.clone());
            request
        });
        for step in script(&request) {
            if !run(stream, step) {
                return;
            }
        }
    }
}

fn read_head(mut stream: &TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..end + 4).collect();
            return Some(String::from_utf8_lossy(&head).into_owned());
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => buffer.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
}

/// False when the connection is at its end.
fn run(mut stream: &TcpStream, step: Step) -> bool {
    match step {
        Step::Send(bytes) => stream.write_all(&bytes).is_ok(),
        Step::Pattern(from, to) => {
            let mut at = from;
            while at < to {
                let end = to.min(at + 64 * 1024);
                if stream.write_all(&pattern(at, end)).is_err() {
                    return false;
                }
                at = end;
            }
            true
        }
        Step::Zeros(mut left) => {
            static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
            while left > 0 {
                let piece = usize::try_from(left).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
                if stream.write_all(&ZEROS[..piece]).is_err() {
                    return false;
                }
                left -= piece as u64;
            }
            true
        }
        Step::Chunks(left) => {
            let some = b"10\r\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\r\n".repeat(1024);
            (0..left.div_ceil(16 * 1024)).all(|_| stream.write_all(&some).is_ok())
        }
        Step::Drip(pieces, pause) => pieces.iter().all(|piece| {
            let sent = stream.write_all(piece).is_ok();
            std::thread::sleep(pause);
            sent
        }),
        Step::Wait(signal) => signal.wait(),
        Step::Stall => {
            let _ = stream.set_read_timeout(Some(DEADLINE * 3));
            let _ = stream.read(&mut [0]);
            false
        }
        Step::Close => false,
        Step::Reset => {
            let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
            false
        }
    }
}

/// Bytes `from..to` of an endless file in which no two stretches are alike.
pub(crate) fn pattern(from: u64, to: u64) -> Vec<u8> {
    let word = |index: u64| {
        let mixed = (index ^ (index >> 30)).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).to_le_bytes()
    };
    let skip = usize::try_from(from % 8).unwrap();
    let length = usize::try_from(to - from).unwrap();
    let mut bytes: Vec<u8> = (from / 8..to.div_ceil(8)).flat_map(word).skip(skip).collect();
    bytes.truncate(length);
    bytes
}

/// A whole answer: 200 with these fields, a `Content-Length` and the body.
pub(crate) fn ok(fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len()).into_bytes();
    for (name, value) in fields {
        answer.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    answer.extend_from_slice(b"\r\n");
    answer.extend_from_slice(body);
    answer
}

/// One step that sends text.
pub(crate) fn text(text: impl AsRef<str>) -> Vec<Step> {
    vec![Step::Send(text.as_ref().as_bytes().to_vec())]
}
