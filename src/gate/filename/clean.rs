//! Takes out of a name what a file system, a shell or a reader could be fooled with.

use super::{LONGEST, extension};

/// Which characters a name may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Characters {
    /// Those that any system but Windows takes: the signer chose them.
    AsSigned,
    /// Those that every common system takes.
    Portable,
}

/// Whether no file name may hold this character: a separator, a control, an override of direction or a line break.
pub(super) fn is_forbidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '/' | '\\' | '\u{61c}' | '\u{200e}' | '\u{200f}')
        || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The name made safe, or `None` if nothing is left of it. Cleaning twice is cleaning once.
///
/// What an upstream or a URL says may be a path; of that the last part counts (RFC 6266, section 4.3).
pub(super) fn clean(name: &str, characters: Characters) -> Option<String> {
    if is_ordinary(name) {
        return Some(name.to_owned());
    }
    let separators = ['/', '\\'];
    let last = name.trim_end_matches(separators).rsplit(separators).next()?;
    let kept =
        |c: char| !is_forbidden(c) && (characters == Characters::AsSigned || !r#"<>:"|?*"#.contains(c));
    let replaced: String = last.chars().map(|c| if kept(c) { c } else { '_' }).collect();
    let trimmed = replaced.trim_matches(is_edge);
    let safe = match trimmed.strip_prefix('~') {
        Some(rest) => format!("_{rest}"),
        None if is_device(trimmed) => format!("_{trimmed}"),
        None => trimmed.to_owned(),
    };
    let cut = cut(&safe);
    (!cut.is_empty()).then_some(cut)
}

/// What most names are, and nothing below would change: short, of letters and digits with `-`, `_` and `.` in between, and no
/// device.
fn is_ordinary(name: &str) -> bool {
    let bytes = name.as_bytes();
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends = [bytes.first(), bytes.last()];
    bytes.len() <= LONGEST
        && bytes.iter().all(inside)
        && ends.iter().all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && !is_device(name)
}

/// Dots and white space: Windows drops them at the end, and a dot in front hides the file elsewhere.
fn is_edge(character: char) -> bool {
    character == '.' || character.is_whitespace()
}

/// Whether Windows takes this name for a device, whatever extension follows.
/// Source: "Naming Files, Paths, and Namespaces", Microsoft, with `CLOCK$`, `CONIN$` and `CONOUT$` of older versions.
fn is_device(name: &str) -> bool {
    let stem = name.split(['.', ':']).next().unwrap_or_default().trim_end();
    // `CONOUT$` is the longest.
    if !(3..=7).contains(&stem.len()) {
        return false;
    }
    let devices = ["CON", "PRN", "AUX", "NUL", "CLOCK$", "CONIN$", "CONOUT$"];
    if devices.iter().any(|device| device.eq_ignore_ascii_case(stem)) {
        return true;
    }
    let port = stem
        .split_at_checked(3)
        .filter(|(kind, _)| kind.eq_ignore_ascii_case("COM") || kind.eq_ignore_ascii_case("LPT"));
    port.is_some_and(|(_, port)| {
        let mut digits = port.chars();
        matches!((digits.next(), digits.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
    })
}

/// At most [`LONGEST`] bytes, cut between characters in front of the extension.
pub(super) fn cut(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let (stem, extension) = extension::split(name);
    let room = LONGEST.saturating_sub(extension.len());
    let end = (0..=room).rev().find(|end| stem.is_char_boundary(*end)).unwrap_or_default();
    let kept = stem.get(..end).unwrap_or_default().trim_end_matches(is_edge);
    format!("{kept}{extension}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cleaned(name: &str, characters: Characters) -> String {
        clean(name, characters).unwrap_or_default()
    }

    #[test]
    fn cleans_what_was_not_signed() {
        for (name, expected) in [
            ("report.pdf", "report.pdf"),
            ("Größe 5.txt", "Größe 5.txt"),
            ("../../etc/passwd", "passwd"),
            ("C:\\dir\\file.txt", "file.txt"),
            ("dir/", "dir"),
            ("a<b>c:d\"e|f?g*h", "a_b_c_d_e_f_g_h"),
            ("a\r\nb\0c\u{7f}d\u{85}e", "a__b_c_d_e"),
            ("fdp.\u{202e}exe", "fdp._exe"),
            ("a\u{2028}b\u{2066}c\u{200f}d\u{61c}e", "a_b_c_d_e"),
            ("  .. report.pdf . ", "report.pdf"),
            ("\u{a0}report\u{3000}", "report"),
            (".htaccess", "htaccess"),
            ("~root", "_root"),
            (".~lock.odt", "_lock.odt"),
            ("a~b~", "a~b~"),
            ("", ""),
            ("...", ""),
            (" ", ""),
            ("///", ""),
            ("..", ""),
        ] {
            assert_eq!(cleaned(name, Characters::Portable), expected, "{name:?}");
        }
    }

    #[test]
    fn keeps_the_characters_of_a_signed_name() {
        let name = r#"he said: "a; b" <c> | d? *100%*.txt"#;
        assert_eq!(cleaned(name, Characters::AsSigned), name);
        assert_eq!(cleaned(" .x. ", Characters::AsSigned), "x");
    }

    #[test]
    fn no_name_is_a_device() {
        for name in [
            "CON",
            "con.txt",
            "Con .txt",
            "nul",
            "NUL.tar.gz",
            "aux",
            "prn.pdf",
            "COM1",
            "com0.txt",
            "LPT9.log",
            "COM¹",
            "lpt³.txt",
            "CONIN$",
            "clock$.x",
        ] {
            assert_eq!(cleaned(name, Characters::Portable), format!("_{name}"));
            assert_eq!(cleaned(name, Characters::AsSigned), format!("_{name}"));
        }
        assert_eq!(cleaned("con:x", Characters::AsSigned), "_con:x");
        for name in ["CONTRACT.pdf", "console", "COM10", "COM", "LPT", "COM⁴", "nul_", "a.con", "COMa"] {
            assert_eq!(cleaned(name, Characters::Portable), name);
        }
    }

    #[test]
    fn cuts_before_the_extension_and_between_characters() {
        for (name, expected) in [
            ("a".repeat(255), "a".repeat(255)),
            ("a".repeat(300), "a".repeat(255)),
            (format!("{}.pdf", "a".repeat(300)), format!("{}.pdf", "a".repeat(251))),
            (format!("{}.tar.gz", "a".repeat(300)), format!("{}.tar.gz", "a".repeat(248))),
            (format!("{}.pdf", "ö".repeat(200)), format!("{}.pdf", "ö".repeat(125))),
            (format!("{}.pdf", "🦀".repeat(100)), format!("{}.pdf", "🦀".repeat(62))),
            (format!("a.{}", "b".repeat(300)), format!("a.{}", "b".repeat(253))),
            (format!("{} . {}", "a".repeat(253), "b".repeat(99)), "a".repeat(253)),
            (format!("~{}", "a".repeat(300)), format!("_{}", "a".repeat(254))),
        ] {
            assert_eq!(cleaned(&name, Characters::Portable), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn a_clean_name_is_safe_and_stays(name in "(\\PC|[./\\\\~ :\u{0}-\u{1f}\u{202a}-\u{202e}]|con|\\.pdf){0,40}|.{0,400}", signed: bool) {
            let characters = if signed { Characters::AsSigned } else { Characters::Portable };
            if let Some(name) = clean(&name, characters) {
                prop_assert!((1..=LONGEST).contains(&name.len()));
                prop_assert!(!name.chars().any(is_forbidden));
                prop_assert!(!name.starts_with(is_edge) && !name.ends_with(is_edge) && !name.starts_with('~'));
                prop_assert!(!is_device(&name));
                prop_assert_eq!(clean(&name, characters), Some(name.clone()));
                prop_assert!(signed || !name.contains(['<', '>', ':', '"', '|', '?', '*']));
            }
        }
    }
}
