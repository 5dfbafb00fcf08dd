//! Another server's events that come late, or not all: what clients here are told.

use ruma::OwnedEventId;
use serde_json::{Value, json};

use crate::{
    harness::{User, esc, events, filter, ids, next, timeline},
    model::{Model, state_of},
    peer::{BOB, empower, room_of, story},
};

/// Every message of the room, newest first, page by page from a token on.
async fn page_back(user: &User, room: &str, from: &str, to: &str) -> Vec<String> {
    let (mut from, mut found) = (from.to_owned(), Vec::new());
    loop {
        let path = format!(
            "/rooms/{}/messages?dir=b&limit=7&from={}{to}",
            esc(room),
            esc(&from)
        );
        let page = user.read(&path).await;
        let chunk = events(&page, &["chunk"]);
        let said = chunk
            .into_iter()
            .filter(|event| event["type"] == "m.room.message")
            .collect::<Vec<_>>();
        found.extend(ids(&said));
        match page["end"].as_str() {
            Some(end) => end.clone_into(&mut from),
            None => return found,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_limits_the_timeline_and_is_filled_by_paging_back() {
    story(async |ada, peer, room| {
        let filter = filter(&json!({"room": {"timeline": {"limit": 500}}}));
        let since = next(&ada.sync(None, &filter).await);
        let before = ada.say(&room, "before").await;
        peer.hears(&before).await;
        // More than are fetched at once when the last of them arrives.
        let room_id = room_of(&room);
        let mut said = Vec::new();
        for n in 0..260 {
            said.push(peer.say(&room_id, &n.to_string()).await);
        }
        let last = said.last().unwrap().clone();
        peer.push(&last).await;

        // While it arrives: nothing from after the gap comes without the mark.
        let (mut at, mut limited, mut seen) = (since.clone(), false, false);
        while !seen {
            let answer = ada
                .sync(Some(&at), &format!("{filter}&timeout=20000"))
                .await;
            at = next(&answer);
            let timeline = &answer["rooms"]["join"][&room]["timeline"];
            limited |= timeline["limited"] == true;
            for id in ids(&events(timeline, &["events"])) {
                assert!(limited != (id == before), "{answer}");
                seen |= id == last;
            }
        }

        // All at once.
        let answer = ada.sync(Some(&since), &filter).await;
        let timeline = &answer["rooms"]["join"][&room]["timeline"];
        assert_eq!(timeline["limited"], true);
        let shown = ids(&events(timeline, &["events"]));
        assert!(
            shown.len() < said.len() && said.ends_with(&shown),
            "{answer}"
        );
        let start = timeline["prev_batch"].as_str().unwrap();

        // From there to the last sync, and from now to the room's beginning.
        let missed = page_back(&ada, &room, start, &format!("&to={since}")).await;
        let mut all = said.clone();
        all.reverse();
        all.push(before);
        let newest_first: Vec<_> = shown.iter().rev().cloned().chain(missed).collect();
        assert_eq!(newest_first, all);
        assert_eq!(page_back(&ada, &room, &next(&answer), "").await, all);
        peer
    })
    .await;
}

/// A change of state that was made long ago by another server and comes only now: whoever starts to
/// follow the room knows it, whatever of the timeline the client asks for.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_change_of_state_is_known_to_a_client_that_starts() {
    story(async |ada, peer, room| {
        let name = json!({ "name": "Made long ago" });
        empower(&ada, &peer, &room).await;
        let made = peer
            .send(&room_of(&room), "m.room.name", Some(""), name)
            .await;
        for n in 0..3 {
            ada.say(&room, &n.to_string()).await;
        }
        let since = next(&ada.sync(None, "").await);
        peer.push(&made).await;
        let come = ada.sync(Some(&since), "&timeout=20000").await;
        assert!(come.to_string().contains(&made), "{come}");
        ada.send(&room, "org.hidden", json!({})).await;

        for limit in 0..6 {
            let narrow = json!({"not_types": ["org.hidden"], "limit": limit});
            let filter = filter(&json!({"room": {"timeline": narrow}}));
            let answer = ada.sync(None, &filter).await;
            let part = &answer["rooms"]["join"][&room];
            let mut told = events(part, &["state", "events"]);
            told.extend(events(part, &["timeline", "events"]));
            let name = told.iter().rfind(|event| event["type"] == "m.room.name");
            assert_eq!(name.unwrap()["event_id"], made, "{limit}: {answer}");
        }
        peer
    })
    .await;
}

/// Of two changes that were made at once the later one stays. The other comes to be known after it: whoever follows
/// the room is told that it was made, but who comes new doesn't take it for the room's state, and nobody does who
/// wants the state after the timeline.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_lost_to_another_is_not_taken_for_the_state() {
    story(async |ada, peer, room| {
        empower(&ada, &peer, &room).await;
        let mut following = Model::default();
        following.catch_up(&ada, "").await;
        let lost = json!({ "topic": "made first" });
        let lost = peer
            .send(&room_of(&room), "m.room.topic", Some(""), lost)
            .await;
        let stays = json!({ "topic": "made later" });
        let stays = ada.set_state(&room, "m.room.topic", "", stays).await;
        let since = following.since.clone();
        peer.push(&lost).await;
        let come = ada.sync(since.as_deref(), "").await;
        let told = events(&come, &["rooms", "join", &room, "timeline", "events"]);
        assert!(ids(&told).contains(&lost), "{come}");
        let come = ada.sync(since.as_deref(), "&use_state_after=true").await;
        let told = events(&come, &["rooms", "join", &room, "state_after", "events"]);
        assert!(
            ids(&told).contains(&stays) && !ids(&told).contains(&lost),
            "{come}"
        );
        let mut model = Model::default();
        model.catch_up(&ada, "").await;
        assert_eq!(model.state[&room], state_of(&ada, &room).await);
        let topic = ("m.room.topic".to_owned(), String::new());
        assert_eq!(model.state[&room][&topic], stays);
        let path = format!("/rooms/{}/messages?dir=b&limit=50", esc(&room));
        let page = ids(&events(&ada.read(&path).await, &["chunk"]));
        assert!(page.contains(&lost) && page.contains(&stays));
        peer
    })
    .await;
}

/// Who is removed in a gap: the removal has no place in the log, as it came when somebody paged back. Its reader is
/// told the members of then all the same, and not who came since.
#[tokio::test(flavor = "multi_thread")]
async fn whose_removal_came_as_history_is_told_the_members_of_then() {
    story(async |ada, peer, room| {
        let server = ada.server.clone();
        let (carol, dave) = (
            server.register("carol").await,
            server.register("dave").await,
        );
        let members = format!("/rooms/{}/members", esc(&room));
        empower(&ada, &peer, &room).await;
        carol.join(&room).await;
        let joined = ada.say(&room, "carol is here").await;
        peer.hears(&joined).await;
        let since = next(&ada.sync(None, "").await);

        // More than are fetched at once when the last of them arrives.
        let room_id = room_of(&room);
        let away = json!({ "membership": "leave" });
        let removed = peer
            .send(&room_id, "m.room.member", Some(&carol.id), away)
            .await;
        for n in 0..260 {
            peer.say(&room_id, &n.to_string()).await;
        }
        let last = peer.say(&room_id, "the last").await;
        peer.push(&last).await;
        let (mut at, mut seen) = (since, false);
        while !seen {
            let answer = ada.sync(Some(&at), "&timeout=20000").await;
            at = next(&answer);
            seen = timeline(&answer, &room).contains(&last);
        }
        let now = next(&ada.sync(None, "").await);
        assert!(page_back(&ada, &room, &now, "").await.contains(&joined));
        dave.join(&room).await;

        let event = OwnedEventId::try_from(&*removed).unwrap();
        let event = server.store.event(&event).await.unwrap().unwrap();
        assert!(event.is_history() && event.pos().is_none());
        let told = |of: Value| {
            let mut told: Vec<String> = events(&of, &["chunk"])
                .iter()
                .map(|event| event["state_key"].as_str().unwrap().to_owned())
                .collect();
            told.sort();
            told
        };
        let then = [ada.id.clone(), BOB.to_owned(), carol.id.clone()];
        assert_eq!(told(carol.read(&members).await), then);
        let mut now = then.to_vec();
        now.push(dave.id.clone());
        now.sort();
        assert_eq!(told(ada.read(&members).await), now);
        peer
    })
    .await;
}

/// An invite comes before what it stands on: whoever is invited can come in all the same.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_invited_before_the_room_says_so_comes_in() {
    story(async |ada, peer, room| {
        empower(&ada, &peer, &room).await;
        let rule = json!({ "join_rule": "invite" });
        let closed = ada.set_state(&room, "m.room.join_rules", "", rule).await;
        peer.hears(&closed).await;
        let carl = ada.server.register("carl").await;
        let id = room_of(&room);
        peer.say(&id, "nobody here hears of this yet").await;
        let invited = json!({ "membership": "invite" });
        peer.send(&id, "m.room.member", Some(&carl.id), invited)
            .await;
        carl.join(&room).await;
        carl.say(&room, "hello").await;
        peer
    })
    .await;
}
