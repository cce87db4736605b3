//! What TLS to an upstream is read from: a socket that knows how much came, and whether that ends where a record does. rustls
//! tells neither, and a connection is used again only if nobody has begun to say anything on it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Type, version and length (RFC 8446 section 5.1).
const HEAD: usize = 5;
/// How much may come that is no answer while nothing is asked: tickets, new keys. A receive window holds more, so behind that much
/// there may be anything; and rustls takes tickets in as long as there are some.
const MOST_ASIDE: u64 = 16 * 1024;

/// A socket, and how far its records were read.
#[derive(Debug)]
pub(super) struct Records {
    socket: TcpStream,
    /// The head of the record that comes, as far as it was read.
    head: [u8; HEAD],
    have: usize,
    /// What is missing of the record behind its head.
    left: usize,
    read: u64,
    /// How much that was when the connection began to rest; nothing while it is in use.
    rest: Option<u64>,
}

impl Records {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, head: [0; HEAD], have: 0, left: 0, read: 0, rest: None }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The connection is asked nothing until it is needed again; then no more.
    pub(super) fn rest(&mut self, rests: bool) {
        self.rest = rests.then_some(self.read);
    }

    /// Has no record begun that did not end, and did no more come than is no answer?
    pub(super) fn is_undisturbed(&self) -> bool {
        self.have == 0 && self.left == 0 && !self.has_its_fill()
    }

    fn has_its_fill(&self) -> bool {
        self.rest.is_some_and(|from| self.read.saturating_sub(from) > MOST_ASIDE)
    }

    fn saw(&mut self, mut bytes: &[u8]) {
        self.read += bytes.len() as u64;
        loop {
            let (_, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= bytes.len() - rest.len();
            let Some((byte, rest)) = rest.split_first() else { return };
            if let Some(place) = self.head.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            if self.have == HEAD {
                let [.., high, low] = self.head;
                (self.have, self.left) = (0, usize::from(u16::from_be_bytes([high, low])));
            }
            bytes = rest;
        }
    }
}

impl AsyncRead for Records {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.has_its_fill() {
            // Nobody waits: it is only looked at, and closed then.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(cx, buf);
        this.saw(buf.filled().get(before..).unwrap_or_default());
        read
    }
}

impl AsyncWrite for Records {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::splice::pair;

    #[tokio::test]
    async fn the_end_of_a_record_is_known_however_it_comes() {
        let bytes = [&[23, 3, 3, 0, 2, 1, 2][..], &[23, 3, 3, 0, 0], &[22, 3, 3, 1, 1], &[7; 257]].concat();
        let ends = [0, 7, 12, bytes.len()];
        for at_once in 1..=bytes.len() {
            let mut records = Records::new(pair().await.0);
            let mut seen = 0;
            for part in bytes.chunks(at_once) {
                records.saw(part);
                seen += part.len();
                assert_eq!(records.is_undisturbed(), ends.contains(&seen), "{at_once}: {seen}");
            }
        }
    }
}
