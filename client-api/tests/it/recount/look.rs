//! Devices that follow an account, and believe what they were told last of what is unread.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::Value;

use super::oracle::{Counts, Pair};
use crate::{
    harness::{User, next},
    sliding::client::{Client, first},
    unread::{by_thread, pair},
};

/// By room.
pub type Told<T> = BTreeMap<String, T>;

/// A device that goes on by `/sync`.
pub struct Follower {
    user: User,
    threads: bool,
    since: Option<String>,
    pub told: Told<Counts>,
}

impl Follower {
    pub async fn begin(user: &User, threads: bool) -> Self {
        Self {
            user: user.another_device().await,
            threads,
            since: None,
            told: Told::new(),
        }
    }

    pub fn at(&mut self, user: &User) {
        self.user.server = user.server.clone();
    }

    pub async fn look(&mut self) {
        let sync = sync(&self.user, self.since.as_deref(), self.threads).await;
        self.since = Some(next(&sync));
        self.told.extend(joined(&sync));
    }
}

/// What somebody is told who knows nothing; and by what they are invited, by room.
pub async fn at_first(user: &User, threads: bool) -> (Told<Counts>, Told<Value>) {
    let sync = sync(user, None, threads).await;
    let mut invites = Told::new();
    for (room, part) in sync["rooms"]["invite"].as_object().into_iter().flatten() {
        let mut state = part["invite_state"]["events"].as_array().unwrap().iter();
        let invite = state.find(|event| event["state_key"] == *user.id);
        invites.insert(room.clone(), invite.unwrap().clone());
    }
    (joined(&sync), invites)
}

async fn sync(user: &User, since: Option<&str>, threads: bool) -> Value {
    let query = if threads { by_thread() } else { String::new() };
    user.sync(since, &query).await
}

/// The counts of the joined rooms that an answer has.
fn joined(sync: &Value) -> Told<Counts> {
    let rooms = sync["rooms"]["join"].as_object();
    let mut told = Told::new();
    for (room, part) in rooms.into_iter().flatten() {
        let Some(main) = pair(&part["unread_notifications"]) else {
            continue;
        };
        let mut counts = Counts::from([(None, main)]);
        let threads = part["unread_thread_notifications"].as_object();
        for (root, of) in threads.into_iter().flatten() {
            counts.insert(Some(root.clone()), pair(of).unwrap());
        }
        told.insert(room.clone(), counts);
    }
    told
}

/// A device that goes on by sliding sync.
pub struct Slider {
    client: Client,
    pub told: Told<Pair>,
}

impl Slider {
    pub async fn begin(user: &User) -> Self {
        Self {
            client: Client::of(&user.another_device().await),
            told: Told::new(),
        }
    }

    pub fn at(&mut self, user: &User) {
        self.client.user.server = user.server.clone();
    }

    pub async fn look(&mut self) {
        let wanted = first(20);
        let (mut status, mut answer) = self.client.ask(&wanted, 0).await;
        if answer["errcode"] == "M_UNKNOWN_POS" {
            self.client.pos = None;
            (status, answer) = self.client.ask(&wanted, 0).await;
        }
        assert_eq!(status, StatusCode::OK, "{answer}");
        self.client.pos = Some(answer["pos"].as_str().unwrap().to_owned());
        for (room, part) in answer["rooms"].as_object().into_iter().flatten() {
            self.told
                .extend(pair(part).map(|counts| (room.clone(), counts)));
        }
    }
}
