//! A client's HTTP/1 connection as a body sees it, and a body as its connection sees it. Both are polled by one task.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use crate::wire::origin::{FIRST, WIDE};
use crate::wire::splice::Pipe;

/// Between a connection and the body that is under way on it.
#[derive(Debug, Clone, Default)]
pub struct Line(Arc<State>);

#[derive(Debug, Default)]
struct State {
    armed: AtomicBool,
    /// Is the client told no length that says where the body ends?
    open: AtomicBool,
    /// Is a request under way?
    #[cfg(feature = "server")]
    busy: AtomicBool,
    /// Had the client gone when its request was read?
    #[cfg(feature = "server")]
    left: AtomicBool,
    /// Does the body wait to be told of room?
    asked: AtomicBool,
    /// Bytes that the client's socket takes at once; 0 until it is asked.
    room: AtomicUsize,
    /// It was asked, and takes none.
    full: AtomicBool,
    /// Did a write to the client take too long?
    stalled: AtomicBool,
    /// Is a body over, and does nobody know yet what the next one may begin with?
    over: AtomicBool,
    /// Bytes that the client's socket was seen to take at once after that body; 0 if nobody looked.
    ahead: AtomicUsize,
    /// What the next stand-in stands for.
    pipe: Mutex<Option<Pipe>>,
    /// Has that stand-in gone out of the body?
    due: AtomicBool,
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

    /// Whether the client is not told beforehand how long the body is that begins.
    pub(super) fn leave_open(&self, open: bool) {
        self.0.open.store(open, Ordering::Release);
    }

    /// May a client take the end of the connection for that of the body? Then even the end of the process must not look like one.
    #[cfg(feature = "server")]
    pub(in crate::wire) fn is_open(&self) -> bool {
        self.0.open.load(Ordering::Acquire)
    }

    /// A request has come, or its answer's body is gone.
    #[cfg(feature = "server")]
    pub(in crate::wire) fn occupy(&self, busy: bool) {
        self.0.busy.store(busy, Ordering::Release);
    }

    /// A request was read, and its client had gone already, or had not.
    #[cfg(feature = "server")]
    pub(in crate::wire) fn leave(&self, left: bool) {
        self.0.left.store(left, Ordering::Release);
    }

    /// Had the client gone when its request was read?
    #[cfg(feature = "server")]
    pub(in crate::wire) fn has_left(&self) -> bool {
        self.0.left.load(Ordering::Acquire)
    }

    /// Is a request under way?
    #[cfg(feature = "server")]
    pub(in crate::wire) fn is_busy(&self) -> bool {
        self.0.busy.load(Ordering::Acquire)
    }

    /// How many bytes the client takes at once. Pending until the connection has looked, which it does when it has written
    /// all it was given; it polls the body again then, so no waker is kept here.
    pub(in crate::wire) fn poll_room(&self) -> Poll<usize> {
        match self.0.room.swap(0, Ordering::AcqRel) {
            0 => {
                self.0.asked.store(true, Ordering::Release);
                Poll::Pending
            }
            room => Poll::Ready(room),
        }
    }

    /// The most bytes of the next body's first piece: what is read with its head, before the client is asked for room. Known
    /// once, since whoever takes it fills that room.
    pub(in crate::wire) fn first_piece(&self) -> usize {
        self.0.ahead.swap(0, Ordering::AcqRel).clamp(FIRST, WIDE)
    }

    /// The body is whole, and was of a size that lets expect another one that does not fit into the least of first pieces.
    pub(in crate::wire) fn end(&self) {
        self.0.over.store(true, Ordering::Release);
    }

    /// Has a body ended, and is the connection to [look ahead](Self::look_ahead)? Says so once.
    #[cfg(feature = "server")]
    pub(in crate::wire) fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Acquire) && self.0.over.swap(false, Ordering::AcqRel)
    }

    /// All of the body was written, and now the socket takes so many bytes at once.
    #[cfg(feature = "server")]
    pub(in crate::wire) fn look_ahead(&self, room: usize) {
        self.0.ahead.store(room, Ordering::Release);
    }

    /// Lays down what the body's next piece stands for.
    ///
    /// # Errors
    /// What was laid down before was never taken up, so that its bytes would be missing.
    pub(in crate::wire) fn lay(&self, pipe: Pipe) -> io::Result<()> {
        match &mut *self.0.pipe.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(_) => Err(io::Error::other("the piece before was not passed on")),
            none => {
                *none = Some(pipe);
                Ok(())
            }
        }
    }

    /// The piece goes to the connection, which now has to take up what was laid down for it, if anything was.
    pub(in crate::wire) fn hand_over(&self) {
        let laid = self.0.pipe.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        self.0.due.store(laid, Ordering::Release);
    }

    /// What the stand-in that is to be written stands for.
    #[cfg(feature = "server")]
    pub(in crate::wire) fn take_up(&self) -> Option<Pipe> {
        self.0.due.store(false, Ordering::Release);
        self.0.pipe.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Was a stand-in given to the connection that it did not take up all of?
    #[cfg(feature = "server")]
    pub(in crate::wire) fn is_due(&self) -> bool {
        self.0.due.load(Ordering::Acquire)
    }

    /// Did the connection look, and the client take nothing?
    pub(super) fn is_full(&self) -> bool {
        self.0.full.load(Ordering::Acquire)
    }

    /// What was being written was not taken in time.
    #[cfg(feature = "server")]
    pub(in crate::wire) fn stall(&self) {
        self.0.stalled.store(true, Ordering::Release);
    }

    /// Did the connection end because the client took nothing for too long?
    pub(in crate::wire) fn has_stalled(&self) -> bool {
        self.0.stalled.load(Ordering::Acquire)
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
