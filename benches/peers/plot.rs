//! The plot: each figure as a bar against its limit, which is one line for all.

use std::fmt::Write as _;

use super::goals::{Check, Row};

const LINE: u32 = 26;
const LEFT: u32 = 350;
/// Where a bar that just meets its limit ends.
const LIMIT: u32 = 300;
const WIDTH: u32 = 1110;
/// The most that is drawn, in limits.
const MOST: f64 = 1.6;

/// How a figure compares with its limit; below one is good.
fn part(check: &Check) -> Option<f64> {
    let value = check.value?.middle;
    Some(if check.at_least { check.limit / value } else { value / check.limit })
}

/// The whole picture, readable on light and on dark ground.
pub(crate) fn svg(rows: &[Row]) -> String {
    let bars: Vec<_> = rows
        .iter()
        .flat_map(|row| [("ahead", row.what, row.ahead.as_ref()), ("goal", row.what, row.goal.as_ref())])
        .filter_map(|(column, what, check)| Some((column, what, check?)))
        .filter(|(_, _, check)| check.value.is_some())
        .collect();
    let height = LINE * u32::try_from(bars.len()).unwrap() + 80;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Figures of the gateway against their limits\">\n<style>\n\
         text {{ font: 13px sans-serif; fill: #1f2328 }}\n.dim {{ fill: #59636e }}\n\
         .ground {{ fill: #ffffff }}\n.pass {{ fill: #2da44e }}\n.fail {{ fill: #cf222e }}\n\
         .limit {{ stroke: #1f2328; stroke-dasharray: 4 3 }}\n\
         @media (prefers-color-scheme: dark) {{\n  text {{ fill: #e6edf3 }}\n  .dim {{ fill: #9198a1 }}\n  \
         .ground {{ fill: #0d1117 }}\n  .pass {{ fill: #3fb950 }}\n  .fail {{ fill: #f85149 }}\n  \
         .limit {{ stroke: #e6edf3 }}\n}}\n</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text x=\"16\" y=\"26\">Each figure as a part of its limit: a bar that ends left of the line meets it.</text>\n"
    );
    let mut named = "";
    for (number, (column, what, check)) in bars.iter().enumerate() {
        let y = 44 + LINE * u32::try_from(number).unwrap();
        // A name that two bars share is written once.
        if *what != named {
            writeln!(text, "<text x=\"16\" y=\"{}\">{what}</text>", y + 14).unwrap();
        }
        named = what;
        bar(&mut text, y, column, check);
    }
    let (x, end) = (LEFT + LIMIT, height - 30);
    writeln!(text, "<line class=\"limit\" x1=\"{x}\" y1=\"38\" x2=\"{x}\" y2=\"{end}\"/>").unwrap();
    writeln!(text, "<text class=\"dim\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">limit</text>", end + 16)
        .unwrap();
    text.push_str("</svg>\n");
    text
}

fn bar(text: &mut String, y: u32, column: &str, check: &Check) {
    let part = part(check).unwrap_or(0.0);
    let (class, value) = (if part <= 1.0 { "pass" } else { "fail" }, check.value.unwrap().middle);
    let width = f64::from(LIMIT) * part.min(MOST);
    let (sign, middle) = (if check.at_least { "≥" } else { "≤" }, y + 14);
    let beside = f64::from(LEFT) + width.max(f64::from(LIMIT)) + 8.0;
    writeln!(
        text,
        "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"18\" rx=\"2\"/>\n\
         <text class=\"dim\" x=\"{beside:.0}\" y=\"{middle}\">{column}: {value:.2} {} ({sign} {})</text>",
        check.of, check.limit
    )
    .unwrap();
}
