//! Traces, as a collector gets them: one tree for each request, with what the decision record says and nothing secret. In
//! the build without them, the setting is refused.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

/// At both doors.
#[cfg(not(feature = "otlp"))]
#[test]
fn a_build_without_traces_refuses_the_setting() {
    use std::process::Command;

    const REFUSED: &str = "`traces.endpoint` is `http://127.0.0.1:4318/`, and this build has no traces; \
        build it with the feature `otlp`, or leave the setting out";
    let output = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .arg("serve")
        .env("SLUICEGATE_LISTEN", "127.0.0.1:0")
        .env("SLUICEGATE_TRACES_ENDPOINT", "http://127.0.0.1:4318")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains(REFUSED), "{said}");
    #[cfg(feature = "lambda")]
    {
        let api = support::RuntimeApi::start();
        let setup = support::Setup::bare().set("traces.endpoint", "http://127.0.0.1:4318");
        let mut process =
            support::Function::spawn(Command::new(env!("CARGO_BIN_EXE_bootstrap")), &api, setup);
        let (code, said) = process.wait();
        assert!(code == Some(1) && said.contains(REFUSED), "{said}");
    }
}

#[cfg(feature = "otlp")]
mod exported {
    use std::collections::BTreeMap;

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
    use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
    use prost::Message as _;

    use crate::support::{
        Collector, Function, Gateway, Link, SECRET, Setup, Step, Upstream, free_port, ok, text,
    };

    const FILE: &str = "http://files.test.example/a.bin?token=upstream-secret";

    fn upstream() -> Upstream {
        Upstream::start(|request| match request.target() {
            "/moved" => text("HTTP/1.1 302 Found\r\nLocation: /a.bin\r\nContent-Length: 0\r\n\r\n"),
            "/cut" => text("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
                .into_iter()
                .chain([Step::Close])
                .collect(),
            _ => vec![Step::Send(ok(&[], b"hello"))],
        })
    }

    fn traced(upstream: &Upstream, endpoint: &str) -> Setup {
        // Not what is tested: how often batches go.
        Setup::new(upstream).set("traces.endpoint", endpoint).variable("OTEL_BSP_SCHEDULE_DELAY", "50")
    }

    fn spans(exports: &[(String, Vec<u8>)]) -> Vec<Span> {
        let mut spans = Vec::new();
        for (head, body) in exports {
            assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
            assert!(head.contains("\r\ncontent-type: application/x-protobuf\r\n"), "{head}");
            for resource in ExportTraceServiceRequest::decode(body.as_slice()).unwrap().resource_spans {
                let service = attributes(&resource.resource.unwrap().attributes);
                assert_eq!(service["service.name"], "sluicegate");
                spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        spans
    }

    fn attributes(given: &[KeyValue]) -> BTreeMap<String, String> {
        let text = |pair: &KeyValue| match pair.value.clone().and_then(|value| value.value).unwrap() {
            Value::StringValue(text) => text,
            Value::IntValue(number) => number.to_string(),
            other => panic!("{}: {other:?}", pair.key),
        };
        given.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
    }

    /// The spans of the trace whose root has this request id, the root first, once all have come.
    fn tree(collector: &Collector, request_id: &str) -> (Span, Vec<Span>) {
        collector.wait(|exports| {
            let all = spans(exports);
            let is_its = |span: &&Span| {
                span.parent_span_id.is_empty()
                    && attributes(&span.attributes)
                        .get("sluicegate.request_id")
                        .is_some_and(|id| id == request_id)
            };
            // The root ends last.
            let root = all.iter().find(is_its)?.clone();
            let rest =
                all.into_iter().filter(|span| span.trace_id == root.trace_id && span.span_id != root.span_id);
            Some((root.clone(), rest.collect()))
        })
    }

    fn child<'s>(spans: &'s [Span], parent: &Span, name: &str) -> Vec<&'s Span> {
        let found: Vec<_> =
            spans.iter().filter(|span| span.parent_span_id == parent.span_id && span.name == name).collect();
        for span in &found {
            assert!(parent.start_time_unix_nano <= span.start_time_unix_nano, "{name}");
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{name}");
            assert!(span.end_time_unix_nano <= parent.end_time_unix_nano, "{name} ends after its parent");
        }
        found
    }

    #[test]
    fn a_download_is_a_tree() {
        let (upstream, collector) = (upstream(), Collector::start());
        let gateway = Gateway::start(&traced(&upstream, &collector.endpoint()));
        let link = Link::to("http://files.test.example/moved").with("id", "order-7");
        let answer = gateway.get(&link.query());
        assert_eq!(answer.body, b"hello");
        let id = answer.header("x-request-id").unwrap();
        let (root, rest) = tree(&collector, id);
        assert_eq!((root.name.as_str(), root.kind()), ("request", SpanKind::Server));
        let said = attributes(&root.attributes);
        for (key, value) in [
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("sluicegate.tenant", "acme"),
            ("sluicegate.key", "acme-1"),
            ("sluicegate.link_id", "order-7"),
            ("sluicegate.outcome", "whole"),
            ("sluicegate.bytes", "5"),
        ] {
            assert_eq!(said[key], value, "{key}");
        }
        assert!(said["sluicegate.rule"].contains("acme.toml:"), "{said:?}");
        assert!(!said.contains_key("sluicegate.code"), "{said:?}");
        for stage in ["verify", "decide", "admit", "fetch", "stream"] {
            assert_eq!(child(&rest, &root, stage).len(), 1, "{stage}");
        }
        let hops = child(&rest, child(&rest, &root, "fetch")[0], "hop");
        let statuses: Vec<_> =
            hops.iter().map(|hop| attributes(&hop.attributes)["http.response.status_code"].clone()).collect();
        assert_eq!(statuses, ["302", "200"]);
        assert_eq!(rest.len(), 7, "{rest:#?}");
    }

    #[test]
    fn what_failed_says_how() {
        let (upstream, collector) = (upstream(), Collector::start());
        let gateway = Gateway::start(&traced(&upstream, &collector.endpoint()));
        let refused = gateway.get(&Link::to(FILE).expires_in(-5).query());
        refused.expect(403, "link_expired");
        let (root, rest) = tree(&collector, refused.header("x-request-id").unwrap());
        let said = attributes(&root.attributes);
        assert_eq!(
            (said["sluicegate.outcome"].as_str(), said["sluicegate.code"].as_str()),
            ("refused", "link_expired")
        );
        assert_eq!(rest.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["verify"]);
        assert!(
            root.status.is_none_or(|status| status.code() == StatusCode::Unset),
            "a refusal is an answer"
        );

        let cut = gateway.fetch("http://files.test.example/cut");
        assert!(!cut.complete());
        let record = gateway.line(|line| line["code"] == "broke_off");
        let (root, rest) = tree(&collector, record["request_id"].as_str().unwrap());
        assert_eq!(root.status.as_ref().unwrap().code(), StatusCode::Error);
        let stream = child(&rest, &root, "stream")[0];
        assert_eq!(stream.status.as_ref().unwrap().message, "broke_off");
    }

    /// Nothing that opens a file, here or upstream, leaves for the collector.
    #[test]
    fn nothing_secret_is_exported() {
        let (upstream, collector) = (upstream(), Collector::start());
        let gateway = Gateway::start(&traced(&upstream, &collector.endpoint()));
        let query = Link::to(FILE).query();
        let signature = query.split_once("sig=").unwrap().1[..43].to_owned();
        let answer = gateway.get(&query);
        let bearer = "eyJhbGciOiJIUzI1NiIsImtpZCI6Im5vYm9keSJ9.eyJhIjoxfQ.c2VjcmV0LXNpZ25hdHVyZQ";
        let tokened = gateway.request("GET", "", &[("Authorization", &format!("Bearer {bearer}"))]);
        for id in [answer.header("x-request-id"), tokened.header("x-request-id")] {
            tree(&collector, id.unwrap());
        }
        collector.wait(|exports| {
            for (head, body) in exports {
                let all = head.clone() + &String::from_utf8_lossy(body);
                for secret in
                    [SECRET, "upstream-secret", &signature, bearer, "c2VjcmV0LXNpZ25hdHVyZQ", "sig="]
                {
                    assert!(!all.contains(secret), "{secret} was exported: {all}");
                }
            }
            Some(())
        });
    }

    /// What is still waiting when the server is asked to stop is sent before it does.
    #[test]
    fn the_last_spans_leave_before_the_server_does() {
        let (upstream, collector) = (upstream(), Collector::start());
        let setup = Setup::new(&upstream).set("traces.endpoint", &collector.endpoint());
        let mut gateway = Gateway::start(&setup.variable("OTEL_BSP_SCHEDULE_DELAY", "3600000"));
        let answer = gateway.fetch("http://files.test.example/a.bin");
        gateway.record(&answer);
        assert_eq!(gateway.stop().0, Some(0));
        let (root, _) = tree(&collector, answer.header("x-request-id").unwrap());
        assert_eq!(attributes(&root.attributes)["sluicegate.outcome"], "whole");
    }

    #[test]
    fn a_sample_of_none_is_none() {
        let (upstream, collector) = (upstream(), Collector::start());
        let mut gateway = Gateway::start(&traced(&upstream, &collector.endpoint()).set("traces.sample", "0"));
        gateway.record(&gateway.fetch("http://files.test.example/a.bin"));
        gateway.stop();
        collector.wait(|exports| {
            assert_eq!(exports.len(), 0);
            Some(())
        });
    }

    /// A collector that nobody runs, and one that never answers: requests are served as ever.
    #[test]
    fn a_collector_that_is_down_breaks_nothing() {
        let upstream = upstream();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = free_port();
        for address in [closed, silent.local_addr().unwrap()] {
            let gateway = Gateway::start(&traced(&upstream, &format!("http://{address}")));
            for _ in 0..50 {
                assert_eq!(gateway.fetch("http://files.test.example/a.bin").body, b"hello");
            }
            gateway.line(|line| line["message"] == "traces not sent" && line["level"] == "WARN");
            assert_eq!(gateway.fetch("http://files.test.example/a.bin").body, b"hello");
        }
    }

    /// The function sends its spans at the end of each invocation, since it may be frozen after it.
    #[cfg(feature = "lambda")]
    #[test]
    fn the_function_sends_after_each_invocation() {
        let (upstream, collector) = (upstream(), Collector::start());
        let setup = Setup::new(&upstream).set("traces.endpoint", &collector.endpoint());
        let function = Function::start(setup.variable("OTEL_BSP_SCHEDULE_DELAY", "3600000"));
        for (path, outcome) in [("a.bin", "whole"), ("cut", "aborted")] {
            let posted = function.get(&Link::to(&format!("http://files.test.example/{path}")).query());
            let (root, rest) = tree(&collector, &posted.header("x-request-id").unwrap());
            assert_eq!(attributes(&root.attributes)["sluicegate.outcome"], outcome);
            assert_eq!(child(&rest, &root, "stream").len(), 1);
        }
    }

    /// A collector that never answers holds the function up for half a second once, and then for a minute not at all.
    #[cfg(feature = "lambda")]
    #[test]
    fn the_function_does_not_wait_for_a_silent_collector() {
        let upstream = upstream();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let function = Function::start(Setup::new(&upstream).set("traces.endpoint", &endpoint));
        let begun = std::time::Instant::now();
        for invocation in 1..=10 {
            let posted = function.get(&Link::to("http://files.test.example/a.bin").query());
            assert_eq!((posted.body(), posted.whole), (b"hello".to_vec(), true));
            function.api.wait_polls(1 + invocation);
        }
        // An export of its own would take five seconds to give up.
        assert!(begun.elapsed() < std::time::Duration::from_secs(4), "{:?}", begun.elapsed());
    }
}
