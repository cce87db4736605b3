//! The usual mistakes of signers: what may have been signed in place of the string to sign.

use crate::gate::canonical::{Parameters, VERSION_LINE};
use crate::gate::target::Target;

/// What a signer may have signed instead.
pub(super) struct Guess {
    pub(super) text: String,
    pub(super) hint: String,
    pub(super) parameter: Option<&'static str>,
}

pub(super) fn guesses(raw_query: &str, parameters: &Parameters) -> Vec<Guess> {
    let text = parameters.string_to_sign();
    let whole = |text: String, hint: &str| Guess { text, hint: hint.to_owned(), parameter: None };
    let mut guesses = vec![
        whole(
            text.trim_end_matches('\n').to_owned(),
            "the last line was signed without its newline; every line ends with one",
        ),
        whole(text.replace('\n', "\r\n"), "the lines were joined with CR LF; write a single newline"),
        whole(
            text.replace('\n', "\\n"),
            "the newlines were signed as the two characters `\\n`; use real ones",
        ),
        whole(
            text.replacen(&format!("{VERSION_LINE}\n"), "", 1),
            "the first line, `sluicegate-link-v1`, was left out",
        ),
        whole(
            unsorted(raw_query, parameters),
            "the lines were signed in the link's order; sort them by name",
        ),
        whole(
            raw_query.split("&sig=").next().unwrap_or("").to_owned(),
            "the query itself was signed; sign the lines above",
        ),
    ];
    let mut all_raw = parameters.clone();
    for (name, value) in parameters.iter().filter(|(name, _)| *name != "sig") {
        if let Some(raw) = raw_value(raw_query, name) {
            all_raw.set(name, Some(&raw));
        }
        guesses.extend(guesses_about(name, value, raw_query, parameters));
    }
    guesses.push(whole(
        all_raw.string_to_sign().to_owned(),
        "the values were signed percent-encoded; sign the decoded values",
    ));
    guesses.retain(|guess| guess.text != text);
    guesses
}

/// What a signer may have done to one value.
fn guesses_about(name: &'static str, value: &str, raw_query: &str, parameters: &Parameters) -> Vec<Guess> {
    let guess = |value: Option<String>, hint: String| {
        let mut parameters = parameters.clone();
        parameters.set(name, value.as_deref());
        Guess { text: parameters.string_to_sign().to_owned(), hint, parameter: Some(name) }
    };
    let mut guesses = vec![
        guess(None, format!("parameter `{name}` was added after signing, or left out of the string to sign")),
        guess(
            Some(value.replace(' ', "+")),
            format!(
                "`{name}` was signed with `+` where the link says a space: sign the decoded value, and write a real plus as `%2B`"
            ),
        ),
        guess(
            Some(value.replace('+', " ")),
            format!("`{name}` was signed with a space where the link says a plus"),
        ),
    ];
    if let Some(raw) = raw_value(raw_query, name) {
        guesses
            .push(guess(Some(raw), format!("`{name}` was signed percent-encoded; sign the decoded value")));
    }
    if let ("url", Ok(target)) = (name, Target::parse(value)) {
        let rewritten =
            "`url` was signed as a URL library rewrites it; sign what stands in the link".to_owned();
        guesses.push(guess(Some(target.url().to_string()), rewritten));
        let cut = value.trim_end_matches('/').to_owned();
        guesses.push(guess(Some(cut), "`url` was signed without its last `/`".to_owned()));
    }
    guesses
}

fn raw_value(raw_query: &str, name: &str) -> Option<String> {
    raw_query.split('&').find_map(|piece| piece.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
}

fn unsorted(raw_query: &str, parameters: &Parameters) -> String {
    let mut text = format!("{VERSION_LINE}\n");
    for piece in raw_query.split('&') {
        let name = piece.split_once('=').map_or(piece, |(name, _)| name);
        if let Some(value) = parameters.get(name).filter(|_| name != "sig") {
            text.extend([name, "=", value, "\n"]);
        }
    }
    text
}

/// Another spelling of a tag than the one that counts.
pub(super) fn spelling_of(given: &str) -> Option<String> {
    let hint = match given.len() {
        64 if given.bytes().all(|b| b.is_ascii_hexdigit()) => {
            "`sig` is written in hexadecimal; encode the 32 bytes as base64url without padding"
        }
        44 if given.ends_with('=') => "`sig` ends with `=`; leave out the padding",
        43 if given.contains(['+', '/', ' ']) => {
            "`sig` is standard base64; write `-` for `+` and `_` for `/`"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}
