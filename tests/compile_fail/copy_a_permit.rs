//! None of the five types can be copied, made from nothing or read from a file.
//! error: E0277

use sluicegate::gate::{grant::Grant, link::SignedRequest, permit::Permit};
use sluicegate::wire::{limits::Admission, origin::Download};

fn clone<T: Clone>() {}
fn default<T: Default>() {}
fn deserialize<T: for<'de> serde::Deserialize<'de>>() {}

fn main() {
    clone::<SignedRequest>();
    clone::<Grant>();
    clone::<Permit>();
    clone::<Admission>();
    clone::<Download>();
    default::<Permit>();
    deserialize::<Permit>();
}
