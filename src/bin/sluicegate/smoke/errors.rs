//! `errors-not-cached`: what a cache in front would show over the whole run.

use super::client::Reply;
use super::file::File;
use super::report::{Check, expect};
use super::site::Site;
use crate::Failure;

/// What was seen so far.
#[derive(Default)]
pub(super) struct Errors {
    pairs: usize,
    followed: usize,
    fault: Option<String>,
}

impl Errors {
    /// After a refusal, the good link must bring the file.
    pub(super) async fn let_the_file_through(
        &mut self,
        site: &Site,
        file: &File,
        after: &str,
    ) -> Result<(), Failure> {
        let reply = site.get(&site.good()?).await;
        self.followed += 1;
        if !reply.as_ref().is_ok_and(|answer| file.is_in(answer)) {
            let got = file.describe(&reply);
            self.note(|| format!("{got} for the good link after `{after}`"));
        }
        Ok(())
    }

    /// Asked twice, an error is made twice: each has a request id of its own.
    pub(super) fn are_made_anew(&mut self, name: &str, first: &Reply, second: &Reply) {
        let (Ok(first), Ok(second)) = (first, second) else { return };
        let (one, other) = (first.field("x-request-id"), second.field("x-request-id"));
        if first.status >= 400 && one.is_some() {
            self.pairs += 1;
            if one == other {
                self.note(|| format!("one answer for two requests of `{name}`"));
            }
        }
    }

    fn note(&mut self, fault: impl FnOnce() -> String) {
        self.fault.get_or_insert_with(fault);
    }

    pub(super) fn check(&self) -> Check {
        let row =
            expect("errors-not-cached", "each error made anew, and the file for the good link after it");
        let Self { pairs, followed, fault } = self;
        match fault {
            Some(fault) => row.failed(
                fault,
                "no cache may keep an answer of 400 or more: set its time for errors to 0 for every status",
            ),
            None if *pairs == 0 => row.skipped("no error with a request id was seen"),
            None => {
                let after = match followed {
                    0 => "no good link works that could have been tried after them".to_owned(),
                    _ => format!("after {followed} of them the good link brought the file"),
                };
                row.held(format!("{pairs} errors asked twice were made twice; {after}"))
            }
        }
    }
}
