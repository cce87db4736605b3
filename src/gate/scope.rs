//! Which URLs a token covers: one (`url`), or some (`urls`). A token that names none covers none.

use super::grant::VerifyError;
use super::jwt::Token;
use super::paths::PathPrefix;
use super::target::Target;

/// The most patterns a token may carry.
const MAX_PATTERNS: usize = 64;

pub(in crate::gate) enum Scope {
    Exactly(Target),
    OneOf(Vec<Pattern>),
    /// The token says nothing of urls.
    Nothing,
}

/// One entry of `urls`.
pub(in crate::gate) enum Pattern {
    /// `*`: whatever the policy allows.
    Any,
    /// An absolute URL without `*`.
    Exact(Target),
    /// An absolute URL that ends in `/*`: this path prefix on exactly this origin.
    Below(Target, PathPrefix),
}

impl Scope {
    pub(in crate::gate) fn read(token: &Token) -> Result<Self, VerifyError> {
        let url = token.text("url").map_err(|_| VerifyError::BadClaim("url"))?;
        let urls = token.texts("urls", MAX_PATTERNS).map_err(|_| VerifyError::BadClaim("urls"))?;
        match (url, urls) {
            (Some(_), Some(_)) => Err(VerifyError::BadClaim("url and urls")),
            (Some(url), None) => {
                Target::parse(url).map(Self::Exactly).map_err(|_| VerifyError::BadClaim("url"))
            }
            (None, Some(urls)) => urls
                .into_iter()
                .map(Pattern::parse)
                .collect::<Option<_>>()
                .map(Self::OneOf)
                .ok_or(VerifyError::BadClaim("urls")),
            (None, None) => Ok(Self::Nothing),
        }
    }

    /// The URL to fetch: the one asked for if the token covers it, or the one the token names.
    pub(in crate::gate) fn settle(self, asked: Option<Target>) -> Result<Target, VerifyError> {
        match (self, asked) {
            (Self::Exactly(url), None) => Ok(url),
            (Self::Exactly(url), Some(asked)) if url == asked => Ok(asked),
            (Self::OneOf(patterns), Some(asked)) if patterns.iter().any(|p| p.covers(&asked)) => Ok(asked),
            _ => Err(VerifyError::OutOfScope),
        }
    }
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        if text.contains(['?', '#']) {
            return None;
        }
        match text.strip_suffix('*') {
            None if text.contains('*') => None,
            None => Target::parse(text).ok().map(Self::Exact),
            Some(base) if base.ends_with('/') && !base.contains('*') => {
                let base = Target::parse(base).ok()?;
                let prefix = PathPrefix::parse(base.url().path()).ok()?;
                // `https:` + `//*` would be an origin without a host, which `Target` refused above.
                Some(Self::Below(base, prefix))
            }
            Some(_) => None,
        }
    }

    fn covers(&self, asked: &Target) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(url) => url == asked,
            Self::Below(base, prefix) => base.same_origin(asked) && prefix.matches(asked.url().path()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_whole_segments_of_one_origin() {
        for (pattern, url, covered) in [
            ("*", "https://a.example/x", true),
            ("https://a.example/r/*", "https://a.example/r/x?y=z", true),
            ("https://a.example/r/*", "https://a.example/r/", true),
            ("https://a.example/r/*", "https://a.example/rx", false),
            ("https://a.example/r/*", "https://a.example/r/../x", false),
            ("https://a.example/r/*", "https://a.example/r/%2e%2e/x", false),
            ("https://a.example/r/*", "https://a.example/r/%2e%2e%2fx", false),
            ("https://a.example/r/*", "http://a.example/r/x", false),
            ("https://a.example/r/*", "https://a.example:444/r/x", false),
            ("https://a.example/r/*", "https://b.example/r/x", false),
            ("https://a.example/*", "https://a.example.evil.example/x", false),
            ("https://a.example/x", "https://a.example:443/x", true),
            ("https://a.example/x", "https://a.example/x?y", false),
        ] {
            let asked = Target::parse(url).unwrap();
            assert_eq!(Pattern::parse(pattern).unwrap().covers(&asked), covered, "{pattern} {url}");
        }
        for bad in [
            "",
            "**",
            "https://*",
            "https://*.a.example/",
            "https://a.example*",
            "https://a.example/*/x",
            "https://a.example/x*",
            "https://a.example/?*",
            "https://a.example/?q",
            "http*",
            "ftp://a.example/*",
        ] {
            assert!(Pattern::parse(bad).is_none(), "{bad}");
        }
    }
}
