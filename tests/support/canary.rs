//! A listener that nobody may connect to.

use std::net::{SocketAddr, TcpListener};

/// Fails the test if a TCP connection arrives before it is dropped.
pub(crate) struct Canary {
    listener: TcpListener,
}

impl Canary {
    /// Listens on a free port of `ip`.
    pub(crate) fn on(ip: &str) -> Self {
        Self::at((ip, 0)).expect("a free port")
    }

    /// Listens there, unless somebody does already.
    pub(crate) fn at(address: (&str, u16)) -> Option<Self> {
        let listener = TcpListener::bind(address).ok()?;
        listener.set_nonblocking(true).unwrap();
        Some(Self { listener })
    }

    /// Listens on one port of several addresses.
    pub(crate) fn on_one_port<const N: usize>(ips: [&str; N]) -> Vec<Self> {
        (0..100)
            .find_map(|_| {
                let first = Self::on(ips[0]);
                let port = first.port();
                let rest: Option<Vec<_>> = ips[1..].iter().map(|ip| Self::at((ip, port))).collect();
                Some([vec![first], rest?].into_iter().flatten().collect())
            })
            .expect("a port that is free on all addresses")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address().port()
    }
}

impl Drop for Canary {
    /// A connection waits in the backlog until it is accepted, so looking once at the end misses none.
    fn drop(&mut self) {
        let touched = self.listener.accept().is_ok();
        assert!(!touched || std::thread::panicking(), "the canary on {} was connected to", self.address());
    }
}
