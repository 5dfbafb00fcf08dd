//! Managing a delayed event: it is sent now, cancelled, or has to wait anew.

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_storage::{DelayId, DelayedEvent, DelayedStep};
use ruma::{api::auth_scheme::AccessTokenOptional, metadata};
use serde_json::json;

use super::deliver::{change, deliver, take};
use crate::{App, Ruma, content};

/// `POST /_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}/{action}`
pub struct Act;
metadata! {
    @for Act,
    method: POST,
    rate_limited: true,
    authentication: AccessTokenOptional,
    path: "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}/{action}",
}

/// `POST /_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}`: as it was in an earlier version of the
/// proposal, which clients still have.
pub struct ActByBody;
metadata! {
    @for ActByBody,
    method: POST,
    rate_limited: true,
    authentication: AccessTokenOptional,
    path: "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{delay_id}",
}

/// What can be done with a delayed event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Send,
    Cancel,
    Restart,
}

impl Action {
    fn named(name: &str) -> Option<Self> {
        match name {
            "send" => Some(Self::Send),
            "cancel" => Some(Self::Cancel),
            "restart" => Some(Self::Restart),
            _ => None,
        }
    }

    /// What is said of an event that is over; `None`: it isn't.
    fn after(self, event: &DelayedEvent) -> Option<Result<(), MatrixError>> {
        let sent = event.end.as_ref()?.event_id.is_some();
        let conflict = |message| MatrixError::new(StatusCode::CONFLICT, "M_UNKNOWN", message);
        Some(match self {
            Self::Send if sent => Ok(()),
            Self::Cancel if !sent => Ok(()),
            _ if sent => Err(conflict("The delayed event has been sent already")),
            _ => Err(conflict("The delayed event has been cancelled already")),
        })
    }
}

/// `POST …/delayed_events/{delay_id}/{action}`
pub async fn act(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<Act>>,
) -> Result<RawJson, MatrixError> {
    let action = Action::named(req.part(1)).ok_or_else(MatrixError::unrecognized)?;
    done(&app, req.part(0), action).await
}

/// `POST …/delayed_events/{delay_id}`
pub async fn act_by_body(
    State(app): State<App>,
    Ruma { req, body, .. }: Ruma<Undecoded<ActByBody>>,
) -> Result<RawJson, MatrixError> {
    let body = content::parse(&body)?;
    let action = match body.get("action") {
        None => return Err(MatrixError::missing_param("action is missing")),
        Some(action) => action.as_str().and_then(Action::named),
    };
    let action = action.ok_or_else(|| {
        MatrixError::invalid_param("action must be one of send, cancel and restart")
    })?;
    done(&app, req.part(0), action).await
}

async fn done(app: &App, delay_id: &str, action: Action) -> Result<RawJson, MatrixError> {
    let id = DelayId::of(delay_id);
    let event = scheduled(app, &id).await?;
    if let Some(said) = action.after(&event) {
        return said.and_then(|()| nothing());
    }
    let now_ms = app.store.clock().now_ms();
    let moved = match action {
        Action::Send => {
            take(app, &event).await?;
            match deliver(app, &event, None).await {
                Ok(_) => false,
                Err(error) if error.status == StatusCode::CONFLICT => true,
                Err(error) => return Err(error),
            }
        }
        Action::Cancel => !change(app, &event, DelayedStep::Cancelled { now_ms }).await?,
        Action::Restart => {
            let delay_ms = event.delay_ms;
            !change(app, &event, DelayedStep::Restarted { delay_ms, now_ms }).await?
        }
    };
    if !moved {
        return nothing();
    }
    // It was over before we came to it.
    let event = scheduled(app, &id).await?;
    let said = action.after(&event);
    said.unwrap_or_else(|| Err(MatrixError::busy()))?;
    nothing()
}

fn nothing() -> Result<RawJson, MatrixError> {
    RawJson::of(&json!({}))
}

async fn scheduled(app: &App, id: &DelayId) -> Result<DelayedEvent, MatrixError> {
    let found = app.store.delayed_event(id).await?;
    found.ok_or_else(|| MatrixError::not_found("There is no such delayed event"))
}
