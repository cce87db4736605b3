//! Bytes that go from an upstream's socket to a client's within the kernel, through a pipe (splice(2)). In the body a
//! stand-in of their length takes their place. Nobody ever writes it: a socket that is given it empties the pipe instead, and
//! ends its connection if there is none, or if one is left when all of a body was written.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::net::TcpStream;

use super::origin::LARGE;

/// How large a pipe is made, if the system allows it: `fs.pipe-max-size` as it comes. It counts in pages, of which a packet
/// may fill one with little.
const PIPE_BYTES: usize = 1024 * 1024;
/// How many empty pipes a thread keeps. One is in use at a time, unless a piece waits for its limits to be asked.
const KEPT: usize = 1;

thread_local! {
    static SPARE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// Set for good when the system knows no splice between sockets.
static UNABLE: AtomicBool = AtomicBool::new(false);

/// Pages that are never touched, and so are none.
static STAND_IN: LazyLock<&'static [u8]> = LazyLock::new(|| vec![0; LARGE].leak());

/// What stands in a body for `length` bytes that lie in a pipe; `None` if that is more than one takes.
pub(super) fn stand_in(length: usize) -> Option<Bytes> {
    STAND_IN.get(..length).map(Bytes::from_static)
}

/// Is that a part of what [`stand_in`] gave, itself and not its like?
#[cfg(feature = "server")]
pub(super) fn is_stand_in(bytes: &[u8]) -> bool {
    STAND_IN.as_ptr_range().contains(&bytes.as_ptr())
}

/// A pipe and how much lies in it.
#[derive(Debug)]
pub(super) struct Pipe {
    from: OwnedFd,
    into: OwnedFd,
    holds: usize,
}

impl Pipe {
    /// What `socket` has, at most `most` bytes, in a pipe; empty at the end of the stream.
    ///
    /// # Errors
    /// Those of the socket, `WouldBlock` among them; `Unsupported` if there is no pipe or no splice, and nothing was read.
    pub(super) fn fill(socket: &TcpStream, most: usize) -> io::Result<Self> {
        if UNABLE.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let spare = SPARE.with_borrow_mut(Vec::pop);
        let mut pipe = spare.map_or_else(Self::new, Ok).map_err(|_| io::ErrorKind::Unsupported)?;
        let most = most.min(LARGE);
        match retry_on_intr(|| splice(socket, None, &pipe.into, None, most, flags())) {
            Ok(read) => {
                pipe.holds = read;
                Ok(pipe)
            }
            Err(error @ (Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP)) => {
                if !UNABLE.swap(true, Ordering::Relaxed) {
                    tracing::warn!(reason = %error, "splice is refused here; large files are copied from now on");
                }
                Err(io::ErrorKind::Unsupported.into())
            }
            // Nothing was taken from the socket.
            Err(Errno::NOMEM | Errno::BADF) => Err(io::ErrorKind::Unsupported.into()),
            Err(error) => {
                pipe.keep();
                Err(error.into())
            }
        }
    }

    fn new() -> io::Result<Self> {
        let (from, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // A user with many pipes gets small ones (`fs.pipe-user-pages-soft`), which cost more than to read and write.
        if [PIPE_BYTES, LARGE].into_iter().any(|size| fcntl_setpipe_size(&into, size).is_ok()) {
            Ok(Self { from, into, holds: 0 })
        } else {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// How many bytes lie in it.
    pub(super) fn holds(&self) -> usize {
        self.holds
    }

    /// Keeps it for the next piece, if it is empty and not one too many.
    pub(super) fn keep(self) {
        if self.holds == 0 {
            SPARE.with_borrow_mut(|spare| {
                if spare.len() < KEPT {
                    spare.push(self);
                }
            });
        }
    }
}

#[cfg(feature = "server")]
impl Pipe {
    /// Passes at most `most` bytes on to `socket`, as many as it takes at once.
    pub(super) fn pass(&mut self, socket: &TcpStream, most: usize) -> io::Result<usize> {
        let most = most.min(self.holds);
        let passed = socket.try_io(tokio::io::Interest::WRITABLE, || {
            Ok(retry_on_intr(|| splice(&self.from, None, socket, None, most, flags()))?)
        })?;
        self.holds = self.holds.saturating_sub(passed);
        Ok(passed)
    }

    /// All that is left in it, read into memory: what waits for a client must not keep a pipe.
    pub(super) fn read(mut self) -> io::Result<Bytes> {
        let mut bytes = Vec::with_capacity(self.holds);
        while bytes.len() < self.holds {
            let read =
                retry_on_intr(|| rustix::io::read(&self.from, rustix::buffer::spare_capacity(&mut bytes)))?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.holds = 0;
        self.keep();
        Ok(bytes.into())
    }
}

fn flags() -> SpliceFlags {
    SpliceFlags::NONBLOCK | SpliceFlags::MOVE
}

/// The two ends of a connection, for tests.
#[cfg(test)]
pub(super) async fn pair() -> (TcpStream, TcpStream) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (here, there) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (here.unwrap(), there.unwrap().0)
}

#[cfg(test)]
#[cfg(feature = "server")]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn a_stand_in_is_known_by_its_place() {
        let whole = stand_in(LARGE).unwrap();
        assert!(
            is_stand_in(&whole) && is_stand_in(&whole[LARGE - 1..]) && is_stand_in(&stand_in(1).unwrap())
        );
        assert_eq!(stand_in(LARGE + 1), None);
        assert!(!is_stand_in(&vec![0; LARGE]) && !is_stand_in(&whole[LARGE..]) && !is_stand_in(b""));
    }

    #[tokio::test]
    async fn what_comes_passes_in_parts_and_the_rest_can_be_read() {
        let ((mut upstream, here), (there, mut client)) = (pair().await, pair().await);
        upstream.write_all(b"one two three").await.unwrap();
        drop(upstream);
        here.readable().await.unwrap();
        let mut pipe = Pipe::fill(&here, 8).unwrap();
        assert_eq!(pipe.holds(), 8);
        there.writable().await.unwrap();
        assert_eq!((pipe.pass(&there, 3).unwrap(), pipe.holds()), (3, 5));
        assert_eq!(pipe.read().unwrap(), " two "[..5]);
        // The pipe is used again, and nothing is left in it.
        let mut pipe = Pipe::fill(&here, LARGE).unwrap();
        assert_eq!(pipe.pass(&there, LARGE).unwrap(), 5);
        pipe.keep();
        let end = Pipe::fill(&here, LARGE).unwrap();
        assert_eq!(end.holds(), 0);
        drop(there);
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"onethree");
    }

    #[tokio::test]
    async fn nothing_there_is_no_end() {
        let (_upstream, here) = pair().await;
        let kept = || SPARE.with_borrow(Vec::len);
        for _ in 0..=KEPT {
            assert_eq!(Pipe::fill(&here, 1).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        assert_eq!(kept(), 1);
    }
}
