//! File extensions: whether a name has one, and which one a content type asks for.

use std::cmp::Ordering;

/// The longest ending that counts as an extension when a name is cut, in bytes with the dot.
const LONGEST: usize = 33;

const OCTETS: &str = "application/octet-stream";

/// Types for which `mime_guess` has nothing, or several extensions with none named like the type.
const USUAL: &[(&str, &str)] = &[
    ("application/bzip2", "bz2"),
    ("application/java-archive", "jar"),
    ("application/javascript", "js"),
    ("application/msword", "doc"),
    ("application/pgp-signature", "asc"),
    ("application/postscript", "ps"),
    ("application/vnd.android.package-archive", "apk"),
    ("application/vnd.ms-excel", "xls"),
    ("application/vnd.ms-powerpoint", "ppt"),
    ("application/vnd.rar", "rar"),
    ("application/x-apple-diskimage", "dmg"),
    ("application/x-bzip2", "bz2"),
    ("application/x-iso9660-image", "iso"),
    ("application/x-ndjson", "ndjson"),
    ("application/x-zip-compressed", "zip"),
    ("application/xhtml+xml", "xhtml"),
    ("application/xml", "xml"),
    ("application/zstd", "zst"),
    ("audio/midi", "mid"),
    ("audio/mp3", "mp3"),
    ("audio/mp4", "m4a"),
    ("audio/mpeg", "mp3"),
    ("audio/opus", "opus"),
    ("audio/x-wav", "wav"),
    ("image/jpeg", "jpg"),
    ("image/jpg", "jpg"),
    ("image/svg+xml", "svg"),
    ("image/tiff", "tif"),
    ("image/vnd.microsoft.icon", "ico"),
    ("message/rfc822", "eml"),
    ("text/calendar", "ics"),
    ("text/html", "html"),
    ("text/javascript", "js"),
    ("text/markdown", "md"),
    ("text/plain", "txt"),
    ("text/xml", "xml"),
    ("video/mp2t", "ts"),
    ("video/mpeg", "mpg"),
    ("video/quicktime", "mov"),
    ("video/x-matroska", "mkv"),
];

/// What `mime_guess` says of all others, sorted: a type, a space, and its only extension or the one that is named like the type. That
/// library's own table is 4,300 pointers, and a function that starts has to correct each of them (docs/performance.md).
const KNOWN: &str = include_str!("extensions.txt");

/// The extension for a content type, without the dot. None for an unknown type, for `application/octet-stream`, and where
/// the choice would be arbitrary: `application/x-msdownload` would make a `.bat` of whatever it is.
pub(super) fn of_type(content_type: &mime::Mime) -> Option<&'static str> {
    let essence = content_type.essence_str();
    // A wildcard would fetch every extension that there is.
    if essence == OCTETS || essence.contains('*') {
        return None;
    }
    let usual = USUAL.iter().find_map(|(usual, extension)| (*usual == essence).then_some(*extension));
    usual.or_else(|| known(essence))
}

fn known(essence: &str) -> Option<&'static str> {
    let mut left = KNOWN;
    loop {
        // The line in the middle, and what lies on either side of it.
        let start = left.get(..left.len() / 2)?.rfind('\n').map_or(0, |end| end + 1);
        let (before, from) = left.split_at_checked(start)?;
        let (line, after) = from.split_once('\n')?;
        let (content_type, extension) = line.split_once(' ')?;
        left = match essence.cmp(content_type) {
            Ordering::Less => before,
            Ordering::Equal => return Some(extension),
            Ordering::Greater => after,
        };
    }
}

/// Whether a name ends like a file of some type: a dot and 1 to 10 letters and digits, with a letter among them.
/// So `v1.2` has none.
pub(super) fn is_present(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, extension)| {
        !stem.is_empty()
            && extension.len() <= 10
            && extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && extension.bytes().any(|byte| byte.is_ascii_alphabetic())
    })
}

/// A name in front of its extension, and the extension with its dot (`.pdf`, `.tar.gz`), which may be empty.
pub(super) fn split(name: &str) -> (&str, &str) {
    let Some(dot) = name.rfind('.') else { return (name, "") };
    let tar = name.get(..dot).and_then(|stem| stem.rsplit_once('.'));
    let tar = tar.filter(|(_, inner)| inner.eq_ignore_ascii_case("tar")).map(|(stem, _)| stem.len());
    let (stem, extension) = name.split_at_checked(tar.unwrap_or(dot)).unwrap_or((name, ""));
    let counts = extension.len() <= LONGEST && !extension.contains(char::is_whitespace);
    if counts { (stem, extension) } else { (name, "") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn knows_the_usual_extension() {
        for (content_type, extension) in [
            ("application/pdf", Some("pdf")),
            ("application/json; charset=utf-8", Some("json")),
            ("text/plain", Some("txt")),
            ("TEXT/HTML; charset=utf-8", Some("html")),
            ("image/jpeg", Some("jpg")),
            ("image/svg+xml", Some("svg")),
            ("application/epub+zip", Some("epub")),
            ("video/mp4", Some("mp4")),
            ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", Some("docx")),
            ("application/octet-stream", None),
            ("application/octet-stream; x=y", None),
            ("application/x-msdownload", None),
            ("application/x-never-heard-of", None),
            ("*/*", None),
            ("image/*", None),
            ("multipart/form-data", None),
        ] {
            assert_eq!(of_type(&content_type.parse().unwrap()), extension, "{content_type}");
        }
    }

    /// What `extensions.txt` has to be.
    fn extensions() -> String {
        let all = mime_guess::get_mime_extensions_str("*/*").unwrap();
        let types: BTreeSet<_> = all
            .iter()
            .flat_map(|extension| mime_guess::from_ext(extension))
            .map(|content_type| content_type.essence_str().to_owned())
            .filter(|essence| essence != OCTETS && USUAL.iter().all(|(usual, _)| usual != essence))
            .collect();
        let lines = types.iter().filter_map(|essence| {
            let (_, subtype) = essence.split_once('/')?;
            let extension = match mime_guess::get_mime_extensions_str(essence)? {
                [only] => only,
                several => several.iter().find(|extension| **extension == subtype)?,
            };
            Some(format!("{essence} {extension}\n"))
        });
        lines.collect()
    }

    /// `SLUICEGATE_WRITE=1 cargo test the_other_extensions` writes it anew.
    #[test]
    fn the_other_extensions_are_those_of_mime_guess() {
        let expected = extensions();
        if std::env::var_os("SLUICEGATE_WRITE").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/gate/filename/extensions.txt");
            std::fs::write(path, &expected).unwrap();
        }
        assert!(
            KNOWN == expected,
            "another `mime_guess`; write extensions.txt anew, and look at what changes"
        );
        for line in KNOWN.lines() {
            let (essence, extension) = line.split_once(' ').unwrap();
            assert_eq!(known(essence), Some(extension));
            for unknown in [format!("{essence}x"), format!("x{essence}"), essence[1..].to_owned()] {
                assert_eq!(
                    known(&unknown).is_some(),
                    KNOWN.lines().any(|line| line.split(' ').next() == Some(&unknown))
                );
            }
        }
        for unknown in ["", " ", "\n", "a", "zzz/zzz"] {
            assert_eq!(known(unknown), None);
        }
    }

    #[test]
    fn the_table_of_usual_extensions_is_sorted_and_plain() {
        assert!(USUAL.is_sorted());
        for (content_type, extension) in USUAL {
            assert!(is_present(&format!("x.{extension}")), "{content_type}");
        }
    }

    #[test]
    fn tells_an_extension_from_a_dot() {
        for name in ["a.pdf", "a.b.7z", "a.tar.gz", "a.JPG", "a.mp3", "ö.torrent"] {
            assert!(is_present(name), "{name}");
        }
        for name in
            ["a", "v1.2", "report.2024", "a.", ".pdf", "a.b c", "Dr. Who", "a.größe", "a.verylongword"]
        {
            assert!(!is_present(name), "{name}");
        }
    }

    #[test]
    fn splits_before_the_last_dot() {
        for (name, parts) in [
            ("a.pdf", ("a", ".pdf")),
            ("a.b.pdf", ("a.b", ".pdf")),
            ("a.tar.gz", ("a", ".tar.gz")),
            ("a", ("a", "")),
            ("a.b c", ("a.b c", "")),
            ("a.größe", ("a", ".größe")),
        ] {
            assert_eq!(split(name), parts);
        }
        let long = format!("a.{}", "b".repeat(33));
        assert_eq!(split(&long), (&*long, ""));
    }
}
