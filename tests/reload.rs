//! Policies that change while the gateway runs.

#![cfg(all(feature = "cli", feature = "lambda"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use support::*;

const URL: &str = "http://files.test.example/a.txt";

fn edit(gateway: &Gateway, change: impl Fn(String) -> String) {
    let path = gateway.policy_folder().join(format!("{TENANT}.toml"));
    let text = change(std::fs::read_to_string(&path).unwrap());
    // As editors do it: a new file takes the old one's place.
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

#[test]
fn a_change_takes_effect_and_a_bad_edit_keeps_the_old_set_and_says_so() {
    let upstream = Upstream::start(|_| vec![Step::Send(ok(&[], b"x"))]);
    let gateway = Gateway::start(&Setup::new(&upstream));
    assert_eq!(gateway.fetch(URL).status, 200);

    edit(&gateway, |text| format!("{text}\n[revoked]\nlink_ids = [\"seven\"]\n"));
    gateway.line(|line| line["message"] == "policy reloaded");
    gateway.get(&gateway.link(URL).with("id", "seven").query()).expect(403, "link_revoked");

    edit(&gateway, |text| text.replace("\"seven\"", "\"se ven\""));
    let line =
        gateway.line(|line| line["message"].as_str().is_some_and(|text| text.contains("not reloaded")));
    assert!(line["file"].as_str().unwrap().ends_with("acme.toml"), "{line}");
    assert!(line["line"].as_u64().unwrap() > 1 && line["column"].as_u64().unwrap() > 1, "{line}");
    gateway.get(&gateway.link(URL).with("id", "seven").query()).expect(403, "link_revoked");
    assert_eq!(gateway.fetch(URL).status, 200, "the old set still serves");

    // One more key makes this reload's line another than the first one's.
    let key = "[[keys]]\nid = \"acme-2\"\nsecret = \"file:rig.secret\"\n";
    edit(&gateway, |text| format!("{}\n{key}", text.replace("\"se ven\"", "\"eight\"")));
    gateway.line(|line| line["message"] == "policy reloaded" && line["keys"] == 2);
    gateway.get(&gateway.link(URL).with("id", "eight").query()).expect(403, "link_revoked");
    assert_eq!(gateway.get(&gateway.link(URL).with("kid", "acme-2").query()).status, 200);
}

#[test]
fn a_tenant_that_is_removed_is_gone() {
    let upstream = Upstream::start(|_| vec![Step::Send(ok(&[], b"x"))]);
    let other = "tenant = \"other\"\n[[keys]]\nid = \"other-1\"\nsecret = \"file:rig.secret\"\n";
    let gateway = Gateway::start(&Setup::new(&upstream).tenant("other", other));
    std::fs::remove_file(gateway.policy_folder().join(format!("{TENANT}.toml"))).unwrap();
    gateway.line(|line| line["message"] == "policy reloaded" && line["tenants"] == 1);
    gateway.fetch(URL).expect(403, "invalid_signature");
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_running_download_keeps_the_permit_it_began_with() {
    let go = Signal::new();
    let wait = go.clone();
    let upstream = Upstream::start(move |_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234";
        vec![Step::Send(head.into()), Step::Wait(wait.clone()), Step::Send(b"56789".to_vec())]
    });
    let gateway = Gateway::start(&Setup::new(&upstream).set("timeouts.idle", "15s"));
    let mut client = gateway.client();
    client.request("GET", &gateway.link(URL).query(), &[]);
    client.peek(1);
    edit(&gateway, |text| format!("{text}\n[revoked]\nkeys = [\"{KEY}\"]\n"));
    gateway.line(|line| line["message"] == "policy reloaded");
    gateway.fetch(URL).expect(403, "link_revoked");
    go.give();
    let answer = client.answer("GET");
    assert!(answer.complete() && answer.body == b"0123456789");
}

/// A folder that is swapped for another as a whole, as deployments do it, is noticed; and so is what changes in it later.
#[test]
fn a_swapped_folder_is_followed() {
    let upstream = Upstream::start(|_| vec![Step::Send(ok(&[], b"x"))]);
    let gateway = Gateway::start(&Setup::new(&upstream));
    let folder = gateway.policy_folder();
    let fresh = folder.with_file_name("policy.new");
    std::fs::create_dir(&fresh).unwrap();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, fresh.join(path.file_name().unwrap())).unwrap();
    }
    let key = "tenant = \"other\"\n[[keys]]\nid = \"other-1\"\nsecret = \"file:rig.secret\"\n";
    std::fs::write(fresh.join("other.toml"), key).unwrap();
    std::fs::rename(&folder, folder.with_file_name("policy.old")).unwrap();
    std::fs::rename(&fresh, &folder).unwrap();
    gateway.line(|line| line["message"] == "policy reloaded" && line["tenants"] == 2);
    edit(&gateway, |text| {
        format!(
            "{text}\n[revoked]\nkeys = [\"{KEY}\"]\n[[keys]]\nid = \"acme-2\"\nsecret = \"file:rig.secret\"\n"
        )
    });
    gateway.line(|line| line["message"] == "policy reloaded" && line["keys"] == 3);
    gateway.fetch(URL).expect(403, "link_revoked");
}

/// What cannot be watched is said, and what comes in its place is watched again.
#[test]
fn a_folder_that_was_away_is_followed_when_it_is_back() {
    let upstream = Upstream::start(|_| vec![Step::Send(ok(&[], b"x"))]);
    let gateway = Gateway::start(&Setup::new(&upstream));
    let folder = gateway.policy_folder();
    let (away, nowhere) = (folder.with_file_name("policy.away"), folder.with_file_name("nowhere"));
    std::fs::rename(&folder, &away).unwrap();
    std::os::unix::fs::symlink(&nowhere, &folder).unwrap();
    let line = gateway.line(|line| {
        line["level"] == "ERROR"
            && line["message"].as_str().is_some_and(|text| text.starts_with("cannot watch"))
    });
    assert!(line["reason"].as_str().unwrap().contains("No such file"), "{line}");
    assert_eq!(gateway.fetch(URL).status, 200, "the old set still serves");
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();
    gateway.line(|line| line["message"] == "policy reloaded");
    edit(&gateway, |text| format!("{text}\n[[keys]]\nid = \"acme-2\"\nsecret = \"file:rig.secret\"\n"));
    gateway.line(|line| line["message"] == "policy reloaded" && line["keys"] == 2);
    // In place too.
    let file = folder.join(format!("{TENANT}.toml"));
    let text = std::fs::read_to_string(&file).unwrap();
    let more = "[[keys]]\nid = \"acme-3\"\nsecret = \"file:rig.secret\"\n";
    std::fs::write(file, format!("{text}{more}[revoked]\nkeys = [\"{KEY}\"]\n")).unwrap();
    gateway.line(|line| line["message"] == "policy reloaded" && line["keys"] == 3);
    gateway.fetch(URL).expect(403, "link_revoked");
}

/// A pipe where a policy should be must not keep a reload waiting for ever.
#[test]
fn what_is_no_file_is_refused_and_the_next_change_counts() {
    let upstream = Upstream::start(|_| vec![Step::Send(ok(&[], b"x"))]);
    let gateway = Gateway::start(&Setup::new(&upstream));
    let pipe = gateway.policy_folder().join("pipe.toml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    gateway.line(|line| line["reason"].as_str().is_some_and(|reason| reason.contains("not a regular file")));
    std::fs::remove_file(pipe).unwrap();
    edit(&gateway, |text| format!("{text}\n[[keys]]\nid = \"acme-2\"\nsecret = \"file:rig.secret\"\n"));
    gateway.line(|line| line["message"] == "policy reloaded" && line["keys"] == 2);
}
