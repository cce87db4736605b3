//! A listener that nobody may connect to.

use std::net::{SocketAddr, TcpListener};

/// Fails the test if a TCP connection arrives before it is dropped.
pub(crate) struct Canary {
    listener: TcpListener,
}

impl Canary {
    /// Listens on a free port of `ip`.
    pub(crate) fn on(ip: &str) -> Self {
        Self::at(SocketAddr::new(ip.parse().unwrap(), 0))
    }

    pub(crate) fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { listener }
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
