//! Users of two servers, their rooms, and what became of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use http::Method;
use rhizome_client_api::{WriteUnread, notify};
use rhizome_federation::outbound::Reach;
use rhizome_storage::{LogReader, testing::eventually};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    look::Told,
    oracle::{Counts, Person as Asked, Receipt, is_notified, recount},
};
use crate::{
    e2ee::several::Several,
    harness::{Server, User, esc, filter},
    pushers::{pusher, set},
};

pub const SERVERS: u8 = 2;
/// Nothing takes so long; beyond it is said what was missing.
pub const SOON: Duration = Duration::from_secs(20);
const PEOPLE: [(&str, usize); 4] = [("alice", 0), ("bob", 0), ("carol", 1), ("dave", 1)];

pub struct Person {
    pub user: User,
    /// Their server.
    pub home: usize,
    pub ignored: BTreeSet<String>,
    /// By room.
    pub receipts: BTreeMap<String, Vec<Receipt>>,
    /// Rules that were switched on or off, by their path.
    pub rules: BTreeMap<String, bool>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    Outside,
    Invited,
    Inside,
}

pub struct Room {
    pub id: String,
    /// Its state when it was made.
    state: Vec<Value>,
    /// The event by which the last witness came: from there on both servers have the same.
    begin: String,
    /// Who has made it, and stays.
    pub creator: usize,
    pub is_public: bool,
    /// Nobody of the other server is ever in it.
    pub is_of_one: bool,
    /// Where each person is.
    pub places: [Place; PEOPLE.len()],
    pub said: Vec<Said>,
}

/// Something that was said in a room.
pub struct Said {
    pub id: String,
    pub by: usize,
    /// The server that had it first.
    pub home: usize,
    /// Whether the others have it.
    pub is_everywhere: bool,
    pub thread: Option<String>,
    /// Over how many others it is in it.
    pub hops: usize,
    /// Whether it relates to another: then no thread can hang off it.
    pub relates: bool,
    /// Who has reacted to it.
    pub reacted: BTreeSet<usize>,
    /// Another's thread goes by this one's.
    pub is_leant_on: bool,
    pub is_redacted: bool,
}

/// A room's events by its id.
type Timelines = BTreeMap<String, Vec<Value>>;

pub struct Life {
    seed: u64,
    pub people: Vec<Person>,
    pub rooms: Vec<Room>,
    /// Somebody of each server who is in all rooms and does nothing.
    witnesses: Vec<User>,
    /// What they saw when all was quiet.
    seen: Vec<Timelines>,
    running: Vec<Running>,
    /// What happened, in words.
    pub story: Vec<String>,
}

/// What a server does by itself.
struct Running {
    server: Server,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    fn begin(all: &Several, index: usize) -> Self {
        let (server, stop) = (all.server(index).clone(), CancellationToken::new());
        let (app, stopped) = (server.app.clone(), stop.clone());
        let telling = async move { notify::run(&app, &Reach::default(), &stopped).await };
        let work = WriteUnread::new(&server.store, all.name(index).to_owned());
        let reader = LogReader::new(&server.store, "unread", work.after_every(3));
        let stopped = stop.clone();
        let writing = async move { reader.run(&stopped).await };
        Self {
            tasks: vec![tokio::spawn(telling), tokio::spawn(writing)],
            server,
            stop,
        }
    }

    async fn end(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
        assert_eq!(self.server.store.counters().now().reader_failures, 0);
    }
}

impl Life {
    /// Alice and Bob on one server, Carol and Dave on the other, all with phones. Two rooms are public; in one only
    /// Alice invites, in the last Bob, and nobody of the other server comes.
    pub async fn begin(all: &Several, seed: u64) -> Self {
        let (mut people, mut witnesses) = (Vec::new(), Vec::new());
        for (name, home) in PEOPLE {
            let user = all.server(home).register(name).await;
            set(&user, pusher(&user.id, json!({}))).await;
            people.push(Person {
                user,
                home,
                ignored: BTreeSet::new(),
                receipts: BTreeMap::new(),
                rules: BTreeMap::new(),
            });
        }
        for server in 0..usize::from(SERVERS) {
            witnesses.push(all.server(server).register("witness").await);
        }
        let mut life = Self {
            seed,
            people,
            rooms: Vec::new(),
            witnesses,
            seen: Vec::new(),
            running: (0..SERVERS.into())
                .map(|at| Running::begin(all, at))
                .collect(),
            story: Vec::new(),
        };
        let public = json!({ "preset": "public_chat", "room_version": "11" });
        life.make(all, 0, public, &[1, 2, 3]).await;
        life.make(all, 3, json!({ "preset": "public_chat" }), &[0, 2])
            .await;
        let private = json!({ "preset": "private_chat" });
        life.make(all, 0, private.clone(), &[1, 2]).await;
        life.make(all, 1, private, &[0]).await;
        life
    }

    async fn make(&mut self, all: &Several, creator: usize, how: Value, inside: &[usize]) {
        let is_public = how["preset"] == "public_chat";
        let home = |who: &usize| self.people[*who].home;
        let is_of_one = !is_public && inside.iter().all(|who| home(who) == home(&creator));
        let by = self.people[creator].user.clone();
        let id = by.create(how).await;
        let of_room = format!("/rooms/{}/state", esc(&id));
        let state = by.read(&of_room).await.as_array().unwrap().clone();
        let witnesses = if is_of_one { 1 } else { 2 };
        let witnesses = self.witnesses[..witnesses].to_vec();
        let way = (&*id, self.people[creator].home);
        for user in &witnesses {
            comes(all, way, &by, is_public, user).await;
        }
        let last = &witnesses[witnesses.len() - 1];
        let of_last = format!("{of_room}/m.room.member/{}?format=event", esc(&last.id));
        let begin = last.read(&of_last).await["event_id"]
            .as_str()
            .unwrap()
            .to_owned();
        // Whoever comes before a server has heard of it would stand before it there.
        let path = format!("/rooms/{}/event/{}", esc(&id), esc(&begin));
        for witness in &witnesses {
            eventually("all witnesses are there", async || {
                witness.get(&path).await.0.is_success()
            })
            .await;
        }
        for who in inside {
            comes(all, way, &by, is_public, &self.people[*who].user).await;
        }
        let mut places = [Place::Outside; PEOPLE.len()];
        for who in inside.iter().chain([&creator]) {
            places[*who] = Place::Inside;
        }
        self.rooms.push(Room {
            id,
            state,
            begin,
            creator,
            is_public,
            is_of_one,
            places,
            said: Vec::new(),
        });
    }

    /// A server starts anew: with nothing that it remembered.
    pub async fn restart(&mut self, all: &mut Several, index: usize) {
        self.story.push(format!("server {index} starts anew"));
        self.running.remove(index).end().await;
        all.restart(index).await;
        self.running.insert(index, Running::begin(all, index));
        for person in &mut self.people {
            person.user = all.again(&person.user);
        }
        for witness in &mut self.witnesses {
            *witness = all.again(witness);
        }
    }

    /// Waits until both servers have all that was said and done.
    pub async fn settle(&mut self) {
        let seen = Mutex::new(Vec::new());
        let same = eventually("both servers have the same events", async || {
            let mut all = Vec::new();
            for witness in &self.witnesses {
                all.push(self.timelines(witness).await);
            }
            let is_quiet = self.rooms.iter().all(|room| missing(room, &all).is_empty());
            *seen.lock().unwrap() = all;
            is_quiet
        });
        let ended = tokio::time::timeout(SOON, same).await;
        self.seen = seen.into_inner().unwrap();
        if ended.is_err() {
            let rooms = self.rooms.iter();
            let missing: Vec<_> = rooms.map(|room| missing(room, &self.seen)).collect();
            panic!("{}\n{missing:#?}", self.about(0, "what is missing"));
        }
        for said in self.rooms.iter_mut().flat_map(|room| &mut room.said) {
            said.is_everywhere = true;
        }
        self.story.push("all is quiet".to_owned());
    }

    /// What a witness sees of all rooms.
    async fn timelines(&self, witness: &User) -> Timelines {
        let long = filter(&json!({ "room": { "timeline": { "limit": 1_000 } } }));
        // Where the state is told as it is in the end, the timeline keeps what a merge of forks undid.
        let long = format!("{long}&use_state_after=true");
        let sync = witness.sync(None, &long).await;
        let mut timelines = Timelines::new();
        for room in &self.rooms {
            let part = &sync["rooms"]["join"][&room.id];
            let events = part["timeline"]["events"].as_array().into_iter().flatten();
            let mut events = events.skip_while(|event| event["event_id"] != room.begin);
            events.next();
            timelines.insert(room.id.clone(), events.cloned().collect());
        }
        timelines
    }

    /// Who is asked in a room.
    async fn asked<'a>(&'a self, who: usize, room: &'a Room) -> Asked<'a> {
        let person = &self.people[who];
        let rules = person.user.read("/pushrules/").await;
        Asked {
            id: &person.user.id,
            rules: serde_json::from_value(rules["global"].clone()).unwrap(),
            ignored: &person.ignored,
            receipts: person.receipts.get(&room.id).map_or(&[], Vec::as_slice),
        }
    }

    /// The naive recount of all rooms that somebody is in.
    pub async fn recount(&self, who: usize) -> Told<Counts> {
        let mut all = Told::new();
        for room in &self.rooms {
            if room.places[who] == Place::Inside {
                let asked = self.asked(who, room).await;
                let events = &self.seen[self.people[who].home][&room.id];
                let about = (&*room.id, &*room.state);
                all.insert(room.id.clone(), recount(about, events, &asked).await);
            }
        }
        all
    }

    /// How many of the invites that somebody sees they are notified of: "If no rules match an event, the homeserver
    /// MUST NOT notify the Push Gateway for that event".
    pub async fn invites(&self, who: usize, seen: &Told<Value>) -> u64 {
        let mut count = 0;
        for room in &self.rooms {
            if let Some(invite) = seen.get(&room.id) {
                let asked = self.asked(who, room).await;
                let about = (&*room.id, &*room.state);
                count += u64::from(is_notified(about, invite, &asked).await);
            }
        }
        count
    }

    /// What somebody has to know who looks for a mistake.
    pub fn about(&self, who: usize, way: &str) -> String {
        let (Person { user, home, .. }, seed) = (&self.people[who], self.seed);
        let mut about = vec![format!("seed {seed}: {} ({who})", user.id), way.to_owned()];
        about.extend(self.story.iter().cloned());
        for (at, room) in self.rooms.iter().enumerate() {
            about.push(format!("{at} is {}, as server {home} has it:", room.id));
            let events = self.seen.get(*home).and_then(|seen| seen.get(&room.id));
            about.extend(events.into_iter().flatten().map(in_words));
        }
        about.join("\n")
    }

    pub async fn end(self) {
        for running in self.running {
            running.end().await;
        }
    }
}

/// Somebody comes to a room of a server for the first time, after an invite if it takes one.
async fn comes(
    all: &Several,
    (room, home): (&str, usize),
    by: &User,
    is_public: bool,
    user: &User,
) {
    if !is_public {
        by.invite(room, user).await;
    }
    let path = format!("/join/{}?via={}", esc(room), all.name(home));
    // Who is already there may hear of the invite a moment later.
    eventually("they are let in", async || {
        let (status, _) = user.call(Method::POST, &path, Some(json!({}))).await;
        status.is_success()
    })
    .await;
}

/// What of a room one of the servers doesn't have, by server.
fn missing(room: &Room, all: &[Timelines]) -> Vec<(usize, String)> {
    let of = |at: usize| {
        let events = all[at].get(&room.id).into_iter().flatten();
        let ids = events.filter_map(|event| event["event_id"].as_str());
        ids.map(ToOwned::to_owned).collect::<BTreeSet<String>>()
    };
    let servers: &[usize] = if room.is_of_one { &[0] } else { &[0, 1] };
    let mut expected: BTreeSet<String> = room.said.iter().map(|said| said.id.clone()).collect();
    expected.extend(servers.iter().flat_map(|at| of(*at)));
    let missing = servers.iter().flat_map(|at| {
        let missing = expected.difference(&of(*at)).cloned().collect::<Vec<_>>();
        missing.into_iter().map(|event| (*at, event))
    });
    missing.collect()
}

fn in_words(event: &Value) -> String {
    let [id, kind, by] = ["event_id", "type", "sender"].map(|key| event[key].as_str());
    let membership = &event["content"]["membership"];
    let is_gone = event["unsigned"].get("redacted_because").is_some();
    format!("  {id:?} {kind:?} {by:?} {membership} {is_gone}")
}
