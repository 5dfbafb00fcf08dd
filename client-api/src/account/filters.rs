//! Stored filters.

use axum::extract::State;
use bytes::Bytes;
use rhizome_edge::RawJson;
use ruma::{
    UserId,
    api::client::filter::{create_filter, get_filter},
};

use crate::{App, Caller, MatrixError, Ruma, view::filter};

/// `POST /_matrix/client/v3/user/{userId}/filter`
pub async fn create(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<create_filter::v3::Request>,
) -> Result<create_filter::v3::Response, MatrixError> {
    own(&who, &req.user_id)?;
    let text =
        std::str::from_utf8(&body).map_err(|_| MatrixError::not_json("The body isn't UTF-8"))?;
    filter::parse(text).map_err(MatrixError::bad_json)?;
    let user = who.user;
    let id = app.store.add_filter(user, text.trim()).await?;
    Ok(create_filter::v3::Response::new(id.to_string()))
}

/// `GET /_matrix/client/v3/user/{userId}/filter/{filterId}`
pub async fn get(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<get_filter::v3::Request>,
) -> Result<RawJson, MatrixError> {
    own(&who, &req.user_id)?;
    let absent = || MatrixError::not_found("There is no such filter");
    let id = req.filter_id.parse().map_err(|_| absent())?;
    let user = who.user;
    let json = app.store.filter(user, id).await?.ok_or_else(absent)?;
    Ok(RawJson(Bytes::copy_from_slice(json.as_bytes())))
}

fn own(who: &Caller, user: &UserId) -> Result<(), MatrixError> {
    if who.user_id == user {
        Ok(())
    } else {
        Err(MatrixError::forbidden("This is another user's filter"))
    }
}
