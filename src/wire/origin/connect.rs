//! Connections to upstreams: only to vetted addresses, in the time there is, and with TLS to whoever can prove the name.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use rustls_platform_verifier::Verifier;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::ServerCertVerifier;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use tower_service::Service as _;
use url::{Host, Position};

use super::records::Records;
use super::resolve::{Names, ReachResolver, ResolveFault};
use super::stream::Stream;
use crate::gate::fault::UpstreamFault;
use crate::gate::target::Target;
use crate::wire::config::Roots;
use crate::wire::outbox::Outlet;
use crate::wire::tls;

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

pub(super) type Cause = Box<dyn Error + Send + Sync>;

/// Makes connections.
pub(super) struct Connector {
    names: Arc<Names>,
    ca: Vec<CertificateDer<'static>>,
    roots: Roots,
    patience: Duration,
    tls: OnceLock<Result<TlsConnector, rustls::Error>>,
}

impl Connector {
    /// `patience` is for a connection from the look-up of its name to the end of its TLS handshake.
    pub(super) fn new(
        names: Names,
        ca_file: Option<&Path>,
        roots: Roots,
        patience: Duration,
    ) -> Result<Self, String> {
        let ca = ca_file.map(read_certificates).transpose()?.unwrap_or_default();
        Ok(Self { names: Arc::new(names), ca, roots, patience, tls: OnceLock::new() })
    }

    /// How `target` can be reached, after the check that the resolver cannot make: it is not asked for IP literals.
    pub(super) fn reach(&self, target: &Target, exceptions: bool) -> Result<Reach, UpstreamFault> {
        if let Some(ip) = target.ip() {
            self.names.vet(ip, target.port(), exceptions).map_err(UpstreamFault::AddressNotAllowed)?;
        }
        let port = Some(target.port()).filter(|port| self.names.has_port(*port));
        Ok(Reach { port, written: target.url().port().is_some(), exceptions })
    }

    /// A new connection; `None` if it takes too long.
    pub(super) async fn connect(&self, target: &Target, reach: Reach) -> Option<Result<Stream, Cause>> {
        tokio::time::timeout(self.patience, self.open(target, reach)).await.ok()
    }

    async fn open(&self, target: &Target, reach: Reach) -> Result<Stream, Cause> {
        let url = target.url();
        let resolver = ReachResolver { names: Arc::clone(&self.names), reach };
        let mut connector = HttpConnector::new_with_resolver(resolver);
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(self.patience));
        let stream = connector.call(url[..Position::AfterPort].parse()?).await?.into_inner();
        if !target.is_https() {
            return Ok(Stream::Plain(Outlet::new(stream)));
        }
        let name = match target.host() {
            Host::Domain(name) => ServerName::try_from(name.to_owned())?,
            Host::Ipv4(ip) => ServerName::from(std::net::IpAddr::from(ip)),
            Host::Ipv6(ip) => ServerName::from(std::net::IpAddr::from(ip)),
        };
        let stream = self.tls()?.connect(name, Records::new(stream)).await?;
        Ok(Stream::Tls(Box::new(stream)))
    }

    /// Set up when it is first needed: reading the system's certificates takes longer than all else a function does at its
    /// start.
    fn tls(&self) -> Result<&TlsConnector, rustls::Error> {
        let tls = self.tls.get_or_init(|| {
            let provider = Arc::new(tls::provider());
            let verifier = self.verifier(&provider)?;
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_no_client_auth();
            // One download a connection, so that its speed is the client's and nobody else's (ADR 0026).
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok(TlsConnector::from(Arc::new(config)))
        });
        tls.as_ref().map_err(Clone::clone)
    }
}

impl Connector {
    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
        let provider = Arc::clone(provider);
        match self.roots {
            Roots::System => {
                let extra = self.ca.iter().cloned();
                Ok(Arc::new(Verifier::new_with_extra_roots(extra, provider)?))
            }
            Roots::Bundled => {
                let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
                for certificate in &self.ca {
                    roots.add(certificate.clone())?;
                }
                let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
                Ok(verifier.map_err(|error| rustls::Error::General(error.to_string()))?)
            }
        }
    }
}

/// Why there is no connection. Our own resolver's verdict travels as a source of what the connector says.
pub(super) fn fault_of(cause: &(dyn Error + 'static)) -> UpstreamFault {
    let (mut source, mut innermost) = (Some(cause), cause);
    while let Some(inner) = source {
        if let Some(fault) = inner.downcast_ref::<ResolveFault>() {
            return match fault {
                ResolveFault::NoAddress { name, .. } => UpstreamFault::Unresolvable(name.clone()),
                ResolveFault::Timeout(name) => UpstreamFault::ResolveTimeout(name.clone()),
                ResolveFault::NotAllowed { .. } => UpstreamFault::AddressNotAllowed(fault.to_string()),
            };
        }
        if inner.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return UpstreamFault::ConnectTimeout;
        }
        (source, innermost) = (inner.source(), inner);
    }
    UpstreamFault::Unreachable(innermost.to_string())
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let name = path.display();
    let pem = std::fs::read(path).map_err(|error| format!("cannot read `{name}`: {error}"))?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(format!("`{name}` holds no certificate in PEM (`-----BEGIN CERTIFICATE-----`)")),
    }
}
