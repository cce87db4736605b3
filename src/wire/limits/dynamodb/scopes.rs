//! Key and tenant at once: what one scope grants and the other refuses is taken back.

use sha2::{Digest as _, Sha256};

use crate::gate::fault::LimitScope;
use crate::gate::policy::LimitSet;
use crate::wire::limits::store::{
    Account, Aside, Away, Both, Demand, Entry, Lease, Moment, Seen, Settlement, Store, Who,
};

use super::{DynamoDb, Entered};

/// The longest key that stands in an item's id as it is; DynamoDB takes 2,048 bytes.
const MAX_PLAIN_KEY: usize = 512;

/// The key's item and the tenant's.
fn ids(who: &Who) -> Both<String> {
    let Who { tenant, key } = who;
    if key.len() <= MAX_PLAIN_KEY {
        return [format!("{tenant}#{key}"), tenant.to_string()];
    }
    let digest = Sha256::digest(key.as_bytes());
    let short = digest.iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write as _;
        let _ = write!(text, "{byte:02x}");
        text
    });
    [format!("{tenant}##{short}"), tenant.to_string()]
}

impl Store for DynamoDb {
    async fn enter(
        &self,
        who: &Who,
        demands: Both<Option<Demand<'_>>>,
        lease: &Lease,
        now: Moment,
    ) -> Result<Entry, Away> {
        let [key_id, tenant_id] = ids(who);
        let [key, tenant] = demands;
        let (by_key, by_tenant) = tokio::join!(
            self.enter_one(&key_id, key, lease, now),
            self.enter_one(&tenant_id, tenant, lease, now)
        );
        // Who got in alone goes out again.
        if let (Ok(Some(Ok(seen))), Err(_) | Ok(Some(Err(_)))) = (&by_tenant, &by_key) {
            self.undo(&tenant_id, granted(tenant, *seen), true, lease, now).await;
        }
        if let (Ok(Some(Ok(seen))), Err(_) | Ok(Some(Err(_)))) = (&by_key, &by_tenant) {
            self.undo(&key_id, granted(key, *seen), by_tenant.is_err(), lease, now).await;
        }
        Ok(entry(by_key?, by_tenant?))
    }

    async fn set_aside(
        &self,
        who: &Who,
        most: Both<Option<u64>>,
        bytes: u64,
        now: Moment,
    ) -> Result<Aside, Away> {
        let [key_id, tenant_id] = ids(who);
        let [of_key, of_tenant] = most;
        let (key, tenant) = tokio::join!(
            self.set_aside_one(&key_id, of_key, bytes, now),
            self.set_aside_one(&tenant_id, of_tenant, bytes, now)
        );
        // Who counted alone gives it back.
        if let (Ok(Some(day)), Some(_), Err(_) | Ok(None)) = (&tenant, of_tenant, &key) {
            self.leave_one(&tenant_id, None, Some((bytes, *day)), 0, now).await?;
        }
        if let (Ok(Some(day)), Some(_), Err(_) | Ok(None)) = (&key, of_key, &tenant) {
            self.leave_one(&key_id, None, Some((bytes, *day)), 0, now).await?;
        }
        Ok(match (key?, tenant?) {
            (None, _) => Aside { refused: Some(LimitScope::Key), account: Account::default() },
            (_, None) => Aside { refused: Some(LimitScope::Tenant), account: Account::default() },
            (Some(of_key), Some(of_tenant)) => {
                Aside { refused: None, account: Account { day: of_key.max(of_tenant), era: 0 } }
            }
        })
    }

    async fn renew(&self, who: &Who, places: Both<bool>, lease: &Lease, now: Moment) -> Result<(), Away> {
        let [key_id, tenant_id] = ids(who);
        let [of_key, of_tenant] = places;
        let (key, tenant) = tokio::join!(
            self.renew_one(&key_id, of_key, lease, now),
            self.renew_one(&tenant_id, of_tenant, lease, now)
        );
        key.and(tenant)
    }

    async fn leave(&self, who: &Who, lease: &Lease, settlement: Settlement, now: Moment) -> Result<(), Away> {
        let [key_id, tenant_id] = ids(who);
        let Settlement { places: [key_place, tenant_place], counted: [by_key, by_tenant], .. } = settlement;
        let Settlement { unsent, account: Account { day, .. }, owed, .. } = settlement;
        let leave = |id, place: bool, counted: bool| {
            let (bytes, owed) = if counted { (Some((unsent, day)), owed) } else { (None, 0) };
            self.leave_one(id, place.then_some(lease), bytes, owed, now)
        };
        let (key, tenant) = tokio::join!(
            leave(key_id.as_str(), key_place, by_key),
            leave(tenant_id.as_str(), tenant_place, by_tenant)
        );
        match (key, tenant) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(one), Err(other)) => Err(if one.untouched { other } else { one }),
            (Err(away), Ok(())) | (Ok(()), Err(away)) => Err(away.touched()),
        }
    }

    async fn look(
        &self,
        who: &Who,
        limits: Both<Option<&LimitSet>>,
        now: Moment,
    ) -> Result<Both<Option<Seen>>, Away> {
        let [key_id, tenant_id] = ids(who);
        let [of_key, of_tenant] = limits;
        let look = async |id: &str, limits: Option<&LimitSet>| match limits {
            None => Ok(None),
            Some(limits) => self.table.get(id).await.map(|state| Some(state.seen(limits, 0, now))),
        };
        let (key, tenant) = tokio::join!(look(&key_id, of_key), look(&tenant_id, of_tenant));
        Ok([key?, tenant?])
    }
}

/// The demand as it was met.
fn granted(demand: Option<Demand<'_>>, seen: Seen) -> Option<Demand<'_>> {
    demand.map(|demand| Demand { permits: seen.granted, ..demand })
}

/// The key's word counts first; behind its refusal the tenant was not asked.
fn entry(key: Option<Entered>, tenant: Option<Entered>) -> Entry {
    match (key, tenant) {
        (Some(Err((why, seen))), _) => {
            Entry { refused: Some((LimitScope::Key, why)), seen: [Some(seen), None] }
        }
        (key, Some(Err((why, seen)))) => {
            Entry { refused: Some((LimitScope::Tenant, why)), seen: [key.and_then(Result::ok), Some(seen)] }
        }
        (key, tenant) => {
            Entry { refused: None, seen: [key.and_then(Result::ok), tenant.and_then(Result::ok)] }
        }
    }
}
