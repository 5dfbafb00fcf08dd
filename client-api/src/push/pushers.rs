//! Pushers: by which a user's notifications are told (client-server API, "Push Notifications").

use std::{sync::Arc, time::Duration};

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{Body, Content, RawJson, Undecoded};
use rhizome_push::{Device, PusherError, UnifiedPush};
use rhizome_storage::{
    Fact, Logged, Pusher, PusherActivated, PusherChange, PusherGone, PusherKey, WriteSet, millis,
    random,
};
use ruma::{
    api::{
        auth_scheme::{AccessToken, NoAccessToken},
        client::push::{get_pushers, set_pusher},
    },
    metadata,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq as _;

use super::{
    channels::{Channels, WEB_PUSH},
    mail_pushers::{self, EMAIL},
};
use crate::{App, Caller, MatrixError, Ruma};

/// A user has so many pushers at most.
const MOST: usize = 100;
/// The most bytes of a name that a client gives.
const MAX_NAME: usize = 255;
/// How long a new Web Push pusher has to say that it is there.
const ACK_TIME: Duration = Duration::from_mins(5);
/// The name of [MSC3881](https://github.com/matrix-org/matrix-spec-proposals/pull/3881)'s switch.
const ENABLED: &str = "org.matrix.msc3881.enabled";
const DEVICE: &str = "org.matrix.msc3881.device_id";

/// `GET /_matrix/client/v3/pushers`
pub async fn list(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<get_pushers::v3::Request>,
) -> Result<RawJson, MatrixError> {
    let pushers = app.store.pushers(who.user).await?;
    let pushers: Vec<Value> = pushers.iter().map(told).collect();
    RawJson::of(&json!({ "pushers": pushers }))
}

/// `POST /_matrix/client/v3/pushers/set`
pub async fn set(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Body<set_pusher::v3::Request, Map<String, Value>>>,
) -> Result<Content, MatrixError> {
    let body = Wish(&req.body);
    let key = PusherKey {
        user: who.user,
        app_id: body.required("app_id")?.to_owned(),
        pushkey: body.required("pushkey")?.to_owned(),
    };
    let (fact, status): (Fact, _) = match req.body.get("kind") {
        None => return Err(MatrixError::missing_param("kind is missing")),
        Some(Value::Null) => (PusherGone(key).into(), StatusCode::OK),
        Some(Value::String(kind)) => {
            who.require_own()?;
            let change = change(&app, &who, key, kind, &body).await?;
            let waits = change.pusher.ack.is_some();
            let status = if waits && kind == WEB_PUSH {
                StatusCode::CREATED
            } else {
                StatusCode::OK
            };
            (change.into(), status)
        }
        Some(_) => return Err(MatrixError::bad_json("kind must be a string or null")),
    };
    app.store.commit(WriteSet::from(vec![fact])).await?;
    Ok(Content::json(status, &json!({})))
}

/// `GET /_matrix/push/v1/notify`
pub struct FindGateway;
metadata! {
    @for FindGateway,
    method: GET,
    rate_limited: false,
    authentication: NoAccessToken,
    path: "/_matrix/push/v1/notify",
}

/// Tells apps that this server is a gateway to endpoints of [UnifiedPush](https://unifiedpush.org), for pushers of its
/// own users: they need no other.
pub async fn find_gateway(
    State(app): State<App>,
    Ruma { .. }: Ruma<Undecoded<FindGateway>>,
) -> Result<RawJson, MatrixError> {
    if app.config.channels.has_unified_push() {
        return Ok(RawJson::from_text(UnifiedPush::DISCOVERY));
    }
    Err(MatrixError::unrecognized())
}

/// `POST /_matrix/client/v3/pushers/ack`
pub struct AckPusher;
metadata! {
    @for AckPusher,
    method: POST,
    rate_limited: false,
    authentication: AccessToken,
    path: "/_matrix/client/v3/pushers/ack",
}

/// What a client has got by Web Push.
#[derive(Deserialize)]
pub struct Ack {
    pub(super) app_id: String,
    pub(super) ack_token: String,
}

/// `POST /_matrix/client/v3/pushers/ack`
pub async fn ack(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Body<AckPusher, Ack>>,
) -> Result<RawJson, MatrixError> {
    let pushers = app.store.pushers(who.user).await?;
    let activated = waits_for(&pushers, &req.body, app.store.clock().now_ms())?;
    let activated = Fact::from(activated);
    app.store.commit(WriteSet::from(vec![activated])).await?;
    RawJson::of(&json!({}))
}

/// Which pusher waits for a token.
pub(super) fn waits_for(
    pushers: &[Arc<Logged<Pusher>>],
    given: &Ack,
    now_ms: i64,
) -> Result<PusherActivated, MatrixError> {
    let bad = |errcode, message| MatrixError::new(StatusCode::BAD_REQUEST, errcode, message);
    let of_app = |pusher: &&Arc<Logged<Pusher>>| pusher.app_id == given.app_id;
    let of_app: Vec<_> = pushers.iter().filter(of_app).collect();
    if of_app.is_empty() {
        return Err(MatrixError::not_found("There is no pusher of this app"));
    }
    let token = given.ack_token.as_bytes();
    let is_its = |ack: &String| bool::from(ack.as_bytes().ct_eq(token));
    let mut waiting = of_app.into_iter();
    let pusher = waiting.find(|pusher| pusher.ack.as_ref().is_some_and(is_its));
    let Some(pusher) = pusher else {
        let message = "No pusher waits for this token";
        return Err(bad("M_UNKNOWN_ACTIVATION_TOKEN", message));
    };
    if pusher.ack_until_ms.is_none_or(|until| now_ms >= until) {
        let message = "The token's time is over: set the pusher again";
        return Err(bad("M_EXPIRED_ACTIVATION_TOKEN", message));
    }
    Ok(PusherActivated {
        key: pusher.key(),
        ack: given.ack_token.clone(),
    })
}

/// What a pusher is to be.
async fn change(
    app: &App,
    who: &Caller,
    key: PusherKey,
    kind: &str,
    body: &Wish<'_>,
) -> Result<PusherChange, MatrixError> {
    let data = match body.0.get("data") {
        None => return Err(MatrixError::missing_param("data is missing")),
        Some(Value::Object(data)) => data,
        Some(_) => return Err(MatrixError::bad_json("data must be an object")),
    };
    let device = Device {
        app_id: key.app_id.clone(),
        pushkey: key.pushkey.clone(),
        pushkey_ts: 0,
        data: data.clone(),
        tweaks: Map::new(),
    };
    if kind == EMAIL {
        mail_pushers::address(&key.app_id, &key.pushkey)?;
    } else {
        check(&app.config.channels, kind, &device)?;
    }
    let known = app.store.pushers(who.user).await?;
    let before = known.iter().find(|known| known.key() == key);
    if before.is_none() && known.len() >= MOST {
        let message = format!("There may be {MOST} pushers at most");
        return Err(MatrixError::invalid_param(message));
    }
    let enabled = body.flag(ENABLED)?.or(body.flag("enabled")?);
    let device_id = match &who.device_id {
        Some(device) => Some(device.clone()),
        None => before.and_then(|before| before.device.clone()),
    };
    let (ack, ack_until_ms) = match kind {
        WEB_PUSH => acknowledged(app, before.map(|before| &**before), data)?,
        EMAIL => mail_pushers::asked(app, who, &key, &known)?,
        _ => (None, None),
    };
    Ok(PusherChange {
        pusher: Pusher {
            user: key.user,
            app_id: key.app_id,
            pushkey: key.pushkey,
            device: device_id,
            kind: kind.to_owned(),
            // A client that knows nothing of the switch leaves it as it is.
            enabled: enabled.unwrap_or_else(|| before.is_none_or(|before| before.enabled)),
            app_name: body.required("app_display_name")?.to_owned(),
            device_name: body.required("device_display_name")?.to_owned(),
            profile_tag: body.text("profile_tag")?.map(str::to_owned),
            lang: body.required("lang")?.to_owned(),
            data: serde_json::to_string(data).map_err(|_| MatrixError::internal())?,
            set_ms: app.store.clock().now_ms(),
            ack,
            ack_until_ms,
        },
        // Nobody ends another's mails by naming their address.
        append: kind == EMAIL || body.flag("append")?.unwrap_or(false),
    })
}

/// By which, and until when, a Web Push pusher has to say that it is there: not again if it has and is the same.
fn acknowledged(
    app: &App,
    before: Option<&Logged<Pusher>>,
    data: &Map<String, Value>,
) -> Result<(Option<String>, Option<i64>), MatrixError> {
    let is_same = before
        .filter(|before| before.kind == WEB_PUSH)
        .is_some_and(|before| {
            let known: Map<String, Value> = serde_json::from_str(&before.data).unwrap_or_default();
            before.ack.is_none()
                && ["url", "auth"]
                    .iter()
                    .all(|key| known.get(*key) == data.get(*key))
        });
    if is_same {
        return Ok((None, None));
    }
    let until = app.store.clock().now_ms().saturating_add(millis(ACK_TIME));
    Ok((Some(random::hex::<16>()?), Some(until)))
}

/// Whether something can be told a pusher like this.
fn check(channels: &Channels, kind: &str, device: &Device) -> Result<(), MatrixError> {
    let Some(channel) = channels.of(kind, device) else {
        let message = format!("There are no pushers of the kind {kind:?} for this app here");
        return Err(MatrixError::invalid_param(message));
    };
    channel.check(device).map_err(|error: PusherError| {
        MatrixError::new(StatusCode::BAD_REQUEST, error.errcode(), error.to_string())
    })
}

/// A pusher as clients know it.
pub(crate) fn told(pusher: &Arc<Logged<Pusher>>) -> Value {
    let data: Value = serde_json::from_str(&pusher.data).unwrap_or_else(|_| json!({}));
    let mut told = json!({
        "app_id": pusher.app_id,
        "pushkey": pusher.pushkey,
        "kind": pusher.kind,
        "app_display_name": pusher.app_name,
        "device_display_name": pusher.device_name,
        "lang": pusher.lang,
        "data": data,
        ENABLED: pusher.enabled,
    });
    if matches!(&*pusher.kind, WEB_PUSH | EMAIL) {
        told["activated"] = json!(pusher.ack.is_none());
    }
    if let Some(tag) = &pusher.profile_tag {
        told["profile_tag"] = json!(tag);
    }
    if let Some(device) = &pusher.device {
        told[DEVICE] = json!(device.as_str());
    }
    told
}

/// What a client says of a pusher.
struct Wish<'a>(&'a Map<String, Value>);

impl Wish<'_> {
    fn required(&self, field: &str) -> Result<&str, MatrixError> {
        let text = self.text(field)?;
        text.ok_or_else(|| MatrixError::missing_param(format!("{field} is missing")))
    }

    fn text(&self, field: &str) -> Result<Option<&str>, MatrixError> {
        // What names a pusher has bounds of its own.
        let most = if matches!(field, "app_id" | "pushkey") {
            4_096
        } else {
            MAX_NAME
        };
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.len() <= most => Ok(Some(text)),
            Some(Value::String(_)) => {
                let message = format!("{field} must not have more than {most} bytes");
                Err(MatrixError::invalid_param(message))
            }
            Some(_) => Err(MatrixError::bad_json(format!("{field} must be a string"))),
        }
    }

    fn flag(&self, field: &str) -> Result<Option<bool>, MatrixError> {
        match self.0.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(MatrixError::bad_json(format!("{field} must be a boolean"))),
        }
    }
}
