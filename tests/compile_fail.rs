//! Programs that must not compile: each tries to reach a room of the gateway without the one before it.

#[test]
fn the_chain_cannot_be_entered_in_the_middle() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile_fail/*.rs");
}
