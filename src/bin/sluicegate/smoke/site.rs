//! The deployment, and what it is tried with.

use http::Method;
use http::header::HeaderName;
use sluicegate::gate::id::{KeyId, UnixTime};
use sluicegate::gate::mint::Draft;
use sluicegate::wire::clock;
use url::Url;

use super::Args;
use super::client::{Client, Reply};
use super::keys::Keys;
use super::link::Link;
use crate::Failure;

/// How long each link is good, in seconds: short, so that no policy finds it too long. Links are signed as they are used.
const LIFETIME: u64 = 300;
/// The names under which the file is asked for: outside ASCII, and with spaces.
pub(super) const NAMES: [&str; 2] = ["Größe 1 – Отчёт 大小.bin", "Größe 2 – Отчёт 大小.bin"];

pub(super) struct Site {
    pub(super) base: Url,
    pub(super) client: Client,
    /// The longest file that is fetched at all.
    pub(super) max_bytes: u64,
    pub(super) keys: Keys,
    pub(super) kid: KeyId,
    pub(super) other: Option<KeyId>,
    pub(super) url: String,
    pub(super) denied: String,
    pub(super) missing: Result<String, &'static str>,
    pub(super) truncating: Option<String>,
    pub(super) function: Option<Url>,
    /// Different in each run, so that no cache knows it.
    pub(super) nonce: String,
}

impl Site {
    pub(super) fn new(args: &Args) -> Result<Self, Failure> {
        let base = root("BASE", &args.base)?;
        let function = args.function_url.as_deref().map(|url| root("--function-url", url)).transpose()?;
        let nonce = nonce()?;
        let (keys, kid, other) = Keys::open(args)?;
        let denied = args.denied_url.clone();
        let site = Self {
            base,
            client: Client::new(args.timeout, args.max_bytes)?,
            max_bytes: args.max_bytes,
            keys,
            kid,
            other,
            url: args.url.clone(),
            denied: denied.unwrap_or_else(|| format!("https://smoke-{nonce}.invalid/denied")),
            missing: args.missing_url.clone().map_or_else(|| beside(&args.url, &nonce), Ok),
            truncating: args.truncating_url.clone(),
            function,
            nonce,
        };
        // A url that no link can carry is wrong usage, found before anything is asked.
        for url in
            [Some(&site.denied), site.missing.as_ref().ok(), site.truncating.as_ref()].into_iter().flatten()
        {
            site.link(url, NAMES[0])?;
        }
        Ok(site)
    }

    /// A good link to the file.
    pub(super) fn good(&self) -> Result<Link, Failure> {
        self.link(&self.url, NAMES[0])
    }

    /// A good link to `url` that names the download.
    pub(super) fn link(&self, url: &str, name: &str) -> Result<Link, Failure> {
        self.sign(&self.kid, url, name, clock::now().0.saturating_add(LIFETIME))
    }

    pub(super) fn sign(&self, kid: &KeyId, url: &str, name: &str, exp: u64) -> Result<Link, Failure> {
        let draft = Draft::new(url, kid, UnixTime(exp)).with("filename", name);
        Ok(Link::read(&self.keys.sign(draft, kid)?.query))
    }

    pub(super) async fn get(&self, link: &Link) -> Reply {
        self.ask(Method::GET, link, &[]).await
    }

    pub(super) async fn ask(&self, method: Method, link: &Link, fields: &[(HeaderName, String)]) -> Reply {
        self.client.ask(method, at(&self.base, link), fields).await
    }
}

/// The link's query on this base.
pub(super) fn at(base: &Url, link: &Link) -> Url {
    let mut url = base.clone();
    url.set_query(Some(&link.query()));
    url
}

/// A gateway's own address: it answers at `/` alone. More than that is not repeated, since it may hold a password.
fn root(option: &str, text: &str) -> Result<Url, Failure> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or_else(|| format!("`{text}` is no URL; write {option} as `https://host`"))?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !plain || url.path() != "/" || url.fragment().is_some() {
        return Err(format!(
            "{option} has more than scheme, host and port; write `{}`",
            url.origin().ascii_serialization()
        ));
    }
    Ok(url)
}

/// A file beside this one that nobody has.
fn beside(url: &str, nonce: &str) -> Result<String, &'static str> {
    let mut url = Url::parse(url).map_err(|_| "--url has no last segment to change; give --missing-url")?;
    url.set_query(None);
    let mut segments =
        url.path_segments_mut().map_err(|()| "--url has no last segment to change; give --missing-url")?;
    segments.pop().push(&format!("sluicegate-smoke-{nonce}"));
    drop(segments);
    Ok(url.into())
}

fn nonce() -> Result<String, Failure> {
    let mut bytes = [0u8; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
}
