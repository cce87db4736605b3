//! The server's metrics as Prometheus reads them: the recorder of the process, and the answer to `/metrics`.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Response};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio::task::AbortHandle;

use crate::wire::answer;
use crate::wire::body::{Body, full};

use super::{BUILD, Kind, NAMES, describe};

/// The path that is answered.
pub const PATH: &str = "/metrics";

/// Upper bounds of histograms in seconds, from what the gate alone takes to the longest transfer.
const BUCKETS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0, 900.0, 3600.0];

/// How often samples of histograms are put into their buckets; until then each is kept.
const UPKEEP: Duration = Duration::from_secs(5);

/// The text that Prometheus reads.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What is measured in this process, ready to be read.
#[derive(Debug)]
pub struct Exposition {
    handle: PrometheusHandle,
    upkeep: AbortHandle,
}

impl Exposition {
    /// From now on everything is recorded. Once for a process, in its runtime, and before policies are read.
    pub fn start() -> Result<Self, String> {
        let recorder = recorder()?;
        let handle = recorder.handle();
        ::metrics::set_global_recorder(recorder).map_err(|error| format!("cannot measure: {error}"))?;
        super::are_read();
        describe();
        BUILD.gauge(&[env!("CARGO_PKG_VERSION").into()]).set(1.0);
        let kept = handle.clone();
        let upkeep = tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                kept.run_upkeep();
            }
        });
        Ok(Self { handle, upkeep: upkeep.abort_handle() })
    }

    /// The answer to a request that asks for the metrics; `None` if it does not.
    pub(in crate::wire) fn answer(&self, request: &Parts) -> Option<Response<Body>> {
        if request.uri.path() != PATH || ![Method::GET, Method::HEAD].contains(&request.method) {
            return None;
        }
        let text = self.handle.render();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, TEXT);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
        let body = if request.method == Method::HEAD { full("") } else { full(text) };
        Some(answer::respond(200, headers, body))
    }
}

impl Drop for Exposition {
    fn drop(&mut self) {
        self.upkeep.abort();
    }
}

/// Histograms have buckets, so that several servers can be added up.
fn recorder() -> Result<PrometheusRecorder, String> {
    let histograms = NAMES.iter().filter(|metric| metric.kind == Kind::Histogram);
    let with_buckets = histograms.into_iter().try_fold(PrometheusBuilder::new(), |builder, metric| {
        builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), &BUCKETS)
    });
    Ok(with_buckets.map_err(|error| format!("cannot measure: {error}"))?.build_recorder())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::id::TenantName;
    use crate::wire::metrics::{self as ours, Ended, MAX_TENANTS, Tenants};

    /// What a scraper sees after `record` has run.
    fn rendered(record: impl FnOnce()) -> String {
        let recorder = recorder().unwrap();
        let handle = recorder.handle();
        super::super::are_read();
        ::metrics::with_local_recorder(&recorder, || {
            describe();
            record();
        });
        handle.render()
    }

    fn series(text: &str, name: &str) -> usize {
        text.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .count()
    }

    /// 10,000 tenants, the hundred that may be named among them, and names that would break the text.
    #[test]
    fn tenants_cannot_explode_the_series() {
        let name = |number: usize| TenantName::parse(&format!("t{number}")).unwrap();
        let tenants = Tenants::named(&(0..MAX_TENANTS).map(name).collect::<Vec<_>>());
        let text = rendered(|| {
            let hostile =
                ["other", "none", "", "a\"b", "a\nb 1", "{tenant=\"x\"}", "ümläut"].map(str::to_owned);
            for tenant in (0..10_000).map(|number| format!("t{number}")).chain(hostile) {
                let label = tenants.label(&tenant);
                ours::sent_bytes(&label).increment(1);
                let took = Duration::from_millis(2);
                ours::request_began();
                ours::request_ended(&Ended { outcome: "whole", code: "", tenant: &label, status: 200, took });
            }
        });
        for name in ["sluicegate_requests_total", "sluicegate_sent_bytes_total"] {
            assert_eq!(series(&text, name), MAX_TENANTS + 1, "{name}");
        }
        let rest = "sluicegate_requests_total{outcome=\"whole\",code=\"none\",tenant=\"other\"} 9907";
        assert!(text.lines().any(|line| line == rest), "{text}");
        assert!(
            text.contains("sluicegate_requests_total{outcome=\"whole\",code=\"none\",tenant=\"t99\"} 1\n")
        );
        let durations = series(&text, "sluicegate_request_duration_seconds_bucket");
        assert_eq!(durations, BUCKETS.len() + 1, "one outcome, whatever the tenant");
        assert!(text.lines().count() < 2 * MAX_TENANTS + 100, "{} lines", text.lines().count());
    }

    #[test]
    fn the_sums_without_labels_begin_at_zero_and_count_what_they_say() {
        let value = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).parse::<u64>().unwrap()
        };
        let names = ["refused", "aborted", "server_errors"].map(|name| format!("sluicegate_{name}_total"));
        let before = rendered(|| {});
        assert_eq!(names.each_ref().map(|name| value(&before, name)), [0, 0, 0]);
        let after = rendered(|| {
            let ends = [
                ("whole", "", 200),
                ("refused", "link_expired", 403),
                ("refused", "upstream_error", 502),
                ("aborted", "broke_off", 200),
                ("aborted", "client_stalled", 200),
                ("aborted", "client_left", 200),
                ("unanswered", "", 0),
            ];
            for (outcome, code, status) in ends {
                let (tenant, took) = (&ours::no_tenant(), Duration::ZERO);
                ours::request_ended(&Ended { outcome, code, tenant, status, took });
            }
        });
        assert_eq!(names.each_ref().map(|name| value(&after, name)), [2, 2, 1]);
    }

    /// Names are what alarms and dashboards are written with.
    #[test]
    fn names_follow_one_form() {
        for (number, metric) in NAMES.iter().enumerate() {
            let name = metric.name;
            assert!(name.starts_with("sluicegate_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_seconds"), metric.kind == Kind::Histogram, "{name}");
            assert!(metric.help.ends_with('.'), "{name}");
            assert!(NAMES.iter().take(number).all(|earlier| earlier.name != name), "{name} stands twice");
        }
    }
}
