//! The rig: the real binary between raw sockets. Nothing here sleeps to wait for something; every wait is for a
//! condition and fails the test when it does not come.
//!
//! * [`Gateway`] is the server under test, [`Function`] the Lambda function behind a stand-in [`RuntimeApi`]; [`Setup`] is
//!   their policy, configuration and environment.
//! * [`Edge`] is the local CloudFront, which stands in front of either; [`LambdaWatch`] an emulator in between.
//! * [`Client`] speaks bytes to it and says how each answer ended; [`Upstream`] answers it by a script, byte by byte.
//! * [`Redis`] and [`Dynamo`] are stores that limits are shared in.
//! * [`Canary`] must never be connected to; [`Dns`] answers as the test says.

#![allow(dead_code, reason = "each test file uses its own part of the rig")]

mod canary;
mod client;
mod collector;
mod demo;
mod dns;
mod edge;
mod emulator;
mod function;
mod gateway;
mod process;
mod runtime_api;
mod setup;
mod stores;
mod upstream;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[allow(unused_imports, reason = "each test file uses its own part of the rig")]
pub(crate) use self::{
    canary::Canary,
    client::{Answer, Client, End},
    collector::Collector,
    demo::{Demo, project, sluicegate},
    dns::{Dns, Query, Record, Reply},
    edge::{Edge, VIEWER},
    emulator::{LambdaWatch, free_port, tool, wait_for},
    function::{Function, event},
    gateway::{Gateway, Link},
    process::Process,
    runtime_api::{Posted, RuntimeApi},
    setup::{KEY, SECRET, Setup, TENANT, now},
    stores::{Dynamo, REGION, Redis, TABLE},
    upstream::{Request, Step, Upstream, ok, pattern, text},
};

/// The gateway under test: the one that cargo built, or another build of the same code, such as the one that is released.
pub(crate) fn program() -> std::ffi::OsString {
    std::env::var_os("SLUICEGATE_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_sluicegate").into())
}

/// The Lambda function under test: the one that cargo built, or another build of the same code, such as the one that is deployed.
pub(crate) fn bootstrap() -> std::ffi::OsString {
    std::env::var_os("SLUICEGATE_BOOTSTRAP").unwrap_or_else(|| env!("CARGO_BIN_EXE_bootstrap").into())
}

/// The host that [`Setup::new`] maps to its upstream.
pub(crate) const HOST: &str = "files.test.example";

/// How long a wait may take before it fails the test. Far above anything that should happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// State that several threads change and a test waits on.
pub(crate) struct Watched<T> {
    state: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    pub(crate) fn new(state: T) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `found` finds something; `None` after the deadline.
    pub(crate) fn wait<R>(&self, mut found: impl FnMut(&T) -> Option<R>) -> Option<R> {
        let end = Instant::now() + DEADLINE;
        let mut state = self.lock();
        loop {
            if let Some(result) = found(&state) {
                return Some(result);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Waits for something that tells nobody when it changes, such as what the kernel says about another process.
pub(crate) fn poll(holds: impl Fn() -> bool) -> Option<()> {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(())
}

/// Something that a test lets happen.
#[derive(Clone)]
pub(crate) struct Signal(Arc<Watched<bool>>);

impl Signal {
    pub(crate) fn new() -> Self {
        Self(Watched::new(false))
    }

    pub(crate) fn give(&self) {
        self.0.change(|given| *given = true);
    }

    /// False if it did not come.
    pub(crate) fn wait(&self) -> bool {
        self.0.wait(|given| given.then_some(())).is_some()
    }
}
