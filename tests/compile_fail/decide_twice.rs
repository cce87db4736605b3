//! A grant is used up by the decision.
//! error: E0382

use sluicegate::gate::{grant::Grant, id::UnixTime, policy::Policies};

fn twice(policies: &Policies, grant: Grant) {
    let _ = policies.decide(grant, UnixTime(0));
    let _ = policies.decide(grant, UnixTime(0));
}

fn main() {
    let _ = twice;
}
