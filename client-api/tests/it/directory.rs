//! Aliases and the directory.

use http::Method;
use serde_json::{Value, json};

use crate::asking::{HOSTILE, each_server, encoded, text};

#[tokio::test]
async fn aliases_lead_to_rooms() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let room = ada.create_room(json!({ "preset": "public_chat" })).await;
        let other = ada.create_room(json!({})).await;
        let path = |alias: &str| format!("/directory/room/{}", encoded(alias));
        let to = |room: &str| json!({ "room_id": room });

        ada.get(&path("#den:here.test"))
            .await
            .fails(404, "M_NOT_FOUND");
        bob.put(&path("#den:here.test"), to(&room))
            .await
            .fails(403, "M_FORBIDDEN");
        bob.join(&room).await;
        bob.put(&path("#den:here.test"), to(&room)).await.ok();
        ada.put(&path("#den:here.test"), to(&room))
            .await
            .fails(409, "M_UNKNOWN");
        ada.put(&path("#den:elsewhere.test"), to(&room))
            .await
            .fails(400, "M_INVALID_PARAM");
        ada.put(&path("nonsense"), to(&room))
            .await
            .fails(400, "M_INVALID_PARAM");
        let found = server
            .ask(
                Method::GET,
                &format!("/_matrix/client/v3{}", path("#den:here.test")),
                Value::Null,
            )
            .await
            .ok();
        assert_eq!(found["room_id"], room.as_str());
        assert_eq!(found["servers"], json!(["here.test"]));
        let list = format!("/rooms/{}/aliases", encoded(&room));
        assert_eq!(
            ada.get(&list).await.ok()["aliases"],
            json!(["#den:here.test"])
        );

        // The canonical alias must lead to its room.
        let canonical = |alias: &str| json!({ "alias": alias, "alt_aliases": [alias] });
        let set = async |room: &str, content: Value| {
            ada.set_state(room, "m.room.canonical_alias", "", content)
                .await
        };
        set(&other, canonical("#den:here.test"))
            .await
            .fails(400, "M_BAD_ALIAS");
        set(&room, canonical("#none:here.test"))
            .await
            .fails(400, "M_BAD_ALIAS");
        set(&room, json!({ "alias": 1 }))
            .await
            .fails(400, "M_INVALID_PARAM");
        set(&room, canonical("#den:here.test")).await.ok();

        // Only its maker, or who may name the room, removes an alias; the room's name follows.
        let eve = server.register("eve").await;
        eve.join(&room).await;
        eve.delete(&path("#den:here.test"), Value::Null)
            .await
            .fails(403, "M_FORBIDDEN");
        ada.delete(&path("#den:here.test"), Value::Null).await.ok();
        ada.delete(&path("#den:here.test"), Value::Null)
            .await
            .fails(404, "M_NOT_FOUND");
        let named = ada.state(&room, "m.room.canonical_alias", "").await.ok();
        assert_eq!(named, json!({ "alt_aliases": [] }));
    })
    .await;
}

#[tokio::test]
async fn aliases_are_any_text_or_refused() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let room = ada.create_room(json!({})).await;
        for (index, hostile) in HOSTILE.into_iter().enumerate() {
            let alias = format!("#{hostile}{index}:here.test");
            let path = format!("/directory/room/{}", encoded(&alias));
            let made = ada.put(&path, json!({ "room_id": room })).await;
            if made.status.is_success() {
                assert_eq!(ada.get(&path).await.ok()["room_id"], room.as_str());
                ada.delete(&path, Value::Null).await.ok();
            } else {
                assert!(made.status.is_client_error(), "{made:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_public_directory() {
    each_server(async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let mut rooms = Vec::new();
        for name in ["Alpha", "Beta \u{0}", "Gamma"] {
            rooms.push(
                ada.create_room(json!({ "name": name, "visibility": "public" }))
                    .await,
            );
        }
        ada.create_room(json!({ "name": "Hidden" })).await;
        bob.join(&rooms[1]).await;
        let path = "/_matrix/client/v3/publicRooms";
        let all = server.ask(Method::GET, path, Value::Null).await.ok();
        assert_eq!(all["total_room_count_estimate"], 3);
        assert_eq!(all["chunk"][0]["room_id"], rooms[1].as_str());
        assert_eq!(all["chunk"][0]["name"], "Beta \u{0}");
        assert_eq!(all["chunk"][0]["num_joined_members"], 2);
        assert_eq!(all["chunk"][0]["join_rule"], "public");

        let first = bob.get("/publicRooms?limit=2").await.ok();
        assert_eq!(first["chunk"].as_array().unwrap().len(), 2);
        let next = text(&first["next_batch"]);
        let second = bob
            .get(&format!("/publicRooms?limit=2&since={next}"))
            .await
            .ok();
        assert_eq!(second["chunk"].as_array().unwrap().len(), 1);
        assert_eq!(second.get("next_batch"), None);
        bob.get("/publicRooms?since=nonsense")
            .await
            .fails(400, "M_INVALID_PARAM");
        let search = json!({ "filter": { "generic_search_term": "gAMM" } });
        let found = bob.post("/publicRooms", search).await.ok();
        assert_eq!(found["chunk"][0]["room_id"], rooms[2].as_str());
        assert_eq!(found["total_room_count_estimate"], 1);
        let spaces = json!({ "filter": { "room_types": ["m.space"] } });
        assert_eq!(
            bob.post("/publicRooms", spaces).await.ok()["chunk"],
            json!([])
        );
        let plain = json!({ "filter": { "room_types": [null] } });
        assert_eq!(
            bob.post("/publicRooms", plain).await.ok()["total_room_count_estimate"],
            3
        );

        let listing = format!("/directory/list/room/{}", encoded(&rooms[1]));
        bob.put(&listing, json!({ "visibility": "private" }))
            .await
            .fails(403, "M_FORBIDDEN");
        ada.put(&listing, json!({ "visibility": "nonsense" }))
            .await
            .fails(400, "M_BAD_JSON");
        ada.put(&listing, json!({ "visibility": "private" }))
            .await
            .ok();
        assert_eq!(bob.get(&listing).await.ok()["visibility"], "private");
        let all = server.ask(Method::GET, path, Value::Null).await.ok();
        assert_eq!(all["total_room_count_estimate"], 2);
        let nowhere = format!("/directory/list/room/{}", encoded("!x:here.test"));
        bob.get(&nowhere).await.fails(404, "M_NOT_FOUND");
    })
    .await;
}
