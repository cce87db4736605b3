//! The threads that serve connections: one for each core, each with a runtime of its own. A connection stays where it
//! began, so nothing that belongs to it ever crosses from one core to another (ADR 0026).

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::wire::{log, outbox};

/// The threads; none where one core has to do all of it, and then the caller's own runtime serves.
#[derive(Default)]
pub(super) struct Crew(Vec<Worker>);

struct Worker {
    runtime: Handle,
    /// Held once by each connection.
    load: Arc<()>,
    /// Ends the thread when it is dropped.
    end: oneshot::Sender<()>,
    /// Dropped by the thread when it ends.
    ended: oneshot::Receiver<()>,
}

impl Crew {
    /// As many threads as there are cores for this process.
    pub(super) fn assemble() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let cores = if cores > 1 { cores } else { 0 };
        (0..cores).map(Worker::start).collect::<io::Result<_>>().map(Self)
    }

    /// Serves a connection on the thread that has the fewest.
    pub(super) fn serve<F>(&self, stream: TcpStream, serve: impl FnOnce(TcpStream) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(worker) = self.0.iter().min_by_key(|worker| Arc::strong_count(&worker.load)) else {
            tokio::spawn(async move { serve(stream).await });
            return;
        };
        let load = Arc::clone(&worker.load);
        // It was accepted on another thread, whose poller must not wake for it.
        let moved = stream.into_std();
        worker.runtime.spawn(async move {
            match moved.and_then(TcpStream::from_std) {
                Ok(stream) => serve(stream).await,
                Err(error) => tracing::warn!(reason = %error, "cannot serve a connection"),
            }
            drop(load);
        });
    }

    /// Ends the threads, and resolves when all that was left there is gone and written down.
    pub(super) async fn dismiss(self) {
        let ending: Vec<_> = self.0.into_iter().map(|Worker { end, ended, .. }| (drop(end), ended)).collect();
        for ((), ended) in ending {
            let _ = ended.await;
        }
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = log::gather(Builder::new_current_thread().enable_all()).build()?;
        runtime.spawn(log::keep());
        runtime.spawn(outbox::keep());
        let handle = runtime.handle().clone();
        let (end, stop) = oneshot::channel::<()>();
        let (gone, ended) = oneshot::channel::<()>();
        thread::Builder::new().name(format!("connections-{number}")).spawn(move || {
            let _ = runtime.block_on(stop);
            runtime.shutdown_background();
            log::gathered();
            drop(gone);
        })?;
        Ok(Self { runtime: handle, load: Arc::default(), end, ended })
    }
}
