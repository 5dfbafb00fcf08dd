//! Tags of rooms: entries of the account data `m.tag`, each set by itself
//! (<https://spec.matrix.org/v1.19/client-server-api/#room-tagging>).

use std::sync::Arc;

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_protocol::Object;
use rhizome_storage::{AccountData, CommitError, DataChange, Fact, Pos, RoomNo, UserNo};
use ruma::{
    UserId,
    api::client::tag::{create_tag, delete_tag, get_tags},
};
use serde_json::{Value, json};

use crate::{
    App, Caller, Ruma,
    account::data::{own, room_of},
    account_data::{self, MAX_BYTES},
    content,
};

/// The type of account data that holds them.
pub(crate) const KIND: &str = "m.tag";
/// The longest name, in bytes.
const MAX_NAME: usize = 255;
/// Attempts at one change while others change the same.
const ATTEMPTS: usize = 10;

/// `GET /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags`
pub async fn list(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<get_tags::v3::Request>>,
) -> Result<RawJson, MatrixError> {
    let room = which(&app, &who, req.part(0), req.part(1)).await?;
    let data = app.store.account_data(who.user, Some(room), KIND).await?;
    let tags = data.map(|data| tags_of(&mut read(&data)));
    RawJson::of(&json!({ "tags": tags.unwrap_or_default() }))
}

/// `PUT /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`
pub async fn put(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<create_tag::v3::Request>>,
) -> Result<RawJson, MatrixError> {
    let room = which(&app, &who, req.part(0), req.part(1)).await?;
    let tag = req.part(2);
    if tag.len() > MAX_NAME {
        return Err(MatrixError::invalid_param(format!(
            "The name of a tag has at most {MAX_NAME} bytes"
        )));
    }
    let info = info(&body)?;
    change(&app, who.user, room, |tags| {
        tags.insert(tag.to_owned(), Value::Object(info.clone())) != Some(info.clone().into())
    })
    .await?;
    RawJson::of(&json!({}))
}

/// `DELETE /_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}`
///
/// That there is none of that name is fine.
pub async fn delete(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<delete_tag::v3::Request>>,
) -> Result<RawJson, MatrixError> {
    let room = which(&app, &who, req.part(0), req.part(1)).await?;
    change(&app, who.user, room, |tags| {
        tags.remove(req.part(2)).is_some()
    })
    .await?;
    RawJson::of(&json!({}))
}

async fn which(app: &App, who: &Caller, user: &str, room: &str) -> Result<RoomNo, MatrixError> {
    let user = UserId::parse(user)
        .map_err(|error| MatrixError::invalid_param(format!("user id: {error}")))?;
    own(who, &user)?;
    room_of(app, who, &content::room_id(room)?).await
}

/// What a client says of a tag.
fn info(body: &[u8]) -> Result<Object, MatrixError> {
    let info: Object =
        serde_json::from_slice(body).map_err(|error| MatrixError::of_json(&error))?;
    let order = info.get("order").map(Value::as_f64);
    if order.is_some_and(|order| order.is_none_or(|order| !(0.0..=1.0).contains(&order))) {
        return Err(MatrixError::invalid_param(
            "order must be a number between 0 and 1",
        ));
    }
    Ok(info)
}

/// Tags a user's room.
pub(crate) async fn add(
    app: &App,
    user: UserNo,
    room: RoomNo,
    tag: &str,
) -> Result<(), MatrixError> {
    change(app, user, room, |tags| {
        let lacks = !tags.get(tag).is_some_and(Value::is_object);
        if lacks {
            tags.insert(tag.to_owned(), json!({}));
        }
        lacks
    })
    .await
}

/// Changes the tags as they are, whoever else changes them meanwhile. `change` says whether it changed any.
async fn change(
    app: &App,
    user: UserNo,
    room: RoomNo,
    mut change: impl FnMut(&mut Object) -> bool,
) -> Result<(), MatrixError> {
    for _ in 0..ATTEMPTS {
        let data = app.store.account_data(user, Some(room), KIND).await?;
        let mut content = data.as_ref().map(|data| read(data)).unwrap_or_default();
        let mut tags = tags_of(&mut content);
        if !change(&mut tags) {
            return Ok(());
        }
        content.insert("tags".into(), Value::Object(tags));
        let text = Value::Object(content).to_string();
        if text.len() > MAX_BYTES {
            return Err(MatrixError::too_large(format!(
                "The tags of a room have at most {MAX_BYTES} bytes"
            )));
        }
        if set(
            app,
            user,
            room,
            text.into(),
            data.map_or(Pos(0), |data| data.pos),
        )
        .await?
        {
            return Ok(());
        }
    }
    Err(MatrixError::limit_exceeded(100))
}

/// `false`: somebody else has changed them.
async fn set(
    app: &App,
    user: UserNo,
    room: RoomNo,
    content: Arc<str>,
    known: Pos,
) -> Result<bool, MatrixError> {
    let fact = Fact::AccountData(DataChange {
        data: AccountData {
            user,
            room: Some(room),
            kind: KIND.to_owned(),
            content,
        },
        expect: Some(known),
    });
    match app.store.commit(vec![fact].into()).await {
        Ok(_) => Ok(true),
        Err(CommitError::DataMoved { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The account data; it can't be anything but an object, unless a client set it so.
fn read(data: &AccountData) -> Object {
    if !account_data::stands(data) {
        return Object::new();
    }
    serde_json::from_str(&data.content).unwrap_or_default()
}

/// Takes the tags out of the account data. What is no object was never tags.
fn tags_of(content: &mut Object) -> Object {
    match content.remove("tags") {
        Some(Value::Object(tags)) => tags,
        _ => Object::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_between_0_and_1() {
        for fine in [r"{}", r#"{"order":0}"#, r#"{"order":1.0,"x":[]}"#] {
            assert!(info(fine.as_bytes()).is_ok(), "{fine}");
        }
        for (wrong, errcode) in [
            (r#"{"order":"0.5"}"#, "M_INVALID_PARAM"),
            (r#"{"order":null}"#, "M_INVALID_PARAM"),
            (r#"{"order":-0.1}"#, "M_INVALID_PARAM"),
            (r#"{"order":1.1}"#, "M_INVALID_PARAM"),
            ("[]", "M_BAD_JSON"),
            ("", "M_NOT_JSON"),
        ] {
            assert_eq!(
                info(wrong.as_bytes()).unwrap_err().errcode,
                errcode,
                "{wrong}"
            );
        }
    }
}
