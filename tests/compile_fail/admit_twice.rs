//! A permit is counted once.
//! error: E0382

use sluicegate::gate::permit::Permit;
use sluicegate::wire::limits::Limits;

async fn twice(limits: &Limits, permit: Permit) {
    let _ = limits.admit(permit).await;
    let _ = limits.admit(permit).await;
}

fn main() {
    let _ = twice;
}
