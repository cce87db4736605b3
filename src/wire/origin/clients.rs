//! HTTP clients that follow nothing, decode nothing, use no proxy and connect only to vetted addresses; one per
//! upstream port, each with its own pool.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Certificate, Client, redirect};

use super::resolve::{Names, PortResolver, ResolveFault};
use crate::gate::fault::UpstreamFault;
use crate::gate::target::Target;

/// Ports whose client is kept. Policies list ports, so more than these are rare; they get a client for one request.
const MAX_KEPT: usize = 64;
const IDLE_CONNECTION: Duration = Duration::from_secs(60);
const MAX_RESPONSE_HEADERS: usize = 100;
const MAX_RESPONSE_HEAD_BYTES: u32 = 64 * 1024;

/// The port of a URL. A written one is connected to whatever the resolver says; a scheme's own yields to the resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct UrlPort {
    pub(super) number: u16,
    pub(super) written: bool,
}

impl UrlPort {
    fn of(target: &Target) -> Self {
        Self { number: target.port(), written: target.url().port().is_some() }
    }
}

pub(super) struct Clients {
    names: Arc<Names>,
    ca: Vec<Certificate>,
    connect_timeout: Duration,
    by_port: Mutex<HashMap<UrlPort, Client>>,
}

impl Clients {
    pub(super) fn new(
        names: Names,
        ca_file: Option<&Path>,
        connect_timeout: Duration,
    ) -> Result<Self, String> {
        let ca = ca_file.map(read_certificates).transpose()?.unwrap_or_default();
        let clients = Self { names: Arc::new(names), ca, connect_timeout, by_port: Mutex::default() };
        clients
            .build(UrlPort { number: 443, written: false })
            .map_err(|error| format!("cannot set up the upstream client: {error}"))?;
        Ok(clients)
    }

    /// The client for `target`, after the check that the resolver cannot make: it is not asked for IP literals.
    pub(super) fn for_target(&self, target: &Target) -> Result<Client, UpstreamFault> {
        if let Some(ip) = target.ip() {
            self.names.vet(ip, target.port()).map_err(UpstreamFault::AddressNotAllowed)?;
        }
        let mut by_port = self.by_port.lock().unwrap_or_else(PoisonError::into_inner);
        let port = UrlPort::of(target);
        if let Some(client) = by_port.get(&port) {
            return Ok(client.clone());
        }
        let client = self.build(port).map_err(|error| UpstreamFault::Unreachable(error.to_string()))?;
        if by_port.len() < MAX_KEPT {
            by_port.insert(port, client.clone());
        }
        Ok(client)
    }

    fn build(&self, port: UrlPort) -> reqwest::Result<Client> {
        Client::builder()
            .dns_resolver(PortResolver { names: Arc::clone(&self.names), port })
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
