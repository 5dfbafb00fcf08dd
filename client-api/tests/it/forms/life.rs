//! What users of two servers do.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::belief::COLOUR;
use crate::{
    e2ee::several::Several,
    harness::{User, esc},
    random::Random,
};

/// Users and their rooms.
pub struct Life {
    users: Vec<User>,
    rooms: Vec<String>,
    /// The last message of each room, to be receipted or redacted.
    said: Vec<Option<String>>,
    /// How many messages to devices each user has got.
    pub mail: Vec<u64>,
    /// What happened, in words.
    pub told: Vec<String>,
}

/// Two users whose clients are watched, one of each server.
pub const FOLLOWED: [usize; 2] = [1, 2];

impl Life {
    /// Alice and Bob on one server, Carol and Dave on the other, and three rooms.
    pub async fn begin(all: &Several) -> Self {
        let mut users = Vec::new();
        for (name, server) in [("alice", 0), ("bob", 0), ("carol", 1), ("dave", 1)] {
            users.push(all.server(server).register(name).await);
        }
        let rooms = vec![
            users[0].create_public().await,
            users[3].create_public().await,
            users[0]
                .create(json!({ "preset": "public_chat", "name": "Named" }))
                .await,
        ];
        // Whatever chance says, somebody is invited to the other server.
        users[0].invite(&rooms[2], &users[2]).await;
        Self {
            users,
            said: vec![None; rooms.len()],
            rooms,
            mail: vec![0; 4],
            told: Vec::new(),
        }
    }

    pub fn user(&self, number: usize) -> &User {
        &self.users[number]
    }

    /// Servers are others by now.
    pub fn again(&mut self, all: &Several) {
        self.told.push("a server restarts".to_owned());
        for user in &mut self.users {
            *user = all.again(user);
        }
    }

    /// Tries to do something; it may be refused.
    async fn tries(
        &mut self,
        who: usize,
        method: Method,
        path: &str,
        body: Value,
    ) -> Option<Value> {
        let user = &self.users[who];
        let (status, answer) = user.call(method.clone(), path, Some(body.clone())).await;
        let id = &user.id;
        self.told
            .push(format!("{id}: {method} {path} {body} → {status} {answer}"));
        (status == StatusCode::OK).then_some(answer)
    }

    /// Somebody does something.
    pub async fn go_on(&mut self, all: &Several, step: usize, random: &mut Random) {
        let (who, other) = (random.below(4), random.below(4));
        let at = random.below(self.rooms.len());
        let room = esc(&self.rooms[at]);
        let post = |what: &str| format!("/rooms/{room}/{what}");
        let whom = json!({ "user_id": self.users[other].id });
        match random.below(20) {
            0..=3 => {
                let joined = all.join(&self.users[who], &self.rooms[at]).await;
                let id = &self.users[who].id;
                self.told
                    .push(format!("{id} joins {}: {joined}", self.rooms[at]));
            }
            4 => drop(
                self.tries(who, Method::POST, &post("leave"), json!({}))
                    .await,
            ),
            5 => drop(self.tries(who, Method::POST, &post("invite"), whom).await),
            6 => {
                let what = ["kick", "ban", "unban"][random.below(3)];
                self.tries(who, Method::POST, &post(what), whom).await;
            }
            7 => drop(
                self.tries(who, Method::POST, &post("forget"), json!({}))
                    .await,
            ),
            8 | 9 => {
                let (kind, content) = [
                    ("m.room.topic", json!({ "topic": format!("Topic {step}") })),
                    ("m.room.name", json!({ "name": format!("Name {step}") })),
                    ("org.test.state", json!({ "step": step })),
                ][random.below(3)]
                .clone();
                let path = format!("/rooms/{room}/state/{kind}");
                self.tries(who, Method::PUT, &path, content).await;
            }
            10 => self.redacts(who, at, step).await,
            11 => self.receipts(who, at).await,
            12 => {
                let tags = format!(
                    "/user/{}/rooms/{room}/account_data/m.tag",
                    esc(&self.users[who].id)
                );
                let body = json!({ "tags": { format!("u.{step}"): {} } });
                self.tries(who, Method::PUT, &tags, body).await;
            }
            13 => {
                let path = format!("/user/{}/account_data/{COLOUR}", esc(&self.users[who].id));
                self.tries(who, Method::PUT, &path, json!({ "colour": step }))
                    .await;
            }
            14 => self.writes_to_devices(FOLLOWED[random.below(2)]).await,
            15 => {
                let path = format!("/profile/{}/displayname", esc(&self.users[who].id));
                self.tries(
                    who,
                    Method::PUT,
                    &path,
                    json!({ "displayname": format!("Name {step}") }),
                )
                .await;
            }
            16 => {
                let visibility = ["shared", "joined", "invited", "world_readable"][random.below(4)];
                let path = format!("/rooms/{room}/state/m.room.history_visibility");
                self.tries(
                    who,
                    Method::PUT,
                    &path,
                    json!({ "history_visibility": visibility }),
                )
                .await;
            }
            _ => self.says(who, at, step, other).await,
        }
    }

    async fn says(&mut self, who: usize, at: usize, step: usize, to: usize) {
        let path = format!(
            "/rooms/{}/send/m.room.message/step{step}",
            esc(&self.rooms[at])
        );
        let mentions = json!({ "user_ids": [self.users[to].id] });
        let body = json!({ "msgtype": "m.text", "body": step.to_string(), "m.mentions": mentions });
        let sent = self.tries(who, Method::PUT, &path, body).await;
        let id = sent.and_then(|sent| sent["event_id"].as_str().map(ToOwned::to_owned));
        self.said[at] = id.or(self.said[at].take());
    }

    async fn redacts(&mut self, who: usize, at: usize, step: usize) {
        let Some(event) = self.said[at].clone() else {
            return;
        };
        let path = format!(
            "/rooms/{}/redact/{}/step{step}",
            esc(&self.rooms[at]),
            esc(&event)
        );
        self.tries(who, Method::PUT, &path, json!({})).await;
    }

    async fn receipts(&mut self, who: usize, at: usize) {
        let Some(event) = self.said[at].clone() else {
            return;
        };
        let path = format!(
            "/rooms/{}/receipt/m.read/{}",
            esc(&self.rooms[at]),
            esc(&event)
        );
        self.tries(who, Method::POST, &path, json!({})).await;
    }

    /// All devices of somebody get the same number. It is always Alice who writes: the order between two senders would
    /// be anybody's guess.
    async fn writes_to_devices(&mut self, whom: usize) {
        self.mail[whom] += 1;
        let number = self.mail[whom];
        let path = format!("/sendToDevice/org.test/mail{whom}x{number}");
        let content = json!({ "number": number });
        let body = json!({ "messages": { &self.users[whom].id: { "*": content } } });
        let sent = self.tries(0, Method::PUT, &path, body).await;
        assert!(sent.is_some(), "{:?}", self.told.last());
    }

    /// In the end somebody says something in each room, so that what was said apart comes together.
    pub async fn calm_down(&mut self) {
        for at in 0..self.rooms.len() {
            for who in 0..4 {
                self.says(who, at, 10_000 + who, 0).await;
            }
        }
    }
}
