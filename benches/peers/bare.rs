//! What the server door is measured against: a proxy that checks nothing, on one thread.
//!
//! `bare LISTEN PLAIN SECURE NAME CA HOW BUFFER`: `/file` comes from the upstream at PLAIN, `/secure/file` by TLS from the one at
//! SECURE, whose certificate for NAME is from CA. HOW is `hyper` (server and client, connections kept, client reads of at most
//! BUFFER bytes), `reqwest` (the same with reqwest as the client), `copy` or `splice` (sockets without any HTTP library).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a program of the benchmark"
)]

#[path = "bare/library.rs"]
mod library;
#[path = "bare/pool.rs"]
mod pool;
#[path = "bare/raw.rs"]
mod raw;

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::task::LocalSet;

/// Where everything is.
struct Places {
    listen: SocketAddr,
    plain: SocketAddr,
    secure: SocketAddr,
    name: String,
    ca: PathBuf,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("LISTEN PLAIN SECURE NAME CA HOW BUFFER");
    let places = Places {
        listen: next().parse().unwrap(),
        plain: next().parse().unwrap(),
        secure: next().parse().unwrap(),
        name: next(),
        ca: next().into(),
    };
    let (how, buffer) = (next(), next().parse::<usize>().unwrap());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(places.listen).await.unwrap();
        match how.as_str() {
            "hyper" => library::by_hyper(listener, &places, buffer).await,
            "reqwest" => library::by_reqwest(listener, &places).await,
            "copy" => raw::serve(listener, &places, raw::How::Copy, buffer).await,
            "splice" => raw::serve(listener, &places, raw::How::Splice, buffer).await,
            other => panic!("`{other}` is no way to proxy"),
        }
    });
}
