//! A connection to an upstream, with or without TLS, and the memory that it is read into.

use std::cell::RefCell;
use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// The most bytes of a piece for a door that says nothing of its client, such as HTTP/2.
pub(in crate::wire) const SMALL: usize = 16 * 1024;
/// The most bytes of a first piece, which is read with its head. A new connection's send buffer takes as much.
pub(in crate::wire) const FIRST: usize = 64 * 1024;
/// The most bytes of any read. At a quarter of a megabyte the calls themselves no longer count beside the copying.
pub(in crate::wire) const LARGE: usize = 256 * 1024;

/// The bytes of a connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

thread_local! {
    // What a thread reads into, whichever connection it reads from. A piece is a part of it and gives its room back when it
    // is written, as a rule before the next read; so a stream whose client takes nothing holds no memory of its own.
    static SPARE: [RefCell<BytesMut>; 2] = Default::default();
}

impl Stream {
    /// Reads what is there, at most `most` bytes; nothing at the end.
    pub(super) async fn read(&mut self, most: usize) -> io::Result<BytesMut> {
        std::future::poll_fn(|cx| self.poll_read(cx, most)).await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<BytesMut>> {
        let most = most.clamp(1, LARGE);
        SPARE.with(|[small, large]| {
            let (spare, whole) = if most > FIRST { (large, LARGE) } else { (small, FIRST) };
            let mut spare = spare.borrow_mut();
            if spare.capacity() < most {
                spare.reserve(whole);
            }
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
            // A record carries 16 KiB at most; several make one piece.
            Self::Tls(stream) => loop {
                let left = most - into.len();
                match pin!(stream.read_buf(&mut (&mut *into).limit(left))).poll(cx) {
                    Poll::Ready(Ok(read)) if read > 0 && into.len() < most => {}
                    Poll::Pending | Poll::Ready(Err(_)) if !into.is_empty() => return Poll::Ready(Ok(())),
                    read => return read.map_ok(drop),
                }
            },
        }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Is it open, with nothing to read? What comes on a connection that was asked nothing belongs to no answer.
    pub(super) fn is_quiet(&mut self) -> bool {
        let (mut cx, mut byte) = (Context::from_waker(Waker::noop()), [0]);
        match self {
            Self::Plain(stream) => {
                matches!(stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
            Self::Tls(stream) => Pin::new(&mut pin!(stream.read(&mut byte))).poll(&mut cx).is_pending(),
        }
    }
}
