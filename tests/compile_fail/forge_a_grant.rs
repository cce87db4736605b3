//! A grant is minted by `Policies::verify` alone.
//! error: private field

fn main() {
    let _ = sluicegate::gate::grant::Grant { key: "demo".into() };
}
