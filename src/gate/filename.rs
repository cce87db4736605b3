//! The name of a download: chosen once, cleaned once, and written as one `Content-Disposition`.
//!
//! A signed name wins, then what the upstream says, then the URL's last segment, then the tenant's default. Whatever wins
//! is cleaned, so that a [`FileName`] never holds a separator, a control or a bidirectional override.

mod clean;
mod disposition;
mod extension;

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::bytes::Bytes;
use clean::{Characters, clean, cut, is_forbidden};
pub use disposition::{Disposition, UnknownDisposition, content_disposition, write_disposition};

/// The longest name, in bytes of UTF-8: what common file systems hold.
pub const LONGEST: usize = 255;

/// What of ASCII a signed name may hold.
static ORDINARY: Bytes = Bytes::PRINTABLE.without(b"/\\");

/// The name used when nothing else gives one.
const LAST_RESORT: &str = "download";

/// The `filename` parameter of a link: 1 to 255 bytes without separators, controls and overrides of direction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct SignedFileName(String);

/// Why a text is not a [`SignedFileName`]. Texts are shown escaped, so that they are safe in a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileNameError {
    /// Nothing.
    #[error("the file name is empty; leave the parameter out, or write a name such as `report.pdf`")]
    Empty,
    /// More than [`LONGEST`] bytes.
    #[error("the file name has {bytes} bytes; shorten it to {LONGEST}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A character that no file name may hold.
    #[error("the file name `{given}` holds `{character}`; sign the name without it")]
    Character {
        /// The name, escaped.
        given: String,
        /// The first such character, escaped.
        character: String,
    },
    /// `.` or `..`.
    #[error("the file name `{0}` names a directory; sign a name such as `report.pdf`")]
    Directory(String),
}

impl SignedFileName {
    /// Takes a name as it was signed, after form decoding.
    ///
    /// Refused: control characters (C0, DEL, C1), U+061C, U+200E, U+200F, U+2028 to U+202E, U+2066 to U+2069, `/`, `\`, and the
    /// names `.` and `..`.
    pub fn parse(given: &str) -> Result<Self, FileNameError> {
        if given.is_empty() {
            return Err(FileNameError::Empty);
        }
        if given.len() > LONGEST {
            return Err(FileNameError::TooLong { bytes: given.len() });
        }
        if !ORDINARY.are_all_of(given.as_bytes())
            && let Some(character) = given.chars().find(|character| is_forbidden(*character))
        {
            let character = character.escape_debug().to_string();
            return Err(FileNameError::Character { given: given.escape_debug().to_string(), character });
        }
        if matches!(given, "." | "..") {
            return Err(FileNameError::Directory(given.to_owned()));
        }
        Ok(Self(given.to_owned()))
    }

    /// The name as it was signed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SignedFileName {
    type Err = FileNameError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        Self::parse(given)
    }
}

impl TryFrom<String> for SignedFileName {
    type Error = FileNameError;

    fn try_from(given: String) -> Result<Self, Self::Error> {
        Self::parse(&given)
    }
}

/// A name that is safe to hand to a browser: 1 to 255 bytes, no separator, control or override of direction, no dot or
/// space at either end, and no name of a Windows device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileName(String);

impl FileName {
    /// Chooses the name: the signed one, the upstream's `Content-Disposition`, the last segment of the URL's path, the
    /// tenant's default, or `download`. A source that has nothing left after cleaning is passed over.
    ///
    /// A signed name keeps the characters that only Windows reserves (`<>:"|?*`); in any other name they become `_`.
    /// A name from the path, the default and `download` get the content type's extension if they have none and
    /// the type is known and not `application/octet-stream`.
    pub fn choose(
        signed: Option<&SignedFileName>,
        upstream_disposition: Option<&[u8]>,
        url_path: &str,
        content_type: Option<&mime::Mime>,
        default: Option<&str>,
    ) -> Self {
        let said = || clean(&disposition::read(upstream_disposition?)?, Characters::Portable);
        let extended = |name| extend(name, content_type);
        let name = signed
            .and_then(|name| clean(&name.0, Characters::AsSigned))
            .or_else(said)
            .or_else(|| from_path(url_path).map(extended))
            .or_else(|| clean(default?, Characters::Portable).map(extended))
            .unwrap_or_else(|| extend(LAST_RESORT.to_owned(), content_type));
        Self(name)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The last segment, decoded. None if the path ends with `/` or the segment is not UTF-8.
fn from_path(url_path: &str) -> Option<String> {
    let segment = url_path.rsplit('/').next()?;
    let decoded = percent_decode_str(segment).decode_utf8().ok()?;
    clean(&decoded, Characters::Portable)
}

fn extend(name: String, content_type: Option<&mime::Mime>) -> String {
    match content_type.and_then(extension::of_type) {
        Some(extension) if !extension::is_present(&name) => cut(&format!("{name}.{extension}")),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signed(name: &str) -> SignedFileName {
        SignedFileName::parse(name).unwrap()
    }

    /// Chooses by position: signed, upstream's header, path, content type, default.
    fn chosen(sources: (Option<&str>, Option<&str>, &str, Option<&str>, Option<&str>)) -> String {
        let (name, header, path, content_type, default) = sources;
        let content_type = content_type.map(|text| text.parse().unwrap());
        let name = name.map(signed);
        FileName::choose(name.as_ref(), header.map(str::as_bytes), path, content_type.as_ref(), default)
            .to_string()
    }

    #[test]
    fn takes_a_signed_name_as_it_is() {
        let longest = "ö".repeat(127);
        for name in ["a", "report.pdf", "größe; \"x\".txt", "日本語.zip", "...", " a ", "~", "CON", &longest]
        {
            assert_eq!(signed(name).as_str(), name);
        }
    }

    #[test]
    fn refuses_a_signed_name_that_misleads() {
        assert_eq!(SignedFileName::parse(""), Err(FileNameError::Empty));
        assert_eq!(SignedFileName::parse(&"ö".repeat(128)), Err(FileNameError::TooLong { bytes: 256 }));
        for name in [".", ".."] {
            assert_eq!(SignedFileName::parse(name), Err(FileNameError::Directory(name.to_owned())));
        }
        let forbidden = ('\0'..='\u{1f}')
            .chain('\u{7f}'..='\u{9f}')
            .chain('\u{2028}'..='\u{202e}')
            .chain('\u{2066}'..='\u{2069}')
            .chain(['/', '\\', '\u{61c}', '\u{200e}', '\u{200f}']);
        for character in forbidden {
            let error = SignedFileName::parse(&format!("a{character}b")).unwrap_err();
            assert!(matches!(error, FileNameError::Character { .. }), "{character:?}");
            assert!(!error.to_string().contains(char::is_control), "{error}");
        }
        let error = SignedFileName::parse("fdp.\u{202e}exe").unwrap_err();
        assert_eq!(
            error.to_string(),
            r"the file name `fdp.\u{202e}exe` holds `\u{202e}`; sign the name without it"
        );
    }

    #[test]
    fn chooses_in_order() {
        let (header, path) = (Some("attachment; filename=said.txt"), "/dir/seen.bin");
        for (sources, expected) in [
            ((Some("signed.pdf"), header, path, None, Some("default")), "signed.pdf"),
            ((None, header, path, None, Some("default")), "said.txt"),
            ((None, None, path, None, Some("default")), "seen.bin"),
            ((None, None, "/dir/", None, Some("default.x")), "default.x"),
            ((None, None, "/", None, None), "download"),
            // Passed over: nothing left, or nothing said.
            ((Some("..."), header, path, None, None), "said.txt"),
            ((None, Some("attachment; filename=\"..\""), path, None, None), "seen.bin"),
            ((None, Some("attachment"), path, None, None), "seen.bin"),
            ((None, Some(""), path, None, None), "seen.bin"),
            ((None, None, "/dir/%ff%fe", None, Some("default.x")), "default.x"),
            ((None, None, "/dir/%20", None, Some("default.x")), "default.x"),
            ((None, None, "/", None, Some("//")), "download"),
            ((None, None, "", None, Some("")), "download"),
        ] {
            assert_eq!(chosen(sources), expected, "{sources:?}");
        }
    }

    #[test]
    fn decodes_and_cleans_a_name_from_the_path() {
        for (path, expected) in [
            ("/a/na%20me.pdf", "na me.pdf"),
            ("/a/gr%C3%B6%C3%9Fe.txt", "größe.txt"),
            ("/o/images%2Fphoto.jpg", "photo.jpg"),
            ("/a/x%0d%0ay.txt", "x__y.txt"),
            ("/a/CON.txt", "_CON.txt"),
            ("/a/.bashrc", "bashrc"),
            ("/a/b%22c.txt", "b_c.txt"),
            ("/a/100%.txt", "100%.txt"),
        ] {
            assert_eq!(chosen((None, None, path, None, None)), expected, "{path}");
        }
    }

    #[test]
    fn adds_an_extension_only_where_none_was_chosen() {
        let pdf = Some("application/pdf");
        for (sources, expected) in [
            ((Some("signed"), None, "/", pdf, None), "signed"),
            ((None, Some("attachment; filename=said"), "/", pdf, None), "said"),
            ((None, None, "/a/1234", pdf, None), "1234.pdf"),
            ((None, None, "/a/report.2024", pdf, None), "report.2024.pdf"),
            ((None, None, "/a/con", pdf, None), "_con.pdf"),
            ((None, None, "/a/x.php", pdf, None), "x.php"),
            ((None, None, "/a/x", Some("application/octet-stream"), None), "x"),
            ((None, None, "/a/x", None, None), "x"),
            ((None, None, "/", pdf, Some("invoice")), "invoice.pdf"),
            ((None, None, "/", pdf, Some("invoice.txt")), "invoice.txt"),
            ((None, None, "/", pdf, None), "download.pdf"),
            ((None, None, "/", Some("application/octet-stream"), None), "download"),
        ] {
            assert_eq!(chosen(sources), expected, "{sources:?}");
        }
        let long = format!("/{}", "a".repeat(255));
        assert_eq!(chosen((None, None, &long, pdf, None)), format!("{}.pdf", "a".repeat(251)));
    }

    proptest! {
        #[test]
        fn a_signed_name_arrives_intact(name in "f-[ -.0-\\[\\]-~äß日🦀]{0,40}x") {
            prop_assert_eq!(chosen((Some(&name), Some("attachment; filename=x"), "/y", Some("text/plain"), None)), name);
        }

        #[test]
        fn every_choice_is_safe(
            header in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60)),
            path in "/(\\PC|%[0-9a-f][0-9a-f]|[./~]){0,300}",
            default in proptest::option::of("\\PC{0,10}"),
        ) {
            let html = mime::TEXT_HTML;
            let name = FileName::choose(None, header.as_deref(), &path, Some(&html), default.as_deref());
            prop_assert!((1..=LONGEST).contains(&name.as_str().len()));
            prop_assert_eq!(clean(name.as_str(), Characters::Portable), Some(name.to_string()));
        }
    }
}
