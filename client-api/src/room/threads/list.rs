//! The list of changes of subscriptions, backwards in time: what an answer of sliding sync had no room for.

use axum::extract::{Query, State};
use rhizome_edge::{RawJson, Undecoded};
use rhizome_storage::Pos;
use ruma::{api::auth_scheme::AccessToken, metadata};
use serde::Deserialize;

use super::changes::{self, MOST, ThreadChanges};
use crate::{App, MatrixError, Ruma, place::token::Token, view::json::Json};

/// `GET /_matrix/client/unstable/io.element.msc4308/thread_subscriptions`
pub struct List;
metadata! {
    @for List,
    method: GET,
    rate_limited: true,
    authentication: AccessToken,
    path: "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions",
}

#[derive(Deserialize)]
struct Asked {
    dir: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
}

impl Asked {
    fn of(query: &str) -> Result<Self, MatrixError> {
        let uri = format!("/?{query}").parse();
        let uri = uri.map_err(|_| MatrixError::invalid_param("The query can't be read"))?;
        let Query(asked) = Query::<Self>::try_from_uri(&uri)
            .map_err(|error| MatrixError::invalid_param(error.to_string()))?;
        match asked.dir.as_deref() {
            Some("b") => {}
            None => return Err(MatrixError::missing_param("`dir` must be given: b")),
            Some(_) => return Err(MatrixError::invalid_param("The only `dir` there is is b")),
        }
        if asked.limit == Some(0) {
            return Err(MatrixError::invalid_param("`limit` must be positive"));
        }
        Ok(asked)
    }
}

/// `GET /_matrix/client/unstable/io.element.msc4308/thread_subscriptions`
pub async fn list(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<List>>,
) -> Result<RawJson, MatrixError> {
    let asked = Asked::of(req.query.as_deref().unwrap_or_default())?;
    let head = app.store.log().refresh().await?;
    let from = match &asked.from {
        Some(token) => changes::position(token)
            .ok_or_else(|| MatrixError::invalid_param("`from` is no token of this list"))?,
        None => head,
    };
    let to = asked.to.as_deref().map_or(Ok(Pos(0)), told_upto)?;
    let limit = asked.limit.unwrap_or(MOST).min(MOST);
    let upto = from.min(head);
    let page = ThreadChanges::read(&app.store, who.user, (to, upto), limit).await?;
    let mut json = Json::default();
    json.open();
    page.write(&mut json, "end");
    json.close();
    Ok(RawJson::from_text(json.finish()))
}

/// Up to where a client was told everything that had the position of an answer as its own.
fn told_upto(token: &str) -> Result<Pos, MatrixError> {
    // That of sliding sync has more after a dot.
    let token = Token::parse(token.split('.').next().unwrap_or_default())
        .map_err(|_| MatrixError::invalid_param("`to` is no position of this server"))?;
    Ok(token.pos)
}
