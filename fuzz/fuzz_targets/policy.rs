//! Any text as a policy file: never a panic, and every problem has a place in the file and an excerpt.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluicegate::gate::policy::{Policies, PolicySource};

fuzz_target!(|text: &str| {
    let source = PolicySource { file: "t.toml", stem: "t", text };
    let secret = || "sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG".to_owned().into();
    if let Err(problems) = Policies::load(&[source], &|_| Ok(secret())) {
        for problem in problems.0 {
            assert!(problem.line > 0 && problem.line <= text.matches('\n').count() + 1);
            assert!(!problem.message.is_empty() && !problem.excerpt().is_empty());
        }
    }
});
