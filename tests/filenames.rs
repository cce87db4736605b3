//! The name under which curl, wget and a browser save a download is the name that was signed.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::*;

const URL: &str = "http://files.test.example/storage/0815.bin";
const BODY: &[u8] = b"the file's bytes";

/// A name, and how it looks where a tool knows only the plain `filename=`, or may not use a character.
struct Case {
    name: &'static str,
    curl: &'static str,
}

const CASES: [Case; 10] = [
    Case { name: "report.pdf", curl: "report.pdf" },
    Case { name: "Annual report 2026.pdf", curl: "Annual report 2026.pdf" },
    Case { name: "Отчёт за год.pdf", curl: "_____ __ ___.pdf" },
    Case { name: "年度报告.pdf", curl: "____.pdf" },
    Case { name: "party 🎉🎈.png", curl: "party __.png" },
    Case { name: "a;b=c,d.txt", curl: "a;b=c,d.txt" },
    Case { name: "100% sure.txt", curl: "100_ sure.txt" },
    Case { name: "per%20cent%2F.txt", curl: "per_20cent_2F.txt" },
    Case { name: "it's (1) [2] {3}.txt", curl: "it's (1) [2] {3}.txt" },
    Case { name: "say \"hi\".txt", curl: "say _hi_.txt" },
];

fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::start(|_| vec![Step::Send(ok(&[("content-type", "application/pdf")], BODY))]);
    let gateway = Gateway::start(&Setup::new(&upstream));
    (gateway, upstream)
}

fn link(gateway: &Gateway, name: &str) -> String {
    format!("http://{}/?{}", gateway.address(), gateway.link(URL).with("filename", name).query())
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("names-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Runs a download tool once per case, each in an empty folder, and gives the one file that it left.
fn saved(tool: &str, arguments: &[&str], case: &Case, gateway: &Gateway) -> String {
    let folder = folder(tool);
    let output = Command::new(tool)
        .args(arguments)
        .arg(link(gateway, case.name))
        .current_dir(&folder)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    assert!(output.status.success(), "{tool} {}: {}", case.name, String::from_utf8_lossy(&output.stderr));
    let names = names_in(&folder);
    assert_eq!(names.len(), 1, "{tool} {}: {names:?}", case.name);
    assert_eq!(std::fs::read(folder.join(&names[0])).unwrap(), BODY);
    std::fs::remove_dir_all(folder).unwrap();
    names[0].clone()
}

/// curl reads the plain `filename=` (RFC 6266 lets it), so names beyond ASCII arrive in their fallback.
#[test]
fn curl_saves_the_name() {
    let (gateway, _upstream) = gateway();
    for case in &CASES {
        assert_eq!(saved("curl", &["-sS", "-OJ"], case, &gateway), case.curl, "{}", case.name);
    }
}

#[test]
fn wget_saves_the_name() {
    let (gateway, _upstream) = gateway();
    for case in &CASES {
        let found = saved("wget", &["-q", "--no-proxy", "--content-disposition"], case, &gateway);
        // wget decodes percent signs once more after it has decoded `filename*`, as no other client does.
        assert_eq!(found, case.name.replace("%20", " "));
    }
}

/// Chromium replaces what no Windows file may be called (`"`) by itself; everything else arrives as signed.
#[test]
fn chromium_saves_the_name() {
    let (gateway, _upstream) = gateway();
    let folder = folder("chromium");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/download.mjs");
    let links = CASES.iter().map(|case| link(&gateway, case.name));
    let output = Command::new("node").arg(script).arg(&folder).args(links).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let done: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for (case, download) in CASES.iter().zip(done.as_array().unwrap()) {
        let expected = case.name.replace('"', "_");
        assert_eq!((&download["name"], &download["state"]), (&expected.as_str().into(), &"completed".into()));
        assert_eq!(std::fs::read(folder.join(&expected)).unwrap(), BODY, "{expected}");
    }
    assert_eq!(names_in(&folder).len(), CASES.len());
    std::fs::remove_dir_all(folder).unwrap();
}

/// Where the link signs no name: the upstream's, else the path's, else the policy's or one made from the type.
#[test]
fn an_unsigned_name_comes_from_the_upstream_then_the_path_then_the_type() {
    let upstream = Upstream::start(|request| {
        let fields: &[(&str, &str)] = match request.target() {
            "/named" => &[
                ("content-disposition", "attachment; filename*=UTF-8''%D1%8F.txt"),
                ("content-type", "text/plain"),
            ],
            "/evil" => &[
                ("content-disposition", "attachment; filename=\"../../etc/passwd\""),
                ("content-type", "text/plain"),
            ],
            "/" => &[("content-type", "video/mp4")],
            _ => &[("content-type", "application/pdf")],
        };
        vec![Step::Send(ok(fields, BODY))]
    });
    let gateway = Gateway::start(&Setup::new(&upstream));
    for (path, disposition) in [
        ("/named", "attachment; filename=\"_.txt\"; filename*=UTF-8''%D1%8F.txt"),
        ("/evil", "attachment; filename=\"passwd\""),
        ("/dir/%D0%9E%D1%82.pdf", "attachment; filename=\"__.pdf\"; filename*=UTF-8''%D0%9E%D1%82.pdf"),
        ("/dir/report", "attachment; filename=\"report.pdf\""),
        ("/", "attachment; filename=\"download.mp4\""),
    ] {
        let answer = gateway.fetch(&format!("http://files.test.example{path}"));
        assert_eq!(answer.header("content-disposition"), Some(disposition), "{path}");
    }
}
