//! Rate limits of single users. Tools know one limit of a user's, or that there is none: the one is that of messages, and where
//! there is none there is none of what can be limited by user at all.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_storage::OwnLimit;
use ruma::UserId;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    App, Ruma,
    admin::{asked, endpoint::endpoints, subject},
    config::UserRates,
};

endpoints! {
    /// `GET`: a user's own limit.
    GetLimit: GET "/_synapse/admin/v1/users/{user_id}/override_ratelimit";
    /// `POST`: sets it.
    PostLimit: POST "/_synapse/admin/v1/users/{user_id}/override_ratelimit";
    /// `DELETE`: takes it away.
    DeleteLimit: DELETE "/_synapse/admin/v1/users/{user_id}/override_ratelimit";
}

/// Which of the limits is told.
const TOLD: &str = "message";
/// What stands for no limit at all: more than anybody does.
const BOUNDLESS: (f64, u32) = (1_000_000.0, 1_000_000);

#[derive(Deserialize)]
struct Limit {
    #[serde(default)]
    messages_per_second: u32,
    #[serde(default)]
    burst_count: u32,
}

/// `GET /_synapse/admin/v1/users/{userId}/override_ratelimit`
pub async fn get(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetLimit>>,
) -> Result<RawJson, MatrixError> {
    let (user_id, _) = subject::account(&app, req.part(0)).await?;
    RawJson::of(&shown(&app, &user_id))
}

/// `POST /_synapse/admin/v1/users/{userId}/override_ratelimit`
///
/// Both are 0 for no limit. Of one alone that is 0 there can be no limit, so it counts as 1.
pub async fn set(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<PostLimit>>,
) -> Result<RawJson, MatrixError> {
    let (user_id, _) = subject::living(&app, req.part(0)).await?;
    let wish: Limit = asked::body(&body)?;
    let (per_second, burst) = match (wish.messages_per_second, wish.burst_count) {
        (0, 0) => BOUNDLESS,
        (per_second, burst) => (f64::from(per_second.max(1)), burst.max(1)),
    };
    let limit = OwnLimit::new(per_second, burst);
    let limit = limit.ok_or_else(|| {
        MatrixError::invalid_param("A limit is at most a million messages per second")
    })?;
    let limits = if is_boundless(limit) {
        UserRates::NAMES.map(|kind| (kind, Some(limit))).to_vec()
    } else {
        let mut limits = boundless(&app, &user_id);
        limits.retain(|(kind, _)| *kind != TOLD);
        limits.push((TOLD, Some(limit)));
        limits
    };
    app.store.set_user_limits(&user_id, &limits).await?;
    tracing::info!(by = %who.user_id, user = %user_id, per_second, burst, "a limit was set");
    RawJson::of(&shown(&app, &user_id))
}

/// `DELETE /_synapse/admin/v1/users/{userId}/override_ratelimit`
pub async fn clear(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<DeleteLimit>>,
) -> Result<RawJson, MatrixError> {
    let (user_id, _) = subject::account(&app, req.part(0)).await?;
    let mut limits = boundless(&app, &user_id);
    limits.retain(|(kind, _)| *kind != TOLD);
    if app.store.user_limits().of(&user_id, TOLD).is_some() {
        limits.push((TOLD, None));
    }
    if !limits.is_empty() {
        app.store.set_user_limits(&user_id, &limits).await?;
        tracing::info!(by = %who.user_id, user = %user_id, "a limit was taken away");
    }
    RawJson::of(&json!({}))
}

fn is_boundless(limit: OwnLimit) -> bool {
    limit.per_second() >= BOUNDLESS.0 && limit.burst() >= BOUNDLESS.1
}

/// Those of the user's limits that are none, to be as usual.
fn boundless(app: &App, user_id: &UserId) -> Vec<(&'static str, Option<OwnLimit>)> {
    let own = app.store.user_limits();
    let mut none = Vec::new();
    for kind in UserRates::NAMES {
        if own.of(user_id, kind).is_some_and(is_boundless) {
            none.push((kind, None));
        }
    }
    none
}

/// The user's limit as it is told.
fn shown(app: &App, user_id: &UserId) -> Value {
    match app.store.user_limits().of(user_id, TOLD) {
        None => json!({}),
        Some(limit) if is_boundless(limit) => json!({ "messages_per_second": 0, "burst_count": 0 }),
        Some(limit) => json!({
            "messages_per_second": number(limit.per_second()),
            "burst_count": limit.burst(),
        }),
    }
}

/// A rate as tools take it, which know whole numbers alone: the next greater one, as nought would stand for no limit.
fn number(per_second: f64) -> Value {
    let whole = format!("{:.0}", per_second.ceil());
    whole.parse::<u32>().unwrap_or(u32::MAX).into()
}
