//! The server door: one plain HTTP server, HTTP/1.1 and HTTP/2 without TLS, with a limit on everything a client can hold.

mod activity;
mod crew;
mod places;
mod socket;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinHandle;

use super::answer;
use super::body::{Body, Line, full};
use super::client;
use super::clock;
use super::config::{ClientConfig, Config};
use super::console::{self, Console};
use super::handler::{Gateway, Terms};
use super::log;
use super::metrics::{Connection, prometheus::Exposition};
use super::outbox;
use activity::Activity;
use crew::Crew;
use places::{Place, Places};
use socket::{Socket, Spoken};

/// The largest request head: the longest link, headers and a token.
const MAX_HEAD_BYTES: usize = 32 * 1024;
const MAX_HEADERS: usize = 100;
const MAX_STREAMS: u32 = 64;
/// What one HTTP/2 stream may have waiting for a slow client.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How long it may take to cut off what is left when the grace is over, and until a connection that never said anything
/// whole is cut off once it was asked to go.
const CUT_OFF: Duration = Duration::from_secs(1);
/// After a failed `accept`, such as for want of descriptors, it is of no use to try at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The most connections of whoever reads metrics at an address of their own, in all and for one client address.
const METRICS_PLACES: (usize, usize) = (64, 16);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What is answered at the main door.
pub struct Desk {
    /// Downloads.
    pub gateway: Arc<Gateway>,
    /// The page at `/_/`.
    pub console: Option<Arc<Console>>,
    /// `/metrics`.
    pub metrics: Option<Arc<Exposition>>,
}

/// Serves until `stop` resolves, then lets running downloads go on for the configured grace. True if all of them ended.
pub async fn serve(
    listener: TcpListener,
    desk: Desk,
    config: &Config,
    stop: impl Future<Output = ()>,
) -> bool {
    let places = Places::new(config.max_connections, config.max_connections_per_client);
    let gateway = Arc::clone(&desk.gateway);
    let crew = Crew::assemble().unwrap_or_else(|error| {
        tracing::warn!(reason = %error, "cannot start a thread for each core, so one serves");
        Crew::default()
    });
    // For a server of one core; each of a crew's threads has its own.
    let kept = [tokio::spawn(log::keep()), tokio::spawn(outbox::keep())];
    let ended = listen(listener, Window::Main(desk), (places, &crew), config, stop).await;
    kept.iter().for_each(JoinHandle::abort);
    // On the crew's threads, which end with it.
    gateway.limits().settled().await;
    let _ = tokio::time::timeout(CUT_OFF, crew.dismiss()).await;
    ended
}

/// Serves `/metrics` at an address of its own, for as long as it is asked to.
pub async fn serve_metrics(listener: TcpListener, metrics: Arc<Exposition>, config: &Config) {
    let places = Places::new(METRICS_PLACES.0, METRICS_PLACES.1);
    listen(listener, Window::Metrics(metrics), (places, &Crew::default()), config, std::future::pending())
        .await;
}

async fn listen(
    listener: TcpListener,
    window: Window,
    (places, crew): (Arc<Places>, &Crew),
    config: &Config,
    stop: impl Future<Output = ()>,
) -> bool {
    let door = Arc::new(Door { one: one(), two: two(config), window, config: config.clone() });
    let (stopping, stopped) = watch::channel(Phase::Open);
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer, one)) => {
                let proxy = config.client.trusted_proxies.iter().any(|net| net.contains(&peer));
                if let Some(place) = places.give(one, peer, proxy) {
                    let (door, stopped) = (Arc::clone(&door), stopped.clone());
                    crew.serve(stream, move |stream| door.connection(stream, peer, stopped, place));
                }
            }
            Err(error) => {
                tracing::warn!(reason = %error, "cannot accept a connection");
                if let Window::Main(desk) = &door.window {
                    desk.gateway.relieve();
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((listener, stopped));
    tracing::info!(connections = stopping.receiver_count(), "stopping: running downloads may finish");
    let _ = stopping.send(Phase::Closing);
    if tokio::time::timeout(config.shutdown_grace.0, stopping.closed()).await.is_ok() {
        return true;
    }
    // What is cut off here still gets its decision record, and gives back what it holds.
    let _ = stopping.send(Phase::Over);
    let _ = tokio::time::timeout(CUT_OFF, stopping.closed()).await;
    false
}

/// How far the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// No further requests; those under way may end.
    Closing,
    /// Nothing more.
    Over,
}

async fn accept(
    listener: &TcpListener,
    places: &Places,
) -> io::Result<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let one = places.any().await.ok_or_else(|| io::Error::other("the server is closed"))?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer.ip().to_canonical(), one))
}

struct Door {
    one: http1::Builder,
    two: http2::Builder<TokioExecutor>,
    window: Window,
    config: Config,
}

/// Who answers at a door.
enum Window {
    Main(Desk),
    Metrics(Arc<Exposition>),
}

impl Window {
    async fn answer(
        &self,
        parts: &Parts,
        body: Incoming,
        peer: IpAddr,
        trust: &ClientConfig,
        line: Line,
    ) -> Response<Body> {
        let (desk, metrics) = match self {
            Self::Main(desk) => (Some(desk), desk.metrics.as_ref()),
            Self::Metrics(metrics) => (None, Some(metrics)),
        };
        if let Some(response) = metrics.and_then(|metrics| metrics.answer(parts)) {
            return response;
        }
        let Some(desk) = desk else {
            return answer::respond(StatusCode::NOT_FOUND.as_u16(), HeaderMap::new(), full(""));
        };
        if let Some(console) = desk.console.as_ref().filter(|_| console::covers(parts.uri.path())) {
            return Box::pin(console.answer(parts, body, peer)).await;
        }
        // A body is never read; hyper closes the connection instead of draining it.
        drop(body);
        let client = client::address(peer, &parts.headers, trust);
        let terms = Terms { client, line: Some(line), ..Terms::default() };
        desk.gateway.handle(parts, &terms).await
    }
}

impl Door {
    /// Counts the connection, if clients come here.
    fn count(&self) -> Option<Connection> {
        matches!(self.window, Window::Main(_)).then(Connection::begin)
    }

    /// One client connection, to its end: its own, an idle one, or that of the server.
    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: IpAddr,
        mut stopped: watch::Receiver<Phase>,
        _place: Place,
    ) {
        let _counted = self.count();
        let timeouts = &self.config.timeouts;
        let (line, activity) = (Line::default(), Activity::new());
        let mut socket = Socket::new(stream, timeouts, line.clone());
        let (door, requests) = (Arc::clone(&self), activity.clone());
        let service = service_fn(move |request: http::Request<Incoming>| {
            let (parts, body) = request.into_parts();
            let alone = parts.version < Version::HTTP_2;
            let busy = requests.begin(alone.then(|| line.clone()));
            let (door, line) = (Arc::clone(&door), line.clone());
            async move {
                if alone && line.has_left() {
                    // Nothing is begun for it; the connection sees its end when hyper flushes, and is dropped with this.
                    std::future::pending::<()>().await;
                }
                let trust = &door.config.client;
                let response = door.window.answer(&parts, body, peer, trust, line).await;
                answer::keep_for_the_next(parts.headers);
                Ok::<_, Infallible>(response.map(|body| busy.until_gone(body)))
            }
        });
        let spoken = tokio::select! {
            biased;
            spoken = socket.spoken() => spoken,
            // Nothing was asked yet.
            _ = stopped.changed() => return,
        };
        let socket = TokioIo::new(socket);
        let ended = match spoken {
            Ok(Spoken::One) => {
                let connection = pin!(self.one.serve_connection(socket, service));
                self.until_over(connection, http1::Connection::graceful_shutdown, &activity, &mut stopped)
                    .await
            }
            Ok(Spoken::Two) => {
                let mut connection = Box::pin(self.two.serve_connection(socket, service));
                let shut_down = http2::Connection::graceful_shutdown;
                Box::pin(self.until_over(connection.as_mut(), shut_down, &activity, &mut stopped)).await
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = ended {
            // Clients that leave and bodies that are aborted end here, both on purpose.
            tracing::debug!(reason = %error, "connection ended");
        }
    }

    /// Serves `connection` to its end, which `shut_down` asks for.
    async fn until_over<C: Future<Output = hyper::Result<()>>>(
        &self,
        mut connection: Pin<&mut C>,
        shut_down: impl Fn(Pin<&mut C>),
        activity: &Activity,
        stopped: &mut watch::Receiver<Phase>,
    ) -> Result<(), BoxError> {
        let span = self.config.timeouts.client_head.0;
        // The connection is polled twice for each request, and nothing of this then but to see that it was not woken.
        let mut turns = FuturesUnordered::new();
        turns.push(next_phase(stopped));
        turns.push(idle(activity, span, Duration::ZERO));
        let (mut closing, mut warned) = (false, false);
        loop {
            tokio::select! {
                biased;
                ended = poll_fn(|cx| clock::turn(|| connection.as_mut().poll(cx))) => {
                    return ended.map_err(Into::into);
                }
                Some(turn) = turns.next() => match turn {
                    Turn::Phase(_, Phase::Over) => return Ok(()),
                    Turn::Phase(stopped, _) => turns.push(next_phase(stopped)),
                    // hyper closes it when all that was answered is written, however slowly its client reads.
                    Turn::Idle if activity.has_begun() => {}
                    // Its first head does not end, so nothing was ever answered.
                    Turn::Idle if std::mem::replace(&mut warned, true) => return Ok(()),
                    Turn::Idle => turns.push(idle(activity, CUT_OFF, CUT_OFF)),
                },
            }
            if !std::mem::replace(&mut closing, true) {
                shut_down(connection.as_mut());
            }
        }
    }
}

/// What ends a connection that goes on.
enum Turn<'s> {
    /// The server's phase changed.
    Phase(&'s mut watch::Receiver<Phase>, Phase),
    /// The connection had nothing to do for too long.
    Idle,
}

fn next_phase(stopped: &mut watch::Receiver<Phase>) -> BoxFuture<'_, Turn<'_>> {
    Box::pin(async {
        let is_there = stopped.changed().await.is_ok();
        let phase = if is_there { *stopped.borrow() } else { Phase::Over };
        Turn::Phase(stopped, phase)
    })
}

fn idle(activity: &Activity, span: Duration, pause: Duration) -> BoxFuture<'_, Turn<'_>> {
    Box::pin(async move {
        activity.idle_for(span, pause).await;
        Turn::Idle
    })
}

fn one() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        // A connection whose next head is not whole in time is idle ([`Activity`]); a timer of hyper's for each head would be
        // made and taken down once more a request.
        .header_read_timeout(None)
        // Whether a client is still there is seen by [`Socket`]: hyper reads to find out, for which it gets memory anew with each
        // request, while the request's head lies in what it has.
        .half_close(true)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEADERS);
    builder
}

fn two(config: &Config) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
        .keep_alive_interval(config.timeouts.client_head.0)
        .keep_alive_timeout(config.timeouts.client_head.0);
    builder
}
