//! Who is measured, how each is started, and what each is asked for a file.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use sluicegate::gate::hmac::HmacKey;
use sluicegate::gate::id::{KeyId, UnixTime};
use sluicegate::gate::mint::Draft;

use super::load::Target;
use super::nginx::{self, Peer};
use super::process::{MEASURED, Process, free_port, on_core};
use super::world::{Folder, PLAIN_HOST, SECURE_HOST, World};

/// Everybody who can be measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `sluicegate serve` with so many tenants, and links of so many of them.
    Gateway {
        tenants: usize,
        asked: usize,
    },
    Nginx(Peer),
    /// Another build of `sluicegate`, with one tenant: how a change is measured next to what was before it.
    Build(&'static str),
    /// The program `bare` with these arguments.
    Bare(&'static [&'static str]),
}

/// A kind by its name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

/// In the order of the tables.
pub(crate) const ALL: &[Named] = &[
    Named { name: "gateway", kind: Kind::Gateway { tenants: 10_000, asked: 1 } },
    Named { name: "gateway-1", kind: Kind::Gateway { tenants: 1, asked: 1 } },
    Named { name: "gateway-100", kind: Kind::Gateway { tenants: 100, asked: 100 } },
    Named { name: "gateway-10000", kind: Kind::Gateway { tenants: 10_000, asked: 10_000 } },
    Named { name: "nginx-fixed", kind: Kind::Nginx(Peer::Fixed) },
    Named { name: "nginx-big", kind: Kind::Nginx(Peer::Big) },
    Named { name: "nginx-url", kind: Kind::Nginx(Peer::FromUrl) },
    Named { name: "hyper-16k", kind: Kind::Bare(&["hyper", "16384"]) },
    Named { name: "hyper-1m", kind: Kind::Bare(&["hyper", "1048576"]) },
    Named { name: "raw-copy", kind: Kind::Bare(&["copy", "65536"]) },
    Named { name: "raw-splice", kind: Kind::Bare(&["splice", "262144"]) },
    Named { name: "reqwest", kind: Kind::Bare(&["reqwest", "0"]) },
];

/// One that runs.
pub(crate) struct Candidate {
    pub(crate) process: Process,
    kind: Kind,
    address: SocketAddr,
    _folder: Folder,
}

impl Candidate {
    pub(crate) fn start(world: &World, named: Named) -> Self {
        let folder = Folder::new(named.name);
        let (process, address) = match named.kind {
            Kind::Gateway { tenants, .. } => gateway(world, &world.gateway, &folder, tenants),
            Kind::Build(binary) => gateway(world, Path::new(binary), &folder, 1),
            Kind::Nginx(peer) => nginx::peer(world, &folder, peer),
            Kind::Bare(arguments) => bare(world, arguments),
        };
        Self { process, kind: named.kind, address, _folder: folder }
    }

    /// The requests for the file of `size` bytes, from the upstream without TLS or with.
    pub(crate) fn target(&self, world: &World, secure: bool, size: u64) -> Target {
        let file = size.to_string();
        let paths = match self.kind {
            Kind::Gateway { asked, .. } => (0..asked).map(|tenant| link(tenant, secure, &file)).collect(),
            Kind::Build(_) => vec![link(0, secure, &file)],
            Kind::Nginx(peer) => vec![nginx::link(world, peer, secure, &file)],
            Kind::Bare(_) => vec![if secure { format!("/secure/{file}") } else { format!("/{file}") }],
        };
        let head = |path: String| format!("GET {path} HTTP/1.1\r\nHost: gate.example\r\n\r\n").into_bytes();
        Target::new(self.address, paths.into_iter().map(head).collect(), size)
    }
}

fn secret(tenant: usize) -> String {
    format!("sgk1_rig-{tenant:08}-0123456789abcdefghijklmnopqrstuvwxyz")
}

fn link(tenant: usize, secure: bool, file: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let url =
        if secure { format!("https://{SECURE_HOST}/{file}") } else { format!("http://{PLAIN_HOST}/{file}") };
    let kid = KeyId::parse(&format!("k{tenant}")).unwrap();
    let key = HmacKey::new(&secret(tenant).into()).unwrap();
    let minted = Draft::new(&url, &kid, UnixTime(now + 24 * 3600)).sign(&key).unwrap();
    format!("/?{}", minted.query)
}

/// Each tenant has a key of its own, an allow rule and a rate that is counted and never reached.
fn gateway(world: &World, binary: &Path, folder: &Folder, tenants: usize) -> (Process, SocketAddr) {
    let policy = folder.path().join("policy");
    std::fs::create_dir(&policy).unwrap();
    for tenant in 0..tenants {
        let text = format!(
            "tenant = \"t{tenant}\"\n[[keys]]\nid = \"k{tenant}\"\nsecret = \"file:t{tenant}.secret\"\n\
             [[allow]]\nhost = \"*.test.example\"\nschemes = [\"http\", \"https\"]\n\
             [limits.key]\nrequests_per_second = 1000000.0\nburst = 1000000\n"
        );
        std::fs::write(policy.join(format!("t{tenant}.toml")), text).unwrap();
        std::fs::write(policy.join(format!("t{tenant}.secret")), secret(tenant)).unwrap();
    }
    let address = free_port();
    let config = format!(
        "listen = \"{address}\"\nlog = \"json\"\n[origin]\nopen = [\"{}\", \"{}\"]\nca_file = \"{}\"\n\
         [origin.hosts]\n\"{PLAIN_HOST}\" = \"{}\"\n\"{SECURE_HOST}\" = \"{}\"\n",
        world.plain,
        world.secure,
        world.ca.display(),
        world.plain,
        world.secure,
    );
    std::fs::write(folder.path().join("sluicegate.toml"), config).unwrap();
    let mut command = on_core(MEASURED, binary);
    // The log is written in full, to where nobody keeps it.
    command.arg("serve").current_dir(folder.path()).stderr(std::process::Stdio::null());
    (Process::start(command, address), address)
}

fn bare(world: &World, arguments: &[&str]) -> (Process, SocketAddr) {
    let address = free_port();
    let mut command = on_core(MEASURED, &world.bare);
    command.args([address, world.plain, world.secure].map(|address| address.to_string()));
    command.arg(SECURE_HOST).arg(&world.ca).args(arguments);
    (Process::start(command, address), address)
}
