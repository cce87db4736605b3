//! How the function is linked, beyond what Cargo.toml can say.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // At a fixed address. Otherwise the loader writes 23,500 addresses into 100 pages before `main`, each a page fault of
    // its own, and each page then counts as the process's own memory (ADR 0027).
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-link-arg-bin=bootstrap=-no-pie");
    }
}
