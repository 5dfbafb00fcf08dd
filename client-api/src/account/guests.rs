//! Guests (client-server API, "Guest Access"): accounts without a password, for who wants to look in. What they may use, the
//! table of endpoints says; where they may go, the rooms.

use std::net::IpAddr;

use rhizome_edge::MatrixError;
use rhizome_federation::{Federation, membership::leave, spaces};
use rhizome_protocol::{Membership, Object};
use rhizome_rooms::access::server_in_room;
use rhizome_storage::{
    EntryKind, Failure, Lease, LogWork, NewAccount, Pos, RoomNo, Store, Stretch, random,
};
use ruma::{OwnedUserId, RoomId, api::client::account::register::v3 as register};
use serde_json::Value;

use crate::{
    App, Caller,
    account::users,
    auth::{
        session::{Beginning, Session, SessionRequest},
        standing,
        token::authenticate,
    },
    limits::Kind,
};

/// The digits of a guest's name.
const NAME: usize = 18;
/// What a room says that lets guests in.
const CAN_JOIN: &str = "can_join";
/// Guests who are put out of a room together.
const TOGETHER: usize = 100;
/// Attempts at one stretch of the log.
const ATTEMPTS: u32 = 3;

/// Makes a guest's account and its only session. Of what the client says, nothing counts but its device's name.
///
/// # Errors
/// 403 `M_GUEST_ACCESS_FORBIDDEN` if there are no guests here, `M_LIMIT_EXCEEDED`.
pub(crate) async fn register(
    app: &App,
    req: register::Request,
    peer: Option<IpAddr>,
) -> Result<(OwnedUserId, Session), MatrixError> {
    if !app.config.guests {
        return Err(MatrixError::not_for_guests(
            "This server has no guest accounts",
        ));
    }
    let now = app.now_monotonic_ms();
    app.limits
        .take_from(Kind::Registration, peer, now)
        .map_err(MatrixError::limit_exceeded)?;
    let name = format!("guest-{}", random::letters(b"0123456789", NAME)?);
    let user_id = users::user_id(&app.config.server_name, &name)?;
    users::require_nobodys(app, &user_id)?;
    let request = SessionRequest {
        device_name: req.initial_device_display_name,
        is_guest: true,
        ..SessionRequest::default()
    };
    let Beginning { session, login } = Beginning::new(app, request, peer)?;
    let account = NewAccount {
        created_ms: app.store.clock().now_ms(),
        is_guest: true,
        ..NewAccount::default()
    };
    let made = app.store.create_account(&user_id, account, Some(login));
    match made.await? {
        Some(_) => Ok((user_id, session)),
        None => Err(users::in_use()),
    }
}

/// The guest whose account a registration makes one like others: the one whose token and name it has.
///
/// # Errors
/// `M_MISSING_PARAM` without a name, 403 `M_FORBIDDEN` if the token isn't that guest's; what every request of a locked or
/// suspended account is answered; as in a registration, if the name isn't one that the operator wants.
pub(crate) async fn upgrading(
    app: &App,
    token: &str,
    username: Option<&str>,
    peer: Option<IpAddr>,
) -> Result<Caller, MatrixError> {
    let username = username.ok_or_else(|| {
        MatrixError::missing_param("Whose guest account it is: name it as username")
    })?;
    let user_id = users::user_id(&app.config.server_name, username)?;
    let not_theirs =
        || MatrixError::forbidden("The guest_access_token isn't that of a guest of this name");
    let found = authenticate(app, token, peer).await;
    let guest = found.map_err(|error| {
        if error.errcode == "M_UNKNOWN_TOKEN" {
            not_theirs()
        } else {
            error
        }
    })?;
    if !guest.is_guest || guest.user_id != user_id {
        return Err(not_theirs());
    }
    if guest.is_suspended {
        return Err(standing::suspended());
    }
    users::require_permitted(app, &user_id)?;
    users::require_allowed(&app.store, &user_id).await?;
    Ok(guest)
}

/// Refuses guests who want to join a room that doesn't let them in. Of one that we aren't in, others are asked.
///
/// # Errors
/// 403 `M_GUEST_ACCESS_FORBIDDEN`
pub(crate) async fn require_open(
    app: &App,
    who: &Caller,
    room: &RoomId,
) -> Result<(), MatrixError> {
    if !who.is_guest || lets_guests_in(app, who, room).await? {
        return Ok(());
    }
    Err(MatrixError::not_for_guests(
        "The room doesn't let guests in",
    ))
}

async fn lets_guests_in(app: &App, who: &Caller, room: &RoomId) -> Result<bool, MatrixError> {
    if server_in_room(&app.store, room, &app.config.server_name).await? {
        let Some(no) = app.store.known_room(room).await? else {
            return Ok(false);
        };
        return Ok(is_open(&app.store, no).await?);
    }
    let fed = &app.federation;
    let via = spaces::whom_to_ask(fed, Some(&who.user_id), room, Vec::new()).await?;
    let told = spaces::theirs(fed, room, &via).await;
    Ok(
        told.is_some_and(|told| {
            told.entry.fields.get("guest_can_join") == Some(&Value::Bool(true))
        }),
    )
}

async fn is_open(store: &Store, room: RoomNo) -> rhizome_storage::Result<bool> {
    let summary = store.room_summary(room).await?;
    Ok(summary.guest_access.as_deref() == Some(CAN_JOIN))
}

/// Refuses guests who want to join by saying so in state.
///
/// # Errors
/// 403 `M_GUEST_ACCESS_FORBIDDEN`
pub(crate) async fn check_state(
    app: &App,
    who: &Caller,
    room: &RoomId,
    (kind, content): (&str, &Object),
) -> Result<(), MatrixError> {
    if kind == "m.room.member" && Membership::of(content) == Some(Membership::Join) {
        return require_open(app, who, room).await;
    }
    Ok(())
}

/// Puts guests of ours out of rooms that don't let guests in any more, as the work of a
/// [`LogReader`](rhizome_storage::LogReader).
pub struct PutOutGuests {
    federation: Federation,
}

impl PutOutGuests {
    /// Of all rooms.
    pub fn new(federation: &Federation) -> Self {
        Self {
            federation: federation.clone(),
        }
    }

    async fn put_out(&self, room: RoomNo) -> Result<(), MatrixError> {
        let store = self.federation.store();
        if is_open(store, room).await? {
            return Ok(());
        }
        let room_id = store.room_id(room).await?;
        loop {
            let guests = store.guests_in(room, TOGETHER).await?;
            let guests = store.users(&guests).await?;
            if guests.is_empty() {
                return Ok(());
            }
            for guest in &guests {
                // Boxed: what leaving takes is large, and seldom needed.
                Box::pin(leave::leave(&self.federation, guest, &room_id, None)).await?;
            }
        }
    }
}

impl LogWork for PutOutGuests {
    async fn begin(&self, _: &Lease, done: Pos) -> Result<Pos, Failure> {
        let head = self.federation.store().log().head();
        Ok(if done == Pos(0) { head } else { done })
    }

    async fn work(&self, stretch: &Stretch) -> Result<(), Failure> {
        if stretch.failures >= ATTEMPTS {
            tracing::warn!(after = %stretch.after, "guests stay in a room that doesn't let them in any more");
            return Ok(());
        }
        let store = self.federation.store();
        let key = store.known_key("m.room.guest_access", "").await?;
        for entry in &stretch.entries {
            if let EntryKind::State(state) = &entry.kind
                && Some(state.key) == key
            {
                self.put_out(state.room).await?;
            }
        }
        Ok(())
    }
}
