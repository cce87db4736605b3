//! What held and what did not: rows for a person, one document for a program.

use serde_json::json;

use crate::output::{print, print_json};
use crate::{Failure, Verdict};

/// The name of every check, in the order of the table. They are stable: programs match on them.
pub(super) const NAMES: [&str; 27] = [
    "good-link",
    "good-again",
    "file-name",
    "safe-headers",
    "unsigned",
    "expired",
    "tampered-signature",
    "tampered-filename",
    "tampered-exp",
    "foreign-key-id",
    "cross-tenant",
    "unknown-key",
    "repeated-parameter",
    "other-path",
    "added-parameter",
    "reordered",
    "space-spellings",
    "head",
    "conditional",
    "range",
    "post",
    "denied-url",
    "missing-file",
    "errors-not-cached",
    "truncated-transfer",
    "function-url",
    "plain-http",
];

/// How long a signature is in base64url.
const SIGNATURE: usize = 43;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Held,
    Failed,
    /// Not tried.
    Skipped,
    /// Good, but decided by what stands around the gateway.
    Platform,
}

impl Outcome {
    /// The word of the table; JSON has it in lower case.
    fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
            Self::Platform => "platform",
        }
    }
}

/// One row.
pub(super) struct Check {
    name: &'static str,
    outcome: Outcome,
    expected: String,
    got: String,
    hint: String,
}

/// Begins a check: what is expected of `name`.
pub(super) fn expect(name: &'static str, expected: impl Into<String>) -> Check {
    let (got, hint) = (String::new(), String::new());
    Check { name, outcome: Outcome::Held, expected: expected.into(), got, hint }
}

impl Check {
    pub(super) fn held(self, got: impl Into<String>) -> Self {
        Self { outcome: Outcome::Held, got: got.into(), ..self }
    }

    /// It does not hold; `hint` says what to do.
    pub(super) fn failed(self, got: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { outcome: Outcome::Failed, got: got.into(), hint: hint.into(), ..self }
    }

    pub(super) fn platform(self, got: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { outcome: Outcome::Platform, got: got.into(), hint: hint.into(), ..self }
    }

    pub(super) fn skipped(self, hint: impl Into<String>) -> Self {
        Self { outcome: Outcome::Skipped, hint: hint.into(), ..self }
    }

    /// One line: what was expected where it did not come, what came, what to do.
    fn reason(&self) -> String {
        let Self { expected, got, hint, .. } = self;
        match self.outcome {
            Outcome::Held => got.clone(),
            Outcome::Failed => format!("expected {expected}; got {got}; {hint}"),
            Outcome::Platform => format!("{got}; {hint}"),
            Outcome::Skipped => hint.clone(),
        }
    }
}

/// All rows so far. A table is printed row by row, since a run may take minutes.
pub(super) struct Report {
    base: String,
    kid: String,
    json: bool,
    checks: Vec<Check>,
    /// The time of `--deadline` was over before everything was tried.
    late: bool,
    /// Nobody answered at all.
    unreached: bool,
    blame: Option<Blame>,
}

/// The reason for which the good link did not bring the file, and others cannot hold either.
struct Blame {
    /// What came for the good link.
    got: String,
    /// The checks that mean nothing for that reason.
    idle: Vec<&'static str>,
}

/// Why a check is not tried that means nothing without a good link.
pub(super) const SEE: &str = "see good-link";

impl Report {
    pub(super) fn new(base: &str, kid: &str, json: bool) -> Self {
        Self {
            base: hide(base),
            kid: hide(kid),
            json,
            checks: Vec::new(),
            late: false,
            unreached: false,
            blame: None,
        }
    }

    pub(super) fn begin(&self) -> Result<(), Failure> {
        let Self { base, kid, .. } = self;
        self.line(&format!(
            "{base}  (links signed with key `{kid}`)\n\n{}",
            row("check", "verdict", "reason")
        ))
    }

    pub(super) fn add(&mut self, mut check: Check) -> Result<(), Failure> {
        for text in [&mut check.expected, &mut check.got, &mut check.hint] {
            *text = hide(text);
        }
        // What is open to whoever asks is no matter of the good link.
        let apart = ["good-link", "function-url", "plain-http"].contains(&check.name);
        let alike = |blame: &Blame| check.got.starts_with(&blame.got);
        if check.outcome == Outcome::Failed && !apart && self.blame.as_ref().is_some_and(alike) {
            SEE.clone_into(&mut check.hint);
        }
        self.line(&row(check.name, check.outcome.word(), &check.reason()))?;
        self.checks.push(check);
        Ok(())
    }

    /// From now on, nobody is sent elsewhere for what is wrong with the good link already.
    pub(super) fn blame_good_link(&mut self, got: String, idle: Vec<&'static str>) {
        self.blame = Some(Blame { got, idle });
    }

    /// Adds a row for this check if it means nothing without a good link.
    pub(super) fn skips(&mut self, name: &'static str) -> Result<bool, Failure> {
        let idle = self.blame.as_ref().is_some_and(|blame| blame.idle.contains(&name));
        if idle {
            self.add(expect(name, "").skipped(SEE))?;
        }
        Ok(idle)
    }

    /// Rows for whatever was not tried since nobody answers.
    pub(super) fn end_unreached(&mut self) -> Result<(), Failure> {
        self.unreached = true;
        self.skip_the_rest("the deployment was not reached")
    }

    /// Rows for whatever stands before this check and has none yet.
    pub(super) fn skip_until(&mut self, end: &str, why: &str) -> Result<(), Failure> {
        for name in NAMES.into_iter().take_while(|name| *name != end) {
            if !self.checks.iter().any(|check| check.name == name) {
                self.add(expect(name, "").skipped(why))?;
            }
        }
        Ok(())
    }

    /// Rows for whatever has none yet.
    pub(super) fn skip_the_rest(&mut self, why: &str) -> Result<(), Failure> {
        self.skip_until("", why)
    }

    /// Rows for whatever the time did not suffice for.
    pub(super) fn end_early(&mut self) -> Result<(), Failure> {
        self.late = true;
        self.skip_the_rest("the time of --deadline was over")
    }

    /// The last line, or the document.
    pub(super) fn end(&self) -> Result<Verdict, Failure> {
        let good = self.count(Outcome::Failed) == 0 && !self.late;
        if self.json {
            print_json(&self.document(good))?;
        } else {
            self.line(&format!("\n{}", self.sum(good)))?;
        }
        Ok(if good { Verdict::Good } else { Verdict::Bad })
    }

    fn count(&self, outcome: Outcome) -> usize {
        self.checks.iter().filter(|check| check.outcome == outcome).count()
    }

    fn sum(&self, good: bool) -> String {
        let counts: Vec<_> = [Outcome::Held, Outcome::Failed, Outcome::Platform, Outcome::Skipped]
            .into_iter()
            .filter_map(|outcome| match self.count(outcome) {
                0 => None,
                count => Some(format!("{count} {}", outcome.word())),
            })
            .collect();
        let verdict = match good {
            true => "the contract holds where it was tried",
            false if self.unreached => "the contract was not tried",
            false if self.count(Outcome::Failed) > 0 => "the contract does not hold",
            false => "the time of --deadline was over before everything was tried",
        };
        format!("{}: {verdict}", counts.join(", "))
    }

    fn document(&self, good: bool) -> serde_json::Value {
        let checks: Vec<_> = self
            .checks
            .iter()
            .map(|check| {
                json!({
                    "name": check.name, "verdict": check.outcome.word().to_ascii_lowercase(),
                    "expected": check.expected, "got": check.got, "hint": check.hint,
                })
            })
            .collect();
        json!({ "base": self.base, "ok": good, "checks": checks })
    }

    fn line(&self, text: &str) -> Result<(), Failure> {
        if !self.json {
            print(&format!("{text}\n"))?;
        }
        Ok(())
    }
}

/// The text without what may be a signature: a server may send back what it was asked.
pub(super) fn hide(text: &str) -> String {
    let in_a_signature = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.find(|c| !in_a_signature(c)).unwrap_or(rest.len()));
        let (between, next) = after.split_at(after.find(in_a_signature).unwrap_or(after.len()));
        shown.push_str(if word.len() >= SIGNATURE { "…" } else { word });
        shown.push_str(between);
        rest = next;
    }
    shown
}

fn row(name: &str, verdict: &str, reason: &str) -> String {
    let width = NAMES.iter().map(|name| name.len()).max().unwrap_or(0);
    format!("{name:<width$}  {verdict:<8}  {reason}").trim_end().to_owned()
}
