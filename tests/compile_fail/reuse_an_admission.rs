//! An admission is good for one fetch.
//! error: E0382

use sluicegate::wire::limits::Admission;
use sluicegate::wire::origin::{Ask, Origin};

async fn twice(origin: &Origin, admission: Box<Admission>, first: &Ask, second: &Ask) {
    let _ = origin.fetch(admission, first).await;
    let _ = origin.fetch(admission, second).await;
}

fn main() {
    let _ = twice;
}
