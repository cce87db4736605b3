//! A connection's beginning and end. The first bytes must come in time: before hyper knows which version of HTTP is spoken it
//! cannot be asked to shut down, so a client that says nothing, or begins like the HTTP/2 preface and stops, would stay.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_io_timeout::TimeoutStream;

use crate::wire::body::Line;
use crate::wire::config::Timeouts;
use crate::wire::origin::{LARGE, SMALL};

/// As many bytes as tell the versions apart (RFC 9113 section 3.4). Every request for a file is longer.
const PREFACE_BYTES: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// How many bytes may wait in a client's socket that were not sent yet.
const UNSENT: u32 = 512 * 1024;

/// A client's socket whose first bytes must come in time, and which is reset if it ends within a body.
pub(super) struct Socket {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    missing: usize,
    deadline: Option<Pin<Box<Sleep>>>,
    line: Line,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, timeouts: &Timeouts, line: Line) -> Self {
        // Bounds what the system holds for a client that is slow, which else grows to `net.ipv4.tcp_wmem`. Where it cannot be
        // set, the system's own bound holds.
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(timeouts.client_write.0));
        let deadline = Some(Box::pin(tokio::time::sleep(timeouts.client_head.0)));
        Self { stream: Box::pin(stream), missing: PREFACE_BYTES, deadline, line }
    }
}

impl Socket {
    /// What could not be written is missing at the client, even if its body was whole here.
    fn or_reset<T>(
        &mut self,
        write: impl FnOnce(Pin<&mut TimeoutStream<TcpStream>>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(self.stream.as_mut());
        if matches!(written, Poll::Ready(Err(_))) {
            self.line.arm(true);
        }
        written
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.line.is_armed() {
            let _ = self.stream.get_ref().set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = this.stream.as_mut().poll_read(cx, buf);
        if let Some(deadline) = &mut this.deadline {
            this.missing = this.missing.saturating_sub(buf.filled().len() - before);
            if this.missing == 0 {
                this.deadline = None;
            } else if read.is_pending() {
                ready!(deadline.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.or_reset(|stream| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.or_reset(|stream| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.stream.as_mut().poll_flush(cx))?;
        if this.line.is_asked() {
            let room = poll_room(this.stream.get_ref(), cx)?;
            if this.line.tell(room) {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.as_mut().poll_shutdown(cx)
    }
}

/// How many bytes the socket takes at once; `None` while its buffer is too full, and then the task is woken when it is not.
///
/// Linux calls a socket writable when a third of its send buffer is free and less than half of [`UNSENT`] is unsent
/// (`sk_stream_is_writeable`), and lets that buffer grow with what the client drains. So a piece of a quarter of either
/// fits, and a client that stalls leaves nothing here.
fn poll_room(stream: &TcpStream, cx: &mut Context<'_>) -> io::Result<Option<usize>> {
    loop {
        let looked = stream.try_io(Interest::WRITABLE, || {
            let mut fds = [PollFd::new(stream, PollFlags::OUT)];
            match rustix::event::poll(&mut fds, Some(&Timespec::default()))? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            }
        });
        match looked {
            Ok(()) => {
                let buffer = rustix::net::sockopt::socket_send_buffer_size(stream)?;
                return Ok(Some((buffer / 4).clamp(SMALL, LARGE)));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if stream.poll_write_ready(cx)?.is_pending() {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
    }
}
