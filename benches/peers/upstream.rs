//! The upstream without TLS, for all candidates: files of zeros, each named by its size, over HTTP/1.1 with connections kept. It is this
//! program itself, started once more, and says of a file what nginx says. nginx in its place, which shares its core with the load, gave
//! out before any quick candidate did.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::SystemTime;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fs::sendfile;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::process::{AROUND, Process, free_port, on_core};
use super::world::SIZES;

/// What starts this program as the upstream, before its address and the folder with its files.
pub(crate) const OPTION: &str = "--upstream";

/// The longest head of a request.
const HEAD: usize = 16 * 1024;
/// A file of at most so many bytes leaves with its head.
const AT_ONCE: u64 = 4096;
/// The most bytes that are sent for one connection before the others have their turn.
const PIECE: u64 = 1024 * 1024;
/// The listener's number among the connections.
const LISTENER: u64 = u64::MAX;

/// Starts it with the files in `folder`.
pub(crate) fn start(folder: &Path) -> (Process, SocketAddr) {
    let address = free_port();
    let mut command = on_core(AROUND, &std::env::current_exe().unwrap());
    command.args([OPTION, &address.to_string()]).arg(folder);
    (Process::start(command, address), address)
}

/// A file, and the heads of its answers where the connection is kept and where it is closed; a small file follows its head.
struct Served {
    path: String,
    file: File,
    size: u64,
    kept: Vec<u8>,
    closed: Vec<u8>,
}

impl Served {
    fn new(folder: &Path, size: u64, now: &str) -> Self {
        let answer = |connection: &str| {
            let mut text = format!(
                "HTTP/1.1 200 OK\r\nServer: upstream\r\nDate: {now}\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\n\
                 Last-Modified: Thu, 01 Oct 2026 12:00:00 GMT\r\nConnection: {connection}\r\nETag: \"68dd1840-{size:x}\"\r\n\
                 Accept-Ranges: bytes\r\n\r\n"
            )
            .into_bytes();
            if size <= AT_ONCE {
                text.resize(text.len() + usize::try_from(size).unwrap(), 0);
            }
            text
        };
        let file = File::open(folder.join(size.to_string())).unwrap();
        Self { path: format!("/{size}"), file, size, kept: answer("keep-alive"), closed: answer("close") }
    }
}

struct Connection {
    stream: TcpStream,
    /// What has come of a head.
    head: Vec<u8>,
    /// The file whose bytes follow, and from which on.
    body: Option<(usize, u64)>,
    closing: bool,
}

/// How a connection goes on.
enum Next {
    /// It waits for its client.
    Wait,
    /// It would go on at once, and others have their turn first.
    Again,
    Over,
}

/// Serves until the process is ended.
pub(crate) fn serve(address: &str, folder: &str) -> ! {
    let now = httpdate::fmt_http_date(SystemTime::now());
    let files = SIZES.map(|size| Served::new(folder.as_ref(), size, &now));
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(4096).unwrap();
    let listener = TcpListener::from(listener);
    listener.set_nonblocking(true).unwrap();
    let poll = epoll::create(CreateFlags::CLOEXEC).unwrap();
    epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN).unwrap();
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let (mut events, mut again) = (Vec::with_capacity(256), Vec::new());
    loop {
        events.clear();
        // Nobody who would go on at once has to wait for others.
        let wait = (!again.is_empty()).then(rustix::event::Timespec::default);
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), wait.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("epoll: {error}"),
        }
        let mut due = std::mem::take(&mut again);
        due.extend(events.iter().map(|event: &epoll::Event| event.data.u64()));
        for number in due {
            if number == LISTENER {
                accept(&listener, &poll, &mut connections);
                continue;
            }
            let place = &mut connections[usize::try_from(number).unwrap()];
            match place.as_mut().map_or(Next::Wait, |connection| connection.turn(&files)) {
                Next::Wait => {}
                Next::Again => again.push(number),
                Next::Over => *place = None,
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &impl std::os::fd::AsFd, connections: &mut Vec<Option<Connection>>) {
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        let free = connections.iter().position(Option::is_none).unwrap_or(connections.len());
        // It is told of changes alone: each is followed up to its end.
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        epoll::add(poll, &stream, EventData::new_u64(free as u64), flags).unwrap();
        if free == connections.len() {
            connections.push(None);
        }
        connections[free] = Some(Connection { stream, head: Vec::new(), body: None, closing: false });
    }
}

impl Connection {
    fn turn(&mut self, files: &[Served]) -> Next {
        loop {
            if self.body.is_some() {
                match self.send(files) {
                    Some(next) => return next,
                    None if self.closing => return Next::Over,
                    None => {}
                }
            }
            let mut piece = [0; HEAD];
            let got = match recv(&self.stream, &mut piece, RecvFlags::empty()) {
                Ok((_, 0)) => return Next::Over,
                Ok((_, got)) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Wait,
                Err(_) => return Next::Over,
            };
            self.head.extend_from_slice(&piece[..got]);
            assert!(self.head.len() < HEAD, "the head of a request does not end");
            if !self.head.ends_with(b"\r\n\r\n") {
                continue;
            }
            self.answer(files);
            self.head.clear();
            // All that had come was read, so whatever comes is told.
            if self.body.is_none() {
                return if self.closing { Next::Over } else { Next::Wait };
            }
        }
    }

    /// Begins the answer to the head that has come.
    fn answer(&mut self, files: &[Served]) {
        let head = std::str::from_utf8(&self.head).unwrap();
        let (line, fields) = head.split_once("\r\n").unwrap();
        let target = line.strip_prefix("GET ").and_then(|rest| rest.split_once(' '));
        let found = target.and_then(|(target, version)| {
            // nginx sends on the query that it checked.
            let path = target.split_once('?').map_or(target, |(path, _)| path);
            Some((files.iter().position(|file| file.path == path)?, version == "HTTP/1.1"))
        });
        let Some((number, is_new)) = found else { panic!("the upstream has nothing for `{line}`") };
        let said = |value: &str| {
            fields.lines().filter_map(|field| field.split_once(':')).any(|(name, given)| {
                name.eq_ignore_ascii_case("connection") && given.trim().eq_ignore_ascii_case(value)
            })
        };
        let file = &files[number];
        self.closing = if is_new { said("close") } else { !said("keep-alive") };
        let text = if self.closing { &file.closed } else { &file.kept };
        let is_whole = file.size <= AT_ONCE;
        let flags = if is_whole { SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL | SendFlags::MORE };
        // The socket is empty, so a head and a small file fit, or the client has gone.
        match send(&self.stream, text, flags) {
            Ok(sent) => assert_eq!(sent, text.len(), "an answer's beginning did not fit into the socket"),
            Err(_) => self.closing = true,
        }
        self.body = (!is_whole).then_some((number, 0));
    }

    /// Goes on with the body; `None` when all of it is sent.
    fn send(&mut self, files: &[Served]) -> Option<Next> {
        let mut budget = PIECE;
        while let Some((number, mut from)) = self.body {
            let served = &files[number];
            if from == served.size {
                self.body = None;
                break;
            }
            if budget == 0 {
                return Some(Next::Again);
            }
            let most = (served.size - from).min(budget);
            match sendfile(&self.stream, &served.file, Some(&mut from), usize::try_from(most).unwrap()) {
                // It moves `from` on.
                Ok(sent) => {
                    self.body = Some((number, from));
                    budget -= sent as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(Next::Wait),
                Err(_) => return Some(Next::Over),
            }
        }
        None
    }
}
