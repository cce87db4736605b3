//! The one place that asks what time it is.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// Now, in microseconds, as the log writes it.
pub(in crate::wire) fn timestamp() -> String {
    format!("{:.6}", jiff::Timestamp::now())
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
