//! Going on where a body broke: the same version of the file, from a given byte, and nothing else.

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};

use super::exchange::Response;
use super::head::VettedHead;
use crate::gate::fault::UpstreamFault;
use crate::gate::fields;
use crate::gate::headers::{StrongTag, content_coding, find};
use crate::gate::range::ContentRange;

/// How to go on where a body broke: the same version of the file, from a given byte.
#[derive(Debug)]
pub(in crate::wire) struct Resume {
    tag: StrongTag,
    coding: Option<HeaderValue>,
    /// Position in the file of the first byte of the body.
    first: u64,
    /// Position of the last byte, if the client asked for a part.
    last: Option<u64>,
    whole: Option<u64>,
}

impl Resume {
    /// A body can be continued if its version can be named and the upstream answers ranges.
    pub(super) fn plan(head: &VettedHead) -> Option<Self> {
        // Apart from what was read, which it would hold for as long as the body lasts.
        let tag = head.strong_tag.as_ref().filter(|_| head.accepts_ranges)?.apart();
        let (first, last) = match head.range {
            Some(ContentRange::Part { first, last, .. }) => (first, Some(last)),
            Some(ContentRange::Unsatisfied { .. }) => return None,
            None => (0, None),
        };
        let coding = find(&head.relayed, &header::CONTENT_ENCODING).cloned();
        Some(Self { tag, coding, first, last, whole: head.whole_length })
    }

    /// The position to go on from when `sent` bytes of the body are there, and the headers that ask for the rest.
    pub(super) fn request(&self, sent: u64) -> Result<(u64, HeaderMap), UpstreamFault> {
        let malformed = || UpstreamFault::NotTheRest("the file is too long".to_owned());
        let from = self.first.checked_add(sent).ok_or_else(malformed)?;
        let to = self.last.map_or_else(String::new, |last| last.to_string());
        let range = HeaderValue::from_str(&format!("bytes={from}-{to}")).map_err(|_| malformed())?;
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range);
        headers.insert(header::IF_RANGE, self.tag.value().clone());
        Ok((from, headers))
    }

    /// Is this the missing part of the same version, from `from` on? Gives its length.
    pub(super) fn check(&self, response: &Response, from: u64) -> Result<u64, UpstreamFault> {
        let malformed = |what: &str| Err(UpstreamFault::NotTheRest(what.to_owned()));
        if response.status != StatusCode::PARTIAL_CONTENT {
            return malformed("the file changed, or the upstream no longer answers ranges");
        }
        let headers = &response.headers;
        response.framed.clone()?;
        if headers.only(fields::ETAG) != Some(self.tag.value().as_bytes())
            || content_coding(headers) != Ok(self.coding.clone())
        {
            return malformed("the answer is of another version, or does not name its version");
        }
        let range = headers.only(fields::CONTENT_RANGE).and_then(ContentRange::parse);
        let Some(range @ ContentRange::Part { first, last, total }) = range else {
            return malformed("no Content-Range");
        };
        let whole = self.whole.or(total);
        let Some(wanted_last) = self.last.or(whole.map(|whole| whole.saturating_sub(1))) else {
            return malformed("nobody says how long the file is");
        };
        if first != from || last != wanted_last || total.is_some_and(|total| whole != Some(total)) {
            return malformed("the answer is another part than the missing one");
        }
        let announced = headers.all(fields::CONTENT_LENGTH).next();
        if announced.is_some_and(|bytes| bytes != range.length().to_string().as_bytes()) {
            return malformed("its Content-Length differs from its Content-Range");
        }
        Ok(range.length())
    }
}
