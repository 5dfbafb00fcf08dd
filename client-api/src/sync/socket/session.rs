//! What is known of a socket, once it is known whose it is.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{changes::Changes, end::End, face::Face};
use crate::{App, Caller, MatrixError, auth::token::authenticate};

/// What the parts of a socket's life share.
pub(super) struct Session {
    pub(super) app: App,
    pub(super) who: Caller,
    /// A lock that is held while a token is looked at, so that the old one isn't asked for when the new one has
    /// just made it invalid.
    token: tokio::sync::Mutex<String>,
    pub(super) changes: Changes,
    pub(super) heard: Heard,
}

impl Session {
    /// The session of whoever has this token.
    pub(super) fn new(app: App, who: Caller, token: String) -> Session {
        Session {
            app,
            who,
            token: token.into(),
            changes: Changes::default(),
            heard: Heard(Mutex::new(Some(Instant::now()))),
        }
    }

    /// Whether the token is still valid.
    pub(super) async fn check(&self) -> Result<(), End> {
        let token = self.token.lock().await;
        match authenticate(&self.app, &token, None).await {
            Ok(_) => Ok(()),
            Err(error) => Err(End::of(error)),
        }
    }

    /// Takes up what the client wants to be different, if anything.
    pub(super) async fn take_up(&self, face: &mut Face) -> Result<(), End> {
        if let Some((change, taken)) = self.changes.take() {
            let is_taken = Box::pin(face.change(change)).await.map_err(End::of)?;
            let _ = taken.send(is_taken);
        }
        Ok(())
    }

    /// Goes on with another token of the same device.
    pub(super) async fn renew(&self, token: String) -> Result<(), MatrixError> {
        let mut current = self.token.lock().await;
        let who = authenticate(&self.app, &token, None).await?;
        if (who.user, &who.device_id) != (self.who.user, &self.who.device_id) {
            return Err(MatrixError::forbidden("The token is another device's"));
        }
        *current = token;
        Ok(())
    }
}

/// When the other side was heard of last; `None` while we don't listen, as it has sent more than we can deal with.
pub(super) struct Heard(Mutex<Option<Instant>>);

impl Heard {
    pub(super) fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Says whether we listen.
    pub(super) fn listen(&self, listens: bool) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = listens.then(|| heard.unwrap_or_else(Instant::now));
    }

    pub(super) fn silent_for(&self) -> Duration {
        let heard = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.map_or(Duration::ZERO, |heard| heard.elapsed())
    }
}
