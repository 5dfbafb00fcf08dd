//! Two servers talk.

use std::time::Duration;

use rhizome_demo::{Person, Refused, agree, escape, timeline};
use serde_json::{Value, json};

use crate::harness::{Pair, each_database};

pub const PATIENCE: Duration = Duration::from_secs(10);

/// Ada of north and bea of south in a room that ada made; where their syncs stand.
pub struct Two {
    pub pair: Pair,
    pub ada: Person,
    pub bea: Person,
    pub room: String,
    pub ada_since: String,
    pub bea_since: String,
}

pub async fn two(kind: crate::harness::Kind) -> Two {
    let pair = Box::pin(Pair::start(kind)).await;
    let ada = pair.north.register("ada").await;
    let bea = pair.south.register("bea").await;
    let room = ada
        .create_room(json!({ "preset": "private_chat" }))
        .await
        .unwrap();
    let since = bea.now().await.unwrap();
    ada.invite(&room, &bea.user_id).await.unwrap();
    bea.see_invite(&since, &room, PATIENCE).await.unwrap();
    bea.join(&room, &[pair.north.name()]).await.unwrap();
    let (ada_since, bea_since) = (ada.now().await.unwrap(), bea.now().await.unwrap());
    Two {
        pair,
        ada,
        bea,
        room,
        ada_since,
        bea_since,
    }
}

/// The membership that a room's section of a `/sync` answer gives `user` in the end.
pub fn membership(answer: &Value, section: &str, room: &str, user: &str) -> Option<String> {
    let room = &answer["rooms"][section][room];
    let lists = [&room["state"]["events"], &room["timeline"]["events"]];
    let events = lists.into_iter().filter_map(Value::as_array).flatten();
    let mut of_user = events.filter(|e| e["type"] == "m.room.member" && e["state_key"] == user);
    Some(
        of_user.next_back()?["content"]["membership"]
            .as_str()?
            .to_owned(),
    )
}

fn errcode(error: &anyhow::Error) -> &str {
    error
        .downcast_ref::<Refused>()
        .map_or("", |refused| refused.errcode.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_a_join_and_messages_cross() {
    each_database(|kind| async move {
        let Two {
            pair,
            ada,
            bea,
            room,
            ada_since,
            bea_since,
        } = two(kind).await;
        let hello = ada.say(&room, "hello").await.unwrap();
        bea.see(&bea_since, &room, &hello, PATIENCE).await.unwrap();
        let answer = bea.say(&room, "hello yourself").await.unwrap();
        ada.see(&ada_since, &room, &answer, PATIENCE).await.unwrap();
        agree([&ada, &bea], &room).await.unwrap();
        pair.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_leads_to_a_room_of_another_server() {
    each_database(|kind| async move {
        let pair = Pair::start(kind).await;
        let ada = pair.north.register("ada").await;
        let bea = pair.south.register("bea").await;
        let options = json!({ "preset": "public_chat", "room_alias_name": "garden" });
        let room = ada.create_room(options).await.unwrap();
        let joined = bea
            .join(&format!("#garden:{}", pair.north.name()), &[])
            .await
            .unwrap();
        assert_eq!(joined, room);
        agree([&ada, &bea], &room).await.unwrap();
        // And out again: north learns of it.
        let since = ada.now().await.unwrap();
        bea.leave(&room).await.unwrap();
        let left = |answer: &Value| {
            (membership(answer, "join", &room, &bea.user_id)? == "leave").then_some(())
        };
        ada.sync_until(&since, PATIENCE, left).await.unwrap();
        pair.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_can_be_rejected_and_a_private_room_stays_shut() {
    each_database(|kind| async move {
        let pair = Pair::start(kind).await;
        let ada = pair.north.register("ada").await;
        let bea = pair.south.register("bea").await;
        let room = ada
            .create_room(json!({ "preset": "private_chat" }))
            .await
            .unwrap();
        let error = bea.join(&room, &[pair.north.name()]).await.unwrap_err();
        assert_eq!(errcode(&error), "M_FORBIDDEN", "{error:#}");

        let (ada_since, since) = (ada.now().await.unwrap(), bea.now().await.unwrap());
        ada.invite(&room, &bea.user_id).await.unwrap();
        let since = bea.see_invite(&since, &room, PATIENCE).await.unwrap();
        bea.leave(&room).await.unwrap();
        let rejected = |answer: &Value| {
            (membership(answer, "join", &room, &bea.user_id)? == "leave").then_some(())
        };
        ada.sync_until(&ada_since, PATIENCE, rejected)
            .await
            .unwrap();
        // She is told by her own leaving, the one event of the room that her server has.
        let gone = |answer: &Value| {
            (membership(answer, "leave", &room, &bea.user_id)? == "leave").then_some(())
        };
        bea.sync_until(&since, PATIENCE, gone).await.unwrap();
        let fresh = bea.sync(None, Duration::ZERO).await.unwrap();
        assert!(fresh["rooms"]["invite"].get(&room).is_none(), "{fresh}");
        pair.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kicks_and_bans_reach_the_other_server() {
    each_database(|kind| async move {
        let Two {
            pair,
            ada,
            bea,
            room,
            bea_since,
            ..
        } = two(kind).await;
        let target = json!({ "user_id": bea.user_id, "reason": "for the test" });
        ada.post(&format!("/rooms/{}/kick", escape(&room)), target.clone())
            .await
            .unwrap();
        let kicked = |answer: &Value| {
            (membership(answer, "leave", &room, &bea.user_id)? == "leave").then_some(())
        };
        let ((), since) = bea.sync_until(&bea_since, PATIENCE, kicked).await.unwrap();
        let error = bea.say(&room, "still here?").await.unwrap_err();
        assert_eq!(errcode(&error), "M_FORBIDDEN", "{error:#}");

        ada.invite(&room, &bea.user_id).await.unwrap();
        let since = bea.see_invite(&since, &room, PATIENCE).await.unwrap();
        bea.join(&room, &[pair.north.name()]).await.unwrap();
        agree([&ada, &bea], &room).await.unwrap();
        ada.post(&format!("/rooms/{}/ban", escape(&room)), target)
            .await
            .unwrap();
        let banned = |answer: &Value| {
            (membership(answer, "leave", &room, &bea.user_id)? == "ban").then_some(())
        };
        bea.sync_until(&since, PATIENCE, banned).await.unwrap();
        let error = bea.join(&room, &[pair.north.name()]).await.unwrap_err();
        assert_eq!(errcode(&error), "M_FORBIDDEN", "{error:#}");
        pair.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redaction_takes_the_content_on_both_sides() {
    each_database(|kind| async move {
        let Two {
            pair,
            ada,
            bea,
            room,
            ada_since,
            bea_since,
        } = two(kind).await;
        let slip = bea.say(&room, "a slip of the tongue").await.unwrap();
        ada.see(&ada_since, &room, &slip, PATIENCE).await.unwrap();
        let path = format!(
            "/rooms/{}/redact/{}/{}",
            escape(&room),
            escape(&slip),
            ada.transaction()
        );
        let redaction = ada
            .put(&path, json!({ "reason": "kindness" }))
            .await
            .unwrap();
        let redaction = redaction["event_id"].as_str().unwrap();
        bea.see(&bea_since, &room, redaction, PATIENCE)
            .await
            .unwrap();
        for person in [&ada, &bea] {
            let path = format!("/rooms/{}/event/{}", escape(&room), escape(&slip));
            let event = person.get(&path).await.unwrap();
            assert_eq!(event["content"], json!({}), "{}", person.user_id);
            assert_eq!(event["unsigned"]["redacted_because"]["event_id"], redaction);
        }
        agree([&ada, &bea], &room).await.unwrap();
        pair.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_receipts_and_profiles_cross() {
    each_database(|kind| async move {
        let Two {
            pair,
            ada,
            bea,
            room,
            ada_since,
            bea_since,
        } = two(kind).await;
        let hello = ada.say(&room, "hello").await.unwrap();
        bea.see(&bea_since, &room, &hello, PATIENCE).await.unwrap();

        let ephemeral = |answer: &Value, kind: &str| {
            let events = answer["rooms"]["join"][&room]["ephemeral"]["events"].as_array()?;
            events
                .iter()
                .find(|event| event["type"] == kind)
                .map(|event| event["content"].clone())
        };
        let path = format!("/rooms/{}/receipt/m.read/{}", escape(&room), escape(&hello));
        bea.post(&path, json!({})).await.unwrap();
        let read = |answer: &Value| {
            let content = ephemeral(answer, "m.receipt")?;
            content[&hello]["m.read"].get(&bea.user_id).map(|_| ())
        };
        let ((), ada_since) = ada.sync_until(&ada_since, PATIENCE, read).await.unwrap();

        let path = format!("/rooms/{}/typing/{}", escape(&room), escape(&bea.user_id));
        bea.put(&path, json!({ "typing": true, "timeout": 20_000 }))
            .await
            .unwrap();
        let types = |answer: &Value| {
            let content = ephemeral(answer, "m.typing")?;
            content["user_ids"]
                .as_array()?
                .iter()
                .any(|id| *id == *bea.user_id)
                .then_some(())
        };
        ada.sync_until(&ada_since, PATIENCE, types).await.unwrap();

        let path = format!("/profile/{}/displayname", escape(&bea.user_id));
        bea.put(&path, json!({ "displayname": "Bea of the South" }))
            .await
            .unwrap();
        let profile = ada
            .get(&format!("/profile/{}", escape(&bea.user_id)))
            .await
            .unwrap();
        assert_eq!(profile["displayname"], "Bea of the South");
        pair.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_rooms_of_the_other_server_are_listed() {
    each_database(|kind| async move {
        let pair = Pair::start(kind).await;
        let ada = pair.north.register("ada").await;
        let bea = pair.south.register("bea").await;
        let mut rooms = Vec::new();
        for name in ["Pond", "Meadow"] {
            let options = json!({ "name": name, "visibility": "public" });
            rooms.push(ada.create_room(options).await.unwrap());
        }
        let own = json!({ "name": "Cellar", "visibility": "public" });
        bea.create_room(own).await.unwrap();
        let path = format!("/publicRooms?server={}", escape(pair.north.name()));

        let mut found = Vec::new();
        let mut since = String::new();
        for _ in 0..2 {
            let page = bea.get(&format!("{path}&limit=1{since}")).await.unwrap();
            assert_eq!(page["total_room_count_estimate"], 2);
            found.push(page["chunk"][0]["room_id"].clone());
            if let Some(next) = page["next_batch"].as_str() {
                since = format!("&since={}", escape(next));
            }
        }
        assert_eq!(found, rooms);
        let search = json!({ "filter": { "generic_search_term": "mead" } });
        let meadow = bea.post(&path, search).await.unwrap();
        assert_eq!(meadow["chunk"][0]["name"], "Meadow");
        assert_eq!(meadow["chunk"].as_array().unwrap().len(), 1);
        let error = bea.get(&format!("{path}&since=no")).await.unwrap_err();
        assert_eq!(errcode(&error), "M_INVALID_PARAM", "{error:#}");
        pair.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_of_each_supported_version_crosses() {
    let pair = Pair::start(crate::harness::Kind::Sqlite).await;
    let ada = pair.north.register("ada").await;
    let bea = pair.south.register("bea").await;
    for version in (1..=12).map(|version| version.to_string()) {
        let options = json!({ "preset": "public_chat", "room_version": version });
        let room = ada.create_room(options).await.unwrap();
        bea.join(&room, &[pair.north.name()]).await.unwrap();
        let since = ada.now().await.unwrap();
        let event = bea.say(&room, &version).await.unwrap();
        let since = ada.see(&since, &room, &event, PATIENCE).await.unwrap();
        assert!(!since.is_empty());
        let answer = ada.sync(None, Duration::ZERO).await.unwrap();
        assert!(timeline(&answer, &room).any(|e| e["event_id"] == *event));
        agree([&ada, &bea], &room).await.unwrap();
    }
    pair.stop().await;
}
