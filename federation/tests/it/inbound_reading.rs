//! What other servers may read here, and what the ACL denies.

use http::Method;
use rhizome_protocol::{
    Object, RoomRules,
    draft::{self},
};
use rhizome_rooms::{create::plan::Preset, membership::Action};
use ruma::{EventId, RoomVersionId, UserId};
use serde_json::json;

use crate::{
    inbound::{errcode, forbidden, forge, newest, not_found, take},
    support::key,
    world::{VERSIONS, each, enc, json_of, still},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_state_at_a_fork_and_what_events_rest_on() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in &VERSIONS {
            let room = a.create(&alice, version).await;
            b.join(&bob, &room, a).await.unwrap();
            let base = newest(a, &room).await;
            let topic = async |text: &str| {
                let content = json!({ "topic": text });
                let event = forge(
                    a,
                    1,
                    &alice,
                    &room,
                    &[&base],
                    "m.room.topic",
                    Some(""),
                    content,
                )
                .await;
                take(a, &event).await;
                event
            };
            let (one, two) = (topic("one").await, topic("two").await);
            let ends = [one.event_id(), two.event_id()];
            let content = json!({ "body": "both" });
            let merge = forge(a, 1, &alice, &room, &ends, "m.room.message", None, content).await;
            take(a, &merge).await;

            let at = async |id: &EventId| {
                let path = format!(
                    "/_matrix/federation/v1/state_ids/{}?event_id={}",
                    enc(&room),
                    enc(id)
                );
                let ids = b.get(a, &path).await.unwrap();
                let path = path.replace("state_ids", "state");
                let whole = b.get(a, &path).await.unwrap();
                assert_eq!(
                    whole["pdus"].as_array().unwrap().len(),
                    ids["pdu_ids"].as_array().unwrap().len()
                );
                assert_eq!(
                    whole["auth_chain"].as_array().unwrap().len(),
                    ids["auth_chain_ids"].as_array().unwrap().len()
                );
                ids["pdu_ids"].as_array().unwrap().clone()
            };
            // Before each topic there was none; before the merge there is one of the two.
            for end in [&one, &two] {
                let state = at(end.event_id()).await;
                assert!(
                    !state.contains(&json!(one.event_id()))
                        && !state.contains(&json!(two.event_id()))
                );
            }
            let merged = at(merge.event_id()).await;
            let now = a.state(&room).await;
            let winner = &now[&("m.room.topic".to_owned(), String::new())];
            assert!(merged.contains(&json!(winner)));
            assert_eq!(merged.len(), now.len());

            let path = format!(
                "/_matrix/federation/v1/event_auth/{}/{}",
                enc(&room),
                enc(merge.event_id())
            );
            let chain = b.get(a, &path).await.unwrap()["auth_chain"]
                .as_array()
                .unwrap()
                .len();
            assert!(
                chain >= 2,
                "alice's membership and the power levels at least"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_for_servers_in_the_room_as_far_as_they_may_see_it() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V12).await;
        let joined_only = json!({ "history_visibility": "joined" });
        let early = a.say(&alice, &room, "for all").await;
        a.send(&alice, &room, "m.room.history_visibility", Some(""), joined_only).await.unwrap();
        let hidden = a.say(&alice, &room, "for members").await;
        b.join(&bob, &room, a).await.unwrap();
        let late = a.say(&alice, &room, "for bob too").await;

        let event = async |id: &EventId| {
            let path = format!("/_matrix/federation/v1/event/{}", enc(id));
            b.get(a, &path).await.unwrap()["pdus"][0].clone()
        };
        assert_eq!(event(&early).await["content"]["body"], "for all");
        assert_eq!(event(&late).await["content"]["body"], "for bob too");
        // Redacted, so that the graph stays whole.
        assert_eq!(event(&hidden).await["content"], json!({}));

        let path = format!(
            "/_matrix/federation/v1/backfill/{}?v={}&limit=4",
            enc(&room),
            enc(&late)
        );
        let pdus = b.get(a, &path).await.unwrap()["pdus"].clone();
        let pdus = pdus.as_array().unwrap();
        assert_eq!(pdus.len(), 4);
        assert_eq!(pdus[0]["content"]["body"], "for bob too");
        assert_eq!(pdus[1]["type"], "m.room.member");
        assert_eq!(pdus[2]["content"], json!({}));

        let path = format!("/_matrix/federation/v1/get_missing_events/{}", enc(&room));
        let ask = |limit: u32| {
            json!({ "earliest_events": [early], "latest_events": [late], "limit": limit })
        };
        let events = b.request(a, Method::POST, &path, Some(ask(10))).await.unwrap()["events"].clone();
        let kinds: Vec<_> =
            events.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["m.room.history_visibility", "m.room.message", "m.room.member"]);
        let events = b.request(a, Method::POST, &path, Some(ask(1))).await.unwrap()["events"].clone();
        assert_eq!(events.as_array().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_unknown_rooms() {
    still(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        let room = a
            .create_with(&alice, &RoomVersionId::V12, Preset::PrivateChat)
            .await;
        a.change(&alice, &room, &bob, Action::Invite).await.unwrap();
        b.join(&bob, &room, a).await.unwrap();
        let event = a.say(&alice, &room, "secret").await;

        let reads = |room: &str| {
            let (room, event) = (enc(room), enc(&event));
            [
                format!("/_matrix/federation/v1/state/{room}?event_id={event}"),
                format!("/_matrix/federation/v1/state_ids/{room}?event_id={event}"),
                format!("/_matrix/federation/v1/event_auth/{room}/{event}"),
                format!("/_matrix/federation/v1/backfill/{room}?v={event}&limit=10"),
            ]
        };
        for path in reads(room.as_str()) {
            assert_eq!(errcode(c.get(a, &path).await), forbidden(), "{path}");
            assert!(b.get(a, &path).await.is_ok(), "{path}");
        }
        for path in reads("!unknown:a.example") {
            assert_eq!(errcode(b.get(a, &path).await), not_found(), "{path}");
        }
        let path = format!("/_matrix/federation/v1/event/{}", enc(&event));
        assert_eq!(errcode(c.get(a, &path).await), forbidden());
        let path = format!("/_matrix/federation/v1/event/{}", enc("$nothing"));
        assert_eq!(errcode(b.get(a, &path).await), not_found());
        let path = format!("/_matrix/federation/v1/get_missing_events/{}", enc(&room));
        let body = json!({ "earliest_events": [], "latest_events": [event] });
        assert_eq!(
            errcode(c.request(a, Method::POST, &path, Some(body)).await),
            forbidden()
        );

        // make_join: versions, invitation, other servers' users, unknown rooms.
        let make = |what: &str, room: &str, user: &UserId, query: &str| {
            format!(
                "/_matrix/federation/v1/make_{what}/{}/{}{query}",
                enc(room),
                enc(user)
            )
        };
        let path = make("join", room.as_str(), &carol, "?ver=12");
        assert_eq!(errcode(c.get(a, &path).await), forbidden());
        let path = make("join", room.as_str(), &carol, "?ver=10&ver=11");
        let refused = c.get(a, &path).await.unwrap_err();
        assert_eq!(refused.errcode, "M_INCOMPATIBLE_ROOM_VERSION");
        assert_eq!(refused.extra["room_version"], "12");
        let path = make("join", room.as_str(), &bob, "?ver=12");
        assert_eq!(errcode(c.get(a, &path).await), forbidden());
        let path = make("join", "!unknown:a.example", &carol, "?ver=12");
        assert_eq!(errcode(c.get(a, &path).await), not_found());
        let path = make("leave", room.as_str(), &carol, "");
        assert_eq!(errcode(c.get(a, &path).await), forbidden());

        // What isn't a join of one's own user is no send_join.
        let prev = newest(b, &room).await;
        let content = json!({ "body": "no join" });
        let event = forge(b, 2, &bob, &room, &[&prev], "m.room.message", None, content).await;
        for version in ["v1", "v2"] {
            let path = format!(
                "/_matrix/federation/{version}/send_join/{}/{}",
                enc(&room),
                enc(event.event_id())
            );
            let refused = b
                .request(a, Method::PUT, &path, Some(json_of(&event)))
                .await;
            assert_eq!(errcode(refused), (400, "M_INVALID_PARAM".to_owned()));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_the_acl_denies() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V12).await;
        b.join(&bob, &room, a).await.unwrap();
        let prev = newest(b, &room).await;
        let acl = json!({ "allow": ["*"], "deny": ["b.*"] });
        a.send(&alice, &room, "m.room.server_acl", Some(""), acl)
            .await
            .unwrap();

        let event = newest(a, &room).await;
        for path in [
            format!(
                "/_matrix/federation/v1/state_ids/{}?event_id={}",
                enc(&room),
                enc(&event)
            ),
            format!(
                "/_matrix/federation/v1/backfill/{}?v={}&limit=10",
                enc(&room),
                enc(&event)
            ),
            format!(
                "/_matrix/federation/v1/make_join/{}/{}?ver=12",
                enc(&room),
                enc(&bob)
            ),
            format!(
                "/_matrix/federation/v1/make_leave/{}/{}",
                enc(&room),
                enc(&bob)
            ),
        ] {
            assert_eq!(errcode(b.get(a, &path).await), forbidden(), "{path}");
        }
        let content = json!({ "body": "let me in" });
        let event = forge(b, 2, &bob, &room, &[&prev], "m.room.message", None, content).await;
        let typing = json!({
            "edu_type": "m.typing",
            "content": { "room_id": room, "user_id": bob, "typing": true },
        });
        let told = b
            .transaction(a, "denied", &[json_of(&event)], &[typing])
            .await;
        assert!(
            told[event.event_id().as_str()]["error"]
                .as_str()
                .unwrap()
                .contains("ACL")
        );
        assert!(a.event(event.event_id()).await.is_none());
        let no = a.store().room(&room).await.unwrap().unwrap().room;
        assert!(a.store().ephemeral().typing(no).1.is_empty());
        // Others come and go as before.
        c.join(&c.user("carol"), &room, a).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_endpoints_give_the_same_in_their_own_form() {
    still(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        for (what, membership) in [("join", "join"), ("leave", "leave")] {
            let path = format!(
                "/_matrix/federation/v1/make_{what}/{}/{}?ver=11",
                enc(&room),
                enc(&bob)
            );
            let made = b.get(a, &path).await.unwrap();
            assert_eq!(made["room_version"], "11");
            let mut event: Object = made["event"].as_object().unwrap().clone();
            assert_eq!(event["content"]["membership"], membership);
            event.insert("origin_server_ts".to_owned(), 1_700_000_000_000_i64.into());
            let rules = RoomRules::named("11").unwrap();
            let event = draft::finish(rules, event, &b.name, &key(2)).unwrap();
            let path = format!(
                "/_matrix/federation/v1/send_{what}/{}/{}",
                enc(&room),
                enc(event.event_id())
            );
            let answer = b
                .request(a, Method::PUT, &path, Some(json_of(&event)))
                .await
                .unwrap();
            assert_eq!(answer[0], 200);
            if what == "join" {
                let state = answer[1]["state"].as_array().unwrap();
                assert!(state.iter().any(|event| event["type"] == "m.room.create"));
                assert!(!answer[1]["auth_chain"].as_array().unwrap().is_empty());
            } else {
                assert_eq!(answer[1], json!({}));
            }
        }
    })
    .await;
}
