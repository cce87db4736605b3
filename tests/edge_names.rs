//! The name of a download at the edge: the deployed viewer-response function, under njs, writes for every signed name the
//! `Content-Disposition` that the gateway writes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/deployed.rs"]
mod deployed;

use std::fmt::Write as _;
use std::process::Command;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use sluicegate::gate::filename::{Disposition, FileName, SignedFileName, content_disposition};

/// As encodeURIComponent writes it, which viewer-request calls.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

const ANSWERS: &str = "
import fs from 'fs';
var lines_ = fs.readFileSync('events', 'utf8').split('\\n');
var answers_ = [];
for (var at_ = 0; at_ < lines_.length; at_++) {
    if (lines_[at_] !== '') {
        answers_.push(JSON.stringify(handler(JSON.parse(lines_[at_])).headers));
    }
}
fs.writeFileSync('answers', answers_.join('\\n'));
";

#[rustfmt::skip]
const PLAIN: &[&str] = &[
    "report.pdf", "annual report (1).pdf", "a'b*c.txt", "a!b#c$d&e+f^g`h|i~j.txt", "100%.txt", "50%25.txt",
    "a\"b.txt", "a;b=c.txt", "ä.txt", "Отчёт за год.pdf", "年度報告.pdf", "😀.png", "e\u{301}.txt",
    "\u{feff}bom.txt", "a\u{a0}b.txt", "\u{a0}a.txt\u{a0}", " a.txt ", ".hidden", "...", ". .", "a.", "a..",
    "~", "~x", "~~x", "CON", "con.txt", "CON .txt", "con:x", "nul", "NUL.tar.gz", "COM1", "com¹.txt", "COM10",
    "LPT9.x", "lpt0", "CONIN$", "CLOCK$.txt", "aux", "auxiliary", "PRN.", " prn", "a<b>c:d|e?f.txt",
    "\u{3000}a\u{3000}", "\u{2003}.x", "x\u{1680}", "ß", "İ", "ſ", "名.tar.gz", "\u{e000}", "a\u{ad}b",
    "\u{fff9}", "\u{10ffff}", "%", "\"", "%22", "a,b", "@{[]}",
];

/// Names in every script and with every trap: edges, devices, reserved characters, lengths around 255 bytes.
fn names() -> Vec<String> {
    let mut names: Vec<String> = PLAIN.iter().map(|name| (*name).to_owned()).collect();
    for length in 250..=255 {
        for (letter, size) in [("x", 1), ("ж", 2), ("語", 3), ("😀", 4)] {
            for ending in ["", ".pdf", ".tar.gz", ".TAR.xz", " .pdf", ".a b"] {
                let stem = letter.repeat((length - ending.len()) / size);
                for front in ["", "~", "con.", " "] {
                    let name = format!("{front}{stem}{ending}");
                    names.push(if front == "~" { name.replacen(letter, "", 1) } else { name });
                }
            }
        }
    }
    names
}

#[test]
fn every_signed_name_reads_as_the_gateway_writes_it() {
    let unnamed = "from the url.bin";
    let types = [
        "application/pdf",
        "text/html; charset=utf-8",
        "image/png",
        "image/svg+xml",
        "video/mp4",
        "text/plain",
        "application/octet-stream",
    ];
    let mut events = String::new();
    let mut expected = Vec::new();
    let (mut skipped, names) = (0, names());
    for (at, name) in names.iter().enumerate() {
        let Ok(signed) = SignedFileName::parse(name) else {
            skipped += 1;
            continue;
        };
        let kind = types[at % types.len()];
        let asked = if at % 2 == 0 { "inline" } else { "attachment" };
        let note = format!("1900000000 {asked} {}", utf8_percent_encode(name, COMPONENT));
        writeln!(events, "{}", event(&note, kind, unnamed)).unwrap();
        let mime: mime::Mime = kind.parse().unwrap();
        let shown = matches!(
            (mime.type_(), mime.subtype().as_str()),
            (mime::IMAGE, "png") | (mime::VIDEO, _) | (mime::TEXT, "plain") | (mime::APPLICATION, "pdf")
        );
        let disposition =
            if shown && asked == "inline" { Disposition::Inline } else { Disposition::Attachment };
        // Whatever the cache was told of an unnamed link comes after the signed name.
        let chosen = FileName::choose(Some(&signed), None, "/from%20the%20url.bin", Some(&mime), None);
        expected.push((name.clone(), content_disposition(disposition, &chosen).to_str().unwrap().to_owned()));
    }
    let answers = run(&events);
    assert!(expected.len() > 300 && skipped < expected.len() / 3, "{} and {skipped}", expected.len());
    assert_eq!(answers.len(), expected.len());
    for ((name, wanted), answer) in expected.iter().zip(&answers) {
        assert_eq!(answer["content-disposition"]["value"], *wanted, "{name:?}");
        assert_eq!(answer["x-sluicegate-filename"], Value::Null);
    }
}

fn event(note: &str, kind: &str, unnamed: &str) -> Value {
    let field = |value: &str| json!({ "value": value });
    json!({
        "context": { "requestId": "one" },
        "request": { "headers": { "x-sluicegate-link": field(note) } },
        "response": { "statusCode": 200, "headers": {
            "content-type": field(kind),
            "cache-control": field("max-age=60, s-maxage=60"),
            "content-disposition": field("attachment; filename=\"somebody else's.bin\""),
            "x-sluicegate-filename": field(&utf8_percent_encode(unnamed, NON_ALPHANUMERIC).to_string()),
        } },
    })
}

fn run(events: &str) -> Vec<Value> {
    let folder =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("edge-names-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("events"), events).unwrap();
    std::fs::write(folder.join("program.js"), format!("{}\n{ANSWERS}", deployed::code("ViewerResponse")))
        .unwrap();
    let output = Command::new("njs").arg("program.js").current_dir(&folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty() && output.stderr.is_empty(), "njs failed: {said}");
    let answers = std::fs::read_to_string(folder.join("answers")).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
