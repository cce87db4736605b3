//! The load: connections that each ask, wait for the whole answer, and ask again (closed loop). One thread on epoll, so that
//! it costs the core that it shares with the upstream as little as can be.
//!
//! Status and length of every answer are checked; one that is wrong ends the whole run.

use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use memchr::memmem::Finder;
use rustix::event::{Timespec, epoll};
use rustix::net::{RecvFlags, recv};

const BUFFER: usize = 1024 * 1024;
/// How long nothing at all may arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is asked, and what has to come back.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    /// Whole request heads, asked in turn.
    pub(crate) requests: Vec<Vec<u8>>,
    /// The length of each answer's body.
    pub(crate) length: u64,
    /// The end of a head.
    end: Finder<'static>,
    /// The end of the line that has the length, as hyper writes it and as nginx does.
    said: Finder<'static>,
}

impl Target {
    pub(crate) fn new(address: SocketAddr, requests: Vec<Vec<u8>>, length: u64) -> Self {
        let said = Finder::new(&format!("ength: {length}\r\n")).into_owned();
        Self { address, requests, length, end: Finder::new(b"\r\n\r\n"), said }
    }
}

/// How it is asked.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) connections: usize,
    pub(crate) warm: Duration,
    pub(crate) run: Duration,
}

/// What came back between the two marks.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    /// Bytes of bodies.
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// Microseconds from request to the end of its answer, sorted.
    pub(crate) times: Vec<u32>,
}

impl Outcome {
    /// A quantile in microseconds, if any request ended.
    pub(crate) fn time(&self, part: f64) -> Option<f64> {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let index = (self.times.len() as f64 * part) as usize;
        self.times.get(index.min(self.times.len().saturating_sub(1))).map(|time| f64::from(*time))
    }
}

/// One connection of the load.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    head: Vec<u8>,
    /// Bytes of the body that are still to come, once the head is there.
    left: Option<u64>,
    asked: Instant,
    next: usize,
}

/// What one read brought.
pub(crate) struct Piece {
    pub(crate) body: u64,
    pub(crate) whole: bool,
}

impl Connection {
    pub(crate) fn open(target: &Target, number: usize) -> Self {
        let stream = TcpStream::connect(target.address).expect("the candidate takes no connection");
        stream.set_nodelay(true).unwrap();
        stream.set_nonblocking(true).unwrap();
        // Neighbours do not ask the same of several.
        let next = number * 7919 % target.requests.len();
        let mut connection = Self { stream, head: Vec::new(), left: None, asked: Instant::now(), next };
        connection.ask(target);
        connection
    }

    fn ask(&mut self, target: &Target) {
        let request = &target.requests[self.next];
        self.next = (self.next + 1) % target.requests.len();
        self.asked = Instant::now();
        let written = self.stream.write(request).expect("the candidate takes no request");
        assert_eq!(written, request.len(), "a request did not fit into the socket");
    }

    /// Reads once, at most as much as `buffer` holds.
    pub(crate) fn read(&mut self, target: &Target, buffer: &mut [u8]) -> Piece {
        let most = self.left.map_or(buffer.len(), |left| buffer.len().min(usize::try_from(left).unwrap()));
        // Linux throws a TCP stream's bytes away under MSG_TRUNC (tcp(7)), which spares their copy.
        let flags = if self.left.is_some() { RecvFlags::TRUNC } else { RecvFlags::empty() };
        let got = match recv(&self.stream, &mut buffer[..most], flags) {
            Ok((_, got)) => got,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Piece { body: 0, whole: false },
            Err(error) => panic!("an answer broke off: {error}; {:?} to come", self.left),
        };
        assert!(got > 0, "an answer ended early; {:?} bytes to come", self.left);
        let body = match self.left {
            Some(_) => got as u64,
            None => match self.read_head(target, &buffer[..got]) {
                Some(body) => body,
                None => return Piece { body: 0, whole: false },
            },
        };
        let left = self.left.unwrap_or(target.length);
        assert!(body <= left, "an answer is too long by {} bytes", body - left);
        self.left = Some(left - body);
        Piece { body, whole: left == body }
    }

    /// How much of `piece` is body, if the head is complete.
    fn read_head(&mut self, target: &Target, piece: &[u8]) -> Option<u64> {
        // As a rule all of it comes at once. Each byte that the load looks at is core 1's time.
        if self.head.is_empty()
            && let Some(end) = target.end.find(piece)
            && piece.starts_with(b"HTTP/1.1 200 ")
            && target.said.find(&piece[..end + 2]).is_some()
        {
            return Some((piece.len() - end - 4) as u64);
        }
        self.head.extend_from_slice(piece);
        let end = self.head.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        check_head(&self.head[..end], target.length);
        let body = (self.head.len() - end) as u64;
        self.head.clear();
        Some(body)
    }

    fn again(&mut self, target: &Target) -> u32 {
        let time = self.asked.elapsed();
        self.left = None;
        self.ask(target);
        u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
    }
}

fn check_head(head: &[u8], length: u64) {
    let said = || String::from_utf8_lossy(head).into_owned();
    assert!(head.starts_with(b"HTTP/1.1 200 "), "no 200: {}", said());
    let name = b"content-length:";
    let value = head.split(|byte| *byte == b'\n').find_map(|line| {
        let (start, value) = line.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name).then_some(value)
    });
    let value = value.and_then(|value| std::str::from_utf8(value).ok()?.trim().parse::<u64>().ok());
    assert_eq!(value, Some(length), "not the length asked for: {}", said());
}

/// Asks as planned; calls `mark` when the measured time begins and when it ends.
pub(crate) fn run(target: &Target, plan: Plan, mark: &mut dyn FnMut()) -> Outcome {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    let mut connections: Vec<_> = (0..plan.connections).map(|n| Connection::open(target, n)).collect();
    for (number, connection) in connections.iter().enumerate() {
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&poll, &connection.stream, data, epoll::EventFlags::IN).unwrap();
    }
    let (mut buffer, mut events) = (vec![0; BUFFER], Vec::with_capacity(256));
    let (mut outcome, mut started) = (Outcome::default(), None::<Instant>);
    let begun = Instant::now();
    let mut heard = begun;
    loop {
        let wait = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("epoll: {error}"),
        }
        let now = Instant::now();
        assert!(now - heard < PATIENCE, "nothing arrived for {PATIENCE:?}");
        if started.is_none() && now - begun >= plan.warm {
            mark();
            (outcome, started) = (Outcome::default(), Some(Instant::now()));
        }
        if let Some(started) = started.filter(|started| now - *started >= plan.run) {
            mark();
            outcome.seconds = started.elapsed().as_secs_f64();
            break;
        }
        for event in &events {
            heard = now;
            let connection = &mut connections[usize::try_from(event.data.u64()).unwrap()];
            let piece = connection.read(target, &mut buffer);
            outcome.bytes += piece.body;
            if piece.whole {
                outcome.requests += 1;
                outcome.times.push(connection.again(target));
            }
        }
    }
    outcome.times.sort_unstable();
    outcome
}
