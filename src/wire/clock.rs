//! The one place that asks what time it is.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use crate::gate::id::UnixTime;

use super::limits::store::Moment;

/// Now, in whole seconds.
pub fn now() -> UnixTime {
    UnixTime(since_1970().as_secs())
}

/// Now, in whole microseconds.
pub fn moment() -> Moment {
    Moment(u64::try_from(since_1970().as_micros()).unwrap_or(u64::MAX))
}

/// Appends what time it is, to the microsecond, as the log writes it.
pub(in crate::wire) fn append_timestamp(to: &mut Vec<u8>) {
    thread_local! {
        // The last second that was written, without its `Z`: a busy process writes the same one many times.
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = since_1970();
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != now.as_secs() || text.is_empty() {
            let begin =
                i64::try_from(now.as_secs()).ok().and_then(|begin| Timestamp::from_second(begin).ok());
            let whole = begin.unwrap_or_default().to_string();
            whole.trim_end_matches('Z').clone_into(text);
            *second = now.as_secs();
        }
        // Six digits, with the zeros in front.
        let mut digits = itoa::Buffer::new();
        let micros = digits.format(1_000_000 + now.subsec_micros()).get(1..).unwrap_or_default();
        for part in [text.as_str(), ".", micros, "Z"] {
            to.extend_from_slice(part.as_bytes());
        }
    });
}

/// Microseconds since the process first asked, by a clock that nobody sets.
pub fn steady() -> Moment {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let elapsed = BEGIN.get_or_init(Instant::now).elapsed();
    Moment(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_timestamp_is_utc_to_the_microsecond() {
        let before = jiff::Timestamp::now().as_microsecond();
        for _ in 0..3 {
            let mut text = Vec::new();
            super::append_timestamp(&mut text);
            let text = String::from_utf8(text).unwrap();
            assert!(text.len() == 27 && text.ends_with('Z'), "{text}");
            let read: jiff::Timestamp = text.parse().unwrap();
            assert!(
                (before..=jiff::Timestamp::now().as_microsecond()).contains(&read.as_microsecond()),
                "{text}"
            );
        }
    }
}
