//! The edge's functions as the template carries them.

/// The code of a function in template.yaml.
pub(crate) fn code(resource: &str) -> String {
    let template = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/template.yaml")).unwrap();
    let (_, after) = template.split_once(&format!("\n  {resource}:\n")).unwrap();
    let (_, code) = after.split_once("      FunctionCode: |\n").unwrap();
    let lines = code.lines().take_while(|line| line.is_empty() || line.starts_with("        "));
    lines.map(|line| line.get(8..).unwrap_or("").to_owned() + "\n").collect()
}
