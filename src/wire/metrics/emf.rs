//! The function's metrics as CloudWatch reads them: lines in the Embedded Metric Format on standard output, one for an
//! invocation in the common case. A line holds what changed since the one before it, and none is written if nothing did.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{
    Counter, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use serde_json::{Map, Value, json};

use super::{Metric, NAMES};

/// The most values of one metric in one document.
const MAX_VALUES: usize = 100;
/// The longest line in bytes. A pipe takes so many in one piece (`PIPE_BUF`), so that nothing the log writes comes between;
/// CloudWatch would take 1 MB.
const MAX_LINE: usize = 4096;

/// The recorder of the function.
#[derive(Debug)]
pub struct Emf {
    namespace: String,
    series: Mutex<BTreeMap<Key, Series>>,
}

#[derive(Debug, Clone)]
enum Series {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<Level>),
    Histogram(Arc<Samples>),
}

/// A gauge. What rises and falls between two lines is written with its highest value, what is set with its last one.
#[derive(Debug, Default)]
struct Level(Mutex<LevelState>);

#[derive(Debug, Default)]
struct LevelState {
    value: f64,
    highest: f64,
    changed: bool,
}

/// Each value since the last line: a few for each request that ended in between.
#[derive(Debug, Default)]
struct Samples(Mutex<Vec<f64>>);

/// What is to be written of one series.
struct Point {
    metric: &'static Metric,
    dimensions: Vec<(String, String)>,
    value: Value,
}

/// A line in the making.
#[derive(Default)]
struct Document {
    /// Metrics by the names of their dimensions.
    directives: BTreeMap<&'static [&'static str], Vec<Value>>,
    members: Map<String, Value>,
    /// At most so long will it be.
    length: usize,
}

impl Emf {
    /// From now on everything is recorded, for lines of this namespace. `None` if it is empty: then nothing is.
    pub fn start(namespace: &str) -> Option<Arc<Self>> {
        if namespace.is_empty() {
            return None;
        }
        let emf = Arc::new(Self { namespace: namespace.to_owned(), series: Mutex::default() });
        // A second one in one process, as in tests, leaves the first in place and writes nothing.
        ::metrics::set_global_recorder(Arc::clone(&emf)).ok().map(|()| {
            super::are_read();
            emf
        })
    }

    /// Writes what changed since the last time.
    pub fn flush(&self) {
        let lines = self.lines(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis());
        let mut out = std::io::stdout().lock();
        for line in lines {
            // Nobody can be told: whoever reads the log reads this too.
            let _ = out.write_all(line.as_bytes());
        }
        let _ = out.flush();
    }

    fn lines(&self, now_ms: u128) -> Vec<String> {
        let mut documents: Vec<Document> = Vec::new();
        for point in self.take() {
            let cost = point.cost(&self.namespace);
            if let Some(document) = documents.iter_mut().find(|document| document.fits(&point, cost)) {
                document.add(point, cost);
            } else {
                let mut document = Document { length: 100, ..Document::default() };
                document.add(point, cost);
                documents.push(document);
            }
        }
        documents.into_iter().map(|document| document.line(&self.namespace, now_ms)).collect()
    }

    /// Everything that changed, which then counts as written.
    fn take(&self) -> Vec<Point> {
        let mut points = Vec::new();
        for (key, series) in lock(&self.series).iter() {
            let Some(metric) = NAMES.iter().find(|metric| metric.name == key.name() && metric.lambda) else {
                continue;
            };
            for value in series.take() {
                let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned()));
                points.push(Point { metric, dimensions: labels.collect(), value });
            }
        }
        points
    }

    fn series(&self, key: &Key, new: impl FnOnce() -> Series) -> Series {
        let mut series = lock(&self.series);
        match series.get(key) {
            Some(found) => found.clone(),
            None => series.entry(key.clone()).or_insert_with(new).clone(),
        }
    }
}

impl Series {
    /// The values since the last time, in portions that one document takes.
    fn take(&self) -> Vec<Value> {
        match self {
            Self::Counter(count) => match count.swap(0, Ordering::AcqRel) {
                0 => Vec::new(),
                more => vec![more.into()],
            },
            Self::Gauge(level) => {
                let mut state = lock(&level.0);
                let (highest, value) = (state.highest, state.value);
                state.highest = value;
                if std::mem::take(&mut state.changed) { vec![highest.into()] } else { Vec::new() }
            }
            Self::Histogram(samples) => {
                let samples = std::mem::take(&mut *lock(&samples.0));
                samples.chunks(MAX_VALUES).map(Value::from).collect()
            }
        }
    }
}

impl Point {
    /// At most so many bytes does it add to a line.
    fn cost(&self, namespace: &str) -> usize {
        let metric = 2 * self.metric.name.len() + self.value.to_string().len() + 60;
        let names = |(name, value): &(String, String)| 2 * name.len() + value.len() + 12;
        metric + self.dimensions.iter().map(names).sum::<usize>() + namespace.len() + 60
    }
}

impl Document {
    /// A metric stands once in a document, and a dimension has one value in it.
    fn fits(&self, point: &Point, cost: usize) -> bool {
        let agrees =
            |(name, value): &(String, String)| self.members.get(name).is_none_or(|held| held == value);
        self.length + cost <= MAX_LINE
            && !self.members.contains_key(point.metric.name)
            && point.dimensions.iter().all(agrees)
    }

    fn add(&mut self, point: Point, cost: usize) {
        self.length += cost;
        let metric = json!({ "Name": point.metric.name, "Unit": unit(point.metric.unit) });
        self.directives.entry(point.metric.labels).or_default().push(metric);
        self.members.insert(point.metric.name.to_owned(), point.value);
        self.members.extend(point.dimensions.into_iter().map(|(name, value)| (name, value.into())));
    }

    fn line(mut self, namespace: &str, now_ms: u128) -> String {
        let directive = |(dimensions, metrics): (&[&str], Vec<Value>)| json!({ "Namespace": namespace, "Dimensions": [dimensions], "Metrics": metrics });
        let directives: Vec<Value> = self.directives.into_iter().map(directive).collect();
        let now = u64::try_from(now_ms).unwrap_or(u64::MAX);
        self.members.insert("_aws".to_owned(), json!({ "Timestamp": now, "CloudWatchMetrics": directives }));
        let mut line = Value::Object(self.members).to_string();
        line.push('\n');
        line
    }
}

/// CloudWatch's word for a unit.
fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Bytes => "Bytes",
        Unit::Seconds => "Seconds",
        _ => "Count",
    }
}

impl Recorder for Emf {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.series(key, || Series::Counter(Arc::default())) {
            Series::Counter(count) => Counter::from_arc(count),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.series(key, || Series::Gauge(Arc::default())) {
            Series::Gauge(level) => Gauge::from_arc(level),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match self.series(key, || Series::Histogram(Arc::default())) {
            Series::Histogram(samples) => Histogram::from_arc(samples),
            _ => Histogram::noop(),
        }
    }
}

impl Level {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut state = lock(&self.0);
        state.value = change(state.value);
        state.highest = state.highest.max(state.value);
        state.changed = true;
    }
}

impl GaugeFn for Level {
    fn increment(&self, value: f64) {
        self.change(|held| held + value);
    }

    fn decrement(&self, value: f64) {
        self.change(|held| held - value);
    }

    fn set(&self, value: f64) {
        *lock(&self.0) = LevelState { value, highest: value, changed: true };
    }
}

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        lock(&self.0).push(value);
    }
}

/// Whoever panicked with the lock held left whole values behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::metrics::{self as ours, Ended};
    use std::time::Duration;

    fn emf() -> Emf {
        Emf { namespace: "Sluicegate/test".to_owned(), series: Mutex::default() }
    }

    fn written(emf: &Emf, record: impl FnOnce()) -> Vec<Value> {
        super::super::are_read();
        ::metrics::with_local_recorder(emf, record);
        let lines = emf.lines(1_795_478_400_000);
        assert!(lines.iter().all(|line| line.len() <= MAX_LINE && line.matches('\n').count() == 1));
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn ended(outcome: &'static str, code: &'static str) {
        ours::request_began();
        let took = Duration::from_millis(1500);
        ours::request_ended(&Ended { outcome, code, tenant: &ours::no_tenant(), status: 200, took });
    }

    #[test]
    fn one_request_is_one_line_and_nothing_is_none() {
        let emf = emf();
        assert_eq!(written(&emf, || {}).len(), 0);
        let lines = written(&emf, || ended("whole", ""));
        let expected = json!({
            "_aws": { "Timestamp": 1_795_478_400_000_u64, "CloudWatchMetrics": [
                { "Namespace": "Sluicegate/test", "Dimensions": [[]],
                  "Metrics": [{ "Name": "sluicegate_requests_active", "Unit": "Count" }] },
                { "Namespace": "Sluicegate/test", "Dimensions": [["outcome"]],
                  "Metrics": [{ "Name": "sluicegate_request_duration_seconds", "Unit": "Seconds" }] },
                { "Namespace": "Sluicegate/test", "Dimensions": [["outcome", "code", "tenant"]],
                  "Metrics": [{ "Name": "sluicegate_requests_total", "Unit": "Count" }] },
            ] },
            "outcome": "whole", "code": "none", "tenant": "none",
            "sluicegate_requests_total": 1, "sluicegate_request_duration_seconds": [1.5],
            "sluicegate_requests_active": 1.0,
        });
        assert_eq!(lines, [expected]);
        assert_eq!(written(&emf, || {}).len(), 0, "what was written is not written again");
    }

    /// A dimension has one value in a document, so that other values need another one; counts add up over all of them.
    #[test]
    fn what_does_not_fit_into_one_document_fills_several() {
        let ends = [("whole", ""), ("refused", "link_expired"), ("whole", ""), ("aborted", "short")];
        let lines = written(&emf(), || ends.into_iter().for_each(|(outcome, code)| ended(outcome, code)));
        let mut found: Vec<_> = lines
            .iter()
            .map(|line| {
                (line["outcome"].as_str().unwrap(), line["sluicegate_requests_total"].as_u64().unwrap())
            })
            .collect();
        found.sort_unstable();
        assert_eq!(found, [("aborted", 1), ("refused", 1), ("whole", 2)]);
    }

    #[test]
    fn a_document_takes_a_hundred_values_of_a_metric() {
        let lines = written(&emf(), || {
            (0..250).for_each(|number| ours::first_byte(Duration::from_micros(333_333 + number)));
        });
        let values = |line: &Value| line["sluicegate_first_byte_seconds"].as_array().unwrap().len();
        assert_eq!(lines.iter().map(values).collect::<Vec<_>>(), [100, 100, 50]);
    }

    /// Every label that there is, in as many values as come together, makes no line too long.
    #[test]
    fn no_line_is_too_long() {
        let lines = written(&emf(), || {
            for number in 0..40_u64 {
                for metric in NAMES.iter().filter(|metric| metric.lambda) {
                    let labels: Vec<SharedString> =
                        metric.labels.iter().map(|_| format!("{}{number}", "x".repeat(63)).into()).collect();
                    match metric.kind {
                        ours::Kind::Counter => metric.counter(&labels).increment(u64::MAX / 64),
                        ours::Kind::Gauge => metric.gauge(&labels).set(0.1 + 0.2),
                        ours::Kind::Histogram => metric.histogram(&labels).record(1.0 / 3.0),
                    }
                }
            }
        });
        assert!(lines.len() >= 40, "{}", lines.len());
        let names = |line: &Value| line.as_object().unwrap().len();
        assert!(lines.iter().all(|line| names(line) > 1));
    }

    #[test]
    fn gauges_say_their_peak_or_what_was_set() {
        let emf = emf();
        let lines = written(&emf, || {
            (0..3).for_each(|_| ours::request_began());
            ended("whole", "");
            ours::policy_loaded(9, 9);
            ours::policy_loaded(7, 8);
        });
        let first = &lines[0];
        assert_eq!(
            (&first["sluicegate_requests_active"], &first["sluicegate_policy_tenants"]),
            (&json!(4.0), &json!(7.0))
        );
        let lines = written(&emf, || ended("whole", ""));
        assert_eq!(lines[0]["sluicegate_requests_active"], json!(4.0));
        assert_eq!(lines[0].get("sluicegate_policy_tenants"), None, "unchanged");
    }
}
