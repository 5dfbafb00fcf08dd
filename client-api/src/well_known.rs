//! `/.well-known/matrix/…`: where the server is, whom to turn to, and the key of its policy server.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson};
use ruma::api::{
    client::discovery::{discover_homeserver, discover_policy_server, discover_support},
    federation::discovery::discover_homeserver as discover_server,
};
use serde_json::{Map, json};

use crate::{App, Ruma};

/// `GET /.well-known/matrix/client`
pub async fn client(
    State(app): State<App>,
    Ruma { .. }: Ruma<discover_homeserver::Request>,
) -> Result<RawJson, MatrixError> {
    let base_url = app.config.well_known_client.as_ref();
    let base_url = base_url.ok_or_else(none_configured)?;
    let mut told = app.config.discovery.client_extra.clone();
    told.insert("m.homeserver".to_owned(), json!({ "base_url": base_url }));
    RawJson::of(&told)
}

/// `GET /.well-known/matrix/server`
pub async fn server(
    State(app): State<App>,
    Ruma { .. }: Ruma<discover_server::Request>,
) -> Result<RawJson, MatrixError> {
    let server = app.config.well_known_server.as_ref();
    let server = server.ok_or_else(none_configured)?;
    RawJson::of(&json!({ "m.server": server }))
}

/// `GET /.well-known/matrix/support`
pub async fn support(
    State(app): State<App>,
    Ruma { .. }: Ruma<discover_support::Request>,
) -> Result<RawJson, MatrixError> {
    let discovery = &app.config.discovery;
    let mut told = Map::new();
    if !discovery.contacts.is_empty() {
        told.insert("contacts".to_owned(), json!(discovery.contacts));
    }
    if let Some(page) = &discovery.support_page {
        told.insert("support_page".to_owned(), page.as_str().into());
    }
    if told.is_empty() {
        return Err(MatrixError::not_found(
            "This server tells of nobody to turn to",
        ));
    }
    RawJson::of(&told)
}

/// `GET /.well-known/matrix/policy_server`
pub async fn policy_server(
    State(app): State<App>,
    Ruma { .. }: Ruma<discover_policy_server::Request>,
) -> Result<RawJson, MatrixError> {
    let key = app.config.discovery.policy_server_key.as_ref();
    let key =
        key.ok_or_else(|| MatrixError::not_found("There is no policy server of this name"))?;
    RawJson::of(&json!({ "public_keys": { "ed25519": key } }))
}

fn none_configured() -> MatrixError {
    MatrixError::not_found("This server isn't configured to delegate")
}
