//! How much a client's socket takes at once, without asking it to.

use std::io;
use std::task::Context;

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::wire::origin::{FIRST, LARGE, SMALL};

/// The largest piece that a client's socket is given at once: it grows by a quarter of what the socket takes, and shrinks to what it took when it
/// does not take all. Its buffer says how much it may hold, not whether the system has memory left for sockets
/// (`net.ipv4.tcp_mem`); and what it does not take waits in this process, for every client that this meets at the same time.
#[derive(Debug)]
pub(super) struct Appetite {
    most: usize,
    /// Bytes that it took since it had all that it was given.
    taken: usize,
    refused: bool,
}

impl Appetite {
    pub(super) fn new() -> Self {
        Self { most: FIRST, taken: 0, refused: false }
    }

    /// How large a piece may be for which there is `room`.
    pub(super) fn of(&self, room: usize) -> usize {
        room.min(self.most)
    }

    pub(super) fn took(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_add(bytes);
    }

    /// It takes no more at once, and there is more.
    pub(super) fn refused(&mut self) {
        if !std::mem::replace(&mut self.refused, true) {
            self.most = self.taken.clamp(SMALL, self.most);
        }
    }

    /// It has all. An upstream that sends little at a time must not keep its client's pieces small.
    pub(super) fn has_all(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        if !std::mem::take(&mut self.refused) {
            self.most = self.most.saturating_add(taken / 4).min(LARGE);
        }
    }
}

/// How many bytes the socket takes at once; `None` while its buffer is too full, and then the task is woken when it is not.
pub(super) fn poll_room(stream: &TcpStream, cx: &mut Context<'_>) -> io::Result<Option<usize>> {
    loop {
        let looked = stream
            .try_io(Interest::WRITABLE, || room(stream)?.ok_or_else(|| io::ErrorKind::WouldBlock.into()));
        match looked {
            Ok(room) => return Ok(Some(room)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if stream.poll_write_ready(cx)?.is_pending() {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// How many bytes the socket takes at once, and `None` if its buffer is too full.
///
/// Linux calls a socket writable when a third of its send buffer is free and less than half of [`super::UNSENT_BODY`] is unsent
/// (`sk_stream_is_writeable`), and lets that buffer grow with what the client drains. So a piece fits that has a quarter of
/// the one and half of the other, and a client that stalls leaves nothing here.
pub(super) fn room(stream: &TcpStream) -> io::Result<Option<usize>> {
    let mut fds = [PollFd::new(stream, PollFlags::OUT)];
    if rustix::event::poll(&mut fds, Some(&Timespec::default()))? == 0 {
        return Ok(None);
    }
    let buffer = rustix::net::sockopt::socket_send_buffer_size(stream)?;
    Ok(Some((buffer / 4).clamp(SMALL, LARGE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_grow_by_what_is_taken_and_shrink_to_it() {
        let mut appetite = Appetite::new();
        let mut give = |taken: &[usize], refused: bool| {
            for bytes in taken {
                appetite.took(*bytes);
                // The rest of a piece that waits here is nothing that was taken at once.
                refused.then(|| appetite.refused());
            }
            appetite.has_all();
            appetite.of(usize::MAX)
        };
        assert_eq!(give(&[], false), FIRST);
        assert_eq!(give(&[1000; 4], false), FIRST + 1000);
        assert_eq!(give(&[FIRST - 4000], false), 5 * FIRST / 4);
        assert_eq!(give(&[30_000, 10_000], false), 5 * FIRST / 4 + 10_000);
        assert_eq!(give(&[4 * LARGE], false), LARGE);
        assert_eq!(give(&[LARGE], false), LARGE);
        assert_eq!(give(&[100_000, 400_000], true), 100_000);
        assert_eq!(give(&[100_000], false), 125_000);
        assert_eq!(give(&[0, 200_000], true), SMALL);
        assert_eq!(give(&[SMALL], false), 5 * SMALL / 4);
        assert_eq!(give(&[LARGE, LARGE], true), 5 * SMALL / 4);
        assert_eq!(appetite.of(1), 1);
    }
}
