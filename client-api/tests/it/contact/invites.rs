//! People are invited by an e-mail address.

use axum::{Router, body::Body};
use http::{Method, Request};
use rhizome_federation::outbound::{Limits, OutboundError};
use rhizome_storage::AccountFlag;
use serde_json::{Value, json, value::RawValue};
use tower::ServiceExt as _;

use super::{
    directory::{Directory, NAME, TOKEN},
    each, refused,
};
use crate::{
    e2ee::several::{Several, several},
    harness::{Server, User, esc, watch},
};

const KIND: &str = "m.room.third_party_invite";

fn by_mail(address: &str) -> Value {
    json!({ "id_server": NAME, "id_access_token": TOKEN, "medium": "email", "address": address })
}

async fn invite(user: &User, room: &str, address: &str) -> (u16, Value) {
    let path = format!("/rooms/{}/invite", esc(room));
    let invited = user.call(Method::POST, &path, Some(by_mail(address)));
    let (status, answer) = invited.await;
    (status.as_u16(), answer)
}

/// An identity server tells a server of who has shown that an address is theirs.
async fn notify(server: &Server, method: Method, body: &Value) -> u16 {
    let watch = watch();
    let router: Router = watch.over(server.federation.router());
    let request = Request::builder()
        .method(method)
        .uri("/_matrix/federation/v1/3pid/onbind")
        .body(Body::from(body.to_string()));
    let answer = router.oneshot(request.unwrap()).await.unwrap();
    watch.assert_kept();
    answer.status().as_u16()
}

/// What it tells: of invites of Ada's to this room.
fn onbind(user: &str, room: &str, inviter: &str, signed: &Value) -> Value {
    let address = "bob@example.org";
    json!({
        "medium": "email", "address": address, "mxid": user,
        "invites": [{
            "medium": "email", "address": address, "mxid": user,
            "room_id": room, "sender": inviter, "signed": signed,
        }],
    })
}

/// What a user is in a room, as another sees it.
async fn membership(viewer: &User, room: &str, user: &str) -> Option<String> {
    let path = format!("/rooms/{}/state/m.room.member/{}", esc(room), esc(user));
    let (status, answer) = viewer.get(&path).await;
    let membership = answer["membership"].as_str();
    membership
        .filter(|_| status.is_success())
        .map(str::to_owned)
}

#[tokio::test]
async fn who_is_known_is_invited_like_anybody() {
    each(async |world| {
        let directory = Directory::attach(&world.network);
        let (ada, bob) = (
            world.server.register("ada").await,
            world.server.register("bob").await,
        );
        directory.binds("bob@example.org", &bob.id);
        let room = ada.create(json!({ "name": "Kitchen" })).await;
        assert_eq!(
            invite(&ada, &room, "BOB@example.org").await,
            (200, json!({}))
        );
        assert_eq!(
            membership(&ada, &room, &bob.id).await.as_deref(),
            Some("invite")
        );
        assert!(directory.stored().is_empty());
        bob.join(&room).await;
        // Twice isn't.
        refused(
            invite(&ada, &room, "bob@example.org").await,
            403,
            "M_FORBIDDEN",
        );
        let room = ada
            .create(json!({ "invite_3pid": [by_mail("bob@example.org")] }))
            .await;
        assert_eq!(
            membership(&ada, &room, &bob.id).await.as_deref(),
            Some("invite")
        );
    })
    .await;
}

#[tokio::test]
async fn who_isnt_known_is_invited_once_they_are() {
    each(async |world| {
        let directory = Directory::attach(&world.network);
        let (ada, bob) = (
            world.server.register("ada").await,
            world.server.register("bob").await,
        );
        let room = ada
            .create(json!({ "name": "Kitchen", "invite_3pid": [by_mail("Bob@example.org")] }))
            .await;
        let stored = directory.stored();
        assert_eq!(stored.len(), 1);
        for (key, value) in [
            ("medium", "email"),
            ("address", "bob@example.org"),
            ("room_id", &*room),
            ("sender", &*ada.id),
            ("room_name", "Kitchen"),
            ("room_join_rules", "invite"),
        ] {
            assert_eq!(stored[0][key], value, "{key}");
        }
        let told = ada
            .read(&format!("/rooms/{}/state/{KIND}/token1", esc(&room)))
            .await;
        assert_eq!(told["display_name"], "b...@e...");
        assert_eq!(told["public_keys"][0]["public_key"], told["public_key"]);
        assert!(!told.to_string().contains("bob"), "{told}");
        let signed = directory.signs("token1", &bob.id);
        let body = onbind(&bob.id, &room, &ada.id, &signed);
        assert_eq!(notify(&world.server, Method::PUT, &body).await, 200);
        let path = format!("/rooms/{}/state/m.room.member/{}", esc(&room), esc(&bob.id));
        let member = ada.read(&path).await;
        assert_eq!(member["membership"], "invite");
        assert_eq!(
            member["third_party_invite"],
            json!({ "display_name": "b...@e...", "signed": signed })
        );
        bob.join(&room).await;
        // Who is put out doesn't come in by the same word again.
        let path = format!("/rooms/{}/kick", esc(&room));
        ada.ok(Method::POST, &path, json!({ "user_id": bob.id }))
            .await;
        assert_eq!(notify(&world.server, Method::POST, &body).await, 200);
        assert_eq!(
            membership(&ada, &room, &bob.id).await.as_deref(),
            Some("leave")
        );
    })
    .await;
}

#[tokio::test]
async fn nobody_comes_in_by_what_wasnt_said() {
    each(async |world| {
        let directory = Directory::attach(&world.network);
        let (ada, bob, eve) = (
            world.server.register("ada").await,
            world.server.register("bob").await,
            world.server.register("eve").await,
        );
        let room = ada.create(json!({})).await;
        // Nobody is written to for who may not invite.
        let (status, _) = invite(&eve, &room, "bob@example.org").await;
        assert_eq!(status, 403);
        assert!(directory.stored().is_empty());
        assert_eq!(invite(&ada, &room, "bob@example.org").await.0, 200);
        let right = directory.signs("token1", &bob.id);
        let mut forged = right.clone();
        forged["mxid"] = json!(eve.id);
        let mut unsigned = right.clone();
        unsigned["signatures"] = json!({ NAME: { "ed25519:0": "AAAA" } });
        let other = directory.signs("token2", &bob.id);
        for (user, inviter, signed) in [
            (&eve, &ada, &right),
            (&eve, &ada, &forged),
            (&bob, &ada, &unsigned),
            (&bob, &ada, &other),
            (&bob, &eve, &right),
        ] {
            let body = onbind(&user.id, &room, &inviter.id, signed);
            assert_eq!(notify(&world.server, Method::PUT, &body).await, 200);
            for user in [&bob, &eve] {
                assert_eq!(membership(&ada, &room, &user.id).await, None);
            }
        }
        let stranger = onbind("@bob:elsewhere", &room, &ada.id, &right);
        assert_eq!(notify(&world.server, Method::PUT, &stranger).await, 400);
        let nobody = onbind("@nobody:here", &room, &ada.id, &right);
        // Strangers aren't told who has an account.
        assert_eq!(notify(&world.server, Method::PUT, &nobody).await, 200);
        // A key that the identity server has taken back.
        directory.revoke();
        let body = onbind(&bob.id, &room, &ada.id, &right);
        assert_eq!(notify(&world.server, Method::PUT, &body).await, 200);
        assert_eq!(membership(&ada, &room, &bob.id).await, None);
    })
    .await;
}

#[tokio::test]
async fn who_joins_shows_what_was_signed() {
    each(async |world| {
        let directory = Directory::attach(&world.network);
        let (ada, bob) = (
            world.server.register("ada").await,
            world.server.register("bob").await,
        );
        let room = ada.create(json!({})).await;
        assert_eq!(invite(&ada, &room, "bob@example.org").await.0, 200);
        let mut signed = directory.signs_for("token1", &bob.id, Some(&ada.id));
        let path = format!("/rooms/{}/join", esc(&room));
        let mut wrong = signed.clone();
        wrong["token"] = "token2".into();
        let body = json!({ "third_party_signed": wrong });
        let (status, answer) = bob.call(Method::POST, &path, Some(body)).await;
        refused((status.as_u16(), answer), 403, "M_FORBIDDEN");
        let body = json!({ "third_party_signed": signed.take() });
        // Who invited them can't invite anybody now.
        let store = &world.server.store;
        let inviter = store.user_no(ada.id.as_str().try_into().unwrap());
        let inviter = inviter.await.unwrap();
        let suspend = async |on| {
            let set = store.set_account_flag(inviter, AccountFlag::Suspended, on);
            assert!(set.await.unwrap());
        };
        suspend(true).await;
        let (status, answer) = bob.call(Method::POST, &path, Some(body.clone())).await;
        refused((status.as_u16(), answer), 403, "M_FORBIDDEN");
        suspend(false).await;
        bob.ok(Method::POST, &path, body).await;
        assert_eq!(
            membership(&ada, &room, &bob.id).await.as_deref(),
            Some("join")
        );
    })
    .await;
}

/// Ada of the first server invites an address; Bob is of the second.
async fn two(all: &Several) -> (Directory, User, User, String) {
    let directory = Directory::attach(&all.network);
    let ada = all.server(0).register("ada").await;
    let bob = all.server(1).register("bob").await;
    let room = ada.create(json!({ "name": "Kitchen" })).await;
    assert_eq!(invite(&ada, &room, "bob@example.org").await.0, 200);
    (directory, ada, bob, room)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_of_another_server_is_invited_by_the_one_that_invited_the_address() {
    several(2, async |all| {
        let (directory, ada, bob, room) = two(all).await;
        let signed = directory.signs("token1", &bob.id);
        let body = onbind(&bob.id, &room, &ada.id, &signed);
        assert_eq!(notify(all.server(1), Method::PUT, &body).await, 200);
        assert_eq!(
            membership(&ada, &room, &bob.id).await.as_deref(),
            Some("invite")
        );
        let told = bob.sync(None, "").await;
        assert!(told["rooms"]["invite"][&room].is_object(), "{told}");
        assert!(all.join(&bob, &room).await);
        assert_eq!(
            membership(&ada, &room, &bob.id).await.as_deref(),
            Some("join")
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_is_believed_no_more_than_the_identity_server_says() {
    several(2, async |all| {
        let (directory, ada, bob, room) = two(all).await;
        let eve = all.server(1).register("eve").await;
        let mut forged = directory.signs("token1", &bob.id);
        forged["mxid"] = json!(eve.id);
        let body = onbind(&eve.id, &room, &ada.id, &forged);
        assert_eq!(notify(all.server(1), Method::PUT, &body).await, 200);
        assert_eq!(membership(&ada, &room, &eve.id).await, None);
        directory.revoke();
        let signed = directory.signs("token1", &bob.id);
        let body = onbind(&bob.id, &room, &ada.id, &signed);
        assert_eq!(notify(all.server(1), Method::PUT, &body).await, 200);
        assert_eq!(membership(&ada, &room, &bob.id).await, None);
        assert!(bob.sync(None, "").await["rooms"]["invite"][&room].is_null());
    })
    .await;
}

/// What the second server is told when it asks the first one for an invite.
async fn exchange(all: &Several, room: &str, body: &Value) -> String {
    let body = RawValue::from_string(body.to_string()).unwrap();
    let target = format!(
        "/_matrix/federation/v1/exchange_third_party_invite/{}",
        esc(room)
    );
    let outbound = all.server(1).federation.outbound();
    let limits = Limits::default();
    let asked = outbound.call(all.name(0), Method::PUT, &target, Some(&body), limits);
    match asked.await {
        Ok(_) => "ok".to_owned(),
        Err(OutboundError::Remote(error)) => error.errcode.into_owned(),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_asks_for_invites_of_its_own_users_alone() {
    several(3, async |all| {
        let (directory, ada, bob, room) = two(all).await;
        let other = all.server(2).register("other").await;
        let event = |user: &User, sender: &User| {
            let signed = directory.signs("token1", &user.id);
            let invite = json!({ "display_name": "x", "signed": signed });
            json!({
                "type": "m.room.member", "room_id": room, "sender": sender.id, "state_key": user.id,
                "content": { "membership": "invite", "third_party_invite": invite },
            })
        };
        let right = event(&bob, &ada);
        let mut elsewhere = right.clone();
        elsewhere["room_id"] = "!elsewhere:a.example".into();
        let mut joins = right.clone();
        joins["content"]["membership"] = "join".into();
        let mut topic = right.clone();
        topic["type"] = "m.room.topic".into();
        for (body, code) in [
            (event(&other, &ada), "M_FORBIDDEN"),
            (event(&bob, &bob), "M_INVALID_PARAM"),
            (elsewhere, "M_INVALID_PARAM"),
            (joins, "M_INVALID_PARAM"),
            (topic, "M_INVALID_PARAM"),
        ] {
            assert_eq!(exchange(all, &room, &body).await, code, "{body}");
        }
        let nowhere = exchange(all, "!nowhere:a.example", &right).await;
        assert_eq!(nowhere, "M_NOT_FOUND");
        for user in [&bob, &other] {
            assert_eq!(membership(&ada, &room, &user.id).await, None);
        }
        assert_eq!(exchange(all, &room, &right).await, "ok");
        let now = membership(&ada, &room, &bob.id).await;
        assert_eq!(now.as_deref(), Some("invite"));
    })
    .await;
}
