//! What a slow download costs: bounded memory, the same for a small file and a large one, and all of it given back.

#![cfg(all(feature = "wire", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::net::SocketAddr;

use support::{Client, Gateway, Setup, Step, Upstream, poll, text};

const STREAMS: usize = 512;
const FILE: &str = "http://files.test.example/large.bin";
/// What a client that is quick at first takes before it stalls.
const BEFORE: &str = "http://files.test.example/before.bin";
const BEFORE_BYTES: u64 = 1 << 20;
const KIB: u64 = 1024;
const MOST_PER_STREAM: u64 = 96 * KIB;

/// Starts as many downloads whose clients read a little and stop, and says what each one costs in
/// resident memory once that has stopped growing. They take a whole file before that, if they are `quick` at first.
fn measure(size: u64, connect: fn(SocketAddr) -> Client, quick: bool, chunked: bool) -> u64 {
    let upstream = Upstream::start(move |request| {
        if chunked {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            return text(head).into_iter().chain([Step::Chunks(size), Step::Close]).collect();
        }
        let size = if request.target() == "/before.bin" { BEFORE_BYTES } else { size };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
        text(head).into_iter().chain([Step::Zeros(size), Step::Close]).collect()
    });
    let mut setup = Setup::new(&upstream).set("timeouts.idle", "5m").set("timeouts.first_byte", "1m");
    // Whoever was quick waits for the others.
    setup = setup.set("timeouts.client_head", "2m");
    let gateway = Gateway::start(&setup);
    let first_pipes = gateway.descriptors("pipe");
    let query = gateway.link(FILE).query();
    let before = quick.then(|| gateway.link(BEFORE).query());
    let start = |count| start(&gateway, &query, before.as_deref(), connect, count);
    // What the first download of a process sets up once is not a stream's cost.
    drop(start(1));
    let each = 1 + usize::from(quick);
    (0..each).for_each(|connection| upstream.wait_ended(connection));
    let (base, idle_sockets) = (gateway.rss(), gateway.descriptors("socket"));
    let clients = start(STREAMS);
    let per_stream = gateway.settled_rss().saturating_sub(base) / STREAMS as u64;
    drop(clients);
    for connection in each..each * (1 + STREAMS) {
        upstream.wait_ended(connection);
    }
    // At most: the first client's may not have been given back when they were counted.
    poll(|| gateway.descriptors("socket") <= idle_sockets).expect("sockets are given back");
    // Each thread keeps one for the next pieces, of two descriptors; none is left behind by a client that went.
    let threads = std::thread::available_parallelism().unwrap().get();
    assert!(gateway.descriptors("pipe") <= first_pipes + 2 * threads, "pipes are given back");
    per_stream
}

/// All ask before the first one reads: a kernel that is offered a narrow window takes its time.
fn start(
    gateway: &Gateway,
    query: &str,
    before: Option<&str>,
    connect: fn(SocketAddr) -> Client,
    count: usize,
) -> Vec<Client> {
    let mut clients: Vec<_> = (0..count).map(|_| connect(gateway.address())).collect();
    for (client, before) in clients.iter_mut().filter_map(|client| Some((client, before?))) {
        client.request("GET", before, &[]);
        assert_eq!(client.answer("GET").body.len() as u64, BEFORE_BYTES);
    }
    for client in &mut clients {
        client.request("GET", query, &[]);
    }
    for client in &mut clients {
        assert_eq!(client.head().unwrap().status, 200);
        client.peek(1024);
    }
    clients
}

#[test]
fn a_slow_stream_costs_little_and_no_more_for_a_large_file() {
    let small = measure(4 << 20, Client::connect_narrow, false, false);
    let large = measure(64 << 20, Client::connect_narrow, false, false);
    // On loopback the system takes a whole first piece; with the packets of a real network it takes less.
    let far = measure(64 << 20, Client::connect_far, false, false);
    // A first piece is larger for a client that took the answer before; what it does not take is the system's to hold.
    let quick = measure(64 << 20, Client::connect_small_packets, true, false);
    // What is between little chunks is left out where they lie.
    let chunked = measure(64 << 20, Client::connect_far, false, true);
    println!(
        "memory per slow stream: {} KiB at 4 MiB, {} KiB at 64 MiB, {} KiB far away, {} KiB after a quick answer, {} KiB in \
         little chunks",
        small / KIB,
        large / KIB,
        far / KIB,
        quick / KIB,
        chunked / KIB
    );
    for cost in [small, large, far, quick, chunked] {
        assert!(cost <= MOST_PER_STREAM, "{} KiB", cost / KIB);
    }
    assert!(
        large <= small + 16 * KIB,
        "{} KiB for a large file, {} KiB for a small one",
        large / KIB,
        small / KIB
    );
}
