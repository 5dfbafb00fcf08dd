//! Which file is given to whom.

use std::{net::IpAddr, time::Duration};

use rhizome_edge::{Caller, MatrixError};
use rhizome_media::{Content, FetchError, MediaError, Wanted};
use ruma::ServerName;

use super::names;
use crate::{App, config::Unauthenticated, limits::Kind};

/// The longest that a file's bytes are waited for, however long a client would.
const LONGEST: Duration = Duration::from_mins(1);

/// Who asks for a file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asker<'a> {
    /// A user.
    User(&'a Caller),
    /// Somebody who doesn't say who they are
    /// (<https://spec.matrix.org/v1.19/client-server-api/#content-repo-client-behaviour>).
    Anybody(Option<IpAddr>),
}

impl<'a> Asker<'a> {
    /// Who asks where a token is welcome and not needed. Who has one is a user like any other: clients that don't know
    /// of the newer endpoints send theirs all the same.
    pub(super) fn of(who: Option<&'a Caller>, peer: Option<IpAddr>) -> Self {
        who.map_or(Self::Anybody(peer), Self::User)
    }
}

/// A file that is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) who: Asker<'a>,
    pub(super) origin: &'a ServerName,
    pub(super) media_id: &'a str,
    /// How long its bytes may be waited for.
    pub(super) wait: Duration,
    /// Whether another server may be asked for it.
    pub(super) allow_remote: bool,
}

/// What may be given of what is here.
enum May {
    /// All of it, and what others have as well.
    All,
    /// What has come before this time (ms).
    Before(i64),
}

impl Asked<'_> {
    /// The file.
    pub(super) async fn file(&self, app: &App) -> Result<Content, MatrixError> {
        let wait = self.check(app)?;
        if let Some(content) = self.here(app, wait).await? {
            return Ok(content);
        }
        let file = app.files.remote.file(self.origin, self.media_id, wait);
        unless_stopped(app, file).await.map_err(of_other)
    }

    /// A picture of it. Another server may have one of what none can be made of here.
    pub(super) async fn thumbnail(
        &self,
        app: &App,
        wanted: Wanted,
    ) -> Result<Content, MatrixError> {
        let wait = self.check(app)?;
        let here = self.here(app, wait).await?;
        match here {
            Some(content) if self.is_ours(app) => {
                Ok(app.files.media.thumbnail(&content, wanted).await?)
            }
            Some(content) if !self.may_ask(app) => {
                let made = app.files.media.thumbnail(&content, wanted).await;
                made.map_err(of_other)
            }
            Some(content) => match app.files.media.thumbnail(&content, wanted).await {
                Err(MediaError::NoThumbnail | MediaError::PictureTooLarge) => {
                    self.count(app)?;
                    self.picture(app, wanted, wait).await
                }
                made => made.map_err(of_other),
            },
            None => self.picture(app, wanted, wait).await,
        }
    }

    /// A picture that its server is asked for, if none can be made of what it gives.
    async fn picture(
        &self,
        app: &App,
        wanted: Wanted,
        wait: Duration,
    ) -> Result<Content, MatrixError> {
        let remote = &app.files.remote;
        let picture = remote.thumbnail(self.origin, self.media_id, wanted, wait);
        unless_stopped(app, picture).await.map_err(of_other)
    }

    fn check(&self, app: &App) -> Result<Duration, MatrixError> {
        names::check(&app.config.server_name, self.origin, self.media_id)?;
        Ok(self.wait.min(LONGEST))
    }

    fn is_ours(&self, app: &App) -> bool {
        *self.origin == *app.config.server_name
    }

    /// The file, if it is here; `None` if its server is to be asked for it.
    async fn here(&self, app: &App, wait: Duration) -> Result<Option<Content>, MatrixError> {
        let may = self.may(app)?;
        let media = &app.files.media;
        if self.is_ours(app) {
            let found = media.find(self.origin, self.media_id, wait);
            return given(unless_stopped(app, found).await?, &may).map(Some);
        }
        match media.find(self.origin, self.media_id, Duration::ZERO).await {
            Ok(found) => given(found, &may).map(Some),
            Err(MediaError::NotFound) if self.may_ask(app) => {
                self.count(app)?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether another server may be asked.
    fn may_ask(&self, app: &App) -> bool {
        self.allow_remote && matches!(self.may(app), Ok(May::All))
    }

    fn may(&self, app: &App) -> Result<May, MatrixError> {
        match (self.who, app.config.unauthenticated_media) {
            (Asker::User(_), _) | (_, Unauthenticated::Open) => Ok(May::All),
            (_, Unauthenticated::Before(time)) => Ok(May::Before(time)),
            (_, Unauthenticated::Closed) => Err(MediaError::NotFound.into()),
        }
    }

    /// How many files of other servers somebody may have fetched is limited.
    fn count(&self, app: &App) -> Result<(), MatrixError> {
        let now = app.now_monotonic_ms();
        let taken = match self.who {
            Asker::User(user) => app.limits.take_user(Kind::Fetch, user, now),
            Asker::Anybody(peer) => app.limits.take_from(Kind::Fetch, peer, now),
        };
        taken.map_err(MatrixError::limit_exceeded)
    }
}

/// A server that stops keeps nobody waiting.
async fn unless_stopped(
    app: &App,
    content: impl Future<Output = Result<Content, MediaError>>,
) -> Result<Content, MediaError> {
    tokio::select! {
        content = content => content,
        () = app.shutdown.cancelled() => Err(MediaError::NotYet),
    }
}

fn given(content: Content, may: &May) -> Result<Content, MatrixError> {
    match may {
        May::Before(time) if content.info.created >= *time => Err(MediaError::NotFound.into()),
        _ => Ok(content),
    }
}

/// What is too large of what another server has is that server's fault
/// (<https://spec.matrix.org/v1.19/client-server-api/#content-repo-security-considerations>). Why it can't be reached is
/// nobody else's business: it would tell of the network here.
pub(super) fn of_other(error: MediaError) -> MatrixError {
    match error {
        MediaError::Remote(FetchError::Failed(why)) => {
            tracing::debug!(why, "another server didn't give a file");
            MatrixError::bad_gateway("The other server didn't give the file")
        }
        MediaError::TooLarge { .. } | MediaError::PictureTooLarge => {
            MediaError::from(FetchError::TooLarge).into()
        }
        other => other.into(),
    }
}
