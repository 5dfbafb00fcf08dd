//! Counts of what is unread, against a naive count of everything from the beginning, while anything happens, counts
//! are written down, and servers start anew or are two on one database.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
};

use http::Method;
use rhizome_client_api::WriteUnread;
use rhizome_storage::{LogReader, testing::TestDatabase};
use ruma::server_name;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    by_thread, message,
    naive::{Event, Person, Scope, What, count},
    pair, read, related, rule, told,
};
use crate::{
    asking::text,
    harness::{Server, User, esc, next},
    random::Random,
};

const SEEDS: [u64; 3] = [13, 1_958, 20_261];
const STEPS: usize = 250;

static TXN: AtomicU64 = AtomicU64::new(0);

/// A process.
struct Process {
    server: Server,
    stop: CancellationToken,
    writing: JoinHandle<()>,
}

impl Process {
    async fn start(database: &TestDatabase) -> Self {
        let server = Server::new(database.open().await);
        let stop = CancellationToken::new();
        let work = WriteUnread::new(&server.store, server_name!("here").to_owned());
        let reader = LogReader::new(&server.store, "unread", work.after_every(3));
        let ends = stop.clone();
        let writing = tokio::spawn(async move { reader.run(&ends).await });
        Self {
            server,
            stop,
            writing,
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.writing.await.unwrap();
        assert_eq!(self.server.store.counters().now().reader_failures, 0);
        self.server.store.close().await;
    }
}

struct World {
    random: Random,
    processes: Vec<Process>,
    users: Vec<User>,
    people: Vec<Person>,
    events: Vec<Event>,
    room: String,
}

impl World {
    async fn new(seed: u64, database: &TestDatabase, processes: usize) -> Self {
        let mut started = Vec::new();
        for _ in 0..processes {
            started.push(Process::start(database).await);
        }
        let server = &started[0].server;
        let mut users = Vec::new();
        for name in ["alice", "bob", "carol"] {
            users.push(server.register(name).await);
        }
        let room = users[0].create_public().await;
        let person = || Person {
            joined: Some(0),
            ..Person::default()
        };
        for user in &users[1..] {
            user.join(&room).await;
        }
        Self {
            random: Random(seed),
            processes: started,
            people: users.iter().map(|_| person()).collect(),
            users,
            events: Vec::new(),
            room,
        }
    }

    /// The user, at some process.
    fn user(&mut self, who: usize) -> User {
        let at = self.random.below(self.processes.len());
        User {
            server: self.processes[at].server.clone(),
            ..self.users[who].clone()
        }
    }

    fn some_event(&mut self) -> Option<usize> {
        let count = self.events.len();
        // Mostly one of the last.
        let reach = if self.random.below(4) == 0 {
            count
        } else {
            count.min(12)
        };
        (count > 0).then(|| count - 1 - self.random.below(reach))
    }

    async fn send(&mut self, who: usize) {
        let what = [
            What::Message,
            What::Message,
            What::Message,
            What::Notice,
            What::Edit,
            What::Reaction,
        ][self.random.below(6)];
        let mut event = Event {
            id: String::new(),
            sender: who,
            what,
            thread: None,
            hops: 0,
            relates: false,
            mentions: BTreeSet::new(),
            everybody: self.random.below(10) == 0,
            cake: self.random.below(4) == 0,
            redacted: false,
            leant_on: false,
        };
        let mut content =
            json!({ "msgtype": "m.text", "body": if event.cake { "a Cake!" } else { "x" } });
        if what == What::Notice {
            content["msgtype"] = json!("m.notice");
        }
        let target = self.some_event();
        let leaning = matches!(what, What::Edit | What::Reaction);
        if let Some(target) = target
            && (leaning || self.random.below(2) == 0)
            && !self.events[target].redacted
        {
            let to = &mut self.events[target];
            let in_thread = !leaning && self.random.below(2) == 0 && !to.relates;
            let kind = match what {
                What::Edit => "m.replace",
                What::Reaction => "m.annotation",
                _ if in_thread => "m.thread",
                _ => "m.reference",
            };
            if in_thread {
                event.thread = Some(to.id.clone());
            } else if to.hops < 3 {
                (event.thread, event.hops) = (to.thread.clone(), to.hops + 1);
            }
            to.leant_on |= !in_thread;
            event.relates = true;
            content = message(content["body"].as_str().unwrap(), related(kind, &to.id));
            if what == What::Notice {
                content["msgtype"] = json!("m.notice");
            }
        } else if what == What::Edit {
            event.what = What::Message;
        }
        let mut mentions = json!({});
        if event.everybody {
            mentions["room"] = json!(true);
        }
        if self.random.below(4) == 0 {
            let whom = self.random.below(3);
            event.mentions.insert(whom);
            mentions["user_ids"] = json!([self.users[whom].id]);
        }
        content["m.mentions"] = mentions;
        let kind = if what == What::Reaction {
            "m.reaction"
        } else {
            "m.room.message"
        };
        let txn = TXN.fetch_add(1, Ordering::Relaxed);
        let path = format!("/rooms/{}/send/{kind}/unread{txn}", esc(&self.room));
        let sent = self.user(who).ok(Method::PUT, &path, content).await;
        event.id = text(&sent["event_id"]);
        self.events.push(event);
    }

    async fn receipt(&mut self, who: usize) {
        let Some(at) = self.some_event() else { return };
        let (id, thread) = (self.events[at].id.clone(), self.events[at].thread.clone());
        let kind = ["m.read", "m.read.private"][self.random.below(2)];
        let threaded = self.random.below(3) > 0;
        let scope = if threaded {
            Scope::Thread(thread.clone())
        } else {
            Scope::Room
        };
        let name = threaded.then(|| thread.unwrap_or_else(|| "main".to_owned()));
        if self.events[at].redacted && threaded {
            return;
        }
        read(
            &self.user(who),
            &self.room.clone(),
            kind,
            &id,
            name.as_deref(),
        )
        .await;
        self.people[who].reads.push((scope, at));
    }

    async fn redact(&mut self) {
        let Some(at) = self.some_event() else { return };
        let event = &self.events[at];
        if event.redacted || event.leant_on {
            return;
        }
        let txn = TXN.fetch_add(1, Ordering::Relaxed);
        let path = format!(
            "/rooms/{}/redact/{}/unread{txn}",
            esc(&self.room),
            esc(&event.id)
        );
        // Alice may redact what others say.
        self.user(0).ok(Method::PUT, &path, json!({})).await;
        self.events[at].redacted = true;
    }

    async fn change(&mut self, who: usize) {
        let (user, room) = (self.user(who), self.room.clone());
        let other = self.random.below(3);
        let choice = self.random.below(3);
        let person = &mut self.people[who];
        match choice {
            0 => match person.cake {
                None => {
                    let actions = json!(["notify", { "set_tweak": "highlight" }]);
                    rule(
                        &user,
                        "content/cake",
                        json!({ "actions": actions, "pattern": "c?ke" }),
                    )
                    .await;
                    person.cake = Some(true);
                }
                Some(on) => {
                    rule(&user, "content/cake/enabled", json!({ "enabled": !on })).await;
                    person.cake = Some(!on);
                }
            },
            1 => {
                let path = format!("room/{}", esc(&room));
                if person.muted {
                    user.ok(
                        Method::DELETE,
                        &format!("/pushrules/global/{path}"),
                        json!({}),
                    )
                    .await;
                } else {
                    rule(&user, &path, json!({ "actions": [] })).await;
                }
                person.muted = !person.muted;
            }
            _ if other != who => {
                if !person.ignores.remove(&other) {
                    person.ignores.insert(other);
                }
                let ignored = person
                    .ignores
                    .iter()
                    .map(|other| (self.users[*other].id.clone(), json!({})));
                let list: serde_json::Map<String, Value> = ignored.collect();
                let path = format!("/user/{}/account_data/m.ignored_user_list", esc(&user.id));
                user.ok(Method::PUT, &path, json!({ "ignored_users": list }))
                    .await;
            }
            _ => {}
        }
    }

    async fn come_and_go(&mut self, who: usize) {
        let (user, room) = (self.user(who), self.room.clone());
        if who == 0 {
            return;
        }
        self.people[who].joined = if self.people[who].joined.is_some() {
            user.leave(&room).await;
            None
        } else {
            user.join(&room).await;
            Some(self.events.len())
        };
        // Who comes by one process and speaks at once by another may be refused there.
        for process in &self.processes {
            process.server.store.log().refresh().await.unwrap();
        }
    }

    async fn check(&mut self, who: usize) {
        if self.people[who].joined.is_none() {
            return;
        }
        let user = self.user(who);
        let first = self.random.below(3) == 0;
        let threads = self.random.below(2) == 0;
        let since = self.people[who].since.clone().filter(|_| !first);
        let query = if threads { by_thread() } else { String::new() };
        let answer = user.sync(since.as_deref(), &query).await;
        self.people[who].since = Some(next(&answer));
        let part = &answer["rooms"]["join"][&self.room];
        if part.is_null() && since.is_some() {
            return;
        }
        let naive = count(&self.people, &self.events, who);
        let events = self.events.iter().enumerate();
        let events: Vec<_> = events
            .map(|(at, event)| format!("{at} {event:?}"))
            .collect();
        let about = format!(
            "{who}, first: {first}\n{:?}\n{}",
            self.people[who],
            events.join("\n")
        );
        if !threads {
            let all = naive
                .values()
                .fold((0, 0), |all, count| (all.0 + count.0, all.1 + count.1));
            assert_eq!(told(&answer, &self.room), Some(all), "{about}");
            return;
        }
        let mut found = BTreeMap::from([(None, told(&answer, &self.room).unwrap())]);
        let by_root = part["unread_thread_notifications"].as_object();
        for (root, counts) in by_root.into_iter().flatten() {
            found.insert(Some(root.clone()), pair(counts).unwrap());
        }
        assert_eq!(found, naive, "{about}");
    }

    async fn step(&mut self, database: &TestDatabase) {
        let who = self.random.below(3);
        let there = self.people[who].joined.is_some();
        match self.random.below(40) {
            0 => {
                let at = self.random.below(self.processes.len());
                self.processes.remove(at).end().await;
                self.processes.push(Process::start(database).await);
            }
            1 | 2 => self.come_and_go(who).await,
            3 | 4 => self.change(who).await,
            5..=7 => self.redact().await,
            8..=13 if there => self.receipt(who).await,
            14..=29 if there => self.send(who).await,
            _ => self.check(who).await,
        }
    }
}

async fn tell(seed: u64, database: TestDatabase, processes: usize) {
    let mut world = World::new(seed, &database, processes).await;
    for _ in 0..STEPS {
        world.step(&database).await;
    }
    for who in 0..3 {
        world.check(who).await;
    }
    for process in world.processes {
        process.end().await;
    }
    database.remove().await;
}

#[tokio::test]
async fn a_server_that_starts_anew_counts_what_is_there() {
    for seed in SEEDS {
        for database in TestDatabase::both().await {
            tell(seed, database, 1).await;
        }
    }
}

#[tokio::test]
async fn two_processes_count_the_same() {
    for seed in SEEDS {
        tell(seed, TestDatabase::postgres().await, 2).await;
    }
}
