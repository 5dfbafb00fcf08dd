//! What is known of a socket, once it is known whose it is.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rhizome_storage::Syncing;
use tokio::time::Instant;

use super::{
    changes::Changes,
    end::{End, Open},
    face::{Changed, Face},
};
use crate::{App, Caller, MatrixError, auth::token::authenticate, place::token::Token};

/// What the parts of a socket's life share.
pub(super) struct Session {
    pub(super) app: App,
    /// The socket is counted until the last request has come to its end.
    _open: Open,
    /// Its device is there.
    _there: Syncing,
    pub(super) who: Caller,
    /// A lock that is held while a token is looked at, so that the old one isn't asked for when the new one has
    /// just made it invalid.
    token: tokio::sync::Mutex<String>,
    pub(super) changes: Changes,
    pub(super) heard: Heard,
    /// What the client has acknowledged last: once is enough.
    acknowledged: Mutex<Option<Token>>,
}

impl Session {
    /// The session of whoever has this token.
    pub(super) fn new(open: Open, there: Syncing, who: Caller, token: String) -> Session {
        Session {
            app: open.app().clone(),
            _open: open,
            _there: there,
            who,
            token: token.into(),
            changes: Changes::default(),
            heard: Heard(Mutex::new(Some(Instant::now()))),
            acknowledged: Mutex::default(),
        }
    }

    /// Whether a position says more than what was acknowledged last.
    pub(super) fn is_news(&self, token: &Token) -> bool {
        let last = self.acknowledged.lock();
        let last = last.unwrap_or_else(PoisonError::into_inner);
        last.as_ref().is_none_or(|last| {
            last.epoch != token.epoch
                || last.pos < token.pos
                || last.told_to_device() < token.told_to_device()
        })
    }

    /// Takes note of what is acknowledged.
    pub(super) fn acknowledged(&self, token: Token) {
        *self
            .acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(token);
    }

    /// Who the token stands for now: the operator may have made something else of them since the socket began.
    pub(super) async fn caller(&self) -> Result<Caller, MatrixError> {
        let token = self.token.lock().await;
        authenticate(&self.app, &token, None).await
    }

    /// Whether the token is still valid.
    pub(super) async fn check(&self) -> Result<(), End> {
        let token = self.token.lock().await;
        match authenticate(&self.app, &token, None).await {
            Ok(_) => Ok(()),
            Err(error) => Err(End::of(error)),
        }
    }

    /// Takes up what the client wants to be different, if anything; whether there may be something to tell then.
    pub(super) async fn take_up(&self, face: &mut Face) -> Result<bool, End> {
        let Some((change, taken)) = self.changes.take() else {
            return Ok(false);
        };
        let changed = Box::pin(face.change(change)).await.map_err(End::of)?;
        taken.tell(changed != Changed::Refused).await;
        Ok(changed == Changed::Much)
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
