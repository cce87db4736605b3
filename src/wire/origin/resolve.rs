//! Names to addresses that may be connected to. The answer is vetted before anyone connects, and the connection goes to
//! the vetted address itself, so that DNS cannot change its mind in between.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver, TokioResolver};
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use super::connect::Reach;
use crate::gate::address::OpenAddresses;

/// The most addresses of one name that are looked at.
const MAX_ADDRESSES: usize = 64;

/// Why a name cannot be connected to. Travels through the HTTP client as an error source.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum ResolveFault {
    #[error("`{name}` has no address: {reason}")]
    NoAddress { name: String, reason: String },
    #[error("resolving `{0}` took too long")]
    Timeout(String),
    #[error("`{name}` resolves to a closed address: {reason}")]
    NotAllowed { name: String, reason: String },
}

/// What all clients share.
pub(super) struct Names {
    resolver: TokioResolver,
    hosts: BTreeMap<String, SocketAddr>,
    open: OpenAddresses,
    ports: BTreeSet<u16>,
    timeout: Duration,
}

impl Names {
    pub(super) fn new(
        servers: &[SocketAddr],
        hosts: BTreeMap<String, SocketAddr>,
        open: OpenAddresses,
        timeout: Duration,
    ) -> Result<Self, String> {
        let mut builder = if servers.is_empty() {
            Resolver::builder_tokio().map_err(|error| {
                format!("cannot read the system's resolver configuration: {error}; set `origin.resolver`")
            })?
        } else {
            let config = ResolverConfig::from_name_servers(
                servers.iter().map(|server| name_server(*server)).collect(),
            );
            Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        // A third of the time for a try leaves room for another server.
        options.timeout = (timeout / 3).max(Duration::from_millis(100));
        options.attempts = 2;
        let resolver = builder.build().map_err(|error| format!("cannot set up the resolver: {error}"))?;
        let ports = open.ports().chain(hosts.values().map(SocketAddr::port)).collect();
        Ok(Self { resolver, hosts, open, ports, timeout })
    }

    /// Did the operator name this port: of an opened address, or in the hosts table?
    pub(super) fn has_port(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }

    /// May this address be connected to? The text is for the log.
    pub(super) fn vet(&self, ip: IpAddr, port: u16, exceptions: bool) -> Result<(), String> {
        let verdict =
            if exceptions { self.open.vet(ip, port) } else { OpenAddresses::default().vet(ip, port) };
        verdict.map_err(|denied| denied.to_string())
    }

    /// Resolves once and vets everything that came back: one forbidden address among the answers refuses the name.
    async fn addresses(&self, name: &str, reach: Reach) -> Result<Vec<SocketAddr>, ResolveFault> {
        // Port 0 leaves the choice to the client; it opens nothing, since nothing can be opened on it.
        let port = reach.port.unwrap_or(0);
        let candidates = match self.hosts.get(name) {
            // The connection would go to the written port of the mapped address, which nobody has vetted.
            Some(address) if reach.written && port != address.port() => {
                let reason =
                    format!("it is mapped to {address} in `origin.hosts`, not to the port in the link");
                return Err(ResolveFault::NotAllowed { name: name.to_owned(), reason });
            }
            Some(address) => vec![*address],
            None => self.look_up(name).await?.into_iter().map(|ip| SocketAddr::new(ip, port)).collect(),
        };
        for address in &candidates {
            self.vet(address.ip(), address.port(), reach.exceptions)
                .map_err(|reason| ResolveFault::NotAllowed { name: name.to_owned(), reason })?;
        }
        Ok(candidates)
    }

    async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, ResolveFault> {
        // The trailing dot keeps the system's search domains out of it.
        let answer = tokio::time::timeout(self.timeout, self.resolver.lookup_ip(format!("{name}."))).await;
        let no_address = |reason: String| ResolveFault::NoAddress { name: name.to_owned(), reason };
        match answer {
            Err(_) => Err(ResolveFault::Timeout(name.to_owned())),
            Ok(Err(error)) if is_timeout(&error) => Err(ResolveFault::Timeout(name.to_owned())),
            Ok(Err(error)) => Err(no_address(error.to_string())),
            Ok(Ok(found)) => {
                let addresses: Vec<IpAddr> = found.iter().collect();
                match addresses.len() {
                    0 => Err(no_address("the answer is empty".to_owned())),
                    count if count > MAX_ADDRESSES => {
                        Err(no_address(format!("{count} addresses are too many")))
                    }
                    _ => Ok(addresses),
                }
            }
        }
    }
}

fn is_timeout(error: &hickory_resolver::net::NetError) -> bool {
    matches!(error, hickory_resolver::net::NetError::Timeout)
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    NameServerConfig::new(server.ip(), true, connections.into())
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

/// The resolver of a connection with one reach.
#[derive(Clone)]
pub(super) struct ReachResolver {
    pub(super) names: Arc<Names>,
    pub(super) reach: Reach,
}

impl Service<Name> for ReachResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = ResolveFault;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ResolveFault>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ResolveFault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (names, reach) = (Arc::clone(&self.names), self.reach);
        Box::pin(async move { Ok(names.addresses(name.as_str(), reach).await?.into_iter()) })
    }
}
