//! **gate** decides. It is pure: no socket, no clock, no environment, no async; time is an argument.
//!
//! A request walks through types, and each step consumes the last:
//! [`SignedRequest`](link::SignedRequest) is what is claimed, [`Grant`](grant::Grant) what is proven,
//! [`Permit`](permit::Permit) what the tenant's policy allows. What happens after that, `wire` does.

// What is claimed
pub(crate) mod bytes;
pub mod canonical;
pub mod hmac;
pub mod id;
pub mod json;
pub mod jwt;
pub mod link;
pub mod query;
pub mod target;
// What is proven
pub mod grant;
pub mod keys;
pub mod mint;
mod scope;
// What is allowed
pub mod address;
pub mod epoch;
pub mod hosts;
pub mod paths;
pub mod permit;
pub mod policy;
pub(crate) mod table;
// What a cache in front may know and keep
pub mod edge;
pub mod partition;
// What may be said
pub mod explain;
pub mod fault;
pub mod fields;
pub mod filename;
pub mod headers;
pub mod range;
pub mod refusal;
