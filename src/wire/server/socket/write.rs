//! What a connection writes: in few calls, and a part that its client does not take at once in memory of its own.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite as _;
use tokio_io_timeout::TimeoutStream;

use super::{Socket, Spoken};
use crate::wire::outbox::Outlet;

/// The most bytes of head and body that are written from one place.
const JOINED: usize = 4096;

thread_local! {
    static JOINT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Socket {
    /// What could not be written is missing at the client, even if its body was whole here.
    fn or_reset<T>(
        &mut self,
        write: impl FnOnce(Pin<&mut TimeoutStream<Outlet>>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.writing = true;
        self.fuse();
        let written = write(self.stream.as_mut());
        self.note(&written);
        written
    }

    /// Writes, and keeps what the client does not take at once. Pending while some of that is left, and for the end of a body: its
    /// request is over when hyper has it no more.
    pub(super) fn poll_give(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(cx))?;
        let written = self.or_reset(|stream| match bufs {
            [buf] => stream.poll_write(cx, buf),
            _ => stream.poll_write_vectored(cx, bufs),
        });
        match written {
            Poll::Ready(Ok(taken)) => self.appetite.took(taken),
            Poll::Pending => {
                self.appetite.refused();
                if self.goes_on() {
                    let mut rest = Vec::with_capacity(bufs.iter().map(|buf| buf.len()).sum());
                    for buf in bufs {
                        rest.extend_from_slice(buf);
                    }
                    self.rest = rest.into();
                    return Poll::Ready(Ok(self.rest.len()));
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        written
    }

    /// Is a body of HTTP/1 under way that asks for room before its next piece?
    fn goes_on(&self) -> bool {
        self.spoken == Some(Spoken::One) && self.line.is_armed()
    }

    /// Writes what was kept.
    pub(super) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() && self.owed == 0 {
            ready!(self.poll_part(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let rest = self.rest.clone();
        let written = ready!(self.or_reset(|stream| stream.poll_write(cx, &rest)))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.rest.advance(written);
        if self.rest.is_empty() {
            self.rest = Bytes::new();
        }
        Poll::Ready(Ok(written))
    }

    pub(super) fn note<T>(&self, written: &Poll<io::Result<T>>) {
        if let Poll::Ready(Err(error)) = written {
            self.line.arm(true);
            // The time-out is ours; what the system calls one is a client that has gone.
            if error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none() {
                self.line.stall();
            }
        }
    }

    /// Writes what lies in several places; with one call for one place, which is quicker, where copying it there is little. The end
    /// of an answer that is whole leaves with what others say.
    pub(super) fn poll_join(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.iter().map(|buf| buf.len()).sum::<usize>() > JOINED {
            return self.poll_give(cx, bufs);
        }
        if self.may_wait() && self.rest.is_empty() {
            self.writing = true;
            self.fuse();
            let write = |text: &mut Vec<u8>| bufs.iter().for_each(|buf| text.extend_from_slice(buf));
            if let Ok(length) = self.stream.get_ref().leave(cx, write) {
                return Poll::Ready(Ok(length));
            }
        }
        JOINT.with_borrow_mut(|joint| {
            joint.clear();
            for buf in bufs {
                joint.extend_from_slice(buf);
            }
            self.poll_give(cx, &[io::IoSlice::new(joint)])
        })
    }

    /// Is this the end of an answer of HTTP/1, one that no client takes for whole without it?
    fn may_wait(&self) -> bool {
        let line = &self.line;
        self.spoken == Some(Spoken::One) && !line.is_busy() && !line.is_armed() && !line.is_open()
    }

    /// Writes what a stand-in of so many bytes stands for.
    pub(super) fn poll_pass(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        self.writing = true;
        ready!(self.poll_rest(cx))?;
        if !self.stream.get_ref().send_now() {
            ready!(self.or_reset(|stream| stream.poll_flush(cx)))?;
        }
        if self.owed == 0 {
            let Some(mut pipe) = self.line.take_up() else { return Poll::Ready(Err(self.broken())) };
            match pipe.pass(self.tcp(), length) {
                Ok(passed) if passed > 0 => {
                    self.appetite.took(passed);
                    if pipe.holds() == 0 {
                        pipe.keep();
                    } else {
                        self.line.lay(pipe)?;
                        self.line.hand_over();
                    }
                    return Poll::Ready(Ok(passed));
                }
                // Whatever it is, the ordinary way meets it too, waits there, and not for ever.
                _ => {
                    self.appetite.refused();
                    self.rest = pipe.read().map_err(|_| self.broken())?;
                    if self.rest.len() != length {
                        return Poll::Ready(Err(self.broken()));
                    }
                    if self.goes_on() {
                        return Poll::Ready(Ok(length));
                    }
                    self.owed = length;
                }
            }
        }
        if self.owed != length {
            return Poll::Ready(Err(self.broken()));
        }
        let written = ready!(self.poll_part(cx))?;
        self.owed = self.rest.len();
        Poll::Ready(Ok(written))
    }
}
