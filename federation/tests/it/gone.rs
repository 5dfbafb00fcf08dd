//! Rooms whose older events are of servers that are gone, and joins that only the other side has finished.

use rhizome_protocol::{Membership, server_keys, sign};
use serde_json::json;

use crate::mean::Mean;
use crate::support::key;
use crate::world::{VERSIONS, each, same_state, still};

/// Neither the owner nor a notary gives the keys: the server that gives the room does, and for that answer only.
#[tokio::test(flavor = "multi_thread")]
async fn a_room_of_a_server_that_is_gone_can_be_joined() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        for version in &VERSIONS {
            world.network.mend(&a.name);
            let room = a.create(&alice, version).await;
            b.join(&bob, &room, a).await.unwrap();
            same_state(a, b, &room).await;
            world.network.cut(&a.name);
            c.join(&carol, &room, b).await.unwrap();
            assert_eq!(c.membership(&room, &alice).await, Some(Membership::Join));
            same_state(b, c, &room).await;
            let (known, _) = c.store().server_keys(&a.name).await.unwrap();
            assert!(known.is_empty(), "{known:?}");
        }
        let questions = world.network.requests();
        let questions = questions
            .iter()
            .filter(|(to, line)| *to == b.name && line.contains("/_matrix/key/v2/query"));
        assert_eq!(questions.count(), VERSIONS.len(), "one for each join");
    })
    .await;
}

/// Who gives a room can't make up the keys of a server that answers, nor of one whose keys are known.
#[tokio::test(flavor = "multi_thread")]
async fn who_gives_a_room_does_not_make_up_keys() {
    still(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        let room = a.create(&alice, &VERSIONS[2]).await;
        b.join(&bob, &room, a).await.unwrap();
        let mean = Mean::before(&world, 1);
        let forger = sign::KeyPair::from_seed("k1", &[9; 32]).unwrap();
        let until = 4_000_000_000_000;
        let mut forged = server_keys::build(&a.name, &[&forger], &[], until).unwrap();
        sign::sign_json(&mut forged, &b.name, &key(2)).unwrap();
        mean.says("/key/v2/query", json!({ "server_keys": [forged] }));
        // It answers: nobody else is asked.
        c.join(&carol, &room, b).await.unwrap();
        assert_eq!(mean.count("/key/v2/query"), 0);
        let known = c.store().server_keys(&a.name).await.unwrap();
        // It is gone, and what is known of it stays.
        c.leave(&carol, &room).await.unwrap();
        world.network.cut(&a.name);
        c.join(&carol, &room, b).await.unwrap();
        assert_eq!(mean.count("/key/v2/query"), 0, "its keys are known");
        assert_eq!(c.store().server_keys(&a.name).await.unwrap(), known);
    })
    .await;
}
