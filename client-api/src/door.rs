//! The client API behind the door: access tokens, and limits by user or address.

use bytes::Bytes;
use http::{HeaderMap, Request};
use rhizome_edge::{Api, Asked, Caller, Identity, Proof};
use tokio_util::task::TaskTracker;

use crate::{
    App, MatrixError,
    auth::{
        standing,
        token::{authenticate, authenticate_locked, token_of},
    },
    e2ee::backup,
    limits::Kind,
    media::resumable,
};

impl Api for App {
    type Kind = Kind;
    /// A token says all that there is to know.
    type Claim = Identity;
    const CROSS_ORIGIN: bool = true;

    /// What the specification calls rate-limited is [`Kind::Other`].
    fn usual_kind(rate_limited: bool) -> Kind {
        if rate_limited {
            Kind::Other
        } else {
            Kind::Free
        }
    }

    fn max_body(&self, kind: Kind) -> usize {
        match kind {
            Kind::Backup => self.config.max_body_bytes.max(backup::MAX_BODY),
            Kind::Upload => {
                let most = self.files.media.config().max_upload_size;
                usize::try_from(most).unwrap_or(usize::MAX)
            }
            _ => self.config.max_body_bytes,
        }
    }

    fn options(&self, path: &str) -> HeaderMap {
        resumable::options(self, path)
    }

    fn unfinished(&self) -> &TaskTracker {
        &self.unfinished
    }

    async fn admit(&self, asked: Asked<Kind>, head: &Request<()>) -> Result<Identity, MatrixError> {
        let token = match asked.proof {
            // There are no application services yet: where only theirs may authenticate, nobody does.
            Proof::Nothing | Proof::Service | Proof::ServiceIfAny | Proof::Server => None,
            Proof::User | Proof::UserIfAny | Proof::Administrator => match token_of(head) {
                Err(_) if is_for_all(asked) => None,
                token => token?,
            },
        };
        let identity = match token {
            Some(token) => match found(self, &token, asked).await {
                Err(error) if is_for_all(asked) && error.errcode == "M_UNKNOWN_TOKEN" => {
                    Identity::Nobody
                }
                user => self.identity(asked, user?).await?,
            },
            None if asked.proof == Proof::User => return Err(MatrixError::missing_token()),
            None => Identity::Nobody,
        };
        if !asked.guests && identity.user().is_some_and(|user| user.is_guest) {
            return Err(MatrixError::not_for_guests("Guests may not do this"));
        }
        if !asked.suspended && identity.user().is_some_and(|user| user.is_suspended) {
            return Err(standing::suspended());
        }
        let now = self.now_monotonic_ms();
        match identity.user() {
            Some(user) => self.limits.take_user(asked.kind, &user.user_id, now),
            None => self.limits.take_from(asked.kind, asked.peer, now),
        }
        .map_err(MatrixError::limit_exceeded)?;
        Ok(identity)
    }

    async fn identify(
        &self,
        _: Asked<Kind>,
        identity: Identity,
        _: &Request<Bytes>,
    ) -> Result<Identity, MatrixError> {
        Ok(identity)
    }
}

impl App {
    /// Who a user is. Whether they administer the server is looked up only where that matters.
    async fn identity(&self, asked: Asked<Kind>, user: Caller) -> Result<Identity, MatrixError> {
        if asked.proof != Proof::Administrator {
            return Ok(Identity::User(user));
        }
        let account = self.store.account(&user.user_id).await?;
        let administers = account.is_some_and(|account| account.admin && !account.deactivated);
        Ok(if administers {
            Identity::Administrator(user)
        } else {
            Identity::User(user)
        })
    }
}

async fn found(app: &App, token: &str, asked: Asked<Kind>) -> Result<Caller, MatrixError> {
    if asked.locked {
        authenticate_locked(app, token, asked.peer).await
    } else {
        authenticate(app, token, asked.peer).await
    }
}

/// Whether it is a download as it was once, which asks nobody who they are: who has a token that doesn't hold gets what
/// who has none gets.
fn is_for_all(asked: Asked<Kind>) -> bool {
    asked.proof == Proof::UserIfAny && asked.kind == Kind::Download
}
