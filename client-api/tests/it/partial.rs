//! What clients are told of a room that was joined before its members were known.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Method;
use rhizome_federation::{FederationConfig, testing::Network};
use rhizome_storage::testing::{TestDatabase, soon};
use ruma::server_name;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::{Server, User, esc, events, filter, next};

/// Ada's server joins early, and completes rooms only when it is told to. Eve made the room elsewhere; Zoe is there.
struct Story {
    here: Server,
    ada: User,
    eve: User,
    zoe: User,
    room: String,
    running: Arc<Mutex<Option<Running>>>,
}

type Running = JoinHandle<Result<(), rhizome_storage::Error>>;

async fn story<R: Future<Output = ()>>(tell: impl Fn(Story) -> R) {
    for database in TestDatabase::both().await {
        let (store, elsewhere) = (database.open().await, TestDatabase::sqlite());
        let network = Network::default();
        let config = FederationConfig {
            partial_joins: true,
            retry_min: Duration::from_millis(50),
            ..FederationConfig::default()
        };
        let name = server_name!("here");
        let here = Server::federating(name, 7, store.clone(), &network, config, |_| {});
        let far = elsewhere.open().await;
        let there = Server::named(server_name!("there"), 8, far.clone(), &network, |_| {});
        let (eve, zoe) = (there.register("eve").await, there.register("zoe").await);
        let room = eve
            .create(json!({ "preset": "public_chat", "name": "A room" }))
            .await;
        zoe.join(&room).await;
        let ada = here.register("ada").await;
        let running: Arc<Mutex<Option<Running>>> = Arc::default();
        tell(Story {
            running: running.clone(),
            here: here.clone(),
            ada,
            eve,
            zoe,
            room,
        })
        .await;
        here.shutdown.cancel();
        let running = running.lock().unwrap().take();
        running.unwrap().await.unwrap().unwrap();
        far.close().await;
        store.close().await;
        database.remove().await;
        elsewhere.remove().await;
    }
}

impl Story {
    async fn join(&self) {
        let path = format!("/join/{}?via=there", esc(&self.room));
        self.ada.ok(Method::POST, &path, json!({})).await;
    }

    /// From here on the members are asked for.
    fn completes(&self) {
        let (fed, stop) = (self.here.federation.clone(), self.here.shutdown.clone());
        let running = tokio::spawn(async move { fed.run(stop.cancelled_owned()).await });
        *self.running.lock().unwrap() = Some(running);
    }

    /// What Ada is told next after `since`.
    async fn next(&self, since: &str, more: &str) -> Value {
        let more = format!("{more}&timeout=60000");
        soon("something is told", self.ada.sync(Some(since), &more)).await
    }

    fn of_room<'a>(&self, sync: &'a Value) -> &'a Value {
        &sync["rooms"]["join"][&self.room]
    }

    /// Whose membership a part of an answer tells.
    fn members(events: &[&Value]) -> Vec<String> {
        let members = events.iter();
        let members = members.filter(|event| event["type"] == "m.room.member");
        let mut members: Vec<_> = members
            .map(|event| event["state_key"].as_str().unwrap().to_owned())
            .collect();
        members.sort();
        members
    }
}

fn lazy() -> String {
    filter(&json!({ "room": { "state": { "lazy_load_members": true } } }))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_loads_members_lazily_sees_the_room_at_once() {
    story(async |story| {
        story.join().await;
        let (ada, room) = (&story.ada, &story.room);
        let first = ada.sync(None, &lazy()).await;
        let told = story.of_room(&first);
        assert_eq!(told["summary"]["m.joined_member_count"], 1);
        let state = events(told, &["state", "events"]);
        let kinds: Vec<_> = state.iter().map(|event| event["type"].clone()).collect();
        assert!(kinds.contains(&json!("m.room.name")), "{kinds:?}");
        let said = ada.say(room, "hello").await;
        let next_one = ada.sync(Some(&next(&first)), &lazy()).await;
        assert_eq!(crate::harness::timeline(&next_one, room), [said]);

        // Told of all once they are known, as far as it matters.
        let since = next(&next_one);
        story.completes();
        let mut news = story.next(&since, &lazy()).await;
        while story.of_room(&news)["summary"].is_null() {
            news = story.next(&next(&news), &lazy()).await;
        }
        let summary = &story.of_room(&news)["summary"];
        assert_eq!(summary["m.joined_member_count"], 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_all_members_is_told_when_they_are_known() {
    story(async |story| {
        let ada = &story.ada;
        let before = next(&ada.sync(None, "").await);
        story.join().await;
        for since in [None, Some(&*before)] {
            let told = ada.sync(since, "").await;
            assert!(story.of_room(&told).is_null(), "{told}");
        }
        let since = next(&ada.sync(Some(&before), "").await);
        story.completes();
        let mut news = story.next(&since, "").await;
        while story.of_room(&news).is_null() {
            news = story.next(&next(&news), "").await;
        }
        let told = story.of_room(&news);
        let mut all = events(told, &["state", "events"]);
        all.extend(events(told, &["timeline", "events"]));
        let members = Story::members(&all);
        for user in [&story.eve, &story.zoe, ada] {
            assert!(members.contains(&user.id), "{members:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_the_members_waits_for_them() {
    story(async |story| {
        story.join().await;
        let (ada, room) = (story.ada.clone(), esc(&story.room));
        let paths = [
            format!("/rooms/{room}/members"),
            format!("/rooms/{room}/joined_members"),
            format!("/rooms/{room}/state"),
            format!("/rooms/{room}/state/m.room.member/{}", esc(&story.zoe.id)),
        ];
        // What is known is told at once.
        let own = format!("/rooms/{room}/state/m.room.member/{}", esc(&ada.id));
        assert_eq!(ada.read(&own).await["membership"], "join");
        let name = ada.read(&format!("/rooms/{room}/state/m.room.name/")).await;
        assert_eq!(name["name"], "A room");
        let asked = paths.map(|path| {
            let ada = ada.clone();
            tokio::spawn(async move { ada.read(&path).await })
        });
        let head = async || {
            let id = crate::peer::room_of(&story.room);
            story.here.store.room(&id).await.unwrap().unwrap()
        };
        assert!(head().await.partial.is_some());
        story.completes();
        let [members, joined, state, zoe] = asked;
        let members = soon("members are told", members).await.unwrap();
        assert_eq!(Story::members(&events(&members, &["chunk"])).len(), 3);
        let joined = soon("who is joined is told", joined).await.unwrap();
        assert_eq!(joined["joined"].as_object().unwrap().len(), 3);
        let state = soon("the state is told", state).await.unwrap();
        assert_eq!(Story::members(&events(&state, &[])).len(), 3);
        let zoe = soon("a member is told", zoe).await.unwrap();
        assert_eq!(zoe["membership"], "join");
        assert!(head().await.partial.is_none());
    })
    .await;
}

/// Of users here others know as well whether they are banned.
#[tokio::test(flavor = "multi_thread")]
async fn who_invites_somebody_waits_until_it_is_known_that_they_may_come() {
    story(async |story| {
        let bea = story.here.register("bea").await;
        let (ada, room) = (story.ada.clone(), esc(&story.room));
        let banned = json!({ "user_id": bea.id });
        let path = format!("/rooms/{room}/ban");
        story.eve.ok(Method::POST, &path, banned.clone()).await;
        story.join().await;
        let path = format!("/rooms/{room}/invite");
        let asked = tokio::spawn(async move { ada.call(Method::POST, &path, Some(banned)).await });
        story.completes();
        let (status, answer) = soon("it is decided", asked).await.unwrap();
        assert_eq!(status.as_u16(), 403, "{answer}");
    })
    .await;
}
