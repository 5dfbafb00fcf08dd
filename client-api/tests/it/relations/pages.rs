//! Pages of what relates to an event.

use http::StatusCode;
use serde_json::json;

use super::{ask, ignore, page, redact, relate, relating};
use crate::harness::{esc, next, story};

fn reversed(events: &[String]) -> Vec<String> {
    events.iter().rev().cloned().collect()
}

#[tokio::test]
async fn they_are_asked_for_by_type_and_direction() {
    story(|server| async move {
        let (alice, bob) = (server.register("alice").await, server.register("bob").await);
        let room = alice.create_public().await;
        bob.join(&room).await;
        let root = alice.say(&room, "root").await;
        let other = alice.say(&room, "other").await;
        let reply = relate(&bob, &room, "m.thread", &root).await;
        relate(&bob, &room, "m.thread", &other).await;
        let dummy = alice
            .send(&room, "m.dummy", relating("m.thread", &root))
            .await;
        let edit = relate(&alice, &room, "m.replace", &root).await;
        let all = [reply.clone(), dummy.clone(), edit.clone()];
        let shown = async |more: &str| page(&bob, &room, &root, more).await.0;
        assert_eq!(shown("").await, reversed(&all));
        assert_eq!(shown("?dir=b").await, reversed(&all));
        assert_eq!(shown("?dir=f").await, all);
        assert_eq!(shown("/m.thread?dir=f").await, all[..2]);
        assert_eq!(shown("/m.thread/m.room.message").await, all[..1]);
        assert_eq!(shown("/m.thread/m.dummy?dir=f").await, all[1..2]);
        assert_eq!(shown("/m.replace/m.dummy").await, Vec::<String>::new());
        assert_eq!(shown("/m.reference").await, Vec::<String>::new());
        // Of a reply there is nothing.
        assert_eq!(page(&bob, &room, &reply, "").await, (Vec::new(), None));

        // Who doesn't hear somebody isn't told of theirs; what is redacted relates to nothing.
        ignore(&alice, &[&bob.id]).await;
        assert_eq!(page(&alice, &room, &root, "?dir=f").await.0, all[1..]);
        redact(&alice, &room, &dummy).await;
        assert_eq!(page(&alice, &room, &root, "").await.0, all[2..]);
        assert_eq!(shown("?dir=f").await, [reply, edit]);
    })
    .await;
}

#[tokio::test]
async fn pages_fit_together_while_more_comes() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let root = alice.say(&room, "root").await;
        let mut all = Vec::new();
        for n in 0..10 {
            all.push(relate(&alice, &room, "m.thread", &root).await);
            if n % 3 == 0 {
                alice.say(&room, "between").await;
            }
        }
        for dir in ["b", "f"] {
            let back = dir == "b";
            let mut expected = if back { reversed(&all) } else { all.clone() };
            let (mut found, mut at) = (Vec::new(), String::new());
            loop {
                let more = format!("?dir={dir}&limit=3{at}");
                let (chunk, next) = page(&alice, &room, &root, &more).await;
                assert!(chunk.len() <= 3);
                found.extend(chunk);
                // What comes meanwhile is no part of what was before, and is the end of what follows.
                let new = relate(&alice, &room, "m.thread", &root).await;
                all.push(new.clone());
                match next {
                    Some(next) => at = format!("&from={}", esc(&next)),
                    None => break,
                }
                if !back {
                    expected.push(new);
                }
            }
            assert_eq!(found, expected, "{dir}");
        }
    })
    .await;
}

#[tokio::test]
async fn tokens_of_messages_and_sync_are_places_as_well() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let root = alice.say(&room, "root").await;
        let mut all = Vec::new();
        for _ in 0..3 {
            all.push(relate(&alice, &room, "m.thread", &root).await);
        }
        let since = next(&alice.sync(None, "").await);
        for _ in 0..5 {
            all.push(relate(&alice, &room, "m.thread", &root).await);
        }
        let from = |token: &str, more: &str| format!("?from={}{more}", esc(token));
        let (first, at) = page(&alice, &room, &root, &from(&since, "&dir=f&limit=3")).await;
        assert_eq!(first, all[3..6]);
        let at = at.unwrap();
        let (second, none) = page(&alice, &room, &root, &from(&at, "&dir=f&limit=3")).await;
        assert_eq!((second, none), (all[6..].to_vec(), None));
        let (before, none) = page(&alice, &room, &root, &from(&since, "&dir=b")).await;
        assert_eq!((before, none), (reversed(&all[..3]), None));

        // A place of `/messages`: four events before the end.
        let messages = format!("/rooms/{}/messages?dir=b&limit=4", esc(&room));
        let messages = alice.read(&messages).await;
        let end = messages["end"].as_str().unwrap();
        let (older, _) = page(&alice, &room, &root, &from(end, "&limit=2")).await;
        assert_eq!(older, reversed(&all[2..4]));
        let (newer, _) = page(&alice, &room, &root, &from(end, "&dir=f")).await;
        assert_eq!(newer, all[4..]);
        let start = messages["start"].as_str().unwrap();
        let to = format!("&to={}", esc(end));
        let (between, none) = page(&alice, &room, &root, &from(start, &to)).await;
        assert_eq!((between, none), (reversed(&all[4..]), None));
        // And the other way round.
        let (_, told) = ask(&alice, &room, &root, &from(&since, "&dir=f&limit=2")).await;
        assert_eq!(
            told["prev_batch"].as_str(),
            Some(&*format!("p{}", since_pos(&since)))
        );
        let next = told["next_batch"].as_str().unwrap();
        let path = format!(
            "/rooms/{}/messages?dir=b&limit=1&from={}",
            esc(&room),
            esc(next)
        );
        let page = alice.read(&path).await;
        assert_eq!(page["chunk"][0]["event_id"], all[4].as_str());
    })
    .await;
}

/// The position in a token of `/sync`.
fn since_pos(token: &str) -> &str {
    token.split('_').nth(1).unwrap()
}

#[tokio::test]
async fn what_is_wrong_with_a_question_is_told() {
    story(|server| async move {
        let (alice, eve) = (server.register("alice").await, server.register("eve").await);
        let room = alice.create(json!({"preset": "private_chat"})).await;
        let elsewhere = alice.create_public().await;
        let root = alice.say(&room, "root").await;
        let far = alice.say(&elsewhere, "far").await;
        relate(&alice, &room, "m.thread", &root).await;
        let code = async |user: &crate::harness::User, event: &str, more: &str| {
            let (status, answer) = ask(user, &room, event, more).await;
            (
                status,
                answer["errcode"].as_str().unwrap_or_default().to_owned(),
            )
        };
        let absent = (StatusCode::NOT_FOUND, "M_NOT_FOUND".to_owned());
        for event in [&*root, &*far, "$nothing"] {
            assert_eq!(code(&eve, event, "").await, absent, "{event}");
        }
        assert_eq!(code(&alice, &far, "").await, absent);
        assert_eq!(code(&alice, "$nothing", "").await, absent);
        let (status, _) = ask(&alice, "!nowhere:here", &root, "").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let wrong = (StatusCode::BAD_REQUEST, "M_INVALID_PARAM".to_owned());
        for more in ["?from=nonsense", "?to=s1", "?from=l7", "?limit=0"] {
            assert_eq!(code(&alice, &root, more).await, wrong, "{more}");
        }
        for more in ["?dir=x", "?limit=-1", "?limit=many", "?recurse=perhaps"] {
            let (status, _) = ask(&alice, &root, &root, more).await;
            assert!(status.is_client_error(), "{more}");
        }
        assert_eq!(page(&alice, &room, &root, "?limit=100000").await.0.len(), 1);
        let long = "x".repeat(2_000);
        let nothing = page(&alice, &room, &root, &format!("/{long}")).await;
        assert_eq!(nothing, (Vec::new(), None));
    })
    .await;
}
