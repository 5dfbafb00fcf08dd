//! A story with another server, whose events come when the story says so.

use std::sync::Arc;

use http::Method;
use rhizome_federation::{
    Federation, FederationConfig, local, membership::join, outbound::Limits, testing::Network,
};
use rhizome_protocol::{
    Object, Pdu, RoomRules,
    canonical::parse_object,
    draft::Draft,
    sign::{KeyPair, hash_and_sign_pdu},
};
use rhizome_rooms::{Rooms, send::SendOptions};
use rhizome_storage::{
    Store,
    testing::{TestDatabase, each_database},
};
use ruma::{OwnedEventId, RoomId, UserId, server_name};
use serde_json::{Value, json};

use crate::harness::{Server, User, esc, watch};

/// A server that sends nothing by itself.
pub struct Peer {
    pub fed: Federation,
    database: TestDatabase,
}

fn key() -> KeyPair {
    KeyPair::from_seed("test", &[8; 32]).unwrap()
}

pub const BOB: &str = "@bob:there";

fn bob() -> &'static UserId {
    BOB.try_into().unwrap()
}

impl Peer {
    async fn new(network: &Network) -> Peer {
        let database = TestDatabase::sqlite();
        let store = database.open().await;
        let name = server_name!("there").to_owned();
        let rooms = Rooms::new(store.clone(), name.clone(), Arc::new(key()));
        let fed =
            Federation::in_process(rooms, store, FederationConfig::default(), network).unwrap();
        network.attach(&name, watch().over(fed.router()));
        Peer { fed, database }
    }

    pub async fn join(&self, room: &RoomId) {
        let via = [server_name!("here").to_owned()];
        join::join(&self.fed, bob(), room.into(), &via, Object::new())
            .await
            .unwrap();
    }

    pub async fn send(
        &self,
        room: &RoomId,
        kind: &str,
        key: Option<&str>,
        content: Value,
    ) -> String {
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

    /// Sends a sticky event that nobody is told of; gives its id.
    pub async fn stick(&self, room: &RoomId) -> String {
        let draft = Draft {
            room_id: Some(room.to_owned()),
            sender: bob().to_owned(),
            kind: "m.rtc.member".to_owned(),
            state_key: None,
            content: Object::new(),
            redacts: None,
        };
        let options = SendOptions {
            sticky_ms: Some(3_600_000),
            ..SendOptions::default()
        };
        let sent = local::send(&self.fed, draft, options).await;
        sent.unwrap().event_id.to_string()
    }

    pub async fn say(&self, room: &RoomId, text: &str) -> String {
        let content = json!({ "msgtype": "m.text", "body": text });
        self.send(room, "m.room.message", None, content).await
    }

    /// Waits for an event from here.
    pub async fn hears(&self, event: &str) {
        let id = OwnedEventId::try_from(event).unwrap();
        let mut log = self.fed.store().log().subscribe();
        while self.fed.store().event(&id).await.unwrap().is_none() {
            log.changed().await.unwrap();
        }
    }

    async fn json(&self, event: &str) -> (&'static RoomRules, Object) {
        let id = OwnedEventId::try_from(event).unwrap();
        let event = self.fed.store().event(&id).await.unwrap().unwrap();
        let json = parse_object(event.pdu.json().as_bytes()).unwrap();
        (event.pdu.rules(), json)
    }

    /// Another event in the place of one of Bob's, whatever this server would say to it; gives its id.
    pub async fn forge(&self, event: &str, kind: &str, content: Value) -> (String, Object) {
        let (rules, mut json) = self.json(event).await;
        json.insert("type".into(), kind.into());
        json.insert("content".into(), content);
        signed(rules, json)
    }

    /// The same with another time.
    pub async fn forge_at(&self, event: &str, content: Value, ts: i64) -> (String, Object) {
        let (rules, mut json) = self.json(event).await;
        json.insert("content".into(), content);
        json.insert("origin_server_ts".into(), ts.into());
        signed(rules, json)
    }

    /// Sends one event to the server here, in a transaction of its own.
    pub async fn push(&self, event: &str) {
        let (_, json) = self.json(event).await;
        self.push_json(event, &json).await;
    }

    /// The same with an event that this server doesn't have.
    pub async fn push_json(&self, id: &str, pdu: &Object) {
        let body = json!({ "origin": "there", "origin_server_ts": 1, "pdus": [pdu] });
        let body = serde_json::value::to_raw_value(&body).unwrap();
        // Each is a transaction of its own.
        let path = format!("/_matrix/federation/v1/send/by_hand{}", esc(id));
        let answer = self
            .fed
            .outbound()
            .call(
                server_name!("here"),
                Method::PUT,
                &path,
                Some(&body),
                Limits::default(),
            )
            .await
            .unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer, json!({ "pdus": { id: {} } }));
    }
}

fn signed(rules: &'static RoomRules, mut json: Object) -> (String, Object) {
    json.remove("hashes");
    json.remove("signatures");
    hash_and_sign_pdu(rules, &mut json, server_name!("there"), &key()).unwrap();
    let pdu = Pdu::parse(rules, json.clone()).unwrap();
    (pdu.event_id().to_string(), json)
}

/// Ada here, and a peer whose Bob has joined her room. The server here runs: it fetches what is missing.
pub async fn story<F, R>(tell: F)
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

pub fn room_of(id: &str) -> ruma::OwnedRoomId {
    RoomId::parse(id).unwrap()
}

/// Gives Bob the power to change the room's state.
pub async fn empower(ada: &User, peer: &Peer, room: &str) {
    let path = format!("/rooms/{}/state/m.room.power_levels/", esc(room));
    let mut levels = ada.read(&path).await;
    levels["users"][BOB] = json!(50);
    let powers = ada.set_state(room, "m.room.power_levels", "", levels).await;
    peer.hears(&powers).await;
}
