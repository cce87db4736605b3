//! The network between load, candidates and upstream: a loopback of their own with Linux's own congestion control.
//!
//! BBR, which some machines have instead, paces: each connection sends from a timer on the core that sent before. On a loopback
//! that measures those timers and whose core they are on, and a candidate that does less gets more of them
//! (`docs/performance.md`).

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::{fs, io};

use nix::sched::{CloneFlags, unshare};
use socket2::SockRef;

/// What Linux has unless it was told otherwise.
pub(crate) const USUAL: &str = "cubic";
/// Stands for what the system has, whatever it is.
pub(crate) const SYSTEM: &str = "system";

const FILE: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
const KNOWN: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";
const HELP: &str = "a network of one's own needs `ip`, and root or the right to make user namespaces; \
                    `--congestion system` measures with what the system has";

/// Set in the process that only tries whether there can be such a network.
const REHEARSAL: &str = "SLUICEGATE_REHEARSAL";

/// Tries [`enter`] in a process of its own, before minutes of building.
pub(crate) fn rehearse(wanted: &str) {
    if std::env::var_os(REHEARSAL).is_some() {
        enter(wanted);
        std::process::exit(0);
    }
    let again = std::env::current_exe().unwrap();
    let tried = Command::new(again).args(std::env::args_os().skip(1)).env(REHEARSAL, "").status();
    if !tried.unwrap().success() {
        std::process::exit(1);
    }
}

/// Goes into a network whose congestion control is `wanted`, with all that is started from now on; stays where it is if it has that.
/// Says what it is now.
pub(crate) fn enter(wanted: &str) -> String {
    let system = of_the_system();
    if [SYSTEM, system.as_str()].contains(&wanted) {
        return format!("{system}, as the system has it");
    }
    separate().unwrap_or_else(|reason| panic!("{reason}\n{HELP}"));
    let set = match fs::write(FILE, wanted) {
        // What the system does not allow everybody (`tcp_allowed_congestion_control`) cannot be the rule in a network of one's
        // own, but each route can have it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => route_by(wanted),
        other => other.map_err(|error| error.to_string()),
    };
    set.unwrap_or_else(|reason| {
        let known = fs::read_to_string(KNOWN).unwrap_or_default();
        panic!(
            "`{wanted}` cannot be the congestion control ({reason}); the kernel knows {}\n{HELP}",
            known.trim()
        )
    });
    assert_eq!(of_a_connection(), [wanted, wanted], "the congestion control is not what it was set to");
    format!("{wanted} (the system has {system})")
}

fn of_the_system() -> String {
    fs::read_to_string(FILE).unwrap().trim().to_owned()
}

/// What both ends of a connection have.
fn of_a_connection() -> [String; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    [near, far].map(|end| {
        let name = SockRef::from(&end).tcp_congestion().unwrap();
        String::from_utf8(name).unwrap().trim_end_matches('\0').to_owned()
    })
}

fn route_by(wanted: &str) -> Result<(), String> {
    ["127.0.0.0/8", "127.0.0.1"].into_iter().try_for_each(|place| {
        let route = ["local", place, "dev", "lo", "proto", "kernel", "scope", "host", "src", "127.0.0.1"];
        ip(["route", "change", "table", "local"].iter().chain(&route).chain(&["congctl", wanted]))
    })
}

fn ip<'a>(words: impl IntoIterator<Item = &'a &'a str>) -> Result<(), String> {
    let words: Vec<_> = words.into_iter().copied().collect();
    match Command::new("ip").args(&words).status() {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("`ip {}`: {other:?}", words.join(" "))),
    }
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
    ip(&["link", "set", "lo", "up"])
}
