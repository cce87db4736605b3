//! Whatever an upstream may write into its head: ranges, names, tags, codings. Never a panic, and what is relayed is a
//! clean header.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, header};
use libfuzzer_sys::fuzz_target;
use sluicegate::gate::fields::Fields;
use sluicegate::gate::filename::{Disposition, FileName, content_disposition};
use sluicegate::gate::headers::{Conditions, content_coding, relay, upstream_forbids_caching};
use sluicegate::gate::range::{ContentRange, RangeRequest};

const NAMES: [HeaderName; 8] = [
    header::ETAG, header::LAST_MODIFIED, header::CONTENT_ENCODING, header::CACHE_CONTROL,
    header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH, header::CONTENT_RANGE,
];

fuzz_target!(|input: (Vec<(u8, &[u8])>, &[u8], &str)| {
    let (pairs, disposition, path) = input;
    let named = |which: u8| &NAMES[usize::from(which) % NAMES.len()];
    let fields: Fields = pairs.iter().map(|(which, value)| (named(*which).as_str(), *value)).collect();
    let mut headers = HeaderMap::new();
    for (which, value) in pairs {
        let name = named(which);
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name.clone(), value);
        }
    }
    for (_, value) in &relay(&fields) {
        assert!(value.as_bytes().iter().all(|b| (0x20..=0x7e).contains(b)));
    }
    let _ = (content_coding(&fields), upstream_forbids_caching(&fields));
    let conditions = Conditions::read(&headers);
    if let (Some(range), Some(value)) = (conditions.range, headers.get(header::CONTENT_RANGE))
        && let Some(answer) = ContentRange::parse(value.as_bytes())
    {
        let _ = range.agrees(&answer);
    }
    if let RangeRequest::One(range) = RangeRequest::read(disposition) {
        assert_eq!(RangeRequest::read(range.to_string().as_bytes()), RangeRequest::One(range));
    }
    let name = FileName::choose(None, Some(disposition), path, Some(&mime::APPLICATION_PDF), None);
    assert!((1..=255).contains(&name.as_str().len()) && !name.as_str().contains(['/', '\\', '\0']));
    let value = content_disposition(Disposition::Attachment, &name);
    assert!(value.as_bytes().iter().all(|b| (0x20..=0x7e).contains(b)));
});
