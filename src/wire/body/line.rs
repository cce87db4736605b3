//! A client's HTTP/1 connection as a body sees it, and a body as its connection sees it. Both are polled by one task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;

/// Between a connection and the body that is under way on it.
#[derive(Debug, Clone, Default)]
pub struct Line(Arc<State>);

#[derive(Debug, Default)]
struct State {
    armed: AtomicBool,
    /// Does the body wait to be told of room?
    asked: AtomicBool,
    /// Bytes that the client's socket takes at once; 0 until it is asked.
    room: AtomicUsize,
    /// It was asked, and takes none.
    full: AtomicBool,
}

impl Line {
    /// Would the end of the connection cut a body short? Then it is reset, not closed, so that no client takes the end for
    /// that of a whole file, not even where the end of the connection is the end of the body (HTTP/1.0).
    pub fn is_armed(&self) -> bool {
        self.0.armed.load(Ordering::Acquire)
    }

    /// From the first byte of a body until it is whole, however its connection comes to end in between.
    pub(in crate::wire) fn arm(&self, armed: bool) {
        self.0.armed.store(armed, Ordering::Release);
    }

    /// How many bytes the client takes at once. Pending until the connection has looked, which it does when it has written
    /// all it was given; it polls the body again then, so no waker is kept here.
    pub(super) fn poll_room(&self) -> Poll<usize> {
        match self.0.room.swap(0, Ordering::AcqRel) {
            0 => {
                self.0.asked.store(true, Ordering::Release);
                Poll::Pending
            }
            room => Poll::Ready(room),
        }
    }

    /// Did the connection look, and the client take nothing?
    pub(super) fn is_full(&self) -> bool {
        self.0.full.load(Ordering::Acquire)
    }

    /// Does the body wait for [`Self::tell`]?
    #[cfg(feature = "server")]
    pub(in crate::wire) fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Acquire)
    }

    /// The connection takes so many bytes at once; none, if it is full. True if that is news, which the body has to hear.
    #[cfg(feature = "server")]
    pub(in crate::wire) fn tell(&self, room: Option<usize>) -> bool {
        let was_full = self.0.full.swap(room.is_none(), Ordering::AcqRel);
        match room {
            Some(room) => {
                self.0.asked.store(false, Ordering::Release);
                self.0.room.store(room, Ordering::Release);
                true
            }
            None => !was_full,
        }
    }
}
