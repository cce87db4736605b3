//! Traces: one span for each request, with children for its stages, until the end of its body. In a build without the
//! feature `otlp` a span is nothing at all; with it, nothing is recorded unless `traces.endpoint` says where to send it.
//!
//! A span says what the decision record says, and as little of what must stay secret: no query, no signature, no token.

#[cfg(feature = "otlp")]
mod otlp;

#[cfg(feature = "otlp")]
pub(in crate::wire) use otlp::Span;
#[cfg(feature = "otlp")]
pub use otlp::{Traces, start};

#[cfg(not(feature = "otlp"))]
pub(in crate::wire) use none::Span;
#[cfg(not(feature = "otlp"))]
pub use none::{Traces, start};

/// The build without traces: the same names, and nothing behind them.
#[cfg(not(feature = "otlp"))]
mod none {
    use std::future::Ready;
    use std::time::Duration;

    use crate::wire::config::TracesConfig;

    /// Nobody can make one.
    #[derive(Debug)]
    pub enum Traces {}

    /// Refuses a setting that this build cannot follow.
    pub fn start(config: &TracesConfig) -> Result<Option<Traces>, String> {
        match &config.endpoint {
            None => Ok(None),
            Some(endpoint) => Err(format!(
                "`traces.endpoint` is `{}`, and this build has no traces; build it with the feature `otlp`, or leave the setting out",
                endpoint.as_str()
            )),
        }
    }

    impl Traces {
        /// Sends what is there.
        pub fn flush(&self, _: Duration) -> Ready<()> {
            match *self {}
        }

        /// Sends what is there, for the last time.
        pub fn shut_down(self) -> Ready<()> {
            match self {}
        }
    }

    /// No span.
    #[derive(Debug)]
    pub(in crate::wire) struct Span;

    #[allow(clippy::unused_self, reason = "the other build has something here")]
    impl Span {
        pub(in crate::wire) fn request() -> Self {
            Self
        }

        pub(in crate::wire) fn child(&self, _: &'static str) -> Self {
            Self
        }

        pub(in crate::wire) fn text(&self, _: &'static str, _: &str) {}

        pub(in crate::wire) fn number(&self, _: &'static str, _: u64) {}

        pub(in crate::wire) fn failed(&self, _: &'static str) {}

        pub(in crate::wire) fn end(self) {}
    }
}
