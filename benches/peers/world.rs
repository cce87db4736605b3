//! What all candidates have around them: a folder, the upstream with its files and certificate, and the programs as built.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{CertificateParams, Issuer, KeyPair};

use super::candidate::{Kind, Named};
use super::nginx;
use super::process::{Process, free_port};
use super::upstream;

/// The upstream's names: without TLS, and with.
pub(crate) const PLAIN_HOST: &str = "plain.test.example";
pub(crate) const SECURE_HOST: &str = "secure.test.example";

/// Sizes of the files; each is named by its size.
pub(crate) const SIZES: [u64; 4] = [1_000, 100_000, 10_000_000, 200_000_000];

/// A folder that goes with its owner.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("peers-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What candidates are run by.
pub(crate) struct Programs {
    gateway: PathBuf,
    bare: PathBuf,
}

/// The surroundings of one run.
pub(crate) struct World {
    pub(crate) plain: SocketAddr,
    pub(crate) secure: SocketAddr,
    /// The authority that the upstream's certificate is from.
    pub(crate) ca: PathBuf,
    /// `sluicegate`, as it is released.
    pub(crate) gateway: PathBuf,
    /// benches/peers/bare.rs.
    pub(crate) bare: PathBuf,
    // Dropped in this order.
    _upstreams: [Process; 2],
    _folder: Folder,
}

impl World {
    pub(crate) fn start(Programs { gateway, bare }: Programs) -> Self {
        let folder = Folder::new("upstream");
        let files = folder.path().join("files");
        std::fs::create_dir(&files).unwrap();
        for size in SIZES {
            // Zeros that take no room on the disk.
            std::fs::File::create(files.join(size.to_string())).unwrap().set_len(size).unwrap();
        }
        let ca = certify(folder.path());
        let secure = free_port();
        let behind_tls = nginx::upstream(&folder, secure);
        let (upstream, plain) = upstream::start(&files);
        Self { plain, secure, ca, gateway, bare, _upstreams: [upstream, behind_tls], _folder: folder }
    }
}

/// Writes an authority and a certificate by it for the upstream's name.
fn certify(folder: &Path) -> PathBuf {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    // OpenSSL takes a certificate whose issuer has its own name for one that signed itself, and rcgen gives all one name.
    params.distinguished_name.push(rcgen::DnType::CommonName, "rig authority");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = folder.join("ca.pem");
    std::fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![SECURE_HOST.to_owned()]).unwrap();
    std::fs::write(folder.join("server.pem"), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
    ca
}

impl Programs {
    /// As far as they are wanted: the gateway as it is released, and what is next to it in release.
    pub(crate) fn build(wanted: &[Named]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        // The folder that this benchmark was built in: what both depend on is there already.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let mut released = Command::new(root.join("release/build"));
        released.args(["--bin", "sluicegate"]);
        // Apart, since an example brings the features of what only tests depend on.
        let mut plain = Command::new(env!("CARGO"));
        plain.args(["build", "--release", "--locked", "--example", "bare"]);
        let gateway = wanted.iter().any(|one| matches!(one.kind, Kind::Gateway { .. }));
        let bare = wanted.iter().any(|one| matches!(one.kind, Kind::Bare(_)));
        for (command, _) in [(released, gateway), (plain, bare)].iter_mut().filter(|(_, wanted)| *wanted) {
            let built = command.current_dir(root).arg("--target-dir").arg(target).status().unwrap();
            assert!(built.success(), "the build failed; see above");
        }
        Self { gateway: target.join("release/sluicegate"), bare: target.join("release/examples/bare") }
    }
}
