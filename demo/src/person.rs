//! A person with a client: only public HTTP and WebSocket APIs, as any client would use them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::http::{Refused, answer, bytes, call, escape, text};

/// A logged-in user's session.
#[derive(Clone, Debug)]
pub struct Person {
    http: reqwest::Client,
    base: String,
    /// `@name:server`.
    pub user_id: String,
    /// The device of this session.
    pub device_id: String,
    token: String,
    transactions: Arc<AtomicU64>,
}

impl Person {
    /// Makes an account on the server whose client API is at `base` (open registration).
    pub async fn register(
        http: &reqwest::Client,
        base: &str,
        name: &str,
        password: &str,
    ) -> anyhow::Result<Self> {
        let url = format!("{base}/_matrix/client/v3/register");
        let mut body = json!({ "username": name, "password": password });
        // First without: the answer names a session, then the dummy stage completes it.
        let first = call(http, Method::POST, &url, None, Some(&body)).await;
        let answer = match first {
            Ok(answer) => answer,
            Err(error) => {
                let Some(refused) = error.downcast_ref::<Refused>() else {
                    return Err(error);
                };
                if refused.status != StatusCode::UNAUTHORIZED {
                    return Err(error);
                }
                body["auth"] =
                    json!({ "type": "m.login.dummy", "session": refused.body["session"] });
                call(http, Method::POST, &url, None, Some(&body)).await?
            }
        };
        Self::from_answer(http, base, &answer)
    }

    /// Logs in with a password, as a new device.
    pub async fn login(
        http: &reqwest::Client,
        base: &str,
        name: &str,
        password: &str,
    ) -> anyhow::Result<Self> {
        let url = format!("{base}/_matrix/client/v3/login");
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": name },
            "password": password,
        });
        let answer = call(http, Method::POST, &url, None, Some(&body)).await?;
        Self::from_answer(http, base, &answer)
    }

    fn from_answer(http: &reqwest::Client, base: &str, answer: &Value) -> anyhow::Result<Self> {
        Ok(Self {
            http: http.clone(),
            base: base.to_owned(),
            user_id: text(answer, "user_id")?,
            device_id: text(answer, "device_id")?,
            token: text(answer, "access_token")?,
            transactions: Arc::default(),
        })
    }

    /// The same session at another address: after its server was started again.
    #[must_use]
    pub fn at(&self, base: &str) -> Self {
        Self {
            base: base.to_owned(),
            ..self.clone()
        }
    }

    /// The base URL of the server's client API.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The access token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A request with this person's token; `path` begins with `/`.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.base);
        call(&self.http, method, &url, Some(&self.token), body.as_ref()).await
    }

    /// POSTs a file; `path` begins with `/`.
    pub async fn put_bytes(&self, path: &str, kind: &str, bytes: Vec<u8>) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.base);
        let request = self.http.post(&url).header("content-type", kind);
        let request = request.bearer_auth(&self.token).body(bytes);
        answer(Method::POST, &url, request).await
    }

    /// The bytes of what is at `path`, which begins with `/`.
    pub async fn get_bytes(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let url = format!("{}{path}", self.base);
        let request = self.http.get(&url).bearer_auth(&self.token);
        Ok(bytes(Method::GET, &url, request).await?.1)
    }

    /// GET below `/_matrix/client/v3`.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, &format!("/_matrix/client/v3{path}"), None)
            .await
    }

    /// POST below `/_matrix/client/v3`.
    pub async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.call(
            Method::POST,
            &format!("/_matrix/client/v3{path}"),
            Some(body),
        )
        .await
    }

    /// PUT below `/_matrix/client/v3`.
    pub async fn put(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.call(
            Method::PUT,
            &format!("/_matrix/client/v3{path}"),
            Some(body),
        )
        .await
    }

    /// Creates a room; its id.
    pub async fn create_room(&self, options: Value) -> anyhow::Result<String> {
        text(&self.post("/createRoom", options).await?, "room_id")
    }

    /// Invites another user.
    pub async fn invite(&self, room: &str, user: &str) -> anyhow::Result<()> {
        self.post(
            &format!("/rooms/{}/invite", escape(room)),
            json!({ "user_id": user }),
        )
        .await?;
        Ok(())
    }

    /// Joins a room by id or alias, through `via` when this server isn't in it.
    pub async fn join(&self, room: &str, via: &[&str]) -> anyhow::Result<String> {
        let query: Vec<String> = via
            .iter()
            .map(|server| format!("via={}", escape(server)))
            .collect();
        let path = format!("/join/{}?{}", escape(room), query.join("&"));
        text(&self.post(&path, json!({})).await?, "room_id")
    }

    /// Leaves a room, or rejects an invite.
    pub async fn leave(&self, room: &str) -> anyhow::Result<()> {
        self.post(&format!("/rooms/{}/leave", escape(room)), json!({}))
            .await?;
        Ok(())
    }

    /// A transaction id that this session has not used.
    pub fn transaction(&self) -> String {
        format!("t{}", self.transactions.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends a text message; its event id.
    pub async fn say(&self, room: &str, body: &str) -> anyhow::Result<String> {
        self.send(
            room,
            "m.room.message",
            json!({ "msgtype": "m.text", "body": body }),
        )
        .await
    }

    /// Sends an event; its id.
    pub async fn send(&self, room: &str, kind: &str, content: Value) -> anyhow::Result<String> {
        let path = format!(
            "/rooms/{}/send/{}/{}",
            escape(room),
            escape(kind),
            self.transaction()
        );
        text(&self.put(&path, content).await?, "event_id")
    }

    /// Sets a piece of room state; its event id.
    pub async fn set_state(
        &self,
        room: &str,
        kind: &str,
        key: &str,
        content: Value,
    ) -> anyhow::Result<String> {
        let path = format!(
            "/rooms/{}/state/{}/{}",
            escape(room),
            escape(kind),
            escape(key)
        );
        text(&self.put(&path, content).await?, "event_id")
    }

    /// One `/sync`; `timeout` is how long it may wait for news.
    pub async fn sync(&self, since: Option<&str>, timeout: Duration) -> anyhow::Result<Value> {
        let since = since.map_or(String::new(), |since| format!("&since={}", escape(since)));
        self.get(&format!("/sync?timeout={}{since}", timeout.as_millis()))
            .await
    }

    /// Where `/sync` stands now.
    pub async fn now(&self) -> anyhow::Result<String> {
        text(&self.sync(None, Duration::ZERO).await?, "next_batch")
    }

    /// Syncs on from `since` until `found` finds something, at most `limit`.
    /// Returns it with the token after it.
    pub async fn sync_until<T>(
        &self,
        since: &str,
        limit: Duration,
        mut found: impl FnMut(&Value) -> Option<T>,
    ) -> anyhow::Result<(T, String)> {
        let mut since = since.to_owned();
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                bail!("{} saw nothing of the kind within {limit:?}", self.user_id);
            }
            let answer = self
                .sync(Some(&since), left.min(Duration::from_secs(10)))
                .await?;
            since = text(&answer, "next_batch")?;
            if let Some(it) = found(&answer) {
                return Ok((it, since));
            }
        }
    }

    /// Waits for an event to come down `/sync` in a joined room; the token after it.
    pub async fn see(
        &self,
        since: &str,
        room: &str,
        event_id: &str,
        limit: Duration,
    ) -> anyhow::Result<String> {
        let found = |answer: &Value| {
            timeline(answer, room)
                .any(|event| event["event_id"] == event_id)
                .then_some(())
        };
        let ((), since) = self
            .sync_until(since, limit, found)
            .await
            .with_context(|| format!("waiting for {event_id}"))?;
        Ok(since)
    }

    /// Waits for an invite to a room; the token after it.
    pub async fn see_invite(
        &self,
        since: &str,
        room: &str,
        limit: Duration,
    ) -> anyhow::Result<String> {
        let found = |answer: &Value| answer["rooms"]["invite"].get(room).map(|_| ());
        let ((), since) = self
            .sync_until(since, limit, found)
            .await
            .with_context(|| format!("waiting for the invite to {room}"))?;
        Ok(since)
    }

    /// The whole history that this person can see, newest first, by paging back.
    /// `pages` counts the requests.
    pub async fn history(
        &self,
        room: &str,
        page: u32,
        pages: &mut u32,
    ) -> anyhow::Result<Vec<Value>> {
        let mut events: Vec<Value> = Vec::new();
        let mut from = String::new();
        loop {
            let path = format!("/rooms/{}/messages?dir=b&limit={page}{from}", escape(room));
            let mut answer = self.get(&path).await?;
            *pages += 1;
            if let Value::Array(chunk) = answer["chunk"].take() {
                events.extend(chunk);
            }
            let Some(end) = answer["end"].as_str() else {
                return Ok(events);
            };
            let next = format!("&from={}", escape(end));
            if next == from || *pages > 1_000 {
                bail!("paging through {room} doesn't get on");
            }
            from = next;
        }
    }

    /// The room's current state: (type, state key) → event id.
    pub async fn state(&self, room: &str) -> anyhow::Result<BTreeMap<(String, String), String>> {
        let answer = self.get(&format!("/rooms/{}/state", escape(room))).await?;
        let events = answer.as_array().context("/state is no list")?;
        events
            .iter()
            .map(|event| {
                Ok((
                    (text(event, "type")?, text(event, "state_key")?),
                    text(event, "event_id")?,
                ))
            })
            .collect()
    }
}

/// The timeline of a joined room in a `/sync` answer.
pub fn timeline<'a>(answer: &'a Value, room: &str) -> impl Iterator<Item = &'a Value> {
    answer["rooms"]["join"][room]["timeline"]["events"]
        .as_array()
        .into_iter()
        .flatten()
}
