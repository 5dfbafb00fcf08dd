//! Cross-signing: who may set which keys, and who sees which signatures.

use http::Method;
use serde_json::{Value, json};

use super::signer::{Device, Signer, query};
use crate::harness::{User, next, story};

const UPLOAD: &str = "/keys/device_signing/upload";

/// A user's three keys.
struct Keys {
    master: Signer,
    own: Signer,
    others: Signer,
}

impl Keys {
    fn new(user: &User, seed: u8) -> Self {
        Self {
            master: Signer::cross_signing(&user.id, seed),
            own: Signer::cross_signing(&user.id, seed + 1),
            others: Signer::cross_signing(&user.id, seed + 2),
        }
    }

    fn body(&self) -> Value {
        json!({
            "master_key": self.master.as_key("master"),
            "self_signing_key": self.master.sign(&self.own.as_key("self_signing")),
            "user_signing_key": self.master.sign(&self.others.as_key("user_signing")),
        })
    }
}

/// The same with the user's password.
fn confirmed(user: &User, mut body: Value) -> Value {
    body["auth"] = json!({"type": "m.login.password", "password": "a good password",
        "identifier": {"type": "m.id.user", "user": user.id}});
    body
}

async fn status(user: &User, body: Value) -> (u16, Value) {
    let (status, answer) = user.call(Method::POST, UPLOAD, Some(body)).await;
    (status.as_u16(), answer)
}

/// Uploads signatures; gives what failed.
async fn sign(user: &User, body: Value) -> Value {
    let answer = user.ok(Method::POST, "/keys/signatures/upload", body).await;
    answer["failures"].clone()
}

#[tokio::test]
async fn the_first_keys_and_the_same_again_need_no_password() {
    story(async |server| {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let keys = Keys::new(&ada, 10);
        let alone = json!({ "self_signing_key": keys.body()["self_signing_key"] });
        let (code, answer) = status(&ada, alone.clone()).await;
        assert_eq!((code, &answer["errcode"]), (400, &json!("M_MISSING_PARAM")));
        let master = json!({ "master_key": keys.master.as_key("master") });
        for _ in 0..2 {
            ada.ok(Method::POST, UPLOAD, master.clone()).await;
        }
        // More of them need it, and so do others.
        assert_eq!(status(&ada, alone.clone()).await.0, 401);
        let others = Keys::new(&ada, 20);
        assert_eq!(status(&ada, others.body()).await.0, 401);
        ada.ok(Method::POST, UPLOAD, confirmed(&ada, keys.body()))
            .await;
        ada.ok(Method::POST, UPLOAD, keys.body()).await;
        ada.ok(Method::POST, UPLOAD, confirmed(&ada, keys.body()))
            .await;

        let told = query(&ada, json!({ &ada.id: [] })).await;
        let body = keys.body();
        assert_eq!(told["master_keys"][&ada.id], body["master_key"]);
        assert_eq!(told["self_signing_keys"][&ada.id], body["self_signing_key"]);
        assert_eq!(told["user_signing_keys"][&ada.id], body["user_signing_key"]);
        // The third is for its user's eyes.
        let told = query(&bob, json!({ &ada.id: [] })).await;
        assert_eq!(told["self_signing_keys"][&ada.id], body["self_signing_key"]);
        assert_eq!(told["user_signing_keys"], json!({}));

        // Another master key takes away what the one before has signed.
        let master = json!({ "master_key": others.master.as_key("master") });
        ada.ok(Method::POST, UPLOAD, confirmed(&ada, master)).await;
        let told = query(&ada, json!({ &ada.id: [] })).await;
        assert_eq!(told["master_keys"][&ada.id], others.master.as_key("master"));
        assert_eq!(told["self_signing_keys"], json!({}));
        assert_eq!(told["user_signing_keys"], json!({}));
    })
    .await;
}

#[tokio::test]
async fn keys_are_what_they_say_and_signed_by_the_master() {
    story(async |server| {
        let ada = server.register("ada").await;
        let keys = Keys::new(&ada, 10);
        let with = |change: &dyn Fn(&mut Value)| {
            let mut body = keys.body();
            change(&mut body);
            body
        };
        let by_another = keys.own.sign(&keys.others.as_key("user_signing"));
        let theirs = Signer::cross_signing("@bob:here", 30).as_key("master");
        let two = json!({ "ed25519:a": "a", "ed25519:b": "b" });
        for (body, code, errcode) in [
            (
                with(&|body| body["user_signing_key"] = by_another.clone()),
                400,
                "M_INVALID_SIGNATURE",
            ),
            (
                with(&|body| body["self_signing_key"]["more"] = json!(1)),
                400,
                "M_INVALID_SIGNATURE",
            ),
            (
                with(&|body| body["master_key"] = theirs.clone()),
                400,
                "M_INVALID_PARAM",
            ),
            (
                with(&|body| body["master_key"]["usage"] = json!(["user_signing"])),
                400,
                "M_BAD_JSON",
            ),
            (
                with(&|body| body["master_key"]["keys"] = two.clone()),
                400,
                "M_BAD_JSON",
            ),
            (
                with(&|body| body["master_key"]["keys"] = json!({ "ed25519:x": "y" })),
                400,
                "M_BAD_JSON",
            ),
            (
                with(&|body| body["master_key"] = json!([])),
                400,
                "M_BAD_JSON",
            ),
        ] {
            let (status, answer) = status(&ada, body.clone()).await;
            assert_eq!(
                (status, &answer["errcode"]),
                (code, &json!(errcode)),
                "{body}"
            );
        }
        let (code, errcode) = status(&ada, json!({})).await;
        assert_eq!(
            (code, &errcode["errcode"]),
            (400, &json!("M_MISSING_PARAM"))
        );
    })
    .await;
}

/// A key isn't called as a device is, nor a device as a key.
#[tokio::test]
async fn keys_and_devices_share_their_names() {
    story(async |server| {
        let ada = server.register("ada").await;
        let keys = Keys::new(&ada, 10);
        let public = keys.own.public();
        let login = |device: &str| {
            let body = json!({"type": "m.login.password", "password": "a good password",
                "identifier": {"type": "m.id.user", "user": ada.id}, "device_id": device});
            let server = server.clone();
            async move {
                let path = "/_matrix/client/v3/login";
                let (status, answer) = server.request(Method::POST, path, None, Some(body)).await;
                (status.as_u16(), answer["errcode"].clone())
            }
        };
        assert_eq!(login(&public).await.0, 200);
        assert_eq!(status(&ada, keys.body()).await.0, 403);
        let others = Keys::new(&ada, 20);
        ada.ok(Method::POST, UPLOAD, others.body()).await;
        assert_eq!(
            login(&others.own.public()).await,
            (400, json!("M_INVALID_PARAM"))
        );
    })
    .await;
}

#[tokio::test]
async fn signatures_are_shown_to_whom_they_are_for() {
    story(async |server| {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let eve = server.register("eve").await;
        let phone = Device::of(&ada, 1).await;
        phone.upload(json!({ "device_keys": phone.keys() })).await;
        let (adas, bobs) = (Keys::new(&ada, 10), Keys::new(&bob, 20));
        ada.ok(Method::POST, UPLOAD, adas.body()).await;
        bob.ok(Method::POST, UPLOAD, bobs.body()).await;
        let room = ada.create_public().await;
        for user in [&bob, &eve] {
            user.join(&room).await;
        }
        let since = |user: &User| {
            let user = user.clone();
            async move { next(&user.sync(None, "").await) }
        };
        let (adas_since, bobs_since) = (since(&ada).await, since(&bob).await);

        // Her device and her master key: everybody sees that.
        let device = adas.own.sign(&phone.keys());
        let master = phone.signer.sign(&adas.master.as_key("master"));
        let failures = sign(
            &ada,
            json!({ &ada.id: {
            &phone.id: device,
            adas.master.public(): master,
        } }),
        );
        assert_eq!(failures.await, json!({}));
        let told = query(&eve, json!({ &ada.id: [] })).await;
        let mut shown = told["device_keys"][&ada.id][&phone.id].clone();
        shown.as_object_mut().unwrap().remove("unsigned");
        assert_eq!(shown, device);
        assert_eq!(told["master_keys"][&ada.id], master);
        // The same again takes nothing of it away.
        phone.upload(json!({ "device_keys": phone.keys() })).await;
        phone.upload(json!({ "device_keys": device })).await;
        let told = query(&eve, json!({ &ada.id: [] })).await;
        let signatures = &told["device_keys"][&ada.id][&phone.id]["signatures"];
        assert_eq!(*signatures, device["signatures"]);
        // Somebody else's master key: only she does.
        let signed = adas.others.sign(&bobs.master.as_key("master"));
        let body = json!({ &bob.id: { bobs.master.public(): signed } });
        assert_eq!(sign(&ada, body).await, json!({}));
        let told = query(&ada, json!({ &bob.id: [] })).await;
        assert_eq!(told["master_keys"][&bob.id], signed);
        for user in [&bob, &eve] {
            let told = query(user, json!({ &bob.id: [] })).await;
            assert_eq!(told["master_keys"][&bob.id], bobs.master.as_key("master"));
        }
        let changed = |sync: Value| sync["device_lists"]["changed"].clone();
        let told = changed(ada.sync(Some(&adas_since), "").await);
        assert_eq!(told, json!([ada.id, bob.id]));
        let told = changed(bob.sync(Some(&bobs_since), "").await);
        assert_eq!(told, json!([ada.id]));

        // What a key that is replaced has signed goes with it.
        let others = Keys::new(&ada, 30);
        ada.ok(Method::POST, UPLOAD, confirmed(&ada, others.body()))
            .await;
        let told = query(&ada, json!({ &ada.id: [], &bob.id: [] })).await;
        assert_eq!(told["master_keys"][&bob.id], bobs.master.as_key("master"));
        assert_eq!(told["master_keys"][&ada.id], others.master.as_key("master"));
        let signatures = &told["device_keys"][&ada.id][&phone.id]["signatures"][&ada.id];
        assert_eq!(signatures.as_object().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn each_signature_that_does_not_hold_is_told() {
    story(async |server| {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let phone = Device::of(&ada, 1).await;
        phone.upload(json!({ "device_keys": phone.keys() })).await;
        let (adas, bobs) = (Keys::new(&ada, 10), Keys::new(&bob, 20));
        ada.ok(Method::POST, UPLOAD, adas.body()).await;
        bob.ok(Method::POST, UPLOAD, bobs.body()).await;

        let mut changed = phone.keys();
        changed["algorithms"] = json!([]);
        let stranger = Signer::cross_signing(&ada.id, 40);
        let masters = adas.master.as_key("master");
        for (user, id, key, errcode) in [
            // Another than is known, by a key that isn't the user's, by one that doesn't sign such.
            (
                &ada,
                &phone.id,
                adas.own.sign(&changed),
                "M_INVALID_SIGNATURE",
            ),
            (
                &ada,
                &phone.id,
                stranger.sign(&phone.keys()),
                "M_INVALID_SIGNATURE",
            ),
            (
                &ada,
                &phone.id,
                adas.others.sign(&phone.keys()),
                "M_INVALID_SIGNATURE",
            ),
            (&ada, &phone.id, phone.keys(), "M_INVALID_SIGNATURE"),
            (
                &ada,
                &adas.master.public(),
                stranger.sign(&masters),
                "M_INVALID_SIGNATURE",
            ),
            (
                &ada,
                &adas.master.public(),
                masters.clone(),
                "M_INVALID_SIGNATURE",
            ),
            (
                &bob,
                &bobs.master.public(),
                adas.own.sign(&bobs.master.as_key("master")),
                "M_INVALID_SIGNATURE",
            ),
            (
                &bob,
                &bobs.own.public(),
                adas.others.sign(&bobs.own.as_key("self_signing")),
                "M_NOT_FOUND",
            ),
            (
                &ada,
                &"NONE".to_owned(),
                adas.own.sign(&phone.keys()),
                "M_NOT_FOUND",
            ),
            (&ada, &phone.id, json!({}), "M_INVALID_SIGNATURE"),
        ] {
            let body = json!({ &user.id: { id: key } });
            let failures = sign(&ada, body.clone()).await;
            assert_eq!(failures[&user.id][id]["errcode"], errcode, "{body}");
        }
        let told = query(&ada, json!({ &ada.id: [], &bob.id: [] })).await;
        assert_eq!(told["master_keys"][&bob.id], bobs.master.as_key("master"));
        assert_eq!(told["master_keys"][&ada.id], masters);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_signed_without_keys() {
    story(async |server| {
        let ada = server.register("ada").await;
        let phone = Device::of(&ada, 1).await;
        phone.upload(json!({ "device_keys": phone.keys() })).await;
        let adas = Keys::new(&ada, 10);
        let body = json!({ &ada.id: { &phone.id: adas.own.sign(&phone.keys()) } });
        let failures = sign(&ada, body).await;
        assert_eq!(
            failures[&ada.id][&phone.id]["errcode"],
            "M_INVALID_SIGNATURE"
        );
        let nobody = json!({ "@nobody:here": { "X": {} } });
        let failures = sign(&ada, nobody).await;
        assert_eq!(failures["@nobody:here"]["X"]["errcode"], "M_NOT_FOUND");
    })
    .await;
}

/// Two devices that set the first keys at once: those of one are there, and the other has to prove who it is.
#[tokio::test]
async fn first_keys_at_once() {
    story(async |server| {
        let ada = server.register("ada").await;
        let keys = [Keys::new(&ada, 10), Keys::new(&ada, 20)];
        let tasks = keys.each_ref().map(|keys| {
            let (ada, body) = (ada.clone(), keys.body());
            tokio::spawn(async move { status(&ada, body).await.0 })
        });
        let mut codes = Vec::new();
        for task in tasks {
            codes.push(task.await.unwrap());
        }
        codes.sort_unstable();
        assert_eq!(codes, [200, 401]);
    })
    .await;
}
