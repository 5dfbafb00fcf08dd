//! The client API behind the door: access tokens, and limits by user or address.

use bytes::Bytes;
use http::{HeaderMap, Request};
use rhizome_edge::{Api, Asked, Caller, Identity, Proof, Shown};
use tokio_util::task::TaskTracker;

use crate::{
    App, MatrixError,
    auth::{
        acting, standing,
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
        let identity = self.identity(asked, head).await?;
        let is_for_administrators = asked.proof == Proof::Administrator;
        if !is_for_administrators {
            require_welcome(asked, identity.user())?;
        }
        self.count(asked, &identity)
            .map_err(MatrixError::limit_exceeded)?;
        if is_for_administrators && !matches!(identity, Identity::Administrator(_)) {
            // Before anything of the body is read.
            return Err(MatrixError::forbidden(
                "You are not an administrator of this server",
            ));
        }
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
    /// Who it is, by their token.
    async fn identity(
        &self,
        asked: Asked<Kind>,
        head: &Request<()>,
    ) -> Result<Identity, MatrixError> {
        let token = match asked.proof {
            Proof::Nothing | Proof::Server => return Ok(Identity::Nobody),
            // Whatever else somebody shows isn't asked for here.
            Proof::ServiceIfAny => {
                let token = token_of(head).ok().flatten();
                return Ok(Identity::Shown(acting::shown(self, token.as_deref())));
            }
            Proof::User | Proof::UserIfAny | Proof::Administrator | Proof::Service => {
                match token_of(head) {
                    Err(_) if is_for_all(asked) => None,
                    token => token?,
                }
            }
        };
        let Some(token) = token else {
            return match asked.proof {
                Proof::User | Proof::Administrator => Err(MatrixError::missing_token()),
                _ => Ok(Identity::Nobody),
            };
        };
        if let Some(service) = acting::service_of(self, &token) {
            let query = head.uri().query();
            // Boxed: few requests are of services.
            let service = Box::pin(acting::act(self, &service, asked, query)).await?;
            return Ok(Identity::Service(service));
        }
        match found(self, &token, asked).await {
            Err(error) if is_for_all(asked) && error.errcode == "M_UNKNOWN_TOKEN" => {
                Ok(Identity::Nobody)
            }
            user => self.user(asked, user?).await,
        }
    }

    /// Who a user is. Whether they administer the server is looked up only where that matters.
    async fn user(&self, asked: Asked<Kind>, user: Caller) -> Result<Identity, MatrixError> {
        if asked.proof != Proof::Administrator {
            return Ok(Identity::User(user));
        }
        let account = self.store.account(&user.user_id).await?;
        let administers = !user.is_guest
            && account
                .is_some_and(|account| account.admin && !account.deactivated && !account.suspended);
        Ok(if administers {
            Identity::Administrator(user)
        } else {
            Identity::User(user)
        })
    }

    /// Counts a request; when there are too many, the milliseconds after which to try again.
    fn count(&self, asked: Asked<Kind>, identity: &Identity) -> Result<(), u64> {
        let now = self.now_monotonic_ms();
        if let Some(user) = identity.user() {
            return self.limits.take_user(asked.kind, user, now);
        }
        match identity {
            // Services share an address with others, and with each other; they register many, and try no secrets.
            Identity::Shown(Shown::Service(id)) => {
                match self.federation.services().current().by_id(id) {
                    Some(service) if service.rate_limited => {
                        self.limits.take(Kind::Other, ("service", id), now)
                    }
                    _ => Ok(()),
                }
            }
            _ => self.limits.take_from(asked.kind, asked.peer, now),
        }
    }
}

/// Whether guests, and who is suspended, may ask.
fn require_welcome(asked: Asked<Kind>, user: Option<&Caller>) -> Result<(), MatrixError> {
    if !asked.guests && user.is_some_and(|user| user.is_guest) {
        return Err(MatrixError::not_for_guests("Guests may not do this"));
    }
    if !asked.suspended && user.is_some_and(|user| user.is_suspended) {
        return Err(standing::suspended());
    }
    Ok(())
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
