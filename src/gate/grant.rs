//! What is proven: a [`SignedRequest`] whose signature and times hold becomes a [`Grant`], here and nowhere else.
//!
//! The order is part of the contract: the signature comes first, so that whoever cannot sign learns nothing about keys,
//! tenants or times.

use std::net::IpAddr;
use std::sync::Arc;

use super::filename::{Disposition, SignedFileName};
use super::hmac::HmacKey;
use super::id::{LinkId, TenantName, UnixTime};
use super::jwt::Token;
use super::keys::{FetchedKeys, TokenAlgorithm, TokenKey};
use super::link::{Claim, LinkClaim, Options, SignedRequest};
use super::policy::{IssuerKeys, Policies, TokenSigner};
use super::scope::Scope;
use super::target::Target;

/// The claim is not proven. Public answers do not tell the first kinds apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No tenant has a key of this id.
    #[error("the key id is unknown")]
    UnknownKey,
    /// The key is retired, or `now` lies outside its window.
    #[error("the key does not verify at this time")]
    KeyNotInUse,
    /// No tenant has this pair of issuer and audience, or more than one is named.
    #[error("issuer and audience do not name exactly one configured issuer")]
    UnknownIssuer,
    /// The tag does not fit the string to sign, or the token's signature its text.
    #[error("the signature does not match")]
    BadSignature,
    /// Another algorithm than the policy fixed for the key.
    #[error("the token's algorithm is not the one the policy fixes for its key")]
    WrongAlgorithm,
    /// A header member that changes what a token means.
    #[error("the token's header has members other than `alg`, `typ` and `kid`, or a foreign `typ`")]
    ForeignHeader,
    /// A claim is missing or of the wrong form.
    #[error("the token's claim `{0}` is missing or malformed")]
    BadClaim(&'static str),
    /// Now or in the past.
    #[error("the link expired")]
    Expired,
    /// In the future.
    #[error("the link is not yet valid")]
    NotYetValid,
    /// The client's address lies outside `ip`.
    #[error("the link is for another client address")]
    WrongClient,
    /// The token says nothing about URLs, or not about this one.
    #[error("the token does not cover this url")]
    OutOfScope,
}

impl VerifyError {
    /// Could the credential be good, and only our copy of its secret too old?
    pub fn may_lack_a_secret(self) -> bool {
        matches!(self, Self::UnknownKey | Self::UnknownIssuer | Self::BadSignature)
    }
}

/// Proven: a key of `tenant` allowed this download, at this time, to this client.
#[derive(Debug)]
pub struct Grant {
    tenant: TenantName,
    key: Arc<str>,
    issuer: Option<Arc<str>>,
    target: Target,
    filename: Option<SignedFileName>,
    disposition: Disposition,
    link_id: Option<LinkId>,
    expires: UnixTime,
    issued: Option<UnixTime>,
    proven_at_the_edge: bool,
}

impl Grant {
    /// Whose rules apply.
    pub fn tenant(&self) -> &TenantName {
        &self.tenant
    }
    /// The key that proved it: a link's `kid`, or a token's issuer and `kid`.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The same text, for whoever keeps it.
    pub fn shared_key(&self) -> Arc<str> {
        Arc::clone(&self.key)
    }
    /// The key's own id: a link's `kid`, or a token's.
    pub fn kid(&self) -> &str {
        let prefix = self.issuer.as_ref().map_or(0, |issuer| issuer.len() + 1);
        self.key.get(prefix..).unwrap_or(&self.key)
    }
    /// The file.
    pub fn target(&self) -> &Target {
        &self.target
    }
    /// The signed file name.
    pub fn filename(&self) -> Option<&SignedFileName> {
        self.filename.as_ref()
    }
    /// Save or show.
    pub fn disposition(&self) -> Disposition {
        self.disposition
    }
    /// For revocation and audit.
    pub fn link_id(&self) -> Option<&LinkId> {
        self.link_id.as_ref()
    }
    /// The first moment at which it no longer counts.
    pub fn expires(&self) -> UnixTime {
        self.expires
    }
    /// When it was issued, as far as the credential says: a token's `iat`, a link's `nbf`.
    pub fn issued(&self) -> Option<UnixTime> {
        self.issued
    }
    /// Can the edge verify such a credential by itself? It has HMAC-SHA256 and nothing else.
    pub fn is_proven_at_the_edge(&self) -> bool {
        self.proven_at_the_edge
    }
}

impl Policies {
    /// Checks signature, times and client address, in this order. `client` is the peer's address as the door knows it.
    pub fn verify(
        &self,
        request: SignedRequest,
        fetched: &FetchedKeys,
        now: UnixTime,
        client: Option<IpAddr>,
    ) -> Result<Grant, VerifyError> {
        match request.claim {
            Claim::Link(link) => self.verify_link(link, now, client),
            Claim::Token { token, url } => self.verify_token(&token, url, fetched, now, client),
        }
    }

    fn verify_link(
        &self,
        link: Box<LinkClaim>,
        now: UnixTime,
        client: Option<IpAddr>,
    ) -> Result<Grant, VerifyError> {
        let text = link.parameters.string_to_sign();
        let Some(signer) = self.link_keys.get(link.kid()) else {
            // The same work as for a known key, so that time does not tell which ids exist.
            let _ = HmacKey::decoy().map(|key| key.verifies(text, &link.tag));
            return Err(VerifyError::UnknownKey);
        };
        if !signer.key.hmac.verifies(text, &link.tag) {
            return Err(VerifyError::BadSignature);
        }
        if !signer.key.verifies_at(now) {
            return Err(VerifyError::KeyNotInUse);
        }
        check_times(link.exp, link.nbf, now)?;
        check_client(&link.options, client)?;
        Ok(Grant {
            tenant: signer.tenant.name.clone(),
            key: signer.key.id.shared(),
            issuer: None,
            target: link.url,
            filename: link.options.filename,
            disposition: link.options.disposition,
            link_id: link.options.id,
            expires: link.exp,
            issued: link.nbf,
            proven_at_the_edge: true,
        })
    }

    fn verify_token(
        &self,
        token: &Token,
        url: Option<Target>,
        fetched: &FetchedKeys,
        now: UnixTime,
        client: Option<IpAddr>,
    ) -> Result<Grant, VerifyError> {
        let signer = self.token_signer(token).ok_or(VerifyError::UnknownIssuer)?;
        let kid = token.kid().map_err(|_| VerifyError::UnknownKey)?;
        let (kid, key) = find_key(signer, kid, fetched).ok_or(VerifyError::UnknownKey)?;
        check_signature(token, key)?;
        let exp = token.seconds("exp").ok().flatten().map(UnixTime).ok_or(VerifyError::BadClaim("exp"))?;
        let seconds =
            |name| token.seconds(name).map(|s| s.map(UnixTime)).map_err(|_| VerifyError::BadClaim(name));
        let (nbf, iat) = (seconds("nbf")?, seconds("iat")?);
        let options = token_options(token)?;
        let scope = Scope::read(token)?;
        check_times(exp, nbf, now)?;
        check_client(&options, client)?;
        let target = scope.settle(url)?;
        Ok(Grant {
            tenant: signer.tenant.name.clone(),
            key: format!("{}#{kid}", signer.issuer).into(),
            issuer: Some(Arc::clone(&signer.issuer)),
            target,
            filename: options.filename,
            disposition: options.disposition,
            link_id: options.id,
            expires: exp,
            issued: iat,
            proven_at_the_edge: key.algorithm() == TokenAlgorithm::HS256,
        })
    }
}

fn find_key<'k>(
    signer: &'k TokenSigner,
    kid: Option<&str>,
    fetched: &'k FetchedKeys,
) -> Option<(&'k str, &'k TokenKey)> {
    match &signer.keys {
        IssuerKeys::Given(keys) => keys.find(kid),
        IssuerKeys::Published(source) => fetched.get(source)?.find(kid),
    }
}

fn check_signature(token: &Token, key: &TokenKey) -> Result<(), VerifyError> {
    if token.alg() != Some(key.algorithm().name()) {
        return Err(VerifyError::WrongAlgorithm);
    }
    if !token.has_plain_header() {
        return Err(VerifyError::ForeignHeader);
    }
    if !key.verifies(token.signing_input(), token.signature()) {
        return Err(VerifyError::BadSignature);
    }
    Ok(())
}

fn token_options(token: &Token) -> Result<Options, VerifyError> {
    let text = |claim| token.text(claim).map_err(|_| VerifyError::BadClaim(claim));
    Options::read(text("filename")?, text("disposition")?, text("jti")?, text("ip")?)
        .map_err(|_| VerifyError::BadClaim("filename, disposition, ip or jti"))
}

/// `exp` is the first moment too late, `nbf` the first moment early enough (RFC 7519 section 4.1). No leeway.
fn check_times(exp: UnixTime, nbf: Option<UnixTime>, now: UnixTime) -> Result<(), VerifyError> {
    if now >= exp {
        return Err(VerifyError::Expired);
    }
    if nbf.is_some_and(|nbf| now < nbf) {
        return Err(VerifyError::NotYetValid);
    }
    Ok(())
}

fn check_client(options: &Options, client: Option<IpAddr>) -> Result<(), VerifyError> {
    match (&options.ip, client) {
        (None, _) => Ok(()),
        (Some(range), Some(client)) if range.contains(client) => Ok(()),
        (Some(_), _) => Err(VerifyError::WrongClient),
    }
}
