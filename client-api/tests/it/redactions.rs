//! Redactions that have no effect, or none yet: no client hears of them.

use http::Method;
use ruma::OwnedEventId;
use serde_json::{Value, json};

use crate::{
    harness::{User, esc, events, ids, next},
    peer::{Peer, room_of, story},
};

/// What every way of reading says about whether an event is shown; all say the same.
async fn is_shown(user: &User, room: &str, since: &str, beside: &str, id: &str) -> bool {
    let room_path = format!("/rooms/{}", esc(room));
    let (status, _) = user.get(&format!("{room_path}/event/{}", esc(id))).await;
    let asked = status.is_success();
    let (status, _) = user.get(&format!("{room_path}/context/{}", esc(id))).await;
    assert_eq!(status.is_success(), asked);
    let around = format!("{room_path}/context/{}?limit=50", esc(beside));
    let around = user.read(&around).await;
    let pages = [
        user.read(&format!("{room_path}/messages?dir=b&limit=100"))
            .await,
        user.read(&format!("{room_path}/messages?dir=f&limit=100"))
            .await,
        user.read(&format!(
            "{room_path}/messages?dir=f&limit=100&from={since}"
        ))
        .await,
    ];
    let chunk = |page: &Value| ids(&events(page, &["chunk"])).contains(&id.to_owned());
    for page in &pages {
        assert_eq!(chunk(page), asked, "{page}");
    }
    for part in ["events_before", "events_after"] {
        assert!(asked || !ids(&events(&around, &[part])).contains(&id.to_owned()));
    }
    for since in [Some(since), None] {
        let sync = user.sync(since, "").await;
        assert_eq!(sync.to_string().contains(id), asked, "{sync}");
    }
    asked
}

async fn redact(user: &User, room: &str, target: &str) -> String {
    let path = format!("/rooms/{}/redact/{}/t{target}", esc(room), esc(target));
    let sent = user.ok(Method::PUT, &path, json!({})).await;
    sent["event_id"].as_str().unwrap().to_owned()
}

/// A redaction of Bob's that his server lets pass, and ours takes; and where Ada was before.
async fn forged(ada: &User, peer: &Peer, room: &str, content: Value) -> (String, String) {
    let sibling = peer.say(&room_of(room), "a message").await;
    peer.push(&sibling).await;
    let since = next(&ada.sync(None, "").await);
    let (id, json) = peer.forge(&sibling, "m.room.redaction", content).await;
    peer.push_json(&id, &json).await;
    let stored = OwnedEventId::try_from(&*id).unwrap();
    let stored = ada.server.store.event(&stored).await.unwrap();
    assert!(stored.unwrap().is_history());
    (id, since)
}

#[tokio::test(flavor = "multi_thread")]
async fn redactions_without_the_power_for_it_are_not_shown() {
    story(async |ada, peer, room| {
        let since = next(&ada.sync(None, "").await);
        let said = ada.say(&room, "Ada's").await;
        let elsewhere = ada.create_public().await;
        peer.join(&room_of(&elsewhere)).await;
        let other = peer.say(&room_of(&elsewhere), "in another room").await;
        peer.push(&other).await;
        peer.hears(&said).await;

        for target in [json!(said), json!(other), json!(7), json!("rubbish")] {
            let content = json!({"redacts": target, "reason": "none"});
            let (id, here) = forged(&ada, &peer, &room, content).await;
            assert!(!is_shown(&ada, &room, &since, &said, &id).await, "{target}");
            let sync = ada.sync(Some(&here), "").await;
            assert!(sync.get("rooms").is_none(), "no news: {sync}");
        }
        for (room, event) in [(&room, &said), (&elsewhere, &other)] {
            let path = format!("/rooms/{}/event/{}", esc(room), esc(event));
            let event = ada.read(&path).await;
            assert_eq!(event["content"]["msgtype"], "m.text");
        }

        // One who may; others come second, with the power for it or without.
        let by_ada = redact(&ada, &room, &said).await;
        assert!(is_shown(&ada, &room, &since, &said, &by_ada).await);
        let (id, _) = forged(&ada, &peer, &room, json!({ "redacts": said })).await;
        assert!(!is_shown(&ada, &room, &since, &said, &id).await);
        let own = peer.say(&room_of(&room), "Bob's").await;
        peer.push(&own).await;
        let (by_bob, _) = forged(&ada, &peer, &room, json!({ "redacts": own })).await;
        assert!(is_shown(&ada, &room, &since, &said, &by_bob).await);
        let by_ada = redact(&ada, &room, &own).await;
        assert!(is_shown(&ada, &room, &since, &said, &by_ada).await);
        peer
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redaction_is_shown_once_its_target_has_come() {
    story(async |ada, peer, room| {
        let since = next(&ada.sync(None, "").await);
        let beside = ada.say(&room, "beside").await;
        peer.hears(&beside).await;
        let target = peer.say(&room_of(&room), "comes late").await;
        // It doesn't follow its target, so that this isn't fetched for it.
        let (id, json) = {
            let content = json!({ "redacts": target });
            peer.forge(&target, "m.room.redaction", content).await
        };
        peer.push_json(&id, &json).await;
        assert!(!is_shown(&ada, &room, &since, &beside, &id).await);
        let here = next(&ada.sync(None, "").await);
        peer.push(&target).await;
        assert!(is_shown(&ada, &room, &since, &beside, &id).await);
        let sync = ada.sync(Some(&here), "").await;
        let told = &sync["rooms"]["join"][&room]["timeline"]["events"][0];
        assert_eq!(told["event_id"], target);
        assert_eq!(told["content"], json!({}));
        assert_eq!(told["unsigned"]["redacted_because"]["event_id"], id);
        peer
    })
    .await;
}
