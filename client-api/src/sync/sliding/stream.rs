//! A connection that a socket follows: one request after the other, of which the client sends only what differs.
//!
//! An answer is told, then nothing more until the client says that it has it: that is its next request. So what the
//! client has been told is known to be so, and whoever is cut off goes on from what it has.

use std::sync::Arc;

use super::{
    Sliding,
    request::{Asked, Shape},
};
use crate::{App, Caller, MatrixError, view::seen::Viewer};

/// What a client wants of a connection.
pub struct Wish(Asked);

impl Wish {
    /// Reads it from a frame, which has the fields of a request of MSC4186.
    pub fn read(text: &str, who: &Caller) -> Result<Self, MatrixError> {
        let asked = Asked::read(Shape::Stable, None, text.as_bytes(), who);
        asked.map(Self)
    }
}

/// A connection that a socket follows.
pub struct Stream {
    app: App,
    viewer: Viewer,
    asked: Arc<Asked>,
    /// The request that is to be answered; `None` while an answer isn't acknowledged.
    open: Option<Box<Sliding>>,
    /// The last answer.
    told: Option<Told>,
    /// The client is answered at once, also with nothing.
    owes: bool,
}

/// An answer that the client hasn't acknowledged yet.
struct Told {
    pos: String,
    /// Up to where it had messages for the device.
    mail: Option<String>,
    /// Whether it told of sticky events: up to where, its position says.
    sticky: bool,
}

impl Stream {
    /// Begins, or goes on from the wish's `pos`.
    pub async fn begin(app: App, who: &Caller, Wish(asked): Wish) -> Result<Self, MatrixError> {
        let mut stream = Self {
            app,
            viewer: Viewer::of(who),
            owes: asked.pos.is_none(),
            asked: Arc::new(asked),
            open: None,
            told: None,
        };
        stream.ask().await?;
        Ok(stream)
    }

    async fn ask(&mut self) -> Result<(), MatrixError> {
        let begun = Sliding::begin(self.app.clone(), self.viewer.clone(), self.asked.clone());
        let sliding = Box::pin(begun).await?;
        if let Some(acknowledging) = sliding.acknowledge().await? {
            acknowledging.done(&self.app).await;
        }
        self.open = Some(Box::new(sliding));
        Ok(())
    }

    /// Whether the client waits for an answer to what it has just asked.
    pub fn owes(&self) -> bool {
        self.owes && self.open.is_some()
    }

    /// The answer, if there is something to tell.
    pub async fn turn(&mut self, kind: &str) -> Result<Option<String>, MatrixError> {
        let Some(mut sliding) = self.open.take() else {
            return Ok(None);
        };
        let found = sliding.pass().await?;
        if !self.owes && found.is_empty() {
            sliding.go_on(&found);
            self.open = Some(sliding);
            return Ok(None);
        }
        self.owes = false;
        let (frame, pos) = sliding.tell_found(&found, Some(kind))?;
        self.told = Some(Told {
            pos,
            mail: found.extensions.mail_upto(),
            sticky: found.extensions.has_sticky(),
        });
        Ok(Some(frame))
    }

    /// Waits until there may be something new. To be called after a turn.
    pub async fn woken(&self) {
        match &self.open {
            Some(sliding) => sliding.interest.changed().await,
            None => std::future::pending().await,
        }
    }

    /// The client has the answer with this position: the next may follow. One that it had before says nothing new:
    /// `false`.
    pub async fn acknowledge(&mut self, pos: &str) -> Result<bool, MatrixError> {
        let Some(told) = self.told.take_if(|told| told.pos == pos) else {
            return Ok(false);
        };
        // Nobody else holds it: what was asked is answered.
        let asked = Arc::get_mut(&mut self.asked).ok_or_else(MatrixError::internal)?;
        asked.pos = Some(told.pos);
        if let (Some(to_device), Some(_)) = (&mut asked.extensions.to_device, &told.mail) {
            to_device.since = told.mail;
        }
        if let (Some(sticky), true) = (&mut asked.extensions.sticky, told.sticky) {
            sticky.since = None;
        }
        self.ask().await?;
        Ok(true)
    }

    /// Other lists, subscriptions and extensions from now on. The connection and its position stay.
    pub async fn change(&mut self, Wish(mut asked): Wish) -> Result<(), MatrixError> {
        asked.pos.clone_from(&self.asked.pos);
        asked.conn_id.clone_from(&self.asked.conn_id);
        let before = &self.asked.extensions;
        if let (Some(to_device), Some(before)) =
            (&mut asked.extensions.to_device, &before.to_device)
        {
            to_device.since = to_device.since.take().or_else(|| before.since.clone());
        }
        if let (Some(sticky), Some(before)) = (&mut asked.extensions.sticky, &before.sticky) {
            sticky.since = sticky.since.take().or_else(|| before.since.clone());
        }
        self.asked = Arc::new(asked);
        self.owes = true;
        if self.open.take().is_some() {
            self.ask().await?;
        }
        Ok(())
    }
}
