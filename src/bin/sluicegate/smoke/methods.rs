//! Other methods, conditions and ranges: consistent whatever the platform makes of them, and at an end in time.

use http::Method;
use http::header::{ETAG, IF_NONE_MATCH, RANGE};
use sluicegate::gate::refusal::Code;

use super::client::{Answer, End, Reply};
use super::file::{File, describe};
use super::refused::{expected, fault};
use super::report::{Report, expect};
use super::site::Site;
use crate::Failure;

/// The setting for a platform on which an empty streamed body does not end.
const FILL: &str =
    "if this is a function whose empty bodies hang, set `SLUICEGATE_LAMBDA_FILL_BODYLESS=true`";
/// Fields that HEAD and GET have in common.
const SAME: [&str; 7] = [
    "content-type",
    "content-disposition",
    "etag",
    "last-modified",
    "x-content-type-options",
    "content-security-policy",
    "x-sluicegate-length",
];

/// Did no end come in time, here or behind whatever is in front?
fn hangs(reply: &Reply) -> bool {
    match reply {
        Ok(answer) => matches!(answer.end, End::Stalled(_)) || matches!(answer.status, 502 | 504),
        Err(silence) => !silence.is_unreachable(),
    }
}

pub(super) async fn head(site: &Site, file: &File, report: &mut Report) -> Result<(), Failure> {
    let row = expect("head", "200 with the fields of GET, no body, and an end");
    let reply = site.ask(Method::HEAD, &site.good()?, &[]).await;
    report.add(match &reply {
        Ok(answer) if answer.is_good() => match difference(&file.first, answer) {
            None => row.held("200 with the fields of GET"),
            Some(name) => row.failed(
                format!("200 with another `{name}` than GET"),
                "whatever is in front must treat HEAD as GET without its body",
            ),
        },
        _ if hangs(&reply) => row.failed(describe(&reply), FILL),
        _ => row.failed(describe(&reply), "whatever is in front must let HEAD through"),
    })
}

fn difference(get: &Answer, head: &Answer) -> Option<&'static str> {
    let length = |answer: &Answer| answer.field("content-length").map(str::to_owned);
    let lengths = length(get).zip(length(head)).is_some_and(|(get, head)| get != head);
    SAME.into_iter()
        .find(|name| get.headers.get(*name) != head.headers.get(*name))
        .or(lengths.then_some("content-length"))
}

pub(super) async fn conditional(site: &Site, file: &File, report: &mut Report) -> Result<(), Failure> {
    let row = expect("conditional", "304 without a body, or 200 with the whole file");
    let Some(tag) = file.first.field(ETAG.as_str()).map(str::to_owned) else {
        return report.add(row.skipped("the file has no ETag"));
    };
    let reply = site.ask(Method::GET, &site.good()?, &[(IF_NONE_MATCH, tag)]).await;
    report.add(match &reply {
        Ok(answer) if answer.status == 304 && answer.bytes == 0 && answer.end == End::Whole => {
            row.held("304 without a body")
        }
        Ok(answer) if file.is_in(answer) => row.platform(
            "200 with the whole file",
            "conditions are not answered here; that costs time, not truth",
        ),
        _ if hangs(&reply) => row.failed(describe(&reply), FILL),
        _ => row.failed(
            describe(&reply),
            "whatever is in front must pass `If-None-Match` on, or answer it rightly",
        ),
    })
}

pub(super) async fn range(site: &Site, file: &File, report: &mut Report) -> Result<(), Failure> {
    let row = expect("range", "206 with the ten bytes that were asked for, or 200 with the whole file");
    if file.first.bytes < 10 {
        return report.add(row.skipped("the file has fewer than ten bytes"));
    }
    let reply = site.ask(Method::GET, &site.good()?, &[(RANGE, "bytes=0-9".to_owned())]).await;
    report.add(match &reply {
        Ok(answer) if is_first_ten(file, answer) => row.held("206 with bytes 0 to 9"),
        Ok(answer) if file.is_in(answer) => row.platform(
            "200 with the whole file",
            "ranges are not answered here; a download cannot be resumed",
        ),
        Ok(answer) if answer.status == 206 => row.failed(
            format!("{answer} that are not the range"),
            "whatever cuts ranges must cut them rightly, or not at all",
        ),
        _ => row.failed(describe(&reply), "whatever is in front must pass `Range` on, or ignore it"),
    })
}

fn is_first_ten(file: &File, answer: &Answer) -> bool {
    let total = file.first.bytes;
    let said = answer
        .field("content-range")
        .is_some_and(|range| range == format!("bytes 0-9/{total}") || range == "bytes 0-9/*");
    let same = answer.bytes == 10 && file.first.start.starts_with(&answer.start);
    answer.status == 206 && answer.end == End::Whole && said && same
}

pub(super) async fn post(site: &Site, file: Option<&File>, report: &mut Report) -> Result<(), Failure> {
    let row = expected("post", Code::MethodNotAllowed);
    let reply = site.ask(Method::POST, &site.good()?, &[]).await;
    report.add(match (fault(&reply, Code::MethodNotAllowed, file), &reply) {
        (None, _) => row.held(describe(&reply)),
        (_, Ok(answer)) if !answer.is_ours() && matches!(answer.status, 400 | 403 | 405 | 501) => {
            row.platform(describe(&reply), "what is in front refuses the method by itself")
        }
        (Some(got), _) => {
            row.failed(got, "whatever is in front must let no method through but GET, HEAD and OPTIONS")
        }
    })
}
