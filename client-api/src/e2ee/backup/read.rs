//! Keys are read from a backup: page by page, so that no answer is in memory as a whole.

use axum::extract::State;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::HeaderValue;
use rhizome_edge::{Content, RawJson};
use rhizome_storage::{Backup, Store, StoredSession};
use ruma::api::client::backup::{
    get_backup_keys, get_backup_keys_for_room, get_backup_keys_for_session,
};

use super::find;
use crate::{App, MatrixError, Ruma, view::json::Json};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// `GET /_matrix/client/v3/room_keys/keys`
pub async fn rooms(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<get_backup_keys::v3::Request>,
) -> Result<Content, MatrixError> {
    let backup = find(&app, who.user, &req.version).await?;
    Pages::new(&app, backup, None).answer().await
}

/// `GET /_matrix/client/v3/room_keys/keys/{roomId}`
pub async fn room(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<get_backup_keys_for_room::v3::Request>,
) -> Result<Content, MatrixError> {
    let backup = find(&app, who.user, &req.version).await?;
    let room = Some(req.room_id.to_string());
    Pages::new(&app, backup, room).answer().await
}

/// `GET /_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}`
pub async fn session(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<get_backup_keys_for_session::v3::Request>,
) -> Result<RawJson, MatrixError> {
    let backup = find(&app, who.user, &req.version).await?;
    let found = app
        .store
        .backup_session(&backup, req.room_id.as_str(), &req.session_id);
    let absent = || MatrixError::not_found("There is no key of this session");
    let mut json = Json::default();
    key(&mut json, &found.await?.ok_or_else(absent)?);
    Ok(RawJson::from_text(json.finish()))
}

/// An answer in the making.
struct Pages {
    store: Store,
    backup: Backup,
    /// The room that it is about.
    room: Option<String>,
    json: Json,
    /// The last session that was written.
    last: Option<StoredSession>,
    ended: bool,
}

impl Pages {
    fn new(app: &App, backup: Backup, room: Option<String>) -> Self {
        let mut json = Json::default();
        let name = if room.is_some() { "sessions" } else { "rooms" };
        json.open().key(name).open();
        Self {
            store: app.store.clone(),
            backup,
            room,
            json,
            last: None,
            ended: false,
        }
    }

    async fn answer(mut self) -> Result<Content, MatrixError> {
        let first = self.next().await?;
        if self.ended {
            return Ok(Content::of_bytes(JSON, first));
        }
        let rest = stream::try_unfold(self, async |mut pages| {
            if pages.ended {
                return Ok::<_, MatrixError>(None);
            }
            let next = pages.next().await?;
            // What was taken away meanwhile isn't there to be read: better none of it than a part.
            if pages.ended && !pages.store.has_backup(&pages.backup).await? {
                return Err(MatrixError::not_found("The backup was deleted"));
            }
            Ok(Some((next, pages)))
        });
        let first = stream::once(std::future::ready(Ok(first)));
        Ok(Content::streamed(JSON, None, first.chain(rest)))
    }

    /// The next bytes.
    async fn next(&mut self) -> Result<Bytes, MatrixError> {
        let (room, last) = (self.room.as_deref(), self.last.as_ref());
        let page = self.store.backup_page(&self.backup, room, last).await?;
        for session in page.sessions {
            if self.room.is_none() {
                self.enter(&session.room_id);
            }
            self.json.key(&session.session_id);
            key(&mut self.json, &session);
            self.last = Some(session);
        }
        if !page.more {
            self.ended = true;
            self.leave();
            self.json.close().close();
        }
        Ok(self.json.take().into())
    }

    /// From here on it is about this room.
    fn enter(&mut self, room_id: &str) {
        if self
            .last
            .as_ref()
            .is_some_and(|last| last.room_id == room_id)
        {
            return;
        }
        self.leave();
        self.json.key(room_id).open().key("sessions").open();
    }

    /// Closes the room that it was about.
    fn leave(&mut self) {
        if self.room.is_none() && self.last.is_some() {
            self.json.close().close();
        }
    }
}

/// A key as the specification has it.
fn key(json: &mut Json, session: &StoredSession) {
    json.open()
        .key("first_message_index")
        .number(session.first_message_index)
        .key("forwarded_count")
        .number(session.forwarded_count)
        .key("is_verified")
        .boolean(session.is_verified)
        .key("session_data")
        .raw(&session.session_data)
        .close();
}
