//! The one place that asks what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::gate::id::UnixTime;

/// Now, in whole seconds.
pub fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs()))
}
