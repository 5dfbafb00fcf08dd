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
use ruma::{OwnedServerName, OwnedUserId, ServerName};
use tokio::time::Instant;

use super::ask;
use super::list::List;
use crate::{Federation, MatrixError, outbound::OutboundError};

/// How many users are asked for at the same time, and of one server.
const AT_ONCE: usize = 20;
const OF_ONE_SERVER: usize = 4;
/// How many are looked at for that, and of one server.
const LOOKED_AT: usize = 500;
const LOOKED_AT_OF_ONE: usize = 100;
/// So many times as long as a look took it doesn't look again, but no longer than this: of a server that is slow or down
/// there may be very many.
const LOOK_SHARE: u32 = 9;
const LOOK_PAUSE: Duration = Duration::from_secs(1);
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
    let mut asked = Asked::default();
    let mut workers = FuturesUnordered::new();
    let (mut due, mut later) = (Vec::new(), None);
    let mut look_at = Instant::now();
    loop {
        let looks = workers.len() < AT_ONCE && Instant::now() >= look_at;
        if looks {
            let began = Instant::now();
            (due, later) = look(fed).await?;
            look_at = Instant::now() + (began.elapsed() * LOOK_SHARE).min(LOOK_PAUSE);
        }
        for (user, user_id) in std::mem::take(&mut due) {
            if workers.len() < AT_ONCE && asked.begin(user, user_id.server_name()) {
                workers.push(async move {
                    let done = Box::pin(resync(fed, user, &user_id)).await;
                    (done, user, user_id)
                });
            } else {
                due.push((user, user_id));
            }
        }
        tokio::select! {
            Some((done, user, user_id)) = workers.next(), if !workers.is_empty() => {
                asked.end(user, user_id.server_name());
                done?;
            }
            () = fed.stale_lists().notified() => {}
            () = store.clock().sleep(until(fed, later)), if looks => {}
            () = tokio::time::sleep_until(look_at), if !looks && workers.len() < AT_ONCE => {}
        }
    }
}

/// Who may be asked for now, and when the next of the others may be.
async fn look(fed: &Federation) -> Result<(Vec<(UserNo, OwnedUserId)>, Option<i64>), Error> {
    let store = fed.store();
    let now = store.clock().now_ms();
    let (users, later) = store
        .stale_remote_devices(now, LOOKED_AT_OF_ONE, LOOKED_AT)
        .await?;
    let mut due = Vec::with_capacity(users.len());
    for user in users {
        due.push((user, store.user(user).await?));
    }
    Ok((due, later))
}

/// How long to sleep when somebody may be asked for at that time (ms).
fn until(fed: &Federation, later: Option<i64>) -> Duration {
    let store = fed.store();
    let longest = match store.dialect() {
        Dialect::Sqlite => LONGEST_SLEEP,
        Dialect::Postgres => SHARED_SLEEP,
    };
    let wait = later.map(|at| u64::try_from(at - store.clock().now_ms()).unwrap_or(0));
    wait.map_or(longest, |wait| Duration::from_millis(wait).min(longest))
}

/// Who is being asked for.
#[derive(Debug, Default)]
struct Asked {
    users: HashSet<UserNo>,
    of_server: BTreeMap<OwnedServerName, usize>,
}

impl Asked {
    /// Whether a user may be asked for beside these; then they are.
    fn begin(&mut self, user: UserNo, server: &ServerName) -> bool {
        let asked = self.of_server.get(server).copied().unwrap_or_default();
        if asked >= OF_ONE_SERVER || !self.users.insert(user) {
            return false;
        }
        self.of_server.insert(server.to_owned(), asked + 1);
        true
    }

    fn end(&mut self, user: UserNo, server: &ServerName) {
        self.users.remove(&user);
        match self.of_server.get_mut(server) {
            Some(asked) if *asked > 1 => *asked -= 1,
            _ => drop(self.of_server.remove(server)),
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
    use ruma::server_name;

    use super::*;

    #[test]
    fn of_one_server_a_few_are_asked_for_at_a_time() {
        let mut asked = Asked::default();
        let (slow, quick) = (server_name!("slow"), server_name!("quick"));
        for n in 0..4 {
            assert!(asked.begin(UserNo(n), slow));
        }
        assert!(!asked.begin(UserNo(4), slow));
        assert!(asked.begin(UserNo(5), quick));
        assert!(!asked.begin(UserNo(5), quick), "once at a time");
        asked.end(UserNo(0), slow);
        assert!(asked.begin(UserNo(4), slow));
        assert!(!asked.begin(UserNo(0), slow));
        for n in [1, 2, 3, 4] {
            asked.end(UserNo(n), slow);
        }
        asked.end(UserNo(5), quick);
        assert!(asked.users.is_empty() && asked.of_server.is_empty());
    }

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
