//! What the server can do: versions, well-known, capabilities.

use std::collections::BTreeMap;

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson};
use rhizome_protocol::RoomRules;
use rhizome_storage::millis;
use ruma::api::{
    client::discovery::{
        discover_homeserver, get_capabilities::v3 as capabilities, get_supported_versions,
    },
    federation::discovery::discover_homeserver as discover_server,
};
use serde_json::json;

use crate::{App, Ruma, account::contact::list};

/// A client takes a version for all of its endpoints, and some of newer ones are not here yet; so this
/// claims the oldest one that clients accept, which is what makes them use `v3` paths. Some look for v1.11 before they
/// use the newer endpoints for media: the older ones take their tokens.
const VERSIONS: [&str; 1] = ["v1.1"];
/// What is here of newer versions and of proposals, under the names that clients ask for.
const FEATURES: [&str; 17] = [
    "fi.mau.msc2246.stable",
    "fi.mau.msc2815",
    "org.matrix.label_based_filtering",
    "org.matrix.msc3026.busy_presence",
    "org.matrix.msc3391",
    "org.matrix.msc3874",
    "org.matrix.msc3881",
    "org.matrix.msc3912",
    "org.matrix.msc3916.stable",
    "org.matrix.msc4028",
    "org.matrix.msc4140",
    "org.matrix.msc4262",
    "org.matrix.msc4306",
    "org.matrix.msc4308",
    "org.matrix.msc4354",
    "org.matrix.simplified_msc3575",
    "uk.tcpip.msc4133.stable",
];

/// `GET /_matrix/client/versions`
pub async fn versions(
    State(_): State<App>,
    Ruma { .. }: Ruma<get_supported_versions::Request>,
) -> Result<get_supported_versions::Response, MatrixError> {
    let mut response = get_supported_versions::Response::new(VERSIONS.map(str::to_owned).to_vec());
    response.unstable_features = FEATURES.map(|name| (name.to_owned(), true)).into();
    Ok(response)
}

/// `GET /_matrix/client/v3/capabilities`
pub async fn capabilities(
    State(app): State<App>,
    Ruma { .. }: Ruma<capabilities::Request>,
) -> Result<RawJson, MatrixError> {
    let available: BTreeMap<&str, &str> = RoomRules::supported()
        .map(|rules| (rules.version.as_str(), "stable"))
        .collect();
    let mut capabilities = json!({
        "m.room_versions": { "default": app.config.default_room_version, "available": available },
        "m.change_password": { "enabled": true },
        "m.set_displayname": { "enabled": true },
        "m.set_avatar_url": { "enabled": true },
        "m.profile_fields": { "enabled": true },
        "m.3pid_changes": { "enabled": list::may_change(&app) },
        "m.get_login_token": { "enabled": false },
        "m.forget_forced_upon_leave": { "enabled": app.config.forget_on_leave },
        "im.nheko.msc3664.related_event_match": { "enabled": true },
    });
    let delayed = app.config.delayed;
    capabilities["org.matrix.msc4140.delayed_events"] =
        json!({ "max_delay_ms": millis(delayed.max_delay), "max_scheduled": delayed.most });
    if let Some(web) = app.config.channels.web_push() {
        capabilities["m.webpush"] = json!({ "enabled": true, "vapid": web.public_key() });
    }
    RawJson::of(&json!({ "capabilities": capabilities }))
}

/// `GET /.well-known/matrix/client`
pub async fn well_known_client(
    State(app): State<App>,
    Ruma { .. }: Ruma<discover_homeserver::Request>,
) -> Result<RawJson, MatrixError> {
    let base_url = app
        .config
        .well_known_client
        .as_ref()
        .ok_or_else(none_configured)?;
    RawJson::of(&json!({ "m.homeserver": { "base_url": base_url } }))
}

/// `GET /.well-known/matrix/server`
pub async fn well_known_server(
    State(app): State<App>,
    Ruma { .. }: Ruma<discover_server::Request>,
) -> Result<RawJson, MatrixError> {
    let server = app
        .config
        .well_known_server
        .as_ref()
        .ok_or_else(none_configured)?;
    RawJson::of(&json!({ "m.server": server }))
}

fn none_configured() -> MatrixError {
    MatrixError::not_found("This server isn't configured to delegate")
}
