//! Spaces whose rooms are on several servers.

use http::{Method, StatusCode};
use rhizome_federation::outbound::{Limits, OutboundError};
use serde_json::json;

use super::{hierarchy, look, open, put, restricted, rooms, space};
use crate::e2ee::several::{Several, several};
use crate::harness::{User, esc};

/// How often a server was asked what a space holds.
fn asked(all: &Several, index: usize) -> usize {
    let requests = all.network.requests();
    let asked = requests
        .iter()
        .filter(|(to, line)| *to == *all.name(index) && line.contains("/federation/v1/hierarchy/"));
    asked.count()
}

async fn child(user: &User, space: &str, room: &str, via: &[&str]) {
    put(user, space, room, json!({ "via": via })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_is_told_across_servers() {
    several(2, async |all| {
        let alice = all.server(0).register("alice").await;
        let bob = all.server(1).register("bob").await;
        let open = json!({ "preset": "public_chat", "initial_state": open() });
        let (root, ss1) = (
            space(&alice, json!({})).await,
            space(&alice, open.clone()).await,
        );
        let (r1, r4) = (
            alice.create(open.clone()).await,
            alice.create(open.clone()).await,
        );
        let ss2 = space(&bob, json!({})).await;
        let (r2, r3) = (
            bob.create(open.clone()).await,
            bob.create(open.clone()).await,
        );
        let here = "a.example";
        let there = ["nobody.example", "b.example"];
        child(&alice, &root, &r1, &[here]).await;
        child(&alice, &root, &ss1, &[here]).await;
        child(&alice, &root, &r2, &there).await;
        child(&alice, &ss1, &ss2, &there).await;
        child(&alice, &ss1, &r3, &there).await;
        // Back to where it is asked from, of which the other server knows nothing.
        child(&bob, &ss2, &r4, &[here]).await;
        let inside = bob.create_public().await;
        child(&bob, &ss2, &inside, &["b.example"]).await;
        let closed = bob.create(json!({ "preset": "private_chat" })).await;
        child(&bob, &ss2, &closed, &["b.example"]).await;

        let page = look(&alice, &root, "").await;
        let expected = [&root, &r1, &ss1, &ss2, &r4, &inside, &r3, &r2];
        assert_eq!(rooms(&page), expected.map(String::as_str));
        // What is known isn't asked for again; what its server told with the space was never asked for.
        let times = asked(all, 1);
        assert_eq!(times, 3);
        let mut paged = Vec::new();
        let mut from = String::new();
        loop {
            let page = look(&alice, &root, &format!("limit=3{from}")).await;
            paged.extend(rooms(&page).iter().map(ToString::to_string));
            match page["next_batch"].as_str() {
                Some(token) => from = format!("&from={token}"),
                None => break,
            }
        }
        assert_eq!(paged.iter().collect::<Vec<_>>(), expected);
        assert_eq!(asked(all, 1), times);

        // A space elsewhere, with and without being told where.
        let (status, _) = hierarchy(&alice, &ss2, "").await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        let page = look(&alice, &ss2, "org.matrix.msc4235.via=b.example").await;
        assert_eq!(rooms(&page), [&ss2, &r4, &inside]);
        // Somebody who isn't there doesn't keep the rest from being told.
        let gone = all.name(1).to_owned();
        all.network.cut(&gone);
        let lonely = space(&alice, json!({})).await;
        let other = bob.create_public().await;
        child(&alice, &lonely, &other, &["b.example"]).await;
        child(&alice, &lonely, &r1, &[here]).await;
        assert_eq!(rooms(&look(&alice, &lonely, "").await), [&lonely, &r1]);
    })
    .await;
}

/// Whether a user is in a room that lets them in, their own server knows, and the other one must know of the server.
#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_space_are_told_of_rooms_for_members() {
    several(2, async |all| {
        let alice = all.server(0).register("alice").await;
        let eve = all.server(0).register("eve").await;
        let charlie = all.server(1).register("charlie").await;
        let root = space(&alice, json!({ "initial_state": open() })).await;
        let for_members = json!({ "preset": "private_chat", "initial_state": restricted(&root) });
        let room = charlie.create(for_members).await;
        child(&alice, &root, &room, &["b.example"]).await;
        // The other server doesn't know who is in the space.
        assert_eq!(rooms(&look(&alice, &root, "").await), [&*root]);
        assert!(all.join(&charlie, &root).await);
        assert_eq!(rooms(&look(&alice, &root, "").await), [&root, &room]);
        assert_eq!(rooms(&look(&eve, &root, "").await), [&*root]);
        eve.join(&root).await;
        assert_eq!(rooms(&look(&eve, &root, "").await), [&root, &room]);
        eve.leave(&root).await;
        assert_eq!(rooms(&look(&eve, &root, "").await), [&*root]);
    })
    .await;
}

/// What a server that nobody there may know of asks for.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_told_what_its_users_could_see() {
    several(2, async |all| {
        let alice = all.server(0).register("alice").await;
        let bob = all.server(1).register("bob").await;
        let denied = json!([{ "type": "m.room.server_acl", "state_key": "",
            "content": { "allow": ["*"], "deny": ["b.example"] } }]);
        let local = json!({ "m.federate": false });
        let root = space(&alice, json!({})).await;
        let closed = alice.create(json!({ "preset": "private_chat" })).await;
        let shut = json!({ "preset": "public_chat", "initial_state": denied });
        let shut = alice.create(shut).await;
        let local = json!({ "preset": "public_chat", "creation_content": local });
        let local = alice.create(local).await;
        let public = alice.create_public().await;
        for room in [&closed, &shut, &local, &public] {
            child(&alice, &root, room, &["a.example"]).await;
        }
        let path = format!("/_matrix/federation/v1/hierarchy/{}", esc(&root));
        let outbound = all.server(1).federation.outbound();
        let ask = async |path: &str| {
            let limits = Limits::default();
            let answer = outbound.call(all.name(0), Method::GET, path, None, limits);
            let answer = answer.await?;
            let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
            Ok::<_, OutboundError>(answer)
        };
        let told = ask(&path).await.unwrap();
        assert_eq!(told["room"]["room_id"], root.as_str());
        assert_eq!(told["room"]["children_state"].as_array().unwrap().len(), 4);
        assert_eq!(told["children"].as_array().unwrap().len(), 1);
        assert_eq!(told["children"][0]["room_id"], public.as_str());
        assert_eq!(told["inaccessible_children"], json!([closed, shut, local]));
        let suggested = ask(&format!("{path}?suggested_only=true")).await.unwrap();
        assert_eq!(suggested["room"]["children_state"], json!([]));
        assert_eq!(suggested["children"], json!([]));
        for room in [&closed, &shut, &local, "!nothing:a.example"] {
            let path = format!("/_matrix/federation/v1/hierarchy/{}", esc(room));
            let error = ask(&path).await.unwrap_err();
            assert_eq!(error.status(), Some(StatusCode::NOT_FOUND), "{room}");
        }
        // Who is invited is told.
        let invite = format!("/rooms/{}/invite", esc(&closed));
        alice
            .ok(Method::POST, &invite, json!({ "user_id": bob.id }))
            .await;
        let told = ask(&path).await.unwrap();
        assert_eq!(told["children"][0]["room_id"], closed.as_str());
    })
    .await;
}
