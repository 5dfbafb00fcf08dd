//! Whether the keys of a third-party invite are still valid (client-server API, "Third-party invites").

use http::{Method, StatusCode};
use reqwest::Url;
use serde_json::Value;

use super::{json_headers, server::query_of_key};
use crate::Federation;

/// Whether it is said at this address, which somebody wrote into a room's state, that the key is valid. What can't be
/// asked isn't.
pub(crate) async fn is_valid(fed: &Federation, url: &str, key: &str) -> bool {
    let Ok(mut url) = Url::parse(url) else {
        return false;
    };
    let query = query_of_key(key);
    let query = match url.query() {
        Some(before) if !before.is_empty() => format!("{before}&{query}"),
        _ => query,
    };
    url.set_query(Some(&query));
    url.set_fragment(None);
    match fed
        .bring_to_users((Method::GET, url), json_headers(), Vec::new())
        .await
    {
        Ok(answer) if answer.status == StatusCode::OK => {
            let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            said.get("valid").and_then(Value::as_bool) == Some(true)
        }
        Ok(answer) => {
            tracing::debug!(status = %answer.status, "nothing is said of a key's validity");
            false
        }
        Err(error) => {
            tracing::debug!(%error, "nobody can be asked for a key's validity");
            false
        }
    }
}
