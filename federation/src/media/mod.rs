//! Files between servers (<https://spec.matrix.org/v1.19/server-server-api/#content-repository>).
//!
//! - [`download`] and [`thumbnail`]: any server's file, for whoever serves clients: ours, the one that is kept, or the one
//!   that is being fetched, as a stream.
//! - [`ask`]: one server is asked for one file: by the endpoint for servers, else by the old one for everybody; where it
//!   sends on, [`Web`](crate::outbound) follows by the egress rules. [`transfer`] is the bytes that come.
//! - [`serve`]: ours for other servers.
//! - [`multipart`]: what both ends speak.
//!
//! Nothing here holds a file: of a transfer a piece is in memory, and a boundary's length between two.

mod ask;
mod head;
mod manners;
mod multipart;
mod serve;
mod transfer;

use std::time::Duration;

use rhizome_media::{Content, FetchError, MediaError, Wanted};
use ruma::ServerName;

use crate::Federation;
pub use head::is_shown_inline;
pub(crate) use manners::Manners;
pub(crate) use serve::endpoints;

/// The longest that bytes are waited for which haven't been uploaded.
pub const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// A file of any server: one of ours, one that is kept here, or one that is fetched from its server and kept, once for all
/// who ask meanwhile. `wait`: how long for bytes that haven't been uploaded.
///
/// # Errors
/// See [`MediaError`].
pub async fn download(
    fed: &Federation,
    origin: &ServerName,
    media_id: &str,
    wait: Duration,
) -> Result<Content, MediaError> {
    let wait = wait.min(LONGEST_WAIT);
    if !head::is_media_id(media_id) {
        return Err(MediaError::NotFound);
    }
    if origin == fed.server_name() {
        return fed.media().find(origin, media_id, wait).await;
    }
    let (asker, server, id) = (fed.clone(), origin.to_owned(), media_id.to_owned());
    let fetch = async move || ask::file(&asker, &server, &id, wait).await;
    let remote = fed
        .media()
        .remote(origin, media_id, wait + ask::HEAD, fetch);
    remote.await
}

/// A picture of any server's file. It is made here of the file. Of one that is too large to be fetched, or of which no
/// pictures can be made here (such as a film), its server is asked for one, which is kept as a file of its own.
///
/// # Errors
/// See [`MediaError`].
pub async fn thumbnail(
    fed: &Federation,
    origin: &ServerName,
    media_id: &str,
    wanted: Wanted,
    wait: Duration,
) -> Result<Content, MediaError> {
    let made = async {
        let file = download(fed, origin, media_id, wait).await?;
        fed.media().thumbnail(&file, wanted).await
    };
    let error = match made.await {
        Ok(made) => return Ok(made),
        Err(error) => error,
    };
    let theirs_may_do = matches!(
        error,
        MediaError::NoThumbnail
            | MediaError::PictureTooLarge
            | MediaError::Remote(FetchError::TooLarge)
    );
    if origin == fed.server_name() || !theirs_may_do {
        return Err(error);
    }
    let (asker, server, id) = (fed.clone(), origin.to_owned(), media_id.to_owned());
    let (wait, wanted) = (wait.min(LONGEST_WAIT), ask::specified(wanted));
    let fetch = async move || ask::picture(&asker, &server, &id, wanted, wait).await;
    let name = ask::picture_name(media_id, wanted);
    fed.media()
        .remote(origin, &name, wait + ask::HEAD, fetch)
        .await
        .map_err(|why| {
            tracing::debug!(%origin, %why, "no picture of a file either");
            error
        })
}
