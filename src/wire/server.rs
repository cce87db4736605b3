//! The server door: one plain HTTP server, HTTP/1.1 and HTTP/2 without TLS, with a limit on everything a client can hold.

mod opening;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;

use super::config::{Config, Timeouts};
use super::handler::Gateway;
use opening::Opening;

/// The largest request head: the longest link, headers and a token.
const MAX_HEAD_BYTES: usize = 32 * 1024;
const MAX_HEADERS: usize = 100;
const MAX_STREAMS: u32 = 128;
/// What one HTTP/2 stream may have waiting for a slow client.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// After a failed `accept`, such as for want of descriptors, it is of no use to try at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` resolves, then lets running downloads go on for the configured grace. True if all of them ended.
pub async fn serve(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    config: &Config,
    stop: impl Future<Output = ()>,
) -> bool {
    let door = Arc::new(Door { builder: builder(config), gateway, timeouts: config.timeouts.clone() });
    let places = Arc::new(Semaphore::new(config.max_connections));
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let (door, watcher) = (Arc::clone(&door), graceful.watcher());
                tokio::spawn(async move { door.connection(stream, peer.ip(), watcher, place).await });
            }
            Err(error) => {
                tracing::warn!(reason = %error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tracing::info!(connections = graceful.count(), "stopping: running downloads may finish");
    tokio::time::timeout(config.shutdown_grace.0, graceful.shutdown()).await.is_ok()
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, place))
}

struct Door {
    builder: Builder<TokioExecutor>,
    gateway: Arc<Gateway>,
    timeouts: Timeouts,
}

impl Door {
    async fn connection(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        watcher: Watcher,
        _place: OwnedSemaphorePermit,
    ) {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.timeouts.client_write.0));
        let stream = Opening::new(Box::pin(stream), self.timeouts.client_head.0);
        let gateway = Arc::clone(&self.gateway);
        let service = service_fn(move |request: http::Request<Incoming>| {
            let gateway = Arc::clone(&gateway);
            // A request body is never read; hyper closes the connection instead of draining it.
            let (parts, _) = request.into_parts();
            async move { Ok::<_, Infallible>(gateway.handle(parts, peer).await) }
        });
        let connection = self.builder.serve_connection(TokioIo::new(stream), service).into_owned();
        if let Err(error) = watcher.watch(connection).await {
            // Clients that leave and bodies that are aborted end here, both on purpose.
            tracing::debug!(reason = %error, "connection ended");
        }
    }
}

fn builder(config: &Config) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.timeouts.client_head.0)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .keep_alive_interval(config.timeouts.client_head.0)
        .keep_alive_timeout(config.timeouts.client_head.0);
    builder
}
