//! Any text as a URL, a redirect from it, a host pattern and a path: never a panic, and a URL has one reading.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluicegate::gate::hosts::HostPattern;
use sluicegate::gate::paths::{PathPrefix, suspicious};
use sluicegate::gate::target::{MAX_URL_BYTES, Target};

fuzz_target!(|input: (&str, &str)| {
    let (text, other) = input;
    if let Ok(target) = Target::parse(text) {
        // Percent-encoding can make it longer than what is read.
        if target.url().as_str().len() <= MAX_URL_BYTES {
            assert_eq!(Target::parse(target.url().as_str()).as_ref(), Ok(&target));
        }
        assert!(target.url().as_str().bytes().all(|b| (0x21..=0x7e).contains(&b)));
        assert!(target.port() > 0 && target.url().username().is_empty());
        let _ = target.join(other);
        if let Ok(pattern) = HostPattern::parse(other) {
            let _ = pattern.matches(target.host());
        }
        if let Ok(prefix) = PathPrefix::parse(other) {
            let path = target.url().path();
            assert!(!prefix.matches(path) || (prefix.may_cover(path) && !suspicious(path)));
        }
    }
});
