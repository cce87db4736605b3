//! Refusals.
#![cfg(feature = "wire")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use support::*;

#[test]
fn smoke() {
    let upstream = Upstream::start(|_| vec![Step::Send(ok(&[], b"hello"))]);
    let gateway = Gateway::start(&Setup::new(&upstream));
    let answer = gateway.fetch("http://files.test.example/a.txt");
    assert_eq!(
        (answer.status, answer.end, &answer.body[..]),
        (200, End::Length, &b"hello"[..]),
        "{}",
        answer.head
    );
    assert_eq!(gateway.record(&answer)["outcome"], "whole");
    println!("{}\n{}", upstream.requests()[0].head, answer.head);
}
