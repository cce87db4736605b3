//! What may be said upstream and downstream: both directions are lists of what is let through, never of what is held
//! back. Values are read and written anew where they mean something.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::bytes::Bytes;
use super::fields::{self, Fields, Name};
use super::range::{ByteRange, RangeRequest};

/// Fields that a page on another origin may read.
pub const EXPOSED: &str = "accept-ranges, content-disposition, content-encoding, content-length, content-range, etag, last-modified, \
                           ratelimit, ratelimit-policy, repr-digest, retry-after, x-request-id, x-sluicegate-length, \
                           x-sluicegate-limits";

/// Says `degraded` where the store of the limits was away.
pub const LIMITS_HEADER: &str = "x-sluicegate-limits";

/// What an upstream's markup may do in the gateway's origin: nothing. Media elements may load themselves.
pub const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox";

/// The fields of every answer, refusals included. Checked when the program is built.
pub static COMMON: [(HeaderName, HeaderValue); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    (header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED)),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin")),
];

/// The type of a refusal (RFC 9457 section 3).
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// How to authenticate, for a refusal without a credential (RFC 9110 section 11.6.1).
pub const CHALLENGE: &str = "Bearer realm=\"sluicegate\"";

/// An entity tag that may be compared strongly (RFC 9110 section 8.8.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrongTag(HeaderValue);

impl StrongTag {
    /// Reads `"…"`; `W/"…"` and anything else is not a strong tag.
    pub fn read(value: &HeaderValue) -> Option<Self> {
        is_quoted(value.as_bytes()).then(|| Self(value.clone()))
    }

    /// The same in memory of its own, for who keeps it.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self(HeaderValue::from_bytes(self.0.as_bytes()).unwrap_or_else(|_| self.0.clone()))
    }

    /// The tag as a header value.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }
}

/// What of a request's headers goes upstream.
#[derive(Debug, Default)]
pub struct Conditions {
    /// One range, or none. Several ranges are answered with the whole file (RFC 9110 section 14.2, CVE-2011-3192).
    pub range: Option<ByteRange>,
    /// The strong tag of `If-Range`, only beside a range.
    pub if_range: Option<HeaderValue>,
    /// `If-Match` and its like, as they came.
    pub preconditions: HeaderMap,
}

const PRECONDITIONS: [HeaderName; 4] =
    [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE];

impl Conditions {
    /// Reads the client's range and conditions. What is repeated or malformed does not go upstream.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut conditions = Self::default();
        // Most requests have none of them, and few fields.
        if !headers.keys().any(|name| *name == header::RANGE || PRECONDITIONS.contains(name)) {
            return conditions;
        }
        for name in PRECONDITIONS {
            if let Some(value) = only(headers, &name).filter(|value| is_visible(value.as_bytes())) {
                conditions.preconditions.insert(name, value.clone());
            }
        }
        let asked = only(headers, &header::RANGE).map(|value| RangeRequest::read(value.as_bytes()));
        let Some(RangeRequest::One(range)) = asked else { return conditions };
        let mut if_range = headers.get_all(header::IF_RANGE).iter();
        match (if_range.next(), if_range.next()) {
            (None, _) => conditions.range = Some(range),
            (Some(value), None) if StrongTag::read(value).is_some() || is_date(value.as_bytes()) => {
                conditions.range = Some(range);
                conditions.if_range = Some(value.clone());
            }
            // A weak or unreadable validator never matches: the whole file (RFC 9110 section 13.1.5).
            _ => {}
        }
        conditions
    }

    /// Did the client ask for anything that may be answered with 304 or 412?
    pub fn may_answer(&self, status: u16) -> bool {
        let has = |names: [HeaderName; 2]| names.iter().any(|name| self.preconditions.contains_key(name));
        match status {
            304 => has([header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE]),
            412 => has([header::IF_MATCH, header::IF_UNMODIFIED_SINCE]),
            _ => false,
        }
    }
}

/// The value of a header that stands once.
pub fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        _ => None,
    }
}

fn is_visible(value: &[u8]) -> bool {
    value.len() <= 1024 && Bytes::PRINTABLE.are_all_of(value)
}

fn is_date(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| text.parse::<httpdate::HttpDate>().is_ok())
}

/// Does a value fit its field?
type Check = fn(&[u8]) -> bool;

/// Headers of an upstream's answer that are relayed as they are. `Content-Type`, `Content-Length`, `Content-Range` and
/// `Cache-Control` are not among them: they are read, checked and written anew.
static RELAYED: [(Name, HeaderName, Check); 3] = [
    (fields::ETAG, header::ETAG, is_tag),
    (fields::LAST_MODIFIED, header::LAST_MODIFIED, is_date),
    (fields::REPR_DIGEST, HeaderName::from_static("repr-digest"), |_| true),
];

/// Fields that are passed on; so few that none is looked up in a table.
pub type Relayed = Vec<(HeaderName, HeaderValue)>;

/// The value of a field that is passed on.
pub fn find<'r>(relayed: &'r Relayed, name: &HeaderName) -> Option<&'r HeaderValue> {
    relayed.iter().find(|(given, _)| given == name).map(|(_, value)| value)
}

/// What may be passed on: validators and a digest of the representation, each once and visible. It stands where it was read, until
/// somebody copies it.
pub fn relay(upstream: &Fields) -> Relayed {
    // Room for a content coding too.
    let mut out = Relayed::with_capacity(RELAYED.len() + 1);
    for (said, name, fits) in &RELAYED {
        let value = upstream.only_shared(*said).filter(|value| is_visible(value) && fits(value));
        if let Some(Ok(value)) = value.map(HeaderValue::from_maybe_shared) {
            out.push((name.clone(), value));
        }
    }
    out
}

/// A `Content-Encoding` that is no list of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnreadableCoding;

/// The body's content coding, which is passed on as it is: `Ok(None)` for none, `Err` for a label that cannot be read.
/// A coded body without its label would be another file.
pub fn content_coding(upstream: &Fields) -> Result<Option<HeaderValue>, UnreadableCoding> {
    let mut codings = Vec::new();
    for value in upstream.all(fields::CONTENT_ENCODING) {
        for coding in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            let token = coding.iter().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(b));
            if !token || coding.len() > 32 || codings.len() > 8 {
                return Err(UnreadableCoding);
            }
            if !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity") {
                codings.push(coding);
            }
        }
    }
    if codings.is_empty() {
        return Ok(None);
    }
    HeaderValue::from_bytes(&codings.join(&b", "[..])).map(Some).map_err(|_| UnreadableCoding)
}

fn is_tag(bytes: &[u8]) -> bool {
    is_quoted(bytes.strip_prefix(b"W/").unwrap_or(bytes))
}

/// An `opaque-tag` (RFC 9110 section 8.8.3).
fn is_quoted(bytes: &[u8]) -> bool {
    let etagc = |b: &u8| *b == 0x21 || (0x23..=0x7e).contains(b) || *b >= 0x80;
    let inner = bytes.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    inner.is_some_and(|inner| inner.iter().all(etagc))
}

/// What the upstream's `Cache-Control` forbids to a shared or private cache.
pub fn upstream_forbids_caching(upstream: &Fields) -> bool {
    upstream.all(fields::CACHE_CONTROL).any(|value| {
        value.split(|b| *b == b',').any(|directive| {
            let name = directive.split(|b| *b == b'=').next().unwrap_or(directive).trim_ascii();
            name.eq_ignore_ascii_case(b"no-store") || name.eq_ignore_ascii_case(b"private")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn a_range_needs_a_validator_that_can_match() {
        for (pairs, ranged) in [
            (&[("range", "bytes=0-4")][..], true),
            (&[("range", "bytes=0-4"), ("if-range", "\"v1\"")], true),
            (&[("range", "bytes=0-4"), ("if-range", "Sun, 06 Nov 1994 08:49:37 GMT")], true),
            (&[("range", "bytes=0-4"), ("if-range", "W/\"v1\"")], false),
            (&[("range", "bytes=0-4"), ("if-range", "yesterday")], false),
            (&[("range", "bytes=0-4"), ("if-range", "\"a\""), ("if-range", "\"a\"")], false),
            (&[("range", "bytes=0-4"), ("range", "bytes=5-9")], false),
            (&[("range", "bytes=0-4,6-9")], false),
            (&[("range", "items=0-4")], false),
        ] {
            assert_eq!(Conditions::read(&map(pairs)).range.is_some(), ranged, "{pairs:?}");
        }
    }

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(name, value)| (*name, value.as_bytes())).collect()
    }

    #[test]
    fn only_listed_headers_come_back() {
        let out = relay(&fields(&[
            ("set-cookie", "a=b"),
            ("server", "x"),
            ("etag", "\"v\""),
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("location", "http://10.0.0.1/"),
            ("content-disposition", "attachment"),
            ("x-frame-options", "DENY"),
            ("content-encoding", "gzip"),
            ("repr-digest", "sha-256=:AA==:"),
            ("www-authenticate", "Basic"),
        ]));
        let mut names: Vec<_> = out.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["etag", "last-modified", "repr-digest"]);
        for bad in [("etag", "v"), ("last-modified", "yesterday"), ("repr-digest", "\u{e9}")] {
            assert!(relay(&fields(&[bad])).is_empty(), "{bad:?}");
        }
        assert!(relay(&fields(&[("etag", "\"a\""), ("etag", "\"b\"")])).is_empty());
    }

    #[test]
    fn a_coded_body_keeps_its_label() {
        let read = |values: &[&str]| {
            let pairs: Vec<_> = values.iter().map(|value| ("content-encoding", *value)).collect();
            content_coding(&fields(&pairs)).map(|label| label.map(|label| label.to_str().unwrap().to_owned()))
        };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["identity"]), Ok(None));
        assert_eq!(read(&["gzip"]), Ok(Some("gzip".to_owned())));
        assert_eq!(read(&["gzip, br", "zstd"]), Ok(Some("gzip, br, zstd".to_owned())));
        assert_eq!(read(&["gzip", "\u{e9}"]), Err(UnreadableCoding));
        assert_eq!(read(&["gzip;q=1"]), Err(UnreadableCoding));
    }

    #[test]
    fn no_store_is_heard_however_it_is_written() {
        for (value, forbids) in [
            ("no-store", true),
            ("max-age=5, Private", true),
            ("private=\"x\"", true),
            ("public, max-age=5", false),
        ] {
            assert_eq!(upstream_forbids_caching(&fields(&[("cache-control", value)])), forbids, "{value}");
        }
    }
}
