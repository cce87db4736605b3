//! A connection's beginning and end. The first bytes must come in time: hyper's timer for heads starts only when it knows which version of HTTP is
//! spoken, so a client that says nothing, or begins like the HTTP/2 preface and stops, would never be closed.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_io_timeout::TimeoutStream;

use crate::wire::body::Breaker;
use crate::wire::config::Timeouts;

/// As many bytes as tell the versions apart (RFC 9113 section 3.4). Every request for a file is longer.
const PREFACE_BYTES: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// A client's socket whose first bytes must come in time, and which is reset if it ends within a body.
pub(super) struct Socket {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    missing: usize,
    deadline: Option<Pin<Box<Sleep>>>,
    breaker: Breaker,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, timeouts: &Timeouts, breaker: Breaker) -> Self {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(timeouts.client_write.0));
        let deadline = Some(Box::pin(tokio::time::sleep(timeouts.client_head.0)));
        Self { stream: Box::pin(stream), missing: PREFACE_BYTES, deadline, breaker }
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
            self.breaker.arm(true);
        }
        written
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.breaker.is_armed() {
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
        self.get_mut().stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.as_mut().poll_shutdown(cx)
    }
}
