//! What the function writes for CloudWatch: one document in the Embedded Metric Format after each invocation, held against
//! the rules of its specification, with the values that the invocation must have left.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sluicegate::wire::metrics::{Kind, NAMES};
use support::{Function, Link, Setup, Signal, Step, Upstream, event, now, ok, text};

fn link(path: &str) -> String {
    Link::to(&format!("http://files.test.example{path}")).query()
}

fn upstream() -> Upstream {
    Upstream::start(|request| match request.target() {
        "/short" => text("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
            .into_iter()
            .chain([Step::Close])
            .collect(),
        _ => vec![Step::Send(ok(&[], b"hello"))],
    })
}

/// A document, held against the specification: "Specification: Embedded metric format" in the CloudWatch user guide.
fn document(line: &str, namespace: &str) -> Value {
    assert!(line.len() < 4096, "a pipe would not take it in one piece: {} bytes", line.len());
    let document: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let root = document.as_object().unwrap();
    let metadata = root["_aws"].as_object().unwrap();
    assert_eq!(metadata.keys().collect::<Vec<_>>(), ["CloudWatchMetrics", "Timestamp"]);
    // Up to 14 days old and 2 hours ahead are taken; ours are of this moment, in milliseconds.
    let age = now().abs_diff(metadata["Timestamp"].as_u64().unwrap() / 1000);
    assert!(age < 60, "{age} seconds off");
    let directives = metadata["CloudWatchMetrics"].as_array().unwrap();
    assert!(!directives.is_empty());
    let mut targets: BTreeSet<&str> = ["_aws"].into();
    for directive in directives {
        let directive = directive.as_object().unwrap();
        assert_eq!(directive.keys().collect::<Vec<_>>(), ["Dimensions", "Metrics", "Namespace"]);
        assert_eq!(directive["Namespace"], namespace);
        let sets = directive["Dimensions"].as_array().unwrap();
        assert_eq!(sets.len(), 1, "each set is a metric that is paid for");
        let set: Vec<_> = sets[0].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
        assert!(set.len() <= 30);
        for key in &set {
            let value = root[*key].as_str().unwrap();
            assert!((1..=1024).contains(&value.len()) && value.is_ascii(), "{key}: {value}");
        }
        targets.extend(&set);
        let metrics = directive["Metrics"].as_array().unwrap();
        assert!((1..=100).contains(&metrics.len()));
        for definition in metrics {
            let name = definition["Name"].as_str().unwrap();
            assert!(targets.insert(name), "{name} twice");
            check_metric(name, definition, &set, &root[name]);
        }
    }
    assert_eq!(root.keys().map(String::as_str).collect::<BTreeSet<_>>(), targets, "members without a use");
    document
}

fn check_metric(name: &str, definition: &Value, dimensions: &[&str], value: &Value) {
    let ours =
        NAMES.iter().find(|ours| ours.name == name).unwrap_or_else(|| panic!("{name} is not in the list"));
    assert!(ours.lambda, "{name} is for the server");
    assert_eq!(dimensions, ours.labels, "{name}");
    assert_eq!(definition.as_object().unwrap().len(), 2, "{definition}");
    let unit = if name.ends_with("_seconds") {
        "Seconds"
    } else if name.contains("_bytes_") {
        "Bytes"
    } else {
        "Count"
    };
    assert_eq!(definition["Unit"], unit, "{name}");
    match value.as_array() {
        Some(values) => {
            assert_eq!(ours.kind, Kind::Histogram, "{name}");
            assert!(
                (1..=100).contains(&values.len()) && values.iter().all(Value::is_number),
                "{name}: {value}"
            );
        }
        None => assert!(value.is_number() && ours.kind != Kind::Histogram, "{name}: {value}"),
    }
}

/// The members that are values of metrics or dimensions, without the times, which nobody knows beforehand.
fn values(mut document: Value) -> Value {
    let members = document.as_object_mut().unwrap();
    members.remove("_aws");
    for times in ["sluicegate_request_duration_seconds", "sluicegate_first_byte_seconds"] {
        if let Some(Value::Array(values)) = members.remove(times) {
            assert!(values.len() == 1 && values[0].as_f64().unwrap() > 0.0, "{times}: {values:?}");
            members.insert(times.to_owned(), "once".into());
        }
    }
    document
}

#[test]
fn an_invocation_leaves_one_document() {
    let upstream = upstream();
    let setup =
        Setup::new(&upstream).set("metrics.namespace", "Sluicegate/stack-1").set("metrics.tenants", "acme");
    let mut function = Function::start(setup);
    let mut lines = 0;
    let mut next = |query: &str| {
        let posted = function.get(query);
        lines += 1;
        let printed = function.printed(lines);
        assert_eq!(printed.len(), lines, "{printed:#?}");
        (posted, values(document(&printed[lines - 1], "Sluicegate/stack-1")))
    };
    // The start is in the first one too.
    let (posted, first) = next(&link("/a.bin"));
    assert_eq!((posted.body(), posted.whole), (b"hello".to_vec(), true));
    let whole = json!({
        "outcome": "whole", "code": "none", "tenant": "acme",
        "sluicegate_requests_total": 1, "sluicegate_sent_bytes_total": 5, "sluicegate_requests_active": 1.0,
        "sluicegate_request_duration_seconds": "once", "sluicegate_first_byte_seconds": "once",
    });
    let mut with_start = whole.clone();
    for (name, value) in [
        ("result", json!("ok")),
        ("sluicegate_policy_loads_total", json!(1)),
        ("sluicegate_policy_tenants", json!(1.0)),
        ("sluicegate_policy_keys", json!(1.0)),
    ] {
        with_start[name] = value;
    }
    assert_eq!(first, with_start);
    assert_eq!(next(&link("/a.bin")).1, whole);

    let (posted, aborted) = next(&link("/short"));
    assert!(!posted.whole);
    let expected = json!({
        "outcome": "aborted", "code": "broke_off", "tenant": "acme", "sluicegate_aborted_total": 1,
        "sluicegate_requests_total": 1, "sluicegate_sent_bytes_total": 5, "sluicegate_requests_active": 1.0,
        "sluicegate_request_duration_seconds": "once", "sluicegate_first_byte_seconds": "once",
    });
    assert_eq!(aborted, expected);

    let (posted, refused) = next("url=https://files.test.example/");
    posted.expect(401, "missing_credential");
    let expected = json!({
        "outcome": "refused", "code": "missing_credential", "tenant": "none", "sluicegate_refused_total": 1,
        "sluicegate_requests_total": 1, "sluicegate_requests_active": 1.0,
        "sluicegate_request_duration_seconds": "once",
    });
    assert_eq!(refused, expected);

    // The next one is asked for after the line: whatever else were written would be there.
    function.api.wait_polls(5);
    function.end();
    assert_eq!(function.printed(4).len(), 4);
}

/// The platform takes no more in the middle of a body: its record is in the line all the same.
#[test]
fn an_answer_that_is_cut_off_is_in_its_own_line() {
    const LENGTH: u64 = 64 * 1024 * 1024;
    let upstream = Upstream::always(|| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
        vec![Step::Send(head.into_bytes()), Step::Zeros(LENGTH)]
    });
    let function = Function::start(Setup::new(&upstream));
    function.api.refuse(true);
    let id = function.api.invoke(&event("GET", "/", &link("/large.bin"), &[]));
    function.api.wait_given_up(&id);
    let document = document(&function.printed(1)[0], "Sluicegate");
    assert_eq!((&document["outcome"], &document["code"]), (&json!("aborted"), &json!("client_left")));
    assert_eq!(document["sluicegate_requests_total"], 1);
    assert_eq!(document.get("sluicegate_aborted_total"), None, "nothing broke here");
}

/// Something that is no request has no record; it is an ERROR line and nothing else.
#[test]
fn an_event_that_is_no_request_is_an_error_line() {
    let upstream = upstream();
    let function = Function::start(Setup::new(&upstream));
    let posted = function.invoke(&json!({ "source": "aws.events" }));
    assert_eq!(posted.what, "error");
    let document = document(&function.printed(1)[0], "Sluicegate");
    assert_eq!(document["sluicegate_error_lines_total"], 1);
    assert_eq!(document.get("sluicegate_requests_total"), None);
}

#[test]
fn without_a_namespace_nothing_is_written() {
    let upstream = upstream();
    let mut function = Function::start(Setup::new(&upstream).set("metrics.namespace", ""));
    assert!(function.get(&link("/a.bin")).whole);
    function.api.wait_polls(2);
    function.end();
    assert_eq!(function.printed(0), [""; 0]);
}

/// Several invocations in one process: whichever line has them, each is counted once.
#[test]
fn invocations_side_by_side_are_counted_once() {
    let all = Signal::new();
    let gate = all.clone();
    let upstream = Upstream::start(move |request| match request.target() {
        "/held" => vec![Step::Wait(gate.clone()), Step::Send(ok(&[], b"hello"))],
        _ => vec![Step::Send(ok(&[], b"hello"))],
    });
    let function = Function::start(Setup::new(&upstream).variable("AWS_LAMBDA_MAX_CONCURRENCY", "4"));
    let ids: Vec<_> = (0..4).map(|_| function.api.invoke(&event("GET", "/", &link("/held"), &[]))).collect();
    upstream.wait_requests(4);
    all.give();
    assert!(ids.iter().all(|id| function.api.posted(id).whole));
    let mut seen = 0;
    let (mut count, mut active) = (0, 0.0_f64);
    while count < 4 {
        for line in &function.printed(seen + 1)[seen..] {
            let document = document(line, "Sluicegate");
            count += document["sluicegate_requests_total"].as_u64().unwrap_or(0);
            active = active.max(document["sluicegate_requests_active"].as_f64().unwrap_or(0.0));
            seen += 1;
        }
    }
    assert_eq!((count, active), (4, 4.0));
}
