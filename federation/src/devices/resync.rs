//! Stale lists are asked for again, in the background: one request for a user at a time, a few users at a time, and
//! those whose server doesn't answer ever less often.
//!
//! Of several processes, the one that asks says so in the database first. What it gets is written on condition that
//! nothing about the user has come in between; if something has, it asks again.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use rhizome_storage::{
    CommitError, DeviceList, Dialect, Error, Fact, RemoteDevices, RemoteList, RemoteUser, UserNo,
    WriteSet, millis,
};
use ruma::{OwnedServerName, OwnedUserId};

use super::ask;
use super::list::List;
use crate::{Federation, MatrixError, outbound::OutboundError};

/// How many users are asked for at the same time, and of one server.
const AT_ONCE: usize = 20;
const OF_ONE_SERVER: usize = 4;
/// How many are looked at for that: of a server beside those who are being asked for as many again.
const LOOKED_AT: usize = 500;
const LOOKED_AT_OF_ONE: usize = 2 * OF_ONE_SERVER;
/// How long an answer may take. Nobody waits for it.
const PATIENCE: Duration = Duration::from_secs(30);
/// For how long nobody else asks.
const CLAIMED_FOR: Duration = Duration::from_mins(2);
/// After a list was got, it isn't asked for again before this: what a server sends late may be older than that.
pub(super) const REST: Duration = Duration::from_secs(5);
/// The first wait after a vain attempt; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_hours(6);
/// For how long after a vain attempt clients are told what is remembered. Later they have it asked for again, however
/// long it is until that is done by itself.
const IN_VAIN: Duration = Duration::from_mins(1);
/// How long it sleeps at most: alone on a database, and with other processes.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);
const SHARED_SLEEP: Duration = Duration::from_secs(3);
/// How often what nobody here has a use for any more is forgotten, and how much at once.
const TIDY_EVERY: Duration = Duration::from_hours(1);
const TIDY_PAUSE: Duration = Duration::from_secs(1);
const TIDIED: usize = 100;

/// Works until it is dropped.
///
/// # Errors
/// The database's. What was begun comes due again by itself.
pub(crate) async fn run(fed: &Federation) -> Result<(), Error> {
    tokio::try_join!(ask_for_stale(fed), tidy(fed))?;
    Ok(())
}

async fn ask_for_stale(fed: &Federation) -> Result<(), Error> {
    let store = fed.store();
    let mut busy: HashSet<UserNo> = HashSet::new();
    let mut servers: BTreeMap<OwnedServerName, usize> = BTreeMap::new();
    let mut workers = FuturesUnordered::new();
    loop {
        let now = store.clock().now_ms();
        let mut next = None;
        if workers.len() < AT_ONCE {
            let (due, later) = store
                .stale_remote_devices(now, LOOKED_AT_OF_ONE, LOOKED_AT)
                .await?;
            next = later.map(|at| at - now);
            for user in due {
                if workers.len() >= AT_ONCE || busy.contains(&user) {
                    continue;
                }
                let user_id = store.user(user).await?;
                let server = user_id.server_name().to_owned();
                let asked = servers.entry(server.clone()).or_default();
                if *asked < OF_ONE_SERVER {
                    *asked += 1;
                    busy.insert(user);
                    workers.push(async move {
                        let done = Box::pin(resync(fed, user, &user_id)).await;
                        (done, user, server)
                    });
                }
            }
        }
        let longest = match store.dialect() {
            Dialect::Sqlite => LONGEST_SLEEP,
            Dialect::Postgres => SHARED_SLEEP,
        };
        let next = next.map(|wait| Duration::from_millis(u64::try_from(wait).unwrap_or(0)));
        let next = next.map_or(longest, |next| next.min(longest));
        tokio::select! {
            Some((done, user, server)) = workers.next(), if !workers.is_empty() => {
                busy.remove(&user);
                if let Some(asked) = servers.get_mut(&server) {
                    *asked -= 1;
                    if *asked == 0 {
                        servers.remove(&server);
                    }
                }
                done?;
            }
            () = fed.stale_lists().notified() => {}
            () = store.clock().sleep(next) => {}
        }
    }
}

/// Asks for a user's list, if that is still wanted.
async fn resync(fed: &Federation, user: UserNo, user_id: &OwnedUserId) -> Result<(), Error> {
    let store = fed.store();
    let Some(now) = state(fed, user).await? else {
        return Ok(());
    };
    let Some(list) = now.basis.list.filter(|list| list.stale) else {
        return Ok(());
    };
    if !now.shares {
        forget(fed, &[now]).await?;
        return Ok(());
    }
    let clock = store.clock();
    if list.retry_at > clock.now_ms() {
        return Ok(());
    }
    let learned = store.log().refresh().await?;
    let claimed = RemoteList {
        retry_at: clock.now_ms() + millis(CLAIMED_FOR),
        ..list
    };
    if !put(fed, &now, Some(claimed), Vec::new()).await? {
        return Ok(());
    }
    let answer = ask::devices(fed, user_id, PATIENCE).await;
    let Some(now) = state(fed, user).await? else {
        return Ok(());
    };
    // An update of a stale list moves its time a little; whoever else asks sets it anew, to later.
    let is_ours = now.basis.list.is_some_and(|list| {
        let retry_at = list.retry_at.max(claimed.retry_at);
        RemoteList { retry_at, ..list } == claimed
    });
    let told_since =
        now.basis.list != Some(claimed) || now.basis.changed.is_some_and(|pos| pos > learned);
    let (list, facts) = match answer {
        Ok(found) => {
            let mut facts = news(fed, &now, &found).await?;
            let changed = !facts.is_empty();
            if changed {
                let device = None;
                facts.push(DeviceList { user, device }.into());
            }
            let list = RemoteList {
                stream_id: found.stream_id,
                learned,
                // What has come since may be in it or not.
                stale: told_since,
                failures: 0,
                retry_at: clock.now_ms() + millis(REST),
            };
            (list, facts)
        }
        Err(error) => {
            let failures = list.failures.saturating_add(1);
            let wait = wait(failures);
            tracing::info!(user = %user_id, failures, ?wait, %error, "a list of devices can't be had");
            let list = RemoteList {
                failures,
                retry_at: clock.now_ms() + millis(wait),
                ..claimed
            };
            (list, Vec::new())
        }
    };
    if !is_ours || !put(fed, &now, Some(list), facts).await? {
        // Somebody else has got the list, or an update came in this very moment: it comes due again.
        tracing::debug!(user = %user_id, "a list of devices has moved on meanwhile");
    }
    Ok(())
}

/// Whether a list has been asked for in vain just now: that isn't tried again at once for everybody who wants it.
pub(super) fn is_in_vain(list: &RemoteList, now: i64) -> bool {
    let tried_at = list.retry_at - millis(wait(list.failures));
    list.stale && list.failures > 0 && list.retry_at > now && tried_at > now - millis(IN_VAIN)
}

/// The wait after so many vain attempts.
fn wait(failures: u32) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(20));
    doubled.min(LONGEST_WAIT)
}

async fn state(fed: &Federation, user: UserNo) -> Result<Option<RemoteUser>, Error> {
    let found = fed.store().remote_users(&[user], fed.server_name()).await?;
    Ok(found.into_iter().next())
}

/// What has to be written for a list to be remembered.
async fn news(fed: &Federation, user: &RemoteUser, found: &List) -> Result<Vec<Fact>, Error> {
    let mut stored = List::stored(fed.store(), &[user.user]).await?;
    let before = stored.remove(&user.user).unwrap_or_default();
    Ok(found.replacing(user.user, &before))
}

/// Writes what is remembered from now on, with other facts; `false` if what it is decided on has moved.
async fn put(
    fed: &Federation,
    user: &RemoteUser,
    list: Option<RemoteList>,
    mut facts: Vec<Fact>,
) -> Result<bool, Error> {
    facts.push(remembers(user, list));
    write(fed, facts).await
}

fn remembers(user: &RemoteUser, list: Option<RemoteList>) -> Fact {
    let (user, basis) = (user.user, user.basis);
    RemoteDevices { user, basis, list }.into()
}

async fn write(fed: &Federation, facts: Vec<Fact>) -> Result<bool, Error> {
    match fed.store().commit(WriteSet::from(facts)).await {
        Ok(_) => Ok(true),
        Err(CommitError::AccountMoved(_)) => Ok(false),
        Err(CommitError::Store(error)) => Err(error),
        Err(other) => Err(Error::broken(other.to_string())),
    }
}

/// Forgets what is remembered of users with whom nobody here shares a room, in one commit; `false` if something about
/// one of them has moved.
async fn forget(fed: &Federation, users: &[RemoteUser]) -> Result<bool, Error> {
    let numbers: Vec<UserNo> = users.iter().map(|user| user.user).collect();
    let stored = List::stored(fed.store(), &numbers).await?;
    let mut facts = Vec::new();
    for user in users {
        if let Some(before) = stored.get(&user.user) {
            facts.extend(List::default().replacing(user.user, before));
        }
        facts.push(remembers(user, None));
    }
    write(fed, facts).await
}

/// Forgets, now and then, what nobody here has a use for any more.
async fn tidy(fed: &Federation) -> Result<(), Error> {
    let store = fed.store();
    let ours = fed.server_name();
    loop {
        let gone = store.forgettable_remote_devices(ours, TIDIED).await?;
        let mut users = store.remote_users(&gone, ours).await?;
        users.retain(|user| !user.shares);
        let is_done = users.is_empty() || forget(fed, &users).await?;
        let wait = if is_done && gone.len() < TIDIED {
            TIDY_EVERY
        } else {
            TIDY_PAUSE
        };
        store.clock().sleep(wait).await;
    }
}

/// What clients are told of a server that couldn't be asked.
pub(super) fn failure(error: OutboundError) -> serde_json::Value {
    let told = MatrixError::from(error);
    serde_json::json!({ "errcode": told.errcode, "error": told.message })
}

#[cfg(test)]
mod tests {
    use rhizome_storage::Pos;

    use super::*;

    #[test]
    fn a_vain_attempt_stands_for_a_while() {
        let list = |failures, tried_at: i64| RemoteList {
            stream_id: None,
            learned: Pos(1),
            stale: true,
            failures,
            retry_at: tried_at + millis(wait(failures)),
        };
        let now = 10_000_000;
        assert!(is_in_vain(&list(1, now - 4_000), now));
        assert!(!is_in_vain(&list(1, now - 6_000), now));
        assert!(is_in_vain(&list(9, now - 59_000), now));
        assert!(!is_in_vain(&list(9, now - 61_000), now));
        assert!(!is_in_vain(&list(0, now), now));
    }
}
