//! Another server's events that come late, or not all: what clients here are told.

use std::sync::Arc;

use http::Method;
use rhizome_federation::{
    Federation, FederationConfig, client::Limits, join, local, testing::Network,
};
use rhizome_protocol::{Object, draft::Draft, sign::KeyPair};
use rhizome_rooms::{Rooms, send::SendOptions};
use rhizome_storage::{
    Store,
    testing::{TestDatabase, each_database},
};
use ruma::{OwnedEventId, RoomId, UserId, server_name};
use serde_json::{Value, json};

use crate::harness::{Server, User, esc, events, ids, next};

/// A server that sends nothing by itself.
struct Peer {
    fed: Federation,
    database: TestDatabase,
}

const BOB: &str = "@bob:there";

fn bob() -> &'static UserId {
    BOB.try_into().unwrap()
}

impl Peer {
    async fn new(network: &Network) -> Peer {
        let database = TestDatabase::sqlite();
        let store = database.open().await;
        let name = server_name!("there").to_owned();
        let key = Arc::new(KeyPair::from_seed("test", &[8; 32]).unwrap());
        let rooms = Rooms::new(store.clone(), name.clone(), key);
        let fed =
            Federation::in_process(rooms, store, FederationConfig::default(), network).unwrap();
        network.attach(&name, fed.router());
        Peer { fed, database }
    }

    async fn join(&self, room: &RoomId) {
        let via = [server_name!("here").to_owned()];
        join::join(&self.fed, bob(), room.into(), &via, Object::new())
            .await
            .unwrap();
    }

    async fn send(&self, room: &RoomId, kind: &str, key: Option<&str>, content: Value) -> String {
        let draft = Draft {
            room_id: Some(room.to_owned()),
            sender: bob().to_owned(),
            kind: kind.to_owned(),
            state_key: key.map(ToOwned::to_owned),
            content: content.as_object().unwrap().clone(),
            redacts: None,
        };
        let sent = local::send(&self.fed, draft, SendOptions::default()).await;
        sent.unwrap().event_id.to_string()
    }

    async fn say(&self, room: &RoomId, text: &str) -> String {
        let content = json!({ "msgtype": "m.text", "body": text });
        self.send(room, "m.room.message", None, content).await
    }

    /// Waits for an event from here.
    async fn hears(&self, event: &str) {
        let id = OwnedEventId::try_from(event).unwrap();
        let mut log = self.fed.store().log().subscribe();
        while self.fed.store().event(&id).await.unwrap().is_none() {
            log.changed().await.unwrap();
        }
    }

    /// Sends one event to the server here, in a transaction of its own.
    async fn push(&self, event: &str) {
        let id = OwnedEventId::try_from(event).unwrap();
        let event = self.fed.store().event(&id).await.unwrap().unwrap();
        let pdu: Value = serde_json::from_str(event.pdu.json()).unwrap();
        let body = json!({ "origin": "there", "origin_server_ts": 1, "pdus": [pdu] });
        let body = serde_json::value::to_raw_value(&body).unwrap();
        let path = "/_matrix/federation/v1/send/by_hand";
        let answer = self
            .fed
            .outbound()
            .call(
                server_name!("here"),
                Method::PUT,
                path,
                Some(&body),
                Limits::default(),
            )
            .await
            .unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer, json!({ "pdus": { id: {} } }));
    }
}

/// Ada here, and a peer whose Bob has joined her room. The server here runs: it fetches what is missing.
async fn story<F, R>(tell: F)
where
    F: Fn(User, Peer, String) -> R,
    R: Future<Output = Peer>,
{
    each_database(async |store: Store| {
        let network = Network::default();
        let server = Server::on(store, &network, |_| {});
        let (fed, stop) = (server.federation.clone(), server.shutdown.clone());
        let running = tokio::spawn(async move { fed.run(stop.cancelled_owned()).await });
        let peer = Peer::new(&network).await;
        let ada = server.register("ada").await;
        let room = ada.create_public().await;
        peer.join(&room_of(&room)).await;
        let peer = tell(ada, peer, room).await;
        server.shutdown.cancel();
        running.await.unwrap().unwrap();
        peer.fed.store().close().await;
        peer.database.remove().await;
    })
    .await;
}

fn room_of(id: &str) -> ruma::OwnedRoomId {
    RoomId::parse(id).unwrap()
}

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
        let filter = esc(&json!({"room": {"timeline": {"limit": 500}}}).to_string());
        let filter = format!("&filter={filter}");
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
        let mut levels = ada
            .read(&format!("/rooms/{}/state/m.room.power_levels/", esc(&room)))
            .await;
        levels["users"][BOB] = json!(50);
        let powers = ada
            .set_state(&room, "m.room.power_levels", "", levels)
            .await;
        peer.hears(&powers).await;
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
            let filter =
                json!({"room": {"timeline": {"not_types": ["org.hidden"], "limit": limit}}});
            let answer = ada
                .sync(None, &format!("&filter={}", esc(&filter.to_string())))
                .await;
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
