//! Brings the edge's key material into its CloudFront KeyValueStore: reads what is there, writes what differs, in an order
//! that opens no gap.

mod plan;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use self::plan::{Batch, CHANGES_PER_BATCH, Entries, Kind, Plan, plan};
use self::store::{Store, is_conflict};
use super::aws::Fault;

/// How often a store that others change at the same time is read anew.
const ROUNDS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// CloudFront's limits of one entry, in bytes.
const MAX_KEY: usize = 512;
const MAX_VALUE: usize = 1024;

/// How far a sync goes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extent {
    /// Says what would be done, and does nothing.
    pub dry_run: bool,
    /// Takes away the last key of a store. Else that is an error: it refuses every link there is.
    pub allow_empty: bool,
}

/// What was done, or what would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced {
    /// Entries written, anew or with another value.
    pub written: usize,
    /// Entries taken away.
    pub deleted: usize,
    /// Entries that were there as they should be.
    pub unchanged: usize,
    /// Entries that are not the edge's, and were left alone.
    pub foreign: usize,
    /// `UpdateKeys` calls that it took; each holds as a whole or not at all.
    pub updates: usize,
    /// Requests to AWS in all, those among them that had to be sent again.
    pub calls: usize,
    /// What the store holds afterwards, keys and values, in bytes.
    pub bytes: usize,
}

/// What this run has done so far; an entry that had to be written twice counts once.
#[derive(Default)]
struct Done {
    written: BTreeSet<String>,
    deleted: BTreeSet<String>,
    updates: usize,
}

/// Why a round ended early.
enum Interruption {
    /// Somebody else changed the store.
    Conflict(String),
    Failure(String),
}

/// Makes the store behind `arn` hold `wanted` beside what is not the edge's. A run that ends early leaves a store that
/// accepts nothing that neither its old nor its new contents accept; the next one finishes it.
///
/// Credentials, and endpoints other than AWS's own, are read from the environment.
pub async fn sync(
    arn: &str,
    wanted: &BTreeMap<String, SecretString>,
    extent: Extent,
) -> Result<Synced, String> {
    check(wanted)?;
    let store = Store::open(arn).await?;
    let mut done = Done::default();
    let mut pause = FIRST_PAUSE;
    let mut last = String::new();
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2);
        }
        match once(&store, wanted, extent, &mut done).await {
            Ok(plan) => return Ok(done.sum_up(&plan, wanted, store.calls())),
            Err(Interruption::Conflict(why)) => last = why,
            Err(Interruption::Failure(why)) => return Err(done.so_far(&why)),
        }
    }
    Err(done.so_far(&format!(
        "the store was changed by someone else each of {ROUNDS} times ({last}); see that no other sync is running"
    )))
}

/// What would be refused half way through, or would not be the edge's.
fn check(wanted: &Entries) -> Result<(), String> {
    for (key, value) in wanted {
        if Kind::of(key).is_none() {
            return Err(format!("`{key}` is not the key of an entry of the edge"));
        }
        if key.len() > MAX_KEY || value.expose_secret().len() > MAX_VALUE {
            return Err(format!(
                "entry `{key}` is larger than CloudFront allows ({MAX_KEY} bytes of key, {MAX_VALUE} of value); \
                 use shorter names or secrets"
            ));
        }
    }
    Ok(())
}

/// Reads the store, and writes what differs unless somebody else writes at the same time.
async fn once(
    store: &Store,
    wanted: &Entries,
    extent: Extent,
    done: &mut Done,
) -> Result<Plan, Interruption> {
    let mut version = store.version().await?;
    let held = store.entries().await?;
    if !extent.allow_empty {
        refuse_to_empty(&held, wanted)?;
    }
    let plan = plan(&held, wanted, CHANGES_PER_BATCH);
    // Pages read while somebody writes need not fit together. An update would tell.
    if (plan.batches.is_empty() || extent.dry_run) && store.version().await? != version {
        return Err(Interruption::Conflict("it changed while it was read".to_owned()));
    }
    for batch in &plan.batches {
        if !extent.dry_run {
            version = store.update(&version, batch).await?;
        }
        done.note(batch);
    }
    Ok(plan)
}

/// An empty policy folder by mistake must not switch everybody off.
fn refuse_to_empty(held: &Entries, wanted: &Entries) -> Result<(), Interruption> {
    let keys = |entries: &Entries| {
        entries
            .keys()
            .filter(|key| !matches!(Kind::of(key), None | Some(Kind::Revocation | Kind::Refusal)))
            .count()
    };
    match keys(held) {
        0 => Ok(()),
        _ if keys(wanted) > 0 => Ok(()),
        number => Err(Interruption::Failure(format!(
            "no key is left to write, and the store holds {number} entries of keys: every link would be refused; \
             see that the policies are the right ones, or use `--allow-empty`"
        ))),
    }
}

impl Done {
    fn note(&mut self, batch: &Batch) {
        self.updates += 1;
        self.written.extend(batch.puts.iter().map(|(key, _)| key.clone()));
        self.deleted.extend(batch.deletes.iter().cloned());
    }

    fn sum_up(self, plan: &Plan, wanted: &Entries, calls: usize) -> Synced {
        Synced {
            written: self.written.len(),
            // A pair that was closed for a while is back.
            deleted: self.deleted.iter().filter(|key| !wanted.contains_key(*key)).count(),
            unchanged: wanted.keys().filter(|key| !self.written.contains(*key)).count(),
            foreign: plan.foreign,
            updates: self.updates,
            calls,
            bytes: plan.bytes,
        }
    }

    /// The reason, with what was done before it.
    fn so_far(&self, why: &str) -> String {
        match self.updates {
            0 => why.to_owned(),
            _ => format!(
                "{why}; {} entries were written and {} deleted before: the store is safe as it is, and another run \
                 finishes it",
                self.written.len(),
                self.deleted.len()
            ),
        }
    }
}

impl From<Fault> for Interruption {
    fn from(fault: Fault) -> Self {
        if is_conflict(&fault) { Self::Conflict(fault.to_string()) } else { Self::Failure(fault.to_string()) }
    }
}
