//! Sluicegate, a multi-tenant signed-URL download gateway.
//!
//! A request names an upstream file in `url` and proves with an HMAC signature or a JWT who allowed it. It walks through
//! five types, and each step consumes the last, so that a later room cannot be entered without the earlier ones:
//!
//! | step | type | minted in | refuses with |
//! |---|---|---|---|
//! | what is claimed | [`SignedRequest`](gate::link::SignedRequest) | `gate/link.rs` | [`LinkError`](gate::link::LinkError) |
//! | what is proven | [`Grant`](gate::grant::Grant) | `gate/grant.rs` | [`VerifyError`](gate::grant::VerifyError) |
//! | what is allowed | [`Permit`](gate::permit::Permit) | `gate/permit.rs` | [`Denial`](gate::permit::Denial) |
//! | what is let in, now | `Admission` | `wire/limits.rs` | [`Throttled`](gate::fault::Throttled) |
//! | what is fetched | `Download` | `wire/origin.rs` | [`UpstreamFault`](gate::fault::UpstreamFault) |
//!
//! [`gate`] decides and does no IO; `wire` (feature `wire`, on by default) moves bytes and never decides.

pub mod gate;
#[cfg(feature = "wire")]
pub mod wire;
