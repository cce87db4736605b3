//! An [`Admission`] becomes a [`Download`]: fetched from an upstream whose address, hops and head were checked, here and
//! nowhere else.

mod connect;
mod exchange;
mod head;
mod incoming;
mod pace;
mod patience;
mod pool;
mod records;
mod resolve;
mod resume;
mod stream;

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use tokio::time::{Instant, timeout_at};

use crate::gate::fault::UpstreamFault;
use crate::gate::fields;
use crate::gate::filename::{FileName, SignedFileName};
use crate::gate::headers::{Conditions, find};
use crate::gate::permit::Permit;
use crate::gate::target::Target;

use super::clock;
use super::config::{OriginConfig, Roots, Timeouts};
use super::limits::Admission;
use super::traces::Span;
use connect::{Connector, Reach};
use exchange::{ExchangeError, Request, Response, exchange};
pub use head::VettedHead;
pub(in crate::wire) use incoming::Incoming;
use patience::Patience;
use pool::{Place, Pool};
pub(in crate::wire) use resume::Resume;
pub(in crate::wire) use stream::{FIRST, LARGE, SMALL, WIDE};

/// Redirects that are followed, each one checked like the first URL.
const MAX_REDIRECTS: usize = 5;
/// Reaches upstreams.
pub struct Origin {
    connector: Connector,
    pool: Arc<Pool>,
    timeouts: Timeouts,
}

/// What the client wants of the file.
#[derive(Debug)]
pub struct Ask {
    /// Only the head.
    pub head_only: bool,
    /// Range and conditions.
    pub conditions: Conditions,
    /// The largest body that the door can carry, in bytes.
    pub max_bytes: Option<u64>,
    /// Must the body come without content coding?
    pub plain_only: bool,
    /// The most bytes of a first piece.
    pub first: usize,
    /// What each hop is a part of.
    pub(in crate::wire) span: Span,
}

/// A vetted head with its body still upstream, and the admission that holds its limits.
pub struct Download {
    pub(in crate::wire) admission: Box<Admission>,
    pub(in crate::wire) head: VettedHead,
    pub(in crate::wire) filename: FileName,
    /// What it would be called if the link named nothing, if that is something else.
    pub(in crate::wire) unnamed: Option<FileName>,
    pub(in crate::wire) body: Option<Incoming>,
    pub(in crate::wire) resume: Option<Resume>,
    /// When all of it has to be there.
    pub(in crate::wire) deadline: Instant,
}

impl Origin {
    /// Sets up the resolver; fails on a bad CA file, for one.
    pub fn new(config: &OriginConfig, timeouts: &Timeouts) -> Result<Arc<Self>, String> {
        let open = config.open.iter().copied().collect();
        let names = resolve::Names::new(&config.resolver, config.hosts.clone(), open, timeouts.resolve.0)?;
        let connect = timeouts.resolve.0 + timeouts.connect.0;
        let roots = config.roots.unwrap_or(Roots::System);
        let connector = Connector::new(names, config.ca_file.as_deref().map(Path::new), roots, connect)?;
        Ok(Arc::new(Self { connector, pool: Arc::default(), timeouts: timeouts.clone() }))
    }

    /// Fetches what the admission allows.
    pub async fn fetch(
        &self,
        mut admission: Box<Admission>,
        ask: &Ask,
    ) -> Result<Box<Download>, UpstreamFault> {
        let mut headers = ask.conditions.preconditions.clone();
        if let Some(range) = &ask.conditions.range {
            headers.insert(header::RANGE, value(&range.to_string())?);
            if let Some(if_range) = &ask.conditions.if_range {
                headers.insert(header::IF_RANGE, if_range.clone());
            }
        }
        let method = if ask.head_only { Method::HEAD } else { Method::GET };
        // The transfer's time begins here: redirects count against it too.
        let now = clock::instant();
        let deadline = now + self.timeouts.transfer.0;
        let (target, response) = self
            .walk(admission.permit_mut(), (&method, ask.first), &headers, (now, deadline), &ask.span)
            .await?;
        let head = head::vet(&response, &ask.conditions, ask.head_only)?;
        if head.status != StatusCode::NOT_MODIFIED {
            admission.permit_mut().allow_body(&head.content_type, head.whole_length.or(head.body_length))?;
            check_coding(&head, ask.plain_only)?;
            check_size(admission.permit(), head.body_length, ask.max_bytes)?;
        }
        let has_body = !ask.head_only && head.status != StatusCode::NOT_MODIFIED;
        if let (true, Some(length)) = (has_body, head.body_length) {
            admission.reserve(length).await?;
        }
        let grant_name = admission.permit().grant().filename();
        let filename = name_of(admission.permit(), grant_name, &head, &target);
        let unnamed = grant_name.is_some().then(|| name_of(admission.permit(), None, &head, &target));
        let may_break = has_body && response.body.whole_length().is_none();
        let resume = if may_break { Resume::plan(&head) } else { None };
        let body = has_body.then_some(response.body);
        Ok(Box::new(Download { admission, head, filename, unnamed, body, resume, deadline }))
    }

    /// Fetches again from byte `sent` of the body on: the answer and how many bytes it must carry. Anything but exactly
    /// the missing part of the same version fails.
    pub(in crate::wire) async fn reopen(
        &self,
        admission: &mut Admission,
        resume: &Resume,
        sent: u64,
        deadline: Instant,
        span: &Span,
    ) -> Result<(Incoming, u64), UpstreamFault> {
        let (from, headers) = resume.request(sent)?;
        let times = (Instant::now(), deadline);
        let (_, response) =
            self.walk(admission.permit_mut(), (&Method::GET, FIRST), &headers, times, span).await?;
        let missing = resume.check(&response, from)?;
        Ok((response.body, missing))
    }

    /// The body of a small document that is not a download, such as a key set: no redirects, at most `most` bytes.
    pub(in crate::wire) async fn document(
        &self,
        target: &Target,
        most: usize,
    ) -> Result<Vec<u8>, UpstreamFault> {
        let until = Instant::now() + self.head_limit();
        let read = async {
            let get = (&Method::GET, FIRST);
            let times = (Instant::now(), until);
            let mut response = self.send(target, get, [&HeaderMap::new(); 2], true, times).await?;
            if response.status != StatusCode::OK {
                return Err(UpstreamFault::Status(response.status.as_u16()));
            }
            let mut bytes = Vec::new();
            let broken = |error: std::io::Error| UpstreamFault::Malformed(error.to_string());
            while let Some(piece) = response.body.piece(SMALL).await.map_err(broken)? {
                bytes.extend_from_slice(&piece);
                if bytes.len() > most {
                    return Err(UpstreamFault::Malformed(format!("more than {most} bytes")));
                }
            }
            Ok(bytes)
        };
        timeout_at(until, read).await.unwrap_or(Err(UpstreamFault::FirstByteTimeout))
    }

    /// From the permit's URL along its redirects to an answer that is none, from now to a deadline. Every hop passes every check,
    /// and is asked with `method` for a first piece of so many bytes.
    async fn walk(
        &self,
        permit: &mut Permit,
        method: (&Method, usize),
        headers: &HeaderMap,
        (mut now, deadline): (Instant, Instant),
        span: &Span,
    ) -> Result<(Target, Box<Response>), UpstreamFault> {
        let first = permit.grant().target().clone();
        let mut own = permit.upstream_headers();
        let mut target = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let hop = span.child("hop");
            hop.text("server.address", target.url().host_str().unwrap_or_default());
            let exceptions = permit.has_rule_for(&target);
            let response = self.ask(&target, method, [headers, &own], exceptions, (now, deadline)).await?;
            hop.number("http.response.status_code", response.status.as_u16().into());
            hop.end();
            let Some(next) = redirect(&target, &response)? else { return Ok((target, response)) };
            permit.allow_hop(&target, &next)?;
            if !next.same_origin(&first) {
                // What the tenant gave for one origin is never shown to another, nor to the first one again after it.
                own = HeaderMap::new();
            }
            target = next;
            now = Instant::now();
        }
        Err(UpstreamFault::TooManyRedirects(MAX_REDIRECTS))
    }

    /// One request. An upstream that knows no HEAD is asked with GET, and its body left unread.
    async fn ask(
        &self,
        target: &Target,
        (method, first): (&Method, usize),
        headers: [&HeaderMap; 2],
        exceptions: bool,
        times: (Instant, Instant),
    ) -> Result<Box<Response>, UpstreamFault> {
        let response = self.send(target, (method, first), headers, exceptions, times).await?;
        let refused = matches!(response.status.as_u16(), 403 | 405 | 501);
        if method == Method::HEAD && refused {
            let times = (Instant::now(), times.1);
            return Box::pin(self.send(target, (&Method::GET, first), headers, exceptions, times)).await;
        }
        Ok(response)
    }

    async fn send(
        &self,
        target: &Target,
        (method, first): (&Method, usize),
        headers: [&HeaderMap; 2],
        exceptions: bool,
        (now, deadline): (Instant, Instant),
    ) -> Result<Box<Response>, UpstreamFault> {
        let reach = self.connector.reach(target, exceptions)?;
        // One limit for both ends.
        let until = deadline.min(now + self.head_limit());
        self.answer(Request { target, method, headers }, first, reach, (now, until)).await
    }

    /// The answer to `request`. A kept connection may have been closed by the upstream just when the request went out (RFC
    /// 9112 section 9.3.1): a GET or HEAD that nobody began to answer is sent once more.
    async fn answer(
        &self,
        request: Request<'_>,
        first: usize,
        reach: Reach,
        (now, until): (Instant, Instant),
    ) -> Result<Box<Response>, UpstreamFault> {
        let target = request.target;
        let place = Place::of(target, reach);
        let too_late = || UpstreamFault::FirstByteTimeout;
        let (stream, mut patience) = match self.pool.take(&place, now) {
            Some(kept) => kept,
            None => (Box::pin(self.connect(target, reach, until)).await?, Patience::default()),
        };
        let asked = pin!(exchange(stream, request, first));
        let answered = match patience.by(until, asked).await.ok_or_else(too_late)? {
            Err(ExchangeError::Cut(_)) => {
                let stream = Box::pin(self.connect(target, reach, until)).await?;
                let asked = Box::pin(exchange(stream, request, first));
                patience.by(until, asked).await.ok_or_else(too_late)?
            }
            answered => answered,
        };
        let mut response = answered.map_err(|error| UpstreamFault::Malformed(error.to_string()))?;
        response.body.at_home_in(&self.pool, place, patience);
        Ok(response)
    }

    async fn connect(
        &self,
        target: &Target,
        reach: Reach,
        until: Instant,
    ) -> Result<stream::Stream, UpstreamFault> {
        let connected = timeout_at(until, self.connector.connect(target, reach)).await;
        let connected = connected.map_err(|_| UpstreamFault::FirstByteTimeout)?;
        let connected = connected.ok_or(UpstreamFault::ConnectTimeout)?;
        connected.map_err(|cause| connect::fault_of(&*cause))
    }

    /// Gives up what it can do without, for whoever finds no descriptor left.
    #[cfg(feature = "server")]
    pub(in crate::wire) fn relieve(&self) {
        self.pool.clear();
    }

    /// From the first look-up to the response head.
    fn head_limit(&self) -> Duration {
        self.timeouts.resolve.0 + self.timeouts.connect.0 + self.timeouts.first_byte.0
    }

    pub(in crate::wire) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }
}

/// A body that the door cannot carry is refused before its first byte; where the policy says so, its client is sent to
/// the upstream, to the signed URL itself and never to where that redirects.
fn check_size(permit: &Permit, length: Option<u64>, most: Option<u64>) -> Result<(), UpstreamFault> {
    match (length, most) {
        (Some(length), Some(most)) if length > most => Err(match permit.direct_url() {
            Some(url) => UpstreamFault::FetchDirectly(length, url.as_str().to_owned()),
            None => UpstreamFault::TooLargeHere { length, most },
        }),
        _ => Ok(()),
    }
}

/// Nothing was asked for but identity. Where something in front undoes codings, a coded body would arrive as another one.
fn check_coding(head: &VettedHead, plain_only: bool) -> Result<(), UpstreamFault> {
    match find(&head.relayed, &header::CONTENT_ENCODING) {
        Some(coding) if plain_only => {
            Err(UpstreamFault::Coded(String::from_utf8_lossy(coding.as_bytes()).into_owned()))
        }
        _ => Ok(()),
    }
}

/// Where an answer redirects to; `None` if it does not.
fn redirect(from: &Target, response: &Response) -> Result<Option<Target>, UpstreamFault> {
    if !matches!(response.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let malformed = |what: &str| UpstreamFault::Malformed(what.to_owned());
    let location = response
        .headers
        .only(fields::LOCATION)
        .and_then(|value| std::str::from_utf8(value).ok())
        .ok_or_else(|| malformed("a redirect without one readable Location"))?;
    from.join(location).map(Some).map_err(|fault| malformed(fault.text()))
}

fn name_of(permit: &Permit, signed: Option<&SignedFileName>, head: &VettedHead, last: &Target) -> FileName {
    let grant = permit.grant();
    // The name of a redirect's target is more often a storage key than a name: the signed URL's comes first.
    let path = if grant.target().url().path().ends_with('/') { last } else { grant.target() };
    FileName::choose(
        signed,
        head.disposition.as_deref(),
        path.url().path(),
        Some(&head.content_type),
        permit.tenant().response().default_filename.as_ref().map(SignedFileName::as_str),
    )
}

/// Did the request come through this gateway already?
pub fn is_loop(headers: &HeaderMap) -> bool {
    headers.get_all(header::VIA).iter().any(|value| {
        value.as_bytes().split(|b| *b == b',').any(|hop| hop.trim_ascii().ends_with(b" sluicegate"))
    })
}

fn value(text: &str) -> Result<HeaderValue, UpstreamFault> {
    HeaderValue::from_str(text)
        .map_err(|_| UpstreamFault::Malformed("a header that cannot be sent".to_owned()))
}
