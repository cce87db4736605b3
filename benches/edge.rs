//! What the edge's functions cost in njs: `cargo bench --bench edge`. njs comes from Debian's package of that name.
//!
//! Each figure is the time of a loop inside one fresh process, least of several: njs never gives memory back, so a longer
//! loop would measure that. The ratio is to one HMAC-SHA256 over a string to sign, which no verification can do without.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

#[path = "../tests/support/deployed.rs"]
mod deployed;

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sluicegate::gate::hmac::HmacKey;
use sluicegate::gate::id::{KeyId, UnixTime};
use sluicegate::gate::mint::Draft;
use sluicegate::gate::policy::{Policies, PolicySource};

const SECRET: &str = "sgk1_bench-0123456789abcdefghijklmnopqrstuvw";
const ROUNDS: u32 = 100;
/// The clock of njs counts milliseconds; one HMAC alone needs more of them.
const HMAC_ROUNDS: u32 = 2000;
const PROCESSES: usize = 15;
const NOW: u64 = 1_800_000_000;

const POLICY: &str = r#"
tenant = "acme"
[[keys]]
id = "acme-1"
secret = "env:SECRET"
[[issuers]]
issuer = "https://login.example"
audience = "files"
[[issuers.keys]]
id = "one"
algorithm = "HS256"
secret = "env:SECRET"
[[issuers]]
issuer = "https://published.example"
audience = "files"
jwks_url = "https://published.example/keys"
algorithm = "RS256"
"#;

const STORE: &str = "
var handle = {
    get: async function (key) {
        if (!entries.hasOwnProperty(key)) { throw new Error('KeyNotFound'); }
        return JSON.parse(entries[key]);
    },
    exists: async function (key) { return entries.hasOwnProperty(key); }
};
export default { kvs: function () { return handle; } };
";

fn main() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-edge");
    std::fs::create_dir_all(&folder).unwrap();
    let source = PolicySource { file: "acme", stem: "acme", text: POLICY };
    let set = Policies::load(&[source], &|_| Ok(SECRET.into())).unwrap();
    let entries = set.edge_entries(&[source], &|_| Ok(SECRET.into())).unwrap();
    let entries: serde_json::Map<String, Value> =
        entries.iter().map(|(key, value)| (key.clone(), value.expose_secret().into())).collect();
    let entries = Value::Object(entries);
    std::fs::write(folder.join("cloudfront"), format!("var entries = {entries};\n{STORE}")).unwrap();

    let (request, response) = (deployed::code("ViewerRequest"), deployed::code("ViewerResponse"));
    println!(
        "built: viewer-request {} bytes, viewer-response {} bytes, of 10240 each\n",
        request.len(),
        response.len()
    );
    let hmac = measure(
        &folder,
        "import crypto from 'crypto';",
        &format!(
            "crypto.createHmac('sha256', '{SECRET}').update('sluicegate-link-v1\\nexp=1800003600\\nkid=acme-1\\n\
             url=https://files.example/reports/2026.pdf\\n').digest('base64url')"
        ),
        HMAC_ROUNDS,
    );
    println!("{:<44} {:>8} {:>8}", "", "us", "HMACs");
    println!("{:<44} {hmac:>8.1} {:>8.1}", "one HMAC-SHA256", 1.0);
    let link = link();
    let requests = [
        ("link", link.clone(), false),
        ("link with name, id and address", full_link(), false),
        ("HS256 token", token("https://login.example", "HS256", "one", true), false),
        ("RS256 token, left to the origin", token("https://published.example", "RS256", "k", false), false),
        ("link with another signature", link.replace("reports", "secrets"), true),
        ("nothing", String::new(), true),
    ];
    for (name, query, refused) in requests {
        let time = measure(&folder, &request, &call(&query, refused), ROUNDS);
        println!("{name:<44} {time:>8.1} {:>8.1}", time / hmac);
    }
    println!("\nhostile, 4 to 8 KB:");
    for (name, query) in hostile() {
        let time = measure(&folder, &request, &call(&query, true), ROUNDS);
        println!("{name:<44} {time:>8.1} {:>8.1}", time / hmac);
    }
    println!();
    let time = measure(&folder, &response, &response_call(), ROUNDS);
    println!("{:<44} {time:>8.1} {:>8.1}", "viewer-response, name of another script", time / hmac);
    std::fs::remove_dir_all(&folder).unwrap();
}

fn draft() -> Draft {
    let kid = KeyId::parse("acme-1").unwrap();
    Draft::new("https://files.example/reports/2026.pdf", &kid, UnixTime(NOW + 3600))
}

fn link() -> String {
    draft().sign(&HmacKey::new(&SECRET.into()).unwrap()).unwrap().query
}

fn full_link() -> String {
    let draft = draft()
        .with("filename", "Jahresbericht für 2026.pdf")
        .with("id", "order-7")
        .with("ip", "203.0.113.0/24");
    draft.sign(&HmacKey::new(&SECRET.into()).unwrap()).unwrap().query
}

fn token(issuer: &str, algorithm: &str, kid: &str, signed: bool) -> String {
    let head = json!({ "alg": algorithm, "kid": kid, "typ": "JWT" }).to_string();
    let claims = json!({
        "iss": issuer, "aud": "files", "exp": NOW + 3600, "iat": NOW - 5, "sub": "someone", "jti": "order-7",
        "url": "https://files.example/reports/2026.pdf", "filename": "report.pdf",
    });
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let tag = HmacKey::new(&SECRET.into()).unwrap().tag(&input).encode();
    let signature = if signed { tag } else { "A".repeat(342) };
    format!("url=https%3A%2F%2Ffiles.example%2Freports%2F2026.pdf&token={input}.{signature}")
}

/// What would be dear to look at if nothing bounded it.
fn hostile() -> Vec<(&'static str, String)> {
    let bad = |claims: &str| {
        format!("token={}.{}.AAAA", URL_SAFE_NO_PAD.encode("{}"), URL_SAFE_NO_PAD.encode(claims))
    };
    let url = |url: &str| format!("kid=acme-1&exp=1800003600&sig={}&url={url}", "A".repeat(43));
    let members: Vec<_> = (0..700).map(|number| format!("\"{number}\":1")).collect();
    vec![
        ("a token of quotes", bad(&"\"".repeat(5900))),
        ("an unclosed text of escapes", bad(&format!("{{\"a\":\"{}", "\\\"".repeat(2900)))),
        ("700 members", bad(&format!("{{{}}}", members.join(",")))),
        ("a host of 2,000 labels", url(&format!("https://{}", "a.".repeat(2000)))),
        ("a label of 4,000 letters", url(&format!("https://{}%21", "a".repeat(4000)))),
        ("an address of colons", format!("{}&ip={}", url("https://a/"), ":".repeat(3000))),
        ("8,000 spaces", format!("url={}", "+".repeat(8000))),
    ]
}

/// One call, which must end as it should.
fn call(query: &str, refused: bool) -> String {
    let fields = ["accept", "accept-encoding", "host", "referer", "user-agent"]
        .map(|name| format!("'{name}': {{ value: 'x' }}"));
    format!(
        "var answer_ = await handler({{ request: {{ method: 'GET', uri: '/', headers: {{ {} }}, \
         rawQueryString: function () {{ return {}; }} }}, viewer: {{ ip: '203.0.113.7' }}, context: {{ requestId: 'id' }} }}); \
         if ((answer_.statusCode !== undefined) !== {refused}) {{ throw new Error(JSON.stringify(answer_)); }}",
        fields.join(", "),
        Value::from(query)
    )
}

fn response_call() -> String {
    let name = "%D0%9E%D1%82%D1%87%D1%91%D1%82%20%D0%B7%D0%B0%20%D0%B3%D0%BE%D0%B4.pdf";
    format!(
        "handler({{ context: {{ requestId: 'id' }}, request: {{ headers: {{ 'x-sluicegate-link': {{ value: '1800003600 attachment {name}' }} }} }}, \
         response: {{ statusCode: 200, headers: {{ 'content-type': {{ value: 'application/pdf' }}, 'cache-control': {{ value: 'max-age=60, s-maxage=60' }}, \
         'x-sluicegate-filename': {{ value: '2026%2Epdf' }}, 'x-sluicegate-request': {{ value: 'other' }} }} }} }})"
    )
}

/// Microseconds of one call.
fn measure(folder: &Path, code: &str, call: &str, rounds: u32) -> f64 {
    let program = format!(
        "{code}\nvar clock_ = Date.now;\nDate.now = function () {{ return {NOW}000; }};\n\
         async function loop_() {{ for (var round_ = 0; round_ < {rounds}; round_++) {{ {call}; }} }}\n\
         var began_ = clock_();\n\
         loop_().then(function () {{ console.log(clock_() - began_); }}, function (fault) {{ console.log('threw ' + fault); }});\n"
    );
    std::fs::write(folder.join("program.js"), program).unwrap();
    let times = (0..PROCESSES).map(|_| {
        let output = Command::new("njs")
            .args(["-p", ".", "program.js"])
            .current_dir(folder)
            .output()
            .expect("install njs");
        let said = String::from_utf8_lossy(&output.stdout);
        said.trim().parse::<f64>().unwrap_or_else(|_| panic!("njs said {said:.500}"))
    });
    times.fold(f64::INFINITY, f64::min) * 1000.0 / f64::from(rounds)
}
