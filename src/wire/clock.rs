//! The one place that asks what time it is. Within a turn, which is what the task of a connection does between two waits, it is asked
//! once and does not go on: a turn is a small part of a millisecond as a rule, and a request of a small file would ask a dozen times
//! in two. What a request begins with and what its record says is asked anew: one turn may have many requests, and their log a
//! reader who lets it wait.

use std::cell::{Cell, RefCell};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use tokio::time::Instant as Steady;

use crate::gate::id::UnixTime;

use super::limits::store::Moment;

thread_local! {
    // What the turn has asked already; `None` outside of one.
    static TURN: Cell<Option<Asked>> = const { Cell::new(None) };
}

#[derive(Clone, Copy, Default)]
struct Asked {
    steady: Option<Steady>,
    wall: Option<Duration>,
}

/// One turn of a task.
#[cfg(feature = "server")]
pub(in crate::wire) fn turn<T>(work: impl FnOnce() -> T) -> T {
    /// Ends the turn, also where `work` does not come to its end.
    struct End(Option<Asked>);
    impl Drop for End {
        fn drop(&mut self) {
            TURN.set(self.0);
        }
    }
    let _end = End(TURN.replace(Some(Asked::default())));
    work()
}

/// From here on it is asked anew.
pub(in crate::wire) fn refresh() {
    if TURN.get().is_some() {
        TURN.set(Some(Asked::default()));
    }
}

/// Now, by the clock that tokio's timers go by.
pub(in crate::wire) fn instant() -> Steady {
    let asked = TURN.get();
    if let Some(known) = asked.and_then(|asked| asked.steady) {
        return known;
    }
    let now = Steady::now();
    TURN.set(asked.map(|asked| Asked { steady: Some(now), ..asked }));
    now
}

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
    let asked = TURN.get();
    if let Some(known) = asked.and_then(|asked| asked.wall) {
        return known;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TURN.set(asked.map(|asked| Asked { wall: Some(now), ..asked }));
    now
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "server")]
    use std::time::Duration;

    /// Until both clocks go on.
    #[cfg(feature = "server")]
    fn pass() -> (tokio::time::Instant, u64) {
        let (steady, wall) = (std::time::Instant::now(), std::time::SystemTime::now());
        while steady.elapsed() < Duration::from_micros(2)
            || wall.elapsed().is_ok_and(|elapsed| elapsed < Duration::from_micros(2))
        {}
        (super::instant(), super::moment().0)
    }

    #[cfg(feature = "server")]
    #[test]
    fn time_stands_still_within_a_turn_and_goes_on_after_it() {
        let outside = pass();
        let (first, second, third) = super::turn(|| {
            let (first, second) = (pass(), pass());
            super::refresh();
            (first, second, pass())
        });
        assert!(outside.0 < first.0 && first == second);
        assert!(second.0 < third.0 && second.1 < third.1, "asked anew");
        let _ = std::panic::catch_unwind(|| super::turn(|| panic!("on purpose")));
        let after = pass();
        assert!(second.0 < after.0 && after.0 < pass().0);
    }

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
