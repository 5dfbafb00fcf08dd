//! A small client of the client-server API, as a stranger would write one.

use std::{collections::HashMap, time::Duration};

use serde_json::{Value, json};

/// Why a request got no usable answer. (What is inside is read when a test fails.)
#[allow(dead_code)]
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection failed or was cut: whether the request took effect is unknown.
    Cut(reqwest::Error),
    /// The server answered with an error.
    Refused { status: u16, body: Value },
}

/// One logged-in person. `base` moves when a server is started anew on another port.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    pub(crate) base: String,
    token: String,
    pub(crate) user_id: String,
}

impl Client {
    /// Registers `localpart` on the server at `base`, which must have open registration.
    pub(crate) async fn register(base: &str, localpart: &str) -> Self {
        let mut client = Self {
            http: http(),
            base: base.to_owned(),
            token: String::new(),
            user_id: String::new(),
        };
        let body = json!({
            "username": localpart, "password": "correct horse battery",
            "auth": { "type": "m.login.dummy" },
        });
        let answer = client
            .call("POST", "/register", Some(body))
            .await
            .expect("registers");
        answer["access_token"]
            .as_str()
            .unwrap()
            .clone_into(&mut client.token);
        answer["user_id"]
            .as_str()
            .unwrap()
            .clone_into(&mut client.user_id);
        client
    }

    /// Another device of the same person.
    pub(crate) async fn another_device(&self) -> Self {
        let body = json!({
            "type": "m.login.password", "password": "correct horse battery",
            "identifier": { "type": "m.id.user", "user": self.user_id },
        });
        let nobody = self.with_token("");
        let answer = nobody.call("POST", "/login", Some(body)).await;
        let answer = answer.expect("logs in");
        self.with_token(answer["access_token"].as_str().expect("a token"))
    }

    /// The same person, talking to the process at `base`.
    pub(crate) fn at(&self, base: &str) -> Self {
        Self {
            base: base.to_owned(),
            ..self.clone()
        }
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        let url = format!("{}/_matrix/client/v3{path}", self.base);
        let mut request = self.http.request(method.parse().unwrap(), url);
        if !self.token.is_empty() {
            request = request.bearer_auth(&self.token);
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let answer = request.send().await.map_err(Failure::Cut)?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.map_err(Failure::Cut)?;
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status == 200 {
            Ok(body)
        } else {
            Err(Failure::Refused { status, body })
        }
    }

    /// The same place, asked with another token; an empty one stands for none.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Stores a file; the answer is its address (`mxc://…`).
    pub(crate) async fn upload(&self, bytes: Vec<u8>) -> String {
        let url = format!("{}/_matrix/media/v3/upload", self.base);
        let request = self.http.post(url).bearer_auth(&self.token).body(bytes);
        let request = request.header("content-type", "application/octet-stream");
        let answer = request.send().await.expect("an answer");
        let answer = answer.bytes().await.expect("a whole answer");
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        answer["content_uri"]
            .as_str()
            .expect("is stored")
            .to_owned()
    }

    /// The bytes of the file at this address, if it can be had.
    pub(crate) async fn download(&self, address: &str) -> Option<Vec<u8>> {
        let file = address.strip_prefix("mxc://").expect("a file's address");
        let url = format!("{}/_matrix/client/v1/media/download/{file}", self.base);
        let request = self.http.get(url).bearer_auth(&self.token);
        let answer = request.send().await.ok()?;
        if answer.status().as_u16() != 200 {
            return None;
        }
        Some(answer.bytes().await.ok()?.to_vec())
    }

    /// Status and answer of a request whose body is whatever it is.
    pub(crate) async fn raw(&self, method: &str, path: &str, body: Vec<u8>) -> (u16, Value) {
        let url = format!("{}/_matrix/client/v3{path}", self.base);
        let mut request = self.http.request(method.parse().unwrap(), url).body(body);
        if !self.token.is_empty() {
            request = request.header(
                "authorization",
                format!("Bearer {}", self.token).into_bytes(),
            );
        }
        let answer = request
            .send()
            .await
            .expect("an answer, not a cut connection");
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.expect("a whole answer");
        (
            status,
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        )
    }

    pub(crate) async fn create_room(&self) -> String {
        let body = json!({ "preset": "public_chat" });
        let answer = self
            .call("POST", "/createRoom", Some(body))
            .await
            .expect("creates a room");
        answer["room_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn join(&self, room: &str) {
        self.call("POST", &format!("/join/{}", path(room)), Some(json!({})))
            .await
            .expect("joins");
    }

    /// Sends `text` under the transaction id `txn`; the answer is the event id.
    pub(crate) async fn say(&self, room: &str, txn: &str, text: &str) -> Result<String, Failure> {
        let path = format!("/rooms/{}/send/m.room.message/{txn}", path(room));
        let body = json!({ "msgtype": "m.text", "body": text });
        let answer = self.call("PUT", &path, Some(body)).await?;
        Ok(answer["event_id"].as_str().expect("an event id").to_owned())
    }

    /// Sets the state event (`org.example.state`, `key`); the answer is the event id.
    pub(crate) async fn set(&self, room: &str, key: &str, text: &str) -> Result<String, Failure> {
        let path = format!("/rooms/{}/state/org.example.state/{key}", path(room));
        let answer = self
            .call("PUT", &path, Some(json!({ "body": text })))
            .await?;
        Ok(answer["event_id"].as_str().expect("an event id").to_owned())
    }

    pub(crate) async fn state(&self, room: &str) -> HashMap<(String, String), String> {
        let answer = self
            .call("GET", &format!("/rooms/{}/state", path(room)), None)
            .await
            .unwrap();
        let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
        answer
            .as_array()
            .unwrap()
            .iter()
            .map(|e| ((text(e, "type"), text(e, "state_key")), text(e, "event_id")))
            .collect()
    }

    /// The whole history of `room` that this person may see, oldest first.
    pub(crate) async fn history(&self, room: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut from = String::new();
        loop {
            let page = format!("/rooms/{}/messages?dir=b&limit=100{from}", path(room));
            let answer = self.call("GET", &page, None).await.expect("pages back");
            events.extend(answer["chunk"].as_array().unwrap().iter().cloned());
            match answer["end"].as_str() {
                Some(end) => from = format!("&from={end}"),
                None => break,
            }
        }
        events.reverse();
        events
    }

    /// One `/sync`; `since` of `None` is an initial one.
    pub(crate) async fn sync(
        &self,
        since: Option<&str>,
        timeout: Duration,
    ) -> Result<Value, Failure> {
        let since = since
            .map(|token| format!("&since={token}"))
            .unwrap_or_default();
        let filter = r#"{"room":{"timeline":{"limit":1000}}}"#;
        let filter = path(filter);
        let target = format!(
            "/sync?timeout={}&filter={filter}{since}",
            timeout.as_millis()
        );
        self.call("GET", &target, None).await
    }
}

/// The timeline of `room` in a sync answer.
pub(crate) fn timeline(sync: &Value, room: &str) -> Vec<Value> {
    let events = &sync["rooms"]["join"][room]["timeline"]["events"];
    events.as_array().cloned().unwrap_or_default()
}

/// Percent-encodes one path segment.
pub(crate) fn path(segment: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    segment
        .bytes()
        .map(|b| {
            if plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

pub(crate) fn http() -> reqwest::Client {
    // The tests speak plain HTTP; reqwest still wants a provider to be there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(Duration::from_mins(1))
        .no_proxy()
        .build()
        .unwrap()
}
