//! Dehydrated devices
//! ([MSC3814](https://github.com/matrix-org/matrix-spec-proposals/pull/3814)): a device that a client leaves behind
//! for whoever logs in when there is no other. Whether to believe it is for clients to say.

use axum::extract::{Query, State};
use bytes::Bytes;
use http::Uri;
use rhizome_edge::{Binary, Body, MatrixError, RawJson, Undecoded};
use rhizome_protocol::canonical::parse_object;
use rhizome_storage::{DehydratedDevice, Dehydration, NewDehydrated, Pos, UserNo};
use ruma::{DeviceId, OwnedDeviceId, api::auth_scheme::AccessToken, metadata};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::upload::{Keys, fallback_keys, one_time_keys, read_device};
use crate::{App, Ruma, auth::session, view::json::Json};

/// The most bytes of what it takes to rehydrate a device: its keys, some of which it has a hundred of.
const MAX_DATA: usize = 128 << 10;
/// The most messages that an answer holds.
const MOST_MESSAGES: usize = 100;

/// `PUT /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
pub struct Put;
metadata! {
    @for Put,
    method: PUT,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device",
}

/// `GET /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
pub struct Get;
metadata! {
    @for Get,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device",
}

/// `DELETE /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device`
pub struct Delete;
metadata! {
    @for Delete,
    method: DELETE,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device",
}

/// `POST /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events`: what clients use.
pub struct PostEvents;
metadata! {
    @for PostEvents,
    method: POST,
    rate_limited: false,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events",
}

/// `GET /_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events`: what the proposal has
/// come to.
pub struct GetEvents;
metadata! {
    @for GetEvents,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device/{device_id}/events",
}

/// A device to be stored.
#[derive(Deserialize)]
pub struct NewDevice {
    device_id: OwnedDeviceId,
    device_data: Box<RawValue>,
    initial_device_display_name: Option<String>,
    device_keys: Box<RawValue>,
    one_time_keys: Option<Keys>,
    fallback_keys: Option<Keys>,
}

/// `PUT …/dehydrated_device`
pub async fn put(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Body<Put, NewDevice>>,
) -> Result<RawJson, MatrixError> {
    who.require_own()?;
    let new = req.body;
    let device = session::device_id(Some(new.device_id))?;
    session::check_no_key(&app, who.user, &device).await?;
    if let Some(name) = &new.initial_device_display_name {
        session::check_device_name(name)?;
    }
    check_data(&new.device_data)?;
    let keys = read_device(&new.device_keys, &who.user_id, &device)?;
    let signer = keys.ed25519.as_ref();
    let signer = signer.map(|key| (&*who.user_id, &*device, key));
    let new = NewDehydrated {
        user: who.user,
        by: who.device_id.clone(),
        name: new.initial_device_display_name,
        keys: keys.json.into(),
        one_time: one_time_keys(&new.one_time_keys.unwrap_or_default(), signer).await?,
        fallback: fallback_keys(&new.fallback_keys.unwrap_or_default(), signer).await?,
        device: DehydratedDevice {
            device: device.clone(),
            data: new.device_data.get().into(),
        },
    };
    match app.store.dehydrate(&new).await? {
        Dehydration::Done => RawJson::of(&json!({ "device_id": device })),
        // Who deletes it would not be asked for a password.
        Dehydration::IdTaken => Err(MatrixError::invalid_param(
            "One of your devices has this id already",
        )),
        Dehydration::Ended => Err(MatrixError::unknown_token(false)),
    }
}

fn check_data(data: &RawValue) -> Result<(), MatrixError> {
    let data = data.get();
    if data.len() > MAX_DATA {
        return Err(MatrixError::too_large(format!(
            "`device_data` has at most {MAX_DATA} bytes"
        )));
    }
    let object = parse_object(data.as_bytes())
        .map_err(|error| MatrixError::bad_json(format!("device_data: {error}")))?;
    if !object.get("algorithm").is_some_and(Value::is_string) {
        let message = "device_data: `algorithm` must be text";
        return Err(MatrixError::bad_json(message));
    }
    Ok(())
}

/// `GET …/dehydrated_device`
pub async fn get(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<Undecoded<Get>>,
) -> Result<RawJson, MatrixError> {
    let found = app.store.dehydrated_device(who.user).await?;
    let found = found.ok_or_else(absent)?;
    let mut json = Json::default();
    json.open().key("device_id").string(found.device.as_str());
    json.key("device_data").raw(&found.data).close();
    Ok(RawJson::from_text(json.finish()))
}

/// `DELETE …/dehydrated_device`
pub async fn delete(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<Undecoded<Delete>>,
) -> Result<RawJson, MatrixError> {
    let deleted = app.store.delete_dehydrated(who.user).await?;
    let device = deleted.ok_or_else(absent)?;
    RawJson::of(&json!({ "device_id": device }))
}

fn absent() -> MatrixError {
    MatrixError::not_found("There is no dehydrated device")
}

#[derive(Deserialize, Default)]
struct From {
    next_batch: Option<String>,
}

#[derive(Deserialize)]
struct Asked {
    // What clients say, beside what the proposal says.
    #[serde(alias = "from")]
    next_batch: Option<String>,
    limit: Option<usize>,
}

impl Asked {
    fn of(uri: &Uri) -> Result<Self, MatrixError> {
        let asked = Query::try_from_uri(uri);
        let asked = asked.map_err(|error| MatrixError::invalid_param(error.to_string()))?;
        Ok(asked.0)
    }
}

/// `POST …/dehydrated_device/{device_id}/events`
pub async fn post_events(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Binary<PostEvents>>,
) -> Result<RawJson, MatrixError> {
    let mut asked = Asked::of(&req.head.parts.uri)?;
    let From { next_batch } = from(&body)?;
    asked.next_batch = next_batch;
    let device = req.head.path.first().map_or("", String::as_str);
    events(&app, who.user, device.into(), &asked, true).await
}

/// `GET …/dehydrated_device/{device_id}/events`
pub async fn get_events(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Binary<GetEvents>>,
) -> Result<RawJson, MatrixError> {
    let asked = Asked::of(&req.head.parts.uri)?;
    let device = req.head.path.first().map_or("", String::as_str);
    events(&app, who.user, device.into(), &asked, false).await
}

fn from(body: &Bytes) -> Result<From, MatrixError> {
    if body.is_empty() {
        return Ok(From::default());
    }
    serde_json::from_slice(body).map_err(|error| MatrixError::of_json(&error))
}

/// Messages for the dehydrated device. They stay until it goes: who rehydrates it may break off, and another begins
/// again. Clients that POST ask on until there are none; those that GET, as long as there is a `next_batch`: with
/// `always`, there is one even if there are no more.
async fn events(
    app: &App,
    user: UserNo,
    device: &DeviceId,
    asked: &Asked,
    always: bool,
) -> Result<RawJson, MatrixError> {
    let after = asked.next_batch.as_deref().map_or(Ok(Pos(0)), position)?;
    let found = app.store.dehydrated_device(user).await?;
    if found.is_none_or(|found| found.device != device) {
        let message = "This isn't your dehydrated device";
        return Err(MatrixError::forbidden(message));
    }
    let limit = asked.limit.unwrap_or(MOST_MESSAGES);
    let limit = limit.clamp(1, MOST_MESSAGES);
    let upto = app.store.log().refresh().await?;
    let messages = app.store.to_device(user, device, after, upto, limit);
    let messages = messages.await?;
    let (next, more) = match messages.last() {
        Some(last) if messages.len() == limit => (last.pos, true),
        _ => (after.max(upto), false),
    };
    let mut json = Json::default();
    json.open().key("events").open_list();
    for message in &messages {
        json.open().key("type").string(&message.kind);
        json.key("sender").string(message.sender.as_str());
        json.key("content").raw(&message.content).close();
    }
    json.close_list();
    if more || always {
        json.key("next_batch").string(&format!("d{next}"));
    }
    json.close();
    Ok(RawJson::from_text(json.finish()))
}

/// The position of a `next_batch`.
fn position(token: &str) -> Result<Pos, MatrixError> {
    let number = token.strip_prefix('d').and_then(|pos| pos.parse().ok());
    let number = number.filter(|number: &i64| *number >= 0);
    number
        .map(Pos)
        .ok_or_else(|| MatrixError::invalid_param("`next_batch` is none of ours"))
}
