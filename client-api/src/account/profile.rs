//! Profiles. A changed name or picture is told to every room that the user is in.

use axum::extract::State;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_federation::{local, query};
use rhizome_protocol::{Membership, Object, draft::Draft};
use rhizome_rooms::{membership::restricted::AUTHORISED_VIA, send::SendOptions};
use rhizome_storage::{MembershipRow, UserNo};
use ruma::{
    UserId,
    api::client::profile::{
        delete_profile_field::v3 as delete, get_profile::v3 as get,
        get_profile_field::v3 as get_field, set_profile_field::v3 as set_field,
    },
};
use serde_json::{Value, json};

use crate::{App, Caller, Ruma, content};

/// The longest display name, in bytes.
const MAX_NAME: usize = 1024;
/// The longest picture address, in bytes.
const MAX_AVATAR: usize = 1024;
/// The longest name of a field, in bytes
/// (<https://spec.matrix.org/v1.19/client-server-api/#profiles>).
const MAX_KEY: usize = 255;
/// How many rooms are told of a change at once.
const ROOMS_AT_ONCE: usize = 8;

/// `GET /_matrix/client/v3/profile/{userId}`
pub async fn get(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<get::Request>,
) -> Result<RawJson, MatrixError> {
    RawJson::of(&profile_of(&app, &req.user_id, None).await?)
}

/// `GET /_matrix/client/v3/profile/{userId}/{keyName}`
pub async fn get_field(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<get_field::Request>,
) -> Result<RawJson, MatrixError> {
    let field = req.field.as_str();
    let profile = profile_of(&app, &req.user_id, Some(field)).await?;
    let value = profile.get(field).filter(|value| !value.is_null());
    let value = value.ok_or_else(|| MatrixError::not_found("The profile has no such field"))?;
    RawJson::of(&json!({ field: value }))
}

/// `PUT /_matrix/client/v3/profile/{userId}/{keyName}`
///
/// An absent, empty or `null` name or picture is none, as deployed clients mean it.
pub async fn set_field(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<set_field::Request>>,
) -> Result<RawJson, MatrixError> {
    require_own(&who, req.part(0))?;
    let field = req.part(1);
    let mut body = content::parse(&body)?;
    let value = match (field, body.remove(field)) {
        ("displayname" | "avatar_url", None | Some(Value::Null)) => None,
        ("displayname" | "avatar_url", Some(Value::String(text))) if text.is_empty() => None,
        (_, None) => {
            return Err(MatrixError::missing_param(format!(
                "The body has no {field:?}"
            )));
        }
        (_, value) => value,
    };
    change(&app, &who, field, value).await
}

/// `DELETE /_matrix/client/v3/profile/{userId}/{keyName}`
pub async fn delete(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<delete::Request>,
) -> Result<RawJson, MatrixError> {
    require_own(&who, req.user_id.as_str())?;
    change(&app, &who, req.field.as_str(), None).await
}

fn require_own(who: &Caller, user_id: &str) -> Result<(), MatrixError> {
    if who.user_id == user_id {
        Ok(())
    } else {
        Err(MatrixError::forbidden(
            "You can't change the profile of somebody else",
        ))
    }
}

async fn profile_of(
    app: &App,
    user_id: &UserId,
    field: Option<&str>,
) -> Result<Object, MatrixError> {
    if user_id.server_name() != app.config.server_name {
        return query::profile(&app.federation, user_id, field).await;
    }
    let profile = app.store.profile(user_id).await?;
    profile.ok_or_else(|| MatrixError::not_found("There is no such user"))
}

async fn change(
    app: &App,
    who: &Caller,
    field: &str,
    value: Option<Value>,
) -> Result<RawJson, MatrixError> {
    check(field, value.as_ref())?;
    write(app, who.user, field, value).await?;
    if matches!(field, "displayname" | "avatar_url") {
        tell_rooms(app, &who.user_id, who.user).await?;
    }
    RawJson::of(&json!({}))
}

fn check(field: &str, value: Option<&Value>) -> Result<(), MatrixError> {
    if field.is_empty() || field.len() > MAX_KEY {
        return Err(MatrixError::new(
            StatusCode::BAD_REQUEST,
            "M_KEY_TOO_LARGE",
            format!("The name of a field has 1 to {MAX_KEY} bytes"),
        ));
    }
    let longest = match field {
        "displayname" => MAX_NAME,
        "avatar_url" => MAX_AVATAR,
        _ => return Ok(()),
    };
    match value {
        None => Ok(()),
        Some(Value::String(text)) if text.len() <= longest => Ok(()),
        Some(Value::String(_)) => Err(MatrixError::invalid_param(format!(
            "{field} must not be longer than {longest} bytes"
        ))),
        Some(_) => Err(MatrixError::bad_json(format!("{field} must be a string"))),
    }
}

async fn write(
    app: &App,
    user: UserNo,
    field: &str,
    value: Option<Value>,
) -> Result<(), MatrixError> {
    if app.store.set_profile_field(user, field, value).await? {
        return Ok(());
    }
    Err(MatrixError::new(
        StatusCode::BAD_REQUEST,
        "M_PROFILE_TOO_LARGE",
        "A profile must not be longer than 65,536 bytes",
    ))
}

/// Sets a field of a user who is in no room yet.
pub(crate) async fn store_field(
    app: &App,
    user_id: &UserId,
    field: &str,
    value: Option<Value>,
) -> Result<(), MatrixError> {
    check(field, value.as_ref())?;
    let user = app.store.user_no(user_id).await?;
    write(app, user, field, value).await
}

/// What a user's member events say of their profile: `displayname` and `avatar_url`.
pub(crate) async fn member_content(app: &App, user_id: &UserId) -> Result<Object, MatrixError> {
    let mut profile = app.store.profile(user_id).await?.unwrap_or_default();
    profile.retain(|key, _| matches!(key.as_str(), "displayname" | "avatar_url"));
    Ok(profile)
}

/// Renews the user's member event in every room that they are in, also in those that were missed
/// when an earlier change failed half-way.
async fn tell_rooms(app: &App, user_id: &UserId, user: UserNo) -> Result<(), MatrixError> {
    let profile = member_content(app, user_id).await?;
    let memberships = app.store.memberships_of(user).await?;
    let joined = memberships
        .iter()
        .filter(|row| row.membership == Membership::Join);
    stream::iter(joined.copied())
        .for_each_concurrent(ROOMS_AT_ONCE, |row| {
            let profile = &profile;
            async move {
                if let Err(error) = tell_room(app, user_id, row, profile).await {
                    tracing::warn!(room = %row.room, %error, "a room wasn't told of a new profile");
                }
            }
        })
        .await;
    Ok(())
}

async fn tell_room(
    app: &App,
    user_id: &UserId,
    row: MembershipRow,
    profile: &Object,
) -> Result<(), MatrixError> {
    let event = match row.event {
        Some(no) => app.store.event_by_no(no).await?,
        None => None,
    };
    let Some(event) = event else { return Ok(()) };
    let mut content = event.pdu.content().clone();
    // These belong to the one act of joining, not to the membership.
    content.remove(AUTHORISED_VIA);
    content.remove("reason");
    content.remove("displayname");
    content.remove("avatar_url");
    content.extend(profile.clone());
    let draft = Draft {
        room_id: Some(event.pdu.room_id().to_owned()),
        sender: user_id.to_owned(),
        kind: "m.room.member".into(),
        state_key: Some(user_id.to_string()),
        content,
        redacts: None,
    };
    local::send(&app.federation, draft, SendOptions::default()).await?;
    Ok(())
}
