//! The usual slips in a TOML file: what the parser's own words leave out is what to write instead.

/// What to write where the parser says `message`, if that is known.
pub fn next_step(message: &str) -> Option<&'static str> {
    let is = |found: &str, expected: &str| message.contains(found) && message.contains(expected);
    Some(match () {
        () if is("invalid type: map", "expected a sequence") => {
            "it is a list of tables: write its name in two brackets, `[[…]]`"
        }
        () if is("invalid type: string", "expected a sequence") => "write a list, such as `[\"…\"]`",
        () if is("invalid type: integer", "expected a string")
            || is("invalid type: floating point", "expected a string")
            || is("invalid type: boolean", "expected a string") =>
        {
            "write it in quotes, with a unit if it is a length of time or a size"
        }
        () if message.contains("string values must be quoted") => "write a value, and text in quotes",
        () => return None,
    })
}

/// The message with what to do next.
pub(super) fn explained(message: &str) -> String {
    match next_step(message) {
        Some(next) => format!("{message}; {next}"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parser's words are not ours: a later version of it may say something else.
    #[test]
    fn the_parser_still_says_so() {
        #[derive(Debug, serde::Deserialize)]
        struct Shape {
            #[serde(rename = "table")]
            _table: Option<Vec<toml::Table>>,
            #[serde(rename = "list")]
            _list: Option<Vec<String>>,
            #[serde(rename = "text")]
            _text: Option<String>,
        }
        for (text, next) in [
            ("[table]\na = 1", "two brackets"),
            ("list = \"http\"", "write a list"),
            ("text = 30", "in quotes"),
            ("text = 0.5", "in quotes"),
            ("text = true", "in quotes"),
            ("text = ", "write a value"),
            ("text = abc", "write a value"),
        ] {
            let fault = toml::from_str::<Shape>(text).unwrap_err();
            let said = explained(fault.message());
            assert!(said.contains(next), "{text}: {said}");
        }
        assert_eq!(explained("unknown field `x`"), "unknown field `x`");
    }
}
