//! Users are listed, found, and looked at.

use rhizome_storage::{FillPeople, Lease, LogWork as _, Pos};
use serde_json::{Value, json};

use super::{administrator, get, of_user, post, put};
use crate::asking::{Server, User, each_server, encoded, text};

async fn listed(by: &User, query: &str) -> (String, Value) {
    let page = get(by, &format!("/v2/users{query}")).await.ok();
    let names = page["users"].as_array().unwrap().iter();
    let names = names.map(|user| text(&user["name"]).split_once(':').unwrap().0.to_owned());
    (names.collect::<Vec<_>>().join(" "), page)
}

/// What people are called is written down for searches.
pub async fn people_are_known(server: &Server) {
    let store = &server.app.store;
    let lease = Lease::take(store, "people", None).await.unwrap().unwrap();
    let here = server.app.config.server_name.clone();
    let fill = FillPeople::new(store, here);
    assert!(fill.begin(&lease, Pos(0)).await.is_ok());
    lease.release().await.unwrap();
}

/// An administrator, Ada, Bob whose account has ended, and Eve who is called Mallory: the first two of them.
async fn some_users(server: &Server) -> (User, User) {
    let boss = administrator(server, "boss").await;
    let mut users = Vec::new();
    for name in ["ada", "bob", "eve"] {
        users.push(server.register(name).await);
    }
    let name = format!("/profile/{}/displayname", encoded(&users[2].id));
    users[2]
        .put(&name, json!({ "displayname": "Mallory" }))
        .await
        .ok();
    people_are_known(server).await;
    post(
        &boss,
        &format!("/v1/deactivate/{}", encoded(&users[1].id)),
        Value::Null,
    )
    .await
    .ok();
    (boss, users.swap_remove(0))
}

#[tokio::test]
async fn users_are_listed_page_by_page() {
    each_server(async |server| {
        let (boss, ada) = some_users(&server).await;
        let (names, all) = listed(&boss, "").await;
        assert_eq!(names, "@ada @boss @eve");
        assert_eq!(
            (all["total"].as_i64(), all.get("next_token")),
            (Some(3), None)
        );
        let shown = &all["users"][0];
        assert_eq!(
            *shown,
            json!({
                "name": ada.id, "user_type": null, "is_guest": false, "admin": false,
                "deactivated": false, "erased": false, "shadow_banned": false, "displayname": null,
                "avatar_url": null, "creation_ts": shown["creation_ts"], "approved": true,
                "last_seen_ts": shown["last_seen_ts"], "locked": false, "suspended": false,
            })
        );
        assert!(shown["creation_ts"].as_i64().unwrap() >= crate::asking::START_MS);
        assert_eq!(all["users"][2]["displayname"], "Mallory");

        let (first, page) = listed(&boss, "?limit=2&deactivated=true").await;
        assert_eq!(
            (&*first, text(&page["next_token"])),
            ("@ada @bob", "2".to_owned())
        );
        assert_eq!(page["total"], 4);
        let (last, page) = listed(&boss, "?limit=2&from=2&deactivated=true").await;
        assert_eq!((&*last, page.get("next_token")), ("@boss @eve", None));
    })
    .await;
}

#[tokio::test]
async fn users_are_chosen() {
    each_server(async |server| {
        let (boss, _) = some_users(&server).await;
        for (query, expected) in [
            ("?order_by=name&dir=b", "@eve @boss @ada"),
            ("?order_by=admin&dir=b&limit=1", "@boss"),
            ("?admins=true", "@boss"),
            ("?admins=false", "@ada @eve"),
            ("?name=ALL", "@eve"),
            ("?name=da", "@ada"),
            ("?name=here", ""),
            ("?user_id=here.test", "@ada @boss @eve"),
            // The name counts, not the id.
            ("?name=ada&user_id=eve", "@ada"),
            ("?not_user_type=bot", "@ada @boss @eve"),
            ("?not_user_type=bot&not_user_type=", ""),
            ("?approved=false", ""),
            ("?guests=false", "@ada @boss @eve"),
            ("?limit=0", ""),
        ] {
            assert_eq!(listed(&boss, query).await.0, expected, "{query}");
        }
        let v3 = async |query: &str| {
            get(&boss, &format!("/v3/users{query}")).await.ok()["total"].clone()
        };
        assert_eq!(v3("").await, 4);
        assert_eq!(v3("?deactivated=true").await, 1);
        assert_eq!(v3("?deactivated=false").await, 3);
        for wrong in [
            "?limit=-1",
            "?from=x",
            "?dir=up",
            "?order_by=password",
            "?guests=yes",
        ] {
            let path = format!("/v2/users{wrong}");
            get(&boss, &path).await.fails(400, "M_INVALID_PARAM");
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_locked_is_listed_if_that_is_wanted() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let path = of_user("v2", &ada.id, "");
        let locked = put(&boss, &path, json!({ "locked": true })).await.ok();
        assert_eq!(locked["locked"], true);
        assert_eq!(listed(&boss, "").await.0, "@boss");
        assert_eq!(listed(&boss, "?locked=true").await.0, "@ada @boss");
        ada.get("/account/whoami").await.fails(401, "M_USER_LOCKED");
        put(&boss, &path, json!({ "locked": false })).await.ok();
        ada.get("/account/whoami").await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_user_is_looked_at() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let user = get(&boss, &of_user("v2", &ada.id, "")).await.ok();
        for (field, value) in [
            ("name", json!(ada.id)),
            ("displayname", Value::Null),
            ("threepids", json!([])),
            ("external_ids", json!([])),
            ("admin", json!(false)),
            ("deactivated", json!(false)),
            ("creation_ts", json!(crate::asking::START_MS / 1_000)),
            ("user_type", Value::Null),
        ] {
            assert_eq!(user[field], value, "{field}");
        }
        assert!(user.get("password_hash").is_none(), "{user}");
        get(&boss, &of_user("v2", "@nobody:here.test", ""))
            .await
            .fails(404, "M_NOT_FOUND");
        get(&boss, &of_user("v2", "ada", ""))
            .await
            .fails(400, "M_INVALID_PARAM");

        let whois = get(&boss, &format!("/v1/whois/{}", encoded(&ada.id)))
            .await
            .ok();
        let connections = &whois["devices"][""]["sessions"][0]["connections"];
        assert_eq!(connections.as_array().unwrap().len(), 1);

        let available = "/v1/username_available?username=";
        get(&boss, &format!("{available}bob")).await.ok();
        get(&boss, &format!("{available}ada"))
            .await
            .fails(400, "M_USER_IN_USE");
        get(&boss, &format!("{available}a%20b"))
            .await
            .fails(400, "M_INVALID_USERNAME");
        get(&boss, "/v1/username_available")
            .await
            .fails(400, "M_MISSING_PARAM");
    })
    .await;
}

#[tokio::test]
async fn where_users_are_and_what_they_did_is_counted() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let room = ada.create_room(json!({ "preset": "public_chat" })).await;
        let other = bob.create_room(json!({ "preset": "public_chat" })).await;
        server.advance(std::time::Duration::from_hours(1));
        let since = crate::asking::START_MS + 1_000;
        ada.join(&other).await;
        ada.post(&format!("/rooms/{}/leave", encoded(&other)), json!({}))
            .await
            .ok();
        // Nobody's invite but hers counts, whoever names her in one.
        let invite = json!({ "user_id": bob.id });
        ada.post(&format!("/rooms/{}/invite", encoded(&room)), invite)
            .await
            .ok();
        let named = json!({ "membership": "invite", "x": { "sender": ada.id } });
        let eve = server.register("eve").await;
        bob.set_state(&other, "m.room.member", &eve.id, named)
            .await
            .ok();

        let count = async |what: &str, from: i64| {
            let path = format!("{}?from_ts={from}", of_user("v1", &ada.id, what));
            get(&boss, &path).await.ok()
        };
        let invites = count("/sent_invite_count", since).await;
        assert_eq!(invites, json!({ "invite_count": 1 }));
        let later = since + 10_000_000_000;
        assert_eq!(count("/sent_invite_count", later).await["invite_count"], 0);
        let joins = "/cumulative_joined_room_count";
        let joined = "cumulative_joined_room_count";
        assert_eq!(count(joins, 0).await[joined], 2);
        assert_eq!(count(joins, since).await[joined], 1);
        assert_eq!(count(joins, later).await[joined], 0);
        let path = of_user("v1", &ada.id, joins);
        get(&boss, &path).await.fails(400, "M_MISSING_PARAM");

        let joined = get(&boss, &of_user("v1", &ada.id, "/joined_rooms"))
            .await
            .ok();
        assert_eq!(joined, json!({ "joined_rooms": [room], "total": 1 }));
        let all = get(&boss, &of_user("v1", &ada.id, "/memberships"))
            .await
            .ok();
        assert_eq!(
            all["memberships"],
            json!({ room.as_str(): "join", other.as_str(): "leave" })
        );
        let stranger = of_user("v1", "@x:elsewhere.test", "/joined_rooms");
        assert_eq!(get(&boss, &stranger).await.ok()["total"], 0);
    })
    .await;
}

#[tokio::test]
async fn what_users_have_set_up_is_told_without_secrets() {
    each_server(async |server| {
        let boss = administrator(&server, "boss").await;
        let ada = server.register("ada").await;
        let room = ada.create_room(json!({})).await;
        let data = format!("/user/{}/account_data/org.x", encoded(&ada.id));
        ada.put(&data, json!({ "a": "\u{0}" })).await.ok();
        let gone = format!("/user/{}/account_data/org.y", encoded(&ada.id));
        ada.put(&gone, json!({})).await.ok();
        let in_room = format!(
            "/user/{}/rooms/{}/account_data/org.z",
            encoded(&ada.id),
            encoded(&room)
        );
        ada.put(&in_room, json!({ "b": 1 })).await.ok();
        let told = get(&boss, &of_user("v1", &ada.id, "/accountdata"))
            .await
            .ok();
        let told = &told["account_data"];
        assert_eq!(told["global"]["org.x"], json!({ "a": "\u{0}" }));
        assert!(told["global"].get("org.y").is_none());
        assert_eq!(told["rooms"][&room], json!({ "org.z": { "b": 1 } }));

        let pusher = json!({
            "app_id": "m.http", "pushkey": "key", "kind": "http", "app_display_name": "App",
            "device_display_name": "Phone", "lang": "en",
            "data": { "url": "https://push.example/_matrix/push/v1/notify", "auth": "secret" },
        });
        ada.post("/pushers/set", pusher).await.ok();
        let told = get(&boss, &of_user("v1", &ada.id, "/pushers")).await.ok();
        assert_eq!(told["total"], 1);
        assert_eq!(told["pushers"][0]["app_id"], "m.http");
        assert!(!told.to_string().contains("secret"), "{told}");
    })
    .await;
}
