//! Asking servers for lists that clients wait for: many clients may want the same, and it is asked for once.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use rhizome_storage::{Error, RemoteUser, UserNo};
use ruma::{OwnedServerName, OwnedUserId};

use super::ask::{self, Wanted};
use super::list::List;
use crate::{Federation, keyed::KeyedGuard, outbound::OutboundError};

/// Of how many users of a server lists are asked for one by one.
const FEW: usize = 10;
/// How long a server is waited for that couldn't be reached just now.
const BRIEFLY: Duration = Duration::from_secs(2);

/// What a server gave, and why not all.
pub(super) type Given = (BTreeMap<OwnedUserId, List>, Option<OutboundError>);

/// A user whose list is asked for, and what is known of them.
pub(super) type Sought = (OwnedUserId, Option<RemoteUser>);

/// What has come of asking a server.
pub(super) struct Answer {
    /// Who was asked for.
    pub(super) users: Vec<Sought>,
    /// Whose lists others have got in the meantime.
    pub(super) known: Vec<OwnedUserId>,
    pub(super) given: Given,
    /// Held until what was given is remembered, for those who wait to find it.
    pub(super) turns: Vec<KeyedGuard<OwnedUserId>>,
}

/// Asks a server for what nobody else is asking it for at this moment: of a user whose list will be remembered, one
/// question answers everybody.
pub(super) async fn ask_in_turn(
    fed: &Federation,
    server: &OwnedServerName,
    mut users: Vec<Sought>,
    wanted: &Wanted,
    timeout: Duration,
) -> Result<Answer, Error> {
    let started = Instant::now();
    let patience = patience_with(fed, server, timeout);
    let mut answer = Answer {
        users: Vec::new(),
        known: Vec::new(),
        given: (BTreeMap::new(), None),
        turns: Vec::new(),
    };
    let sharing = |of: &Option<RemoteUser>| of.filter(|of| of.shares);
    let mut numbers = Vec::new();
    // Everybody waits in the same order, that of the ids.
    for (user, of) in &users {
        let Some(of) = sharing(of) else { continue };
        numbers.push(of.user);
        let left = patience.saturating_sub(started.elapsed());
        let turn = fed.lists_asked_for().lock(user.clone());
        let Ok(turn) = tokio::time::timeout(left, turn).await else {
            answer.given.1 = Some(OutboundError::Timeout);
            break;
        };
        answer.turns.push(turn);
    }
    let now = fed
        .store()
        .remote_users(&numbers, fed.server_name())
        .await?;
    let now: HashMap<UserNo, RemoteUser> = now.into_iter().map(|of| (of.user, of)).collect();
    for (_, of) in &mut users {
        *of = of.map(|of| now.get(&of.user).copied().unwrap_or(of));
    }
    let (known, users): (Vec<_>, Vec<_>) =
        (users.into_iter()).partition(|(_, of)| of.is_some_and(|of| of.is_current()));
    answer.known = known.into_iter().map(|(user, _)| user).collect();
    answer.users = users;
    if answer.given.1.is_none() && !answer.users.is_empty() {
        let left = patience.saturating_sub(started.elapsed());
        answer.given = ask_one(fed, server, &answer.users, wanted, left).await;
    }
    Ok(answer)
}

/// Asks a server for the lists of some users: whole, of those that will be remembered.
async fn ask_one(
    fed: &Federation,
    server: &OwnedServerName,
    users: &[Sought],
    wanted: &Wanted,
    patience: Duration,
) -> Given {
    let mut lists = BTreeMap::new();
    let mut asked = Wanted::new();
    let mut alone = Vec::new();
    for (user, of) in users {
        let whole = of.is_some_and(|of| of.shares);
        if whole && alone.len() < FEW && (users.len() <= FEW || is_followed(*of)) {
            alone.push(user.clone());
        } else {
            let devices = wanted.get(user).filter(|_| !whole);
            asked.insert(user.clone(), devices.cloned().unwrap_or_default());
        }
    }
    let answers = stream::iter(alone).map(|user| async move {
        let answer = ask::devices(fed, &user, patience).await;
        (user, answer)
    });
    let mut answers = answers.buffer_unordered(FEW);
    while let Some((user, answer)) = answers.next().await {
        match answer {
            Ok(list) => drop(lists.insert(user, list)),
            Err(error) if error.is_unreachable() => return (lists, Some(error)),
            Err(_) => drop(asked.insert(user, Vec::new())),
        }
    }
    if asked.is_empty() {
        return (lists, None);
    }
    match ask::keys(fed, server, &asked, patience).await {
        Ok(found) => {
            lists.extend(found);
            (lists, None)
        }
        Err(error) => (lists, Some(error)),
    }
}

/// Whether it was known where the user's list stands.
fn is_followed(user: Option<RemoteUser>) -> bool {
    let list = user.and_then(|user| user.basis.list);
    list.is_some_and(|list| list.stream_id.is_some())
}

/// Nobody is kept waiting for long for a server that can't be reached.
pub(super) fn patience_with(
    fed: &Federation,
    server: &OwnedServerName,
    timeout: Duration,
) -> Duration {
    let now = fed.store().clock().now_ms();
    let stand = fed.sender().stand(server);
    if stand.is_some_and(|stand| stand.failures > 0 && stand.retry_at > now) {
        timeout.min(BRIEFLY)
    } else {
        timeout
    }
}
