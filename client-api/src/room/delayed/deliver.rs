//! Sending a delayed event, as its user would send it now.

use http::StatusCode;
use rhizome_edge::MatrixError;
use rhizome_protocol::{Object, StateKey, canonical::parse_object};
use rhizome_rooms::send::{Delayed, SendOptions};
use rhizome_storage::{CommitError, DelayedChange, DelayedEvent, DelayedStep, Fact, TxnKey};
use ruma::{OwnedEventId, OwnedUserId, UserId};

use crate::{
    App,
    auth::{acting, shadow, standing},
    limits::Kind,
    room::{
        membership,
        send::{self, may_stick},
        state,
    },
};

/// Sends it. Its row says so from the same commit on, in which its transaction keeps it from being sent again.
///
/// # Errors
/// What sending it now would be refused for; 409 if it isn't scheduled any more, or for another time than `due_ms`.
pub(super) async fn deliver(
    app: &App,
    event: &DelayedEvent,
    due_ms: Option<i64>,
) -> Result<OwnedEventId, MatrixError> {
    let sender = app.store.user(event.user).await?;
    let account = app.store.account(&sender).await?;
    let Some(account) = account.filter(|account| !account.deactivated) else {
        return Err(MatrixError::forbidden("The account has been deactivated"));
    };
    if account.locked || account.suspended {
        return Err(standing::suspended());
    }
    if shadow::is_banned(app, &sender).await? {
        return Err(MatrixError::forbidden("The event can't be sent"));
    }
    let content = parse_object(event.content.as_bytes()).map_err(|_| MatrixError::internal())?;
    if invites_elsewhere(app, event, &content) {
        return invite(app, event, sender, content).await;
    }
    let sticky_ms = event.sticky_ms.and_then(|ms| u32::try_from(ms).ok());
    may_stick(app, event.user, &event.room_id, sticky_ms).await?;
    let options = SendOptions {
        txn: Some(TxnKey::of_delayed(event.user, event.id.expose())),
        sticky_ms,
        delayed: Some(Delayed {
            id: event.id.clone(),
            user: event.user,
            due_ms,
        }),
        ..SendOptions::default()
    };
    send_it(app, event, sender, content, options).await
}

async fn send_it(
    app: &App,
    event: &DelayedEvent,
    sender: OwnedUserId,
    content: Object,
    options: SendOptions,
) -> Result<OwnedEventId, MatrixError> {
    let (room_id, kind) = (event.room_id.clone(), event.kind.clone());
    match &event.state_key {
        None => send::event(app, sender, room_id, kind, content, options).await,
        Some(key) => {
            let key = StateKey::new(kind, key);
            state::event(
                app,
                acting::by(app, &sender),
                room_id,
                key,
                content,
                options,
            )
            .await
        }
    }
}

/// Takes from the user's bucket what sending the event costs, whoever asks for it.
///
/// # Errors
/// 429 `M_LIMIT_EXCEEDED`
pub(super) async fn take(app: &App, event: &DelayedEvent) -> Result<(), MatrixError> {
    let user = app.store.user(event.user).await?;
    let by = acting::by(app, &user);
    let taken = (app.limits).take_user(Kind::Message, by, app.now_monotonic_ms());
    taken.map_err(MatrixError::limit_exceeded)
}

/// Whether it invites a user of another server, who signs the event before it is stored.
fn invites_elsewhere(app: &App, event: &DelayedEvent, content: &Object) -> bool {
    let target = event.state_key.as_deref();
    let target = target.and_then(|key| <&UserId>::try_from(key).ok());
    membership::is_invite(&event.kind, content)
        && target.is_some_and(|target| target.server_name() != app.config.server_name)
}

/// What another server has signed is stored by itself, and that it was sent is written down afterwards. Was that cut off, the
/// invite stands in the room: it isn't sent again.
async fn invite(
    app: &App,
    event: &DelayedEvent,
    sender: OwnedUserId,
    content: Object,
) -> Result<OwnedEventId, MatrixError> {
    let event_id = match stands(app, event, &sender, &content).await? {
        Some(event_id) => event_id,
        None => send_it(app, event, sender, content, SendOptions::default())
            .await
            .map_err(not_ours)?,
    };
    is_sent(app, event, event_id.clone()).await?;
    Ok(event_id)
}

/// A conflict is ours alone to speak of: it says that the event isn't scheduled any more.
fn not_ours(error: MatrixError) -> MatrixError {
    match error.status {
        StatusCode::CONFLICT => MatrixError::bad_gateway(error.message),
        _ => error,
    }
}

async fn stands(
    app: &App,
    event: &DelayedEvent,
    sender: &UserId,
    content: &Object,
) -> Result<Option<OwnedEventId>, MatrixError> {
    let head = app.store.room(&event.room_id).await?;
    let Some(at) = head.and_then(|head| head.snapshot) else {
        return Ok(None);
    };
    let key = event.state_key.as_deref().unwrap_or_default();
    let stands = app.store.state_event(at, &event.kind, key).await?;
    let same = stands.filter(|one| one.pdu.sender() == sender && one.pdu.content() == content);
    Ok(same.map(|one| one.pdu.event_id().to_owned()))
}

/// Writes down that it is sent, where that doesn't stand there yet.
async fn is_sent(
    app: &App,
    event: &DelayedEvent,
    event_id: OwnedEventId,
) -> Result<(), MatrixError> {
    let step = DelayedStep::Sent {
        due_ms: None,
        event_id,
        now_ms: app.store.clock().now_ms(),
    };
    change(app, event, step).await.map(drop)
}

/// Something becomes of it; `false`: it isn't scheduled any more, or for another time.
pub(super) async fn change(
    app: &App,
    event: &DelayedEvent,
    step: DelayedStep,
) -> Result<bool, MatrixError> {
    let change = DelayedChange {
        user: event.user,
        id: event.id.clone(),
        step,
    };
    match app.store.commit(vec![Fact::from(change)].into()).await {
        Ok(_) => Ok(true),
        Err(CommitError::DelayedMoved(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
