//! Where requests are written down, beside the log.

use std::sync::Arc;

use super::figures::Figures;
use super::usage::Usage;

/// What is kept of requests; nothing, unless somebody asked for it.
#[derive(Debug, Default)]
pub struct Books {
    /// The console's figures.
    pub figures: Option<Arc<Figures>>,
    /// The file of usage records.
    pub usage: Option<Usage>,
}
