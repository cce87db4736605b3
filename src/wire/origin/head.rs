//! The upstream's response head, held against what was asked. What contradicts itself is refused before a byte of it
//! reaches a client.

use http::header;
use http::{StatusCode, Version};

use crate::gate::fault::UpstreamFault;
use crate::gate::fields::{self, Fields};
use crate::gate::headers::{
    Conditions, Relayed, StrongTag, content_coding, find, relay, upstream_forbids_caching,
};
use crate::gate::range::ContentRange;

use super::exchange::Response;

/// A response head that makes sense.
#[derive(Debug)]
pub struct VettedHead {
    /// 200, 206 or 304.
    pub status: StatusCode,
    /// Validators and the like, ready to be relayed.
    pub relayed: Relayed,
    /// The body's type; `application/octet-stream` if the upstream says none.
    pub content_type: mime::Mime,
    /// The upstream's own `Content-Disposition`, to read a name from.
    pub disposition: Option<Vec<u8>>,
    /// How many bytes the body has, if the upstream says so.
    pub body_length: Option<u64>,
    /// The part that a 206 carries.
    pub range: Option<ContentRange>,
    /// How long the whole file is, as far as known.
    pub whole_length: Option<u64>,
    /// Does the upstream answer ranges?
    pub accepts_ranges: bool,
    /// With it and ranges a broken body can be continued.
    pub strong_tag: Option<StrongTag>,
    /// `no-store` or `private`.
    pub forbids_caching: bool,
    /// Does the framing say where the body ends? What ends with its connection may be cut off unseen.
    pub has_end: bool,
}

impl VettedHead {
    /// How many bytes a 206 must carry.
    pub(in crate::wire) fn part_length(&self) -> Option<u64> {
        self.range.map(|range| range.length())
    }
}

/// Reads `response` as the answer to a request with `conditions`; `head_only` for HEAD.
pub(super) fn vet(
    response: &Response,
    conditions: &Conditions,
    head_only: bool,
) -> Result<VettedHead, UpstreamFault> {
    response.framed.clone()?;
    let headers = &response.headers;
    let coding = content_coding(headers)
        .map_err(|_| UpstreamFault::Malformed("a Content-Encoding that is no list of codings".to_owned()))?;
    let mut head = read(response.status, headers, conditions, head_only)?;
    if let Some(coding) = coding {
        head.relayed.push((header::CONTENT_ENCODING, coding));
    }
    Ok(head)
}

fn read(
    status: StatusCode,
    headers: &Fields,
    conditions: &Conditions,
    head_only: bool,
) -> Result<VettedHead, UpstreamFault> {
    match status.as_u16() {
        200 | 203 => whole(headers),
        206 => partial(headers, conditions, head_only),
        304 if conditions.may_answer(304) => Ok(head(StatusCode::NOT_MODIFIED, headers)),
        412 if conditions.may_answer(412) => Err(UpstreamFault::PreconditionFailed),
        416 if conditions.range.is_some() => {
            Err(UpstreamFault::RangeNotSatisfiable(unsatisfied_length(headers)))
        }
        status @ (404 | 410) => Err(UpstreamFault::NotFound(status)),
        status => Err(UpstreamFault::Status(status)),
    }
}

/// Framing that some reader could understand otherwise (RFC 9112 section 6): any transfer coding but `chunked` alone,
/// or `chunked` beside a length.
pub(super) fn check_framing(version: Version, headers: &Fields) -> Result<(), UpstreamFault> {
    let malformed = |what: &str| Err(UpstreamFault::Malformed(what.to_owned()));
    if headers.contains(fields::TRANSFER_ENCODING) {
        let chunked = headers
            .only(fields::TRANSFER_ENCODING)
            .is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"chunked"));
        if !chunked || version < Version::HTTP_11 {
            return malformed("a transfer coding other than `chunked`");
        }
        if headers.contains(fields::CONTENT_LENGTH) {
            return malformed("both Transfer-Encoding and Content-Length");
        }
    }
    let mut lengths = headers.all(fields::CONTENT_LENGTH);
    let first = lengths.next();
    if lengths.any(|other| Some(other) != first) || first.is_some_and(|value| digits(value).is_none()) {
        return malformed("a Content-Length that is not one number");
    }
    Ok(())
}

fn head(status: StatusCode, headers: &Fields) -> VettedHead {
    let content_type = headers
        .only(fields::CONTENT_TYPE)
        .filter(|value| value.is_ascii() && *value != b"application/octet-stream")
        .and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok())
        .unwrap_or(mime::APPLICATION_OCTET_STREAM);
    let relayed = relay(headers);
    VettedHead {
        status,
        strong_tag: find(&relayed, &header::ETAG).and_then(StrongTag::read),
        relayed,
        content_type,
        disposition: headers.only(fields::CONTENT_DISPOSITION).map(<[u8]>::to_vec),
        body_length: headers.all(fields::CONTENT_LENGTH).next().and_then(digits),
        range: None,
        whole_length: None,
        accepts_ranges: headers
            .only(fields::ACCEPT_RANGES)
            .is_some_and(|value| value.eq_ignore_ascii_case(b"bytes")),
        forbids_caching: upstream_forbids_caching(headers),
        has_end: headers.contains(fields::CONTENT_LENGTH) || headers.contains(fields::TRANSFER_ENCODING),
    }
}

fn whole(headers: &Fields) -> Result<VettedHead, UpstreamFault> {
    if headers.contains(fields::CONTENT_RANGE) {
        return Err(UpstreamFault::Malformed("a whole answer with Content-Range".to_owned()));
    }
    let mut head = head(StatusCode::OK, headers);
    head.whole_length = head.body_length;
    Ok(head)
}

fn partial(headers: &Fields, conditions: &Conditions, head_only: bool) -> Result<VettedHead, UpstreamFault> {
    let malformed = |what: &str| UpstreamFault::Malformed(what.to_owned());
    let asked = conditions.range.as_ref().ok_or_else(|| malformed("206 although no range was asked for"))?;
    let range = headers
        .only(fields::CONTENT_RANGE)
        .and_then(ContentRange::parse)
        .filter(|range| asked.agrees(range))
        .ok_or_else(|| malformed("206 whose Content-Range does not answer the range asked for"))?;
    let mut head = head(StatusCode::PARTIAL_CONTENT, headers);
    let ContentRange::Part { total, .. } = range else {
        return Err(malformed("206 with the Content-Range of a 416"));
    };
    if head.body_length.is_some_and(|announced| announced != range.length()) && !head_only {
        return Err(malformed("206 whose Content-Length differs from its Content-Range"));
    }
    if let Some(wanted) = conditions.if_range.as_ref().and_then(StrongTag::read)
        && headers.only(fields::ETAG) != Some(wanted.value().as_bytes())
    {
        // RFC 9110 section 15.3.7: a 206 to If-Range carries the tag that it matched.
        return Err(malformed("206 of another version than If-Range asked for, or of an unnamed one"));
    }
    head.whole_length = total;
    head.range = Some(range);
    head.accepts_ranges = true;
    Ok(head)
}

fn unsatisfied_length(headers: &Fields) -> Option<u64> {
    let value = headers.only(fields::CONTENT_RANGE)?;
    match ContentRange::parse(value)? {
        ContentRange::Unsatisfied { total } => Some(total),
        ContentRange::Part { .. } => None,
    }
}

/// A number in decimal digits and nothing else.
pub(super) fn digits(bytes: &[u8]) -> Option<u64> {
    let append = |number: u64, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    };
    if bytes.is_empty() { None } else { bytes.iter().try_fold(0, append) }
}
