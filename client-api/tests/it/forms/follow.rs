//! A client that follows its account in one of the forms.

use futures_util::{SinkExt as _, StreamExt as _};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::belief::{self, Belief};
use crate::{
    harness::{User, esc, filter, next},
    random::Random,
    stream::{Socket, connect, listen},
};

/// How a client hears of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Poll,
    Sliding,
    Socket,
}

/// A client: a device of its own.
pub struct Follower {
    pub form: Form,
    pub user: User,
    /// The number of the user in the story.
    pub whom: usize,
    belief: Belief,
    /// How far it has got.
    at: Option<String>,
    /// How far with messages to its device, which sliding sync counts apart.
    mail: Option<String>,
    socket: Option<Socket>,
    /// What sliding sync was asked for last.
    asked: Value,
    /// New connections of sliding sync that the server may ask for.
    may_begin_anew: usize,
}

const SLIDING: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";

fn list(last: usize, limit: usize) -> Value {
    json!({ "ranges": [[0, last]], "timeline_limit": limit, "required_state": [["*", "*"]] })
}

fn lists(lists: &Value, subscriptions: &Value) -> Value {
    json!({ "conn_id": "main", "lists": lists, "room_subscriptions": subscriptions })
}

impl Follower {
    /// A new device, which has been told nothing.
    pub async fn begin(user: &User, whom: usize, form: Form) -> Self {
        Self {
            form,
            user: user.another_device().await,
            whom,
            belief: Belief::default(),
            at: None,
            mail: None,
            socket: None,
            asked: lists(&json!({ "all": list(99, 5) }), &json!({})),
            may_begin_anew: 0,
        }
    }

    /// Its server is another one by now.
    pub fn server_restarted(&mut self, user: &User) {
        self.user.server = user.server.clone();
        self.socket = None;
        self.may_begin_anew += 1;
    }

    /// Looks once: what it is told may get lost, it may ask for something else from now on, it may be cut.
    pub async fn look(&mut self, random: &mut Random) {
        let lost = random.below(4) == 0;
        match self.form {
            Form::Poll => {
                let limit = [1, 3, 20][random.below(3)];
                if lost {
                    self.poll(limit).await;
                }
                let told = self.poll(limit).await;
                self.at = Some(next(&told));
                self.belief.hear(&told);
            }
            Form::Sliding => {
                if random.below(2) == 0 {
                    self.asked = self.other_wishes(random);
                }
                if lost && self.slide().await.is_some() && random.below(2) == 0 {
                    self.asked = self.other_wishes(random);
                }
                if let Some(told) = self.slide().await {
                    self.accept(&told);
                }
            }
            Form::Socket => {
                if lost {
                    self.socket = None;
                }
                for _ in 0..random.below(3) {
                    self.frame().await;
                }
            }
        }
    }

    /// Looks, wanting everything, until there is nothing more.
    pub async fn catch_up(&mut self) {
        match self.form {
            Form::Poll => {
                let told = self.poll(20).await;
                self.at = Some(next(&told));
                self.belief.hear(&told);
            }
            Form::Sliding => {
                self.asked = lists(&json!({ "all": list(99, 20) }), &json!({}));
                if let Some(told) = self.slide().await {
                    self.accept(&told);
                }
            }
            Form::Socket => self.frame().await,
        }
    }

    /// What it believes that isn't so, if so many messages were sent to its device.
    pub async fn mistake(&self, mail: u64) -> Option<String> {
        if !self.belief.mail.iter().copied().eq(1..=mail) {
            return Some(format!("of {mail} messages it has {:?}", self.belief.mail));
        }
        belief::mistake(&self.belief, &self.user).await
    }

    async fn poll(&self, limit: usize) -> Value {
        let narrow = filter(&json!({ "room": { "timeline": { "limit": limit } } }));
        self.user.sync(self.at.as_deref(), &narrow).await
    }

    fn other_wishes(&self, random: &mut Random) -> Value {
        let last = [0, 1, 99][random.below(3)];
        let limit = [1, 4, 20][random.below(3)];
        let mut wanted = json!({ "all": list(last, limit) });
        if random.below(3) == 0 {
            wanted["others"] = list(0, 3);
            wanted["others"]["filters"] = json!({ "is_invite": true });
        }
        let mut rooms = self.belief.rooms.keys();
        let room = rooms.nth(random.below(4));
        let subscription = json!({ "timeline_limit": limit, "required_state": [["*", "*"]] });
        let subscriptions = room.map_or(json!({}), |room| json!({ room: subscription }));
        lists(&wanted, &subscriptions)
    }

    /// One request of sliding sync; `None` if the connection has to begin anew.
    async fn slide(&mut self) -> Option<Value> {
        let mut body = self.asked.clone();
        let since = self.mail.clone();
        body["extensions"] = json!({
            "to_device": { "enabled": true, "since": since },
            "account_data": { "enabled": true },
            "receipts": { "enabled": true },
            "typing": { "enabled": true },
            "e2ee": { "enabled": true },
        });
        let pos = self.at.as_deref();
        let pos = pos.map_or(String::new(), |pos| format!("&pos={}", esc(pos)));
        let path = format!("{SLIDING}?timeout=0{pos}");
        let token = Some(self.user.token.as_str());
        let server = &self.user.server;
        let (status, told) = server.request(Method::POST, &path, token, Some(body)).await;
        if status == StatusCode::BAD_REQUEST && told["errcode"] == "M_UNKNOWN_POS" {
            assert!(self.may_begin_anew > 0, "{told}");
            self.may_begin_anew -= 1;
            self.at = None;
            self.belief.rooms.clear();
            return None;
        }
        assert_eq!(status, StatusCode::OK, "{told}");
        Some(told)
    }

    fn accept(&mut self, told: &Value) {
        self.at = told["pos"].as_str().map(ToOwned::to_owned);
        let mail = told["extensions"]["to_device"]["next_batch"].as_str();
        self.mail = mail.map(ToOwned::to_owned).or(self.mail.take());
        self.belief.hear_sliding(told, &self.user.id);
    }

    /// The next frame over the socket, if there is anything new.
    async fn frame(&mut self) {
        if self.socket.is_none() {
            let address = listen(&self.user.server).await;
            self.socket = Some(connect(address, &self.user, self.at.as_deref()).await);
        }
        let Some(socket) = &mut self.socket else {
            return;
        };
        // Whatever was there before the answer to this has been told by then.
        let ping = Message::text(json!({ "type": "ping" }).to_string());
        socket.send(ping).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            let Message::Text(text) = message else {
                continue;
            };
            let told: Value = serde_json::from_str(&text).unwrap();
            if told["type"] == "pong" {
                break;
            }
            if told["type"] == "sync" {
                self.at = Some(next(&told));
                self.belief.hear(&told);
            }
        }
    }
}
