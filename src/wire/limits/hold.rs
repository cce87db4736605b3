//! What an admitted request holds: its places among the downloads under way, and bytes of the day set aside for it.
//! Dropping it gives both back, whatever it was dropped for.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::gate::fault::{LimitScope, StreamFault, Throttled};
use crate::gate::policy::Tenant;
use crate::wire::clock;

use super::process::Scopes;
use super::shared::Shared;
use super::store::{Account, Both, Lease, Settlement, Who};
use super::{LimitsAway, quota_exceeded};

/// What a body of unknown length sets aside at once in a shared store, at first; it doubles.
const FIRST_TRANCHE: u64 = 1024 * 1024;
const LARGEST_TRANCHE: u64 = 64 * 1024 * 1024;

/// Where something is counted.
enum Counting {
    Process(Scopes),
    Shared(Box<Leased>),
}

/// Places in a shared store.
struct Leased {
    shared: Arc<Shared>,
    lease: Lease,
    /// Who renews them, and what tells that they are held.
    renewal: Option<(JoinHandle<()>, oneshot::Sender<()>)>,
}

pub(super) struct Hold {
    counting: Counting,
    who: Who,
    places: Both<bool>,
    most: Both<Option<u64>>,
    /// While the store is away: go on and count later, or stop?
    fails_open: bool,
    account: Account,
    unsent: u64,
    owed: u64,
    tranche: u64,
}

impl Hold {
    /// What was counted in this process.
    pub(super) fn process(scopes: Scopes, tenant: &Tenant, who: Who) -> Self {
        Self::new(Counting::Process(scopes), tenant, who, [true; 2])
    }

    /// What was counted in a shared store. Its places are kept from running out.
    pub(super) fn shared(shared: &Arc<Shared>, tenant: &Tenant, who: Who, lease: Lease) -> Self {
        let places =
            [tenant.limits_of(&who.key), tenant.limits()].map(|limits| limits.concurrent_downloads.is_some());
        let renewal = (places != [false; 2]).then(|| {
            let (holds, held) = oneshot::channel();
            let keeping = Arc::clone(shared).keep(who.clone(), places, lease.clone(), held);
            (tokio::spawn(keeping), holds)
        });
        let leased = Leased { shared: Arc::clone(shared), lease, renewal };
        Self::new(Counting::Shared(Box::new(leased)), tenant, who, places)
    }

    fn new(counting: Counting, tenant: &Tenant, who: Who, places: Both<bool>) -> Self {
        let limits = [tenant.limits_of(&who.key), tenant.limits()];
        Self {
            counting,
            places,
            most: limits.map(|limits| limits.bytes_per_day),
            fails_open: tenant.limits_fail_open(),
            who,
            account: Account::default(),
            unsent: 0,
            owed: 0,
            tranche: FIRST_TRANCHE,
        }
    }

    /// Sets a body's announced length aside.
    pub(super) async fn reserve(&mut self, length: u64) -> Result<(), Throttled> {
        if self.most == [None, None] {
            return Ok(());
        }
        match self.set_aside(length).await {
            Ok(None) => Ok(()),
            Ok(Some(scope)) => Err(quota_exceeded(scope, clock::moment())),
            Err(LimitsAway) if self.fails_open => Ok(()),
            Err(LimitsAway) => Err(Throttled::Away),
        }
    }

    /// Can so many bytes be spent without another question?
    pub(super) fn has_set_aside(&self, bytes: u64) -> bool {
        self.unsent >= bytes || self.most == [None, None]
    }

    /// Counts bytes that are about to be sent, first against those that were set aside.
    pub(super) async fn spend(&mut self, bytes: u64) -> Result<(), StreamFault> {
        let covered = self.unsent.min(bytes);
        self.unsent -= covered;
        let rest = bytes - covered;
        if rest == 0 || self.most == [None, None] {
            return Ok(());
        }
        let tranche = match self.counting {
            Counting::Process(_) => rest,
            Counting::Shared(_) => rest.max(self.tranche),
        };
        for asked in [tranche, rest] {
            match self.set_aside(asked).await {
                Ok(None) => {
                    self.unsent = self.unsent.saturating_sub(rest);
                    self.tranche = self.tranche.saturating_mul(2).min(LARGEST_TRANCHE);
                    return Ok(());
                }
                // A whole tranche is not left; these bytes may be.
                Ok(Some(_)) if asked > rest => {}
                Ok(Some(_)) => return Err(StreamFault::QuotaExhausted),
                Err(LimitsAway) if self.fails_open => {
                    self.owed = self.owed.saturating_add(rest);
                    self.tranche = FIRST_TRANCHE;
                    return Ok(());
                }
                Err(LimitsAway) => return Err(StreamFault::LimitsAway),
            }
        }
        Ok(())
    }

    /// Adds to what is set aside; or says which scope has not so many left.
    async fn set_aside(&mut self, bytes: u64) -> Result<Option<LimitScope>, LimitsAway> {
        let account = match &self.counting {
            Counting::Process(scopes) => {
                let now = clock::moment();
                let refused = scopes.set_aside(self.most, bytes, now);
                if refused.is_some() {
                    return Ok(refused);
                }
                Account { day: now.day(), era: 0 }
            }
            Counting::Shared(leased) => {
                match Box::pin(leased.shared.set_aside(&self.who, self.most, bytes)).await {
                    Ok(Ok(covered)) => covered.take().1,
                    Ok(Err(scope)) => return Ok(Some(scope)),
                    Err(_) => return Err(LimitsAway),
                }
            }
        };
        self.account = account;
        self.unsent = self.unsent.saturating_add(bytes);
        Ok(None)
    }

    fn settlement(&self) -> Settlement {
        let counted = self.most.map(|most| most.is_some());
        Settlement {
            places: self.places,
            counted,
            unsent: self.unsent,
            account: self.account,
            owed: self.owed,
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let settlement = self.settlement();
        match &mut self.counting {
            Counting::Process(scopes) => scopes.leave(settlement, clock::moment),
            Counting::Shared(leased) => {
                let renewal = leased.renewal.take().map(|(renewal, _)| renewal);
                let bytes = settlement.unsent > 0 || settlement.owed > 0;
                if bytes || settlement.places != [false; 2] {
                    leased.shared.settle(self.who.clone(), leased.lease.clone(), settlement, renewal);
                }
            }
        }
    }
}
