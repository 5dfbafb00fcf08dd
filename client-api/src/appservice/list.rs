//! Services keep directories of the networks that they reach
//! (<https://spec.matrix.org/v1.19/application-service-api/#published-room-directories>).

use axum::extract::State;
use rhizome_appservice::instance_id;
use rhizome_edge::MatrixError;
use rhizome_storage::{Fact, NetworkListing, WriteSet};
use ruma::api::client::{appservice::set_room_visibility::v3 as set_visibility, room::Visibility};

use crate::{App, Ruma};

/// The longest name of a network, in bytes.
const MAX_NETWORK: usize = 255;

/// `PUT /_matrix/client/v3/directory/list/appservice/{networkId}/{roomId}`
pub async fn set(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<set_visibility::Request>,
) -> Result<set_visibility::Response, MatrixError> {
    let listed = match req.visibility {
        Visibility::Public => true,
        Visibility::Private => false,
        _ => {
            return Err(MatrixError::bad_json(
                "visibility is either public or private",
            ));
        }
    };
    let network = &req.network_id;
    if network.is_empty() || network.len() > MAX_NETWORK || network.contains('|') {
        return Err(MatrixError::invalid_param(format!(
            "The name of a network has 1 to {MAX_NETWORK} bytes and no |"
        )));
    }
    let head = app.store.room(&req.room_id).await?;
    let head = head.ok_or_else(|| MatrixError::not_found("This server doesn't know the room"))?;
    let fact = Fact::from(NetworkListing {
        room: head.room,
        instance: instance_id(&who.id, network),
        listed,
    });
    app.store.commit(WriteSet::from(vec![fact])).await?;
    Ok(set_visibility::Response::new())
}
