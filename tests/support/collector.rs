//! A collector of OpenTelemetry: takes exports by OTLP over HTTP and keeps their bytes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use super::Watched;

/// A running collector.
pub(crate) struct Collector {
    address: SocketAddr,
    taken: Arc<Watched<Taken>>,
}

#[derive(Default)]
struct Taken {
    /// Heads in lower case, and bodies.
    exports: Vec<(String, Vec<u8>)>,
    stopped: bool,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Watched::new(Taken::default());
        let shared = Arc::clone(&taken);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if shared.lock().stopped {
                    break;
                }
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || while take(&stream, &shared).is_some() {});
            }
        });
        Self { address, taken }
    }

    /// What the setting takes.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until what `found` looks for is among the exports.
    pub(crate) fn wait<R>(&self, mut found: impl FnMut(&[(String, Vec<u8>)]) -> Option<R>) -> R {
        let found = self.taken.wait(|taken| found(&taken.exports));
        found.unwrap_or_else(|| panic!("not among {} exports", self.taken.lock().exports.len()))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.taken.change(|taken| taken.stopped = true);
        drop(TcpStream::connect(self.address));
    }
}

/// One export; `None` when the connection is over.
fn take(stream: &TcpStream, taken: &Watched<Taken>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("no length");
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    let mut stream = stream;
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")
        .ok()?;
    taken.change(|taken| taken.exports.push((head, body)));
    Some(())
}
