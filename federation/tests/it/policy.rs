//! Rooms with a policy server: who is asked for its signature, what becomes of what it doesn't sign.
//!
//! Alice's server `a` and Bob's `b` are honest. Carol's server `c` is the policy server: by a script it signs, refuses, or
//! signs with a key that isn't its own.

use http::StatusCode;
use rhizome_federation::{MatrixError, local};
use rhizome_protocol::{Membership, Object, Pdu, RoomRules, draft::Draft, sign};
use rhizome_rooms::{
    membership::Action,
    send::{SendOptions, Sent},
    upgrade::plan::UpgradeRoom,
};
use rhizome_storage::{Status, TxnKey};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, RoomVersionId, ServerName};
use serde_json::{Value, json};

use crate::{
    inbound::{forge_message, newest},
    mean::{Mean, json_answer},
    world::{Server, World, each, eventually, json_of, room_of, same_state},
};

pub const SIGN: &str = "/_matrix/policy/v1/sign";
const POLICY: &str = "m.room.policy";

fn policy_key(seed: u8) -> sign::KeyPair {
    sign::KeyPair::from_seed("policy_server", &[seed; 32]).unwrap()
}

/// What a policy server of this name answers that signs an event with the key of this seed.
pub fn signature(event: &Value, server: &ServerName, seed: u8) -> Value {
    let rules = RoomRules::get(&RoomVersionId::V11).unwrap();
    let mut event: Object = event.as_object().unwrap().clone();
    event.insert("signatures".to_owned(), json!({}));
    sign::sign_pdu(rules, &mut event, server, &policy_key(seed)).unwrap();
    event["signatures"].clone()
}

/// The policy server signs whatever comes, with the key of this seed.
pub fn signs(mean: &Mean, server: &Server, seed: u8) {
    let name = server.name.clone();
    mean.lies(SIGN, move |asked| {
        Some(json_answer(&signature(&asked.json(), &name, seed)))
    });
}

pub fn refuses(mean: &Mean) {
    let error = json!({ "errcode": "M_FORBIDDEN", "error": "looks like spam" });
    mean.refuses(SIGN, StatusCode::BAD_REQUEST, error);
}

/// What names the server, with the key of this seed.
pub fn named(server: &Server, seed: u8) -> Value {
    let key = policy_key(seed).public_base64();
    json!({ "via": server.name, "public_keys": { "ed25519": key } })
}

/// Alice sets the room's policy server; nobody is asked about that.
pub async fn set_policy(world: &World, room: &RoomId, content: Value) {
    let a = world.server(0);
    a.send(&a.user("alice"), room, POLICY, Some(""), content)
        .await
        .unwrap();
    for other in 1..3 {
        if world.server(other).membership_of_server(room).await {
            same_state(a, world.server(other), room).await;
        }
    }
}

/// A room of all three, guarded by the key of seed 1.
pub async fn guarded(world: &World) -> OwnedRoomId {
    let (a, b, c) = (world.server(0), world.server(1), world.server(2));
    let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
    let room = room_of(&[(a, &alice), (b, &bob), (c, &carol)]).await;
    set_policy(world, &room, named(c, 1)).await;
    room
}

impl Server {
    /// Whether one of the residents is in the room, as this server knows it.
    async fn membership_of_server(&self, room: &RoomId) -> bool {
        let mut is_in = false;
        for name in ["alice", "bob", "carol"] {
            is_in |= self.membership(room, &self.user(name)).await == Some(Membership::Join);
        }
        is_in
    }

    pub async fn try_say(&self, room: &RoomId, text: &str) -> Result<OwnedEventId, MatrixError> {
        let who = match self.name.as_str() {
            "a.example" => "alice",
            "b.example" => "bob",
            _ => "carol",
        };
        let content = json!({ "body": text });
        self.send(&self.user(who), room, "m.room.message", None, content)
            .await
    }

    /// Who has signed an event, each with the key.
    pub async fn signers(&self, id: &EventId) -> Vec<String> {
        let event = json_of(&self.event(id).await.unwrap().pdu);
        let signatures = event["signatures"].as_object().unwrap().iter();
        let keys = signatures.flat_map(|(server, keys)| {
            let keys = keys.as_object().unwrap().keys();
            keys.map(move |key| format!("{server} {key}"))
        });
        keys.collect()
    }
}

/// A message of bob's that his server hasn't asked about.
pub async fn unsigned(b: &Server, room: &RoomId, text: &str) -> Pdu {
    let prev = newest(b, room).await;
    forge_message(b, &b.user("bob"), room, &[&prev], text).await
}

pub async fn status_of(server: &Server, event: &Pdu) -> Option<Status> {
    let stored = server.event(event.event_id()).await;
    stored.map(|stored| stored.status)
}

pub fn told(error: &MatrixError) -> (u16, &str) {
    (error.status.as_u16(), &*error.errcode)
}

// ---- events of ours

#[tokio::test(flavor = "multi_thread")]
async fn what_we_say_is_signed_before_anybody_sees_it() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let mean = Mean::before(&world, 2);
        let room = guarded(&world).await;
        signs(&mean, c, 1);
        assert_eq!(mean.count(SIGN), 0);
        let said = a.try_say(&room, "hello").await.unwrap();
        for server in [a, b, c] {
            eventually("it is heard", async || {
                server.heard(&room).await == ["hello"]
            })
            .await;
            let signers = server.signers(&said).await;
            let both = ["a.example ed25519:k1", "c.example ed25519:policy_server"];
            assert_eq!(signers, both);
        }
        // Nobody else had to ask.
        assert_eq!(mean.count(SIGN), 1);
        // What says nothing new is no event.
        let topic = json!({ "topic": "news" });
        for _ in 0..2 {
            let (who, topic) = (a.user("alice"), topic.clone());
            let sent = a.send(&who, &room, "m.room.topic", Some(""), topic).await;
            assert_eq!(a.signers(&sent.unwrap()).await.len(), 2);
        }
        assert_eq!(mean.count(SIGN), 2);

        // The policy server's own users are no exception, and many at once make one line.
        let (one, two, three) = tokio::join!(
            a.try_say(&room, "one"),
            a.try_say(&room, "two"),
            a.try_say(&room, "three")
        );
        for said in [one, two, three] {
            let event = a.event(&said.unwrap()).await.unwrap();
            assert_eq!(event.pdu.prev_events().len(), 1);
        }
        let head = a.store().room(&room).await.unwrap().unwrap();
        assert_eq!(head.extremities.len(), 1);
        let said = c.try_say(&room, "from the guard").await.unwrap();
        let own = ["c.example ed25519:k3", "c.example ed25519:policy_server"];
        assert_eq!(c.signers(&said).await, own);
        eventually("it arrives", async || a.event(&said).await.is_some()).await;
        assert_eq!(
            status_of(a, &c.event(&said).await.unwrap().pdu).await,
            Some(Status::Accepted)
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_an_error_and_nothing_else() {
    each(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let mean = Mean::before(&world, 2);
        let room = guarded(&world).await;
        refuses(&mean);
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let before = (a.state(&room).await, newest(a, &room).await);
        let refused = a.try_say(&room, "buy this").await.unwrap_err();
        assert_eq!(told(&refused), (400, "M_FORBIDDEN"));
        assert_eq!(refused.message, "looks like spam");
        let topic = json!({ "topic": "buy this" });
        let topic = a.send(&alice, &room, "m.room.topic", Some(""), topic).await;
        assert_eq!(told(&topic.unwrap_err()), (400, "M_FORBIDDEN"));
        let kick = a.change(&alice, &room, &bob, Action::Kick).await;
        assert_eq!(told(&kick.unwrap_err()), (400, "M_FORBIDDEN"));
        let invite = a
            .change(&alice, &room, &b.user("bea"), Action::Invite)
            .await;
        assert_eq!(told(&invite.unwrap_err()), (400, "M_FORBIDDEN"));
        assert_eq!(before, (a.state(&room).await, newest(a, &room).await));
        let upgraded = local::upgrade(&a.fed, &upgrade_of(a, &room)).await;
        assert_eq!(told(&upgraded.unwrap_err()), (400, "M_FORBIDDEN"));
        assert_eq!(before.0, a.state(&room).await);

        // By a key that isn't the room's.
        signs(&mean, c, 2);
        let wrong = a.try_say(&room, "hello").await.unwrap_err();
        assert_eq!(told(&wrong), (502, "M_UNKNOWN"));
        assert!(wrong.message.contains("m.room.policy"), "{wrong}");
        // The room takes the new key, …
        set_policy(&world, &room, named(c, 2)).await;
        a.try_say(&room, "hello").await.unwrap();
        // … and then does without.
        refuses(&mean);
        set_policy(&world, &room, json!({})).await;
        let asked = mean.count(SIGN);
        a.try_say(&room, "free").await.unwrap();
        eventually("all are heard", async || {
            b.heard(&room).await == ["hello", "free"]
        })
        .await;
        assert_eq!(mean.count(SIGN), asked);
    })
    .await;
}

async fn send_with(server: &Server, room: &RoomId, options: SendOptions) -> Sent {
    let draft = Draft {
        room_id: Some(room.to_owned()),
        sender: server.user("alice"),
        kind: "m.room.message".to_owned(),
        state_key: None,
        content: json!({ "body": "once" }).as_object().unwrap().clone(),
        redacts: None,
    };
    local::send(&server.fed, draft, options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sender_wants_beside_is_kept_and_repetitions_ask_nobody() {
    each(3, async |world| {
        let (a, c) = (world.server(0), world.server(2));
        let mean = Mean::before(&world, 2);
        let room = guarded(&world).await;
        signs(&mean, c, 1);
        let user = a.store().user_no(&a.user("alice")).await.unwrap();
        let options = || SendOptions {
            txn: Some(TxnKey {
                user,
                device: "PHONE".into(),
                path: "send/m.room.message".into(),
                txn_id: "m1".into(),
            }),
            sticky_ms: Some(60_000),
            ..SendOptions::default()
        };
        let (first, second) = tokio::join!(
            send_with(a, &room, options()),
            send_with(a, &room, options())
        );
        assert_eq!(first.event_id, second.event_id);
        assert!(first.fresh != second.fresh);
        let event = a.event(&first.event_id).await.unwrap();
        assert_eq!(event.pdu.sticky_ms(), Some(60_000));
        // Also when it would be refused now.
        refuses(&mean);
        let third = send_with(a, &room, options()).await;
        assert_eq!((third.event_id, third.fresh), (first.event_id, false));
        assert_eq!(mean.count(SIGN), 1);
    })
    .await;
}

fn upgrade_of(server: &Server, room: &RoomId) -> UpgradeRoom {
    UpgradeRoom {
        room_id: room.to_owned(),
        user: server.user("alice"),
        user_profile: Object::new(),
        version: RoomVersionId::V12,
        additional_creators: Vec::new(),
    }
}

/// Whom we invite, the policy server signs for, too, also where both are one; and the end of a room is signed like all else.
#[tokio::test(flavor = "multi_thread")]
async fn invites_and_upgrades_are_signed() {
    each(3, async |world| {
        let (a, c) = (world.server(0), world.server(2));
        let mean = Mean::before(&world, 2);
        let room = guarded(&world).await;
        signs(&mean, c, 1);
        let (alice, carl) = (a.user("alice"), c.user("carl"));
        a.change(&alice, &room, &carl, Action::Invite)
            .await
            .unwrap();
        let invite = &a.state(&room).await[&("m.room.member".to_owned(), carl.to_string())];
        let all = [
            "a.example ed25519:k1",
            "c.example ed25519:k3",
            "c.example ed25519:policy_server",
        ];
        assert_eq!(a.signers(invite).await, all);
        local::upgrade(&a.fed, &upgrade_of(a, &room)).await.unwrap();
        let tombstone = &a.state(&room).await[&("m.room.tombstone".to_owned(), String::new())];
        assert_eq!(a.signers(tombstone).await.len(), 2);
        same_state(a, c, &room).await;
    })
    .await;
}
