//! What a record says, put together once: the log's line and the line of the usage file are both made of it.

use std::cell::Cell;
use std::net::IpAddr;

use crate::gate::bytes::Bytes;
use crate::wire::clock;
use crate::wire::log::{self, DECISION as TARGET};

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

/// The name of a member, with what stands around it: put together by the compiler, a line has twenty.
macro_rules! member {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

impl Line<'_> {
    /// Into the log. The line of a JSON log is written as the usage file's is: the log's own way there is ten times as long.
    pub(super) fn log(&self) {
        if log::is_json() {
            if log::has_decisions() {
                self.with_json(log::write_line);
            }
            return;
        }
        if !tracing::enabled!(target: TARGET, tracing::Level::INFO) {
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
        let line = self.object(Object::new(LINE.take())).end();
        take(&line);
        LINE.set(line);
    }

    fn object(&self, mut object: Object) -> Object {
        object.now(member!("timestamp"));
        object.known(concat!(member!("level"), "\"INFO\"", member!("message"), "\"request\""));
        object.text(member!("request_id"), self.request_id);
        match self.client {
            Some(IpAddr::V4(client)) => object.octets(member!("client"), client.octets()),
            Some(client) => object.text(member!("client"), &client.to_string()),
            None => {}
        }
        object.text(member!("method"), self.method);
        object.given(member!("tenant"), self.tenant);
        object.given(member!("key"), self.key);
        object.given(member!("link_id"), self.link_id);
        object.given(member!("host"), self.host);
        object.given(member!("url"), self.url);
        object.given(member!("rule"), self.rule);
        object.given(member!("reported"), self.reported);
        object.given(member!("limits_failed"), self.limits_failed);
        object.number(member!("status"), Some(self.status.into()));
        object.text(member!("outcome"), self.outcome);
        object.given(member!("stage"), self.stage);
        object.given(member!("code"), self.code);
        object.given(member!("reason"), self.reason);
        object.number(member!("range_from"), self.range_from);
        object.number(member!("bytes"), Some(self.bytes));
        object.number(member!("resumed"), self.resumed.map(u64::from));
        object.number(member!("head_ms"), self.head_ms);
        object.number(member!("total_ms"), Some(self.total_ms));
        object.text(member!("target"), TARGET);
        object
    }
}

/// A flat JSON object, as it is written (RFC 8259). Field by field through serde it took three times as long, most of it
/// looking, byte by byte and in many steps, for something to escape.
struct Object(Vec<u8>);

impl Object {
    /// Begins in memory that is there.
    fn new(mut memory: Vec<u8>) -> Self {
        memory.clear();
        Self(memory)
    }

    #[inline]
    fn known(&mut self, text: &'static str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    #[inline]
    fn text(&mut self, member: &'static str, text: &str) {
        self.known(member);
        self.quoted(text);
    }

    fn quoted(&mut self, text: &str) {
        static PLAIN: Bytes = Bytes::from(b' ', u8::MAX).without(b"\"\\");
        if PLAIN.are_all_of(text.as_bytes()) {
            self.0.reserve(text.len() + 2);
            self.0.push(b'"');
            self.0.extend_from_slice(text.as_bytes());
            self.0.push(b'"');
        } else {
            // What is written to memory does not fail.
            let _ = serde_json::to_writer(&mut self.0, text);
        }
    }

    fn now(&mut self, member: &'static str) {
        self.known(member);
        self.0.push(b'"');
        clock::append_timestamp(&mut self.0);
        self.0.push(b'"');
    }

    #[inline]
    fn given(&mut self, member: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(member, text);
        }
    }

    #[inline]
    fn number(&mut self, member: &'static str, number: Option<u64>) {
        if let Some(number) = number {
            self.known(member);
            self.0.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        }
    }

    /// An IPv4 address; the formatter of the standard library would take a third of the whole line's time.
    fn octets(&mut self, member: &'static str, octets: [u8; 4]) {
        self.known(member);
        for (mark, octet) in [b'"', b'.', b'.', b'.'].into_iter().zip(octets) {
            self.0.push(mark);
            self.0.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
        }
        self.0.push(b'"');
    }

    /// The object with the end of its line.
    fn end(mut self) -> Vec<u8> {
        // It was written like all others, with a comma in front.
        if let Some(first) = self.0.first_mut() {
            *first = b'{';
        } else {
            self.0.push(b'{');
        }
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
            let (mut object, mut expected) = (Object::new(b"left".to_vec()), serde_json::Map::new());
            for (at, text) in texts.iter().enumerate() {
                object.text([member!("t0"), member!("t1"), member!("t2"), member!("t3")][at], text);
                expected.insert(format!("t{at}"), text.as_str().into());
            }
            object.number(member!("n"), Some(number));
            object.number(member!("none"), None);
            object.octets(member!("ip"), ip);
            expected.insert("ip".to_owned(), std::net::Ipv4Addr::from(ip).to_string().into());
            expected.insert("n".to_owned(), number.into());
            let line = object.end();
            prop_assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1));
            prop_assert_eq!(serde_json::from_slice::<serde_json::Map<_, _>>(&line).unwrap(), expected);
        }
    }
}
