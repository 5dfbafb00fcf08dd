//! Every operation of the specification is there, or is answered as one that isn't known.

use rhizome_client_api::router;
use rhizome_contract::probe;

use crate::asking::each_server;

#[tokio::test]
async fn every_operation_is_there_or_unrecognized() {
    each_server(async |server| {
        let routed = probe("client-api", router(server.app.clone())).await;
        for operation in [
            "GET /_matrix/client/versions",
            "GET /_matrix/client/v3/sync",
            "PUT /_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}",
        ] {
            assert!(routed.contains(&operation), "{operation}");
        }
        let foreign = routed
            .iter()
            .find(|one| one.contains("/_matrix/federation/"));
        assert_eq!(foreign, None);
    })
    .await;
}
