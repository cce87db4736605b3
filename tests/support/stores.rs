//! The stores that limits can be shared in, as real servers: Debian's Redis, and dynalite and moto for DynamoDB
//! (`tests/stores/setup` and `aws/setup` install them). Each ends with its owner.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{free_port, tool, wait_for};

pub(crate) const TABLE: &str = "limits";
pub(crate) const REGION: &str = "eu-central-1";

/// A Redis server without anything on disk.
pub(crate) struct Redis {
    process: Child,
    address: SocketAddr,
    settings: String,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::with(free_port(), String::new())
    }

    pub(crate) fn with_password(password: &str) -> Self {
        Self::with(free_port(), format!("requirepass {password}\n"))
    }

    /// Speaks TLS alone, with this certificate and key (PEM files).
    pub(crate) fn with_tls(certificate: &Path, key: &Path) -> Self {
        let address = free_port();
        let (certificate, key) = (certificate.display(), key.display());
        let settings = format!(
            "port 0\ntls-port {}\ntls-cert-file {certificate}\ntls-key-file {key}\ntls-auth-clients no\n",
            address.port()
        );
        Self::with(address, settings)
    }

    fn with(address: SocketAddr, settings: String) -> Self {
        // The settings come by standard input, so that no password is in the process list.
        let mut process = Command::new("redis-server")
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("there is no `redis-server`; `tests/run` installs it");
        let (port, ip, folder) = (address.port(), address.ip(), env!("CARGO_TARGET_TMPDIR"));
        let all = format!("port {port}\nbind {ip}\nsave \"\"\nappendonly no\ndir {folder}\n{settings}");
        process.stdin.take().unwrap().write_all(all.as_bytes()).unwrap();
        wait_for(address);
        Self { process, address, settings }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Ends it at once, with all it knows.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again, empty, where it was.
    pub(crate) fn restart(&mut self) {
        *self = Self::with(self.address, std::mem::take(&mut self.settings));
    }

    /// Lets it stand still: it takes connections and questions, and says nothing.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// A command in its inline form, and the first line of the answer.
    pub(crate) fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A DynamoDB with the table of `template.yaml`.
pub(crate) struct Dynamo {
    process: Child,
    endpoint: String,
}

impl Dynamo {
    /// dynalite: each conditional write is whole, and a failed one does not say what the item is.
    pub(crate) fn dynalite() -> Self {
        Self::dynalite_at(0)
    }

    fn dynalite_at(port: u16) -> Self {
        let mut command = Command::new("node");
        command.arg(format!("{}/tests/stores/dynalite.js", env!("CARGO_MANIFEST_DIR")));
        Self::start(command.arg(tool("stores/node_modules")).arg(port.to_string()))
    }

    /// moto: says what the item is, as DynamoDB does, and is not made for races.
    pub(crate) fn moto() -> Self {
        let mut command = Command::new(tool("moto/bin/python"));
        Self::start(command.arg(format!("{}/tests/stores/dynamo_by_moto.py", env!("CARGO_MANIFEST_DIR"))))
    }

    fn start(command: &mut Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let this = Self { process, endpoint: line.trim_end().to_owned() };
        let answer = this.call(
            "CreateTable",
            &format!(
                r#"{{"TableName":"{TABLE}","BillingMode":"PAY_PER_REQUEST","KeySchema":[{{"AttributeName":"id","KeyType":"HASH"}}],"AttributeDefinitions":[{{"AttributeName":"id","AttributeType":"S"}}]}}"#
            ),
        );
        assert!(answer.starts_with("HTTP/1.") && answer.contains(" 200 "), "{answer}");
        this
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What a gateway needs to use it.
    pub(crate) fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL_DYNAMODB", self.endpoint.clone()),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", "limits".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "limits-secret".to_owned()),
        ]
    }

    /// How often dynalite was asked to update an item, and to read one.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let mut stream = TcpStream::connect(self.endpoint.strip_prefix("http://").unwrap()).unwrap();
        stream.write_all(b"GET /counts HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let counts = answer.lines().find(|line| line.starts_with('{')).unwrap();
        let counts: serde_json::Value = serde_json::from_str(counts).unwrap();
        let count = |operation: &str| counts[operation].as_u64().unwrap_or(0);
        (count("UpdateItem"), count("GetItem"))
    }

    /// Ends it at once, with all it knows.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts dynalite again, empty, where it was.
    pub(crate) fn restart(&mut self) {
        let port = self.endpoint.rsplit(':').next().unwrap().parse().unwrap();
        *self = Self::dynalite_at(port);
    }

    /// One call, whose signature nobody checks; the whole answer.
    pub(crate) fn call(&self, operation: &str, body: &str) -> String {
        let address = self.endpoint.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/x-amz-json-1.0\r\n\
             X-Amz-Target: DynamoDB_20120810.{operation}\r\nX-Amz-Date: 20261126T000000Z\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=rig/20261126/{REGION}/dynamodb/aws4_request, \
             SignedHeaders=host;x-amz-date;x-amz-target, Signature=00\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Dynamo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
