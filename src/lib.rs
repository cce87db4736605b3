//! Sluicegate, a multi-tenant signed-URL download gateway.

pub mod gate;
