//! A body on its way in: read piece by piece, each no longer than whoever takes it has room for, and no byte beyond its
//! end. Then its connection is free for the next request.

mod chunks;

use std::io;
use std::sync::Arc;

use super::head::digits;
use super::pace::Pace;
use super::patience::Patience;
use super::pool::{Place, Pool};
use super::stream::{KEEN, Stream};
use crate::gate::fields::{self, Fields};
use crate::wire::body::Line;
use crate::wire::splice;
use bytes::{Buf as _, Bytes, BytesMut};
use chunks::{Chunks, Step};

/// Where a body ends (RFC 9112 section 6.3).
#[derive(Debug)]
pub(super) enum Framing {
    /// After so many more bytes.
    Length(u64),
    Chunked(Chunks),
    /// With its connection.
    Close,
}

impl Framing {
    /// What can be read in two ways (`head::check_framing`) is read as ending with its connection, which then serves nothing
    /// else; `head::vet` refuses it as a download.
    pub(super) fn of(has_one_meaning: bool, headers: &Fields) -> Self {
        if !has_one_meaning {
            return Self::Close;
        }
        if headers.contains(fields::TRANSFER_ENCODING) {
            return Self::Chunked(Chunks::default());
        }
        let length = headers.all(fields::CONTENT_LENGTH).next().and_then(digits);
        length.map_or(Self::Close, Self::Length)
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.is_over(),
            Self::Close => false,
        }
    }
}

/// A body, and the connection that it comes on.
pub(in crate::wire) struct Incoming {
    stream: Option<Stream>,
    /// Read with the head, or with a chunk's.
    read: BytesMut,
    framing: Framing,
    kept: bool,
    /// Has its window been opened?
    open: bool,
    pace: Pace,
    home: Option<(Arc<Pool>, Place, Patience)>,
    /// The client's connection, if it can be given bytes that do not pass through here.
    line: Option<Line>,
}

impl Incoming {
    pub(super) fn new(stream: Stream, read: BytesMut, framing: Framing, kept: bool) -> Self {
        // What is empty may still hold on to the memory that was read into.
        let read = if read.is_empty() { BytesMut::new() } else { read };
        Self {
            stream: Some(stream),
            read,
            framing,
            kept,
            open: false,
            pace: Pace::default(),
            home: None,
            line: None,
        }
    }

    /// Where the connection belongs when the body is over.
    pub(super) fn at_home_in(&mut self, pool: &Arc<Pool>, place: Place, patience: Patience) {
        self.home = Some((Arc::clone(pool), place, patience));
        self.free();
    }

    /// Where the body goes, piece by piece as they are asked for.
    pub(in crate::wire) fn bound_for(&mut self, line: &Line) {
        self.line = Some(line.clone());
    }

    /// How long the body is, if all of it came with its head.
    pub(in crate::wire) fn whole_length(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(left) if left > 0 && left == self.read.len() as u64 => Some(left),
            _ => None,
        }
    }

    /// How many bytes of it came with its head.
    pub(in crate::wire) fn came_along(&self) -> usize {
        self.read.len()
    }

    /// The body that came with its head, whole.
    pub(in crate::wire) fn whole(mut self) -> Option<Bytes> {
        self.whole_length()?;
        let bytes = std::mem::take(&mut self.read).freeze();
        self.framing = Framing::Length(0);
        self.free();
        Some(bytes)
    }

    /// The next piece, at most `most` bytes; `None` at the end. An error is a body that breaks off.
    pub(in crate::wire) async fn piece(&mut self, most: usize) -> io::Result<Option<Bytes>> {
        loop {
            if self.framing.is_over() {
                self.free();
                return Ok(None);
            }
            if self.read.is_empty() {
                let most = match &self.framing {
                    Framing::Length(left) => usize::try_from(*left).map_or(most, |left| most.min(left)),
                    Framing::Chunked(_) | Framing::Close => most,
                };
                let Some(stream) = &mut self.stream else { return Ok(None) };
                if most >= KEEN && !std::mem::replace(&mut self.open, true) {
                    stream.open_window();
                }
                if most >= KEEN
                    && let (Framing::Length(left), Some(line)) = (&mut self.framing, &self.line)
                    && let Some(length) = stream.pour(line, most).await?
                {
                    if length == 0 {
                        return self.ended();
                    }
                    *left = left.saturating_sub(length as u64);
                    self.free();
                    return Ok(splice::stand_in(length));
                }
                // Only a length says where the end is, which nothing shall keep waiting.
                if most >= KEEN && stream.is_tls() && matches!(self.framing, Framing::Length(_)) {
                    self.pace.keep().await;
                    self.read = stream.read(most).await?;
                    self.pace.saw(self.read.len(), most);
                } else {
                    self.read = stream.read(most).await?;
                }
                if self.read.is_empty() {
                    return self.ended();
                }
            }
            if let Some(piece) = self.split(most)? {
                if self.framing.is_over() {
                    self.free();
                }
                return Ok(Some(piece));
            }
        }
    }

    /// The connection said that nothing more comes.
    fn ended(&mut self) -> io::Result<Option<Bytes>> {
        self.stream = None;
        if let Framing::Close = self.framing {
            return Ok(None);
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended before the body did"))
    }

    /// Takes from what was read what belongs to the body; `None` if all of it was framing.
    fn split(&mut self, most: usize) -> io::Result<Option<Bytes>> {
        match &mut self.framing {
            Framing::Length(left) => {
                let most = usize::try_from(*left).map_or(most, |left| most.min(left));
                let piece = take(&mut self.read, most);
                *left -= piece.len() as u64;
                Ok(Some(piece))
            }
            Framing::Chunked(chunks) => gather(chunks, &mut self.read, most),
            Framing::Close => Ok(Some(take(&mut self.read, most))),
        }
    }

    /// The body is over: the connection is kept, unless it said otherwise or says more than it was asked.
    fn free(&mut self) {
        if !self.framing.is_over() {
            return;
        }
        let Some(stream) = self.stream.take() else { return };
        if let Some((pool, place, patience)) = self.home.take()
            && self.kept
            && self.read.is_empty()
        {
            pool.put(place, stream, patience);
        }
        self.read = BytesMut::new();
    }
}

/// The first bytes of what was read, at most `most` and at least one.
fn take(read: &mut BytesMut, most: usize) -> Bytes {
    if most >= read.len() {
        // An empty rest would hold on to the memory that was read into.
        return std::mem::take(read).freeze();
    }
    read.split_to(most.max(1)).freeze()
}

/// The data of as many chunks as are there, up to `most` bytes: an upstream that writes little chunks must not cost a call for
/// each. It is moved together where it lies, so that it takes no more room than what was read. `None` if there is none.
fn gather(chunks: &mut Chunks, read: &mut BytesMut, most: usize) -> io::Result<Option<Bytes>> {
    // What was found so far lies from `start` to `end`, and what was not looked at yet begins at `next`.
    let (mut start, mut end, mut next) = (0, 0, 0);
    let most = most.max(1);
    while end - start < most {
        let ahead = read.get(next..).unwrap_or_default();
        let (over, step) = chunks.step(ahead)?;
        next += over;
        let Step::Data(left) = step else { break };
        let here = (ahead.len() - over).min(most - (end - start));
        let length = usize::try_from(left).map_or(here, |left| here.min(left));
        chunks.passed(length as u64);
        if end == start {
            (start, end) = (next, next);
        }
        if end < next {
            read.copy_within(next..next + length, end);
        }
        (end, next) = (end + length, next + length);
    }
    let rest = read.split_off(next);
    let mut found = std::mem::replace(read, rest);
    if read.is_empty() {
        // What is empty would hold on to the memory that was read into.
        *read = BytesMut::new();
    }
    found.truncate(end);
    found.advance(start);
    Ok((!found.is_empty()).then(|| found.freeze()))
}

impl Drop for Incoming {
    /// What came with the head whole and was of no use, such as the body of a redirect, costs no connection.
    fn drop(&mut self) {
        if let Framing::Length(left) = self.framing
            && left == self.read.len() as u64
        {
            self.read.clear();
            self.framing = Framing::Length(0);
            self.free();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Version;
    use tokio::io::AsyncWriteExt as _;
    use tokio::time::Instant;

    use super::*;
    use crate::wire::origin::head::check_framing;
    use crate::wire::origin::stream::tests::connected;
    use crate::wire::origin::stream::{LARGE, SMALL};

    #[test]
    fn little_chunks_make_one_piece() {
        for (most, pieces) in
            [(100, &["abcde", "f"][..]), (2, &["ab", "cd", "e", "f"]), (0, &["a", "b", "c", "d", "e", "f"])]
        {
            let (mut chunks, mut found) = (Chunks::default(), Vec::new());
            for part in ["1\r\na\r\n2\r\nbc\r\n3\r\nde", "f\r\n0\r\n\r\n"] {
                let mut read = BytesMut::from(part);
                while let Some(piece) = gather(&mut chunks, &mut read, most).unwrap() {
                    found.push(piece);
                }
            }
            assert_eq!(
                (found, chunks.is_over()),
                (pieces.iter().map(|piece| Bytes::from(*piece)).collect(), true)
            );
        }
    }

    /// Chunks take no more memory than what was read, which a slow client would hold.
    #[test]
    fn chunks_are_joined_where_they_lie() {
        let mut read = BytesMut::with_capacity(100_000);
        while read.len() < 60_000 {
            read.extend_from_slice(b"10\r\n0123456789abcdef\r\n");
        }
        let (block, mut chunks) = (read.as_ptr() as usize, Chunks::default());
        let piece = gather(&mut chunks, &mut read, 100_000).unwrap().unwrap();
        assert!((block..block + 10).contains(&(piece.as_ptr() as usize)));
        assert!(piece.len() > 40_000 && piece.chunks(16).all(|part| part == b"0123456789abcdef"));
        assert_eq!(read.capacity(), 0);
    }

    /// How long each of five pieces of 1,000 bytes was waited for, which come as they are asked for; the last one is asked for by a
    /// client that takes little. The clock stands still but for who sleeps.
    async fn waits(framing: Framing) -> Vec<Duration> {
        let (near, mut far) = connected(2).await;
        let mut body = Incoming::new(near, BytesMut::new(), framing, false);
        let mut waits = Vec::new();
        for most in [LARGE, LARGE, LARGE, LARGE, SMALL] {
            far.write_all(&[b'x'; 1000]).await.unwrap();
            far.flush().await.unwrap();
            let start = Instant::now();
            assert_eq!(body.piece(most).await.unwrap().map(|piece| piece.len()), Some(1000));
            waits.push(start.elapsed());
        }
        waits
    }

    #[tokio::test(start_paused = true)]
    async fn small_pieces_of_a_known_length_are_let_grow_for_who_takes_large_ones() {
        let (none, some) = (Duration::ZERO, Duration::from_millis(1));
        assert_eq!(waits(Framing::Length(10_000_000)).await, [none, none, none, some, none]);
        assert_eq!(waits(Framing::Close).await, [none; 5]);
        // Its end is near.
        assert_eq!(waits(Framing::Length(200_000)).await, [none; 5]);
    }

    #[test]
    fn what_contradicts_itself_ends_with_its_connection() {
        for fields in [
            &[("content-length", "0"), ("content-length", "42")][..],
            &[("content-length", "+1")],
            &[("transfer-encoding", "chunked"), ("content-length", "1")],
            &[("transfer-encoding", "gzip, chunked")],
        ] {
            let headers = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
            let checked = check_framing(Version::HTTP_11, &headers);
            assert!(matches!(Framing::of(checked.is_ok(), &headers), Framing::Close), "{fields:?}");
        }
    }
}
