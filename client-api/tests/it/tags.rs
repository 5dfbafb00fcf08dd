//! Tags of rooms, each set by itself.

use http::Method;
use serde_json::{Value, json};

use crate::asking::{HOSTILE, User, each_server, encoded};

fn path(user: &User, room: &str, tag: &str) -> String {
    let (user, room) = (encoded(&user.id), encoded(room));
    match tag {
        "" => format!("/user/{user}/rooms/{room}/tags"),
        tag => format!("/user/{user}/rooms/{room}/tags/{}", encoded(tag)),
    }
}

async fn tags(user: &User, room: &str) -> Value {
    user.get(&path(user, room, "")).await.ok()["tags"].clone()
}

#[tokio::test]
async fn tags_come_and_go_one_by_one() {
    each_server(async |server| {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = ada.create_room(json!({})).await;
        assert_eq!(tags(&ada, &room).await, json!({}));
        let put = async |tag: &str, info: Value| ada.put(&path(&ada, &room, tag), info).await;
        put("m.favourite", json!({ "order": 0.5 })).await.ok();
        put("u.work", json!({})).await.ok();
        put("m.favourite", json!({ "order": 0.25, "x": "y" }))
            .await
            .ok();
        let set = json!({ "m.favourite": { "order": 0.25, "x": "y" }, "u.work": {} });
        assert_eq!(tags(&ada, &room).await, set);
        // They are account data, which other devices hear of.
        let data = format!(
            "/user/{}/rooms/{}/account_data/m.tag",
            encoded(&ada.id),
            encoded(&room)
        );
        assert_eq!(ada.get(&data).await.ok(), json!({ "tags": set }));
        let since = ada.get("/sync").await.ok();
        let since = since["next_batch"].as_str().unwrap().to_owned();
        ada.delete(&path(&ada, &room, "m.favourite"), Value::Null)
            .await
            .ok();
        ada.delete(&path(&ada, &room, "m.favourite"), Value::Null)
            .await
            .ok();
        let sync = ada.get(&format!("/sync?since={since}")).await.ok();
        let told = &sync["rooms"]["join"][&room]["account_data"]["events"];
        assert_eq!(
            *told,
            json!([{ "type": "m.tag", "content": { "tags": { "u.work": {} } } }])
        );
        // What says nothing new tells nobody.
        let since = sync["next_batch"].as_str().unwrap();
        put("u.work", json!({})).await.ok();
        let sync = ada.get(&format!("/sync?since={since}")).await.ok();
        assert_eq!(sync["next_batch"], since);

        put(&"x".repeat(256), json!({}))
            .await
            .fails(400, "M_INVALID_PARAM");
        put("a", json!({ "order": 2 }))
            .await
            .fails(400, "M_INVALID_PARAM");
        put("a", json!([])).await.fails(400, "M_BAD_JSON");
        bob.get(&path(&ada, &room, ""))
            .await
            .fails(403, "M_FORBIDDEN");
        bob.put(&path(&ada, &room, "a"), json!({}))
            .await
            .fails(403, "M_FORBIDDEN");
        bob.put(&path(&bob, &room, "a"), json!({}))
            .await
            .fails(403, "M_FORBIDDEN");
        for hostile in HOSTILE {
            put(hostile, json!({ "text": hostile })).await.ok();
            assert_eq!(tags(&ada, &room).await[hostile]["text"], hostile);
        }
        // A client may have set anything there.
        for nonsense in [
            json!({ "tags": [1] }),
            json!({ "tags": null, "more": 1 }),
            json!({}),
        ] {
            ada.put(&data, nonsense.clone()).await.ok();
            assert_eq!(tags(&ada, &room).await, json!({}));
            put("u.work", json!({})).await.ok();
            let now = ada.get(&data).await.ok();
            assert_eq!(
                (&now["tags"], now.get("more")),
                (&json!({ "u.work": {} }), nonsense.get("more"))
            );
        }
    })
    .await;
}

/// Devices that tag at once don't take each other's tags away.
#[tokio::test]
async fn tags_that_are_set_at_once_are_all_there() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let room = ada.create_room(json!({})).await;
        let all = (0..8).map(|n| {
            let (ada, path) = (ada.clone(), path(&ada, &room, &format!("u.{n}")));
            tokio::spawn(async move { ada.ask(Method::PUT, &path, json!({})).await.ok() })
        });
        for one in all.collect::<Vec<_>>() {
            one.await.unwrap();
        }
        assert_eq!(tags(&ada, &room).await.as_object().unwrap().len(), 8);
    })
    .await;
}
