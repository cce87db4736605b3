//! A signed link as parameters that can be changed behind the signer's back.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// The pieces of a query, each as it is sent.
#[derive(Clone)]
pub(super) struct Link(Vec<(String, String)>);

impl Link {
    /// Takes a minted query apart.
    pub(super) fn read(query: &str) -> Self {
        let pieces = query.split('&').filter_map(|piece| piece.split_once('='));
        Self(pieces.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// The query, without `?`.
    pub(super) fn query(&self) -> String {
        let pieces: Vec<_> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pieces.join("&")
    }

    /// Changes each value of this name as it is sent.
    pub(super) fn change(mut self, name: &str, change: impl Fn(&str) -> String) -> Self {
        for (_, value) in self.0.iter_mut().filter(|(found, _)| found == name) {
            *value = change(value);
        }
        self
    }

    /// Puts another value in the place of the signed one.
    pub(super) fn with(self, name: &str, value: &str) -> Self {
        self.change(name, |_| utf8_percent_encode(value, NON_ALPHANUMERIC).to_string())
    }

    /// Adds one parameter at the end, as it is sent.
    pub(super) fn and(mut self, name: &str, value: &str) -> Self {
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Says a parameter once more.
    pub(super) fn repeat(self, name: &str) -> Self {
        let value = self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
        self.and(name, &value.unwrap_or_default())
    }

    /// Keeps this parameter alone.
    pub(super) fn only(mut self, name: &str) -> Self {
        self.0.retain(|(found, _)| found == name);
        self
    }

    pub(super) fn reversed(mut self) -> Self {
        self.0.reverse();
        self
    }

    /// Another signature that is as well formed as the first.
    pub(super) fn with_another_signature(self) -> Self {
        self.change("sig", |sig| {
            let rest = sig.strip_prefix('A');
            rest.map_or_else(|| format!("A{}", sig.get(1..).unwrap_or("")), |rest| format!("B{rest}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_changes_where_it_is_told_to() {
        let link = || Link::read("url=a%20b&filename=c&sig=AB");
        assert_eq!(link().with("filename", "d e").query(), "url=a%20b&filename=d%20e&sig=AB");
        assert_eq!(link().with_another_signature().query(), "url=a%20b&filename=c&sig=BB");
        assert_eq!(link().with("sig", "xy").with_another_signature().query(), "url=a%20b&filename=c&sig=Ay");
        assert_eq!(link().repeat("url").only("url").query(), "url=a%20b&url=a%20b");
        assert_eq!(link().reversed().and("u", "1").query(), "sig=AB&filename=c&url=a%20b&u=1");
    }
}
