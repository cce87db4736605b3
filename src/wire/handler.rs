//! The pipeline: a request walks through its stages and becomes an answer. The only file that names every stage.

mod doorstep;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};
use tokio::time::{Instant, timeout_at};

use crate::gate::explain::{Walk, walk};
use crate::gate::fault::UpstreamFault;
use crate::gate::grant::{Grant, VerifyError};
use crate::gate::headers::{Conditions, only};
use crate::gate::id::UnixTime;
use crate::gate::link::SignedRequest;
use crate::gate::partition::{PARTITION_HEADER, Partition};
use crate::gate::permit::Permit;
use crate::gate::policy::Policies;
use crate::gate::refusal::Refusal;

use super::answer::Shared;
use super::audit::Record;
use super::body::{self, Body, Bounds, Line, full};
use super::books::Books;
use super::config::Config;
use super::key_sets::KeySets;
use super::limits::{Admission, Limits, Standing};
use super::metrics::Tenants;
use super::origin::{Ask, Download, FIRST, Origin, SMALL};
use super::policies::PolicyStore;
use super::{answer, clock};
use doorstep::{at_the_door, is_coded, new_request_id};

/// Everything a request needs on its way; shared by all connections.
pub struct Gateway {
    policies: Arc<PolicyStore>,
    key_sets: Arc<KeySets>,
    limits: Limits,
    origin: Arc<Origin>,
    shared_cache: bool,
    books: Books,
    /// Tenants with metrics of their own.
    measured: Tenants,
}

/// What a door knows of a request, and what it can carry.
#[derive(Debug, Default)]
pub struct Terms {
    /// Who asks, if the door can tell.
    pub client: Option<IpAddr>,
    /// The request's id, if whoever runs the door gave it one.
    pub request_id: Option<String>,
    /// The client's connection, where it is one of HTTP.
    pub line: Option<Line>,
    /// The largest piece of a body in bytes, for a door without one.
    pub piece: usize,
    /// The largest body in bytes.
    pub max_bytes: Option<u64>,
    /// Does something in front undo content codings?
    pub plain_only: bool,
    /// When the door closes, whatever is under way.
    pub until: Option<Instant>,
}

/// What is to be answered, and what is known of it already.
struct Arrival<'r> {
    request: &'r Parts,
    request_id: &'r str,
    terms: &'r Terms,
    /// The most bytes of a first piece.
    first: usize,
}

impl Gateway {
    /// Puts the rooms together.
    pub fn new(config: &Config, policies: Arc<PolicyStore>) -> Result<Arc<Self>, String> {
        Self::keeping(config, policies, Books::default())
    }

    /// The same, and writes requests down in `books`.
    pub fn keeping(config: &Config, policies: Arc<PolicyStore>, books: Books) -> Result<Arc<Self>, String> {
        let origin = Origin::new(&config.origin, &config.timeouts)?;
        let key_sets = KeySets::new(Arc::clone(&origin));
        Ok(Arc::new(Self {
            policies,
            key_sets,
            limits: Limits::open(&config.limits)?,
            origin,
            shared_cache: config.edge.shared_cache,
            books,
            measured: Tenants::named(&config.metrics.tenants),
        }))
    }

    /// Answers one request. Its head stays where it is: whatever an async function is given, its future holds twice.
    pub async fn handle(&self, request: &Parts, terms: &Terms) -> Response<Body> {
        let request_id = terms.request_id.as_deref().map_or_else(new_request_id, Arc::from);
        let mut record = Record::begin(&request_id, terms.client, &request.method);
        record.kept_in(&self.books);
        // Taken by each request, refused ones too: their answers fill the room that was seen.
        let first = terms.line.as_ref().map_or(FIRST, Line::first_piece);
        let arrival = Arrival { request, request_id: &request_id, terms, first };
        let mut standing = Standing::default();
        let mut response = match at_the_door(&arrival) {
            Ok(Some(response)) => {
                record.answered(response.status().as_u16());
                response
            }
            Ok(None) => self.download(&arrival, record, &mut standing).await,
            Err(refusal) => refuse(&refusal, record, &request_id),
        };
        response.headers_mut().extend(standing.fields());
        if is_coded(&request.headers) {
            // Whoever stands in front may see another end of this request (RFC 9112 section 6.1).
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if request.method == Method::HEAD {
            *response.body_mut() = full("");
        }
        response
    }

    /// The stages in their order: claimed, proven, allowed, let in, fetched.
    async fn download(
        &self,
        arrival: &Arrival<'_>,
        mut record: Box<Record>,
        standing: &mut Standing,
    ) -> Response<Body> {
        let mut partition = None;
        let done = {
            let stages = pin!(self.stages(arrival, &mut record, standing, &mut partition));
            match arrival.terms.until {
                Some(until) => {
                    timeout_at(until, stages).await.unwrap_or(Err(UpstreamFault::FirstByteTimeout.into()))
                }
                None => stages.await,
            }
        };
        match done {
            Err(refusal) => refuse(&refusal, record, arrival.request_id),
            Ok(mut download) => {
                record.permitted(download.admission.permit());
                let shared = partition.and_then(|partition| arrival.shared(&partition, &download));
                let (status, headers) =
                    answer::download(&mut download, arrival.request_id, shared, arrival.line().is_none());
                record.answered(status.as_u16());
                record.part_from(download.head.range.and_then(|range| range.first()));
                let body = match download.body {
                    Some(_) => body::relay(&self.origin, download, record, arrival.bounds()),
                    None => full(""),
                };
                answer::respond(status.as_u16(), headers, body)
            }
        }
    }

    async fn stages(
        &self,
        arrival: &Arrival<'_>,
        record: &mut Record,
        standing: &mut Standing,
        partition: &mut Option<Partition>,
    ) -> Result<Box<Download>, Refusal> {
        let admission = self.let_in(arrival, record, standing, partition).await?;
        let Parts { method, headers, .. } = arrival.request;
        let ask = Ask {
            head_only: method == Method::HEAD,
            conditions: Conditions::read(headers),
            max_bytes: arrival.terms.max_bytes,
            plain_only: arrival.terms.plain_only,
            first: arrival.first,
            span: record.stage("fetch"),
        };
        Ok(self.origin.fetch(admission, &ask).await?)
    }

    async fn let_in(
        &self,
        arrival: &Arrival<'_>,
        record: &mut Record,
        standing: &mut Standing,
        partition: &mut Option<Partition>,
    ) -> Result<Box<Admission>, Refusal> {
        let permit = self.allowed(arrival, record, standing, partition).await?;
        let admit = record.stage("admit");
        let admitted = self.limits.admit(permit).await;
        *standing = match &admitted {
            Ok(admission) => *admission.standing(),
            Err((_, standing)) => *standing,
        };
        record.limited(standing);
        let admission = admitted.map_err(|(throttled, _)| throttled)?;
        admit.end();
        Ok(admission)
    }

    async fn allowed(
        &self,
        arrival: &Arrival<'_>,
        record: &mut Record,
        standing: &mut Standing,
        partition: &mut Option<Partition>,
    ) -> Result<Permit, Refusal> {
        let Parts { uri, headers, .. } = arrival.request;
        let verify = record.stage("verify");
        let request = SignedRequest::parse(uri.query(), headers)?;
        *partition = self.partition(headers, &request);
        let (policies, grant, now) = self.prove(arrival, request).await?;
        verify.end();
        record.granted(&grant, self.measured.label(grant.tenant().as_str()));
        let decide = record.stage("decide");
        let permit = match policies.decide(grant, now) {
            Ok(permit) => permit,
            Err(denial) => {
                decide.end();
                if let Some(tenant) = policies.tenant(record.tenant()) {
                    *standing = Box::pin(self.limits.standing(tenant, record.key())).await;
                }
                return Err(denial.into());
            }
        };
        record.permitted(&permit);
        decide.end();
        Ok(permit)
    }

    /// Verifies, and once more if a newer secret can be had for a credential that does not fit; says at what time.
    async fn prove(
        &self,
        arrival: &Arrival<'_>,
        request: SignedRequest,
    ) -> Result<(Arc<Policies>, Grant, UnixTime), Refusal> {
        let Parts { uri, headers, .. } = arrival.request;
        let policies = self.policies.fresh().await;
        let misfit = match self.verify(&policies, request, arrival).await {
            Ok((grant, now)) => return Ok((policies, grant, now)),
            Err(error) if error.may_lack_a_secret() => error,
            Err(error) => return Err(error.into()),
        };
        // What happens seldom lies elsewhere, so that what always happens moves little: a future is as large as its largest
        // branch.
        let Some(newer) = Box::pin(self.policies.renewed()).await else {
            return Err(unproven(misfit, &policies));
        };
        let again = SignedRequest::parse(uri.query(), headers)?;
        match Box::pin(self.verify(&newer, again, arrival)).await {
            Ok((grant, now)) => Ok((newer, grant, now)),
            Err(error) => Err(unproven(error, &newer)),
        }
    }

    async fn verify(
        &self,
        policies: &Policies,
        request: SignedRequest,
        arrival: &Arrival<'_>,
    ) -> Result<(Grant, UnixTime), VerifyError> {
        let fetched = self.key_sets.for_request(policies, &request).await;
        let now = clock::now();
        Ok((policies.verify(request, &fetched, now, arrival.terms.client)?, now))
    }

    /// Where the cache in front would keep the answer, if there is one and it says so.
    fn partition(&self, headers: &HeaderMap, request: &SignedRequest) -> Option<Partition> {
        if !self.shared_cache {
            return None;
        }
        let named = only(headers, &HeaderName::from_static(PARTITION_HEADER))?;
        Some(Partition::of(named.to_str().ok()?, request))
    }

    /// Walks a link through the stages that need no upstream and count nothing, for whoever holds the keys.
    pub async fn explain(&self, raw_query: &str, headers: &HeaderMap, client: Option<IpAddr>) -> Walk {
        let policies = self.policies.fresh().await;
        let fetched = match SignedRequest::parse(Some(raw_query), headers) {
            Ok(request) => self.key_sets.for_request(&policies, &request).await,
            Err(_) => Arc::default(),
        };
        walk(&policies, raw_query, headers, &fetched, clock::now(), client)
    }

    /// Closes connections that are kept for later, where descriptors have run out.
    #[cfg(feature = "server")]
    pub(in crate::wire) fn relieve(&self) {
        self.origin.relieve();
    }

    /// The counters that requests are held against.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Forgets counters of tenants that are gone.
    pub fn prune(&self) {
        self.limits.retain(&self.policies.current());
    }
}

impl Arrival<'_> {
    /// May the cache in front keep this answer? Only a whole file to GET, which shows where it ends on either side.
    fn shared(&self, partition: &Partition, download: &Download) -> Option<Shared> {
        let head = &download.head;
        let ends = head.has_end && (head.body_length.is_some() || self.request.version > Version::HTTP_10);
        let whole = head.status == StatusCode::OK && self.request.method == Method::GET;
        let most = answer::policy_ttl(download).filter(|_| ends && whole)?;
        let seconds = partition
            .keeps(download.admission.permit(), clock::now(), most)
            .filter(|seconds| *seconds > 0)?;
        let edge_request =
            only(&self.request.headers, &HeaderName::from_static("x-sluicegate-request")).cloned();
        Some(Shared { seconds, edge_request })
    }

    /// Only HTTP/1 gives a body the connection for its own; HTTP/2 carries other streams too.
    fn line(&self) -> Option<&Line> {
        self.terms.line.as_ref().filter(|_| self.request.version < Version::HTTP_2)
    }

    /// What holds for the body.
    fn bounds(&self) -> Bounds {
        Bounds {
            line: self.line().cloned(),
            piece: self.terms.piece.max(SMALL),
            max_bytes: self.terms.max_bytes,
            until: self.terms.until,
        }
    }
}

/// An unknown key may be one that was left out because nobody can be asked for its secret: then nobody can say.
fn unproven(error: VerifyError, policies: &Policies) -> Refusal {
    match error {
        VerifyError::UnknownKey | VerifyError::UnknownIssuer if policies.has_stale() => {
            Refusal::Unavailable("the key is unknown, or its secret could not be fetched for too long")
        }
        error => error.into(),
    }
}

fn refuse(refusal: &Refusal, mut record: Box<Record>, request_id: &str) -> Response<Body> {
    record.refused(refusal.code().face().status, refusal);
    answer::refusal(refusal, request_id)
}
