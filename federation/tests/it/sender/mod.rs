//! The outbound sender, on both databases: order, catching up, back-off, nothing lost nor repeated.

mod devices;
mod holes;
mod kinds;
mod messages;
mod outage;
mod presence;
mod runs;
mod steering;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::put,
};
use http::StatusCode;
use rhizome_federation::{Federation, FederationConfig, testing::Network};
use rhizome_protocol::{
    Membership, Object,
    draft::{self, Draft},
};
use rhizome_rooms::{
    admit,
    create::{
        create,
        plan::{CreateRoom, Policy, Preset},
    },
    send::{SendOptions, send},
};
use rhizome_storage::{
    Clock, Options, PresenceOptions, Store,
    testing::{TestDatabase, eventually},
};
use ruma::{
    OwnedEventId, OwnedRoomId, RoomId, RoomVersionId, ServerName, UserId, server_name, user_id,
};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::support::{key, rooms};

const START: i64 = 1_800_000_000_000;

fn us() -> &'static ServerName {
    server_name!("a.example")
}

fn them() -> &'static ServerName {
    server_name!("b.example")
}

fn alice() -> &'static UserId {
    user_id!("@alice:a.example")
}

/// The other server: it writes down what it gets.
#[derive(Clone, Default)]
struct Peer {
    got: Arc<Mutex<Vec<(String, Value)>>>,
    /// Refuses transactions that contain this text.
    refuses: Arc<Mutex<Option<String>>>,
    /// Doesn't accept this event, and takes what is with it.
    declines: Arc<Mutex<Option<OwnedEventId>>>,
    /// Whoever holds this holds back the answers to what it has noted.
    gate: Arc<tokio::sync::Mutex<()>>,
}

impl Peer {
    fn attach(&self, network: &Network) {
        self.attach_as(them(), network);
    }

    fn attach_as(&self, name: &ServerName, network: &Network) {
        let router = Router::new()
            .route("/_matrix/federation/v1/send/{txn}", put(Self::transaction))
            .with_state(self.clone());
        network.attach(name, router);
    }

    async fn transaction(
        State(peer): State<Self>,
        Path(id): Path<String>,
        body: String,
    ) -> (StatusCode, Json<Value>) {
        let refuses = peer.refuses.lock().unwrap().clone();
        if refuses.is_some_and(|text| body.contains(&text)) {
            let error = json!({ "errcode": "M_BAD_JSON", "error": "I don't like it" });
            return (StatusCode::BAD_REQUEST, Json(error));
        }
        let body = serde_json::from_str(&body).unwrap();
        peer.got.lock().unwrap().push((id, body));
        drop(peer.gate.lock().await);
        let declined = peer.declines.lock().unwrap().clone();
        let outcomes = declined.map(|event| (event.to_string(), json!({ "error": "no" })));
        let outcomes: serde_json::Map<String, Value> = outcomes.into_iter().collect();
        (StatusCode::OK, Json(json!({ "pdus": outcomes })))
    }

    /// The texts of all messages so far, in order.
    fn messages(&self) -> Vec<String> {
        let got = self.got.lock().unwrap();
        let pdus = got
            .iter()
            .flat_map(|(_, body)| body["pdus"].as_array().unwrap().clone());
        pdus.filter_map(|pdu| Some(pdu["content"]["body"].as_str()?.to_owned()))
            .collect()
    }

    fn edus(&self, kind: &str) -> Vec<Value> {
        let got = self.got.lock().unwrap();
        let edus = got
            .iter()
            .flat_map(|(_, body)| body["edus"].as_array().unwrap().clone());
        edus.filter(|edu| edu["edu_type"] == kind)
            .map(|edu| edu["content"].clone())
            .collect()
    }

    async fn wait_for(&self, messages: usize) -> Vec<String> {
        eventually("the messages arrive", async || {
            self.messages().len() >= messages
        })
        .await;
        self.messages()
    }
}

/// Our server, running.
struct Us {
    fed: Federation,
    store: Store,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
}

impl Us {
    async fn start(database: &TestDatabase, network: &Network, clock: &Clock) -> Self {
        let presence = PresenceOptions {
            enabled: true,
            ..PresenceOptions::default()
        };
        Self::start_with(database, network, clock, presence).await
    }

    async fn start_with(
        database: &TestDatabase,
        network: &Network,
        clock: &Clock,
        presence: PresenceOptions,
    ) -> Self {
        let config = FederationConfig {
            retry_min: Duration::from_mins(1),
            ..FederationConfig::default()
        };
        Self::start_as(database, network, clock, presence, config).await
    }

    async fn start_as(
        database: &TestDatabase,
        network: &Network,
        clock: &Clock,
        presence: PresenceOptions,
        config: FederationConfig,
    ) -> Self {
        let options = Options {
            clock: clock.clone(),
            presence,
            ..database.options()
        };
        let store = Store::open(options).await.unwrap();
        let rooms = rooms(&store, us().as_str(), key(1));
        let fed = Federation::in_process(rooms, store.clone(), config, network).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = fed.clone();
        let running = tokio::spawn(async move {
            task.run(async { drop(stopped.await) }).await.unwrap();
        });
        Self {
            fed,
            store,
            stop: Some(stop),
            running: Some(running),
        }
    }

    /// An orderly end.
    async fn stop(mut self) {
        drop(self.stop.take());
        self.running.take().unwrap().await.unwrap();
        self.store.close().await;
    }

    async fn say(&self, room: &OwnedRoomId, text: &str) -> OwnedEventId {
        self.say_with(room, text, SendOptions::default()).await
    }

    async fn say_with(&self, room: &OwnedRoomId, text: &str, options: SendOptions) -> OwnedEventId {
        let Value::Object(content) = json!({ "msgtype": "m.text", "body": text }) else {
            unreachable!()
        };
        let draft = Draft {
            room_id: Some(room.clone()),
            sender: alice().to_owned(),
            kind: "m.room.message".to_owned(),
            state_key: None,
            content,
            redacts: None,
        };
        send(self.fed.rooms(), draft, options)
            .await
            .unwrap()
            .event_id
    }

    /// A room of Alice's that Bob of the other server has joined.
    async fn shared_room(&self) -> OwnedRoomId {
        let room = create(self.fed.rooms(), &public_room())
            .await
            .unwrap()
            .room_id;
        self.bob_joins(&room).await;
        room
    }

    async fn bob_joins(&self, room: &OwnedRoomId) {
        let bob = user_id!("@bob:b.example");
        let template = admit::template(self.fed.rooms(), room, bob, Membership::Join, &[])
            .await
            .unwrap();
        let joined = draft::finish(template.rules, template.event, them(), &key(2)).unwrap();
        admit::admit_signed(self.fed.rooms(), Arc::new(joined))
            .await
            .unwrap();
    }

    /// Waits until the sender has looked several times at what there is to do: each time it finds something new
    /// for a third server, which gets it.
    async fn goes_round(&self, network: &Network, room: &RoomId) {
        let (third, name) = (Peer::default(), server_name!("c.example"));
        third.attach_as(name, network);
        for round in 1..=3 {
            self.fed
                .sender()
                .typing([name], room, alice(), round % 2 > 0);
            eventually("the third hears", async || {
                third.edus("m.typing").len() == round
            })
            .await;
        }
    }

    fn failures(&self) -> u32 {
        self.fed
            .sender()
            .stand(them())
            .map_or(0, |stand| stand.failures)
    }
}

fn public_room() -> CreateRoom {
    CreateRoom {
        creator: alice().to_owned(),
        creator_profile: Object::new(),
        version: RoomVersionId::V12,
        public: false,
        preset: Preset::PublicChat,
        name: None,
        topic: None,
        alias: None,
        creation_content: Object::new(),
        initial_state: Vec::new(),
        power_level_content_override: Object::new(),
        invite: Vec::new(),
        is_direct: false,
        invited_profiles: std::collections::HashMap::new(),
        encrypted: false,
        policy: Policy::default(),
    }
}

/// Runs a scenario on both databases.
async fn scenario<F, R>(run: F)
where
    F: Fn(Arc<TestDatabase>, Network, Peer, Clock) -> R,
    R: Future<Output = ()>,
{
    for database in TestDatabase::both().await {
        let database = Arc::new(database);
        let (network, peer) = (Network::default(), Peer::default());
        peer.attach(&network);
        run(database.clone(), network, peer, Clock::manual(START)).await;
        Arc::into_inner(database).unwrap().remove().await;
    }
}

fn texts(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("message {n}")).collect()
}

#[tokio::test]
async fn messages_arrive_in_order_once_and_in_transactions_of_at_most_fifty() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let room = a.shared_room().await;
        network.cut(them());
        for text in texts(0..120) {
            a.say(&room, &text).await;
        }
        eventually("it fails", async || a.failures() > 0).await;
        network.mend(them());
        clock.advance(Duration::from_secs(100));
        assert_eq!(peer.wait_for(120).await, texts(0..120));
        a.say(&room, "message 120").await;
        assert_eq!(peer.wait_for(121).await, texts(0..121));
        let sizes: Vec<usize> = {
            let got = peer.got.lock().unwrap();
            got.iter()
                .map(|(_, body)| body["pdus"].as_array().unwrap().len())
                .collect()
        };
        assert!(sizes.iter().all(|size| *size <= 50), "{sizes:?}");
        let mut ids: Vec<String> = peer
            .got
            .lock()
            .unwrap()
            .iter()
            .map(|(id, _)| id.clone())
            .collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), sizes.len());
        a.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_restart_loses_and_repeats_nothing_and_keeps_the_back_off() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let room = a.shared_room().await;
        for text in texts(0..3) {
            a.say(&room, &text).await;
        }
        peer.wait_for(3).await;
        network.cut(them());
        for text in texts(3..6) {
            a.say(&room, &text).await;
        }
        eventually("it fails", async || a.failures() > 0).await;
        a.stop().await;

        // After the restart the other server is still left alone …
        network.mend(them());
        let before = network.requests().len();
        let a = Us::start(&database, &network, &clock).await;
        eventually("it fails", async || a.failures() > 0).await;
        a.say(&room, "message 6").await;
        a.goes_round(&network, &room).await;
        let asked = network.requests();
        assert!(asked[before..].iter().all(|(to, _)| to != them()));
        // … until its time has come.
        clock.advance(Duration::from_secs(100));
        assert_eq!(peer.wait_for(7).await, texts(0..7));
        eventually("it succeeds", async || a.failures() == 0).await;
        a.stop().await;

        let a = Us::start(&database, &network, &clock).await;
        a.say(&room, "message 7").await;
        assert_eq!(peer.wait_for(8).await, texts(0..8));
        a.stop().await;
        assert_eq!(peer.messages(), texts(0..8));
    })
    .await;
}

#[tokio::test]
async fn a_request_from_the_other_server_ends_its_back_off() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let room = a.shared_room().await;
        network.cut(them());
        a.say(&room, "message 0").await;
        eventually("it fails", async || a.failures() > 0).await;
        network.mend(them());
        a.fed.sender().seen(them());
        clock.advance(Duration::from_secs(2));
        a.fed.sender().seen(them());
        assert_eq!(peer.wait_for(1).await, texts(0..1));
        a.stop().await;
    })
    .await;
}
