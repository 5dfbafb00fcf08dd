//! For whom a service may act, and for whom it mustn't.

use http::{Method, StatusCode};
use rhizome_storage::AccountFlag;
use ruma::{UserId, server_name, user_id};
use serde_json::{Value, json};

use super::{Acting, IRC, PUPPETS, refuses, story};
use crate::harness::{User, esc};

#[tokio::test]
async fn a_service_is_its_own_user_or_one_of_its_namespace() {
    story(&[IRC], async |server| {
        let irc = Acting::of(server, "irc-token");
        let own = json!({ "user_id": "@ircbot:here" });
        assert_eq!(irc.read("/account/whoami").await, own);
        let ann = irc.makes("irc_ann").await;
        assert_eq!(
            ann.read("/account/whoami").await["user_id"],
            "@irc_ann:here"
        );
        // Both again, from memory; and by the older way to show a token.
        assert_eq!(
            ann.read("/account/whoami").await["user_id"],
            "@irc_ann:here"
        );
        assert_eq!(irc.read("/account/whoami").await, own);
        let path = format!(
            "/_matrix/client/v3/account/whoami?access_token=irc-token&user_id={}",
            esc("@irc_ann:here")
        );
        let (status, who) = server.request(Method::GET, &path, None, None).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(who["user_id"], "@irc_ann:here");

        let room = ann.ok(Method::POST, "/createRoom", json!({})).await;
        let room = esc(room["room_id"].as_str().unwrap());
        let path = format!("/rooms/{room}/send/m.room.message/1");
        let message = json!({ "msgtype": "m.text", "body": "hello" });
        let sent = ann.ok(Method::PUT, &path, message.clone()).await;
        // The same transaction is the same event.
        assert_eq!(ann.ok(Method::PUT, &path, message).await, sent);
        let path = format!(
            "/rooms/{room}/event/{}",
            esc(sent["event_id"].as_str().unwrap())
        );
        assert_eq!(ann.read(&path).await["sender"], "@irc_ann:here");
        let refusal = (403, "M_FORBIDDEN");
        irc.refused(Method::GET, &path, Value::Null, (404, "M_NOT_FOUND"))
            .await;
        let path = format!("/rooms/{room}/send/m.room.message/2");
        irc.refused(Method::PUT, &path, json!({}), refusal).await;
    })
    .await;
}

#[tokio::test]
async fn a_service_acts_for_nobody_else() {
    story(&[IRC], async |server| {
        server.register("ada").await;
        let irc = Acting::of(server, "irc-token");
        for other in [
            "@ada:here",
            "@irc_ann:there",
            "@irc_ann:here:8448",
            "@irc_nobody:here",
            "irc_ann",
            "@",
            "",
            "@ada:here\0",
        ] {
            irc.as_user(other)
                .whoami_refused((403, "M_FORBIDDEN"))
                .await;
        }
        // Nobody comes to be by that.
        let nobody = user_id!("@irc_nobody:here");
        assert_eq!(server.store.known_user(nobody).await.unwrap(), None);
        for token in ["irc-token2", "irc-hs-token", "irc"] {
            let wrong = Acting::of(server, token);
            wrong.whoami_refused((401, "M_UNKNOWN_TOKEN")).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_others_put_into_their_queries_makes_them_nobody_else() {
    story(&[IRC, PUPPETS], async |server| {
        let ada = server.register("ada").await;
        Acting::of(server, "irc-token").makes("irc_ann").await;
        let mine = ada.read("/account/whoami").await;
        for query in [
            "user_id=%40irc_ann%3Ahere",
            "user_id=%40ircbot%3Ahere&device_id=X",
            "device_id=X",
        ] {
            let path = format!("/account/whoami?{query}");
            assert_eq!(ada.read(&path).await, mine, "{query}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_service_acts_as_a_device_that_there_is() {
    story(&[IRC], async |server| {
        let irc = Acting::of(server, "irc-token");
        let ann = irc.makes("irc_ann").await;
        let unknown = (400, "M_UNKNOWN_DEVICE");
        let as_device = ann.and("device_id=BRIDGE");
        as_device.whoami_refused(unknown).await;
        let (status, _) = ann.call(Method::PUT, "/devices/BRIDGE", json!({})).await;
        assert_eq!(status, StatusCode::CREATED);
        let formerly = ann.and("org.matrix.msc3202.device_id=BRIDGE");
        for acting in [&as_device, &as_device, &formerly] {
            let who = acting.read("/account/whoami").await;
            assert_eq!(who["device_id"], "BRIDGE");
            assert_eq!(who["user_id"], "@irc_ann:here");
        }
        assert_eq!(ann.read("/account/whoami").await.get("device_id"), None);
        // It is nobody else's.
        irc.and("device_id=BRIDGE").whoami_refused(unknown).await;
        // When it is gone, it is gone here as well.
        ann.ok(Method::DELETE, "/devices/BRIDGE", json!({})).await;
        as_device.whoami_refused(unknown).await;
    })
    .await;
}

#[tokio::test]
async fn what_becomes_of_an_account_counts_for_services_at_once() {
    story(&[IRC], async |server| {
        let irc = Acting::of(server, "irc-token");
        let ann = irc.makes("irc_ann").await;
        let no = server
            .store
            .user_no(user_id!("@irc_ann:here"))
            .await
            .unwrap();
        let flag = async |flag, on| {
            assert!(server.store.set_account_flag(no, flag, on).await.unwrap());
        };
        ann.read("/account/whoami").await;
        flag(AccountFlag::Locked, true).await;
        ann.whoami_refused((401, "M_USER_LOCKED")).await;
        flag(AccountFlag::Locked, false).await;
        ann.read("/account/whoami").await;
        flag(AccountFlag::Suspended, true).await;
        ann.read("/account/whoami").await;
        let suspended = (403, "M_USER_SUSPENDED");
        ann.refused(Method::POST, "/createRoom", json!({}), suspended)
            .await;
        flag(AccountFlag::Suspended, false).await;
        ann.ok(Method::POST, "/createRoom", json!({})).await;
        server.store.deactivate_account(no, false).await.unwrap();
        ann.whoami_refused((403, "M_USER_DEACTIVATED")).await;
    })
    .await;
}

#[tokio::test]
async fn a_service_never_administers_the_server() {
    story(&[PUPPETS], async |server| {
        let ada = server.register("ada").await;
        let no = server.store.user_no(user_id!("@ada:here")).await.unwrap();
        server
            .store
            .set_account_flag(no, AccountFlag::Admin, true)
            .await
            .unwrap();
        let ada_by_service = Acting::of(server, "puppets-token").as_user(&ada.id);
        assert_eq!(
            ada_by_service.read("/account/whoami").await["user_id"],
            ada.id
        );
        let path = format!("/_matrix/client/v1/admin/lock/{}", esc("@puppeteer:here"));
        let of = async |token: &str, query: &str| {
            let path = format!("{path}{query}");
            server.request(Method::GET, &path, Some(token), None).await
        };
        let (status, _) = of(&ada.token, "").await;
        assert_eq!(status, StatusCode::OK);
        let query = format!("?user_id={}", esc(&ada.id));
        let (status, error) = of("puppets-token", &query).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{error}");
        assert_eq!(error["errcode"], "M_FORBIDDEN");
    })
    .await;
}

/// A service that may act for everybody, and log in as them.
const ALL: &str = r"
id: all
url: null
as_token: all-token
hs_token: all-hs-token
sender_localpart: allbot
rate_limited: false
namespaces:
  users: [{exclusive: false, regex: '@.*'}]
";

#[tokio::test]
async fn a_service_gets_nothing_of_what_is_for_administrators() {
    story(&[ALL], async |server| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let no = server.store.user_no(user_id!("@ada:here")).await.unwrap();
        let administers = server.store.set_account_flag(no, AccountFlag::Admin, true);
        assert!(administers.await.unwrap());
        let users = "/_synapse/admin/v2/users";
        let (status, _) = server
            .request(Method::GET, users, Some(&ada.token), None)
            .await;
        assert_eq!(status, StatusCode::OK);
        let as_ada = format!("?user_id={}", esc(&ada.id));
        for (path, method) in rhizome_client_api::admin_endpoints() {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            for query in ["", &*as_ada] {
                let path = format!("{path}{query}").replace(['{', '}'], "");
                let answer = server.request(method.clone(), &path, Some("all-token"), None);
                let (status, error) = answer.await;
                assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path}: {error}");
                assert_eq!(error["errcode"], "M_FORBIDDEN", "{method} {path}");
            }
        }
        // Nor does it get a token of theirs.
        let login = async |user: &str| {
            let identifier = json!({ "type": "m.id.user", "user": user });
            let body = json!({ "type": super::TYPE, "identifier": identifier });
            let path = "/_matrix/client/v3/login";
            server
                .request(Method::POST, path, Some("all-token"), Some(body))
                .await
        };
        let (status, error) = login(&ada.id).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{error}");
        assert_eq!(error["errcode"], "M_FORBIDDEN");
        let (status, answer) = login(&bob.id).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_service_reads_nothing_redacted_because_its_user_administers_the_server() {
    story(&[ALL], async |server| {
        let (ada, bob) = (server.register("ada").await, server.register("bob").await);
        let no = server.store.user_no(user_id!("@ada:here")).await.unwrap();
        let administers = server.store.set_account_flag(no, AccountFlag::Admin, true);
        assert!(administers.await.unwrap());
        let room = bob.create_public().await;
        ada.join(&room).await;
        let said = bob.say(&room, "improper").await;
        let path = format!("/rooms/{}/redact/{}/1", esc(&room), esc(&said));
        bob.ok(Method::PUT, &path, json!({})).await;
        let path = format!(
            "/_matrix/client/v3/rooms/{}/event/{}?fi.mau.msc2815.include_unredacted_content=true&user_id={}",
            esc(&room),
            esc(&said),
            esc(&ada.id)
        );
        for (token, expected) in [
            (&*ada.token, StatusCode::OK),
            ("all-token", StatusCode::FORBIDDEN),
        ] {
            let (status, answer) = server.request(Method::GET, &path, Some(token), None).await;
            assert_eq!(status, expected, "{answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_registered_no_more_is_nobody() {
    story(&[IRC, PUPPETS], async |server| {
        let irc = Acting::of(server, "irc-token");
        let ann = irc.makes("irc_ann").await;
        ann.read("/account/whoami").await;
        let services = server.federation.services();
        services.replace(super::registrations(&[PUPPETS]));
        ann.whoami_refused((401, "M_UNKNOWN_TOKEN")).await;
        irc.whoami_refused((401, "M_UNKNOWN_TOKEN")).await;
        services.replace(super::registrations(&[IRC]));
        ann.read("/account/whoami").await;
    })
    .await;
}

#[tokio::test]
async fn nothing_but_a_registration_makes_accounts() {
    story(&[IRC], async |server| {
        let ada = server.register("ada").await;
        let room = ada.create(json!({})).await;
        let nobody: &UserId = user_id!("@irc_nobody:here");
        let irc = Acting::of(server, "irc-token").as_user(nobody.as_str());
        let refusal = (403, "M_FORBIDDEN");
        let name = format!("/profile/{}/displayname", esc(nobody.as_str()));
        irc.refused(Method::PUT, &name, json!({ "displayname": "x" }), refusal)
            .await;
        irc.refused(Method::POST, "/createRoom", json!({}), refusal)
            .await;
        let join = format!("/rooms/{}/join", esc(&room));
        irc.refused(Method::POST, &join, json!({}), refusal).await;
        let data = format!("/user/{}/account_data/x.y", esc(nobody.as_str()));
        irc.refused(Method::PUT, &data, json!({}), refusal).await;
        assert_eq!(server.store.account(nobody).await.unwrap(), None);
        // Nor does the profile of somebody else.
        let ann = irc.makes("irc_ann").await;
        ann.refused(Method::PUT, &name, json!({ "displayname": "x" }), refusal)
            .await;
        assert_eq!(server.store.account(nobody).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn where_nobody_is_a_service_no_token_is_one() {
    story(&[], async |server| {
        assert_eq!(server.federation.services().current().len(), 0);
        let irc = Acting::of(server, "irc-token");
        irc.whoami_refused((401, "M_UNKNOWN_TOKEN")).await;
        let ada = server.register("ada").await;
        let ping = "/_matrix/client/v1/appservice/irc/ping";
        let of = async |user: &User| {
            let body = Some(json!({}));
            server
                .request(Method::POST, ping, Some(&user.token), body)
                .await
        };
        let (status, error) = of(&ada).await;
        assert_eq!(
            (status.as_u16(), &error["errcode"]),
            (403, &json!("M_FORBIDDEN"))
        );
        let name = server_name!("here");
        let list = format!(
            "/directory/list/appservice/irc/{}",
            esc(&format!("!x:{name}"))
        );
        let body = json!({ "visibility": "public" });
        refuses(&ada, (Method::PUT, &list), body, (403, "M_FORBIDDEN")).await;
    })
    .await;
}
