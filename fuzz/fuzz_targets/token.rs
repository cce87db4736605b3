//! Any text as a token: never a panic, and an accepted one is exactly its parts.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluicegate::gate::jwt::Token;

fuzz_target!(|text: &str| {
    if let Ok(token) = Token::parse(text) {
        assert_eq!(format!("{}.{}", token.signing_input(), token.signature()), text);
        let _ = (token.alg(), token.kid(), token.has_plain_header(), token.audiences());
        for claim in ["iss", "exp", "url", "urls", "jti"] {
            let _ = (token.text(claim), token.seconds(claim), token.texts(claim, 64));
        }
    }
});
