//! `/messages`, `/context`, `/members` and their like.

use http::StatusCode;
use serde_json::json;

use crate::harness::{esc, events, ids, next, story};

#[tokio::test]
async fn context_stands_in_the_middle_and_its_ends_page_on() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let mut said = Vec::new();
        for n in 0..11 {
            said.push(alice.say(&room, &n.to_string()).await);
        }
        let path = format!("/rooms/{}/context/{}?limit=4", esc(&room), esc(&said[5]));
        let context = alice.read(&path).await;
        assert_eq!(context["event"]["event_id"], said[5].as_str());
        assert_eq!(
            ids(&events(&context, &["events_before"])),
            [said[4].clone(), said[3].clone()]
        );
        assert_eq!(ids(&events(&context, &["events_after"])), said[6..8]);
        assert!(
            events(&context, &["state"])
                .iter()
                .any(|event| event["type"] == "m.room.create")
        );
        let page = |dir: &str, from: &str| {
            let (alice, path) = (
                alice.clone(),
                format!(
                    "/rooms/{}/messages?dir={dir}&limit=2&from={from}",
                    esc(&room)
                ),
            );
            async move { alice.read(&path).await }
        };
        let back = page("b", context["start"].as_str().unwrap()).await;
        assert_eq!(
            ids(&events(&back, &["chunk"])),
            [said[2].clone(), said[1].clone()]
        );
        let forward = page("f", context["end"].as_str().unwrap()).await;
        assert_eq!(ids(&events(&forward, &["chunk"])), said[8..10]);
    })
    .await;
}

#[tokio::test]
async fn pages_run_from_either_end_of_the_room() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        for n in 0..30 {
            alice.say(&room, &n.to_string()).await;
        }
        let mut whole = [Vec::new(), Vec::new()];
        for (dir, all) in ["f", "b"].into_iter().zip(&mut whole) {
            let mut from = String::new();
            loop {
                let page = alice
                    .read(&format!(
                        "/rooms/{}/messages?dir={dir}&limit=7{from}",
                        esc(&room)
                    ))
                    .await;
                all.extend(ids(&events(&page, &["chunk"])));
                let Some(end) = page["end"].as_str() else {
                    break;
                };
                from = format!("&from={end}");
            }
        }
        let [forward, mut backward] = whole;
        backward.reverse();
        assert_eq!(forward, backward);
        assert!(forward.len() > 30);
        let create = alice
            .read(&format!("/rooms/{}/event/{}", esc(&room), esc(&forward[0])))
            .await;
        assert_eq!(create["type"], "m.room.create");
        assert_eq!(create["room_id"], room.as_str());
    })
    .await;
}

#[tokio::test]
async fn strangers_read_nothing_and_those_who_left_read_to_their_leaving() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let eve = server.register("eve").await;
        let room = alice.create_public().await;
        bob.join(&room).await;
        let seen = alice.say(&room, "bob is here").await;
        bob.leave(&room).await;
        let unseen = alice.say(&room, "bob is gone").await;
        let path = format!("/rooms/{}/messages?dir=b&limit=50", esc(&room));
        let page = ids(&events(&bob.read(&path).await, &["chunk"]));
        assert!(page.contains(&seen) && !page.contains(&unseen));
        // Their list of members is of then, with their leaving.
        let members = bob
            .read(&format!("/rooms/{}/members?membership=leave", esc(&room)))
            .await;
        assert_eq!(members["chunk"][0]["state_key"], bob.id.as_str());
        server.register("late").await.join(&room).await;
        assert_eq!(
            events(
                &bob.read(&format!("/rooms/{}/members", esc(&room))).await,
                &["chunk"]
            )
            .len(),
            2
        );
        bob.forget(&room).await;
        assert_eq!(bob.get(&path).await.0, StatusCode::FORBIDDEN);
        for what in ["messages?dir=b", "members", "joined_members", "state"] {
            let (status, error) = eve.get(&format!("/rooms/{}/{what}", esc(&room))).await;
            assert_eq!(
                (status, &error["errcode"]),
                (StatusCode::FORBIDDEN, &json!("M_FORBIDDEN")),
                "{what}"
            );
        }
        let (status, _) = eve
            .get(&format!("/rooms/{}/event/{}", esc(&room), esc(&seen)))
            .await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let (status, _) = alice
            .get(&format!(
                "/rooms/{}/messages?dir=b&from=rubbish",
                esc(&room)
            ))
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    })
    .await;
}

#[tokio::test]
async fn members_now_and_then() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        let then = next(&alice.sync(None, "").await);
        bob.join(&room).await;
        let path = format!("/rooms/{}/members", esc(&room));
        let who = |query: &str| {
            let (alice, path) = (alice.clone(), format!("{path}?{query}"));
            async move {
                let answer = alice.read(&path).await;
                let mut who: Vec<String> = events(&answer, &["chunk"])
                    .iter()
                    .map(|event| event["state_key"].as_str().unwrap().to_owned())
                    .collect();
                who.sort();
                who
            }
        };
        assert_eq!(who("").await, [alice.id.clone(), bob.id.clone()]);
        assert_eq!(
            who(&format!("at={then}")).await,
            std::slice::from_ref(&alice.id)
        );
        bob.leave(&room).await;
        assert_eq!(
            who("membership=join").await,
            std::slice::from_ref(&alice.id)
        );
        assert_eq!(
            who("not_membership=join").await,
            std::slice::from_ref(&bob.id)
        );
        let joined = alice
            .read(&format!("/rooms/{}/joined_members", esc(&room)))
            .await;
        assert_eq!(joined["joined"].as_object().unwrap().len(), 1);
    })
    .await;
}
