//! Bytes from socket to socket: copied through a buffer, or moved by splice(2) through a pipe.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, TcpStream};

use super::Places;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Copy,
    Splice,
}

/// A connection to the upstream with what carries its bytes on.
struct Upstream {
    stream: TcpStream,
    buffer: Vec<u8>,
    pipe: Option<(OwnedFd, OwnedFd)>,
}

/// Connections to the upstream that nobody uses.
struct Pool {
    address: SocketAddr,
    how: How,
    size: usize,
    idle: RefCell<Vec<Upstream>>,
}

pub(super) async fn serve(listener: TcpListener, places: &Places, how: How, size: usize) {
    let pool = Rc::new(Pool { address: places.plain, how, size, idle: RefCell::default() });
    loop {
        let (client, _) = listener.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        let pool = Rc::clone(&pool);
        // It ends with an error when the client leaves in the middle.
        tokio::task::spawn_local(async move { pool.answer_all(client).await.ok() });
    }
}

impl Pool {
    async fn take(&self) -> io::Result<Upstream> {
        if let Some(kept) = self.idle.borrow_mut().pop() {
            return Ok(kept);
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        // Of what is spliced, only the first piece, which has the head in it, goes through memory.
        let buffer = vec![0; if self.how == How::Copy { self.size } else { 4096 }];
        let mut pipe = None;
        if self.how == How::Splice {
            let (from, into) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
            fcntl_setpipe_size(&into, self.size)?;
            pipe = Some((from, into));
        }
        Ok(Upstream { stream, buffer, pipe })
    }

    async fn answer_all(&self, mut client: TcpStream) -> io::Result<()> {
        let mut head = Vec::with_capacity(1024);
        loop {
            head.clear();
            while !head.ends_with(b"\r\n\r\n") {
                if client.read_buf(&mut head).await? == 0 {
                    return Ok(());
                }
            }
            let mut upstream = self.take().await?;
            upstream.stream.write_all(&head).await?;
            let left = upstream.begin(&mut client).await?;
            match upstream.pipe {
                None => upstream.copy(&mut client, left).await?,
                Some(_) => upstream.splice(&client, left).await?,
            }
            self.idle.borrow_mut().push(upstream);
        }
    }
}

impl Upstream {
    /// Passes the answer's head on, with what came with it; how much is left.
    async fn begin(&mut self, client: &mut TcpStream) -> io::Result<u64> {
        let mut filled = 0;
        loop {
            let got = self.stream.read(&mut self.buffer[filled..]).await?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += got;
            let read = &self.buffer[..filled];
            if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                client.write_all(read).await?;
                return Ok(length(&read[..end]) - (filled - end - 4) as u64);
            }
        }
    }

    async fn copy(&mut self, client: &mut TcpStream, mut left: u64) -> io::Result<()> {
        while left > 0 {
            let got = self.stream.read(&mut self.buffer).await?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            client.write_all(&self.buffer[..got]).await?;
            left -= got as u64;
        }
        Ok(())
    }

    async fn splice(&self, client: &TcpStream, mut left: u64) -> io::Result<()> {
        let (from, into) = self.pipe.as_ref().unwrap();
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(1 << 30);
            // The pipe is empty, so only the socket can make it wait.
            let mut held = moved(&self.stream, Interest::READABLE, &self.stream, into, most).await?;
            if held == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= held as u64;
            while held > 0 {
                held -= moved(client, Interest::WRITABLE, from, client, held).await?;
            }
        }
        Ok(())
    }
}

/// Splices once, as soon as `waits` is ready.
async fn moved(
    waits: &TcpStream,
    interest: Interest,
    from: &impl AsFd,
    into: &impl AsFd,
    most: usize,
) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    waits.async_io(interest, || Ok(splice(from, None, into, None, most, flags)?)).await
}

fn length(head: &[u8]) -> u64 {
    let head = std::str::from_utf8(head).unwrap();
    let line = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    line.unwrap().parse().unwrap()
}
