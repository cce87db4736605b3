//! What may be done to a link on its way without breaking it.

use super::file::File;
use super::link::Link;
use super::report::{Report, expect};
use super::site::Site;
use crate::Failure;

pub(super) async fn check(site: &Site, file: &File, report: &mut Report) -> Result<(), Failure> {
    let plus = |value: &str| value.replace("%20", "+");
    let cases: [(&str, &str, Link); 3] = [
        ("added-parameter", "`utm_source` at its end", site.good()?.and("utm_source", "smoke")),
        ("reordered", "its parameters in another order", site.good()?.reversed()),
        ("space-spellings", "`+` for `%20`", site.good()?.change("filename", plus)),
    ];
    for (name, what, link) in cases {
        let row = expect(name, format!("200 with the whole file for a link with {what}"));
        let reply = site.get(&link).await;
        report.add(if reply.as_ref().is_ok_and(|answer| file.is_in(answer)) {
            row.held(format!("200 with the whole file, with {what}"))
        } else {
            let hint = "whatever is in front must pass the query on as it came, or in one canonical spelling";
            row.failed(file.describe(&reply), hint)
        })?;
    }
    Ok(())
}
