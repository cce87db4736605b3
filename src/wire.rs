//! **wire** moves bytes: sockets, clock, files, environment. It asks [`gate`](crate::gate) and never decides itself.
//!
//! [`handler`] is the pipeline and the only file that names every stage; the rest are its rooms.

pub mod answer;
pub mod audit;
mod aws;
pub mod body;
pub mod books;
#[cfg(feature = "server")]
pub mod client;
pub mod clock;
pub mod config;
#[cfg(feature = "server")]
pub mod console;
#[cfg(feature = "cli")]
pub mod edge;
pub mod figures;
pub mod handler;
pub mod key_sets;
#[cfg(feature = "lambda")]
pub mod lambda;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod origin;
mod outbox;
pub mod policies;
pub mod secrets;
#[cfg(feature = "server")]
pub mod server;
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "only the server has a client's socket"))]
mod splice;
mod tls;
pub mod traces;
pub mod usage;
mod values;
