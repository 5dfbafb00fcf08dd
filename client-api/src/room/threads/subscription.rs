//! A user's subscription to a thread: begun, asked for, ended.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{RawJson, Undecoded};
use rhizome_rooms::{
    access::{EventAccess, Verdict},
    thread,
};
use rhizome_storage::{Fact, Following, RoomNo, StoredEvent, SubscriptionChange};
use ruma::{EventId, OwnedEventId, api::auth_scheme::AccessToken, metadata};
use serde::Deserialize;
use serde_json::json;

use crate::{App, Caller, MatrixError, Ruma, content, view::reading::Reading};

/// What a mention that is in another thread, or in none, gets.
const NOT_IN_THREAD: &str = "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD";

/// `PUT /_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription`
pub struct Put;
metadata! {
    @for Put,
    method: PUT,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/io.element.msc4306/rooms/{room_id}/thread/{thread_root}/subscription",
}

/// `GET /_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription`
pub struct Get;
metadata! {
    @for Get,
    method: GET,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/io.element.msc4306/rooms/{room_id}/thread/{thread_root}/subscription",
}

/// `DELETE /_matrix/client/unstable/io.element.msc4306/rooms/{roomId}/thread/{eventId}/subscription`
pub struct Delete;
metadata! {
    @for Delete,
    method: DELETE,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/io.element.msc4306/rooms/{room_id}/thread/{thread_root}/subscription",
}

/// How a thread is followed.
#[derive(Deserialize)]
struct New {
    /// A client does it by itself, because of this event.
    automatic: Option<OwnedEventId>,
}

/// `PUT …/subscription`
pub async fn put(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<Put>>,
) -> Result<RawJson, MatrixError> {
    let thread = Thread::of(&app, &who, &req).await?;
    let new: New = serde_json::from_value(content::parse(&body)?.into())
        .map_err(|error| MatrixError::bad_json(error.to_string()))?;
    let wish = match &new.automatic {
        None => Following::Yes,
        Some(cause) => Following::Automatic(thread.cause(&app, cause).await?.pos()),
    };
    thread.change(&app, wish).await
}

/// `DELETE …/subscription`
pub async fn delete(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<Delete>>,
) -> Result<RawJson, MatrixError> {
    let thread = Thread::of(&app, &who, &req).await?;
    thread.change(&app, Following::No).await
}

/// `GET …/subscription`
pub async fn get(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<Get>>,
) -> Result<RawJson, MatrixError> {
    let thread = Thread::of(&app, &who, &req).await?;
    let (room, root) = (thread.room(), &thread.root);
    let stands = app.store.thread_subscription(who.user, room, root).await?;
    let stands = stands.filter(|stands| stands.subscribed);
    let stands = stands.ok_or_else(|| MatrixError::not_found("You don't follow this thread"))?;
    RawJson::of(&json!({ "automatic": stands.automatic }))
}

/// A thread that a user may read.
struct Thread {
    reading: Reading,
    root: OwnedEventId,
}

impl Thread {
    /// Whoever may not read it learns no more than of one that there isn't.
    async fn of<T>(app: &App, who: &Caller, asked: &Undecoded<T>) -> Result<Self, MatrixError> {
        let room_id = content::room_id(asked.part(0))?;
        let root = content::event_id(asked.part(1))?;
        let absent = || MatrixError::not_found("There is no such thread, or you may not see it");
        let reading = Reading::of(app, who, &room_id).await;
        let reading = reading.map_err(|error| match error.status {
            StatusCode::FORBIDDEN => absent(),
            _ => error,
        })?;
        let thread = Self { reading, root };
        let event = thread.visible(app, &thread.root).await?;
        event.map(|_| thread).ok_or_else(absent)
    }

    fn room(&self) -> RoomNo {
        self.reading.room.head.room
    }

    /// An event of the room, if the user may see it.
    async fn visible(
        &self,
        app: &App,
        event_id: &EventId,
    ) -> Result<Option<Arc<StoredEvent>>, MatrixError> {
        let event = app.store.event(event_id).await?;
        let event = event.filter(|event| event.room == self.room() && event.is_history());
        let Some(event) = event else {
            return Ok(None);
        };
        let user = &self.reading.viewer.user_id;
        let mut access = EventAccess::new(&app.store, user, self.reading.room.standing);
        access.load([&event]).await?;
        let shown = matches!(access.judge(&event), Verdict::Shown { .. });
        Ok(shown.then_some(event))
    }

    /// The event because of which a client subscribes by itself: one of the thread's, which its root isn't.
    async fn cause(&self, app: &App, cause: &EventId) -> Result<Arc<StoredEvent>, MatrixError> {
        let error = || {
            let message = "`automatic` is no event of this thread";
            MatrixError::new(StatusCode::BAD_REQUEST, NOT_IN_THREAD, message)
        };
        let event = self.visible(app, cause).await?;
        let event = event.filter(|_| cause != self.root).ok_or_else(error)?;
        let holds = thread::holds(&app.store, &event, self.root.as_str()).await?;
        holds.then_some(event).ok_or_else(error)
    }

    async fn change(self, app: &App, wish: Following) -> Result<RawJson, MatrixError> {
        let change = SubscriptionChange {
            user: self.reading.viewer.user,
            room: self.room(),
            thread: self.root,
            wish,
        };
        app.store.commit(vec![Fact::from(change)].into()).await?;
        RawJson::of(&json!({}))
    }
}
