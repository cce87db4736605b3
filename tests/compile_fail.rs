//! Programs that must not compile: each tries to reach a room of the gateway without the one before it.
//!
//! Each file names the error it must fail with; nothing else of the compiler's wording matters, so that any compiler will do.
//! `control.rs` walks the same way in the right order and must compile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn cases() -> BTreeMap<String, String> {
    let folder = std::fs::read_dir(Path::new(ROOT).join("tests/compile_fail")).unwrap();
    let files = folder.map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// A package beside the project that holds every case as a program, with the project's lock file and profiles, so that
/// what was compiled for the project is not compiled again.
fn package(cases: &BTreeMap<String, String>) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compile_fail");
    std::fs::create_dir_all(&folder).unwrap();
    let project = std::fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    let profiles = project.find("[profile.dev]").map_or("", |at| &project[at..]);
    let mut manifest = format!(
        "[package]\nname = \"compile-fail\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         [workspace]\n[dependencies]\nsluicegate = {{ path = {ROOT:?} }}\nserde = \"1\"\n{profiles}\n"
    );
    for name in cases.keys() {
        let path = Path::new(ROOT).join("tests/compile_fail").join(format!("{name}.rs"));
        let _ = write!(manifest, "[[bin]]\nname = \"{name}\"\npath = \"{}\"\n", path.display());
    }
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::copy(Path::new(ROOT).join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    folder
}

/// The errors of each program: code and text.
fn errors(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["check", "--offline", "--keep-going", "--message-format=json", "--bins"])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .unwrap();
    let mut errors: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let message: Value = serde_json::from_str(line).unwrap();
        if message["reason"] == "compiler-message" && message["message"]["level"] == "error" {
            let target = message["target"]["name"].as_str().unwrap().to_owned();
            let text = format!("{} {}", message["message"]["code"]["code"], message["message"]["message"]);
            errors.entry(target).or_default().push(text);
        }
    }
    assert!(!errors.is_empty(), "nothing was checked: {}", String::from_utf8_lossy(&output.stderr));
    errors
}

#[test]
fn the_rooms_cannot_be_entered_out_of_order() {
    let cases = cases();
    let errors = errors(&package(&cases));
    assert!(cases.len() > 6);
    for (name, source) in &cases {
        let found = errors.get(name).cloned().unwrap_or_default();
        let Some(expected) = source.lines().find_map(|line| line.strip_prefix("//! error: ")) else {
            assert_eq!(name, "control", "{name} does not say how it must fail");
            assert!(found.is_empty(), "the control must compile: {found:#?}");
            continue;
        };
        let own = found.iter().filter(|text| !text.contains("aborting due to"));
        let fitting = own.clone().filter(|text| text.contains(expected)).count();
        assert!(fitting > 0, "{name} must fail with `{expected}`: {found:#?}");
        assert_eq!(fitting, own.count(), "{name} must fail with `{expected}` alone: {found:#?}");
        // One error for each of the types that `copy_a_permit` tries.
        assert_eq!(name == "copy_a_permit", fitting == 7, "{found:#?}");
    }
}
