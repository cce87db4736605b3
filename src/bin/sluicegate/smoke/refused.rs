//! What must be refused, on a warm cache too: with its status and code, as a problem that nothing may store, and without a
//! byte of the file.

use sluicegate::gate::refusal::Code;
use sluicegate::wire::clock;

use super::client::{End, Reply};
use super::errors::Errors;
use super::file::{File, describe};
use super::link::Link;
use super::report::{Check, Report, expect};
use super::site::{NAMES, Site, at};
use crate::Failure;

const OPEN: &str =
    "whoever answers from a cache must verify each request first; here the file is open to everyone";
const STRANGE: &str =
    "something in front answered, or another version runs; docs/problems.md says what each code means";

/// A request that must be refused.
struct Case {
    name: &'static str,
    code: Code,
    link: Result<Link, &'static str>,
    /// What to do if it was answered with the file.
    opened: &'static str,
    /// What to do if anything else came.
    hint: &'static str,
}

/// The same `url` as the file that was just served, with a credential that is missing, old, changed or another's. Each is
/// asked twice, with a good link in between.
pub(super) async fn on_a_warm_cache(
    site: &Site,
    file: Option<&File>,
    errors: &mut Errors,
    report: &mut Report,
) -> Result<(), Failure> {
    for case in cases(site)? {
        if report.skips(case.name)? {
            continue;
        }
        let row = expected(case.name, case.code);
        let link = match &case.link {
            Ok(link) => link,
            Err(why) => {
                report.add(row.skipped(*why))?;
                continue;
            }
        };
        let first = site.get(link).await;
        if let Some(file) = file {
            errors.let_the_file_through(site, file, case.name).await?;
        }
        let second = site.get(link).await;
        errors.are_made_anew(case.name, &first, &second);
        report.add(judge(row, &case, file, &[first, second]))?;
    }
    Ok(())
}

fn cases(site: &Site) -> Result<Vec<Case>, Failure> {
    let good = || site.good();
    let now = clock::now().0;
    let expired = site.sign(&site.kid, &site.url, NAMES[0], now.saturating_sub(3600))?;
    let later = now.saturating_add(360).to_string();
    let foreign = match &site.other {
        Some(other) => Ok(good()?.with("kid", other.as_str())),
        None => Err("give --other-kid, a key of another tenant"),
    };
    let case = |name, code, link| Case { name, code, link, opened: OPEN, hint: STRANGE };
    Ok(vec![
        case("unsigned", Code::MissingCredential, Ok(good()?.only("url"))),
        case("expired", Code::LinkExpired, Ok(expired)),
        case("tampered-signature", Code::InvalidSignature, Ok(good()?.with_another_signature())),
        case("tampered-filename", Code::InvalidSignature, Ok(good()?.with("filename", "invoice.exe"))),
        case("tampered-exp", Code::InvalidSignature, Ok(good()?.with("exp", &later))),
        case("foreign-key-id", Code::InvalidSignature, foreign),
        cross_tenant(site, now)?,
    ])
}

/// The other tenant's own, good signature under this tenant's url.
fn cross_tenant(site: &Site, now: u64) -> Result<Case, Failure> {
    let link = match &site.other {
        None => Err("give --other-kid, a key of another tenant"),
        Some(other) => {
            let link = site.sign(other, &site.url, NAMES[0], now.saturating_add(300))?;
            if site.keys.allow(&link.query()) == Some(true) {
                Err("the other tenant may fetch --url as well; give a url that only one of the two may fetch")
            } else {
                Ok(link)
            }
        }
    };
    let hint =
        "check that the deployment knows --other-kid's secret, and that its tenant may not fetch --url";
    let opened = "a cache must keep tenants apart; if the other tenant may fetch --url as well, give a url that only one of the \
                  two may fetch";
    Ok(Case { name: "cross-tenant", code: Code::UrlNotAllowed, link, opened, hint })
}

pub(super) fn expected(name: &'static str, code: Code) -> Check {
    let face = code.face();
    expect(name, format!("{} {}", face.status, face.code))
}

fn judge(row: Check, case: &Case, file: Option<&File>, replies: &[Reply]) -> Check {
    let fault = replies.iter().enumerate().find_map(|(number, reply)| {
        let got = fault(reply, case.code, file)?;
        Some((if number == 0 { got } else { format!("{got}, when asked again") }, reply))
    });
    match fault {
        None => {
            let face = case.code.face();
            let times = match (replies.len(), file) {
                (1, _) => "",
                (_, Some(_)) => ", before and after a good link",
                (_, None) => ", twice, though never beside a good link that works",
            };
            row.held(format!("{} {}{times}", face.status, face.code))
        }
        Some((got, reply)) => row.failed(got, if is_served(reply, file) { case.opened } else { case.hint }),
    }
}

/// Is this the file, as far as that can be told?
fn is_served(reply: &Reply, file: Option<&File>) -> bool {
    reply.as_ref().is_ok_and(|answer| answer.is_good() && file.is_none_or(|file| file.is_in(answer)))
}

/// What no refusal carries. The one that sends clients elsewhere is not among those that are asked for here.
const FOREIGN: [&str; 3] = ["set-cookie", "location", "content-disposition"];

/// What is wrong with a refusal, if anything is.
pub(super) fn fault(reply: &Reply, code: Code, file: Option<&File>) -> Option<String> {
    let got = file.map_or_else(|| describe(reply), |file| file.describe(reply));
    let (Ok(answer), face) = (reply, code.face()) else { return Some(got) };
    if answer.status != face.status || answer.code().as_deref() != Some(face.code) || answer.end != End::Whole
    {
        return Some(got);
    }
    if !answer.is_problem() {
        return Some(format!("{got}, not as application/problem+json"));
    }
    if !answer.cache_control().iter().any(|directive| directive == "no-store") {
        return Some(format!("{got}, without `cache-control: no-store`"));
    }
    if let Some(name) = FOREIGN.into_iter().find(|name| answer.headers.contains_key(*name)) {
        return Some(format!("{got}, with `{name}`"));
    }
    file.is_some_and(|file| file.leaks_into(answer)).then(|| format!("{got}, with bytes of the file"))
}

/// `unknown-key`: whoever has no key learns nothing about which there are.
pub(super) async fn without_a_hint(
    site: &Site,
    file: Option<&File>,
    report: &mut Report,
) -> Result<(), Failure> {
    let row = expect("unknown-key", "403 invalid_signature, in the same words as a bad signature");
    let unknown = site.get(&site.good()?.with("kid", &format!("smoke-{}", site.nonce))).await;
    let forged = site.get(&site.good()?.with_another_signature()).await;
    for reply in [&unknown, &forged] {
        if let Some(got) = fault(reply, Code::InvalidSignature, file) {
            return report.add(row.failed(got, if is_served(reply, file) { OPEN } else { STRANGE }));
        }
    }
    let face = |reply: &Reply| {
        let answer = reply.as_ref().ok();
        ["type", "title", "detail", "code"].map(|name| answer.and_then(|answer| answer.member(name)))
    };
    report.add(if face(&unknown) == face(&forged) {
        row.held("403 invalid_signature, in the same words")
    } else {
        row.failed("two different texts", "the edge and the gateway must refuse in the same words")
    })
}

/// `repeated-parameter`: a name that stands twice is refused, even with equal values.
pub(super) async fn repeated(site: &Site, file: Option<&File>, report: &mut Report) -> Result<(), Failure> {
    let code = Code::MalformedLink;
    let replies =
        [site.get(&site.good()?.repeat("url")).await, site.get(&site.good()?.repeat("filename")).await];
    let wrong = replies.iter().find_map(|reply| Some((fault(reply, code, file)?, reply)));
    let row = expected("repeated-parameter", code);
    report.add(match wrong {
        None => row.held("400 malformed_link, for `url` and for `filename`"),
        Some((got, Ok(answer))) if answer.is_good() => {
            row.failed(got, "whoever is in front must not merge or drop repeated parameters")
        }
        Some((got, _)) => row.failed(got, STRANGE),
    })
}

/// `other-path`: a good link's query on a path that looks like a static file.
pub(super) async fn other_path(site: &Site, file: Option<&File>, report: &mut Report) -> Result<(), Failure> {
    let mut url = at(&site.base, &site.good()?);
    url.set_path(&format!("/smoke-{}.css", site.nonce));
    let reply = site.client.ask(http::Method::GET, url, &[]).await;
    let row = expected("other-path", Code::NotFound);
    report.add(match (fault(&reply, Code::NotFound, file), &reply) {
        (None, _) => row.held("404 not_found, though the query is a good link's"),
        (Some(got), Ok(answer)) if !answer.is_ours() && matches!(answer.status, 403 | 404) => {
            row.platform(got, "what is in front refuses other paths by itself")
        }
        (Some(got), _) => {
            row.failed(got, "nothing but `/` may lead to the gateway, and no cache may leave out the path")
        }
    })
}

/// `denied-url`: a good signature under a url that the policy does not allow.
pub(super) async fn denied(site: &Site, file: Option<&File>, report: &mut Report) -> Result<(), Failure> {
    if report.skips("denied-url")? {
        return Ok(());
    }
    let hint =
        "check that --denied-url is not allowed, and that the tenant's policy says `mode = \"enforce\"`";
    let link = site.link(&site.denied, NAMES[0])?;
    let reply = site.get(&link).await;
    let case = Case { name: "denied-url", code: Code::UrlNotAllowed, link: Ok(link), opened: hint, hint };
    report.add(judge(expected(case.name, case.code), &case, file, &[reply]))
}

/// `missing-file`: an upstream's 404 is an error of ours, made anew each time.
pub(super) async fn missing(
    site: &Site,
    file: Option<&File>,
    errors: &mut Errors,
    report: &mut Report,
) -> Result<(), Failure> {
    const NAME: &str = "missing-file";
    if report.skips(NAME)? {
        return Ok(());
    }
    let row = expect(NAME, "404 upstream_not_found");
    let url = match &site.missing {
        Ok(url) => url,
        Err(why) => return report.add(row.skipped(*why)),
    };
    let link = site.link(url, NAMES[0])?;
    let (first, second) = (site.get(&link).await, site.get(&link).await);
    errors.are_made_anew(NAME, &first, &second);
    let fault = [&first, &second].into_iter().find_map(|reply| {
        let gone = fault(reply, Code::UpstreamGone, file).is_none();
        fault(reply, Code::UpstreamNotFound, file).filter(|_| !gone)
    });
    report.add(match fault {
        None => row.held("404 upstream_not_found, twice"),
        Some(got) => {
            row.failed(got, "if the upstream says otherwise of a file it does not have, give --missing-url one of which it says 404")
        }
    })
}
