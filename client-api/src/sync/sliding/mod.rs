//! Sliding sync ([MSC4186]): windows on the user's rooms, in the order of their last activity.
//!
//! One pass is like that of `/sync`, with two more things: which rooms are wanted ([`lists`], [`wants`]), and what the
//! client has been told of each ([`connection`]). Rooms are read by the same loader ([`room`]); both forms in which
//! clients ask ([`request`]) are answered by the same engine ([`pass`], [`write`]).
//!
//! [MSC4186]: https://github.com/matrix-org/matrix-spec-proposals/pull/4186

mod connection;
mod extensions;
mod lists;
mod pass;
mod request;
mod room;
mod stream;
mod wants;
mod write;

use std::sync::Arc;

pub use self::stream::{Stream, Wish};
use axum::extract::State;
use rhizome_edge::{RawJson, Undecoded};
use rhizome_storage::{Interest, Pos, UserNo};
use ruma::{OwnedDeviceId, api::auth_scheme::AccessToken, metadata};
use tokio::time::Instant;

use self::{
    connection::{Connection, Connections, Memory, Position, ProfilesPos},
    lists::AllRooms,
    pass::Found,
    request::{Asked, Shape},
};
use super::{delivery, lazy::LazyMembers, to_device};
use crate::{
    App, Caller, MatrixError, Ruma,
    figures::OneOf,
    place::token::{Token, position},
    view::seen::Viewer,
};

/// `POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync`: what clients use today.
pub struct Unstable;
metadata! {
    @for Unstable,
    method: POST,
    rate_limited: false,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync",
}

/// `POST /_matrix/client/v4/sync`
pub struct Stable;
metadata! {
    @for Stable,
    method: POST,
    rate_limited: false,
    authentication: AccessToken,
    path: "/_matrix/client/v4/sync",
}

/// What outlives a request.
#[derive(Debug, Default)]
pub struct Shared {
    connections: Connections,
    rooms: AllRooms,
    /// What connections have been told of members.
    lazy: LazyMembers,
    /// Whose profiles they have been told.
    profiles: LazyMembers,
}

/// `POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync`
pub fn unstable(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<Unstable>>,
) -> impl Future<Output = Result<RawJson, MatrixError>> + Send {
    let asked = Asked::read(Shape::Unstable, req.query.as_deref(), &body, &who);
    answer(app, who, asked)
}

/// `POST /_matrix/client/v4/sync`
pub fn stable(
    State(app): State<App>,
    Ruma { who, body, .. }: Ruma<Undecoded<Stable>>,
) -> impl Future<Output = Result<RawJson, MatrixError>> + Send {
    let asked = Asked::read(Shape::Stable, None, &body, &who);
    answer(app, who, asked)
}

async fn answer(
    app: App,
    who: Caller,
    asked: Result<Asked, MatrixError>,
) -> Result<RawJson, MatrixError> {
    let (viewer, asked) = (Viewer::of(&who), asked?);
    let there = (app.store).syncs(viewer.user, &viewer.device_id, asked.presence);
    let _there = Box::pin(there).await?;
    let sliding = Box::pin(Sliding::begin(app, viewer, Arc::new(asked))).await?;
    Ok(RawJson(sliding.answer().await?.into()))
}

/// A request that is being answered.
struct Sliding {
    app: App,
    viewer: Viewer,
    asked: Arc<Asked>,
    connection: Arc<Connection>,
    memory: Memory,
    /// Up to where the client was told what it wanted.
    since: Option<Token>,
    /// Up to where it was told of profiles, if it ever asked.
    profiles: Option<ProfilesPos>,
    interest: Interest,
}

impl Sliding {
    async fn begin(app: App, viewer: Viewer, asked: Arc<Asked>) -> Result<Self, MatrixError> {
        let connections = &app.sync.sliding.connections;
        let (since, profiles, (connection, memory)) = match &asked.pos {
            None => {
                let begun = connections.begin(&app, &viewer, &asked.conn_id)?;
                (None, None, begun)
            }
            Some(pos) => {
                let at = Position::read(&app.store, pos).await?;
                let known = connections
                    .go_on(&app, &viewer, &asked.conn_id, &at)
                    .await?;
                (Some(at.token), at.profiles, known)
            }
        };
        let begun = Self {
            interest: app.store.log().interest(viewer.user),
            app,
            viewer,
            asked,
            connection,
            memory,
            since,
            profiles,
        };
        if begun.asked.extensions.profiles().is_some() {
            begun.interest.follow_profiles();
        }
        if let Some(since) = &begun.since {
            // What later answers told of members hasn't arrived: the client goes on from here.
            let shared = &begun.app.sync.sliding;
            shared.lazy.forget_after(&begun.device(), since.pos);
            if let Some(told) = &begun.profiles {
                shared.profiles.go_on(&begun.device(), told.answers);
            }
            begun.delivered(since.pos).await;
        }
        Ok(begun)
    }

    /// The client has what it was told up to its position: those who chat with its user may hear of it.
    async fn delivered(&self, upto: Pos) {
        let of = || delivery::OfConnection {
            connection: self.connection.no,
            rooms: self.memory.rooms(),
            fresh: self.memory.confirmed.clone(),
        };
        if let Err(error) = delivery::got_of(&self.app, &self.viewer, upto, of).await {
            tracing::warn!(%error, "whether a user tells what has reached their devices isn't known");
        }
    }

    /// Under which name members are remembered that were told.
    fn device(&self) -> (UserNo, OwnedDeviceId) {
        (self.viewer.user, format!("{:x}", self.connection.no).into())
    }

    /// The answer, as soon as there is something to tell, or when the time is over.
    async fn answer(mut self) -> Result<String, MatrixError> {
        let deadline = Instant::now() + self.asked.timeout;
        let acknowledging = self.acknowledge().await?;
        self.app.store.log().refresh().await?;
        let found = self.wait(deadline).await;
        if let Some(acknowledging) = acknowledging {
            acknowledging.done(&self.app).await;
        }
        let (answer, _) = self.tell_found(&found?, None)?;
        Ok(answer)
    }

    /// Writes the answer, or, with `kind`, a frame; and the position after it, which the connection knows from now on.
    fn tell_found(
        self,
        found: &Found,
        kind: Option<&str>,
    ) -> Result<(String, String), MatrixError> {
        let version = self
            .connection
            .told(&self.app, self.memory, found.settled.clone())?;
        let pos = Position {
            token: found.next.clone(),
            connection: self.connection.no,
            version,
            profiles: found.profiles,
        };
        let (pos, now_ms) = (pos.to_string(), self.app.store.clock().now_ms());
        let answer = write::answer(found, &self.asked, &self.viewer, (kind, &pos), now_ms);
        Ok((answer, pos))
    }

    /// Goes on from a pass of which the client needn't be told.
    fn go_on(&mut self, found: &Found) {
        self.since = Some(found.next.clone());
        self.profiles = found.profiles;
    }

    async fn wait(&mut self, deadline: Instant) -> Result<Found, MatrixError> {
        let begins = self.since.is_none();
        loop {
            // Boxed, so that a reader who waits doesn't hold the room that a pass needs.
            let found = Box::pin(self.pass()).await?;
            let stopping = self.app.shutdown.is_cancelled();
            if begins || !found.is_empty() || Instant::now() >= deadline || stopping {
                return Ok(found);
            }
            self.go_on(&found);
            let interest = &self.interest;
            let _waits = OneOf::new(&self.app.counts.sliding_polls);
            tokio::select! {
                () = interest.changed() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(found),
                () = self.app.shutdown.cancelled() => return Ok(found),
            }
        }
    }

    /// Deletes the messages for the device that the client says it has got.
    async fn acknowledge(&self) -> Result<Option<to_device::Acknowledging>, MatrixError> {
        let asked = self.asked.extensions.to_device();
        let Some(since) = asked.and_then(|asked| asked.since.as_deref()) else {
            return Ok(None);
        };
        let Some(token) = position(&self.app.store, since).await? else {
            return Ok(None);
        };
        Ok(to_device::acknowledge(&self.app, &self.viewer, &token).await)
    }
}
