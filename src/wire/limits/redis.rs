//! Counters in a Redis or Valkey server, for several servers with one set of limits. Every question is one call of one
//! script, which the server runs as a whole; so key and tenant are decided together. The time is the server's own.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, IntoConnectionInfo as _, RedisError, Script, ScriptInvocation};
use secrecy::{ExposeSecret as _, SecretString};

use crate::gate::fault::LimitScope;
use crate::gate::policy::{LimitSet, Rate};
use crate::wire::tls;

use super::gcra::Gcra;
use super::store::{
    Account, Aside, Away, Both, Demand, Entry, Exhausted, Lease, Moment, SCOPES, Seen, Settlement, Store,
    Who, micros,
};

/// Numbers that a script says of one scope.
const SEEN: usize = 6;

/// Counters in one Redis database.
pub struct Redis {
    client: Client,
    connection: Mutex<ConnectionManager>,
    patience: Duration,
    told_the_time: bool,
    scripts: Scripts,
}

struct Scripts {
    enter: Script,
    set_aside: Script,
    renew: Script,
    leave: Script,
    look: Script,
}

impl Redis {
    /// Speaks to the server at `url`, once it is needed; a connection may take `patience`. Must be called where tokio runs.
    pub fn new(url: &str, password: Option<&SecretString>, patience: Duration) -> Result<Self, String> {
        let mut info = url.into_connection_info().map_err(|error| reason(&error))?;
        if let Some(password) = password {
            let settings = info.redis_settings().clone().set_password(password.expose_secret());
            info = info.set_redis_settings(settings);
        }
        if ["rediss:", "valkeys:"].iter().any(|scheme| url.starts_with(scheme)) {
            tls::provide();
        }
        let client = Client::open(info).map_err(|error| reason(&error))?;
        let connection = Mutex::new(connect(&client, patience)?);
        let scripts = Scripts {
            enter: Script::new(include_str!("redis/enter.lua")),
            set_aside: Script::new(include_str!("redis/set_aside.lua")),
            renew: Script::new(include_str!("redis/renew.lua")),
            leave: Script::new(include_str!("redis/leave.lua")),
            look: Script::new(include_str!("redis/look.lua")),
        };
        Ok(Self { client, connection, patience, told_the_time: false, scripts })
    }

    /// The same, but its time is the one it is asked with.
    pub fn told_the_time(self) -> Self {
        Self { told_the_time: true, ..self }
    }

    /// Leaves a connection behind on which nothing comes back: until the system gives it up, a quarter of an hour goes by.
    pub(super) fn reconnect(&self) {
        if let Ok(fresh) = connect(&self.client, self.patience) {
            *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
    }

    /// The call of `script` with what all of them begin with.
    fn call<'s>(&self, script: &'s Script, keys: &[String], now: Moment) -> ScriptInvocation<'s> {
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(key);
        }
        if self.told_the_time {
            call.arg(now.0);
        } else {
            call.arg("");
        }
        call
    }

    async fn run<T: redis::FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T, Away> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone();
        call.invoke_async(&mut connection).await.map_err(|error| Away {
            untouched: error.is_connection_refusal(),
            ..Away::unsure(reason(&error))
        })
    }
}

fn connect(client: &Client, patience: Duration) -> Result<ConnectionManager, String> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(patience))
        // Whoever asks waits as long as it likes; and it is asked again often enough.
        .set_response_timeout(None)
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(10))
        .set_max_delay(Duration::from_millis(50));
    ConnectionManager::new_lazy_with_config(client.clone(), config).map_err(|error| reason(&error))
}

/// What went wrong: the transport's words, or the server's. Not what was said to it: a password could be in that.
fn reason(error: &RedisError) -> String {
    let text = match (error.code(), error.detail()) {
        _ if error.is_io_error() => format!("redis: {error}"),
        (Some(code), Some(detail)) => format!("redis answered {code}: {detail}"),
        (Some(code), None) => format!("redis answered {code}"),
        (None, _) => format!("redis: {}", error.category()),
    };
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// The key's and the tenant's places. One tenant's keys have one hash tag, so that a cluster keeps them on one node.
fn keys(who: &Who) -> Both<Both<String>> {
    let Who { tenant, key } = who;
    [
        [format!("sluicegate:{{{tenant}}}:key:{key}"), format!("sluicegate:{{{tenant}}}:leases:key:{key}")],
        [format!("sluicegate:{{{tenant}}}:tenant"), format!("sluicegate:{{{tenant}}}:leases:tenant")],
    ]
}

/// Since when the server remembers a tenant's bytes.
fn era_key(who: &Who) -> String {
    format!("sluicegate:{{{}}}:era", who.tenant)
}

fn rate(rate: Option<Rate>) -> (u64, u32) {
    rate.map_or((0, 0), |rate| (Gcra::new(rate).period, rate.burst))
}

fn or_none<T: TryInto<i64>>(most: Option<T>) -> i64 {
    most.map_or(-1, |most| most.try_into().unwrap_or(i64::MAX))
}

impl Store for Redis {
    async fn enter(
        &self,
        who: &Who,
        demands: Both<Option<Demand<'_>>>,
        lease: &Lease,
        now: Moment,
    ) -> Result<Entry, Away> {
        let mut call = self.call(&self.scripts.enter, &keys(who).concat(), now);
        call.arg(&lease.id).arg(micros(lease.length));
        for demand in demands {
            let (period, burst) = rate(demand.and_then(|demand| demand.limits.rate));
            call.arg(u8::from(demand.is_some())).arg(period).arg(burst);
            call.arg(demand.filter(|_| period > 0).map_or(0, |demand| demand.permits));
            call.arg(or_none(demand.and_then(|demand| demand.limits.concurrent_downloads)));
            call.arg(or_none(demand.and_then(|demand| demand.limits.bytes_per_day)));
        }
        let answer: Vec<u64> = self.run(&call).await?;
        let [refused, by, seen @ ..] = answer.as_slice() else { return Err(unreadable()) };
        let scope = usize::try_from(*by).ok().and_then(|by| SCOPES.get(by.checked_sub(1)?)).copied();
        let refused = match refused {
            0 => None,
            1 => scope.map(|scope| (scope, Exhausted::Day)),
            2 => scope.map(|scope| (scope, Exhausted::Places)),
            3 => scope.map(|scope| (scope, Exhausted::Rate)),
            _ => return Err(unreadable()),
        };
        Ok(Entry { refused, seen: read_both(seen)? })
    }

    async fn set_aside(
        &self,
        who: &Who,
        most: Both<Option<u64>>,
        bytes: u64,
        now: Moment,
    ) -> Result<Aside, Away> {
        let [[key, _], [tenant, _]] = keys(who);
        let mut call = self.call(&self.scripts.set_aside, &[key, tenant, era_key(who)], now);
        call.arg(bytes);
        for most in most {
            call.arg(or_none(most));
        }
        let (refused, day, era): (u8, u64, u64) = self.run(&call).await?;
        let refused = match refused {
            0 => None,
            1 => Some(LimitScope::Key),
            _ => Some(LimitScope::Tenant),
        };
        Ok(Aside { refused, account: Account { day, era } })
    }

    async fn renew(&self, who: &Who, places: Both<bool>, lease: &Lease, now: Moment) -> Result<(), Away> {
        let [[_, key], [_, tenant]] = keys(who);
        let mut call = self.call(&self.scripts.renew, &[key, tenant], now);
        call.arg(&lease.id).arg(micros(lease.length));
        for place in places {
            call.arg(u8::from(place));
        }
        self.run(&call).await
    }

    async fn leave(&self, who: &Who, lease: &Lease, settlement: Settlement, now: Moment) -> Result<(), Away> {
        let Settlement { places, counted, unsent, account, owed } = settlement;
        let mut all = keys(who).concat();
        all.push(era_key(who));
        let mut call = self.call(&self.scripts.leave, &all, now);
        call.arg(&lease.id).arg(unsent).arg(account.day).arg(owed);
        for (place, counted) in places.into_iter().zip(counted) {
            call.arg(u8::from(place)).arg(u8::from(counted));
        }
        call.arg(account.era);
        self.run(&call).await
    }

    async fn look(
        &self,
        who: &Who,
        limits: Both<Option<&LimitSet>>,
        now: Moment,
    ) -> Result<Both<Option<Seen>>, Away> {
        let mut call = self.call(&self.scripts.look, &keys(who).concat(), now);
        for limits in limits {
            let (period, burst) = rate(limits.and_then(|limits| limits.rate));
            call.arg(u8::from(limits.is_some())).arg(period).arg(burst);
        }
        let answer: Vec<u64> = self.run(&call).await?;
        read_both(&answer)
    }
}

fn read_both(numbers: &[u64]) -> Result<Both<Option<Seen>>, Away> {
    let mut scopes = numbers.chunks_exact(SEEN).map(read);
    match (scopes.next(), scopes.next()) {
        (Some(key), Some(tenant)) => Ok([key, tenant]),
        _ => Err(unreadable()),
    }
}

/// What a script says of one scope: asked, granted, left, wait, active, used.
fn read(numbers: &[u64]) -> Option<Seen> {
    let [1, granted, left, wait, active, used] = numbers else { return None };
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Some(Seen {
        granted: number(*granted),
        left: number(*left),
        wait: Duration::from_micros(*wait),
        active: number(*active),
        used: *used,
    })
}

fn unreadable() -> Away {
    Away::unsure("redis gave an answer that the scripts do not give")
}
