//! Users who trust users of other servers.

use http::Method;
use rhizome_storage::testing::eventually;
use serde_json::{Value, json};

use super::several::several;
use super::signer::{Signer, query};
use crate::harness::{User, next};

/// Uploads a user's three keys; gives the first and the last.
async fn keys(user: &User, seed: u8) -> (Signer, Signer) {
    let [master, own, others] = [0, 1, 2].map(|n| Signer::cross_signing(&user.id, seed + n));
    let body = json!({
        "master_key": master.as_key("master"),
        "self_signing_key": master.sign(&own.as_key("self_signing")),
        "user_signing_key": master.sign(&others.as_key("user_signing")),
        "auth": { "type": "m.login.password", "password": "a good password",
            "identifier": { "type": "m.id.user", "user": user.id } },
    });
    let path = "/keys/device_signing/upload";
    user.ok(Method::POST, path, body).await;
    (master, others)
}

/// Waits until a user sees this master key of another, with these signatures.
async fn sees(viewer: &User, whose: &str, master: &Value) {
    eventually("the key is seen", async || {
        let answer = query(viewer, json!({ whose: [] })).await;
        answer["master_keys"][whose] == *master
    })
    .await;
}

/// Bob signs the master key of Alice, who is at another server. His devices see that and hear of it; nobody else does;
/// and with her key his signature goes.
#[tokio::test(flavor = "multi_thread")]
async fn trust_in_somebody_elsewhere_is_ones_own_business() {
    several(2, async |all| {
        let alice = all.server(0).register("alice").await;
        let bob = all.server(1).register("bob").await;
        let dora = all.server(1).register("dora").await;
        let room = alice.create_public().await;
        for user in [&bob, &dora] {
            assert!(all.join(user, &room).await);
        }
        let (alices, _) = keys(&alice, 10).await;
        let (_, bobs) = keys(&bob, 20).await;
        let plain = alices.as_key("master");
        sees(&bob, &alice.id, &plain).await;

        let laptop = bob.another_device().await;
        let since = next(&laptop.sync(None, "").await);
        let poll = laptop.poll(&since).await;
        let signed = bobs.sign(&plain);
        let body = json!({ &alice.id: { alices.public(): signed } });
        let path = "/keys/signatures/upload";
        let answer = bob.ok(Method::POST, path, body).await;
        assert_eq!(answer["failures"], json!({}));
        let told = poll.await.unwrap();
        assert_eq!(told["device_lists"]["changed"], json!([alice.id]));
        sees(&laptop, &alice.id, &signed).await;
        for user in [&dora, &alice] {
            sees(user, &alice.id, &plain).await;
        }

        let (others, _) = keys(&alice, 30).await;
        for user in [&bob, &dora] {
            sees(user, &alice.id, &others.as_key("master")).await;
        }
        let no = bob
            .server
            .store
            .user_no(bob.id.as_str().try_into().unwrap());
        let no = no.await.unwrap();
        let hers = bob
            .server
            .store
            .user_no(alice.id.as_str().try_into().unwrap());
        let hers = hers.await.unwrap();
        let left = bob.server.store.key_signatures(&[hers], Some(no)).await;
        assert!(left.unwrap().is_empty());
    })
    .await;
}
