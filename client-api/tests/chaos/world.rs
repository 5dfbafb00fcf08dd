//! Servers, the people who live there, and what they have made.

use std::{collections::BTreeSet, time::Duration};

use axum::body::Body;
use http::{Method, Request, header};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rhizome_federation::testing::Network;
use ruma::{OwnedRoomId, RoomId};
use serde_json::{Value, json};
use tokio::{runtime::Handle, time::timeout};

use crate::{
    devices::{Device, signed_keys},
    random::Random,
    site::{Answer, Site},
    story::{KINDS, NAMES, Story},
    view::View,
    weather::Weather,
};

/// What clocks show at first, about.
const BEGIN_MS: i64 = 1_700_000_000_000;
/// Clocks differ by this much at most.
const SKEW_MS: usize = 20 * 60_000;
/// While somebody waits for an answer, time goes by: so much of the story's for so much of ours, …
const FLOWS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(10));
/// … and after so many of these nobody waits any more.
const PATIENCE: usize = 2_000;

/// All that there is.
pub struct World {
    pub network: Network,
    pub weather: Weather,
    pub sites: Vec<Site>,
    pub people: Vec<Person>,
    pub rooms: Vec<Room>,
    pub files: Vec<File>,
    pub messages: Vec<Message>,
}

pub struct Person {
    pub home: usize,
    /// `@name:server`
    pub id: String,
    /// The one that follows what happens, …
    pub device: Device,
    /// … what it has made of that, …
    pub view: View,
    /// … and how it asks for it.
    pub query: String,
    pub others: Vec<Device>,
}

pub struct Room {
    pub id: OwnedRoomId,
    /// The messages in it, by those who were told that they were sent.
    pub said: Vec<String>,
}

pub struct File {
    /// `server/id`
    pub path: String,
    pub bytes: Vec<u8>,
    /// The servers at which it was got when all was well.
    pub got: BTreeSet<usize>,
}

/// A message to a device.
pub struct Message {
    pub from: usize,
    pub to: usize,
    pub n: u64,
    /// Whether whoever sent it was told that it was sent.
    pub is_sure: bool,
}

impl World {
    /// Everybody is there, and has made a room if it is theirs to make.
    pub async fn begin(story: &Story, title: &str, postgres: bool) -> Self {
        let network = Network::default();
        let weather = Weather::over(&network, story.seed, Handle::current());
        let mut chance = Random(story.seed ^ 0x00c1_0c45);
        let mut sites = Vec::new();
        for index in 0..story.servers {
            let skew = i64::try_from(chance.below(SKEW_MS)).unwrap();
            let mut site =
                Site::new(index, title, BEGIN_MS + skew, (postgres, story.joins())).await;
            site.start(&network, &weather).await;
            sites.push(site);
        }
        let mut world = Self {
            network,
            weather,
            sites,
            people: Vec::new(),
            rooms: Vec::new(),
            files: Vec::new(),
            messages: Vec::new(),
        };
        for (index, name) in NAMES.iter().enumerate() {
            world.comes(index, name).await;
        }
        for (who, version) in story.versions.iter().enumerate() {
            world.makes_room(who, version).await;
        }
        for who in 0..world.people.len() {
            world.looks(who).await;
        }
        world
    }

    async fn comes(&mut self, index: usize, name: &str) {
        let home = index % self.sites.len();
        let body = json!({
            "username": name, "password": "a good password", "auth": { "type": "m.login.dummy" },
        });
        let path = "/_matrix/client/v3/register";
        let told = self.ask(home, (Method::POST, path), None, &body).await;
        let told = must(told);
        let limit = [3, 100][index % 2];
        let filter = json!({ "room": { "timeline": { "limit": limit } } });
        let after = if index < 3 {
            "&use_state_after=true"
        } else {
            ""
        };
        self.people.push(Person {
            home,
            id: told["user_id"].as_str().unwrap().to_owned(),
            device: Device::of(&told),
            view: View::default(),
            query: format!("filter={}{after}", esc(&filter.to_string())),
            others: Vec::new(),
        });
        let who = self.people.len() - 1;
        let device = self.people[who].device.clone();
        must(self.shows_keys(who, &device).await);
    }

    /// A device tells which keys it has.
    pub async fn shows_keys(&self, who: usize, device: &Device) -> Option<Answer> {
        let Person { home, id, .. } = &self.people[who];
        let body = json!({ "device_keys": signed_keys(id, &device.id) });
        let path = "/_matrix/client/v3/keys/upload";
        let asked = (Method::POST, path);
        self.ask(*home, asked, Some(&device.token), &body).await
    }

    async fn makes_room(&mut self, who: usize, version: &str) {
        let levels: serde_json::Map<String, Value> = (KINDS.iter())
            .map(|kind| ((*kind).to_owned(), 0.into()))
            .collect();
        let body = json!({
            "preset": "public_chat",
            "room_version": version,
            "power_level_content_override": { "events": levels },
        });
        let made = must(self.call(who, Method::POST, "/createRoom", &body).await);
        let id = made["room_id"].as_str().unwrap();
        self.rooms.push(Room {
            id: RoomId::parse(id).unwrap(),
            said: Vec::new(),
        });
    }

    /// Time goes by everywhere.
    pub fn passes(&self, time: Duration) {
        for site in &self.sites {
            site.clock.advance(time);
        }
    }

    /// A request of a person's first device; `path` is what follows `/_matrix/client/v3`. `None`: nobody answers.
    pub async fn call(
        &self,
        who: usize,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Option<Answer> {
        let Person { home, device, .. } = &self.people[who];
        let path = format!("/_matrix/client/v3{path}");
        self.ask(*home, (method, &path), Some(&device.token), body)
            .await
    }

    /// A request to a server.
    pub async fn ask(
        &self,
        at: usize,
        (method, path): (Method, &str),
        token: Option<&str>,
        body: &Value,
    ) -> Option<Answer> {
        let body = if body.is_null() {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        self.send(at, (method, path), token, body).await
    }

    /// The same with a body of any kind.
    pub async fn send(
        &self,
        at: usize,
        (method, path): (Method, &str),
        token: Option<&str>,
        body: Body,
    ) -> Option<Answer> {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut asked = self.sites[at].serve(request.body(body).unwrap())?;
        let (story, ours) = FLOWS;
        for _ in 0..PATIENCE {
            if let Ok(answered) = timeout(ours, &mut asked).await {
                return answered.ok();
            }
            self.passes(story);
        }
        None
    }

    /// A person's first device hears what is new.
    pub async fn looks(&mut self, who: usize) -> Option<Answer> {
        let Person { view, query, .. } = &self.people[who];
        let since = view.since.as_ref();
        let since = since.map_or_else(String::new, |since| format!("&since={since}"));
        let path = format!("/sync?{query}{since}");
        let answer = self.call(who, Method::GET, &path, &Value::Null).await?;
        if answer.is_ok() {
            self.people[who].view.hears(&answer.json());
        }
        Some(answer)
    }

    /// What should never be: what servers have died of, and what clients can't have been told.
    pub fn is_unsound(&mut self) -> Vec<String> {
        let mut wrong: Vec<String> = Vec::new();
        for site in &mut self.sites {
            let name = site.name.clone();
            let died = site.died().iter();
            wrong.extend(died.map(|what| format!("{name}: {what}")));
        }
        for Person { id, view, .. } in &self.people {
            wrong.extend(view.wrong.iter().map(|what| format!("{id}: {what}")));
        }
        wrong
    }

    /// It is over.
    pub async fn end(self) {
        for site in self.sites {
            site.end(&self.network, &self.weather).await;
        }
    }
}

/// What an answer says that has to be a success.
#[track_caller]
fn must(answer: Option<Answer>) -> Value {
    let answer = answer.expect("somebody answers");
    assert!(answer.is_ok(), "{}", answer.json());
    answer.json()
}

/// Escapes a part of a path or query.
pub fn esc(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
