//! `sluicegate edge` as a person calls it: what it writes, for whom, and what it refuses to do.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SECRET: &str = "sgk1_cli-0123456789abcdefghijklmnopqrstuvwxyz";

fn folder(name: &str) -> PathBuf {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("edge-cli-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("policy")).unwrap();
    std::fs::write(folder.join("policy/acme.secret"), SECRET).unwrap();
    let policy = "tenant = \"acme\"\n[[keys]]\nid = \"acme-1\"\nsecret = \"file:acme.secret\"\n";
    std::fs::write(folder.join("policy/acme.toml"), policy).unwrap();
    folder
}

fn edge(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.env_clear().current_dir(folder).arg("edge").args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn an_export_is_for_its_owner_alone() {
    let folder = folder("owner");
    let file = folder.join("entries.json");
    std::fs::write(&file, "older").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let done = edge(&folder, &["export", "--out", "entries.json"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(!text(&done.stdout).contains(SECRET) && text(&done.stdout).contains("11 entries"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let document: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let entries = document["data"].as_array().unwrap();
    let key = entries.iter().find(|entry| entry["key"] == "k/acme-1").unwrap();
    assert!(key["value"].as_str().unwrap().contains(SECRET));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "nothing is left beside it");

    let printed = edge(&folder, &["export", "--out", "-"]);
    assert_eq!(text(&printed.stdout), std::fs::read_to_string(&file).unwrap());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn an_export_takes_no_devices_place_and_no_half_of_a_policy() {
    let folder = folder("place");
    assert!(Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap().success());
    std::os::unix::fs::symlink("/dev/null", folder.join("link")).unwrap();
    for out in ["pipe", "link", "policy"] {
        let done = edge(&folder, &["export", "--out", out]);
        assert_eq!(done.status.code(), Some(2), "{out}");
        assert!(text(&done.stderr).contains("is no regular file; name another"), "{}", text(&done.stderr));
    }
    std::fs::remove_file(folder.join("policy/acme.secret")).unwrap();
    let done = edge(&folder, &["export", "--out", "-"]);
    assert_eq!((done.status.code(), text(&done.stdout).as_str()), (Some(1), ""));
    assert!(text(&done.stderr).contains("acme.toml") && text(&done.stderr).contains("nothing was written"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_sync_takes_whole_folders_and_says_what_it_needs() {
    let folder = folder("sync");
    let arn = "arn:aws:cloudfront::123456789012:key-value-store/11111111-2222-3333-4444-555555555555";
    for (arguments, status, said) in [
        (vec!["sync", "--store", arn, "--policy", "policy/acme.toml"], 2, "name the whole folder"),
        (vec!["sync", "--store", "nonsense"], 2, "`nonsense`"),
        (vec!["sync"], 2, "--store"),
        (vec!["sync", "--store", arn], 2, "credentials"),
    ] {
        let done = edge(&folder, &arguments);
        let (said_there, shown) = (text(&done.stderr), text(&done.stdout));
        assert_eq!(done.status.code(), Some(status), "{arguments:?} {said_there}");
        assert!(said_there.contains(said), "{arguments:?} {said_there}");
        assert!(!said_there.contains(SECRET) && shown.is_empty(), "{arguments:?}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
