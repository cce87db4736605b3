//! The network between load, candidates and upstream: a loopback of their own with Linux's own congestion control.
//!
//! BBR, which some machines have instead, paces: each connection sends from a timer on the core that sent before. On a loopback
//! that measures those timers and whose core they are on, and a candidate that does less gets more of them
//! (`docs/performance.md`).

use std::fs;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// What Linux has unless it was told otherwise.
pub(crate) const USUAL: &str = "cubic";
/// Stands for what the system has, whatever it is.
pub(crate) const SYSTEM: &str = "system";

const FILE: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
const KNOWN: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";
const HELP: &str = "a network of one's own needs `ip`, and root or the right to make user namespaces; \
                    `--congestion system` measures with what the system has";

/// Goes into a network whose congestion control is `wanted`, with all that is started from now on; stays where it is if it has that.
/// Says what it is now.
pub(crate) fn enter(wanted: &str) -> String {
    let system = current();
    if [SYSTEM, system.as_str()].contains(&wanted) {
        return format!("{system}, as the system has it");
    }
    separate().unwrap_or_else(|reason| panic!("{reason}\n{HELP}"));
    fs::write(FILE, wanted).unwrap_or_else(|error| {
        let known = fs::read_to_string(KNOWN).unwrap_or_default();
        panic!("`{wanted}` cannot be the congestion control ({error}); the kernel knows {}", known.trim())
    });
    assert_eq!(current(), wanted, "the congestion control is not what it was set to");
    format!("{wanted} (the system has {system})")
}

fn current() -> String {
    fs::read_to_string(FILE).unwrap().trim().to_owned()
}

fn separate() -> Result<(), String> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let mut flags = CloneFlags::CLONE_NEWNET;
    if !user.is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).map_err(|error| format!("unshare: {error}"))?;
    if !user.is_root() {
        let maps = [
            ("setgroups", "deny".to_owned()),
            ("uid_map", format!("0 {} 1", user.as_raw())),
            ("gid_map", format!("0 {} 1", group.as_raw())),
        ];
        for (file, text) in maps {
            fs::write(format!("/proc/self/{file}"), text).map_err(|error| format!("`{file}`: {error}"))?;
        }
    }
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    match up {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("`ip link set lo up`: {other:?}")),
    }
}
