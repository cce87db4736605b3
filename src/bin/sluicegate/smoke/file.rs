//! The file through a good link: whole, the same again, under its own name.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use http::header::{CONTENT_LENGTH, HeaderName};
use percent_encoding::percent_decode_str;
use sluicegate::gate::refusal::Code;

use super::client::{Answer, End, Reply, Silence, WINDOW, shorten};
use super::report::{NAMES as NAMES_OF_CHECKS, Report, expect};
use super::site::{NAMES, Site};
use crate::Failure;

/// What the good link brought first; what every later answer is compared with.
pub(super) struct File {
    pub(super) first: Answer,
    /// The answer to a link with another file name.
    second: Option<Answer>,
}

impl File {
    /// Is this the whole file?
    pub(super) fn is_in(&self, answer: &Answer) -> bool {
        answer.is_good() && answer.end == End::Whole && answer.digest == self.first.digest
    }

    /// Do bytes from the beginning or the middle of the file stand in this body or its fields, plain or in base64? A file of
    /// fewer than 16 bytes may stand there by chance.
    pub(super) fn leaks_into(&self, answer: &Answer) -> bool {
        let needles: Vec<_> = self.windows().into_iter().flat_map(spellings).collect();
        let fields = answer.headers.values().map(http::HeaderValue::as_bytes);
        [answer.start.as_slice()].into_iter().chain(fields).any(|place| {
            needles.iter().any(|needle| place.windows(needle.len()).any(|window| window == needle))
        })
    }

    fn windows(&self) -> Vec<&[u8]> {
        let start = &self.first.start;
        let window = |from: usize| start.get(from..(from + WINDOW).min(start.len())).unwrap_or_default();
        let middle = match self.first.middle.as_slice() {
            [] => window(start.len() / 2),
            middle => middle,
        };
        [window(0), middle].into_iter().filter(|window| window.len() >= 16).collect()
    }

    /// What came, in words.
    pub(super) fn describe(&self, reply: &Reply) -> String {
        match reply {
            Ok(answer) if self.is_in(answer) => "200 with the whole file".to_owned(),
            _ => describe(reply),
        }
    }
}

/// These bytes, and their base64 wherever they stand in what is encoded: at each of three places in a group.
fn spellings(bytes: &[u8]) -> Vec<Vec<u8>> {
    let groups = (0..3).filter_map(|skipped| {
        let rest = bytes.get(skipped..)?;
        rest.get(..rest.len() / 3 * 3)
    });
    let encoded = groups.flat_map(|bytes| [STANDARD_NO_PAD.encode(bytes), URL_SAFE_NO_PAD.encode(bytes)]);
    [bytes.to_vec()].into_iter().chain(encoded.map(String::into_bytes)).collect()
}

pub(super) fn describe(reply: &Reply) -> String {
    reply.as_ref().map_or_else(ToString::to_string, ToString::to_string)
}

/// The promised length, where the two fields that may say it agree.
fn promised(answer: &Answer) -> Result<Option<u64>, String> {
    let ours = HeaderName::from_static("x-sluicegate-length");
    match (answer.number(&CONTENT_LENGTH), answer.number(&ours)) {
        (Some(one), Some(other)) if one != other => {
            Err(format!("content-length {one} beside x-sluicegate-length {other}"))
        }
        (one, other) => Ok(one.or(other)),
    }
}

/// `good-link`: 200, and as many bytes as promised.
pub(super) fn whole(
    site: &Site,
    reply: Reply,
    strange: bool,
    report: &mut Report,
) -> Result<Option<File>, Failure> {
    let row = expect("good-link", "200 with the whole file");
    match weigh(&reply) {
        Ok(got) => report.add(row.held(got))?,
        Err(got) => {
            let hint = what_to_do(site, &reply);
            let hint = if strange { format!("is `{}` the gateway? {hint}", site.base) } else { hint };
            report.add(row.failed(got, hint))?;
            blame(&reply, strange, report);
        }
    }
    let file = reply.ok().filter(|answer| weigh_answer(answer).is_ok());
    site.client.expect_no_more_than(file.as_ref().map_or(0, |file| file.bytes));
    Ok(file.map(|first| File { first, second: None }))
}

/// Is there no sign of a gateway, neither in the answer to the good link nor in the refusal of one without a signature?
pub(super) async fn is_strange(site: &Site, first: &Reply) -> Result<bool, Failure> {
    let known = match first {
        Ok(answer) => answer.is_good() || answer.is_ours(),
        Err(silence) => silence.is_unreachable(),
    };
    Ok(!known && !site.get(&site.good()?.only("url")).await.is_ok_and(|answer| answer.is_ours()))
}

/// What is wrong with the good link is wrong with others too, and none of their own.
fn blame(reply: &Reply, strange: bool, report: &mut Report) {
    if strange {
        let apart = ["unsigned", "function-url"];
        return report.blame_good_link(
            describe(reply),
            NAMES_OF_CHECKS.into_iter().filter(|name| !apart.contains(name)).collect(),
        );
    }
    let Some((answer, code)) = reply.as_ref().ok().and_then(|answer| Some((answer, answer.code()?))) else {
        return;
    };
    let is = |expected: Code| code == expected.face().code;
    let idle: &[&str] = if is(Code::InvalidSignature) {
        &[
            "expired",
            "tampered-signature",
            "tampered-filename",
            "tampered-exp",
            "foreign-key-id",
            "cross-tenant",
            "denied-url",
            "missing-file",
        ]
    } else if is(Code::LinkExpired) || is(Code::LinkNotYetValid) {
        &["cross-tenant", "denied-url", "missing-file"]
    } else if is(Code::UrlNotAllowed) {
        &["denied-url", "missing-file"]
    } else {
        &[]
    };
    report.blame_good_link(answer.to_string(), idle.to_vec());
}

fn weigh(reply: &Reply) -> Result<String, String> {
    reply.as_ref().map_err(ToString::to_string).and_then(weigh_answer)
}

/// What came; an error if it is not a whole file.
fn weigh_answer(answer: &Answer) -> Result<String, String> {
    let bytes = answer.bytes;
    if !answer.is_good() || answer.end != End::Whole {
        return Err(answer.to_string());
    }
    match promised(answer)? {
        Some(length) if length != bytes => Err(format!("{bytes} bytes where {length} are promised")),
        Some(_) => Ok(format!("200 with {bytes} bytes, as many as promised")),
        None => Ok(format!("200 with {bytes} bytes; no length is promised")),
    }
}

/// What to do when a good link does not bring the file.
fn what_to_do(site: &Site, reply: &Reply) -> String {
    let code = match reply {
        Ok(answer) if answer.is_good() && matches!(answer.end, End::TooLong(_)) => {
            return "give --url a smaller file, or raise --max-bytes".to_owned();
        }
        Ok(answer) => answer.code(),
        Err(Silence::Unreachable(why)) if speaks_no_tls(site, why) => {
            let (host, port) =
                (site.base.host_str().unwrap_or(""), site.base.port_or_known_default().unwrap_or(0));
            return format!("this port speaks no TLS; write `http://{host}:{port}`");
        }
        Err(silence) if silence.is_unreachable() => {
            return format!("check that `{}` is right and that the deployment runs", site.base);
        }
        Err(_) => None,
    };
    let is = |expected: Code| code.as_deref() == Some(expected.face().code);
    let kid = &site.kid;
    if is(Code::InvalidSignature) {
        format!("check that the deployment holds key `{kid}` with the same secret, its edge too")
    } else if is(Code::LinkExpired) || is(Code::LinkNotYetValid) {
        "set this machine's clock".to_owned()
    } else if is(Code::UrlNotAllowed) {
        format!("give --url a file that the tenant of `{kid}` may fetch")
    } else if is(Code::UpstreamNotFound) {
        "give --url a file that exists".to_owned()
    } else if code.as_deref().is_some_and(|code| code.starts_with("upstream")) {
        "check that the deployment reaches the upstream of --url".to_owned()
    } else if is(Code::RateLimited) || is(Code::TooManyDownloads) || is(Code::QuotaExceeded) {
        format!("wait, or sign with a key that has higher limits than `{kid}`")
    } else {
        stranger(reply).to_owned()
    }
}

/// rustls says no more than that: the first bytes were of no TLS record.
fn speaks_no_tls(site: &Site, why: &str) -> bool {
    site.base.scheme() == "https" && why.contains("InvalidContentType")
}

/// What to do about an answer that is not the gateway's.
fn stranger(reply: &Reply) -> &'static str {
    match reply {
        Ok(answer) if answer.is_ours() => "docs/problems.md says what each code means",
        Ok(answer) if answer.status == 403 => {
            "the gateway did not write this; a distribution needs both permissions on a function, \
             `lambda:InvokeFunctionUrl` and `lambda:InvokeFunction`"
        }
        Ok(answer) if answer.status == 503 => {
            "the gateway did not write this; a function at the edge may have failed"
        }
        _ => "the gateway did not write this; look at what is in front of it",
    }
}

/// `good-again`: the same bytes for a link with another name, perhaps from a cache.
pub(super) async fn again(site: &Site, file: &mut File, report: &mut Report) -> Result<(), Failure> {
    let reply = site.get(&site.link(&site.url, NAMES[1])?).await;
    let row = expect("good-again", "200 with the same bytes");
    let Ok(answer) = reply else {
        return report.add(row.failed(describe(&reply), "ask the deployment's log why"));
    };
    report.add(if file.is_in(&answer) {
        row.held(format!("the same bytes; {}", cache_note(&answer)))
    } else {
        let other = answer.is_good() && answer.end == End::Whole;
        let got = if other { "other bytes".to_owned() } else { answer.to_string() };
        row.failed(got, "choose a --url whose file does not change; otherwise a cache mixes files")
    })?;
    file.second = Some(answer);
    Ok(())
}

fn cache_note(answer: &Answer) -> String {
    let notes = ["x-cache", "age"].map(|name| answer.shown(name).map(|value| format!("{name}: {value}")));
    let notes: Vec<_> = notes.into_iter().flatten().collect();
    if notes.is_empty() { "no cache shows itself".to_owned() } else { notes.join(", ") }
}

/// `file-name` and `safe-headers`, on both answers.
pub(super) fn headers(file: &File, report: &mut Report) -> Result<(), Failure> {
    let answers = || [Some(&file.first), file.second.as_ref()].into_iter().flatten();
    let row = expect("file-name", "each link's own name, as an attachment");
    let fault = answers().zip(NAMES).find_map(|(answer, name)| name_fault(answer, name));
    report.add(match fault {
        None => row.held("each link got its own name, outside ASCII too"),
        Some(fault) => row.failed(fault, "whatever is in front must set each link's own Content-Disposition"),
    })?;
    let row = expect(
        "safe-headers",
        "nosniff, a sandboxing policy, a request id, no cookie, nothing for shared caches",
    );
    report.add(match answers().find_map(header_fault) {
        None => row.held("nosniff, sandbox and request id are there; no cookie, nothing for shared caches"),
        Some(fault) => {
            row.failed(fault, "whatever is in front must pass the gateway's fields on, and add no cookie")
        }
    })
}

fn name_fault(answer: &Answer, name: &str) -> Option<String> {
    let Some(value) = answer.field("content-disposition") else {
        return Some("no Content-Disposition that is text".to_owned());
    };
    let mut parts = value.split(';').map(str::trim);
    if parts.next() != Some("attachment") {
        return Some("a Content-Disposition that is no attachment".to_owned());
    }
    // RFC 8187 section 3.2: the names here hold no `;`, and what an encoder writes holds none either.
    let encoded = parts.find_map(|part| part.strip_prefix("filename*=")?.strip_prefix("UTF-8''"));
    let found = encoded.map(|text| percent_decode_str(text).decode_utf8_lossy().into_owned());
    match found {
        None => Some("a Content-Disposition without `filename*`".to_owned()),
        Some(found) if found != name => {
            Some(format!("the name `{}` in place of `{name}`", shorten(&found).escape_debug()))
        }
        Some(_) => None,
    }
}

fn header_fault(answer: &Answer) -> Option<String> {
    let has = |name, wanted| answer.field(name).is_some_and(|value| value.contains(wanted));
    let fault = if !has("x-content-type-options", "nosniff") {
        "no `x-content-type-options: nosniff`"
    } else if !has("content-security-policy", "sandbox") {
        "no `content-security-policy` that sandboxes"
    } else if !has("x-request-id", "") {
        "no `x-request-id`"
    } else if answer.headers.contains_key("set-cookie") {
        "a `set-cookie`"
    } else {
        return shared(answer);
    };
    Some(fault.to_owned())
}

/// What lets a cache that is not a browser's keep the file for everyone.
fn shared(answer: &Answer) -> Option<String> {
    let directives = answer.cache_control();
    let names = || directives.iter().filter_map(|directive| directive.split('=').next()).map(str::trim);
    match names().find(|name| matches!(*name, "public" | "s-maxage")) {
        Some(name) => Some(format!("a `cache-control` with `{name}`")),
        // `private="field"` keeps back that field alone.
        None if directives.iter().any(|directive| matches!(directive.as_str(), "private" | "no-store")) => {
            None
        }
        None => Some("no `cache-control` with `private` or `no-store`".to_owned()),
    }
}
