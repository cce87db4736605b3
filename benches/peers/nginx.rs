//! nginx in its two parts: the upstream with TLS, and the peers that check a link by `secure_link`.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{AROUND, MEASURED, Process, free_port, on_core};
use super::world::{Folder, PLAIN_HOST, SECURE_HOST, World};

/// What links to the peers are signed with.
const SECRET: &str = "rig-secret";
/// The end of their time, far away.
const EXPIRES: &str = "4000000000";

/// How a peer is set up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// One upstream, connections kept, buffers as they come.
    Fixed,
    /// One upstream, connections kept, 2 MiB of buffers each, no temporary files.
    Big,
    /// The upstream is in the URL; nginx keeps no connections to such.
    FromUrl,
}

/// Fails where there is no nginx, before minutes of building.
pub(crate) fn check() {
    let looked = Command::new("nginx").arg("-v").output();
    assert!(
        looked.is_ok(),
        "the upstream and the peers are `nginx`, which is not here; install Debian's package nginx"
    );
}

/// The files in `folder/files` over TLS, with the certificate in `folder`.
pub(crate) fn upstream(folder: &Folder, address: SocketAddr) -> Process {
    let server = format!(
        "  sendfile on;\n  tcp_nopush on;\n  default_type application/octet-stream;\n  \
         open_file_cache max=16 inactive=1h;\n  open_file_cache_valid 1h;\n  server {{\n    \
         listen {address} ssl backlog=4096;\n    \
         ssl_certificate server.pem;\n    ssl_certificate_key server.key;\n    ssl_protocols TLSv1.3;\n    \
         root files;\n  }}\n"
    );
    Process::start_nginx(command(AROUND, folder, "upstream", &server), address)
}

/// A peer and where it listens.
pub(crate) fn peer(world: &World, folder: &Folder, peer: Peer) -> (Process, SocketAddr) {
    let address = free_port();
    let command = command(MEASURED, folder, "peer", &peer_server(world, address, peer));
    (Process::start_nginx(command, address), address)
}

/// The path and query of a link that the peer accepts.
pub(crate) fn link(world: &World, peer: Peer, secure: bool, file: &str) -> String {
    let scheme = if secure { "/secure/" } else { "/plain/" };
    let (path, url) = match peer {
        Peer::FromUrl => ("/url".to_owned(), format!("http://{}/{file}", world.plain)),
        _ => (format!("{scheme}{file}"), String::new()),
    };
    let md5 = md5(&format!("{EXPIRES}{path}{url} {SECRET}"));
    let url = if url.is_empty() { url } else { format!("&url={url}") };
    format!("{path}?md5={md5}&expires={EXPIRES}{url}")
}

/// As `secure_link_md5` writes it; by coreutils, so that no dependency brings a broken hash along.
fn md5(text: &str) -> String {
    use base64::Engine as _;
    let script = "printf %s \"$1\" | md5sum";
    let printed = Command::new("sh").args(["-c", script, "sh", text]).output().unwrap().stdout;
    let digits = String::from_utf8(printed).unwrap();
    let bytes: Vec<u8> =
        (0..16).map(|n| u8::from_str_radix(&digits[2 * n..2 * n + 2], 16).unwrap()).collect();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn peer_server(world: &World, address: SocketAddr, peer: Peer) -> String {
    let check = format!(
        "      secure_link $arg_md5,$arg_expires;\n      \
         secure_link_md5 \"$secure_link_expires$uri$arg_url {SECRET}\";\n      \
         if ($secure_link = \"\") {{ return 403; }}\n      if ($secure_link = \"0\") {{ return 410; }}\n"
    );
    let kept = "      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n";
    let buffers = match peer {
        Peer::Big => {
            "  proxy_buffers 8 256k;\n  proxy_buffer_size 256k;\n  proxy_busy_buffers_size 512k;\n  \
             proxy_max_temp_file_size 0;\n"
        }
        _ => "",
    };
    let mut text = String::from(buffers);
    for (name, upstream) in [("plain", world.plain), ("secure", world.secure)] {
        write!(
            text,
            "  upstream {name} {{\n    server {upstream};\n    keepalive 128;\n    keepalive_requests 1000000000;\n  }}\n"
        )
        .unwrap();
    }
    let ca = world.ca.display();
    write!(
        text,
        "  server {{\n    listen {address} backlog=4096;\n    \
         location /plain/ {{\n{check}{kept}      proxy_set_header Host {PLAIN_HOST};\n      \
         proxy_pass http://plain/;\n    }}\n    \
         location /secure/ {{\n{check}{kept}      proxy_set_header Host {SECURE_HOST};\n      \
         proxy_ssl_protocols TLSv1.3;\n      proxy_ssl_server_name on;\n      proxy_ssl_name {SECURE_HOST};\n      \
         proxy_ssl_trusted_certificate {ca};\n      proxy_ssl_verify on;\n      \
         proxy_pass https://secure/;\n    }}\n    \
         location /url {{\n{check}      proxy_pass $arg_url;\n    }}\n  }}\n"
    )
    .unwrap();
    text
}

fn program() -> PathBuf {
    // Debian keeps it where a user's path does not look.
    let debian = Path::new("/usr/sbin/nginx");
    if debian.exists() { debian.to_owned() } else { PathBuf::from("nginx") }
}

fn command(core: usize, folder: &Folder, name: &str, http: &str) -> Command {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {name}-{kind};\n"))
        .concat();
    // Workers are another user otherwise, who cannot read a folder of root.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let text = format!(
        "daemon off;\n{user}worker_processes 1;\nworker_rlimit_nofile 16384;\npid {name}.pid;\n\
         error_log stderr crit;\nevents {{\n  worker_connections 8192;\n}}\nhttp {{\n  access_log off;\n  \
         keepalive_requests 1000000000;\n  keepalive_timeout 600s;\n{temporary}{http}}}\n"
    );
    let file = folder.path().join(format!("{name}.conf"));
    std::fs::write(&file, text).unwrap();
    let mut command = on_core(core, &program());
    command.arg("-p").arg(folder.path()).arg("-c").arg(&file).args(["-e", "stderr"]);
    command
}
