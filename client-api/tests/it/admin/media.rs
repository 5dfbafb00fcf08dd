//! Files are looked through, kept back, protected and deleted.

use http::Method;
use serde_json::{Value, json};

use super::{administrator, delete, get, of_user, post};
use crate::asking::{HttpAnswer, START_MS, Server, User, each_server, encoded, text};

/// Uploads a file; gives its id.
async fn upload(user: &User, name: &str) -> String {
    let path = format!("/_matrix/media/v3/upload?filename={name}");
    let (server, token) = (&user.server, Some(user.token.as_str()));
    let answer = server.text(Method::POST, &path, token, format!("the file {name}"));
    let uri = text(&answer.await.ok()["content_uri"]);
    uri.rsplit('/').next().unwrap().to_owned()
}

fn uri(id: &str) -> String {
    format!("mxc://here.test/{id}")
}

async fn download(user: &User, id: &str) -> HttpAnswer {
    let path = format!("/_matrix/client/v1/media/download/here.test/{id}");
    let (server, token) = (&user.server, Some(user.token.as_str()));
    server.text(Method::GET, &path, token, "").await
}

async fn is_given(user: &User, id: &str) -> bool {
    let answer = download(user, id).await;
    match answer.status.as_u16() {
        200 => true,
        404 => false,
        other => panic!("{other}: {}", answer.body),
    }
}

/// Sends a file to a room.
async fn send(user: &User, room: &str, uri: &str) {
    let path = format!(
        "/rooms/{}/send/m.room.message/{}",
        encoded(room),
        encoded(uri)
    );
    let content = json!({ "msgtype": "m.file", "body": "a file", "url": uri });
    user.put(&path, content).await.ok();
}

async fn people(server: &Server) -> (User, User, User) {
    (
        administrator(server, "boss").await,
        server.register("ada").await,
        server.register("bob").await,
    )
}

#[tokio::test]
async fn a_users_files_are_looked_through() {
    each_server(async |server| {
        let (boss, ada, _) = people(&server).await;
        let one = upload(&ada, "b").await;
        server.advance(std::time::Duration::from_secs(1));
        let two = upload(&ada, "a.longer").await;
        let list = async |query: &str| {
            let path = of_user("v1", &ada.id, &format!("/media{query}"));
            let list = get(&boss, &path).await.ok();
            let files = list["media"].as_array().unwrap().iter();
            let ids = files.map(|file| text(&file["media_id"]));
            (ids.collect::<Vec<_>>(), list)
        };
        let (ids, all) = list("").await;
        // The newest come first.
        assert_eq!(ids, [two.clone(), one.clone()]);
        assert_eq!((&all["total"], all.get("next_token")), (&json!(2), None));
        let file = &all["media"][1];
        let expected = json!({
            "media_id": one, "media_type": file["media_type"], "media_length": 10,
            "upload_name": "b", "created_ts": START_MS, "last_access_ts": START_MS,
            "quarantined_by": null, "safe_from_quarantine": false,
        });
        assert_eq!(*file, expected);
        for (query, expected) in [
            ("?order_by=created_ts", &one),
            ("?dir=f", &one),
            ("?dir=b", &two),
            ("?order_by=upload_name", &two),
            ("?order_by=media_length&dir=b", &two),
            ("?limit=1&from=1", &one),
        ] {
            assert_eq!(list(query).await.0[0], *expected, "{query}");
        }
        assert_eq!(list("?limit=1").await.1["next_token"], 1);
        let path = of_user("v1", &ada.id, "/media?order_by=blob");
        get(&boss, &path).await.fails(400, "M_INVALID_PARAM");

        let used = get(&boss, "/v1/statistics/users/media").await.ok();
        let expected = json!([{
            "user_id": ada.id, "displayname": null, "media_count": 2, "media_length": 27,
        }]);
        assert_eq!((&used["users"], &used["total"]), (&expected, &json!(1)));
        let late = format!("/v1/statistics/users/media?from_ts={}", START_MS + 1);
        assert_eq!(get(&boss, &late).await.ok()["users"][0]["media_count"], 1);
        let none = get(&boss, "/v1/statistics/users/media?search_term=bob").await;
        assert_eq!(none.ok()["total"], 0);
        let wrong = "/v1/statistics/users/media?from_ts=5&until_ts=5";
        get(&boss, wrong).await.fails(400, "M_INVALID_PARAM");

        let path = of_user("v1", &ada.id, "/media?limit=1");
        let gone = delete(&boss, &path, Value::Null).await.ok();
        assert_eq!(gone, json!({ "deleted_media": [two], "total": 1 }));
        assert!(!is_given(&ada, &two).await && is_given(&ada, &one).await);
    })
    .await;
}

#[tokio::test]
async fn a_file_is_kept_back_protected_and_deleted() {
    each_server(async |server| {
        let (boss, ada, bob) = people(&server).await;
        let id = upload(&ada, "x").await;
        let path = |what: &str| format!("/v1/media/{what}here.test/{id}");
        let info = async || get(&boss, &path("")).await.ok()["media_info"].clone();
        let told = info().await;
        assert_eq!(
            (&told["user_id"], &told["media_origin"]),
            (&json!(ada.id), &Value::Null)
        );
        assert_eq!(told["sha256"].as_str().unwrap().len(), 64);
        assert!(told["authenticated"].is_boolean(), "{told}");
        assert!(is_given(&bob, &id).await);
        post(&boss, &path("quarantine/"), Value::Null).await.ok();
        assert!(!is_given(&bob, &id).await && !is_given(&ada, &id).await);
        assert!(info().await["quarantined_by"].is_string());
        post(&boss, &path("unquarantine/"), Value::Null).await.ok();
        assert!(is_given(&bob, &id).await);
        let protect = format!("/v1/media/protect/{id}");
        post(&boss, &protect, Value::Null).await.ok();
        assert_eq!(info().await["safe_from_quarantine"], true);
        let refused = post(&boss, &path("quarantine/"), Value::Null).await;
        refused.fails(403, "M_FORBIDDEN");
        assert!(is_given(&bob, &id).await);
        let unprotect = format!("/v1/media/unprotect/{id}");
        post(&boss, &unprotect, Value::Null).await.ok();
        let gone = delete(&boss, &path(""), Value::Null).await.ok();
        assert_eq!(gone, json!({ "deleted_media": [id], "total": 1 }));
        assert!(!is_given(&bob, &id).await);
        for answer in [
            get(&boss, &path("")).await,
            delete(&boss, &path(""), Value::Null).await,
            post(&boss, &protect, Value::Null).await,
            post(&boss, &path("quarantine/"), Value::Null).await,
            // A server may be called so.
            get(&boss, "/v1/media/protect/abc").await,
            get(&boss, "/v1/media/here.test/delete").await,
        ] {
            answer.fails(404, "M_NOT_FOUND");
        }
        // Another server's needn't be here.
        let far = "/v1/media/quarantine/elsewhere.test/abc";
        post(&boss, far, Value::Null).await.ok();
        let told = get(&boss, "/v1/media/elsewhere.test/abc").await.ok();
        assert_eq!(told["media_info"]["media_origin"], "elsewhere.test");
        let answer = delete(&boss, "/v1/media/elsewhere.test/abc", Value::Null).await;
        answer.fails(400, "M_UNKNOWN");
        for wrong in ["a..b/x", "here.test/a%2Fb", "%20/x"] {
            let path = format!("/v1/media/quarantine/{wrong}");
            post(&boss, &path, Value::Null)
                .await
                .fails(400, "M_INVALID_PARAM");
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_sent_to_a_room_or_by_a_user_is_kept_back() {
    each_server(async |server| {
        let (boss, ada, bob) = people(&server).await;
        let room = ada.create_room(json!({ "preset": "public_chat" })).await;
        bob.join(&room).await;
        let (hers, his, other) = (
            upload(&ada, "hers").await,
            upload(&bob, "his").await,
            upload(&bob, "other").await,
        );
        send(&ada, &room, &uri(&hers)).await;
        // Who only names a file of another's doesn't get it away.
        send(&ada, &room, &uri(&his)).await;
        send(&ada, &room, "mxc://elsewhere.test/far").await;
        let of_room = format!("/v1/room/{}/media", encoded(&room));
        let listed = get(&boss, &of_room).await.ok();
        let mut local = vec![uri(&hers), uri(&his)];
        local.sort();
        let mut told: Vec<_> = listed["local"]
            .as_array()
            .unwrap()
            .iter()
            .map(text)
            .collect();
        told.sort();
        assert_eq!(told, local);
        assert_eq!(listed["remote"], json!(["mxc://elsewhere.test/far"]));
        let done = post(&boss, &format!("{of_room}/quarantine"), Value::Null).await;
        assert_eq!(done.ok(), json!({ "num_quarantined": 1 }));
        assert!(!is_given(&bob, &hers).await && is_given(&bob, &his).await);
        let as_once = format!("/v1/quarantine_media/{}", encoded(&room));
        let again = post(&boss, &as_once, Value::Null).await;
        assert_eq!(again.ok(), json!({ "num_quarantined": 0 }));

        post(&boss, &format!("/v1/media/protect/{other}"), Value::Null)
            .await
            .ok();
        let of_bob = format!("/v1/user/{}/media/quarantine", encoded(&bob.id));
        let done = post(&boss, &of_bob, Value::Null).await.ok();
        assert_eq!(done, json!({ "num_quarantined": 1 }));
        assert!(!is_given(&ada, &his).await && is_given(&ada, &other).await);
    })
    .await;
}

#[tokio::test]
async fn old_files_are_deleted_but_pictures() {
    each_server(async |server| {
        let (boss, ada, _) = people(&server).await;
        let (face, old) = (upload(&ada, "face").await, upload(&ada, "old").await);
        let path = format!("/profile/{}/avatar_url", encoded(&ada.id));
        ada.put(&path, json!({ "avatar_url": uri(&face) }))
            .await
            .ok();
        server.advance(std::time::Duration::from_hours(1));
        let new = upload(&ada, "new").await;
        let before = START_MS + 1_000;
        let path = |more: &str| format!("/v1/media/delete?before_ts={before}{more}");
        let gone = post(&boss, &path("&size_gt=1000"), Value::Null).await.ok();
        assert_eq!(gone, json!({ "deleted_media": [], "total": 0 }));
        let gone = post(&boss, &path(""), Value::Null).await.ok();
        assert_eq!(gone, json!({ "deleted_media": [old], "total": 1 }));
        let as_once = format!("/v1/media/here.test/delete?before_ts={before}&keep_profiles=false");
        let gone = post(&boss, &as_once, Value::Null).await.ok();
        assert_eq!(gone["deleted_media"], json!([face]));
        assert!(is_given(&ada, &new).await);
        let purged = format!("/v1/purge_media_cache?before_ts={before}");
        let purged = post(&boss, &purged, Value::Null).await.ok();
        assert_eq!(purged, json!({ "deleted": 0 }));
        for (path, code) in [
            ("/v1/media/delete", "M_MISSING_PARAM"),
            ("/v1/media/delete?before_ts=1", "M_INVALID_PARAM"),
            ("/v1/media/delete?before_ts=-1", "M_INVALID_PARAM"),
            ("/v1/media/elsewhere.test/delete?before_ts=1", "M_UNKNOWN"),
            ("/v1/purge_media_cache", "M_MISSING_PARAM"),
            ("/v1/purge_media_cache?before_ts=5", "M_INVALID_PARAM"),
        ] {
            post(&boss, path, Value::Null).await.fails(400, code);
        }
    })
    .await;
}
