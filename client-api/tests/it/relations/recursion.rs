//! What relates to an event by what relates to it.

use serde_json::json;

use super::{ask, page, relate, relating};
use crate::harness::{esc, story};

#[tokio::test]
async fn indirect_relations_are_followed_three_steps() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let root = alice.say(&room, "root").await;
        let one = relate(&alice, &room, "m.reference", &root).await;
        let two = relate(&alice, &room, "m.reference", &one).await;
        let beside = relate(&alice, &room, "m.annotation", &root).await;
        let three = relate(&alice, &room, "m.reference", &two).await;
        let deep = relate(&alice, &room, "m.reference", &three).await;
        let hidden = relate(&alice, &room, "m.reference", &beside).await;
        let of_kind = alice
            .send(&room, "m.dummy", relating("m.reference", &one))
            .await;
        let shown = async |more: &str| page(&alice, &room, &root, more).await.0;
        let all = [&one, &two, &beside, &three, &hidden, &of_kind].map(Clone::clone);
        assert_eq!(shown("?dir=f&recurse=true").await, all);
        assert!(!all.contains(&deep));
        assert_eq!(shown("?dir=f").await, [one.clone(), beside]);
        // What is found by what doesn't fit isn't found.
        let references = [&one, &two, &three, &of_kind].map(Clone::clone);
        assert_eq!(shown("/m.reference?dir=f&recurse=true").await, references);
        let messages = [one, two, three];
        let path = "/m.reference/m.room.message?dir=f&recurse=true";
        assert_eq!(shown(path).await, messages);
        assert_eq!(
            shown("/m.reference/m.dummy?recurse=true").await,
            Vec::<String>::new()
        );

        // In pages.
        let (mut found, mut at) = (Vec::new(), String::new());
        loop {
            let more = format!("?dir=f&recurse=true&limit=2{at}");
            let (chunk, next) = page(&alice, &room, &root, &more).await;
            found.extend(chunk);
            let Some(next) = next else { break };
            at = format!("&from={}", esc(&next));
        }
        assert_eq!(found, all);

        for (more, depth) in [
            ("", None),
            ("?recurse=true", Some(3)),
            ("?recurse=false", Some(1)),
        ] {
            let (_, answer) = ask(&alice, &room, &root, more).await;
            assert_eq!(answer["recursion_depth"].as_i64(), depth, "{more}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_page_costs_the_same_however_many_are_followed() {
    story(|server| async move {
        let alice = server.register("alice").await;
        let room = alice.create_public().await;
        let (few, many) = (
            alice.say(&room, "few").await,
            alice.say(&room, "many").await,
        );
        for (root, count) in [(&few, 2), (&many, 40)] {
            for _ in 0..count {
                let reply = relate(&alice, &room, "m.thread", root).await;
                let reaction = json!({"m.relates_to":
                    {"rel_type": "m.annotation", "event_id": reply, "key": "k"}});
                alice.send(&room, "m.reaction", reaction).await;
            }
        }
        // Whom she ignores is known from here on.
        page(&alice, &room, &few, "").await;
        let mut costs = Vec::new();
        for root in [&few, &many] {
            let before = server.store.counters().now();
            let (found, _) = page(&alice, &room, root, "?recurse=true&limit=200").await;
            costs.push((server.store.counters().now() - before).queries);
            assert_eq!(found.len() % 40, if *root == few { 4 } else { 0 });
        }
        println!("a page of what relates indirectly asks {costs:?} times");
        assert_eq!(costs[0], costs[1]);
    })
    .await;
}
