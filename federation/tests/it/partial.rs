//! Rooms that are joined before their members are known: used at once, completed afterwards.

use std::collections::BTreeSet;

use http::StatusCode;
use rhizome_federation::testing::Network;
use rhizome_protocol::Membership;
use rhizome_rooms::membership::Action;
use rhizome_storage::testing::TestDatabase;
use ruma::{OwnedRoomId, RoomId, RoomVersionId, UserId};
use serde_json::json;

use crate::{
    doors::levels,
    inbound::{errcode, forbidden, newest, not_found},
    mean::Mean,
    world::{Server, World, each_joining_early, enc, eventually, same_state},
};

/// One of each form of events and ids.
const VERSIONS: [RoomVersionId; 3] = [RoomVersionId::V1, RoomVersionId::V11, RoomVersionId::V12];

impl Server {
    /// Whether all members of the room are known.
    pub async fn is_complete(&self, room: &RoomId) -> bool {
        let head = self.store().room(room).await.unwrap();
        head.is_some_and(|head| head.snapshot.is_some() && head.partial.is_none())
    }
}

/// Doesn't tell states for as long as it is asked to.
pub fn keep_back(mean: &Mean) {
    let busy = json!({ "errcode": "M_UNKNOWN", "error": "later" });
    mean.refuses("/state", StatusCode::SERVICE_UNAVAILABLE, busy);
}

/// Alice's room on the first server, in which Carol of the third is; Bob of the second has joined it, and isn't told who is
/// there.
async fn joined_early(world: &World, version: &RoomVersionId) -> (OwnedRoomId, Mean) {
    let (a, b, c) = (world.server(0), world.server(1), world.server(2));
    let room = a.create(&a.user("alice"), version).await;
    c.join(&c.user("carol"), &room, a).await.unwrap();
    eventually("carol's server knows the room", async || {
        c.is_complete(&room).await
    })
    .await;
    let mean = Mean::before(world, 0);
    keep_back(&mean);
    b.join(&b.user("bob"), &room, a).await.unwrap();
    assert!(!b.is_complete(&room).await);
    assert_eq!(b.membership(&room, &c.user("carol")).await, None);
    (room, mean)
}

async fn is_completed(b: &Server, room: &RoomId) {
    eventually("all members are known", async || b.is_complete(room).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_used_at_once_and_its_members_come_afterwards() {
    each_joining_early(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        for version in &VERSIONS {
            let (room, mean) = joined_early(&world, version).await;
            // All who were said to be there hear what is said, and are heard.
            b.say(&bob, &room, "here I am").await;
            for server in [a, c] {
                eventually("bob is heard", async || {
                    server.heard(&room).await == ["here I am"]
                })
                .await;
            }
            c.say(&carol, &room, "hello").await;
            eventually("carol is heard", async || {
                b.heard(&room).await == ["here I am", "hello"]
            })
            .await;
            assert_eq!(b.membership(&room, &carol).await, Some(Membership::Join));
            assert_eq!(b.membership(&room, &alice).await, None);
            let topic = json!({ "topic": "meanwhile" });
            a.send(&alice, &room, "m.room.topic", Some(""), topic)
                .await
                .unwrap();
            let key = ("m.room.topic".to_owned(), String::new());
            eventually("the topic comes", async || {
                b.state(&room).await.contains_key(&key)
            })
            .await;

            mean.repents();
            is_completed(b, &room).await;
            same_state(a, b, &room).await;
            assert_eq!(b.membership(&room, &alice).await, Some(Membership::Join));
            assert_eq!(b.heard(&room).await, ["here I am", "hello"]);
            b.say(&bob, &room, "and now").await;
            eventually("all hear it", async || {
                a.heard(&room).await.len() == 3 && c.heard(&room).await.len() == 3
            })
            .await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_by_a_server_that_doesnt_know_who_is_banned() {
    each_joining_early(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (room, mean) = joined_early(&world, &RoomVersionId::V11).await;
        let dora = c.user("dora");
        for endpoint in ["make_join", "make_knock"] {
            let path = format!(
                "/_matrix/federation/v1/{endpoint}/{}/{}?ver=11",
                enc(&room),
                enc(&dora)
            );
            assert_eq!(errcode(c.get(b, &path).await), not_found());
        }
        let newest = newest(b, &room).await;
        for endpoint in ["state", "state_ids"] {
            let path = format!(
                "/_matrix/federation/v1/{endpoint}/{}?event_id={}",
                enc(&room),
                enc(&newest)
            );
            assert_eq!(errcode(c.get(b, &path).await), forbidden());
        }
        // Nor do others of its own users.
        let (alice, ben, bea) = (a.user("alice"), b.user("ben"), b.user("bea"));
        a.change(&alice, &room, &ben, Action::Ban).await.unwrap();
        let refused = b.join(&ben, &room, a).await.unwrap_err();
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        b.join(&bea, &room, a).await.unwrap();
        assert_eq!(mean.count("/send_join/"), 2);
        assert!(!b.is_complete(&room).await);

        mean.repents();
        is_completed(b, &room).await;
        same_state(a, b, &room).await;
        assert_eq!(b.membership(&room, &bea).await, Some(Membership::Join));
        c.join(&dora, &room, b).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_meanwhile_comes_back() {
    each_joining_early(3, async |world| {
        let (a, b) = world.two();
        let bob = b.user("bob");
        let (room, mean) = joined_early(&world, &RoomVersionId::V12).await;
        b.leave(&bob, &room).await.unwrap();
        eventually("it is known that bob is gone", async || {
            a.membership(&room, &bob).await == Some(Membership::Leave)
        })
        .await;
        b.join(&bob, &room, a).await.unwrap();
        assert!(!b.is_complete(&room).await);
        mean.repents();
        is_completed(b, &room).await;
        same_state(a, b, &room).await;
        // Known in full, it is joined in full.
        b.leave(&bob, &room).await.unwrap();
        b.join(&bob, &room, a).await.unwrap();
        assert!(b.is_complete(&room).await);
        let asked = mean.asked("/send_join/");
        let few: Vec<_> = asked
            .iter()
            .map(|asked| asked.target.contains("omit_members=true"))
            .collect();
        assert_eq!(few, [true, true, false]);
    })
    .await;
}

/// The server that the join went through is gone: those are asked whose users may ban.
#[tokio::test(flavor = "multi_thread")]
async fn another_server_that_is_trusted_tells_the_members() {
    each_joining_early(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (alice, bob, carol) = (a.user("alice"), b.user("bob"), c.user("carol"));
        let room = a.create(&alice, &RoomVersionId::V11).await;
        c.join(&carol, &room, a).await.unwrap();
        let users = json!({ &alice: 100, &carol: 50 });
        levels(a, &alice, &room, json!({ "users": users })).await;
        same_state(a, c, &room).await;
        let (host, other) = (Mean::before(&world, 0), Mean::before(&world, 2));
        keep_back(&host);
        keep_back(&other);
        b.join(&bob, &room, a).await.unwrap();
        world.network.cut(&a.name);
        assert!(!b.is_complete(&room).await);
        // The join has to come there first.
        eventually("carol's server knows of bob", async || {
            c.membership(&room, &bob).await == Some(Membership::Join)
        })
        .await;
        other.repents();
        is_completed(b, &room).await;
        same_state(b, c, &room).await;
        world.network.mend(&a.name);
        same_state(a, b, &room).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_that_are_there_are_not_asked_for_the_members() {
    each_joining_early(3, async |world| {
        let (b, c) = (world.server(1), world.server(2));
        let other = Mean::before(&world, 2);
        let (room, mean) = joined_early(&world, &RoomVersionId::V11).await;
        // Nor does anybody come in by them.
        b.join(&b.user("ben"), &room, c).await.unwrap();
        assert_eq!(other.count("/make_join/"), 0);
        eventually("the first was asked again and again", async || {
            mean.count("/state_ids/") > 5
        })
        .await;
        assert_eq!(other.count("/state"), 0);
        assert!(!b.is_complete(&room).await);
        mean.repents();
        is_completed(b, &room).await;
    })
    .await;
}

async fn survives_restarts(postgres: bool) {
    let network = Network::default();
    let databases = TestDatabase::several(postgres, 2).await;
    let mut servers = Vec::new();
    for (index, database) in databases.iter().enumerate() {
        let store = database.open().await;
        let mut server = Server::with(&network, store, index, Server::early());
        server.run();
        servers.push(server);
    }
    let mut b = servers.pop().unwrap();
    let a = servers.pop().unwrap();
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let room = a.create(&alice, &RoomVersionId::V11).await;
    let mean = Mean::in_front_of(&network, &a);
    keep_back(&mean);
    b.join(&bob, &room, &a).await.unwrap();
    b.restart(&network, &databases[1], 1).await;
    assert!(!b.is_complete(&room).await);
    b.say(&bob, &room, "after all").await;
    eventually("bob is heard", async || {
        a.heard(&room).await == ["after all"]
    })
    .await;
    // It is asked for by the process that is there now, and once more after another one.
    let before = mean.count("/state_ids/");
    eventually("it goes on", async || mean.count("/state_ids/") > before).await;
    b.restart(&network, &databases[1], 1).await;
    mean.repents();
    is_completed(&b, &room).await;
    same_state(&a, &b, &room).await;
    let head = b.store().room(&room).await.unwrap();
    b.restart(&network, &databases[1], 1).await;
    assert!(b.is_complete(&room).await);
    let again = b.store().room(&room).await.unwrap();
    assert_eq!(again.unwrap().state_version, head.unwrap().state_version);
    b.end().await;
    a.end().await;
    for database in databases {
        database.remove().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_completed_whenever_the_process_ends() {
    for postgres in [false, true] {
        survives_restarts(postgres).await;
    }
}

/// Who is told of it, and the directory, count all members once they are known.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_counted_is_right_afterwards() {
    each_joining_early(3, async |world| {
        let (a, b, c) = (world.server(0), world.server(1), world.server(2));
        let (room, mean) = joined_early(&world, &RoomVersionId::V11).await;
        mean.repents();
        is_completed(b, &room).await;
        let head = b.store().room(&room).await.unwrap().unwrap();
        assert_eq!((head.joined, head.invited), (3, 0));
        let servers = b.store().joined_servers(head.room).await.unwrap();
        let servers: BTreeSet<&str> = servers.iter().map(|server| server.as_str()).collect();
        assert_eq!(
            servers,
            BTreeSet::from([a.name.as_str(), b.name.as_str(), c.name.as_str()])
        );
        let carol: &UserId = &c.user("carol");
        let found = b.store().members(head.room, Some(Membership::Join)).await;
        let numbers: Vec<_> = found.unwrap().iter().map(|member| member.user).collect();
        let names = b.store().users(&numbers).await.unwrap();
        assert!(names.iter().any(|name| name == carol), "{names:?}");
    })
    .await;
}
