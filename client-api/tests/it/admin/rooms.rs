//! Rooms are listed, found, looked at, and closed to newcomers.

use http::Method;
use serde_json::{Value, json};

use super::{administrator, ask, get, post, put};
use crate::asking::{Server, User, each_server, encoded, text};

fn of_room(room: &str, what: &str) -> String {
    format!("/v1/rooms/{}{what}", encoded(room))
}

/// The names on a page, and the page.
async fn listed(by: &User, query: &str) -> (String, Value) {
    let page = get(by, &format!("/v1/rooms{query}")).await.ok();
    let names = page["rooms"].as_array().unwrap().iter();
    let names = names.map(|room| room["name"].as_str().unwrap_or("-").to_owned());
    (names.collect::<Vec<_>>().join(" "), page)
}

/// Ada's rooms: Alpha is hers alone, Beta is public and Bob's too, she has left gamma.
struct Rooms {
    boss: User,
    ada: User,
    bob: User,
    alpha: String,
    beta: String,
}

async fn rooms(server: &Server) -> Rooms {
    let boss = administrator(server, "boss").await;
    let (ada, bob) = (server.register("ada").await, server.register("bob").await);
    let alpha = ada
        .create_room(json!({ "name": "Alpha", "topic": "first" }))
        .await;
    let beta = json!({
        "name": "Beta", "visibility": "public", "room_alias_name": "second", "room_version": "11",
    });
    let beta = ada.create_room(beta).await;
    bob.join(&beta).await;
    let gamma = ada.create_room(json!({ "name": "gamma" })).await;
    ada.post(&format!("/rooms/{}/leave", encoded(&gamma)), json!({}))
        .await
        .ok();
    Rooms {
        boss,
        ada,
        bob,
        alpha,
        beta,
    }
}

#[tokio::test]
async fn rooms_are_listed_page_by_page() {
    each_server(async |server| {
        let Rooms {
            boss, ada, beta, ..
        } = rooms(&server).await;
        let (names, all) = listed(&boss, "").await;
        assert_eq!(names, "Alpha Beta gamma");
        assert_eq!(
            (&all["total_rooms"], &all["offset"]),
            (&json!(3), &json!(0))
        );
        assert_eq!((all.get("next_batch"), all.get("prev_batch")), (None, None));
        let shown = &all["rooms"][1];
        let state_events = shown["state_events"].as_i64().unwrap();
        assert!(state_events > 5, "{shown}");
        let expected = json!({
            "room_id": beta, "name": "Beta", "canonical_alias": "#second:here.test",
            "joined_members": 2, "joined_local_members": 2, "version": "11", "creator": ada.id,
            "encryption": null, "federatable": true, "public": true, "join_rules": "public",
            "guest_access": shown["guest_access"], "history_visibility": "shared",
            "state_events": state_events, "room_type": null,
        });
        assert_eq!(*shown, expected);

        let (names, page) = listed(&boss, "?limit=2").await;
        assert_eq!((&*names, &page["next_batch"]), ("Alpha Beta", &json!(2)));
        let (names, page) = listed(&boss, "?limit=2&from=2").await;
        assert_eq!((&*names, &page["prev_batch"]), ("gamma", &json!(0)));
        assert_eq!(page.get("next_batch"), None);
    })
    .await;
}

#[tokio::test]
async fn rooms_are_chosen_and_put_in_order() {
    each_server(async |server| {
        let Rooms { boss, alpha, .. } = rooms(&server).await;
        let by_id = format!("?search_term={}", encoded(&alpha));
        for (query, expected) in [
            ("?dir=b", "gamma Beta Alpha"),
            ("?order_by=joined_members", "Beta Alpha gamma"),
            ("?order_by=size&dir=b", "gamma Alpha Beta"),
            ("?order_by=joined_local_members&limit=1", "Beta"),
            ("?order_by=canonical_alias&dir=b&limit=1", "Beta"),
            ("?order_by=public&dir=b&limit=1", "Beta"),
            ("?order_by=join_rules&dir=b&limit=1", "Beta"),
            ("?search_term=ET", "Beta"),
            ("?search_term=econ", "Beta"),
            // Not the server's part of an alias, nor what stands for anything elsewhere.
            ("?search_term=here.test", ""),
            ("?search_term=%25", ""),
            (&by_id, "Alpha"),
            ("?public_rooms=true", "Beta"),
            ("?public_rooms=false", "Alpha gamma"),
            ("?empty_rooms=true", "gamma"),
            ("?empty_rooms=false", "Alpha Beta"),
        ] {
            let (names, page) = listed(&boss, query).await;
            assert_eq!(names, expected, "{query}: {page}");
        }
        for order in [
            "alphabetical",
            "name",
            "version",
            "creator",
            "encryption",
            "federatable",
            "guest_access",
            "history_visibility",
            "state_events",
        ] {
            for dir in ["f", "b"] {
                let (_, page) = listed(&boss, &format!("?order_by={order}&dir={dir}")).await;
                assert_eq!(page["rooms"].as_array().unwrap().len(), 3, "{order}");
            }
        }
        for wrong in [
            "?search_term=",
            "?order_by=room_id",
            "?public_rooms=1",
            "?dir=x",
        ] {
            let path = format!("/v1/rooms{wrong}");
            get(&boss, &path).await.fails(400, "M_INVALID_PARAM");
        }
    })
    .await;
}

#[tokio::test]
async fn a_room_is_looked_at() {
    each_server(async |server| {
        let Rooms {
            boss,
            ada,
            bob,
            alpha,
            beta,
        } = rooms(&server).await;
        let room = get(&boss, &of_room(&alpha, "")).await.ok();
        for (field, value) in [
            ("room_id", json!(alpha)),
            ("topic", json!("first")),
            ("avatar", Value::Null),
            ("joined_members", json!(1)),
            ("joined_local_devices", json!(1)),
            ("forgotten", json!(false)),
            ("tombstoned", json!(false)),
            ("replacement_room", Value::Null),
        ] {
            assert_eq!(room[field], value, "{field}");
        }
        let members = get(&boss, &of_room(&beta, "/members")).await.ok();
        assert_eq!(members, json!({ "members": [ada.id, bob.id], "total": 2 }));
        let first = get(&boss, &of_room(&beta, "/members?limit=1")).await.ok();
        assert_eq!(
            (&first["members"], &first["next_token"]),
            (&json!([ada.id]), &json!(1))
        );

        let state = get(&boss, &of_room(&beta, "/state")).await.ok();
        let state = state["state"].as_array().unwrap();
        assert!(state.iter().any(|event| event["type"] == "m.room.create"));
        let names = get(&boss, &of_room(&beta, "/state?type=m.room.name"))
            .await
            .ok();
        assert_eq!(names["state"].as_array().unwrap().len(), 1);
        assert_eq!(names["state"][0]["content"]["name"], "Beta");

        let ends = get(&boss, &of_room("#second:here.test", "/forward_extremities")).await;
        let ends = ends.ok();
        assert_eq!(ends["count"], 1);
        let event = text(&ends["results"][0]["event_id"]);
        let path = format!("/v1/fetch_event/{}", encoded(&event));
        let event = get(&boss, &path).await.ok()["event"].clone();
        assert_eq!(event["type"], "m.room.member");
        assert_eq!(event["state_key"], json!(bob.id));
        assert!(event["prev_events"].is_array(), "{event}");

        ada.post(&format!("/rooms/{}/leave", encoded(&alpha)), json!({}))
            .await
            .ok();
        ada.post(&format!("/rooms/{}/forget", encoded(&alpha)), json!({}))
            .await
            .ok();
        let room = get(&boss, &of_room(&alpha, "")).await.ok();
        assert_eq!(
            (&room["forgotten"], &room["joined_members"]),
            (&json!(true), &json!(0))
        );
        for what in [
            "",
            "/members",
            "/state",
            "/messages",
            "/forward_extremities",
        ] {
            let answer = get(&boss, &of_room("!none:here.test", what)).await;
            answer.fails(404, "M_NOT_FOUND");
            let answer = get(&boss, &of_room("none", what)).await;
            answer.fails(400, "M_INVALID_PARAM");
        }
        let path = "/v1/fetch_event/$none";
        get(&boss, path).await.fails(404, "M_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn a_room_is_closed_to_newcomers() {
    each_server(async |server| {
        let Rooms { boss, beta, .. } = rooms(&server).await;
        let path = of_room(&beta, "/block");
        assert_eq!(get(&boss, &path).await.ok(), json!({ "block": false }));
        put(&boss, &path, json!({ "block": "yes" }))
            .await
            .fails(400, "M_BAD_JSON");
        put(&boss, &path, json!({})).await.fails(400, "M_BAD_JSON");
        let blocked = put(&boss, &path, json!({ "block": true })).await.ok();
        assert_eq!(blocked, json!({ "block": true }));
        let told = get(&boss, &path).await.ok();
        assert_eq!(told, json!({ "block": true, "user_id": boss.id }));
        let eve = server.register("eve").await;
        let join = format!("/join/{}", encoded(&beta));
        eve.post(&join, json!({})).await.fails(403, "M_FORBIDDEN");
        put(&boss, &path, json!({ "block": false })).await.ok();
        // Once more, of what isn't blocked.
        put(&boss, &path, json!({ "block": false })).await.ok();
        eve.post(&join, json!({})).await.ok();
        // Also one that nobody here has heard of.
        let unknown = of_room("!unknown:elsewhere.test", "/block");
        put(&boss, &unknown, json!({ "block": true })).await.ok();
        assert_eq!(get(&boss, &unknown).await.ok()["block"], true);
    })
    .await;
}

#[tokio::test]
async fn a_user_is_brought_into_a_room() {
    each_server(async |server| {
        let Rooms {
            boss, bob, alpha, ..
        } = rooms(&server).await;
        let eve = server.register("eve").await;
        let join = |room: &str| format!("/v1/join/{}", encoded(room));
        let wish = json!({ "user_id": eve.id });
        let joined = post(&boss, &join("#second:here.test"), wish.clone())
            .await
            .ok();
        let member = eve
            .state(&text(&joined["room_id"]), "m.room.member", &eve.id)
            .await;
        assert_eq!(member.ok()["membership"], "join");
        // Nobody is brought where the administrator may not invite.
        let answer = post(&boss, &join(&alpha), wish.clone()).await;
        answer.fails(403, "M_FORBIDDEN");
        let closed = boss.create_room(json!({ "preset": "private_chat" })).await;
        post(&boss, &join(&closed), wish.clone()).await.ok();
        post(&boss, &join(&closed), wish).await.ok();
        let member = bob.state(&closed, "m.room.member", &eve.id).await;
        member.fails(403, "M_FORBIDDEN");
        for (wish, code, errcode) in [
            (json!({}), 400, "M_BAD_JSON"),
            (json!({ "user_id": "eve" }), 400, "M_BAD_JSON"),
            (
                json!({ "user_id": "@eve:elsewhere.test" }),
                400,
                "M_INVALID_PARAM",
            ),
            (
                json!({ "user_id": "@nobody:here.test" }),
                404,
                "M_NOT_FOUND",
            ),
        ] {
            post(&boss, &join(&closed), wish).await.fails(code, errcode);
        }
        post(
            &boss,
            &join("#none:here.test"),
            json!({ "user_id": eve.id }),
        )
        .await
        .fails(404, "M_NOT_FOUND");
    })
    .await;
}

async fn power(reader: &User, room: &str, user: &str) -> Value {
    let levels = reader.state(room, "m.room.power_levels", "").await.ok();
    levels["users"][user].clone()
}

#[tokio::test]
async fn power_is_given_by_who_has_it() {
    each_server(async |server| {
        let Rooms {
            boss,
            ada,
            bob,
            alpha,
            beta,
        } = rooms(&server).await;
        let path = |room: &str| of_room(room, "/make_room_admin");
        // Oneself, into a room where one can't just come in.
        post(&boss, &path(&alpha), Value::Null).await.ok();
        let given = power(&ada, &alpha, &boss.id).await;
        assert_eq!(given, 100);
        let member = ada.state(&alpha, "m.room.member", &boss.id).await;
        assert_eq!(member.ok()["membership"], "invite");
        // Somebody else; where everybody may come in, nobody is invited.
        let eve = server.register("eve").await;
        let wish = json!({ "user_id": eve.id });
        post(&boss, &path("#second:here.test"), wish.clone())
            .await
            .ok();
        assert_eq!(power(&bob, &beta, &eve.id).await, 100);
        let member = bob.state(&beta, "m.room.member", &eve.id).await;
        member.fails(404, "M_NOT_FOUND");
        // Once more does nothing.
        let before = ada.state(&beta, "m.room.power_levels", "").await.ok();
        post(&boss, &path(&beta), wish).await.ok();
        assert_eq!(
            ada.state(&beta, "m.room.power_levels", "").await.ok(),
            before
        );
        // Where nobody of this server is left who has power, there is none to give.
        for user in [&ada, &eve] {
            let path = format!("/rooms/{}/leave", encoded(&beta));
            user.ask(Method::POST, &path, json!({})).await;
        }
        post(&boss, &path(&beta), json!({}))
            .await
            .fails(400, "M_UNKNOWN");
        let wish = json!({ "user_id": "@nobody:here.test" });
        post(&boss, &path(&alpha), wish)
            .await
            .fails(404, "M_NOT_FOUND");
        let answer = ask(&boss, Method::POST, &path("!none:here.test"), json!({})).await;
        answer.fails(404, "M_NOT_FOUND");
    })
    .await;
}
