//! Key sets that issuers publish: fetched when a token needs one, kept, fetched again when they grow old or a `kid` is
//! unknown, and never more often than the operator allows, whatever tokens arrive.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinHandle;

use crate::gate::keys::{FetchedKeys, TokenKeys};
use crate::gate::link::SignedRequest;
use crate::gate::policy::{KeySetSource, Policies};
use crate::gate::target::Target;

use super::origin::Origin;

/// The largest key set that is read, in bytes.
const MAX_BYTES: usize = 256 * 1024;
/// How long keys stay good although their issuer cannot be reached, as a multiple of their age limit.
const STALE_FACTOR: u32 = 24;

/// The key sets fetched so far.
pub struct KeySets {
    origin: Arc<Origin>,
    age: Duration,
    retry: Duration,
    fetched: ArcSwap<FetchedKeys>,
    attempts: RwLock<HashMap<KeySetSource, Arc<Mutex<Attempts>>>>,
}

#[derive(Default)]
struct Attempts {
    ended: Option<Instant>,
    succeeded: Option<Instant>,
}

impl Attempts {
    /// May another fetch begin for someone who came at `since`? Not if one ended meanwhile: its result is the answer.
    fn allow(&self, since: Instant, retry: Duration) -> bool {
        self.ended.is_none_or(|ended| ended < since && ended.elapsed() >= retry)
    }
}

impl KeySets {
    /// No key set yet.
    pub fn new(origin: Arc<Origin>) -> Arc<Self> {
        let (age, retry) = (origin.timeouts().key_set_age.0, origin.timeouts().key_set_retry.0);
        Arc::new(Self { origin, age, retry, fetched: ArcSwap::default(), attempts: RwLock::default() })
    }

    /// The key sets to judge `request` by. A request whose key is not at hand waits for a fetch; one whose key is there
    /// but old does not, the fetch then goes on by itself.
    pub async fn for_request(
        self: &Arc<Self>,
        policies: &Policies,
        request: &SignedRequest,
    ) -> Arc<FetchedKeys> {
        if let Some(source) = policies.key_set(request) {
            Box::pin(self.look_after(source, policies, request)).await;
        }
        self.fetched.load_full()
    }

    /// Fetches the key set at `source`, if it has to be fetched.
    async fn look_after(
        self: &Arc<Self>,
        source: &KeySetSource,
        policies: &Policies,
        request: &SignedRequest,
    ) {
        let (attempts, came) = (self.attempts(source), Instant::now());
        if policies.missing_key_set(request, &self.fetched.load()).is_some() {
            // One fetch per source at a time; whoever waited for it may find its key now.
            let attempts = attempts.lock_owned().await;
            if policies.missing_key_set(request, &self.fetched.load()).is_some()
                && attempts.allow(came, self.retry)
            {
                // A client that leaves does not end it, and so cannot make it begin again.
                let _ = self.refresh_aside(source, attempts).await;
            }
        } else if let Ok(attempts) = attempts.try_lock_owned()
            && attempts.succeeded.is_none_or(|at| at.elapsed() >= self.age)
            && attempts.allow(came, self.retry)
        {
            drop(self.refresh_aside(source, attempts));
        }
    }

    fn refresh_aside(
        self: &Arc<Self>,
        source: &KeySetSource,
        mut attempts: OwnedMutexGuard<Attempts>,
    ) -> JoinHandle<()> {
        let (this, source) = (Arc::clone(self), source.clone());
        tokio::spawn(async move { this.refresh(&source, &mut attempts).await })
    }

    async fn refresh(&self, source: &KeySetSource, attempts: &mut Attempts) {
        let fetched = self.fetch(source).await;
        attempts.ended = Some(Instant::now());
        match fetched {
            Ok(keys) => {
                attempts.succeeded = Some(Instant::now());
                self.store(source, Some(&Arc::new(keys)));
                tracing::info!(url = %source.url, "token keys fetched");
            }
            Err(reason) => {
                tracing::warn!(url = %source.url, reason, "token keys not fetched");
                if attempts.succeeded.is_some_and(|at| at.elapsed() >= self.age.saturating_mul(STALE_FACTOR))
                {
                    self.store(source, None);
                }
            }
        }
    }

    async fn fetch(&self, source: &KeySetSource) -> Result<TokenKeys, String> {
        let target = Target::parse(&source.url).map_err(|fault| fault.to_string())?;
        let document = self.origin.document(&target, MAX_BYTES).await.map_err(|fault| fault.to_string())?;
        TokenKeys::from_jwks(&document, source.algorithm).map_err(|fault| fault.to_string())
    }

    fn store(&self, source: &KeySetSource, keys: Option<&Arc<TokenKeys>>) {
        self.fetched.rcu(|current| {
            let mut next = FetchedKeys::clone(current);
            match keys {
                Some(keys) => drop(next.insert(source.clone(), Arc::clone(keys))),
                None => drop(next.remove(source)),
            }
            next
        });
    }

    fn attempts(&self, source: &KeySetSource) -> Arc<Mutex<Attempts>> {
        let read = self.attempts.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = read.get(source) {
            return Arc::clone(found);
        }
        drop(read);
        let mut write = self.attempts.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(write.entry(source.clone()).or_default())
    }
}
