//! What a record says, put together once: the log's line and the line of the usage file are both made of it.

use std::cell::Cell;
use std::net::IpAddr;

use crate::wire::{clock, log};

/// The fields of one decision record. What a request did not come to has none.
#[derive(Debug)]
pub(super) struct Line<'r> {
    pub(super) request_id: &'r str,
    pub(super) client: Option<IpAddr>,
    pub(super) method: &'r str,
    pub(super) tenant: Option<&'r str>,
    pub(super) key: Option<&'r str>,
    pub(super) link_id: Option<&'r str>,
    pub(super) host: Option<&'r str>,
    pub(super) url: Option<&'r str>,
    pub(super) rule: Option<&'r str>,
    pub(super) reported: Option<&'r str>,
    pub(super) limits_failed: Option<&'static str>,
    pub(super) status: u16,
    pub(super) outcome: &'static str,
    pub(super) stage: Option<&'static str>,
    pub(super) code: Option<&'static str>,
    pub(super) reason: Option<&'r str>,
    pub(super) range_from: Option<u64>,
    pub(super) bytes: u64,
    pub(super) resumed: Option<u32>,
    pub(super) head_ms: Option<u64>,
    pub(super) total_ms: u64,
}

thread_local! {
    // Where a line is put together.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What a line is in the log, beside its fields.
const TARGET: &str = "sluicegate::decision";

impl Line<'_> {
    /// Into the log. The line of a JSON log is written as the usage file's is: the log's own way there is ten times as long.
    pub(super) fn log(&self) {
        if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            return;
        }
        if log::is_json() {
            self.with_json(log::write_line);
            return;
        }
        tracing::info!(
            target: TARGET,
            request_id = self.request_id,
            client = self.client.map(tracing::field::display),
            method = self.method,
            tenant = self.tenant,
            key = self.key,
            link_id = self.link_id,
            host = self.host,
            url = self.url,
            rule = self.rule,
            reported = self.reported,
            limits_failed = self.limits_failed,
            status = self.status,
            outcome = self.outcome,
            stage = self.stage,
            code = self.code,
            reason = self.reason,
            range_from = self.range_from,
            bytes = self.bytes,
            resumed = self.resumed,
            head_ms = self.head_ms,
            total_ms = self.total_ms,
            "request",
        );
    }

    /// One line of JSON with its end, of this moment, as the log's own events are.
    pub(super) fn with_json(&self, take: impl FnOnce(&[u8])) {
        let line = self.object(Object(LINE.take())).end();
        take(&line);
        LINE.set(line);
    }

    fn object(&self, mut object: Object) -> Object {
        object.0.clear();
        object.now("timestamp");
        object.text("level", "INFO");
        object.text("message", "request");
        object.text("request_id", self.request_id);
        match self.client {
            Some(IpAddr::V4(client)) => object.octets("client", client.octets()),
            Some(client) => object.text("client", &client.to_string()),
            None => {}
        }
        object.text("method", self.method);
        for (name, text) in [
            ("tenant", self.tenant),
            ("key", self.key),
            ("link_id", self.link_id),
            ("host", self.host),
            ("url", self.url),
            ("rule", self.rule),
            ("reported", self.reported),
            ("limits_failed", self.limits_failed),
        ] {
            object.given(name, text);
        }
        object.number("status", Some(self.status.into()));
        object.text("outcome", self.outcome);
        for (name, text) in [("stage", self.stage), ("code", self.code), ("reason", self.reason)] {
            object.given(name, text);
        }
        for (name, number) in [
            ("range_from", self.range_from),
            ("bytes", Some(self.bytes)),
            ("resumed", self.resumed.map(u64::from)),
            ("head_ms", self.head_ms),
            ("total_ms", Some(self.total_ms)),
        ] {
            object.number(name, number);
        }
        object.text("target", TARGET);
        object
    }
}

/// A flat JSON object, as it is written (RFC 8259). Field by field through serde it would take three times as long, most of it
/// looking at one byte after the other for something to escape.
struct Object(Vec<u8>);

impl Object {
    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(if self.0.is_empty() { b"{\"" } else { b",\"" });
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        // Every byte is looked at, which the compiler makes many at once of.
        let escaped = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
        if text.bytes().fold(false, |any, byte| any | escaped(byte)) {
            // What is written to memory does not fail.
            let _ = serde_json::to_writer(&mut self.0, text);
        } else {
            for part in ["\"", text, "\""] {
                self.0.extend_from_slice(part.as_bytes());
            }
        }
    }

    fn now(&mut self, name: &str) {
        self.name(name);
        self.0.push(b'"');
        clock::append_timestamp(&mut self.0);
        self.0.push(b'"');
    }

    fn given(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    fn number(&mut self, name: &str, number: Option<u64>) {
        if let Some(number) = number {
            self.name(name);
            self.0.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        }
    }

    /// An IPv4 address; the formatter of the standard library would take a third of the whole line's time.
    fn octets(&mut self, name: &str, octets: [u8; 4]) {
        self.name(name);
        for (mark, octet) in [b'"', b'.', b'.', b'.'].into_iter().zip(octets) {
            self.0.push(mark);
            self.0.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
        }
        self.0.push(b'"');
    }

    /// The object with the end of its line.
    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(b"}\n");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_object_is_read_as_it_was_written(
            texts in proptest::collection::vec("\\PC*|[\\x00-\\x7f]*", 0..4),
            number: u64,
            ip: [u8; 4],
        ) {
            let (mut object, mut expected) = (Object(Vec::new()), serde_json::Map::new());
            for (at, text) in texts.iter().enumerate() {
                object.text(&format!("t{at}"), text);
                expected.insert(format!("t{at}"), text.as_str().into());
            }
            object.number("n", Some(number));
            object.number("none", None);
            object.octets("ip", ip);
            expected.insert("ip".to_owned(), std::net::Ipv4Addr::from(ip).to_string().into());
            expected.insert("n".to_owned(), number.into());
            let line = object.end();
            prop_assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
            prop_assert_eq!(serde_json::from_slice::<serde_json::Map<_, _>>(&line).unwrap(), expected);
        }
    }
}
