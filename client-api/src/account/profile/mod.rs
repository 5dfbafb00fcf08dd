//! Profiles. A changed name or picture is told to the rooms that the user is in, after the answer ([`tell`]).

pub(crate) mod fields;
mod propagation;
pub(crate) mod remote;
pub(crate) mod rooms;
pub mod tell;

use std::sync::Arc;

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_federation::services;
use rhizome_protocol::Object;
use ruma::{
    UserId,
    api::client::profile::{
        delete_profile_field::v3 as delete, get_profile::v3 as get,
        get_profile_field::v3 as get_field, set_profile_field::v3 as set_field,
    },
};
use serde_json::{Value, json};

use self::propagation::Propagation;
use crate::{App, Caller, Ruma, content};

/// `GET /_matrix/client/v3/profile/{userId}`
pub async fn get(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<get::Request>,
) -> Result<RawJson, MatrixError> {
    RawJson::of(&*profile_of(&app, &req.user_id).await?)
}

/// `GET /_matrix/client/v3/profile/{userId}/{keyName}`
pub async fn get_field(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<get_field::Request>,
) -> Result<RawJson, MatrixError> {
    let field = req.field.as_str();
    let profile = profile_of(&app, &req.user_id).await?;
    // A name or picture that is null is none; other fields may be null.
    let none = |value: &&Value| value.is_null() && matches!(field, "displayname" | "avatar_url");
    let value = profile.get(field).filter(|value| !none(value));
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
    let propagation = Propagation::of(req.query.as_deref())?;
    change(&app, &who, (field, value), propagation).await
}

/// `DELETE /_matrix/client/v3/profile/{userId}/{keyName}`
pub async fn delete(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<delete::Request>>,
) -> Result<RawJson, MatrixError> {
    require_own(&who, req.part(0))?;
    let propagation = Propagation::of(req.query.as_deref())?;
    change(&app, &who, (req.part(1), None), propagation).await
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

async fn profile_of(app: &App, user_id: &UserId) -> Result<Arc<Object>, MatrixError> {
    if user_id.server_name() != app.config.server_name {
        return remote::profile(app, user_id).await;
    }
    let mut profile = app.store.profile(user_id).await?;
    if profile.is_none() && services::user(&app.federation, user_id, None).await? {
        profile = app.store.profile(user_id).await?;
    }
    let profile = profile.ok_or_else(|| MatrixError::not_found("There is no such user"))?;
    Ok(Arc::new(profile))
}

async fn change(
    app: &App,
    who: &Caller,
    (field, value): (&str, Option<Value>),
    propagation: Propagation,
) -> Result<RawJson, MatrixError> {
    if !app.config.profile_fields.allow(field) {
        return Err(MatrixError::forbidden(format!(
            "This server doesn't let users change {field:?}"
        )));
    }
    if who.is_guest && field != "displayname" {
        return Err(MatrixError::not_for_guests(
            "Guests have a name, and nothing else",
        ));
    }
    if matches!(field, "displayname" | "avatar_url") {
        fields::spread(app, who.user, field, value, propagation.rooms()).await?;
    } else {
        fields::write(app, who.user, field, value).await?;
    }
    RawJson::of(&json!({}))
}
