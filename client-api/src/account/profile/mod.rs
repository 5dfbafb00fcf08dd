//! Profiles. A changed name or picture is told to every room that the user is in.

pub(crate) mod fields;
pub(crate) mod rooms;

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_federation::query;
use rhizome_protocol::Object;
use ruma::{
    UserId,
    api::client::profile::{
        delete_profile_field::v3 as delete, get_profile::v3 as get,
        get_profile_field::v3 as get_field, set_profile_field::v3 as set_field,
    },
};
use serde_json::{Value, json};

use crate::{App, Caller, Ruma, content};

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
    if who.is_guest && field != "displayname" {
        return Err(MatrixError::not_for_guests(
            "Guests have a name, and nothing else",
        ));
    }
    fields::write(app, who.user, field, value).await?;
    if matches!(field, "displayname" | "avatar_url") {
        rooms::tell(app, &who.user_id, who.user).await?;
    }
    RawJson::of(&json!({}))
}
