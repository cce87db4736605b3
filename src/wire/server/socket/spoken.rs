//! Which version of HTTP a client speaks: its first bytes say so.

use std::io;
use std::mem::MaybeUninit;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use super::Socket;

/// How a client begins that speaks HTTP/2 (RFC 9113 section 3.4). Every request for a file is longer.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The most bytes that are read at once to find that out: with all of its head, as a rule.
const BEGINNING: usize = 4096;

/// Which HTTP a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wire::server) enum Spoken {
    One,
    Two,
}

impl Socket {
    /// Reads until it is plain which HTTP the client speaks; whoever reads next gets what came. hyper-util's own way to find out hands
    /// on the first 24 bytes alone: hyper takes a buffer twice as large for what follows, and goes through all of it, a little
    /// further with each request, so that what it reads never lies where the request before lay.
    pub(in crate::wire::server) async fn spoken(&mut self) -> io::Result<Spoken> {
        let spoken = std::future::poll_fn(|cx| self.poll_spoken(cx)).await?;
        self.spoken = Some(spoken);
        Ok(spoken)
    }

    fn poll_spoken(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Spoken>> {
        loop {
            let mut piece = [const { MaybeUninit::uninit() }; BEGINNING];
            let mut read = ReadBuf::uninit(&mut piece);
            ready!(self.poll_fill(cx, &mut read))?;
            self.early.extend_from_slice(read.filled());
            let begins = PREFACE.starts_with(self.early.get(..PREFACE.len()).unwrap_or(&self.early));
            if !begins || read.filled().is_empty() {
                self.line.leave(self.has_ended(cx));
                return Poll::Ready(Ok(Spoken::One));
            }
            if self.early.len() >= PREFACE.len() {
                return Poll::Ready(Ok(Spoken::Two));
            }
        }
    }
}
