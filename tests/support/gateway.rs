//! The server under test, and links that it accepts.

use std::net::SocketAddr;
use std::ops::Deref;
use std::process::Command;

use serde_json::Value;
use sluicegate::gate::hmac::HmacKey;
use sluicegate::gate::id::{KeyId, UnixTime};
use sluicegate::gate::mint::Draft;

use super::process::Process;
use super::{Answer, Client, KEY, SECRET, Setup, now};

/// A running `sluicegate serve`.
pub(crate) struct Gateway {
    process: Process,
    address: SocketAddr,
}

impl Deref for Gateway {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Gateway {
    /// Starts it and waits until it listens.
    pub(crate) fn start(setup: &Setup) -> Self {
        let mut command = Command::new(super::program());
        command.arg("serve");
        Self::start_by(command, setup)
    }

    /// The same by a command that ends up as `sluicegate serve`, such as a shell that sets limits first.
    pub(crate) fn start_by(command: Command, setup: &Setup) -> Self {
        let process = Process::start(command, setup);
        let serving = process.line(|line| line["message"] == "serving");
        let address = serving["address"].as_str().unwrap().parse().unwrap();
        Self { process, address }
    }

    /// Asks it to stop and waits until it has: its exit code, and all that it wrote.
    pub(crate) fn stop(&mut self) -> (Option<i32>, String) {
        self.process.terminate();
        self.process.wait()
    }

    /// Kills it: its exit code, and all that it wrote.
    pub(crate) fn kill(&mut self) -> (Option<i32>, String) {
        self.process.end()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the decision record of an answer; for the first record if there was none.
    pub(crate) fn record(&self, answer: &Answer) -> Value {
        let id = answer.header("x-request-id");
        assert!(id.is_some() || answer.status == 0, "every answer has a request id: {}", answer.head);
        let is_its = |line: &Value| id.is_none_or(|id| line["request_id"] == id);
        self.line(|line| line["target"] == "sluicegate::decision" && is_its(line))
    }

    /// A new connection.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// A link to `url` that is good for ten minutes.
    #[allow(clippy::unused_self, reason = "a link is for a gateway")]
    pub(crate) fn link(&self, url: &str) -> Link {
        Link::to(url)
    }

    /// GET over a connection of its own.
    pub(crate) fn get(&self, query: &str) -> Answer {
        self.request("GET", query, &[])
    }

    /// A request over a connection of its own.
    pub(crate) fn request(&self, method: &str, query: &str, headers: &[(&str, &str)]) -> Answer {
        let mut client = self.client();
        client.request(method, query, headers);
        client.answer(method)
    }

    /// GET of `url` through a good link.
    pub(crate) fn fetch(&self, url: &str) -> Answer {
        self.get(&self.link(url).query())
    }
}

/// A link in the making.
pub(crate) struct Link {
    draft: Draft,
    secret: String,
}

impl Link {
    /// A link to `url` that is good for ten minutes.
    pub(crate) fn to(url: &str) -> Self {
        let draft = Draft::new(url, &KeyId::parse(KEY).unwrap(), UnixTime(now() + 600));
        Self { draft, secret: SECRET.to_owned() }
    }

    /// Sets any parameter but `sig`.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.draft = self.draft.with(name, value);
        self
    }

    /// Ends so many seconds from now, or has ended so many ago.
    pub(crate) fn expires_in(self, seconds: i64) -> Self {
        let end = now().checked_add_signed(seconds).unwrap();
        self.with("exp", &end.to_string())
    }

    /// Signs with another secret.
    pub(crate) fn secret(mut self, secret: &str) -> Self {
        secret.clone_into(&mut self.secret);
        self
    }

    /// The signed query, without `?`.
    pub(crate) fn query(self) -> String {
        let key = HmacKey::new(&self.secret.into()).unwrap();
        self.draft.sign(&key).unwrap().query
    }
}
