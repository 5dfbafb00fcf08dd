//! Files of other servers.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use rhizome_federation::{Federation, media, previews::Previews};
use rhizome_media::{Content, FetchError, Media, MediaError, Wanted};
use ruma::ServerName;

use super::LinkPreviews;

/// Whoever gets files of other servers, which are then kept here.
pub trait RemoteFiles: Send + Sync + 'static {
    /// A file. The other server is told to wait for its bytes, if they haven't come, at most so long.
    fn file<'a>(
        &'a self,
        origin: &'a ServerName,
        media_id: &'a str,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Content, MediaError>>;

    /// A picture of a file.
    fn thumbnail<'a>(
        &'a self,
        origin: &'a ServerName,
        media_id: &'a str,
        wanted: Wanted,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Content, MediaError>>;
}

/// The files that users get.
#[derive(Clone)]
pub struct Files {
    /// Those that are here.
    pub media: Media,
    /// Those that aren't.
    pub remote: Arc<dyn RemoteFiles>,
    /// Who visits links; `None`: there are no previews.
    pub previews: Option<Arc<dyn LinkPreviews>>,
}

impl Files {
    /// Files of a server that gets others' by its federation. `previews`: `None` if there are none.
    pub fn of(federation: &Federation, previews: Option<Previews>) -> Self {
        let previews = previews.map(|previews| Arc::new(previews) as Arc<dyn LinkPreviews>);
        Self {
            media: federation.media().clone(),
            remote: Arc::new(federation.clone()),
            previews,
        }
    }

    /// Files of a server that gets none from others.
    pub fn alone(media: Media) -> Self {
        Self {
            media,
            remote: Arc::new(Nobody),
            previews: None,
        }
    }
}

impl RemoteFiles for Federation {
    fn file<'a>(
        &'a self,
        origin: &'a ServerName,
        media_id: &'a str,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Content, MediaError>> {
        Box::pin(media::download(self, origin, media_id, wait))
    }

    fn thumbnail<'a>(
        &'a self,
        origin: &'a ServerName,
        media_id: &'a str,
        wanted: Wanted,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Content, MediaError>> {
        Box::pin(media::thumbnail(self, origin, media_id, wanted, wait))
    }
}

/// Gets none.
struct Nobody;

impl Nobody {
    fn nothing<'a>() -> BoxFuture<'a, Result<Content, MediaError>> {
        let why = FetchError::Failed("this server gets no files from others".to_owned());
        Box::pin(async { Err(why.into()) })
    }
}

impl RemoteFiles for Nobody {
    fn file<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a str,
        _: Duration,
    ) -> BoxFuture<'a, Result<Content, MediaError>> {
        Self::nothing()
    }

    fn thumbnail<'a>(
        &'a self,
        _: &'a ServerName,
        _: &'a str,
        _: Wanted,
        _: Duration,
    ) -> BoxFuture<'a, Result<Content, MediaError>> {
        Self::nothing()
    }
}
