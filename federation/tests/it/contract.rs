//! Every operation of the specification is there, or is answered as one that isn't known.

use rhizome_contract::probe;

use crate::world::still;

#[tokio::test]
async fn every_operation_is_there_or_unrecognized() {
    still(1, async |world| {
        let routed = probe("federation", world.server(0).fed.router()).await;
        for operation in [
            "GET /_matrix/federation/v1/version",
            "PUT /_matrix/federation/v1/send/{txnId}",
            "GET /_matrix/key/v2/server",
        ] {
            assert!(routed.contains(&operation), "{operation}");
        }
        let foreign = routed.iter().find(|one| one.contains("/_matrix/client/"));
        assert_eq!(foreign, None);
    })
    .await;
}
