//! How much a client's socket takes at once, without asking it to.

use std::io;
use std::task::Context;

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::wire::origin::{LARGE, SMALL};

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
