//! The one place that asks what time it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
