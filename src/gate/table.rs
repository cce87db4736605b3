//! Tables that a request is looked up in. Whoever asks cannot add to them: what stands there comes from policies, or was proven
//! and connected to. So their hash has to be quick and differ between processes, and no more.

use std::collections::HashMap;

/// A map with such a hash.
pub(crate) type Table<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
