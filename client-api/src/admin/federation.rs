//! Servers that this one sends to.

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{MatrixError, RawJson, Table, Undecoded};
use rhizome_storage::{DestinationOrder, KnownDestination, millis};
use serde_json::{Value, json};

use crate::{
    App, Ruma,
    admin::{asked::Asked, endpoint::endpoints, subject},
};

endpoints! {
    /// `GET`: the servers that this one has sent to.
    GetServers: GET "/_synapse/admin/v1/federation/destinations";
    /// `GET`: one of them.
    GetServer: GET "/_synapse/admin/v1/federation/destinations/{destination}";
    /// `GET`: the rooms in which both are.
    GetRooms: GET "/_synapse/admin/v1/federation/destinations/{destination}/rooms";
    /// `POST`: tries a server again that couldn't be reached.
    PostReset: POST "/_synapse/admin/v1/federation/destinations/{destination}/reset_connection";
}

/// What there is for servers.
pub fn serve(table: Table<App>) -> Table<App> {
    table.serve(list).serve(details).serve(rooms).serve(reset)
}

/// `GET /_synapse/admin/v1/federation/destinations`
pub async fn list(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetServers>>,
) -> Result<RawJson, MatrixError> {
    let asked = Asked::of(&req);
    let page = asked.page()?;
    let order = asked.order(DestinationOrder::Server, order)?;
    let order = (order, asked.backwards()?.unwrap_or(false));
    let has = asked.text("destination").filter(|has| !has.is_empty());
    let found = app.store.destination_page(has, order, page.bounds());
    let (servers, total) = found.await?;
    let shown: Vec<Value> = servers.iter().map(|known| shown(&app, known)).collect();
    let mut answer = json!({ "destinations": shown, "total": total });
    if let Some(next) = page.next(servers.len(), total) {
        answer["next_token"] = next.to_string().into();
    }
    RawJson::of(&answer)
}

fn order(name: &str) -> Option<DestinationOrder> {
    Some(match name {
        "destination" => DestinationOrder::Server,
        "retry_last_ts" => DestinationOrder::RetryAt,
        "retry_interval" => DestinationOrder::Failures,
        "failure_ts" => DestinationOrder::FailingSince,
        "last_successful_stream_ordering" => DestinationOrder::Sent,
        _ => return None,
    })
}

/// `GET /_synapse/admin/v1/federation/destinations/{destination}`
pub async fn details(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetServer>>,
) -> Result<RawJson, MatrixError> {
    let known = known(&app, req.part(0)).await?;
    RawJson::of(&shown(&app, &known))
}

/// `GET /_synapse/admin/v1/federation/destinations/{destination}/rooms`
pub async fn rooms(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetRooms>>,
) -> Result<RawJson, MatrixError> {
    let known = known(&app, req.part(0)).await?;
    let asked = Asked::of(&req);
    let (page, backwards) = (asked.page()?, asked.backwards()?.unwrap_or(false));
    let servers = (&*app.config.server_name, &*known.server);
    let (store, bounds) = (&app.store, page.bounds());
    let rooms = store.rooms_shared_page(servers, backwards, bounds).await?;
    let total = store.rooms_shared(servers.0, servers.1).await?;
    let shown: Vec<Value> = rooms
        .iter()
        .map(|(room_id, pos)| json!({ "room_id": room_id, "stream_ordering": pos.0 }))
        .collect();
    let mut answer = json!({ "rooms": shown, "total": total });
    if let Some(next) = page.next(rooms.len(), total) {
        answer["next_token"] = next.to_string().into();
    }
    RawJson::of(&answer)
}

/// `POST /_synapse/admin/v1/federation/destinations/{destination}/reset_connection`
pub async fn reset(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<PostReset>>,
) -> Result<RawJson, MatrixError> {
    let known = known(&app, req.part(0)).await?;
    if known.state.failures == 0 {
        return Err(MatrixError::new(
            StatusCode::BAD_REQUEST,
            "M_UNKNOWN",
            "The server doesn't fail: what there is for it is sent as it comes",
        ));
    }
    app.store.retry_destination(&known.server).await?;
    tracing::info!(by = %who.user_id, server = %known.server, "a server is tried again");
    RawJson::of(&json!({}))
}

async fn known(app: &App, server: &str) -> Result<KnownDestination, MatrixError> {
    let server = subject::server(server)?;
    let known = app.store.known_destination(&server).await?;
    known.ok_or_else(|| MatrixError::not_found("Nothing was ever sent to this server"))
}

/// When it was tried last isn't kept: it follows from when it is tried again, to about a fifth of the pause.
fn shown(app: &App, known: &KnownDestination) -> Value {
    let state = known.state;
    let fails = state.failures > 0;
    let pause = millis(app.federation.usual_pause(state.failures));
    let last = state.retry_at.saturating_sub(pause).max(0);
    json!({
        "destination": known.server,
        "retry_last_ts": if fails { last } else { 0 },
        "retry_interval": if fails { pause } else { 0 },
        "failure_ts": (fails && state.failing_since > 0).then_some(state.failing_since),
        "last_successful_stream_ordering": (state.sent.0 > 0).then_some(state.sent.0),
    })
}
