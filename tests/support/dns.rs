//! A name server under the test's control, over UDP and TCP on one port.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Watched;

/// The largest answer over UDP; a larger one is cut, so that the resolver asks over TCP (RFC 1035 section 4.2.1).
const MAX_UDP: usize = 512;
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// How many queries for this name and type came before it.
    pub(crate) number: usize,
    /// In lower case, without the final dot.
    pub(crate) name: String,
    kind: u16,
}

impl Query {
    pub(crate) fn is_a(&self) -> bool {
        self.kind == A
    }

    pub(crate) fn is_aaaa(&self) -> bool {
        self.kind == AAAA
    }

    /// Those of these addresses that are of the type asked for.
    pub(crate) fn addresses(&self, ips: &[&str]) -> Reply {
        let ips = ips.iter().map(|ip| ip.parse::<IpAddr>().unwrap());
        let fitting = ips.filter(|ip| if ip.is_ipv4() { self.is_a() } else { self.is_aaaa() });
        Reply::Records(fitting.map(|ip| Record::Address(self.name.clone(), ip)).collect())
    }
}

/// One resource record.
#[derive(Debug, Clone)]
pub(crate) enum Record {
    Address(String, IpAddr),
    Cname(String, String),
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Records(Vec<Record>),
    NxDomain,
    ServFail,
    Silence,
    /// An answer with another id than the query's.
    WrongId(Vec<Record>),
}

type Script = dyn Fn(&Query) -> Reply + Send + Sync;

/// The name server.
pub(crate) struct Dns {
    address: SocketAddr,
    asked: Arc<Watched<Vec<Query>>>,
    stop: Arc<AtomicBool>,
}

impl Dns {
    pub(crate) fn start(script: impl Fn(&Query) -> Reply + Send + Sync + 'static) -> Self {
        let (udp, tcp) = bind();
        let address = udp.local_addr().unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (asked, stop) = (Watched::new(Vec::new()), Arc::new(AtomicBool::new(false)));
        let server = Arc::new(Server { script: Box::new(script), asked: Arc::clone(&asked) });
        let (over_udp, stopped) = (Arc::clone(&server), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut packet = [0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((count, peer)) = udp.recv_from(&mut packet) else { continue };
                if let Some(answer) = over_udp.answer(&packet[..count], MAX_UDP) {
                    let _ = udp.send_to(&answer, peer);
                }
            }
        });
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = tcp.accept() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let server = Arc::clone(&server);
                std::thread::spawn(move || while server.over_tcp(&stream).is_some() {});
            }
        });
        Self { address, asked, stop }
    }

    /// For `origin.resolver`.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was asked so far.
    pub(crate) fn queries(&self) -> Vec<Query> {
        self.asked.lock().clone()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

/// One port for both. Another process may hold the TCP port that belongs to a free UDP port.
fn bind() -> (UdpSocket, TcpListener) {
    (0..100)
        .find_map(|_| {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            let tcp = TcpListener::bind(udp.local_addr().unwrap()).ok()?;
            Some((udp, tcp))
        })
        .expect("a port that is free for UDP and TCP")
}

struct Server {
    script: Box<Script>,
    asked: Arc<Watched<Vec<Query>>>,
}

impl Server {
    fn over_tcp(&self, mut stream: &TcpStream) -> Option<()> {
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut packet).ok()?;
        let answer = self.answer(&packet, usize::from(u16::MAX))?;
        stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).ok()?;
        stream.write_all(&answer).ok()
    }

    fn answer(&self, packet: &[u8], most: usize) -> Option<Vec<u8>> {
        let (name, end) = read_name(packet, 12)?;
        let kind = u16::from_be_bytes([*packet.get(end)?, *packet.get(end + 1)?]);
        let question = packet.get(12..end + 4)?;
        let query = self.asked.change(|asked| {
            let number = asked.iter().filter(|query| query.name == name && query.kind == kind).count();
            asked.push(Query { number, name, kind });
            asked[asked.len() - 1].clone()
        });
        let mut id = [packet[0], packet[1]];
        let (code, records) = match (self.script)(&query) {
            Reply::Silence => return None,
            Reply::NxDomain => (3, Vec::new()),
            Reply::ServFail => (2, Vec::new()),
            Reply::Records(records) => (0, records),
            Reply::WrongId(records) => {
                id[0] ^= 0xff;
                (0, records)
            }
        };
        let whole = message(id, code, question, &records);
        // Bit TC, no records: ask again over TCP.
        Some(if whole.len() > most { message_with(id, [0x87, 0x80], question, &[]) } else { whole })
    }
}

fn message(id: [u8; 2], code: u8, question: &[u8], records: &[Record]) -> Vec<u8> {
    message_with(id, [0x85, 0x80 | code], question, records)
}

fn message_with(id: [u8; 2], flags: [u8; 2], question: &[u8], records: &[Record]) -> Vec<u8> {
    let count = u16::try_from(records.len()).unwrap().to_be_bytes();
    let mut out = [&id[..], &flags, &[0, 1], &count, &[0; 4], question].concat();
    let asked = read_name(question, 0).unwrap_or_default().0;
    for record in records {
        let (owner, kind, data) = match record {
            Record::Address(owner, IpAddr::V4(ip)) => (owner, A, ip.octets().to_vec()),
            Record::Address(owner, IpAddr::V6(ip)) => (owner, AAAA, ip.octets().to_vec()),
            Record::Cname(owner, to) => (owner, CNAME, wire_name(to)),
        };
        // A pointer to the question keeps thousands of records within one message.
        out.extend(if *owner == asked { vec![0xc0, 12] } else { wire_name(owner) });
        out.extend(kind.to_be_bytes());
        // Class IN, and a life of 0 seconds: every look-up asks again.
        out.extend([0, 1, 0, 0, 0, 0]);
        out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        out.extend(data);
    }
    out
}

fn wire_name(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out
}

/// The name at `at` and where it ends.
fn read_name(packet: &[u8], mut at: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*packet.get(at)?);
        if length == 0 {
            return Some((labels.join("."), at + 1));
        }
        let label = packet.get(at + 1..=at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length + 1;
    }
}
