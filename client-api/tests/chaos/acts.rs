//! What people do, and what befalls servers.

use std::{collections::BTreeSet, time::Duration};

use axum::body::Body;
use http::Method;
use serde_json::{Value, json};

use crate::{
    devices::Device,
    site::Answer,
    story::{Act, KINDS, Step},
    world::{File, Message, World, esc},
};

/// How much time goes by from one step to the next.
const BETWEEN: Duration = Duration::from_millis(500);
/// How many devices a person has besides the first.
const OTHERS: usize = 2;

/// What came of a request, in a few words.
fn told(answer: Option<&Answer>) -> String {
    answer.map_or_else(|| "no answer".to_owned(), Answer::told)
}

impl World {
    /// The step with this number. Gives what came of it, in a few words.
    pub async fn goes_on(&mut self, n: u64, step: Step) -> String {
        let came = match step {
            Step::Act { who, .. } if !self.sites[self.people[who].home].is_up() => {
                "their server is down".to_owned()
            }
            Step::Act { who, act } => {
                let answer = self.acts(n, who, act).await;
                told(answer.as_ref())
            }
            Step::Way { from, to, way } => {
                let (from, to) = (&self.sites[from].name, &self.sites[to].name);
                self.weather.set(from, to, way);
                String::new()
            }
            Step::Kill(server) => {
                let site = &mut self.sites[server];
                let ran = site.kill(&self.network, &self.weather).await;
                String::from(if ran { "" } else { "it is down already" })
            }
            Step::Restart => {
                self.restarts().await;
                String::new()
            }
            Step::Clock { server, seconds } => {
                self.sites[server]
                    .clock
                    .advance(Duration::from_secs(seconds));
                String::new()
            }
            Step::Pass(seconds) => {
                self.passes(Duration::from_secs(seconds));
                String::new()
            }
        };
        self.passes(BETWEEN);
        self.weather.goes_on();
        came
    }

    /// Who is down starts again.
    pub async fn restarts(&mut self) {
        for site in self.sites.iter_mut().filter(|site| !site.is_up()) {
            site.start(&self.network, &self.weather).await;
        }
    }

    async fn acts(&mut self, n: u64, who: usize, act: Act) -> Option<Answer> {
        match act {
            Act::Say(room) => {
                let answer = self.says(who, room, &format!("say{n}")).await;
                let sent = answer.as_ref().map(Answer::json).unwrap_or_default();
                let id = sent["event_id"].as_str().map(ToOwned::to_owned);
                self.rooms[room].said.extend(id);
                answer
            }
            Act::Set { room, kind, key } => self.sets(n, who, (room, kind, key)).await,
            Act::Join { room, via } => {
                let (room, via) = (esc(self.rooms[room].id.as_str()), &self.sites[via].name);
                let path = format!("/join/{room}?via={via}");
                self.call(who, Method::POST, &path, &json!({})).await
            }
            Act::Leave(room) => self.posts(who, room, "leave", json!({})).await,
            Act::Member { room, whom, verb } => {
                let body = json!({ "user_id": self.people[whom].id });
                self.posts(who, room, verb, body).await
            }
            Act::Redact { room, back } => {
                let said = &self.rooms[room].said;
                let event = said.iter().nth_back(back)?;
                let what = format!("redact/{}/redact{n}", esc(event));
                self.puts(who, room, &what, json!({})).await
            }
            Act::Power { room, whom, level } => self.gives_power(who, (room, whom, level)).await,
            Act::Upload => self.uploads(n, who).await,
            Act::Fetch(back) => {
                let file = self.files.iter().nth_back(back)?;
                let bytes = file.bytes.clone();
                let answer = self.fetches(who, &file.path).await?;
                assert!(!answer.is_ok() || *answer.bytes == *bytes, "another file");
                Some(answer)
            }
            Act::Device => self.logs_in_or_out(who).await,
            Act::Write(whom) => self.writes(n, who, whom).await,
            Act::Look => self.looks(who).await,
        }
    }

    async fn posts(&self, who: usize, room: usize, what: &str, body: Value) -> Option<Answer> {
        let path = format!("/rooms/{}/{what}", esc(self.rooms[room].id.as_str()));
        self.call(who, Method::POST, &path, &body).await
    }

    async fn puts(&self, who: usize, room: usize, what: &str, body: Value) -> Option<Answer> {
        let path = format!("/rooms/{}/{what}", esc(self.rooms[room].id.as_str()));
        self.call(who, Method::PUT, &path, &body).await
    }

    /// Says something in a room, once.
    pub async fn says(&self, who: usize, room: usize, once: &str) -> Option<Answer> {
        let body = json!({ "msgtype": "m.text", "body": format!("the words of {once}") });
        let what = format!("send/m.room.message/{once}");
        self.puts(who, room, &what, body).await
    }

    async fn sets(
        &self,
        n: u64,
        who: usize,
        (room, kind, key): (usize, usize, usize),
    ) -> Option<Answer> {
        let (kind, value) = (KINDS[kind], format!("as of {n}"));
        let (key, body) = match kind {
            "m.room.topic" => (String::new(), json!({ "topic": value })),
            "m.room.name" => (String::new(), json!({ "name": value })),
            _ => (format!("key{key}"), json!({ "value": value })),
        };
        self.puts(who, room, &format!("state/{kind}/{key}"), body)
            .await
    }

    async fn gives_power(
        &self,
        who: usize,
        (room, whom, level): (usize, usize, i64),
    ) -> Option<Answer> {
        let what = "state/m.room.power_levels/";
        let path = format!("/rooms/{}/{what}", esc(self.rooms[room].id.as_str()));
        let answer = self.call(who, Method::GET, &path, &Value::Null).await?;
        if !answer.is_ok() {
            return Some(answer);
        }
        let mut levels = answer.json();
        levels["users"][&self.people[whom].id] = level.into();
        self.puts(who, room, what, levels).await
    }

    async fn uploads(&mut self, n: u64, who: usize) -> Option<Answer> {
        let bytes = format!("the bytes of file {n}").into_bytes();
        let (home, token) = (self.people[who].home, &self.people[who].device.token);
        let path = format!("/_matrix/media/v3/upload?filename=file{n}");
        let body = Body::from(bytes.clone());
        let asked = (Method::POST, path.as_str());
        let answer = self.send(home, asked, Some(token), body).await?;
        if let Some(uri) = answer.json()["content_uri"].as_str() {
            self.files.push(File {
                path: uri.trim_start_matches("mxc://").to_owned(),
                bytes,
                got: BTreeSet::new(),
            });
        }
        Some(answer)
    }

    /// Gets a file by a person's server.
    pub async fn fetches(&self, who: usize, path: &str) -> Option<Answer> {
        let (home, token) = (self.people[who].home, &self.people[who].device.token);
        let path = format!("/_matrix/client/v1/media/download/{path}");
        let asked = (Method::GET, path.as_str());
        self.send(home, asked, Some(token), Body::empty()).await
    }

    async fn logs_in_or_out(&mut self, who: usize) -> Option<Answer> {
        let home = self.people[who].home;
        if self.people[who].others.len() >= OTHERS {
            let device = self.people[who].others.remove(0);
            let asked = (Method::POST, "/_matrix/client/v3/logout");
            return self.ask(home, asked, Some(&device.token), &json!({})).await;
        }
        let body = json!({
            "type": "m.login.password",
            "password": "a good password",
            "identifier": { "type": "m.id.user", "user": self.people[who].id },
        });
        let asked = (Method::POST, "/_matrix/client/v3/login");
        let answer = self.ask(home, asked, None, &body).await?;
        if !answer.is_ok() {
            return Some(answer);
        }
        let device = Device::of(&answer.json());
        let answer = self.shows_keys(who, &device).await;
        self.people[who].others.push(device);
        answer
    }

    async fn writes(&mut self, n: u64, who: usize, whom: usize) -> Option<Answer> {
        let to = &self.people[whom];
        let messages = json!({ &to.id: { &to.device.id: { "n": n } } });
        let body = json!({ "messages": messages });
        let path = format!("/sendToDevice/org.example.note/note{n}");
        let answer = self.call(who, Method::PUT, &path, &body).await;
        let is_refused = answer.as_ref().is_some_and(|answer| !answer.is_ok());
        if !is_refused {
            self.messages.push(Message {
                from: who,
                to: whom,
                n,
                is_sure: answer.is_some(),
            });
        }
        answer
    }
}
