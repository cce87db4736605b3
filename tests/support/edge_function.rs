//! The viewer-request function as it is deployed, run by njs, the engine of CloudFront Functions.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sluicegate::gate::policy::Policies;

use super::keyring::Keyring;

/// Events in one run of njs, which never gives memory back and becomes slower with every one.
const BATCH: usize = 250;

/// What a client asks for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) now: u64,
    pub(crate) client: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, Vec<String>)>,
}

impl Asked {
    /// Is the credential a token?
    pub(crate) fn has_token(&self) -> bool {
        self.query.contains("token=")
            || self.headers.iter().any(|(name, _)| name == "authorization" || name.contains("token"))
    }

    /// Does the link or token name a host that only UTS 46 can judge?
    pub(crate) fn has_odd_host(&self) -> bool {
        let text: String = percent_encoding::percent_decode_str(&self.query).decode_utf8_lossy().into_owned();
        let authority =
            text.split("//").nth(1).and_then(|rest| rest.split(['/', '?', '&']).next()).unwrap_or("");
        !authority.is_ascii() || authority.to_ascii_lowercase().contains("xn--")
    }
}

/// What the function makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Refused(String),
    /// Found by every good link of the tenant.
    Shared {
        query: String,
    },
    /// Found by the very same credential alone.
    Own {
        query: String,
    },
    /// Never found.
    Origin,
}

pub(crate) struct EdgeFunction {
    code: String,
    store: Value,
}

impl EdgeFunction {
    pub(crate) fn with(policies: &Policies, keyring: &Keyring) -> Self {
        let entries =
            policies.edge_entries(&keyring.sources(), &|reference| keyring.secret(reference)).unwrap();
        let store = entries.iter().map(|(key, value)| (key.clone(), value.expose_secret().into()));
        Self { code: super::deployed::code("ViewerRequest"), store: Value::Object(store.collect()) }
    }

    pub(crate) fn judge<'a>(&self, requests: impl Iterator<Item = &'a Asked>) -> Vec<Verdict> {
        let requests: Vec<_> = requests.map(event).collect();
        let half = requests.len().div_ceil(2).next_multiple_of(BATCH).max(BATCH);
        std::thread::scope(|scope| {
            let halves = requests.chunks(half);
            let running: Vec<_> = halves
                .map(|half| {
                    scope.spawn(|| half.chunks(BATCH).flat_map(|batch| self.run(batch)).collect::<Vec<_>>())
                })
                .collect();
            running.into_iter().flat_map(|half| half.join().unwrap()).collect()
        })
    }

    fn run(&self, batch: &[Value]) -> Vec<Verdict> {
        static RUNS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let run = RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("edge-{}-{run}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        write("cloudfront", &format!("const entries = {};\n{STORE}", self.store));
        let mut events = String::new();
        for event in batch {
            writeln!(events, "{event}").unwrap();
        }
        write("events", &events);
        write("program.js", &format!("{}\n{DRIVER}", self.code));
        let output =
            Command::new("njs").args(["-p", ".", "program.js"]).current_dir(&folder).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.is_empty() && output.stderr.is_empty(), "njs failed: {said}");
        let answers = std::fs::read_to_string(folder.join("answers")).unwrap();
        let verdicts: Vec<_> = answers.lines().map(verdict).collect();
        assert_eq!(verdicts.len(), batch.len());
        std::fs::remove_dir_all(&folder).unwrap();
        verdicts
    }
}

fn event(asked: &Asked) -> Value {
    let field = |values: &[String]| match values {
        [one] => json!({ "value": one }),
        several => json!({
            "value": several[0],
            "multiValue": several.iter().map(|value| json!({ "value": value })).collect::<Vec<_>>(),
        }),
    };
    let headers = asked.headers.iter().map(|(name, values)| (name.clone(), field(values)));
    json!({
        "now": asked.now,
        "client": asked.client,
        "query": asked.query,
        "headers": Value::Object(headers.collect()),
    })
}

fn verdict(line: &str) -> Verdict {
    let answer: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("njs said {line}"));
    let query = || answer["query"].as_str().unwrap().to_owned();
    match (answer["code"].as_str(), answer["partition"].as_str().map(|name| name.matches('.').count())) {
        (Some(code), _) => Verdict::Refused(code.to_owned()),
        (None, Some(1)) => Verdict::Shared { query: query() },
        (None, Some(2)) => Verdict::Own { query: query() },
        // The request's own id: nobody else's request has it.
        (None, Some(0)) => Verdict::Origin,
        _ => panic!("njs said {line}"),
    }
}

/// The KeyValueStore of the runtime: a missing key is an error.
const STORE: &str = "
const handle = {
    get: async function (key) {
        if (!entries.hasOwnProperty(key)) {
            throw new Error('KeyNotFound');
        }
        return JSON.parse(entries[key]);
    },
    exists: async function (key) {
        return entries.hasOwnProperty(key);
    }
};
export default { kvs: function () { return handle; } };
";

/// One answer a line of a file. The clock is the event's.
const DRIVER: &str = "
import fs from 'fs';
async function drive() {
    const answers = [];
    const lines = fs.readFileSync('events', 'utf8').split('\\n');
    for (let at = 0; at < lines.length; at++) {
        if (lines[at] === '') {
            continue;
        }
        const given = JSON.parse(lines[at]);
        Date.now = function () { return given.now * 1000; };
        const event = {
            request: {
                method: 'GET', uri: '/', headers: given.headers, querystring: {},
                rawQueryString: function () { return given.query === '' ? undefined : given.query; }
            },
            viewer: { ip: given.client },
            context: { requestId: 'request' }
        };
        const answer = await handler(event);
        if (answer.statusCode) {
            answers.push(JSON.stringify({ code: JSON.parse(answer.body.data).code }));
        } else {
            const partition = answer.headers['x-sluicegate-partition'];
            answers.push(JSON.stringify({ query: answer.querystring, partition: partition && partition.value }));
        }
    }
    // What is printed is cut at 2 KB.
    fs.writeFileSync('answers', answers.join('\\n'));
}
drive().catch(function (fault) { console.log('threw ' + fault); });
";
