//! A permit is minted by `Policies::decide` alone.
//! error: private field

use sluicegate::gate::{grant::Grant, permit::Permit};

fn forge(grant: Grant) -> Permit {
    Permit { grant, rule: Some("".into()), reported: Vec::new() }
}

fn main() {
    let _ = forge;
}
