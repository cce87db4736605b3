//! What only a live deployment can show: how a broken download arrives, and whether there is a way around the edge.

use http::Method;

use super::client::{Answer, End, Reply, Silence};
use super::file::{File, describe};
use super::report::{Report, expect};
use super::site::{NAMES, Site, at};
use crate::Failure;

/// `truncated-transfer`: the client sees an error, and a second one when it asks again.
pub(super) async fn truncated(site: &Site, file: Option<&File>, report: &mut Report) -> Result<(), Failure> {
    let row = expect("truncated-transfer", "a transfer that breaks off, twice");
    let Some(url) = &site.truncating else {
        return report
            .add(row.skipped("give --truncating-url, a file whose upstream breaks off in the middle"));
    };
    let link = site.link(url, NAMES[0])?;
    // A file of its own, whose length nothing before it shows.
    site.client.read_up_to(site.max_bytes);
    let replies = [site.get(&link).await, site.get(&link).await];
    site.client.expect_no_more_than(file.map_or(0, |file| file.first.bytes));
    if let Some((got, hint)) = replies.iter().find_map(not_broken) {
        return report.add(row.failed(got, hint));
    }
    let answered = replies.iter().flatten().find(|answer| answer.status >= 500);
    report.add(match answered {
        Some(answer) => {
            row.platform(answer.to_string(), "what is in front makes an error of a broken download")
        }
        None => row.held("the client saw an error, twice"),
    })
}

/// What came, and what to do, if the client could take it for anything but a broken download.
fn not_broken(reply: &Reply) -> Option<(String, &'static str)> {
    const OTHER: &str = "give --truncating-url a file that begins, and then breaks off in the middle";
    let hint = match reply {
        Ok(answer) if answer.is_good() && answer.end == End::Whole => {
            let hint = "an aborted body must reach the client as an error and must not be cached; if the file was whole, \
                        --truncating-url does not break off";
            return Some((looks_whole(answer), hint));
        }
        Ok(answer) if answer.is_good() && answer.end == End::BrokeOff => return None,
        Ok(answer) if matches!(answer.end, End::TooLong(_)) => {
            "give --truncating-url a file that breaks off sooner, or raise --max-bytes"
        }
        Ok(answer) if answer.is_good() => {
            "an aborted body must end the connection or the stream, not leave it open"
        }
        Ok(answer) if answer.status >= 500 && !answer.is_ours() => return None,
        Err(Silence::BrokeOff(_)) => {
            "no download began that could break off; look at what is in front, and at the deployment's log"
        }
        _ => OTHER,
    };
    Some((describe(reply), hint))
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
        Ok(answer) if answer.status == 403 && is_lambdas(answer) => row.held("403 from the platform"),
        Ok(answer) if answer.status == 403 && !answer.is_ours() => row.platform(
            got,
            "somebody refuses, but not as Lambda does; check that --function-url is the function's own URL",
        ),
        Err(silence) if silence.is_unreachable() => {
            row.failed(got, "check --function-url; a refusal is an answer, too")
        }
        _ => row.failed(
            got,
            "the function runs for whoever asks it directly: give its URL `AuthType: AWS_IAM`, and let the distribution alone invoke it",
        ),
    })
}

/// Did the platform write this, before the function ran?
fn is_lambdas(answer: &Answer) -> bool {
    let marked =
        ["x-amzn-requestid", "x-amzn-errortype"].iter().any(|name| answer.headers.contains_key(*name));
    !answer.is_ours() && (marked || answer.member("Message").is_some())
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
        // A port that nobody opens, and a connection that is closed at once, carry no link any further.
        Err(Silence::Unreachable(_) | Silence::BrokeOff(_)) => row.held(describe(&reply)),
        Err(Silence::Unheard(_)) => {
            row.platform(describe(&reply), "nothing answers there; a redirect to https would tell people why")
        }
        Err(Silence::TimedOut(_)) => row.failed(
            describe(&reply),
            "somebody takes links in the open and says nothing: redirect http to https, or close the port",
        ),
    })
}

fn redirects(answer: &Answer) -> bool {
    let target = answer.field("location").is_some_and(|target| target.starts_with("https://"));
    matches!(answer.status, 301 | 302 | 307 | 308) && target
}
