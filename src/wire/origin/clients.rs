//! HTTP clients that follow nothing, decode nothing, use no proxy and connect only to vetted addresses.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use reqwest::{Certificate, Client, redirect};

use super::resolve::{Names, ReachResolver, ResolveFault};
use crate::gate::fault::UpstreamFault;
use crate::gate::target::Target;

const IDLE_CONNECTION: Duration = Duration::from_secs(60);
const MAX_RESPONSE_HEADERS: usize = 100;
const MAX_RESPONSE_HEAD_BYTES: u32 = 64 * 1024;

/// What the resolver must know of a URL besides its host: which exceptions of the operator's may count for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Reach {
    /// The port, if it is one that the operator named somewhere; all others are alike.
    pub(super) port: Option<u16>,
    /// A written port is connected to whatever the resolver says; a scheme's own yields to the resolver.
    pub(super) written: bool,
    /// Do the operator's exceptions count? Not for what only report mode lets through.
    pub(super) exceptions: bool,
}

/// One client per reach: as many as the operator's configuration names ports, whatever tenants ask for.
pub(super) struct Clients {
    names: Arc<Names>,
    ca: Vec<Certificate>,
    connect_timeout: Duration,
    ports: BTreeSet<u16>,
    by_reach: RwLock<HashMap<Reach, Client>>,
}

impl Clients {
    pub(super) fn new(
        names: Names,
        ca_file: Option<&Path>,
        connect_timeout: Duration,
    ) -> Result<Self, String> {
        let ca = ca_file.map(read_certificates).transpose()?.unwrap_or_default();
        let (ports, names) = (names.ports(), Arc::new(names));
        let clients = Self { names, ca, connect_timeout, ports, by_reach: RwLock::default() };
        let usual = Reach { port: None, written: false, exceptions: true };
        clients.client(usual).map_err(|error| format!("cannot set up the upstream client: {error}"))?;
        Ok(clients)
    }

    /// The client for `target`, after the check that the resolver cannot make: it is not asked for IP literals.
    pub(super) fn for_target(&self, target: &Target, exceptions: bool) -> Result<Client, UpstreamFault> {
        if let Some(ip) = target.ip() {
            self.names.vet(ip, target.port(), exceptions).map_err(UpstreamFault::AddressNotAllowed)?;
        }
        let port = Some(target.port()).filter(|port| self.ports.contains(port));
        let reach = Reach { port, written: target.url().port().is_some(), exceptions };
        self.client(reach).map_err(|error| UpstreamFault::Unreachable(error.to_string()))
    }

    fn client(&self, reach: Reach) -> reqwest::Result<Client> {
        if let Some(client) = self.by_reach.read().unwrap_or_else(PoisonError::into_inner).get(&reach) {
            return Ok(client.clone());
        }
        // Built outside the lock; if two do it at once, one of them is used.
        let client = self.build(reach)?;
        let mut by_reach = self.by_reach.write().unwrap_or_else(PoisonError::into_inner);
        Ok(by_reach.entry(reach).or_insert(client).clone())
    }

    fn build(&self, reach: Reach) -> reqwest::Result<Client> {
        Client::builder()
            .dns_resolver(ReachResolver { names: Arc::clone(&self.names), reach })
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(IDLE_CONNECTION)
            .tcp_nodelay(true)
            .http1_max_headers(MAX_RESPONSE_HEADERS)
            .http2_max_header_list_size(MAX_RESPONSE_HEAD_BYTES)
            .tls_certs_merge(self.ca.iter().cloned())
            .build()
    }
}

fn read_certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    let name = path.display();
    let pem = std::fs::read(path).map_err(|error| format!("cannot read `{name}`: {error}"))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(format!("`{name}` holds no certificate in PEM (`-----BEGIN CERTIFICATE-----`)")),
    }
}

/// Did the connection end before any byte of an answer? A kept connection may have been closed by the upstream just
/// when the next request went out (RFC 9112 section 9.3.1): such a GET or HEAD may be sent once more.
pub(super) fn is_cut_before_answer(error: &reqwest::Error) -> bool {
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = source {
        if let Some(cut) = inner.downcast_ref::<hyper::Error>()
            && (cut.is_incomplete_message() || cut.is_canceled())
        {
            return true;
        }
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
            return !error.is_connect()
                && matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset);
        }
        source = inner.source();
    }
    false
}

/// What an error before the response head means. Our own resolver's verdict travels as a source of it.
pub(super) fn fault_of(error: &reqwest::Error) -> UpstreamFault {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(fault) = inner.downcast_ref::<ResolveFault>() {
            return match fault {
                ResolveFault::NoAddress { name, .. } => UpstreamFault::Unresolvable(name.clone()),
                ResolveFault::Timeout(name) => UpstreamFault::ResolveTimeout(name.clone()),
                ResolveFault::NotAllowed { .. } => UpstreamFault::AddressNotAllowed(fault.to_string()),
            };
        }
        source = inner.source();
    }
    match (error.is_connect(), error.is_timeout()) {
        (true, true) => UpstreamFault::ConnectTimeout,
        (true, false) => UpstreamFault::Unreachable(reason(error)),
        (false, true) => UpstreamFault::FirstByteTimeout,
        (false, false) => UpstreamFault::Malformed(reason(error)),
    }
}

/// The innermost cause; the outer texts repeat the URL, whose query may hold another system's signature.
pub(in crate::wire) fn reason(error: &reqwest::Error) -> String {
    let mut source: &dyn Error = error;
    while let Some(inner) = source.source() {
        source = inner;
    }
    if std::ptr::eq(source, error as &dyn Error) { "request failed".to_owned() } else { source.to_string() }
}
