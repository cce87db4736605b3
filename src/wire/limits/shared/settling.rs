//! What a download gives back at its end, and bytes that nobody took over: behind everybody's back, and once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::wire::limits::store::{Account, Both, Lease, Settlement, Store as _, Who};
use crate::wire::{clock, metrics};

use super::{Remote, Shared};

/// The most downloads whose end waits to be settled; what is beyond is left to their leases.
const MAX_UNSETTLED: usize = 10_000;

/// Bytes of the day that are set aside for nobody yet: they come back when this is dropped.
pub(in crate::wire::limits) struct Covered {
    pub(super) shared: Arc<Shared>,
    pub(super) who: Who,
    pub(super) most: Both<Option<u64>>,
    pub(super) bytes: u64,
    pub(super) account: Account,
}

impl Covered {
    /// The bytes, and what they are counted in, for a download that gives them back itself.
    pub(in crate::wire::limits) fn take(mut self) -> (u64, Account) {
        (std::mem::take(&mut self.bytes), self.account)
    }
}

impl Drop for Covered {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let counted = self.most.map(|most| most.is_some());
            let settlement =
                Settlement { counted, unsent: self.bytes, account: self.account, ..Settlement::default() };
            self.shared.settle(self.who.clone(), self.shared.new_lease(), settlement, None);
        }
    }
}

impl Shared {
    /// Settles the end of a download behind its back. A store that is away is asked again, as long as a lease lasts.
    pub(in crate::wire::limits) fn settle(
        self: &Arc<Self>,
        who: Who,
        lease: Lease,
        settlement: Settlement,
        renewal: Option<JoinHandle<()>>,
    ) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return lost() };
        if self.unsettled.fetch_add(1, Ordering::AcqRel) >= MAX_UNSETTLED {
            self.unsettled.fetch_sub(1, Ordering::AcqRel);
            return lost();
        }
        self.leaving.fetch_add(1, Ordering::AcqRel);
        let this = Arc::clone(self);
        runtime.spawn(async move {
            let mut settlement = settlement;
            let until = Instant::now() + lease.length.max(Duration::from_secs(60));
            if let Some(renewal) = renewal {
                let _ = renewal.await;
            }
            let mut done = this.leave(&who, &lease, &mut settlement).await;
            this.leaving.fetch_sub(1, Ordering::AcqRel);
            this.left.notify_waiters();
            while !done && Instant::now() < until {
                sleep(this.manners.retry).await;
                done = this.leave(&who, &lease, &mut settlement).await;
            }
            if !done {
                lost();
            }
            this.unsettled.fetch_sub(1, Ordering::AcqRel);
        });
    }

    /// True if nothing is left to be settled.
    async fn leave(self: &Arc<Self>, who: &Who, lease: &Lease, settlement: &mut Settlement) -> bool {
        let (this, who, lease, what) = (Arc::clone(self), who.clone(), lease.clone(), *settlement);
        let question = async move {
            of_remote!(&this.remote, store => store.leave(&who, &lease, what, clock::moment()))
        };
        let left = self.ask("leave", question).await;
        if left.as_ref().is_err_and(|away| !away.untouched) {
            // The bytes may have been settled already, and twice would be wrong either way.
            (settlement.unsent, settlement.owed) = (0, 0);
        }
        let rest = settlement.unsent > 0 || settlement.owed > 0 || settlement.places != [false; 2];
        left.is_ok() || !rest
    }

    /// Waits until each end so far was tried to be settled.
    pub(in crate::wire::limits) async fn settled(&self) {
        loop {
            let left = self.left.notified();
            if self.leaving.load(Ordering::Acquire) == 0 {
                return;
            }
            left.await;
        }
    }
}

fn lost() {
    metrics::settlement_lost();
    tracing::warn!(
        "a download's end was not settled with the limit store: its places come back with their lease"
    );
}
