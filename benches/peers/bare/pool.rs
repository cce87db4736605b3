//! hyper's client connections, kept while nobody uses them.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Places;

type Sender = SendRequest<Empty<Bytes>>;

/// Connections to one upstream.
pub(super) struct Pool {
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    buffer: usize,
    idle: RefCell<Vec<Sender>>,
}

impl Pool {
    pub(super) fn plain(places: &Places, buffer: usize) -> Rc<Self> {
        Rc::new(Self { address: places.plain, tls: None, buffer, idle: RefCell::default() })
    }

    pub(super) fn secure(places: &Places, buffer: usize) -> Rc<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&places.ca).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(places.name.clone()).unwrap();
        let tls = Some((TlsConnector::from(Arc::new(config)), name));
        Rc::new(Self { address: places.secure, tls, buffer, idle: RefCell::default() })
    }

    /// A connection that can take a request.
    pub(super) async fn take(&self) -> Sender {
        loop {
            let kept = self.idle.borrow_mut().pop();
            let Some(mut kept) = kept else { return self.connect().await };
            if kept.ready().await.is_ok() {
                return kept;
            }
        }
    }

    async fn connect(&self) -> Sender {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        match &self.tls {
            None => self.greet(TokioIo::new(stream)).await,
            Some((tls, name)) => {
                self.greet(TokioIo::new(tls.connect(name.clone(), stream).await.unwrap())).await
            }
        }
    }

    async fn greet(&self, stream: impl Read + Write + Unpin + 'static) -> Sender {
        let mut builder = http1::Builder::new();
        builder.read_buf_exact_size(Some(self.buffer));
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        // It ends with an error when a client leaves in the middle.
        tokio::task::spawn_local(async move { connection.await.ok() });
        sender
    }
}

/// A body that gives its connection back when it was read to the end.
pub(super) struct Kept {
    pub(super) body: Incoming,
    pub(super) sender: Option<Sender>,
    pub(super) pool: Rc<Pool>,
}

impl Body for Kept {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take().filter(|_| self.body.is_end_stream()) {
            self.pool.idle.borrow_mut().push(sender);
        }
    }
}
