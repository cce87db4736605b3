//! A body on its way in: read piece by piece, each no longer than whoever takes it has room for, and no byte beyond its
//! end. Then its connection is free for the next request.

mod chunks;

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Version;
use http::header::{self, HeaderMap};

use super::pool::{Place, Pool};
use super::stream::Stream;
use crate::gate::headers::only;
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
    /// What can be read in two ways is read as ending with its connection; `head::check_framing` refuses it.
    pub(super) fn of(version: Version, headers: &HeaderMap) -> Self {
        if headers.contains_key(header::TRANSFER_ENCODING) {
            let chunked = only(headers, &header::TRANSFER_ENCODING)
                .is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
            let plain = version == Version::HTTP_11 && !headers.contains_key(header::CONTENT_LENGTH);
            return if chunked && plain { Self::Chunked(Chunks::default()) } else { Self::Close };
        }
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| {
            let text = value.to_str().ok()?;
            // `parse` would take a sign.
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
        });
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
    home: Option<(Arc<Pool>, Place)>,
}

impl Incoming {
    pub(super) fn new(stream: Stream, read: BytesMut, framing: Framing, kept: bool) -> Self {
        // What is empty may still hold on to the memory that was read into.
        let read = if read.is_empty() { BytesMut::new() } else { read };
        Self { stream: Some(stream), read, framing, kept, home: None }
    }

    /// Where the connection belongs when the body is over.
    pub(super) fn at_home_in(&mut self, pool: &Arc<Pool>, place: Place) {
        self.home = Some((Arc::clone(pool), place));
        self.free();
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
                self.read = stream.read(most).await?;
                if self.read.is_empty() {
                    self.stream = None;
                    return match self.framing {
                        Framing::Close => Ok(None),
                        _ => Err(io::Error::new(
                            io::ErrorKind::UnexpectedEof,
                            "the connection ended before the body did",
                        )),
                    };
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

    /// Takes from what was read what belongs to the body; `None` if all of it was framing.
    fn split(&mut self, most: usize) -> io::Result<Option<Bytes>> {
        // How much of the body comes next; a chunk's line is behind us then.
        let next = match &mut self.framing {
            Framing::Length(left) => *left,
            Framing::Chunked(chunks) => match chunks.step(&mut self.read)? {
                Step::Data(left) => left,
                Step::More => return Ok(None),
            },
            Framing::Close => u64::MAX,
        };
        let most = most.max(1).min(self.read.len());
        let length = usize::try_from(next).map_or(most, |next| most.min(next));
        match &mut self.framing {
            Framing::Length(left) => *left -= length as u64,
            Framing::Chunked(chunks) => chunks.passed(length as u64),
            Framing::Close => {}
        }
        if length == self.read.len() {
            // An empty rest would hold on to the memory that was read into.
            return Ok(Some(std::mem::take(&mut self.read).freeze()));
        }
        Ok(Some(self.read.split_to(length).freeze()))
    }

    /// The body is over: the connection is kept, unless it said otherwise or says more than it was asked.
    fn free(&mut self) {
        if !self.framing.is_over() {
            return;
        }
        let Some(stream) = self.stream.take() else { return };
        if let Some((pool, place)) = self.home.take()
            && self.kept
            && self.read.is_empty()
        {
            pool.put(place, stream);
        }
        self.read = BytesMut::new();
    }
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
