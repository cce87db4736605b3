//! What only a live deployment can show: how a broken download arrives, and whether there is a way around the edge.

use http::Method;

use super::client::{Answer, End, Silence};
use super::file::{File, describe};
use super::report::{Report, expect};
use super::site::{NAMES, Site, at};
use crate::Failure;

/// `truncated-transfer`: the client sees an error, and a second one when it asks again.
pub(super) async fn truncated(site: &Site, report: &mut Report) -> Result<(), Failure> {
    let row = expect("truncated-transfer", "a transfer that breaks off, twice");
    let Some(url) = &site.truncating else {
        return report
            .add(row.skipped("give --truncating-url, a file whose upstream breaks off in the middle"));
    };
    let link = site.link(url, NAMES[0])?;
    for asked in ["", ", asked again"] {
        let reply = site.get(&link).await;
        let (got, hint) = match &reply {
            Ok(answer) if is_visibly_broken(answer) => continue,
            Ok(answer) if answer.is_good() && answer.end == End::Whole => (
                looks_whole(answer),
                "an aborted body must reach the client as an error and must not be cached; \
                 if the file was whole, --truncating-url does not break off",
            ),
            Ok(answer) if answer.is_good() => (
                answer.to_string(),
                "an aborted body must end the connection or the stream, not leave it open",
            ),
            Err(silence) if !silence.is_unreachable() && !matches!(silence, Silence::TimedOut(_)) => {
                continue;
            }
            _ => (describe(&reply), "give --truncating-url a file that the tenant may fetch"),
        };
        return report.add(row.failed(format!("{got}{asked}"), hint));
    }
    report.add(row.held("the client saw an error, twice"))
}

/// An error within the body, or in its place.
fn is_visibly_broken(answer: &Answer) -> bool {
    (answer.is_good() && answer.end == End::BrokeOff) || answer.status >= 500
}

fn looks_whole(answer: &Answer) -> String {
    let announced = answer.shown("x-sluicegate-length").map(|length| format!(" of {length}"));
    format!("200 that ends as if whole, with {}{} bytes", answer.bytes, announced.unwrap_or_default())
}

/// `function-url`: whoever does not come through the edge is refused by the platform, before the function runs.
pub(super) async fn function(site: &Site, file: Option<&File>, report: &mut Report) -> Result<(), Failure> {
    let row = expect("function-url", "403 from the platform");
    let Some(function) = &site.function else {
        return report.add(row.skipped("give --function-url, if there is one"));
    };
    let reply = site.client.ask(Method::GET, at(function, &site.good()?), &[]).await;
    let got = file.map_or_else(|| describe(&reply), |file| file.describe(&reply));
    report.add(match &reply {
        Ok(answer) if answer.status == 403 && !answer.is_ours() => row.held("403 from the platform"),
        Err(silence) if silence.is_unreachable() => {
            row.failed(got, "check --function-url; a refusal is an answer, too")
        }
        _ => row.failed(
            got,
            "the function runs for whoever asks it directly: give its URL `AuthType: AWS_IAM`, and let the distribution alone invoke it",
        ),
    })
}

/// `plain-http`: nothing is served without TLS. No good link is sent there.
pub(super) async fn plain(site: &Site, report: &mut Report) -> Result<(), Failure> {
    let row = expect("plain-http", "a redirect to https, or a refusal");
    if site.base.scheme() != "https" {
        return report.add(row.skipped("the base is http"));
    }
    let mut url = at(&site.base, &site.good()?.only("url"));
    if url.set_scheme("http").is_err() {
        return report.add(row.skipped("the base has no http form"));
    }
    let reply = site.client.ask(Method::GET, url, &[]).await;
    report.add(match &reply {
        Ok(answer) if redirects(answer) => row.held(format!("{} to https", answer.status)),
        Ok(answer) if answer.is_ours() || answer.status < 400 => row.failed(
            describe(&reply),
            "links must not travel in the open: redirect http to https, or refuse it",
        ),
        Ok(answer) => row.held(format!("refused with {}", answer.status)),
        Err(silence) => row.held(silence.to_string()),
    })
}

fn redirects(answer: &Answer) -> bool {
    let target = answer.field("location").is_some_and(|target| target.starts_with("https://"));
    matches!(answer.status, 301 | 302 | 307 | 308) && target
}
