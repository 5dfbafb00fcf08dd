//! Asking services whether something that nobody knows is theirs, and waiting while they make it.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use rhizome_appservice::{CallError, Registration};
use rhizome_storage::StoredAlias;
use ruma::{RoomAliasId, UserId};
use tokio::time::timeout;

use crate::{Federation, MatrixError};

/// How long all services together may take: a bridge may have to make a room.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long a service may take for one answer.
const ANSWER: Duration = Duration::from_secs(30);
/// How often one is asked that can't be reached, and how long it is left alone in between: it may just be starting.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(250);
/// For how long it isn't asked again what it has said no to.
const DENIED: Duration = Duration::from_secs(10);
/// The most bytes of an answer, of which only the status counts.
const MOST: usize = 16 << 10;

/// Where a local alias leads. If nobody has made it, the services in whose namespaces it is may do so now.
///
/// # Errors
/// 408 if one of them didn't answer; the database's.
pub async fn alias(
    fed: &Federation,
    alias: &RoomAliasId,
) -> Result<Option<StoredAlias>, MatrixError> {
    if let Some(found) = fed.store().alias(alias).await? {
        return Ok(Some(found));
    }
    let services = fed.services();
    if services.is_empty() || alias.server_name() != fed.server_name() {
        return Ok(None);
    }
    let asked = services.current().interested_in_alias(alias.as_str());
    match Box::pin(ask(fed, &Wanted::Alias(alias), asked)).await? {
        Some(Made::Alias(found)) => Ok(Some(found)),
        _ => Ok(None),
    }
}

/// Whether there is a local user. If nobody has made the account, the services in whose namespaces it is may do so
/// now; `by`: the one that acts, which knows.
///
/// # Errors
/// 408 if one of them didn't answer; the database's.
pub async fn user(fed: &Federation, user: &UserId, by: Option<&str>) -> Result<bool, MatrixError> {
    let wanted = Wanted::User(user);
    if wanted.made(fed).await?.is_some() {
        return Ok(true);
    }
    let services = fed.services();
    if services.is_empty() || user.server_name() != fed.server_name() {
        return Ok(false);
    }
    let mut asked = services.current().interested_in_user(user.as_str());
    asked.retain(|service| by != Some(service.id.as_str()));
    Ok(Box::pin(ask(fed, &wanted, asked)).await?.is_some())
}

/// What nobody knows.
enum Wanted<'a> {
    Alias(&'a RoomAliasId),
    User(&'a UserId),
}

/// What there is.
enum Made {
    Alias(StoredAlias),
    User,
}

impl Wanted<'_> {
    /// How services are asked for it.
    fn kind(&self) -> &'static str {
        match self {
            Self::Alias(_) => "rooms",
            Self::User(_) => "users",
        }
    }

    fn id(&self) -> &str {
        match self {
            Self::Alias(alias) => alias.as_str(),
            Self::User(user) => user.as_str(),
        }
    }

    /// What there is of it by now.
    async fn made(&self, fed: &Federation) -> Result<Option<Made>, MatrixError> {
        Ok(match self {
            Self::Alias(alias) => fed.store().alias(alias).await?.map(Made::Alias),
            Self::User(user) => fed.store().account(user).await?.map(|_| Made::User),
        })
    }
}

/// What a service says of something.
enum Said {
    /// There is such a thing.
    Yes,
    /// There is none.
    No,
    /// It couldn't be asked.
    Nothing,
}

/// Asks these services one after the other, until one has made it.
async fn ask(
    fed: &Federation,
    wanted: &Wanted<'_>,
    mut services: Vec<Arc<Registration>>,
) -> Result<Option<Made>, MatrixError> {
    services.retain(|service| service.url.is_some());
    if services.is_empty() {
        return Ok(None);
    }
    let asking = ask_all(fed, wanted, &services);
    timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_| Err(no_answer()))
}

async fn ask_all(
    fed: &Federation,
    wanted: &Wanted<'_>,
    services: &[Arc<Registration>],
) -> Result<Option<Made>, MatrixError> {
    let _asked = fed.asking().asked.lock(wanted.id().to_owned()).await;
    // Whoever asked before us may have had it made.
    if let Some(made) = wanted.made(fed).await? {
        return Ok(Some(made));
    }
    let mut silent = false;
    for service in services {
        match ask_one(fed, service, wanted).await {
            // One that says yes and has made nothing is no reason not to ask the next.
            Said::Yes => {
                if let Some(made) = wanted.made(fed).await? {
                    return Ok(Some(made));
                }
                tracing::info!(
                    service = service.id,
                    id = wanted.id(),
                    "an application service says that this is there, and has not made it"
                );
            }
            Said::No => {}
            Said::Nothing => silent = true,
        }
    }
    // It may have been made in spite of an answer that got lost.
    match wanted.made(fed).await? {
        None if silent => Err(no_answer()),
        found => Ok(found),
    }
}

async fn ask_one(fed: &Federation, service: &Registration, wanted: &Wanted<'_>) -> Said {
    let (kind, id) = (wanted.kind(), wanted.id());
    let (clock, denied) = (fed.store().clock(), &fed.asking().denied);
    let known = (service.id.clone(), id.to_owned());
    if let Some(at) = denied.get(&known)
        && clock.monotonic().saturating_sub(at) < DENIED
    {
        return Said::No;
    }
    let _turn = fed.asking().turn(&service.id).await;
    for tried in 1..=TRIES {
        let path = ["_matrix", "app", "v1", kind, id];
        let answer = fed
            .service_client()
            .get(service, &path, &[], (ANSWER, MOST));
        let why = match answer.await {
            Ok(answer) if answer.status == StatusCode::OK => return Said::Yes,
            Ok(answer) if answer.status == StatusCode::NOT_FOUND => {
                denied.insert(known, clock.monotonic());
                return Said::No;
            }
            Ok(answer) => format!("it answers {}", answer.status),
            // Who took that long once isn't waited for again.
            Err(CallError::Timeout) => break,
            Err(why) => why.to_string(),
        };
        tracing::info!(
            service = service.id,
            id,
            why,
            tried,
            "an application service doesn't say whether this is there"
        );
        if tried < TRIES {
            tokio::time::sleep(PAUSE * tried).await;
        }
    }
    Said::Nothing
}

/// What whoever asked us is told: the specification has this status for it.
fn no_answer() -> MatrixError {
    MatrixError::new(
        StatusCode::REQUEST_TIMEOUT,
        "M_UNKNOWN",
        "The application service that knows of this doesn't answer; try again later",
    )
}
