//! Writes the measured part of docs/performance.md and the plot beside it.

use std::path::Path;

use super::goals::{self, Row};
use super::plot;

const BEGIN: &str = "<!-- peers: begin, written by `task bench:peers -- --write` -->\n";
const END: &str = "<!-- peers: end -->\n";

pub(crate) fn write(rows: &[Row], tables: &str) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let file = docs.join("performance.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let (head, rest) = page.split_once(BEGIN).expect("docs/performance.md has the first marker");
    let (_, tail) = rest.split_once(END).expect("docs/performance.md has the second marker");
    let text = format!(
        "{head}{BEGIN}\n{}\n![Each figure against its limit](performance.svg)\n\n{tables}\n{END}{tail}",
        goals::table(rows)
    );
    std::fs::write(&file, text).unwrap();
    std::fs::write(docs.join("performance.svg"), plot::svg(rows)).unwrap();
}
