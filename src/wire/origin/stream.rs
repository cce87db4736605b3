//! A connection to an upstream, with or without TLS, and the memory that it is read into.

use std::cell::RefCell;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::{BufMut as _, BytesMut};
use nix::sys::socket::SetSockOpt as _;
use nix::sys::socket::sockopt::SetUsize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::task::unconstrained;
use tokio_rustls::client::TlsStream;

use super::records::Records;
use crate::wire::body::Line;
use crate::wire::outbox::Outlet;
use crate::wire::splice::Pipe;

/// The most bytes of a piece for a door that says nothing of its client, such as HTTP/2.
pub(in crate::wire) const SMALL: usize = 16 * 1024;
/// The most bytes of a first piece, which is read with its head, before anybody asks the client for room: what it does not take
/// waits here, some 30 KiB where packets are small (`tests/memory.rs`).
pub(in crate::wire) const FIRST: usize = 64 * 1024;
/// The same for a client whose socket was seen to take as much at once after the answer before.
pub(in crate::wire) const WIDE: usize = 128 * 1024;
/// The most bytes of any read. At half a megabyte the calls themselves no longer count beside the copying.
pub(in crate::wire) const LARGE: usize = 512 * 1024;
/// How many bytes a client must take at once before its upstream's window is opened.
pub(super) const KEEN: usize = 256 * 1024;
/// How far it is opened, if `net.ipv4.tcp_rmem` allows twice as much.
const WINDOW: usize = 1024 * 1024;

/// What a piece's first byte is aligned to: a page. Zen 3 copies several times slower to a place that lies less than 32 bytes further
/// into its page than the source does (docs/performance.md). A large block of memory begins 16 bytes into a page; and a file that is
/// sent from the system's cache lies there as in the file, here behind its head, which must not end where a page begins.
const ALIGNED: usize = 4096;

/// The bytes of a connection.
pub(super) enum Stream {
    Plain(Outlet),
    Tls(Box<TlsStream<Records>>),
}

thread_local! {
    // What a thread reads into, whichever connection it reads from. A piece is a part of it and gives its room back when it
    // is written, as a rule before the next read; so a stream whose client takes nothing holds no memory of its own.
    static SPARE: [RefCell<BytesMut>; 3] = Default::default();
    // Where a request is put together.
    static TEXT: RefCell<Vec<u8>> = RefCell::default();
}

/// The socket option of that name.
#[derive(Debug, Clone, Copy)]
struct ReceiveLowWater;

nix::setsockopt_impl!(ReceiveLowWater, libc::SOL_SOCKET, libc::SO_RCVLOWAT, usize, SetUsize);

impl Stream {
    /// Has the upstream send as much ahead as a keen client takes at once. Linux opens a window when it sees it filled within
    /// one round trip, which a reader that empties it at once, next to its upstream, prevents: it stays at 64 KiB.
    ///
    /// A low-water mark makes the receive buffer large enough for it (`tcp_set_rcvlowat`), and leaves it to grow with the
    /// connection, where SO_RCVBUF would end that and obey `net.core.rmem_max`. The mark itself is taken back: bytes are
    /// passed on as they come.
    pub(super) fn open_window(&self) {
        let socket = match self {
            Self::Plain(outlet) => outlet.socket(),
            Self::Tls(stream) => stream.get_ref().0.socket(),
        };
        for mark in [WINDOW, 1] {
            // Without it the window is what the system makes it.
            let _ = ReceiveLowWater.set(socket, &mark);
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Reads what is there, at most `most` bytes; nothing at the end.
    pub(super) async fn read(&mut self, most: usize) -> io::Result<BytesMut> {
        poll_fn(|cx| self.poll_read(cx, most)).await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<BytesMut>> {
        let most = most.clamp(1, LARGE);
        SPARE.with(|[small, wide, large]| {
            let spares = [(small, FIRST), (wide, WIDE)];
            let (spare, whole) =
                spares.into_iter().find(|(_, holds)| most <= *holds).unwrap_or((large, LARGE));
            let mut spare = spare.borrow_mut();
            make_room(&mut spare, most, whole);
            let read = self.poll_read_into(cx, &mut spare, most);
            read.map_ok(|()| spare.split())
        })
    }

    fn poll_read_into(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        most: usize,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => pin!(stream.read_buf(&mut into.limit(most))).poll(cx).map_ok(drop),
            // A record carries 16 KiB at most; tokio-rustls reads as many as are there. An error behind them it keeps for the next
            // read, and for that one alone.
            Self::Tls(stream) => pin!(stream.read_buf(&mut into.limit(most))).poll(cx).map_ok(drop),
        }
    }

    /// Has what is there, at most `most` bytes, pass to the client of `line` within the kernel: how many bytes will; none at the
    /// end. `None` if they cannot, and are to be read.
    pub(super) async fn pour(&self, line: &Line, most: usize) -> io::Result<Option<usize>> {
        let Self::Plain(outlet) = self else { return Ok(None) };
        if !self.has_asked() {
            // Whoever reads sends the rest of the request as well.
            return Ok(None);
        }
        let socket = outlet.socket();
        match socket.async_io(Interest::READABLE, || Pipe::fill(socket, most)).await {
            Ok(pipe) => {
                let length = pipe.holds();
                if length == 0 {
                    pipe.keep();
                } else {
                    line.lay(pipe)?;
                }
                Ok(Some(length))
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends what `write` appends to the text it is given. What is to leave with what others say fails when the answer is read; the rest
    /// leaves at once as a rule, from memory that the thread keeps, and gets its own if it does not.
    pub(super) async fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut write = Some(write);
        if let Self::Plain(outlet) = &*self {
            let mut left = |cx: &mut Context<'_>| write.take().map(|write| outlet.leave(cx, write));
            match poll_fn(|cx| Poll::Ready(left(cx))).await {
                Some(Err(own)) => write = Some(own),
                _ => return Ok(()),
            }
        }
        let left = TEXT.with_borrow_mut(|text| {
            text.clear();
            if let Some(write) = write {
                write(text);
            }
            let written = match self {
                Self::Plain(outlet) if outlet.send_now() => outlet.socket().try_write(text),
                _ => Ok(0),
            };
            match written {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                written => Ok(text.get(written.unwrap_or(0)..).unwrap_or_default().to_vec()),
            }
        })?;
        match self {
            _ if left.is_empty() => Ok(()),
            Self::Plain(outlet) => outlet.write_all(&left).await,
            Self::Tls(stream) => {
                stream.write_all(&left).await?;
                stream.flush().await
            }
        }
    }

    /// Has all of what was written left?
    pub(super) fn has_asked(&self) -> bool {
        match self {
            Self::Plain(outlet) => outlet.has_sent(),
            Self::Tls(_) => true,
        }
    }

    /// The answer is over, and nothing is asked until the connection is needed again; then no more.
    pub(super) fn rest(&mut self, rests: bool) {
        if let Self::Tls(stream) = self {
            stream.get_mut().0.rest(rests);
        }
    }

    /// Is it open, with nothing to read? What comes on a connection that was asked nothing belongs to no answer. Under TLS neither
    /// the beginning of a record may be there, nor more than tickets and the like make: behind that more may wait at the upstream.
    pub(super) fn is_quiet(&mut self) -> bool {
        let (mut cx, mut byte) = (Context::from_waker(Waker::noop()), [0]);
        match self {
            Self::Plain(outlet) => {
                let read = outlet.socket().try_read(&mut byte);
                outlet.has_sent() && matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            Self::Tls(stream) => {
                // To the last byte that is there, however much this task has read in its turn.
                let read = pin!(unconstrained(stream.read(&mut byte))).poll(&mut cx);
                read.is_pending() && stream.get_ref().0.is_undisturbed()
            }
        }
    }
}

/// Has `spare` be empty, begin aligned and have room for `most` bytes; takes `whole` of new memory if it must.
fn make_room(spare: &mut BytesMut, most: usize, whole: usize) {
    // It is, unless a read ended in a panic; what that left is somebody else's.
    spare.clear();
    // Back to its beginning if nobody holds a piece of it any more: that is near, from the read before.
    let lacks = |spare: &BytesMut, room| spare.capacity() < room + spare.as_ptr().align_offset(ALIGNED);
    if lacks(spare, whole) && !spare.try_reclaim(whole + ALIGNED) && lacks(spare, most) {
        spare.reserve(whole + ALIGNED);
    }
    let skipped = spare.as_ptr().align_offset(ALIGNED);
    if skipped > 0 {
        let aligned = spare.split_off(skipped);
        *spare = aligned;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use tokio::net::TcpStream;
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::wire::splice::pair;

    #[tokio::test]
    async fn an_opened_window_is_wide_and_holds_nothing_back() {
        let (here, mut there) = pair().await;
        let buffer = |stream: &TcpStream| rustix::net::sockopt::socket_recv_buffer_size(stream).unwrap();
        let before = buffer(&here);
        let limits = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem").unwrap();
        let most: usize = limits.split_whitespace().nth(2).unwrap().parse().unwrap();
        let mut stream = Stream::Plain(Outlet::new(here));
        stream.open_window();
        let after = if let Stream::Plain(here) = &stream { buffer(here.socket()) } else { 0 };
        assert!(after >= WINDOW.min(most / 2).max(before), "{before} to {after}");
        there.write_all(b"a").await.unwrap();
        assert_eq!(stream.read(LARGE).await.unwrap(), b"a"[..]);
    }

    /// Neither is it quiet then, nor does its answer go past this process, which sends the rest of the request.
    #[cfg(feature = "server")]
    #[tokio::test]
    async fn a_request_that_has_not_left_is_not_forgotten() {
        let _keeper = tokio::spawn(crate::wire::outbox::keep());
        tokio::task::yield_now().await;
        for full in [false, true] {
            let (near, mut far) = pair().await;
            near.writable().await.unwrap();
            let mut ahead = 0;
            while full && let Ok(sent) = near.try_write(&[b'a'; 10_000]) {
                ahead += sent;
            }
            let mut stream = Stream::Plain(Outlet::new(near));
            assert!(stream.is_quiet());
            stream.write(|text| text.extend_from_slice(b"request")).await.unwrap();
            assert!(!stream.is_quiet() && stream.pour(&Line::default(), SMALL).await.unwrap().is_none());
            tokio::task::yield_now().await;
            assert_eq!(stream.is_quiet(), !full);
            let mut got = vec![0; ahead + 7];
            let answered = async {
                far.read_exact(&mut got).await.unwrap();
                far.write_all(b"answer").await.unwrap();
            };
            let (answer, ()) = tokio::join!(stream.read(SMALL), answered);
            assert!(answer.unwrap() == b"answer"[..] && got.ends_with(b"request") && stream.is_quiet());
        }
    }

    /// What an upstream does with its half of a connection that rests.
    type Deed = fn(&mut ServerConnection, &mut Vec<u8>);

    /// Both ends of a TLS connection, with so many tickets on their way.
    pub(in crate::wire::origin) async fn connected(
        tickets: usize,
    ) -> (Stream, tokio_rustls::server::TlsStream<TcpStream>) {
        let certificate = rcgen::generate_simple_self_signed(vec!["u.example".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(certificate.signing_key.serialize_der().into());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.cert.der().clone()).unwrap();
        let provider = Arc::new(crate::wire::tls::provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut server = config.with_single_cert(vec![certificate.cert.der().clone()], key).unwrap();
        server.send_tls13_tickets = tickets;
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let client = config.with_root_certificates(roots).with_no_client_auth();
        let (near, far) = pair().await;
        let (near, far) = tokio::join!(
            TlsConnector::from(Arc::new(client))
                .connect(ServerName::try_from("u.example").unwrap(), Records::new(near)),
            TlsAcceptor::from(Arc::new(server)).accept(far)
        );
        (Stream::Tls(Box::new(near.unwrap())), far.unwrap())
    }

    /// Is a TLS connection quiet on which an upstream does so?
    async fn is_quiet_after(deed: Deed) -> bool {
        let (mut near, mut far) = connected(2).await;
        far.write_all(b"answer").await.unwrap();
        assert_eq!(near.read(SMALL).await.unwrap(), b"answer"[..]);
        near.rest(true);
        assert!(near.is_quiet());
        let (socket, connection) = far.get_mut();
        let mut bytes = Vec::new();
        deed(connection, &mut bytes);
        socket.write_all(&bytes).await.unwrap();
        let Stream::Tls(stream) = &near else { return true };
        // All of it is there, as far as it goes in.
        let there = stream.get_ref().0.socket();
        let mut looked = vec![0; bytes.len().min(32 * 1024)];
        while !looked.is_empty() && there.peek(&mut looked).await.unwrap() < looked.len() {}
        near.is_quiet()
    }

    #[tokio::test]
    async fn who_begins_to_speak_unasked_is_not_quiet() {
        fn say(connection: &mut ServerConnection, bytes: &mut Vec<u8>) {
            io::Write::write_all(&mut connection.writer(), b"HTTP/1.1 200 OK").unwrap();
            while connection.wants_write() {
                connection.write_tls(bytes).unwrap();
            }
        }
        fn renew(connection: &mut ServerConnection, bytes: &mut Vec<u8>) {
            connection.refresh_traffic_keys().unwrap();
            while connection.wants_write() {
                connection.write_tls(bytes).unwrap();
            }
        }
        assert!(is_quiet_after(|_, _| ()).await);
        assert!(is_quiet_after(renew).await, "new keys are no answer");
        assert!(!is_quiet_after(say).await);
        assert!(
            !is_quiet_after(|connection, bytes| {
                say(connection, bytes);
                bytes.pop();
            })
            .await
        );
        assert!(!is_quiet_after(|_, bytes| bytes.push(23)).await, "a record has begun");
    }

    /// Behind more than a few tickets there may be anything, and they are not worked off to the last.
    #[tokio::test]
    async fn a_flood_of_tickets_is_not_quiet_and_costs_little() {
        for (tickets, quiet) in [(2, true), (1000, false)] {
            let (mut near, _far) = connected(tickets).await;
            near.rest(true);
            if let Stream::Tls(stream) = &near {
                stream.get_ref().0.socket().readable().await.unwrap();
                let mut looked = vec![0; if quiet { 1 } else { 32 * 1024 }];
                while stream.get_ref().0.socket().peek(&mut looked).await.unwrap() < looked.len() {}
            }
            assert_eq!(near.is_quiet(), quiet, "{tickets}");
            if let Stream::Tls(stream) = &near {
                let left = stream.get_ref().0.socket().try_read(&mut [0; 8 * 1024]);
                assert_eq!(left.is_ok_and(|left| left == 8 * 1024), !quiet, "the rest is where it was");
            }
        }
    }

    #[test]
    fn pieces_begin_aligned_and_memory_is_used_again() {
        let (mut spare, mut others) = (BytesMut::new(), Vec::new());
        make_room(&mut spare, FIRST, FIRST);
        // Memory that begins with a page has one more than is asked for, and is used up to there.
        while spare.capacity() == FIRST + ALIGNED {
            others.push((std::mem::take(&mut spare), BytesMut::with_capacity(16)));
            make_room(&mut spare, FIRST, FIRST);
        }
        let block = spare.as_ptr() as usize..spare.as_ptr() as usize + FIRST + ALIGNED;
        for length in [1, 63, 64, 65, 1000, FIRST - 1, FIRST, 7, FIRST] {
            make_room(&mut spare, FIRST, FIRST);
            assert!(spare.is_empty() && spare.capacity() >= FIRST);
            let start = spare.as_ptr() as usize;
            assert!(start.is_multiple_of(ALIGNED) && start - block.start < ALIGNED, "{length}");
            spare.put_bytes(b'x', length);
            assert_eq!(spare.split(), vec![b'x'; length]);
        }
        // A piece that somebody holds stays as it is.
        make_room(&mut spare, FIRST, FIRST);
        spare.put_bytes(b'z', 100);
        let held = spare.split();
        for (most, is_behind) in [(FIRST - ALIGNED, true), (FIRST, false)] {
            make_room(&mut spare, most, FIRST);
            let (start, next) = (spare.as_ptr() as usize, held.as_ptr() as usize + ALIGNED);
            assert!(start.is_multiple_of(ALIGNED) && spare.capacity() >= most);
            assert_eq!(start == next, is_behind);
            spare.put_bytes(b'x', most);
            drop(spare.split());
        }
        assert_eq!(held, vec![b'z'; 100]);
        spare.put_bytes(b'y', 10);
        make_room(&mut spare, FIRST, FIRST);
        assert!(spare.is_empty());
    }
}
