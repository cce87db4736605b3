//! What is claimed: a request becomes a [`SignedRequest`], well formed but not yet believed.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

use super::canonical::Parameters;
use super::filename::{Disposition, SignedFileName};
use super::hmac::Tag;
use super::id::{ClientRange, KeyId, LinkId, UnixTime, ValueError};
use super::jwt::{Token, TokenError};
use super::query;
use super::target::Target;

/// The header that carries a token where the viewer's `Authorization` cannot reach the origin.
pub const TOKEN_HEADER: &str = "x-sluicegate-token";

static TOKEN: HeaderName = HeaderName::from_static(TOKEN_HEADER);

/// Not a link: nothing was verified, because there is nothing to verify.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Neither a signature nor a token.
    #[error("the request carries no signature and no token")]
    NoCredential,
    /// More than [`query::MAX_QUERY_BYTES`].
    #[error("the query is longer than 8192 bytes")]
    QueryTooLong,
    /// More than [`query::MAX_PIECES`].
    #[error("the query has more than 64 parameters")]
    TooManyParameters,
    /// Bytes that a URL cannot hold.
    #[error("the query contains bytes that must be percent-encoded")]
    QueryNotAscii,
    /// A required parameter is absent.
    #[error("parameter `{0}` is missing")]
    Missing(&'static str),
    /// A known parameter stands twice.
    #[error("parameter `{0}` is given twice")]
    Repeated(&'static str),
    /// A stray `%`, or bytes that are not UTF-8.
    #[error("parameter `{0}` is not valid percent-encoded UTF-8")]
    BadEncoding(&'static str),
    /// A control character in a value.
    #[error("parameter `{0}` contains a control character")]
    ControlCharacter(&'static str),
    /// A value breaks its rule.
    #[error("parameter `{0}` is malformed: {1}")]
    Malformed(&'static str, &'static str),
    /// Two credentials, or a parameter that the token would have to vouch for.
    #[error("a token and parameter `{0}` exclude each other; put the value into the token")]
    BesideToken(&'static str),
    /// More than one token.
    #[error("the request carries more than one token")]
    TwoTokens,
    /// The token's structure.
    #[error("the token is malformed: {0}")]
    Token(#[from] TokenError),
}

/// What a request claims: which file, on whose word. The only way on is [`Policies::verify`](super::policy::Policies).
#[derive(Debug)]
pub struct SignedRequest {
    pub(in crate::gate) claim: Claim,
}

#[derive(Debug)]
pub(in crate::gate) enum Claim {
    Link(Box<LinkClaim>),
    Token { token: Box<Token>, url: Option<Target> },
}

/// The parameters of an HMAC link, read but not believed.
#[derive(Debug)]
pub(in crate::gate) struct LinkClaim {
    /// All that was given: what the signature covers, from which `kid` is read, and the signature's text.
    pub(in crate::gate) parameters: Parameters,
    pub(in crate::gate) tag: Tag,
    pub(in crate::gate) url: Target,
    pub(in crate::gate) exp: UnixTime,
    pub(in crate::gate) nbf: Option<UnixTime>,
    pub(in crate::gate) options: Options,
}

/// What both links and tokens may say beside the URL and the times.
#[derive(Debug)]
pub(in crate::gate) struct Options {
    pub(in crate::gate) filename: Option<SignedFileName>,
    pub(in crate::gate) disposition: Disposition,
    pub(in crate::gate) id: Option<LinkId>,
    pub(in crate::gate) ip: Option<ClientRange>,
}

impl SignedRequest {
    /// Reads the credential and the claims from a request's raw query and headers.
    pub fn parse(raw_query: Option<&str>, headers: &HeaderMap) -> Result<Self, LinkError> {
        let parameters = query::read(raw_query.unwrap_or(""))?;
        let claim = match find_token(&parameters, headers)? {
            Some(text) => read_token(&text, &parameters)?,
            None => Claim::Link(read_link(parameters)?),
        };
        Ok(Self { claim })
    }
}

/// The one token of the request, from the query, `Authorization: Bearer` (RFC 6750) or `x-sluicegate-token`.
fn find_token(parameters: &Parameters, headers: &HeaderMap) -> Result<Option<String>, LinkError> {
    let unreadable = LinkError::Token(TokenError::NotText);
    let mut tokens: Vec<String> = parameters.get("token").into_iter().map(str::to_owned).collect();
    for value in headers.get_all(AUTHORIZATION) {
        let (scheme, rest) = match value.as_bytes().iter().position(|b| *b == b' ') {
            Some(at) => value.as_bytes().split_at(at),
            None => (value.as_bytes(), &[][..]),
        };
        if scheme.eq_ignore_ascii_case(b"bearer") {
            let text = std::str::from_utf8(rest).map_err(|_| unreadable.clone())?;
            tokens.push(text.trim_matches([' ', '\t']).to_owned());
        }
    }
    for value in headers.get_all(&TOKEN) {
        let text = value.to_str().map_err(|_| unreadable.clone())?;
        tokens.push(text.trim_matches([' ', '\t']).to_owned());
    }
    match (tokens.pop(), tokens.pop()) {
        (Some(_), Some(_)) => Err(LinkError::TwoTokens),
        (token, _) => Ok(token),
    }
}

fn read_token(text: &str, parameters: &Parameters) -> Result<Claim, LinkError> {
    if let Some(name) = parameters.iter().map(|(name, _)| name).find(|name| !matches!(*name, "url" | "token"))
    {
        return Err(LinkError::BesideToken(name));
    }
    let token = Token::parse(text)?;
    let url = parameters.get("url").map(target).transpose()?;
    if url.is_none() && token.leaves_the_url_open() {
        return Err(LinkError::Missing("url"));
    }
    Ok(Claim::Token { token: Box::new(token), url })
}

pub(in crate::gate) fn read_link(parameters: Parameters) -> Result<Box<LinkClaim>, LinkError> {
    let [disposition, exp, filename, id, ip, kid, nbf, _, url, sig] = parameters.values();
    if (kid, exp, sig) == (None, None, None) {
        return Err(LinkError::NoCredential);
    }
    let url = target(required("url", url)?)?;
    malformed("kid", KeyId::check(required("kid", kid)?))?;
    let exp = malformed("exp", UnixTime::parse(required("exp", exp)?))?;
    let tag = malformed("sig", Tag::parse(required("sig", sig)?))?;
    let nbf = optional("nbf", nbf, UnixTime::parse)?;
    let options = Options::read(filename, disposition, id, ip)?;
    Ok(Box::new(LinkClaim { parameters, tag, url, exp, nbf, options }))
}

impl LinkClaim {
    /// The key that is said to have signed it.
    pub(in crate::gate) fn kid(&self) -> &str {
        self.parameters.get("kid").unwrap_or_default()
    }
}

impl Options {
    pub(in crate::gate) fn read(
        filename: Option<&str>,
        disposition: Option<&str>,
        id: Option<&str>,
        ip: Option<&str>,
    ) -> Result<Self, LinkError> {
        let file_name = |text: &str| SignedFileName::parse(text).map_err(|_| ValueError(FILENAME_RULE));
        let kind = |text: &str| text.parse().map_err(|_| ValueError("it is `attachment` or `inline`"));
        Ok(Self {
            filename: optional("filename", filename, file_name)?,
            disposition: optional("disposition", disposition, kind)?.unwrap_or(Disposition::Attachment),
            id: optional("id", id, LinkId::parse)?,
            ip: optional("ip", ip, ClientRange::parse)?,
        })
    }
}

const FILENAME_RULE: &str =
    "a file name is 1 to 255 bytes of UTF-8 without `/`, `\\`, control or text-direction characters";

fn target(text: &str) -> Result<Target, LinkError> {
    Target::parse(text).map_err(|fault| LinkError::Malformed("url", fault.text()))
}

fn required<'t>(name: &'static str, given: Option<&'t str>) -> Result<&'t str, LinkError> {
    given.ok_or(LinkError::Missing(name))
}

fn optional<T>(
    name: &'static str,
    given: Option<&str>,
    read: impl Fn(&str) -> Result<T, ValueError>,
) -> Result<Option<T>, LinkError> {
    given.map(|text| malformed(name, read(text))).transpose()
}

fn malformed<T>(name: &'static str, read: Result<T, ValueError>) -> Result<T, LinkError> {
    read.map_err(|fault| LinkError::Malformed(name, fault.0))
}
