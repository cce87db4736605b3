//! The way through the rooms, in order: this one compiles, so that the others fail for their own reason.

use sluicegate::gate::keys::FetchedKeys;
use sluicegate::gate::{id::UnixTime, link::SignedRequest, policy::Policies};
use sluicegate::wire::limits::Limits;
use sluicegate::wire::origin::{Ask, Origin};

async fn walk(policies: &Policies, limits: &Limits, origin: &Origin, request: SignedRequest, ask: &Ask) {
    let Ok(grant) = policies.verify(request, &FetchedKeys::new(), UnixTime(0), None) else { return };
    let Ok(permit) = policies.decide(grant, UnixTime(0)) else { return };
    let Ok(admission) = limits.admit(permit).await else { return };
    let _ = origin.fetch(admission, ask).await;
}

fn main() {
    let _ = walk;
}
