//! Our files for other servers.

use std::time::Duration;

use axum::extract::State;
use bytes::BytesMut;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rhizome_edge::{Content, Place, Table};
use rhizome_media::{Content as File, Format, MediaError, Method, Wanted};
use rhizome_storage::random;
use ruma::{
    OwnedServerName,
    api::federation::authenticated_media::{get_content, get_content_thumbnail},
};

use super::{
    LONGEST_WAIT,
    head::{self, FileHead},
    multipart::Frame,
};
use crate::{Federation, MatrixError, Ruma, budgets::Kind};

/// Of these are boundaries.
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// So long that none is in a file that was made before it.
const LENGTH: usize = 32;
/// The largest picture that is made for others, in pixels a side.
const LARGEST: u32 = 4_096;

/// `/_matrix/federation/v1/media/…`
pub(crate) fn endpoints(table: Table<Federation>) -> Table<Federation> {
    table
        .serve_as(Kind::Media, download)
        .serve_as(Kind::Media, thumbnail)
}

/// `GET /_matrix/federation/v1/media/download/{mediaId}`
async fn download(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<get_content::v1::Request>,
) -> Result<Content, MatrixError> {
    let place = fed.budgets().download(who)?;
    let file = find(&fed, &req.media_id, req.timeout_ms).await?;
    give(&file, place).await
}

/// `GET /_matrix/federation/v1/media/thumbnail/{mediaId}`
async fn thumbnail(
    State(fed): State<Federation>,
    Ruma { who, req, .. }: Ruma<get_content_thumbnail::v1::Request>,
) -> Result<Content, MatrixError> {
    let place = fed.budgets().download(who)?;
    let side = |asked: ruma::UInt| u32::try_from(u64::from(asked)).unwrap_or(LARGEST);
    let (width, height) = (side(req.width), side(req.height));
    if width == 0 || height == 0 {
        let why = "A picture is at least one pixel wide and high";
        return Err(MatrixError::invalid_param(why));
    }
    let wanted = Wanted {
        width: width.min(LARGEST),
        height: height.min(LARGEST),
        method: match req.method {
            Some(ruma::media::Method::Crop) => Method::Crop,
            _ => Method::Scale,
        },
        animated: req.animated == Some(true),
        format: Format::Plain,
    };
    let file = find(&fed, &req.media_id, req.timeout_ms).await?;
    let picture = fed.media().thumbnail(&file, wanted).await?;
    give(&picture, place).await
}

/// A file of ours: others are had from their own servers.
async fn find(fed: &Federation, media_id: &str, wait: Duration) -> Result<File, MediaError> {
    if !head::is_media_id(media_id) {
        return Err(MediaError::NotFound);
    }
    let wait = wait.min(LONGEST_WAIT);
    fed.media().find(fed.server_name(), media_id, wait).await
}

/// Gives a file. Its place is taken until the other server has all of it.
async fn give(file: &File, place: Place<OwnedServerName>) -> Result<Content, MatrixError> {
    let info = &file.info;
    let head = FileHead {
        content_type: info.content_type.as_deref().and_then(head::content_type),
        name: info.name.as_deref().and_then(head::name),
        length: info.size,
    };
    let boundary = random::letters(LETTERS, LENGTH)?;
    if let Some(frame) = elsewhere(file, &head, &boundary).await? {
        let whole = [frame.before, frame.after].concat();
        return Ok(Content::of_bytes(
            frame.content_type,
            BytesMut::from(&*whole),
        ));
    }
    let frame = Frame::of_file(&boundary, &head).ok_or_else(MatrixError::internal)?;
    let length = info.size.map(|size| frame.length(size));
    let (before, after) = (frame.before, frame.after);
    let pieces = file.read(None).await?;
    let pieces = stream::iter([Ok(before)])
        .chain(pieces.into_stream())
        .chain(stream::iter([Ok(after)]))
        .inspect(move |_| {
            let _until_the_end = &place;
        });
    Ok(Content::streamed(frame.content_type, length, pieces))
}

/// Where the store gives a file that is large
/// (<https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1mediadownloadmediaid>).
async fn elsewhere(
    file: &File,
    head: &FileHead,
    boundary: &str,
) -> Result<Option<Frame>, MediaError> {
    if !file.is_large() {
        return Ok(None);
    }
    let disposition = head.disposition().to_string();
    let address = file.redirect(head.kind(), &disposition).await?;
    Ok(address.and_then(|address| Frame::of_location(boundary, &address)))
}
