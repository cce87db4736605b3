//! A connection's beginning and end. The first bytes must come in time, so that no client stays that says nothing, or begins like
//! the HTTP/2 preface and stops.

mod room;
mod spoken;
mod write;

use std::future::Future as _;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::net::RecvFlags;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_io_timeout::TimeoutStream;

use crate::wire::body::Line;
use crate::wire::config::Timeouts;
use crate::wire::outbox::Outlet;
use crate::wire::splice::is_stand_in;
use room::{Appetite, poll_room, room};
use spoken::PREFACE;

pub(super) use spoken::Spoken;

/// How many bytes may wait in a client's socket that were not sent yet. What is said to a client of HTTP/2, such as a PING
/// that it has to answer in time, waits behind them.
const UNSENT: u32 = 128 * 1024;
/// The same once a connection carries bodies of HTTP/1, a piece at a time, of at most half of it.
const UNSENT_BODY: u32 = 1024 * 1024;

/// The most bytes that are kept of what a client sends while a request is under way, and the most that are thrown away of what it
/// sent when its connection ends.
const EARLY: usize = 8 * 1024;
const MOST_DRAINED: usize = 64 * 1024;
/// A client's socket whose first bytes must come in time, and which is reset if it ends within a body.
pub(super) struct Socket {
    stream: Pin<Box<TimeoutStream<Outlet>>>,
    missing: usize,
    deadline: Option<Pin<Box<Sleep>>>,
    line: Line,
    /// What its client speaks, once that is known.
    spoken: Option<Spoken>,
    appetite: Appetite,
    /// Has it carried a body in pieces?
    wide: bool,
    /// Does the system reset the connection if this process ends now?
    fused: bool,
    /// Was something written, or was to be, and not all of it yet?
    writing: bool,
    /// What the client sent first, and while a request was under way, until hyper reads it.
    early: BytesMut,
    /// What the client did not take at once of what was written, in memory of its own: as a piece it would hold that of the thread's
    /// reads, or a pipe.
    rest: Bytes,
    /// How much of it hyper does not know to be written: all of the last of a body, or nothing.
    owed: usize,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, timeouts: &Timeouts, line: Line) -> Self {
        // Bounds what the system holds for a client that is slow, which else grows to `net.ipv4.tcp_wmem`. Where it cannot be
        // set, the system's own bound holds.
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
        let mut stream = TimeoutStream::new(Outlet::new(stream));
        stream.set_write_timeout(Some(timeouts.client_write.0));
        let deadline = Some(Box::pin(tokio::time::sleep(timeouts.client_head.0)));
        Self {
            stream: Box::pin(stream),
            missing: PREFACE.len(),
            deadline,
            line,
            spoken: None,
            appetite: Appetite::new(),
            wide: false,
            fused: false,
            writing: false,
            early: BytesMut::new(),
            rest: Bytes::new(),
            owed: 0,
        }
    }
}

impl Socket {
    fn tcp(&self) -> &TcpStream {
        self.stream.get_ref().socket()
    }

    /// Reads what is there; the first bytes in time.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = self.stream.as_mut().poll_read(cx, buf);
        if let Some(deadline) = &mut self.deadline {
            self.missing = self.missing.saturating_sub(buf.filled().len() - before);
            if self.missing == 0 {
                self.deadline = None;
            } else if read.is_pending() {
                ready!(deadline.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }

    /// Fails if the client has gone, or said that it goes, while its answer is under way. What it sends instead is kept for
    /// hyper: what nobody has read when a connection closes turns its end into a reset, which takes the last of an answer along.
    fn see_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.early.len() < EARLY {
            // As a rule nothing comes, so nothing is written there beforehand.
            let mut piece = [const { MaybeUninit::uninit() }; 1024];
            let mut read = ReadBuf::uninit(&mut piece);
            if self.stream.as_mut().poll_read(cx, &mut read)?.is_pending() {
                break;
            }
            if read.filled().is_empty() {
                // With a request ahead there is somebody who waits for its answer, as far as anybody can tell.
                let gone = self.early.is_empty();
                return if gone { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) };
            }
            self.early.extend_from_slice(read.filled());
        }
        Ok(())
    }

    /// Has the client gone, as far as the system has said? Asks no more unless it has said something.
    fn has_ended(&self, cx: &mut Context<'_>) -> bool {
        let stream = self.tcp();
        stream.poll_read_ready(cx).is_ready()
            && match rustix::net::recv(stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
                Ok((_, count)) => count == 0,
                Err(error) => error != rustix::io::Errno::AGAIN,
            }
    }

    /// Takes what came and is of no use, so that the connection ends with what was written to it.
    fn drain(&self) {
        let mut scrap = [0; 4096];
        let most = MOST_DRAINED / scrap.len();
        let mut read = || rustix::net::recv(self.tcp(), &mut scrap, RecvFlags::DONTWAIT);
        let _ = (0..most).find(|_| !matches!(read(), Ok((_, 1..))));
    }

    /// Whoever kills a process has its connections closed by the system, as if all had been said. While that could be taken for
    /// the end of a file, it is told to reset this one instead.
    fn fuse(&mut self) {
        // What was passed on whole is not at the client before it is written.
        let open = self.line.is_open() && (self.line.is_armed() || self.writing);
        if open != self.fused {
            let linger = open.then_some(Duration::ZERO);
            self.fused = SockRef::from(self.tcp()).set_linger(linger).is_ok() == open;
        }
    }

    /// Lets as much wait in the system as pieces of bodies need.
    fn widen(&mut self) {
        if !std::mem::replace(&mut self.wide, true) {
            let _ = SockRef::from(self.tcp()).set_tcp_notsent_lowat(UNSENT_BODY);
        }
    }

    /// The body is not what its length says any more.
    fn broken(&self) -> io::Error {
        self.line.arm(true);
        io::Error::other("bytes that were to be passed on are missing")
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // What lies in hyper's buffer belongs to a body that may have no other end than that of its connection.
        if self.line.is_armed() || self.writing || !self.stream.get_ref().send_now() {
            let _ = self.tcp().set_zero_linger();
        } else {
            self.fuse();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.early.is_empty() {
            let most = this.early.len().min(buf.remaining());
            buf.put_slice(&this.early.split_to(most));
            if this.early.is_empty() {
                this.early = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = this.poll_fill(cx, buf);
        if buf.filled().len() > before && !this.line.is_busy() {
            this.line.leave(this.has_ended(cx));
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if is_stand_in(buf) {
            return this.poll_pass(cx, buf.len());
        }
        this.poll_give(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut full = bufs.iter().enumerate().filter(|(_, buf)| !buf.is_empty());
        match full.find(|(_, buf)| is_stand_in(buf)) {
            None => this.poll_join(cx, bufs),
            Some((place, stand_in)) => match bufs.get(..place) {
                Some(before) if before.iter().any(|buf| !buf.is_empty()) => this.poll_give(cx, before),
                _ => this.poll_pass(cx, stand_in.len()),
            },
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_rest(cx))?;
        let flushed = this.stream.as_mut().poll_flush(cx);
        this.note(&flushed);
        ready!(flushed)?;
        if this.line.is_due() || this.owed > 0 {
            // All was written, and a stand-in not as what it stands for.
            return Poll::Ready(Err(this.broken()));
        }
        this.writing = false;
        this.appetite.has_all();
        this.fuse();
        if this.line.is_busy() {
            this.see_end(cx)?;
        }
        if this.line.is_over() {
            this.widen();
            this.line.look_ahead(this.appetite.of(room(this.tcp())?.unwrap_or(0)));
        }
        if this.line.is_asked() {
            this.widen();
            let room = poll_room(this.tcp(), cx)?;
            if this.line.tell(room.map(|room| this.appetite.of(room))) {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.fuse();
        ready!(this.poll_rest(cx))?;
        ready!(this.stream.as_mut().poll_shutdown(cx))?;
        this.drain();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use bytes::Buf as _;
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::wire::origin::{FIRST, SMALL, WIDE};
    use crate::wire::splice::{Pipe, pair, stand_in};

    /// A pipe with `bytes` in it.
    async fn pipe(bytes: &[u8]) -> Pipe {
        let (mut from, into) = pair().await;
        SockRef::from(&into).set_recv_buffer_size(4 * bytes.len()).unwrap();
        from.write_all(bytes).await.unwrap();
        let mut there = vec![0; bytes.len()];
        while into.peek(&mut there).await.unwrap() < bytes.len() {}
        Pipe::fill(&into, bytes.len()).unwrap()
    }

    #[tokio::test]
    async fn a_stand_in_without_its_bytes_is_never_written() {
        let line = Line::default();
        let (here, mut there) = pair().await;
        let mut socket = Socket::new(here, &Timeouts::default(), line.clone());
        let five = stand_in(5).unwrap();
        assert!(socket.write(&five).await.is_err());
        assert!(line.is_armed());
        drop(socket);
        let mut got = Vec::new();
        let end = tokio::io::AsyncReadExt::read_to_end(&mut there, &mut got).await;
        assert_eq!((end.unwrap_err().kind(), got), (io::ErrorKind::ConnectionReset, vec![]));
    }

    /// Also where it is bytes that waited to be written, and not a body that waited to be asked.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_in_time_has_stalled() {
        let line = Line::default();
        let (here, _there) = pair().await;
        here.writable().await.unwrap();
        while here.try_write(&[b'a'; 10_000]).is_ok() {}
        let mut socket = Socket::new(here, &Timeouts::default(), line.clone());
        assert_eq!(socket.write_all(&[0; 1000]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(line.has_stalled() && line.is_armed());
    }

    /// However a connection is dropped: what was begun and not flushed is missing at the client.
    #[tokio::test]
    async fn what_was_not_flushed_ends_in_a_reset() {
        for (flushed, end) in [(true, Ok(5)), (false, Err(io::ErrorKind::ConnectionReset))] {
            let (here, mut there) = pair().await;
            let mut socket = Socket::new(here, &Timeouts::default(), Line::default());
            socket.write_all(b"hello").await.unwrap();
            if flushed {
                socket.flush().await.unwrap();
            }
            drop(socket);
            let read = tokio::io::AsyncReadExt::read_to_end(&mut there, &mut Vec::new()).await;
            assert_eq!(read.map_err(|error| error.kind()), end);
        }
    }

    /// The same where it was left to the thread's outbox, unless the client does not take it.
    #[tokio::test]
    async fn what_leaves_with_the_rest_is_sent_before_the_end() {
        let _keeper = tokio::spawn(crate::wire::outbox::keep());
        tokio::task::yield_now().await;
        for (full, end) in [(false, Ok(())), (true, Err(io::ErrorKind::ConnectionReset))] {
            let (here, mut there) = pair().await;
            here.writable().await.unwrap();
            while full && here.try_write(&[b'a'; 10_000]).is_ok() {}
            let mut socket = Socket::new(here, &Timeouts::default(), Line::default());
            there.write_all(b"GET").await.unwrap();
            assert_eq!(socket.spoken().await.unwrap(), Spoken::One);
            let parts = [io::IoSlice::new(b"hel"), io::IoSlice::new(b"lo")];
            assert_eq!(socket.write_vectored(&parts).await.unwrap(), 5);
            socket.flush().await.unwrap();
            assert!(full || there.try_read(&mut [0; 5]).is_err(), "not yet");
            drop(socket);
            let mut got = Vec::new();
            let read = tokio::io::AsyncReadExt::read_to_end(&mut there, &mut got).await;
            assert_eq!(read.map(drop).map_err(|error| error.kind()), end);
            assert!(full || got == b"hello");
        }
    }

    /// A larger first piece is for a socket with room for four of them that lies empty, and took the piece before.
    #[tokio::test]
    async fn how_the_next_body_begins_is_seen_at_the_end_of_the_one_before() {
        for (buffer, taken, fill, expected) in [
            (WIDE * 4, FIRST * 4, false, WIDE),
            (WIDE * 4, FIRST, false, FIRST + FIRST / 4),
            (WIDE * 4, 1000, false, FIRST + 250),
            (WIDE / 2, FIRST * 4, false, FIRST),
            (WIDE * 4, FIRST * 4, true, FIRST),
        ] {
            let line = Line::default();
            let (here, mut there) = pair().await;
            // Linux doubles what it is asked for.
            SockRef::from(&here).set_send_buffer_size(buffer / 2).unwrap();
            assert_eq!(rustix::net::sockopt::socket_send_buffer_size(&here).unwrap(), buffer);
            let mut socket = Socket::new(here, &Timeouts::default(), line.clone());
            for piece in vec![0; taken].chunks(FIRST) {
                let mut got = vec![0; piece.len()];
                let read = tokio::io::AsyncReadExt::read_exact(&mut there, &mut got);
                let (written, read) = tokio::join!(socket.write_all(piece), read);
                assert!(written.is_ok() && read.is_ok());
                socket.flush().await.unwrap();
            }
            assert_eq!(line.first_piece(), FIRST, "nobody looked yet");
            socket.widen();
            socket.tcp().writable().await.unwrap();
            while fill && socket.tcp().try_write(&[0; 10_000]).is_ok() {}
            line.end();
            socket.flush().await.unwrap();
            assert_eq!(line.first_piece(), expected, "{buffer} {taken} {fill}");
            assert_eq!(line.first_piece(), FIRST, "what was seen holds once");
        }
    }

    /// The system's memory for sockets may be gone where their buffers have room. What a client does not take of a piece then lies in
    /// memory of its own until it does, and the next piece is no larger than what it took.
    #[tokio::test]
    async fn what_a_client_does_not_take_of_a_piece_is_kept_and_makes_the_next_one_smaller() {
        const HELD: usize = 100_000;
        for passed in [true, false] {
            let line = Line::default();
            let (here, mut there) = narrow_pair().await;
            let mut socket = Socket::new(here, &Timeouts::default(), line.clone());
            socket.spoken = Some(Spoken::One);
            line.arm(true);
            SockRef::from(socket.tcp()).set_send_buffer_size(WIDE * 4).unwrap();
            assert_eq!(room(&mut socket).await, FIRST);
            SockRef::from(socket.tcp()).set_send_buffer_size(SMALL).unwrap();
            let piece = if passed {
                line.lay(pipe(&vec![7; HELD]).await).unwrap();
                stand_in(HELD).unwrap()
            } else {
                vec![7; HELD].into()
            };
            socket.write_all(&piece).await.unwrap();
            let mut got = vec![0; HELD];
            {
                let mut flush = std::pin::pin!(socket.flush());
                assert!(futures_util::poll!(&mut flush).is_pending());
                let read = tokio::io::AsyncReadExt::read_exact(&mut there, &mut got);
                tokio::try_join!(flush, read).unwrap();
            }
            assert!(got.iter().all(|byte| *byte == 7));
            SockRef::from(socket.tcp()).set_send_buffer_size(WIDE * 4).unwrap();
            let next = room(&mut socket).await;
            assert!((SMALL..FIRST).contains(&next), "{next}");
        }
    }

    /// How much the body may bring next.
    async fn room(socket: &mut Socket) -> usize {
        let line = socket.line.clone();
        let _ = line.poll_room();
        poll_fn(|cx| {
            ready!(Pin::new(&mut *socket).poll_flush(cx)).unwrap();
            line.poll_room()
        })
        .await
    }

    /// A connection to a client with a narrow window.
    async fn narrow_pair() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpSocket::new_v4().unwrap();
        listener.set_recv_buffer_size(8192).unwrap();
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listener.listen(1).unwrap();
        let (here, there) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (here.unwrap(), there.unwrap().0)
    }

    /// However its first bytes are divided, and none of them is lost.
    #[tokio::test]
    async fn what_a_client_speaks_is_told_by_how_it_begins() {
        let whole = [PREFACE, b"rest"].concat();
        let cases: [(&[u8], Spoken); 5] = [
            (b"GET / HTTP/1.1\r\n\r\n", Spoken::One),
            (b"PRI * HTTP/2.0\r\n\r\nSN and more", Spoken::One),
            (b"PRI", Spoken::One),
            (PREFACE, Spoken::Two),
            (&whole, Spoken::Two),
        ];
        for (sent, expected) in cases {
            for size in [1, 7, sent.len()] {
                let (here, mut there) = pair().await;
                let mut socket = Socket::new(here, &Timeouts::default(), Line::default());
                let client = async {
                    for part in sent.chunks(size) {
                        there.write_all(part).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    there.shutdown().await.unwrap();
                };
                let (spoken, ()) = tokio::join!(socket.spoken(), client);
                assert_eq!(spoken.unwrap(), expected);
                let mut got = Vec::new();
                tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut got).await.unwrap();
                assert_eq!(got, sent);
            }
        }
    }

    /// Whoever says less than a preface in the given time, or nothing, is not waited for.
    #[tokio::test(start_paused = true)]
    async fn first_bytes_come_in_time() {
        for sent in [&b""[..], &PREFACE[..10]] {
            let (here, mut there) = pair().await;
            there.write_all(sent).await.unwrap();
            let mut socket = Socket::new(here, &Timeouts::default(), Line::default());
            assert_eq!(socket.spoken().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
    }

    /// A client that had gone when its request was read is told from one that has not, so that nothing is begun for it.
    #[tokio::test]
    async fn who_has_left_is_known_when_its_request_is_read() {
        for leaves in [true, false] {
            let line = Line::default();
            let (here, there) = pair().await;
            let mut there = there.into_std().unwrap();
            io::Write::write_all(&mut there, b"GET / HTTP/1.1\r\n\r\n").unwrap();
            if leaves {
                there.shutdown(std::net::Shutdown::Write).unwrap();
            }
            let mut socket = Socket::new(here, &Timeouts::default(), line.clone());
            let read = tokio::io::AsyncReadExt::read(&mut socket, &mut [0; 100]).await.unwrap();
            assert_eq!((read, line.has_left()), (18, leaves));
            // Then its request is under way.
            line.occupy(true);
            assert_eq!(socket.flush().await.is_err(), leaves);
        }
    }

    #[tokio::test]
    async fn bytes_that_nobody_asked_for_end_the_connection() {
        let line = Line::default();
        let (here, _there) = pair().await;
        let mut socket = Socket::new(here, &Timeouts::default(), line.clone());
        line.lay(pipe(b"12345").await).unwrap();
        // Nothing is due before the stand-in was given out.
        socket.flush().await.unwrap();
        line.hand_over();
        assert!(line.lay(pipe(b"6").await).is_err());
        assert!(socket.flush().await.is_err());
        assert!(line.is_armed());
    }

    /// Its request goes on while hyper has a part of it, and so do its record and its place among the key's downloads.
    #[tokio::test]
    async fn the_end_of_a_body_is_not_written_before_its_client_takes_it() {
        const LENGTH: usize = 50_000;
        for passed in [true, false] {
            let line = Line::default();
            let (here, mut there) = pair().await;
            here.writable().await.unwrap();
            let mut ahead = 0;
            while let Ok(written) = here.try_write(&[b'a'; 10_000]) {
                ahead += written;
            }
            let mut socket = Socket::new(here, &Timeouts::default(), line.clone());
            socket.spoken = Some(Spoken::One);
            let bytes = if passed {
                line.lay(pipe(&vec![b'b'; LENGTH]).await).unwrap();
                line.hand_over();
                stand_in(LENGTH).unwrap()
            } else {
                vec![b'b'; LENGTH].into()
            };
            let mut got = vec![0; ahead + LENGTH];
            {
                let mut write = std::pin::pin!(socket.write_all(&bytes));
                assert!(futures_util::poll!(&mut write).is_pending());
                assert!(line.take_up().is_none(), "the pipe is somebody else's by now");
                let read = tokio::io::AsyncReadExt::read_exact(&mut there, &mut got);
                tokio::try_join!(write, read).unwrap();
            }
            socket.flush().await.unwrap();
            let (before, after) = got.split_at(ahead);
            assert!(before.iter().all(|byte| *byte == b'a') && after.iter().all(|byte| *byte == b'b'));
        }
    }

    #[tokio::test]
    async fn head_stand_in_and_tail_leave_in_order() {
        let line = Line::default();
        let (here, mut there) = pair().await;
        let mut socket = Socket::new(here, &Timeouts::default(), line.clone());
        line.lay(pipe(b"middle").await).unwrap();
        line.hand_over();
        let middle = stand_in(6).unwrap();
        let mut parts = bytes::Buf::chain(bytes::Buf::chain(&b"head "[..], middle), &b" tail"[..]);
        while parts.has_remaining() {
            let mut slices = [io::IoSlice::new(&[]); 8];
            let count = parts.chunks_vectored(&mut slices);
            let written = socket.write_vectored(&slices[..count]).await.unwrap();
            parts.advance(written);
        }
        socket.flush().await.unwrap();
        assert!(!line.is_armed());
        drop(socket);
        let mut got = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut there, &mut got).await.unwrap();
        assert_eq!(got, "head middle tail");
    }
}
