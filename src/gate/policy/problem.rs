//! Errors in policy files: which file, line and column, what is wrong there and what to write instead.

use std::fmt;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// One mistake in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProblem {
    /// The file as the caller named it.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted in characters from 1.
    pub column: usize,
    /// What is wrong and what to write instead.
    pub message: String,
    excerpt: String,
}

impl PolicyProblem {
    /// A mistake at `span`, a byte range of `text`.
    pub fn at(file: &str, text: &str, span: Range<usize>, message: String) -> Self {
        let span = clamp(text, span);
        let before = text.get(..span.start).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let report = &[Level::ERROR
            .primary_title(message.as_str())
            .element(Snippet::source(text).path(file).annotation(AnnotationKind::Primary.span(span)))];
        let excerpt = Renderer::plain().decor_style(DecorStyle::Ascii).render(report);
        Self { file: file.to_owned(), line, column, message, excerpt }
    }

    /// A mistake at a place that may hold a secret: the excerpt shows stars in its stead.
    pub fn at_secret(file: &str, text: &str, span: Range<usize>, message: String) -> Self {
        let span = clamp(text, span);
        let hidden: String =
            text.get(span.clone()).unwrap_or("").chars().map(|c| if c == '\n' { c } else { '*' }).collect();
        let before = text.get(..span.start).unwrap_or("");
        let after = text.get(span.end..).unwrap_or("");
        let place = span.start..span.start + hidden.len();
        Self::at(file, &format!("{before}{hidden}{after}"), place, message)
    }

    /// A mistake that is not in the file's text, such as a file that cannot be read.
    pub fn of_file(file: &str, message: String) -> Self {
        let excerpt = format!("error: {message}\n --> {file}");
        Self { file: file.to_owned(), line: 0, column: 0, message, excerpt }
    }

    /// The message with the line it is about and a mark under the place.
    pub fn excerpt(&self) -> &str {
        &self.excerpt
    }
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "{}: {}", self.file, self.message);
        }
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// A span that lies within the text and on character borders, whatever came in.
fn clamp(text: &str, span: Range<usize>) -> Range<usize> {
    let border = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (start, end) = (border(span.start), border(span.end));
    start..end.max(start)
}

/// Several mistakes; the whole set of policies is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyProblems(pub Vec<PolicyProblem>);

impl fmt::Display for PolicyProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, problem) in self.0.iter().enumerate() {
            if count > 0 {
                f.write_str("\n\n")?;
            }
            f.write_str(problem.excerpt())?;
        }
        Ok(())
    }
}

impl std::error::Error for PolicyProblems {}
