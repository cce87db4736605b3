//! Pages that are generated or checked: they cannot differ from the code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::Command;

fn sluicegate(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sluicegate")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn page(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn the_page_of_problems_is_the_table() {
    let hint = "write it anew with `cargo run -q -- problems > docs/problems.md`";
    assert_eq!(page("docs/problems.md"), sluicegate(&["problems"]), "{hint}");
}

#[test]
fn the_policy_schema_is_the_readers() {
    let hint = "write it anew with `cargo run -q -- policy schema > policy/schema.json`";
    assert_eq!(page("policy/schema.json"), sluicegate(&["policy", "schema"]), "{hint}");
}

/// The policy that an operator begins with on AWS.
#[test]
fn the_example_for_aws_is_a_policy() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/aws");
    let said = sluicegate(&["policy", "check", "--offline", folder]);
    assert!(said.contains("no mistakes; 1 secret kept in AWS not fetched"), "{said}");
}

/// The policies that the READMEs show whole, each with its secret where the page says that it is.
#[test]
fn the_policies_on_the_pages_are_policies() {
    const SECRET: &str = "sgk1_0123456789abcdefghijklmnopqrstuvwxyz";
    for path in ["README.md", "policy/README.md"] {
        let page = page(path);
        let shown: Vec<&str> =
            page.split("```toml\n").skip(1).filter_map(|text| text.split("```").next()).collect();
        let whole: Vec<&&str> = shown.iter().filter(|text| text.starts_with("tenant = \"acme\"")).collect();
        assert!(!whole.is_empty(), "{path} shows no policy");
        for policy in whole {
            let folder = std::env::temp_dir().join(format!("sluicegate-docs-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("acme.toml"), policy).unwrap();
            std::fs::write(folder.join("acme.secret"), SECRET).unwrap();
            let output = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
                .args(["policy", "check"])
                .arg(&folder)
                .env("ACME_KEY_2027_01", SECRET)
                .output()
                .unwrap();
            std::fs::remove_dir_all(&folder).unwrap();
            assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stdout));
        }
    }
}

/// What operators write alarms and dashboards with.
#[test]
fn every_metric_has_its_row() {
    let page = page("docs/operations.md");
    for metric in sluicegate::wire::metrics::NAMES {
        let kind =
            format!("{:?}", metric.kind).to_lowercase() + if metric.lambda { "" } else { ", server only" };
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
        let row = format!("| `{}` | {kind} | {labels} | {} |", metric.name, metric.help);
        assert!(page.contains(&row), "docs/operations.md has no row {row}");
    }
    let rows = page.lines().filter(|line| line.starts_with("| `sluicegate_")).count();
    assert_eq!(rows, sluicegate::wire::metrics::NAMES.len());
}

/// Every field of the schema is explained in the policy folder's README.
#[test]
fn every_policy_field_is_explained() {
    let schema: serde_json::Value = serde_json::from_str(&page("policy/schema.json")).unwrap();
    let readme = page("policy/README.md");
    let mut objects: Vec<_> = schema["$defs"].as_object().unwrap().values().collect();
    objects.push(&schema);
    for field in
        objects.iter().filter_map(|object| object["properties"].as_object()).flat_map(serde_json::Map::keys)
    {
        assert!(readme.contains(&format!("`{field}`")), "policy/README.md does not explain `{field}`");
    }
}
