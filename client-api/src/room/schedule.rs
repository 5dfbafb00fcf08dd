//! Scheduling events that are to be sent later
//! ([MSC4140](https://github.com/matrix-org/matrix-spec-proposals/pull/4140)), by the query of `/send` and `/state`, as
//! clients do today, and by the endpoint of its own that the proposal has by now.
//!
//! Whether the room takes the event is seen when it is sent; that it can be an event at all, when it is scheduled.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_protocol::{Object, canonical};
use rhizome_storage::{
    CommitError, DelayId, DelayedChange, DelayedStep, Fact, NewDelayed, TxnKey, millis,
};
use ruma::{OwnedRoomId, api::auth_scheme::AccessToken, metadata};
use serde_json::{Value, json};

use crate::{
    App, Caller, Ruma,
    account::presence::acts,
    auth::standing,
    content::{self, Beside},
    room::{notices, relating},
};

/// The parameter of a query that says how much later.
const DELAY: &str = "org.matrix.msc4140.delay=";
/// The longest type and state key, in bytes.
const MAX_STRING: usize = 255;
/// The most bytes of an event, …
const MAX_EVENT: usize = 65_536;
/// … of which so many at least are what the server says of it.
const OVERHEAD: usize = 200;

/// `PUT /_matrix/client/unstable/org.matrix.msc4140/rooms/{roomId}/delayed_event/{eventType}/{txnId}`
pub struct Put;
metadata! {
    @for Put,
    method: PUT,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.matrix.msc4140/rooms/{room_id}/delayed_event/{event_type}/{txn_id}",
}

/// `PUT …/rooms/{roomId}/delayed_event/{eventType}/{txnId}`
pub async fn put(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<Put>>,
) -> Result<RawJson, MatrixError> {
    let path = format!("delayed_event/{}/{}", req.part(0), req.part(1));
    let txn = content::txn_key(&who, path, req.part(2))?;
    if let Some(id) = app.store.delayed_by(&txn).await? {
        return answer(&id);
    }
    let mut body = content::parse(&body)?;
    let delay_ms = match body.get("delay_ms") {
        Some(delay) => positive(delay.as_i64())?,
        None => return Err(MatrixError::missing_param("delay_ms is missing")),
    };
    let state_key = match body.remove("state_key") {
        None => None,
        Some(Value::String(key)) => Some(key),
        Some(_) => return Err(MatrixError::bad_json("state_key must be a string")),
    };
    let content = match body.remove("content") {
        Some(Value::Object(content)) => content,
        Some(_) => return Err(MatrixError::bad_json("content must be an object")),
        None => return Err(MatrixError::missing_param("content is missing")),
    };
    let wish = Wish {
        txn: Some(txn),
        room_id: content::room_id(req.part(0))?,
        kind: req.part(1).to_owned(),
        state_key,
        content,
        delay_ms,
        sticky_ms: content::sticky_ms(req.query.as_deref())?,
    };
    answer(&schedule(&app, &who, wish).await?)
}

/// What is answered to who has scheduled an event.
pub fn answer(id: &DelayId) -> Result<RawJson, MatrixError> {
    RawJson::of(&json!({ "delay_id": id.expose() }))
}

/// In how many milliseconds an event is to be sent, if it is to be later.
pub fn delay_ms(query: Option<&str>) -> Result<Option<i64>, MatrixError> {
    let parts = query.unwrap_or_default().split('&');
    let Some(delay) = parts
        .filter_map(|part| part.strip_prefix(DELAY))
        .next_back()
    else {
        return Ok(None);
    };
    let digits = !delay.is_empty() && delay.bytes().all(|byte| byte.is_ascii_digit());
    // More than a number can be is too much.
    let delay = digits.then(|| delay.parse().unwrap_or(i64::MAX));
    positive(delay).map(Some)
}

/// What else a query says of an event that is sent later: for how long it is sticky then.
///
/// # Errors
/// 400 `M_INVALID_PARAM`, also if it says when the event was made: that is when it is sent.
pub fn beside(who: &Caller, query: Option<&str>) -> Result<Option<u32>, MatrixError> {
    let beside = Beside::read(who, query)?;
    if beside.origin_server_ts.is_some() {
        let message = "An event that is sent later is made then: there is no ts for it";
        return Err(MatrixError::invalid_param(message));
    }
    Ok(beside.sticky_ms)
}

fn positive(delay: Option<i64>) -> Result<i64, MatrixError> {
    delay.filter(|delay| *delay > 0).ok_or_else(|| {
        MatrixError::invalid_param("A delay is a number of milliseconds, at least 1")
    })
}

/// An event that `/send` or `/state` is asked to send later.
pub struct Asked<'a> {
    /// Room, type and transaction id.
    pub path: [&'a str; 3],
    /// The state key, if it is state: then there is no transaction.
    pub state_key: Option<&'a str>,
    /// In how many milliseconds.
    pub delay_ms: i64,
    /// For how many it is to be sticky.
    pub sticky_ms: Option<u32>,
}

/// Schedules an event as `/send` or `/state` ask for it.
pub async fn by_query(
    app: &App,
    who: &Caller,
    asked: Asked<'_>,
    body: &[u8],
) -> Result<DelayId, MatrixError> {
    let [room_id, kind, txn_id] = asked.path;
    let txn = if asked.state_key.is_none() {
        let path = format!("delayed/{room_id}/{kind}");
        Some(content::txn_key(who, path, txn_id)?)
    } else {
        None
    };
    // A repetition is answered whatever it says.
    if let Some(txn) = &txn
        && let Some(id) = app.store.delayed_by(txn).await?
    {
        return Ok(id);
    }
    let wish = Wish {
        txn,
        room_id: content::room_id(room_id)?,
        kind: kind.to_owned(),
        state_key: asked.state_key.map(str::to_owned),
        content: content::parse(body)?,
        delay_ms: asked.delay_ms,
        sticky_ms: asked.sticky_ms,
    };
    schedule(app, who, wish).await
}

/// An event to schedule.
struct Wish {
    txn: Option<TxnKey>,
    room_id: OwnedRoomId,
    kind: String,
    state_key: Option<String>,
    content: Object,
    delay_ms: i64,
    sticky_ms: Option<u32>,
}

async fn schedule(app: &App, who: &Caller, wish: Wish) -> Result<DelayId, MatrixError> {
    acts(app, who);
    if who.is_suspended {
        return Err(standing::suspended());
    }
    let limits = app.config.delayed;
    if limits.most == 0 {
        return Err(MatrixError::forbidden(
            "This server sends no events for later",
        ));
    }
    let max_delay = millis(limits.max_delay);
    if wish.delay_ms > max_delay {
        return Err(MatrixError::forbidden(format!(
            "An event may be delayed by {max_delay} milliseconds at most"
        )));
    }
    let content = checked(&wish)?;
    may_schedule(app, who, &wish).await?;
    let id = DelayId::random()?;
    let new = NewDelayed {
        txn: wish.txn,
        room_id: wish.room_id,
        kind: wish.kind,
        state_key: wish.state_key,
        content: content.into(),
        sticky_ms: wish.sticky_ms.map(i64::from),
        delay_ms: wish.delay_ms,
        now_ms: app.store.clock().now_ms(),
        most: limits.most,
    };
    let change = DelayedChange {
        user: who.user,
        id: id.clone(),
        step: DelayedStep::Scheduled(Box::new(new)),
    };
    match app.store.commit(vec![Fact::from(change)].into()).await {
        Ok(_) => Ok(id),
        Err(CommitError::DelayedTwice(first)) => Ok(first),
        Err(error @ CommitError::TooManyDelayed { .. }) => Err(too_many(app, &error)),
        Err(error) => Err(error.into()),
    }
}

/// What is refused at once of what the user couldn't send now either. What is said of the room's state is left for when
/// the event is sent.
async fn may_schedule(app: &App, who: &Caller, wish: &Wish) -> Result<(), MatrixError> {
    if wish.kind == "m.room.member"
        && let Some(key) = &wish.state_key
    {
        // Whether a room lets guests in may be another thing then.
        if who.is_guest {
            return Err(MatrixError::not_for_guests(
                "Guests' memberships can't be sent later",
            ));
        }
        let leaves = wish.content.get("membership") == Some(&"leave".into());
        if key.as_str() == who.user_id.as_str() && leaves {
            notices::may_leave(app, who, &wish.room_id).await?;
        }
    }
    let is_redaction = wish.kind == "m.room.redaction" && wish.state_key.is_none();
    if !is_redaction {
        let said = (&*wish.kind, &wish.content);
        relating::check(app, who, &wish.room_id, said, None).await?;
    }
    Ok(())
}

/// There is room again when the first is sent.
fn too_many(app: &App, error: &CommitError) -> MatrixError {
    let now = app.store.clock().now_ms();
    let wait = match error {
        CommitError::TooManyDelayed {
            first_ms: Some(first),
            ..
        } => u64::try_from(first.saturating_sub(now)).unwrap_or_default(),
        _ => 0,
    };
    MatrixError {
        message: error.to_string(),
        ..MatrixError::limit_exceeded(wait.max(1))
    }
}

/// The content's text, if it can be an event's. Signatures and what it refers to come on top of it: where these make an
/// event too large, it is seen when it is sent.
fn checked(wish: &Wish) -> Result<String, MatrixError> {
    let key = wish.state_key.as_deref();
    if wish.kind.len() > MAX_STRING || key.is_some_and(|key| key.len() > MAX_STRING) {
        return Err(MatrixError::too_large(format!(
            "An event's type and its state key may have {MAX_STRING} bytes"
        )));
    }
    if wish.kind == "m.room.create" {
        return Err(MatrixError::bad_json("A room is created once only"));
    }
    if wish.kind == "m.room.redaction" && key.is_none() {
        content::redacts(&wish.content)?;
    }
    let text = canonical::to_canonical(&wish.content)
        .map_err(|error| MatrixError::bad_json(error.to_string()))?;
    if text.len() + OVERHEAD > MAX_EVENT {
        return Err(MatrixError::too_large(format!(
            "An event may have {MAX_EVENT} bytes"
        )));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_a_positive_number() {
        let of = |text: &str| delay_ms(Some(&format!("a=b&{DELAY}{text}&c=d")));
        assert_eq!(delay_ms(None), Ok(None));
        assert_eq!(delay_ms(Some("delay=1")), Ok(None));
        assert_eq!(of("1"), Ok(Some(1)));
        assert_eq!(of("86400000"), Ok(Some(86_400_000)));
        assert_eq!(of("99999999999999999999999"), Ok(Some(i64::MAX)));
        for wrong in ["", "0", "-1", "1.5", "1e3", "x", "+1", "%31"] {
            assert_eq!(of(wrong).unwrap_err().errcode, "M_INVALID_PARAM", "{wrong}");
        }
    }
}
