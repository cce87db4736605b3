//! One decision record per request: who asked, who allowed it, which rule decided, what was sent and how long it took.
//! Never a signature, a token, a secret or the query of an upstream URL. It is what usage is summed from, too.

mod line;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Counter, SharedString};
use tokio::time::Instant;

use crate::gate::fault::StreamFault;
use crate::gate::grant::Grant;
use crate::gate::id::LinkId;
use crate::gate::permit::Permit;
use crate::gate::refusal::Refusal;
use crate::gate::target::Target;

use super::books::Books;
use super::clock;
use super::figures::{Figures, Tally};
use super::limits::Standing;
use super::metrics;
use super::traces::Span;
use super::usage::Usage;
use line::Line;

/// The record of one request. It is written when it is dropped, so that no way out of the pipeline can forget it.
pub struct Record {
    started: Instant,
    request_id: Arc<str>,
    client: Option<IpAddr>,
    method: http::Method,
    tenant: Option<Arc<str>>,
    key: Option<Arc<str>>,
    link_id: Option<LinkId>,
    target: Option<Target>,
    rule: Option<Arc<str>>,
    reported: String,
    alone: Option<&'static str>,
    status: u16,
    outcome: Outcome,
    /// Where the part begins that a 206 carries.
    range_from: Option<u64>,
    bytes: u64,
    resumed: u32,
    head_ms: Option<u128>,
    counted: Option<(Arc<Figures>, Arc<Tally>)>,
    kept: Option<Usage>,
    /// The tenant as metrics have it.
    label: SharedString,
    sent: Counter,
    span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// The pipeline ended without saying how: the client left before the head was sent.
    Unanswered,
    /// Answered without a body: HEAD, 304, preflight, health.
    Answered,
    /// Every byte was handed to the client's connection.
    Whole,
    Refused {
        stage: &'static str,
        code: &'static str,
        reason: String,
    },
    Aborted(StreamFault),
}

impl Record {
    /// Begins the record of a request. It goes through many hands, and stays where it is.
    pub fn begin(request_id: &Arc<str>, client: Option<IpAddr>, method: &http::Method) -> Box<Self> {
        clock::refresh();
        metrics::request_began();
        Box::new(Self {
            started: clock::instant(),
            request_id: Arc::clone(request_id),
            client,
            method: method.clone(),
            tenant: None,
            key: None,
            link_id: None,
            target: None,
            rule: None,
            reported: String::new(),
            alone: None,
            status: 0,
            outcome: Outcome::Unanswered,
            range_from: None,
            bytes: 0,
            resumed: 0,
            head_ms: None,
            counted: None,
            kept: None,
            label: metrics::no_tenant(),
            sent: Counter::noop(),
            span: Span::request(),
        })
    }

    /// Counts it among the figures, and keeps it with the usage if a tenant is proven: where either is kept.
    pub(in crate::wire) fn kept_in(&mut self, books: &Books) {
        self.counted = books.figures.as_ref().map(|figures| (Arc::clone(figures), figures.unproven()));
        self.kept.clone_from(&books.usage);
    }

    /// The tenant is proven; `label` is what metrics call it.
    pub(in crate::wire) fn granted(&mut self, grant: &Grant, label: SharedString) {
        self.sent = metrics::sent_bytes(&label);
        self.label = label;
        self.tenant = Some(grant.tenant().shared());
        self.key = Some(grant.shared_key());
        self.link_id = grant.link_id().cloned();
        self.target = Some(grant.target().clone());
        if let Some((figures, tally)) = &mut self.counted {
            *tally = figures.of(grant.tenant().as_str(), grant.key());
        }
    }

    /// The span of a stage of this request.
    pub(in crate::wire) fn stage(&self, name: &'static str) -> Span {
        self.span.child(name)
    }

    pub(in crate::wire) fn permitted(&mut self, permit: &Permit) {
        self.rule = permit.shared_rule();
        if !permit.reported().is_empty() {
            self.reported = permit.reported().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        }
    }

    /// The tenant and the key that were proven; empty before that.
    pub(in crate::wire) fn tenant(&self) -> &str {
        text_of(self.tenant.as_ref())
    }

    pub(in crate::wire) fn key(&self) -> &str {
        text_of(self.key.as_ref())
    }

    pub(in crate::wire) fn limited(&mut self, standing: &Standing) {
        self.alone = standing.alone();
    }

    pub(in crate::wire) fn answered(&mut self, status: u16) {
        self.status = status;
        self.outcome = Outcome::Answered;
        let took = clock::instant().duration_since(self.started);
        self.head_ms = Some(took.as_millis());
        // Health checks and preflights fetch nothing; they would only make the rest look fast.
        if self.tenant.is_some() {
            metrics::first_byte(took);
        }
    }

    /// Which byte of the file the body begins with, if it is a part.
    pub(in crate::wire) fn part_from(&mut self, first: Option<u64>) {
        self.range_from = first;
    }

    pub(in crate::wire) fn refused(&mut self, status: u16, refusal: &Refusal) {
        self.status = status;
        let code = refusal.code().face().code;
        self.outcome = Outcome::Refused { stage: refusal.stage(), code, reason: refusal.to_string() };
    }

    pub(in crate::wire) fn sent(&mut self, total: u64) {
        let more = total.saturating_sub(self.bytes);
        self.sent.increment(more);
        if let Some((_, tally)) = &self.counted {
            tally.sent(more);
        }
        self.bytes = total;
    }

    pub(in crate::wire) fn resumed(&mut self, times: u32) {
        metrics::resumed();
        self.resumed = times;
    }

    pub(in crate::wire) fn whole(&mut self) {
        if self.outcome == Outcome::Answered {
            self.outcome = Outcome::Whole;
        }
    }

    /// The first fault counts; what follows is its consequence.
    pub(in crate::wire) fn aborted(&mut self, fault: StreamFault) {
        if self.outcome == Outcome::Answered {
            self.outcome = Outcome::Aborted(fault);
        }
    }

    fn write(&self) {
        clock::refresh();
        let (outcome, stage, code, reason) = match &self.outcome {
            Outcome::Unanswered => ("unanswered", "", "", "the client left before an answer".to_owned()),
            Outcome::Answered => ("answered", "", "", String::new()),
            Outcome::Whole => ("whole", "", "", String::new()),
            Outcome::Refused { stage, code, reason } => ("refused", *stage, *code, reason.clone()),
            Outcome::Aborted(fault) => ("aborted", "stream", fault.code(), fault.to_string()),
        };
        self.trace(outcome, stage, code);
        let took = clock::instant().duration_since(self.started);
        metrics::request_ended(&metrics::Ended {
            outcome,
            code,
            tenant: &self.label,
            status: self.status,
            took,
        });
        let line = self.line(outcome, (stage, code), &reason, took);
        line.log();
        self.keep(&line);
        if let Some((figures, tally)) = &self.counted {
            tally.ended(outcome, code);
            if !reason.is_empty() {
                figures.keep_reason(&self.request_id, &reason);
            }
        }
    }
}

impl Record {
    fn line<'r>(
        &'r self,
        outcome: &'static str,
        (stage, code): (&'static str, &'static str),
        reason: &'r str,
        took: Duration,
    ) -> Line<'r> {
        Line {
            request_id: &self.request_id,
            client: self.client,
            method: short(&self.method),
            tenant: given(text_of(self.tenant.as_ref())),
            key: given(text_of(self.key.as_ref())),
            link_id: self.link_id.as_ref().map(LinkId::as_str),
            host: self.target.as_ref().and_then(|target| target.url().host_str()),
            url: self.target.as_ref().map(Target::loggable),
            rule: given(text_of(self.rule.as_ref())),
            reported: given(&self.reported),
            limits_failed: self.alone,
            status: self.status,
            outcome,
            stage: given(stage),
            code: given(code),
            reason: given(reason),
            range_from: self.range_from,
            bytes: self.bytes,
            resumed: (self.resumed > 0).then_some(self.resumed),
            head_ms: self.head_ms.and_then(|ms| u64::try_from(ms).ok()),
            total_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// What proved no tenant is nobody's usage.
    fn keep(&self, line: &Line<'_>) {
        if let Some(usage) = self.kept.as_ref().filter(|_| line.tenant.is_some()) {
            line.with_json(|line| usage.keep(line));
        }
    }

    /// What the request's span says: what the record does, without its URL and its reason.
    fn trace(&self, outcome: &'static str, stage: &'static str, code: &'static str) {
        for (key, value) in [
            ("sluicegate.request_id", &*self.request_id),
            ("http.request.method", short(&self.method)),
            ("sluicegate.tenant", text_of(self.tenant.as_ref())),
            ("sluicegate.key", text_of(self.key.as_ref())),
            ("sluicegate.link_id", self.link_id.as_ref().map_or("", LinkId::as_str)),
            ("sluicegate.rule", text_of(self.rule.as_ref())),
            ("sluicegate.outcome", outcome),
            ("sluicegate.stage", stage),
            ("sluicegate.code", code),
        ] {
            self.span.text(key, value);
        }
        self.span.number("http.response.status_code", self.status.into());
        self.span.number("sluicegate.bytes", self.bytes);
        self.span.number("sluicegate.resumed", self.resumed.into());
        // A refusal is an answer. What broke, or failed here or behind us, is an error.
        if outcome == "aborted" || self.status >= 500 {
            self.span.failed(code);
        }
    }
}

/// A method is as long as its client likes.
fn short(method: &http::Method) -> &str {
    let text = method.as_str();
    text.get(..16).unwrap_or(text)
}

fn text_of(shared: Option<&Arc<str>>) -> &str {
    shared.map_or("", |text| text)
}

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

impl Drop for Record {
    fn drop(&mut self) {
        self.write();
    }
}
