//! `send_join` for a server that can do without the members at first (`omit_members`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::Method;
use rhizome_protocol::{Object, Pdu, RoomRules, draft};
use rhizome_rooms::{
    create::{
        create,
        plan::{CreateRoom, Preset},
    },
    membership::Action,
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::{
    crowd::{self, Crowd},
    doors::{levels, rule},
    large::{enter, offer, small, texts},
    support::key,
    world::{Server, each, enc, json_of},
};

/// One or two of each form of events and ids, rules and state resolution.
const VERSIONS: [RoomVersionId; 8] = [
    RoomVersionId::V1,
    RoomVersionId::V2,
    RoomVersionId::V3,
    RoomVersionId::V6,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// What a server was told of a room that a user of its joins.
struct Answer {
    join: Pdu,
    /// The path that the join was handed in at, for another time.
    path: String,
    json: Value,
    state: Vec<Arc<Pdu>>,
    auth_chain: Vec<Arc<Pdu>>,
}

impl Answer {
    /// `user` of `from`, whose key has the seed, joins through `to`.
    async fn of(from: (&Server, u8), to: &Server, room: &RoomId, user: &UserId) -> Self {
        let (from, seed) = from;
        let head = to.store().room(room).await.unwrap().unwrap();
        let version = head.rules.id();
        let path = format!(
            "/_matrix/federation/v1/make_join/{}/{}?ver={version}",
            enc(room),
            enc(user)
        );
        let made = from.get(to, &path).await.unwrap();
        let mut event: Object = made["event"].as_object().unwrap().clone();
        event.insert("origin_server_ts".to_owned(), crowd::now().into());
        let join = draft::finish(head.rules, event, &from.name, &key(seed)).unwrap();
        let path = format!(
            "/_matrix/federation/v2/send_join/{}/{}?omit_members=true",
            enc(room),
            enc(join.event_id())
        );
        Self::again(from, to, join, path).await
    }

    /// What the same join is answered.
    async fn again(from: &Server, to: &Server, join: Pdu, path: String) -> Self {
        let body = Some(json_of(&join));
        let json = from.request(to, Method::PUT, &path, body).await.unwrap();
        let events = |of: &str| {
            let texts = json[of].as_array().unwrap().iter();
            let parsed = texts.map(|text| parsed(join.rules(), text));
            parsed.collect::<Vec<_>>()
        };
        let (state, auth_chain) = (events("state"), events("auth_chain"));
        Self {
            join,
            path,
            json,
            state,
            auth_chain,
        }
    }

    fn members(&self) -> BTreeSet<&str> {
        let members = self.state.iter().filter(|pdu| is_member(pdu));
        members.map(|pdu| pdu.state_key().unwrap()).collect()
    }

    fn others(&self) -> BTreeMap<(String, String), OwnedEventId> {
        let others = self.state.iter().filter(|pdu| !is_member(pdu));
        let entry = |pdu: &Arc<Pdu>| {
            let key = (pdu.kind().to_owned(), pdu.state_key().unwrap().to_owned());
            (key, pdu.event_id().to_owned())
        };
        others.map(entry).collect()
    }

    fn chain_has_member(&self, user: &UserId) -> bool {
        let mut chain = self.auth_chain.iter();
        chain.any(|pdu| is_member(pdu) && pdu.state_key() == Some(user.as_str()))
    }

    fn servers(&self) -> BTreeSet<String> {
        texts(&self.json["servers_in_room"])
    }

    /// Everything that what was told rests on was told, each once, and nothing that nothing rests on.
    fn assert_whole(&self) {
        assert_eq!(self.json["members_omitted"], true);
        let both = || self.state.iter().chain(&self.auth_chain);
        let told: BTreeMap<_, _> = both().map(|pdu| (pdu.event_id(), pdu)).collect();
        assert_eq!(told.len(), both().count(), "something was told twice");
        let mut left: Vec<_> = self.state.iter().map(|pdu| &**pdu).collect();
        left.push(&self.join);
        let mut needed: BTreeSet<_> = left.iter().map(|pdu| pdu.event_id().to_owned()).collect();
        while let Some(pdu) = left.pop() {
            for id in pdu.auth_events() {
                let auth = told.get(&**id);
                let auth = auth.unwrap_or_else(|| panic!("{id} of {} is missing", pdu.json()));
                if needed.insert(id.clone()) {
                    left.push(auth);
                }
            }
        }
        for pdu in &self.auth_chain {
            assert!(
                needed.contains(pdu.event_id()),
                "{} is needless",
                pdu.json()
            );
        }
    }
}

fn is_member(pdu: &Pdu) -> bool {
    pdu.kind() == "m.room.member"
}

fn is_levels(pdu: &Pdu) -> bool {
    pdu.kind() == "m.room.power_levels"
}

fn parsed(rules: &'static RoomRules, event: &Value) -> Arc<Pdu> {
    let object = event.as_object().unwrap().clone();
    Arc::new(Pdu::parse(rules, object).unwrap())
}

/// Alice's room, with a name or without, in which six others of her server are. Its power levels have changed, so that the
/// first ones stand in auth chains alone.
async fn crowded(
    a: &Server,
    version: &RoomVersionId,
    named: bool,
) -> (OwnedRoomId, Vec<OwnedUserId>) {
    let alice = a.user("alice");
    let request = CreateRoom {
        name: named.then(|| "A room".to_owned()),
        ..Server::request_of(&alice, version, Preset::PublicChat)
    };
    let room = create(a.fed.rooms(), &request).await.unwrap().room_id;
    let mut members = vec![alice.clone()];
    for name in ["ann", "anna", "bea", "ben", "carl", "dora"] {
        let user = a.user(name);
        a.join(&user, &room, a).await.unwrap();
        members.push(user);
    }
    levels(a, &alice, &room, json!({ "events_default": 0, "ban": 60 })).await;
    let topic = json!({ "topic": "many" });
    a.send(&alice, &room, "m.room.topic", Some(""), topic)
        .await
        .unwrap();
    (room, members)
}

/// The entries of a room's state that are no members.
async fn plain(server: &Server, room: &RoomId) -> BTreeMap<(String, String), OwnedEventId> {
    let mut state = server.state(room).await;
    state.retain(|(kind, _), _| kind != "m.room.member");
    state
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_few_members_gets_those_by_whom_the_room_is_called() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (bob, carol) = (b.user("bob"), b.user("carol"));
        for version in &VERSIONS {
            for named in [true, false] {
                let (room, members) = crowded(a, version, named).await;
                let expected = plain(a, &room).await;
                let told = Answer::of((b, 2), a, &room, &bob).await;
                told.assert_whole();
                assert_eq!(told.others(), expected);
                let heroes = if named { 0 } else { 5 };
                let heroes: BTreeSet<&str> =
                    members[..heroes].iter().map(|user| user.as_str()).collect();
                assert_eq!(told.members(), heroes);
                let former = told.auth_chain.iter().filter(|pdu| is_levels(pdu));
                assert_eq!(former.count(), 1);
                assert_eq!(told.json["event"], json_of(&told.join));
                let ours = BTreeSet::from([json!(a.name).to_string()]);
                assert_eq!(told.servers(), ours, "bob's server wasn't in the room");

                // Whatever has happened since, the same join is told the same.
                levels_and_topic_change(a, &room).await;
                let first = (told.others(), texts(&told.json["auth_chain"]));
                let again = Answer::again(b, a, told.join, told.path).await;
                again.assert_whole();
                assert_eq!(again.others(), first.0);
                assert_eq!(texts(&again.json["auth_chain"]), first.1);
                assert_eq!(again.servers(), ours);

                // Who comes second finds the first.
                let told = Answer::of((b, 2), a, &room, &carol).await;
                told.assert_whole();
                assert_eq!(told.others(), plain(a, &room).await);
                assert_eq!(told.servers().len(), 2);
            }
        }
    })
    .await;
}

async fn levels_and_topic_change(a: &Server, room: &RoomId) {
    let alice = a.user("alice");
    levels(a, &alice, room, json!({ "ban": 70 })).await;
    for (kind, key) in [("m.room.topic", ""), ("org.example.thing", "new")] {
        let content = json!({ "topic": "later" });
        a.send(&alice, room, kind, Some(key), content)
            .await
            .unwrap();
    }
}

/// Whoever let the user in, or invited them, is told of as what the join rests on, even where the room has a name.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_join_itself_rests_on_is_told() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in [
            RoomVersionId::V8,
            RoomVersionId::V10,
            RoomVersionId::V11,
            RoomVersionId::V12,
        ] {
            let club = a.create(&alice, &RoomVersionId::V12).await;
            let (den, _) = crowded(a, &version, true).await;
            levels(a, &alice, &den, json!({ "invite": 50 })).await;
            rule(a, &alice, &den, "restricted", &[&club]).await;
            b.join(&bob, &club, a).await.unwrap();
            let told = Answer::of((b, 2), a, &den, &bob).await;
            told.assert_whole();
            assert!(told.members().is_empty());
            let lets_in = told.join.content()["join_authorised_via_users_server"].clone();
            assert_eq!(lets_in, json!(alice));
            assert!(told.chain_has_member(&alice));
            let signed: Vec<_> = told.json["event"]["signatures"]
                .as_object()
                .unwrap()
                .keys()
                .collect();
            assert_eq!(signed, ["a.example", "b.example"]);
        }
        for version in &VERSIONS {
            let (room, _) = crowded(a, version, true).await;
            let closed = json!({ "join_rule": "invite" });
            a.send(&alice, &room, "m.room.join_rules", Some(""), closed)
                .await
                .unwrap();
            a.change(&alice, &room, &bob, Action::Invite).await.unwrap();
            let told = Answer::of((b, 2), a, &room, &bob).await;
            told.assert_whole();
            assert!(told.chain_has_member(&bob));
        }
    })
    .await;
}

/// Of a room of many only those events are loaded that are told.
#[tokio::test(flavor = "multi_thread")]
async fn members_who_are_not_told_are_not_looked_at() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for version in ["10", "12"] {
            let told = Crowd {
                members: 600,
                others: 40,
                ..small(version, "few")
            }
            .tell();
            offer(&world, &told);
            enter(a, &alice, &told).await.unwrap();
            let room = &told.room_id;
            let expected = plain(a, room).await;
            let before = a.store().counters().now();
            let few = Answer::of((b, 2), a, room, &bob).await;
            few.assert_whole();
            assert_eq!(few.others(), expected);
            assert_eq!(few.members().len(), 5);
            let cost = a.store().counters().now() - before;
            let most = u64::try_from(few.state.len() + few.auth_chain.len()).unwrap() + 50;
            assert!(cost.event_reads <= most, "{cost:?}");
            assert_eq!(few.servers().len(), 4, "the crowd's and ours");
        }
    })
    .await;
}
