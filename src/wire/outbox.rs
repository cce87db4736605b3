//! What the connections of a thread say within a turn leaves at its end, one after the other: small requests to upstreams, and
//! small answers that are whole. A call that sends is long, and has whoever listens woken; between two of them nobody falls
//! asleep again, and neither its code nor the gateway's is driven from the cache by the other's (ADR 0034).

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, BytesMut};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::SendFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// The most bytes that wait on one thread; what comes then makes all of them leave.
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "only a server has turns"))]
const MOST: usize = 64 * 1024;

/// No signal where the other side has gone.
const FLAGS: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// What waits on a thread.
struct Outbox {
    /// One behind the other.
    bytes: Vec<u8>,
    letters: Vec<Letter>,
    /// Who sends it all at the end of the turn; nobody keeps an outbox without that.
    keeper: Option<Waker>,
    /// Was the keeper told that something waits?
    told: bool,
}

/// Bytes of one connection.
struct Letter {
    sender: Arc<Sender>,
    place: Range<usize>,
    /// Who is to hear of it if they cannot leave.
    waker: Waker,
}

thread_local! {
    static OUTBOX: RefCell<Outbox> = const {
        RefCell::new(Outbox { bytes: Vec::new(), letters: Vec::new(), keeper: None, told: false })
    };
}

/// A connection that may leave what it says to the outbox. Whatever else it writes comes behind that.
pub(in crate::wire) struct Outlet {
    reader: OwnedReadHalf,
    sender: Arc<Sender>,
}

/// The half of a connection that the outbox has too while something waits there.
struct Sender {
    /// `None` while it is dropped.
    half: Option<OwnedWriteHalf>,
    /// How many letters wait.
    waiting: AtomicUsize,
    /// Is there something that could not leave?
    stuck: AtomicBool,
    left: Mutex<Left>,
    /// Was the connection given up?
    gone: AtomicBool,
}

/// What could not leave with the rest.
#[derive(Default)]
struct Left {
    bytes: BytesMut,
    error: Option<io::Error>,
}

impl Outlet {
    pub(in crate::wire) fn new(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        let (waiting, stuck, left, gone) = Default::default();
        Self { reader, sender: Arc::new(Sender { half: Some(writer), waiting, stuck, left, gone }) }
    }

    pub(in crate::wire) fn socket(&self) -> &TcpStream {
        self.reader.as_ref()
    }

    /// Leaves what `write` appends to the outbox: how many bytes that is; gives `write` back if there is none to leave it to, and
    /// where the connection has to be written to itself first. What becomes of them is seen by whoever reads or writes next.
    pub(in crate::wire) fn leave<W: FnOnce(&mut Vec<u8>)>(
        &self,
        cx: &Context<'_>,
        write: W,
    ) -> Result<usize, W> {
        if self.sender.stuck.load(Ordering::Acquire) {
            return Err(write);
        }
        let is_full = OUTBOX.try_with(|outbox| outbox.borrow().bytes.len() >= MOST);
        if is_full.unwrap_or(false) {
            send_all();
        }
        let mut write = Some(write);
        let left = OUTBOX.try_with(|outbox| {
            let mut outbox = outbox.borrow_mut();
            let Outbox { bytes, letters, keeper: Some(keeper), told } = &mut *outbox else { return None };
            let begin = bytes.len();
            write.take()?(bytes);
            self.sender.count(1);
            letters.push(Letter {
                sender: Arc::clone(&self.sender),
                place: begin..bytes.len(),
                waker: cx.waker().clone(),
            });
            if !std::mem::replace(told, true) {
                keeper.wake_by_ref();
            }
            Some(bytes.len() - begin)
        });
        match (left.ok().flatten(), write) {
            (None, Some(write)) => Err(write),
            (left, _) => Ok(left.unwrap_or(0)),
        }
    }

    /// Sends what was left to the outbox, as far as the system takes it at once: is that all?
    pub(in crate::wire) fn send_now(&self) -> bool {
        if self.sender.waiting.load(Ordering::Acquire) > 0 {
            send_all();
        }
        self.has_sent()
    }

    /// Has all left by now that was left to the outbox?
    pub(in crate::wire) fn has_sent(&self) -> bool {
        self.sender.waiting.load(Ordering::Acquire) == 0 && !self.sender.stuck.load(Ordering::Acquire)
    }

    /// Until all has left that was left to the outbox.
    pub(in crate::wire) fn poll_sent(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.send_now() {
            return Poll::Ready(Ok(()));
        }
        if self.sender.waiting.load(Ordering::Acquire) > 0 {
            // Only if it had come to another thread, which it does not.
            return Poll::Ready(Err(io::Error::other("what was said before waits elsewhere")));
        }
        self.poll_unstick(cx)
    }

    fn poll_unstick(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut left = self.sender.left();
        if let Some(error) = left.error.take() {
            // Once in its own words, and then whenever it is asked.
            left.error = Some(error.kind().into());
            return Poll::Ready(Err(error));
        }
        while !left.bytes.is_empty() {
            match ready!(poll_write(self.socket(), cx, &[IoSlice::new(&left.bytes)])) {
                Ok(sent) => left.bytes.advance(sent),
                Err(error) => {
                    left.error = Some(error.kind().into());
                    return Poll::Ready(Err(error));
                }
            }
        }
        left.bytes = BytesMut::new();
        self.sender.stuck.store(false, Ordering::Release);
        Poll::Ready(Ok(()))
    }
}

impl Sender {
    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only the thread counts that the connection is served by, so others are not locked out. Who sees none sees what became of them.
    fn count(&self, letters: isize) {
        let waiting = self.waiting.load(Ordering::Relaxed).saturating_add_signed(letters);
        self.waiting.store(waiting, Ordering::Release);
    }

    /// Sends `bytes`, behind what did not leave before. False if something is left.
    fn send(&self, bytes: &[u8]) -> bool {
        let mut left = None;
        if self.stuck.load(Ordering::Acquire) {
            left = Some(self.left());
        }
        let sent = match (&left, &self.half) {
            // Past tokio, which asks first whether the socket takes any: it does, as a rule, and the less lies between two calls the
            // less each of them costs.
            (None, Some(half)) => retry_on_intr(|| rustix::net::send(half.as_ref(), bytes, FLAGS)),
            _ => Ok(0),
        };
        let sent = match sent {
            Ok(sent) if sent == bytes.len() => {
                self.count(-1);
                return true;
            }
            Ok(sent) => sent,
            Err(Errno::AGAIN) => 0,
            Err(error) => {
                left.get_or_insert_with(|| self.left()).error = Some(error.into());
                0
            }
        };
        let mut left = left.unwrap_or_else(|| self.left());
        left.bytes.extend_from_slice(bytes.get(sent..).unwrap_or_default());
        self.stuck.store(true, Ordering::Release);
        self.count(-1);
        false
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.sender.gone.store(true, Ordering::Release);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // Else tokio says to the other side that all was said, which is not true of a connection that is about to be reset.
        if let Some(half) = self.half.take() {
            half.forget();
        }
    }
}

/// Sends what waits on this thread.
fn send_all() {
    let _ = OUTBOX.try_with(|outbox| {
        let (bytes, mut letters) = {
            let mut outbox = outbox.borrow_mut();
            outbox.told = false;
            (std::mem::take(&mut outbox.bytes), std::mem::take(&mut outbox.letters))
        };
        for Letter { sender, place, waker } in letters.drain(..) {
            let letter = bytes.get(place).unwrap_or_default();
            // Nobody waits for the answer to what a connection left that was given up.
            if !sender.gone.load(Ordering::Acquire) && !sender.send(letter) {
                waker.wake();
            }
        }
        let mut outbox = outbox.borrow_mut();
        // Unless somebody who was woken, or dropped, left something meanwhile.
        if outbox.letters.is_empty() {
            outbox.bytes = bytes;
            outbox.bytes.clear();
            outbox.letters = letters;
        }
    });
}

/// Sends what waits on this thread at the end of each turn, for as long as it is polled. Only a runtime whose tasks stay on their
/// thread has an outbox; on another one this ends at once, and every connection writes for itself.
#[cfg(feature = "server")]
pub(in crate::wire) async fn keep() {
    /// Nobody keeps it any more.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            let _ = OUTBOX.try_with(|outbox| outbox.borrow_mut().keeper = None);
            send_all();
        }
    }
    if tokio::runtime::Handle::current().runtime_flavor() != tokio::runtime::RuntimeFlavor::CurrentThread {
        return;
    }
    let _end = End;
    std::future::poll_fn(|cx| {
        let _ = OUTBOX.try_with(|outbox| {
            let keeper = &mut outbox.borrow_mut().keeper;
            if !keeper.as_ref().is_some_and(|keeper| keeper.will_wake(cx.waker())) {
                *keeper = Some(cx.waker().clone());
            }
        });
        // Behind every task that was to be run when the first letter came, and so at the end of the turn.
        send_all();
        Poll::<()>::Pending
    })
    .await;
}

/// Writes what the socket takes. Where it takes less than all it is full, and is not asked again before it says that it is not.
fn poll_write(socket: &TcpStream, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
    let length: usize = bufs.iter().map(|buf| buf.len()).sum();
    loop {
        ready!(socket.poll_write_ready(cx))?;
        let mut written = None;
        let tried = socket.try_io(Interest::WRITABLE, || {
            let count = match bufs {
                [buf] => retry_on_intr(|| rustix::net::send(socket, buf, FLAGS)),
                bufs => retry_on_intr(|| rustix::io::writev(socket, bufs)),
            }?;
            written = Some(count);
            if count < length { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match (written, tried) {
            (Some(count), _) => return Poll::Ready(Ok(count)),
            (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
            (None, tried) => return Poll::Ready(tried.map(|()| 0)),
        }
    }
}

impl AsyncRead for Outlet {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.sender.stuck.load(Ordering::Acquire)
            && let Poll::Ready(Err(error)) = this.poll_unstick(cx)
        {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut this.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for Outlet {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_sent(cx))?;
        poll_write(self.socket(), cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What waits for the end of the turn is as good as sent; what is stuck is not.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.sender.stuck.load(Ordering::Acquire) { self.poll_unstick(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(cx))?;
        Poll::Ready(match rustix::net::shutdown(self.socket(), rustix::net::Shutdown::Write) {
            Ok(()) | Err(Errno::NOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        })
    }
}

#[cfg(test)]
#[cfg(feature = "server")]
mod tests {
    use std::future::poll_fn;

    use rustix::net::RecvFlags;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::{JoinHandle, yield_now};

    use super::*;
    use crate::wire::splice::pair;

    /// This thread's outbox, kept.
    async fn kept() -> JoinHandle<()> {
        let keeper = tokio::spawn(keep());
        yield_now().await;
        keeper
    }

    /// Leaves `text`: is there an outbox for it?
    async fn leave(outlet: &Outlet, text: &[u8]) -> bool {
        let left = |cx: &mut Context<'_>| outlet.leave(cx, |bytes| bytes.extend_from_slice(text)).ok();
        poll_fn(|cx| Poll::Ready(left(cx))).await == Some(text.len())
    }

    /// What has come, without waiting for it.
    fn there(stream: &TcpStream) -> Vec<u8> {
        let mut text = vec![0; 1000];
        let length =
            rustix::net::recv(stream, &mut text, RecvFlags::DONTWAIT).map_or(0, |(_, length)| length);
        text.truncate(length);
        text
    }

    #[tokio::test]
    async fn what_is_said_in_a_turn_leaves_at_its_end() {
        let keeper = kept().await;
        let ((one, far_one), (two, far_two)) = (pair().await, pair().await);
        let (mut one, two) = (Outlet::new(one), Outlet::new(two));
        assert!(leave(&one, b"a").await && leave(&two, b"b").await && leave(&one, b"c").await);
        one.flush().await.unwrap();
        assert_eq!((there(&far_one), there(&far_two)), (vec![], vec![]));
        yield_now().await;
        assert_eq!((there(&far_one), there(&far_two)), (b"ac".to_vec(), b"b".to_vec()));
        // What is written comes behind what was left, and so does the end.
        assert!(leave(&one, b"d").await);
        one.write_all(b"e").await.unwrap();
        assert_eq!(there(&far_one), b"de");
        assert!(leave(&one, b"f").await);
        one.shutdown().await.unwrap();
        assert_eq!(there(&far_one), b"f");
        keeper.abort();
        assert!(keeper.await.is_err());
        assert!(!leave(&two, b"g").await, "nobody would send it");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn whoever_may_change_its_thread_has_no_outbox() {
        keep().await;
        let (near, _far) = pair().await;
        assert!(!leave(&Outlet::new(near), b"a").await);
    }

    #[tokio::test]
    async fn what_the_system_does_not_take_waits_for_the_connection() {
        let _keeper = kept().await;
        let (near, mut far) = pair().await;
        near.writable().await.unwrap();
        let mut expected = Vec::new();
        while let Ok(sent) = near.try_write(&[b'a'; 10_000]) {
            expected.resize(expected.len() + sent, b'a');
        }
        let mut near = Outlet::new(near);
        assert!(leave(&near, b"first ").await && leave(&near, b"second ").await);
        assert!(!near.send_now() && !leave(&near, b"none").await);
        expected.extend_from_slice(b"first second third");
        // The one who only reads sends it as well.
        let mut none = [0; 1];
        let read = near.read(&mut none);
        tokio::pin!(read);
        assert!(futures_util::poll!(&mut read).is_pending());
        let mut got = vec![0; expected.len() - b"third".len()];
        let taken = far.read_exact(&mut got);
        tokio::select! {
            _ = &mut read => panic!("nothing was sent to read"),
            taken = taken => assert_eq!(taken.unwrap(), got.len()),
        }
        assert!(near.send_now());
        near.write_all(b"third").await.unwrap();
        far.read_buf(&mut got).await.unwrap();
        assert!(got == expected);
    }

    #[tokio::test]
    async fn who_cannot_send_hears_of_it() {
        let _keeper = kept().await;
        let (near, far) = pair().await;
        let mut near = Outlet::new(near);
        far.set_zero_linger().unwrap();
        drop(far);
        assert!(leave(&near, b"a").await);
        yield_now().await;
        for _ in 0..2 {
            assert!(near.read(&mut [0; 1]).await.is_err());
            assert!(near.write_all(b"b").await.is_err() && near.flush().await.is_err());
        }
    }

    /// Nobody waits for its answer any more.
    #[tokio::test]
    async fn what_a_connection_left_that_is_gone_is_not_sent() {
        let _keeper = kept().await;
        let (near, mut far) = pair().await;
        let near = Outlet::new(near);
        assert!(leave(&near, b"a").await && leave(&near, b"b").await);
        drop(near);
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert!(got.is_empty());
    }

    #[tokio::test]
    async fn an_outbox_that_is_full_does_not_wait() {
        let _keeper = kept().await;
        let (near, far) = pair().await;
        let near = Outlet::new(near);
        for _ in 0..=MOST / 1000 {
            assert!(leave(&near, &[b'a'; 1000]).await && there(&far).is_empty());
        }
        assert!(leave(&near, &[b'b'; 10]).await);
        assert_eq!(there(&far), [b'a'; 1000]);
    }
}
