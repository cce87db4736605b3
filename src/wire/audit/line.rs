//! What a record says, put together once: the log's line and the line of the usage file are both made of it.

use std::net::IpAddr;

use serde::Serialize;

use crate::wire::{clock, log};

/// The fields of one decision record. What a request did not come to has none.
#[derive(Debug, Serialize)]
pub(super) struct Line<'r> {
    pub(super) request_id: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client: Option<IpAddr>,
    pub(super) method: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tenant: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) link_id: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reported: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limits_failed: Option<&'static str>,
    pub(super) status: u16,
    pub(super) outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stage: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) range_from: Option<u64>,
    pub(super) bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resumed: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) head_ms: Option<u64>,
    pub(super) total_ms: u64,
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
            if let Some(line) = self.json(&clock::timestamp()) {
                log::write_line(&line);
            }
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

    /// One line of JSON with its end, as the log's own events are, but for the time, which is `timestamp`.
    pub(super) fn json(&self, timestamp: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(640);
        for part in ["{\"timestamp\":\"", timestamp, "\",\"level\":\"INFO\",\"message\":\"request\""] {
            bytes.extend_from_slice(part.as_bytes());
        }
        // The fields are an object of their own; its braces become a comma and the rest of this one.
        let fields = bytes.len();
        serde_json::to_writer(&mut bytes, self).ok()?;
        *bytes.get_mut(fields)? = b',';
        bytes.pop();
        for part in [",\"target\":\"", TARGET, "\"}\n"] {
            bytes.extend_from_slice(part.as_bytes());
        }
        Some(bytes)
    }
}
