//! What is measured: one list of names for both doors, and the functions that record. Nothing else in the project writes
//! the name of a metric.
//!
//! A label has few values, whatever clients send and however many tenants there are: outcomes and codes come from this
//! program's own tables, and a tenant has its own series only if the operator names it. Methods, hosts, keys, link ids and
//! URLs are in the log, never here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, SharedString, Unit, with_recorder};

use crate::gate::id::TenantName;

#[cfg(feature = "lambda")]
pub mod emf;
#[cfg(feature = "server")]
pub mod prometheus;

/// The most tenants that may have series of their own.
pub const MAX_TENANTS: usize = 100;
/// The label of every proven tenant that the operator did not name.
pub const OTHER: &str = "other";
/// The label where there is no value: no proven tenant, no code.
pub const NONE: &str = "none";

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Many values, kept by size.
    Histogram,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, the same at both doors.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What one of it is.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Is it there on Lambda too?
    pub lambda: bool,
    /// What it says, in one line.
    pub help: &'static str,
}

impl Metric {
    const fn new(
        kind: Kind,
        name: &'static str,
        unit: Unit,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self { name, kind, unit, labels, lambda: true, help }
    }

    const fn server_only(mut self) -> Self {
        self.lambda = false;
        self
    }

    fn key(&self, values: &[SharedString]) -> Key {
        if self.labels.is_empty() {
            return Key::from_static_name(self.name);
        }
        let labels = self.labels.iter().zip(values).map(|(name, value)| Label::new(*name, value.clone()));
        Key::from_parts(self.name, labels.collect::<Vec<_>>())
    }

    fn counter(&self, values: &[SharedString]) -> Counter {
        if !is_read() {
            return Counter::noop();
        }
        with_recorder(|recorder| recorder.register_counter(&self.key(values), &METADATA))
    }

    fn gauge(&self, values: &[SharedString]) -> Gauge {
        if !is_read() {
            return Gauge::noop();
        }
        with_recorder(|recorder| recorder.register_gauge(&self.key(values), &METADATA))
    }

    fn histogram(&self, values: &[SharedString]) -> Histogram {
        if !is_read() {
            return Histogram::noop();
        }
        with_recorder(|recorder| recorder.register_histogram(&self.key(values), &METADATA))
    }
}

/// Does anybody read what is recorded? Without that, no key is put together.
static READ: AtomicBool = AtomicBool::new(false);

/// From now on somebody does.
#[cfg(any(feature = "server", feature = "lambda"))]
fn are_read() {
    READ.store(true, Ordering::Relaxed);
}

fn is_read() -> bool {
    READ.load(Ordering::Relaxed)
}

const METADATA: Metadata<'static> = Metadata::new("sluicegate", Level::INFO, Some(module_path!()));

/// A table of constants, and the list of all of them.
macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal $unit:ident [$($label:literal),*] $help:literal $($more:ident)?;)*) => {
        $(const $id: Metric = Metric::new(Kind::$kind, $name, Unit::$unit, &[$($label),*], $help)$(.$more())?;)*
        /// Every metric there is.
        pub const NAMES: &[Metric] = &[$($id),*];
    };
}

metrics! {
    REQUESTS = Counter "sluicegate_requests_total" Count ["outcome", "code", "tenant"]
        "Requests by how they ended, as in the decision record.";
    REFUSED = Counter "sluicegate_refused_total" Count []
        "Requests that were refused, whatever the code.";
    ABORTED = Counter "sluicegate_aborted_total" Count []
        "Bodies that broke after their head was sent, except where the client left.";
    SERVER_ERRORS = Counter "sluicegate_server_errors_total" Count []
        "Requests answered with a status of 500 or above.";
    SENT_BYTES = Counter "sluicegate_sent_bytes_total" Bytes ["tenant"]
        "Body bytes of downloads, counted as they are sent.";
    RESUMES = Counter "sluicegate_resumes_total" Count []
        "Bodies that broke off at the upstream and went on from the byte where they broke.";
    DURATION = Histogram "sluicegate_request_duration_seconds" Seconds ["outcome"]
        "From the request's head to the end of its answer's body.";
    FIRST_BYTE = Histogram "sluicegate_first_byte_seconds" Seconds []
        "From the request's head to the answer's, of requests that fetched something.";
    ACTIVE = Gauge "sluicegate_requests_active" Count []
        "Requests under way, their bodies included; on Lambda the most at once since the last line.";
    STORE_CALLS = Counter "sluicegate_limit_store_calls_total" Count ["operation", "result"]
        "Calls of the shared store of limits.";
    STORE_DURATION = Histogram "sluicegate_limit_store_duration_seconds" Seconds ["operation"]
        "How long calls of the shared store of limits took.";
    STORE_UP = Gauge "sluicegate_limit_store_up" Count []
        "1 if the last call of the shared store of limits was answered, else 0.";
    DEGRADED = Counter "sluicegate_limits_degraded_total" Count ["fail"]
        "Requests decided without the shared store of limits, by what the policy says for that.";
    SETTLEMENTS_LOST = Counter "sluicegate_limit_settlements_lost_total" Count []
        "Downloads whose bytes could not be written back to the shared store of limits.";
    POLICY_TENANTS = Gauge "sluicegate_policy_tenants" Count []
        "Tenants in the current policy set.";
    POLICY_KEYS = Gauge "sluicegate_policy_keys" Count []
        "Keys of links in the current policy set.";
    POLICY_LOADS = Counter "sluicegate_policy_loads_total" Count ["result"]
        "Readings of the policy: `ok`, or `failed`, after which the previous set stays in force.";
    ERROR_LINES = Counter "sluicegate_error_lines_total" Count []
        "Log lines of level ERROR.";
    BUILD = Gauge "sluicegate_build_info" Count ["version"]
        "Always 1; the label says which version runs." server_only;
    USAGE_LOST = Counter "sluicegate_usage_records_lost_total" Count []
        "Decision records that did not get into `usage.file`." server_only;
    CONNECTIONS = Gauge "sluicegate_connections_active" Count []
        "Client connections of the main door." server_only;
}

/// Tells the recorder what there is. Counters without labels begin at 0, so that alarms on them have something to see.
#[cfg(feature = "server")]
fn describe() {
    for metric in NAMES {
        with_recorder(|recorder| {
            let (name, unit, help) = (metric.name.into(), Some(metric.unit), metric.help.into());
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, unit, help),
                Kind::Gauge => recorder.describe_gauge(name, unit, help),
                Kind::Histogram => recorder.describe_histogram(name, unit, help),
            }
        });
        if metric.kind == Kind::Counter && metric.labels.is_empty() {
            metric.counter(&[]).increment(0);
        }
    }
}

/// Which tenants have series of their own.
#[derive(Debug, Clone, Default)]
pub struct Tenants(HashMap<String, SharedString>);

impl Tenants {
    /// Those that the operator names.
    pub fn named(names: &[TenantName]) -> Self {
        let label = |name: &TenantName| (name.to_string(), SharedString::from_shared(name.as_str().into()));
        Self(names.iter().map(label).collect())
    }

    pub(in crate::wire) fn label(&self, tenant: &str) -> SharedString {
        self.0.get(tenant).cloned().unwrap_or(SharedString::const_str(OTHER))
    }
}

/// The label of requests that proved no tenant.
pub(in crate::wire) const fn no_tenant() -> SharedString {
    SharedString::const_str(NONE)
}

/// How a request ended.
pub(in crate::wire) struct Ended<'e> {
    pub(in crate::wire) outcome: &'static str,
    /// Empty where there is none.
    pub(in crate::wire) code: &'static str,
    pub(in crate::wire) tenant: &'e SharedString,
    pub(in crate::wire) status: u16,
    pub(in crate::wire) took: Duration,
}

pub(in crate::wire) fn request_began() {
    ACTIVE.gauge(&[]).increment(1);
}

pub(in crate::wire) fn request_ended(ended: &Ended<'_>) {
    let code = if ended.code.is_empty() { NONE } else { ended.code };
    ACTIVE.gauge(&[]).decrement(1);
    REQUESTS.counter(&[ended.outcome.into(), code.into(), ended.tenant.clone()]).increment(1);
    DURATION.histogram(&[ended.outcome.into()]).record(ended.took);
    if ended.outcome == "refused" {
        REFUSED.counter(&[]).increment(1);
    }
    if ended.outcome == "aborted" && ended.code != "client_left" {
        ABORTED.counter(&[]).increment(1);
    }
    if ended.status >= 500 {
        SERVER_ERRORS.counter(&[]).increment(1);
    }
}

/// Where a tenant's bytes are counted; looked up once for a body, not for each piece.
pub(in crate::wire) fn sent_bytes(tenant: &SharedString) -> Counter {
    SENT_BYTES.counter(std::slice::from_ref(tenant))
}

pub(in crate::wire) fn first_byte(took: Duration) {
    FIRST_BYTE.histogram(&[]).record(took);
}

pub(in crate::wire) fn resumed() {
    RESUMES.counter(&[]).increment(1);
}

/// A call of the shared store of limits.
pub(in crate::wire) fn store_call(operation: &'static str, result: &'static str, took: Duration) {
    STORE_CALLS.counter(&[operation.into(), result.into()]).increment(1);
    STORE_DURATION.histogram(&[operation.into()]).record(took);
}

/// Whether the shared store of limits answers.
pub(in crate::wire) fn store_up(up: bool) {
    STORE_UP.gauge(&[]).set(if up { 1.0 } else { 0.0 });
}

/// A request that was decided without the shared store of limits.
pub(in crate::wire) fn degraded(fail: &'static str) {
    DEGRADED.counter(&[fail.into()]).increment(1);
}

/// A download whose bytes could not be written back.
pub(in crate::wire) fn settlement_lost() {
    SETTLEMENTS_LOST.counter(&[]).increment(1);
}

/// Records that are not in the usage file.
pub(in crate::wire) fn usage_lost(records: u64) {
    USAGE_LOST.counter(&[]).increment(records);
}

pub(in crate::wire) fn policy_loaded(tenants: usize, keys: usize) {
    POLICY_LOADS.counter(&["ok".into()]).increment(1);
    POLICY_TENANTS.gauge(&[]).set(count(tenants));
    POLICY_KEYS.gauge(&[]).set(count(keys));
}

pub(in crate::wire) fn policy_not_loaded() {
    POLICY_LOADS.counter(&["failed".into()]).increment(1);
}

pub(in crate::wire) fn error_line() {
    ERROR_LINES.counter(&[]).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "no set comes near 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}

/// A client connection of the main door, until this is dropped.
#[cfg(feature = "server")]
pub(in crate::wire) struct Connection;

#[cfg(feature = "server")]
impl Connection {
    pub(in crate::wire) fn begin() -> Self {
        CONNECTIONS.gauge(&[]).increment(1);
        Self
    }
}

#[cfg(feature = "server")]
impl Drop for Connection {
    fn drop(&mut self) {
        CONNECTIONS.gauge(&[]).decrement(1);
    }
}
