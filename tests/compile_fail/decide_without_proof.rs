//! What is only claimed cannot be decided on.
//! error: E0308

use sluicegate::gate::{id::UnixTime, link::SignedRequest, policy::Policies};

fn decide(policies: &Policies, request: SignedRequest) {
    let _ = policies.decide(request, UnixTime(0));
}

fn main() {
    let _ = decide;
}
