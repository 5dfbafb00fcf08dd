//! Three processes on one database, and a balancer that doesn't care at which of them a client was before.

use std::time::Duration;

use http::Method;
use rhizome_storage::{
    Clock, Options, PresenceOptions, Store,
    testing::{TestDatabase, eventually, soon},
};
use ruma::RoomId;
use serde_json::{Value, json};

use crate::harness::{Server, User, esc, events, next};

struct Three {
    database: TestDatabase,
    clock: Clock,
    servers: Vec<Server>,
}

impl Three {
    /// Processes that know of each other.
    async fn new(presence: bool) -> Self {
        let database = TestDatabase::postgres().await;
        let clock = Clock::manual(1_800_000_000_000);
        let mut servers = Vec::new();
        for _ in 0..3 {
            let options = Options {
                clock: clock.clone(),
                presence: PresenceOptions {
                    enabled: presence,
                    max_room_size: 10,
                },
                ..database.options()
            };
            servers.push(Server::new(Store::open(options).await.unwrap()));
        }
        let all = Self {
            database,
            clock,
            servers,
        };
        eventually("they know of each other", async || {
            let heard = |server: &Server| server.store.ephemeral().heard().all().count();
            all.servers.iter().all(|server| heard(server) == 3)
        })
        .await;
        all
    }

    /// A user as the balancer sends them.
    fn at(&self, n: usize, user: &User) -> User {
        User {
            server: self.servers[n % 3].clone(),
            ..user.clone()
        }
    }

    /// A token of somebody who has been told everything that there is, by each of the processes.
    async fn told(&self, user: &User) -> String {
        let mut since = next(&self.at(0, user).sync(None, QUIET).await);
        for n in 1..7 {
            since = next(&self.at(n, user).sync(Some(&since), QUIET).await);
        }
        since
    }

    /// Waits until every process knows who types.
    async fn all_see_typing(&self, room: &str, count: usize) {
        let room = <&RoomId>::try_from(room).unwrap();
        eventually("every process knows who types", async || {
            for server in &self.servers {
                let no = server.store.known_room(room).await.unwrap().unwrap();
                if server.store.ephemeral().typing(no).1.len() != count {
                    return false;
                }
            }
            true
        })
        .await;
    }

    async fn end(self) {
        for server in &self.servers {
            server.shutdown.cancel();
            server.store.close().await;
        }
        self.database.remove().await;
    }
}

/// Of somebody who doesn't want to be seen.
const QUIET: &str = "&set_presence=offline";

async fn types(user: &User, room: &str, typing: bool) {
    let path = format!("/rooms/{}/typing/{}", esc(room), esc(&user.id));
    let body = json!({ "typing": typing, "timeout": 30_000 });
    user.ok(Method::PUT, &path, body).await;
}

/// Who types by an answer; `None`: it doesn't say.
fn typing(answer: &Value, room: &str) -> Option<Vec<String>> {
    let told = events(answer, &["rooms", "join", room, "ephemeral", "events"]);
    let told = told
        .into_iter()
        .rfind(|event| event["type"] == "m.typing")?;
    let users = told["content"]["user_ids"].as_array().unwrap().iter();
    Some(
        users
            .map(|user| user.as_str().unwrap().to_owned())
            .collect(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_with_nothing_new_waits_at_whichever_process_it_is() {
    let three = Three::new(false).await;
    let alice = three.servers[0].register("alice").await;
    let bob = three.servers[1].register("bob").await;
    let room = alice.create_public().await;
    bob.join(&room).await;
    // There is something beside the log at each of them.
    for n in 0..3 {
        types(&three.at(n, &alice), &room, true).await;
        three.all_see_typing(&room, 1).await;
        types(&three.at(n + 1, &alice), &room, false).await;
        three.all_see_typing(&room, 0).await;
    }
    let mut since = three.told(&bob).await;
    for n in 0..7 {
        // This fails if it doesn't wait.
        let poll = three.at(n, &bob).poll(&since).await;
        let said = three.at(n + 1, &alice);
        let path = format!("/rooms/{}/send/m.room.message/{n}", esc(&room));
        let body = json!({ "msgtype": "m.text", "body": "news" });
        let said = said.ok(Method::PUT, &path, body).await;
        let answer = soon("a message arrives at another process", poll)
            .await
            .unwrap();
        let timeline = events(&answer, &["rooms", "join", &room, "timeline", "events"]);
        assert_eq!(timeline.len(), 1, "{answer}");
        assert_eq!(timeline[0]["event_id"], said["event_id"]);
        assert_eq!(typing(&answer, &room), None);
        since = next(&answer);
    }
    three.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_at_one_process_is_told_once_by_whichever_other() {
    let three = Three::new(false).await;
    let alice = three.servers[0].register("alice").await;
    let bob = three.servers[1].register("bob").await;
    let room = alice.create_public().await;
    bob.join(&room).await;
    let mut since = three.told(&bob).await;
    for n in 0..4 {
        let poll = three.at(n, &bob).poll(&since).await;
        types(&three.at(n + 1, &alice), &room, true).await;
        let answer = soon("it is told", poll).await.unwrap();
        assert_eq!(typing(&answer, &room), Some(vec![alice.id.clone()]));
        three.all_see_typing(&room, 1).await;
        // Told by one, it is no news at the next, and that she goes on isn't either.
        let poll = three.at(n + 2, &bob).poll(&next(&answer)).await;
        types(&three.at(n + 2, &alice), &room, true).await;
        // She stops, at another process than she began.
        types(&three.at(n + 2, &alice), &room, false).await;
        let answer = soon("it is told to be over", poll).await.unwrap();
        assert_eq!(typing(&answer, &room), Some(vec![]));
        three.all_see_typing(&room, 0).await;
        since = next(&answer);
    }
    // Nobody says that it is over.
    let poll = three.at(0, &bob).poll(&since).await;
    types(&three.at(1, &alice), &room, true).await;
    since = next(&soon("it is told", poll).await.unwrap());
    let poll = three.at(2, &bob).poll(&since).await;
    eventually("it ends by its time", async || {
        three.clock.advance(Duration::from_secs(1));
        poll.is_finished()
    })
    .await;
    assert_eq!(typing(&poll.await.unwrap(), &room), Some(vec![]));
    three.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_there_is_known_at_every_process() {
    let three = Three::new(true).await;
    let alice = three.servers[0].register("alice").await;
    let bob = three.servers[1].register("bob").await;
    let room = alice.create_public().await;
    bob.join(&room).await;
    let since = three.told(&bob).await;
    // Those who wait have been woken for what was before.
    three.clock.advance(Duration::from_secs(5));
    let path = format!("/presence/{}/status", esc(&alice.id));
    let poll = three.at(2, &bob).poll(&format!("{since}{QUIET}")).await;
    let said = json!({ "presence": "online", "status_msg": "at the sea" });
    three.at(1, &alice).ok(Method::PUT, &path, said).await;
    let is = async |state: &str, words: &Value| {
        for n in 0..3 {
            let status = three.at(n, &bob).read(&path).await;
            if status["presence"] != state || status["status_msg"] != *words {
                return false;
            }
        }
        true
    };
    let words = json!("at the sea");
    eventually("she is online everywhere", async || {
        is("online", &words).await
    })
    .await;
    let answer = soon("who waits is told", poll).await.unwrap();
    let told = events(&answer, &["presence", "events"]);
    assert_eq!(told[0]["sender"], alice.id, "{answer}");
    assert_eq!(told[0]["content"]["presence"], "online");
    // What she says at another process stands.
    let said = json!({ "presence": "unavailable", "status_msg": "asleep" });
    three.at(0, &alice).ok(Method::PUT, &path, said).await;
    let words = json!("asleep");
    eventually("she is away everywhere", async || {
        is("unavailable", &words).await
    })
    .await;
    // She says nothing more, and is gone everywhere.
    eventually("she is gone everywhere", async || {
        three.clock.advance(Duration::from_secs(1));
        is("offline", &words).await
    })
    .await;
    three.end().await;
}
