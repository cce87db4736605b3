//! What the commands print. A reader that closes the pipe early, such as `head`, is not an error.

use std::io::{ErrorKind, Write as _};

use crate::{Failure, Verdict};

/// Prints a text to standard output as it is.
pub(crate) fn print(text: &str) -> Result<Verdict, Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Ok(Verdict::Good),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Verdict::Good),
        Err(error) => Err(format!("cannot write to standard output: {error}")),
    }
}

/// Prints a value as one indented JSON document.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<Verdict, Failure> {
    print(&format!("{value:#}\n"))
}

/// Prints an error to standard error; there is nowhere to go if even that fails.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "sluicegate: {text}");
}
