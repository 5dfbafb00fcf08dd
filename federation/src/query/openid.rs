//! Who it is that has given another service a token of theirs
//! (<https://spec.matrix.org/v1.19/server-server-api/#openid>).

use axum::extract::{Query, State};
use http::{StatusCode, Uri};
use rhizome_edge::Undecoded;
use ruma::api::federation::openid::get_openid_userinfo::v1 as userinfo;
use serde_json::json;

use crate::{Federation, MatrixError, RawJson, Ruma};

/// `GET /_matrix/federation/v1/openid/userinfo`
///
/// Whoever has the token may ask, no server signs for it. It is found by its hash, so that how long the answer takes says
/// nothing of others.
pub(super) async fn of_ours(
    State(fed): State<Federation>,
    Ruma { req, .. }: Ruma<Undecoded<userinfo::Request>>,
) -> Result<RawJson, MatrixError> {
    let query = req.query.unwrap_or_default();
    let uri: Option<Uri> = format!("/?{query}").parse().ok();
    let pairs = uri.and_then(|uri| Query::<Vec<(String, String)>>::try_from_uri(&uri).ok());
    let mut pairs = pairs
        .map(|Query(pairs)| pairs)
        .unwrap_or_default()
        .into_iter();
    let Some((_, token)) = pairs.find(|(name, _)| name == "access_token") else {
        return Err(MatrixError::missing_token());
    };
    let user = fed.store().openid_user(&token).await?.ok_or_else(|| {
        let why = "The token is unknown or has expired";
        MatrixError::new(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", why)
    })?;
    RawJson::of(&json!({ "sub": user }))
}
