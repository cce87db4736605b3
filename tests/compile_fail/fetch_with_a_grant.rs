//! What is proven but not permitted and let in cannot be fetched.
//! error: E0308

use sluicegate::gate::grant::Grant;
use sluicegate::wire::origin::{Ask, Origin};

async fn fetch(origin: &Origin, grant: Grant, ask: &Ask) {
    let _ = origin.fetch(grant, ask).await;
}

fn main() {
    let _ = fetch;
}
