//! What the limits did not let in cannot be fetched.
//! error: E0308

use sluicegate::gate::permit::Permit;
use sluicegate::wire::origin::{Ask, Origin};

async fn fetch(origin: &Origin, permit: Permit, ask: &Ask) {
    let _ = origin.fetch(permit, ask).await;
}

fn main() {
    let _ = fetch;
}
