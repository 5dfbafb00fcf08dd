//! Accounts, and people who use them over a connection of their own.

use std::fmt::Write as _;

use bytes::Bytes;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ring::hmac;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    http::{Connection, Failure},
    jwt,
    server::Server,
};

const PASSWORD: &str = "correct horse battery staple";

/// Somebody with an access token.
#[derive(Clone, Debug)]
pub struct Account {
    /// Where the account is.
    pub server: Server,
    /// The user id.
    pub id: String,
    token: String,
}

impl Account {
    /// Registers somebody new: by a token or the shared secret, if there is one.
    pub async fn register(server: &Server) -> Result<Self, Failure> {
        let name = server.fresh("u");
        let mut connection = Connection::new(server.address, None)?;
        let secrets = (server.jwt_secret.as_deref(), server.secret.as_deref());
        let (path, body) = match secrets {
            (Some(secret), _) => ("/_matrix/client/v3/login", jwt::login(secret, &name)),
            (None, Some(secret)) => {
                let path = "/_synapse/admin/v1/register";
                let answer = connection.call(Method::GET, path, None).await?;
                let nonce = text(&answer, "nonce")?;
                (path, admin_registration(secret, &nonce, &name))
            }
            (None, None) => (
                "/_matrix/client/v3/register",
                json!({ "username": name, "password": PASSWORD, "auth": { "type": "m.login.dummy" } }),
            ),
        };
        let answer = connection
            .call(Method::POST, path, Some(body.to_string()))
            .await?;
        Ok(Self {
            server: server.clone(),
            id: text(&answer, "user_id")?,
            token: text(&answer, "access_token")?,
        })
    }

    /// The same user on a new device.
    pub async fn log_in(&self) -> Result<Self, Failure> {
        let mut connection = Connection::new(self.server.address, None)?;
        let user = json!({ "type": "m.id.user", "user": self.id });
        let body = match self.server.jwt_secret.as_deref() {
            Some(secret) => jwt::login(secret, self.localpart()),
            None => json!({ "type": "m.login.password", "identifier": user, "password": PASSWORD }),
        };
        let path = "/_matrix/client/v3/login";
        let answer = connection.call(Method::POST, path, Some(body.to_string()));
        Ok(Self {
            token: text(&answer.await?, "access_token")?,
            ..self.clone()
        })
    }

    /// As a line of a file of accounts.
    pub fn line(&self) -> String {
        format!("{} {}\n", self.id, self.token)
    }

    /// From such a line.
    pub fn of_line(server: &Server, line: &str) -> Option<Self> {
        let (id, token) = line.split_once(' ')?;
        Some(Self {
            server: server.clone(),
            id: id.to_owned(),
            token: token.to_owned(),
        })
    }

    /// What the `Authorization` header holds.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    fn localpart(&self) -> &str {
        let name = self.id.split_once(':').map_or("", |(name, _)| name);
        name.trim_start_matches('@')
    }

    /// The name of the account's server.
    pub fn server_name(&self) -> &str {
        self.id.split_once(':').map_or("", |(_, name)| name)
    }
}

fn admin_registration(secret: &str, nonce: &str, name: &str) -> Value {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let signed = [nonce, name, PASSWORD, "notadmin"].join("\0");
    let mut mac = String::new();
    for byte in hmac::sign(&key, signed.as_bytes()).as_ref() {
        let _ = write!(mac, "{byte:02x}");
    }
    json!({ "nonce": nonce, "username": name, "password": PASSWORD, "admin": false, "mac": mac })
}

/// A string at the top of a JSON object.
fn text(body: &[u8], key: &str) -> Result<String, Failure> {
    let value: Value = serde_json::from_slice(body).map_err(Failure::of)?;
    let text = value.get(key).and_then(Value::as_str);
    text.map(str::to_owned)
        .ok_or_else(|| Failure::of(format_args!("an answer without {key}")))
}

/// An account with a connection.
pub struct Person {
    /// Whose token is used.
    pub account: Account,
    /// The connection, opened when it is needed.
    pub connection: Connection,
}

impl Person {
    /// A new connection for `account`.
    pub fn new(account: &Account) -> Result<Self, Failure> {
        Ok(Self {
            connection: Connection::new(account.server.address, Some(&account.token))?,
            account: account.clone(),
        })
    }

    /// Sends a message; the answer is not looked into.
    pub async fn say(&mut self, room: &Room, text: &str) -> Result<(), Failure> {
        let path = format!(
            "/_matrix/client/v3/rooms/{}/send/m.room.message/{}",
            room.segment,
            self.account.server.fresh("t")
        );
        let body = format!(r#"{{"msgtype":"m.text","body":"{text}"}}"#);
        self.connection.call(Method::PUT, &path, Some(body)).await?;
        Ok(())
    }

    /// Sends a message, in the thread of a root if one is given; gives its id.
    pub async fn relate(
        &mut self,
        room: &Room,
        body: &str,
        root: Option<&String>,
    ) -> Result<String, Failure> {
        let txn = self.account.server.fresh("t");
        let path = room.path(&format!("send/m.room.message/{txn}"));
        let mut content = json!({ "msgtype": "m.text", "body": body });
        if let Some(root) = root {
            content["m.relates_to"] = json!({ "rel_type": "m.thread", "event_id": root });
        }
        let content = Some(content.to_string());
        let answer = self.connection.call(Method::PUT, &path, content).await?;
        text(&answer, "event_id")
    }

    /// Sends an event of a type that means nothing, with a text; the answer is not looked into.
    pub async fn note(&mut self, room: &Room, text: &str) -> Result<(), Failure> {
        let txn = self.account.server.fresh("t");
        let path = room.path(&format!("send/org.example.note/{txn}"));
        let body = json!({ "body": text }).to_string();
        self.connection.call(Method::PUT, &path, Some(body)).await?;
        Ok(())
    }

    /// Wants to be notified of a word.
    pub async fn add_keyword(&mut self, word: &str) -> Result<(), Failure> {
        let path = format!("/_matrix/client/v3/pushrules/global/content/{word}");
        let highlight = json!({ "set_tweak": "highlight" });
        let body = json!({ "pattern": word, "actions": ["notify", highlight] });
        let body = Some(body.to_string());
        self.connection.call(Method::PUT, &path, body).await?;
        Ok(())
    }

    /// Says what somebody is, on a connection that others use, too.
    pub async fn say_presence(&mut self, of: &Account, state: &str) -> Result<(), Failure> {
        self.connection.speak_for(&of.token)?;
        let user = encode(&of.id);
        let path = format!("/_matrix/client/v3/presence/{user}/status");
        let body = json!({ "presence": state }).to_string();
        self.connection.call(Method::PUT, &path, Some(body)).await?;
        Ok(())
    }

    /// The id of the device.
    pub async fn device(&mut self) -> Result<String, Failure> {
        let path = "/_matrix/client/v3/account/whoami";
        let answer = self.connection.call(Method::GET, path, None).await?;
        text(&answer, "device_id")
    }

    /// Sends a message to somebody's device; the answer is not looked into.
    pub async fn tell(&mut self, user: &str, device: &str, number: u64) -> Result<(), Failure> {
        let path = format!(
            "/_matrix/client/v3/sendToDevice/m.test/{}",
            self.account.server.fresh("t")
        );
        let content = json!({ "body": message(number) });
        let body = json!({ "messages": { user: { device: content } } });
        self.connection
            .call(Method::PUT, &path, Some(body.to_string()))
            .await?;
        Ok(())
    }

    /// Turns encryption on in a room.
    pub async fn encrypt(&mut self, room: &Room) -> Result<(), Failure> {
        let body = json!({ "algorithm": "m.megolm.v1.aes-sha2" }).to_string();
        let path = room.path("state/m.room.encryption/");
        self.connection.call(Method::PUT, &path, Some(body)).await?;
        Ok(())
    }

    /// Joins a room, if need be through the server `via`.
    pub async fn join(&mut self, room: &Room, via: Option<&str>) -> Result<(), Failure> {
        let via = via.map_or(String::new(), |name| {
            let name = encode(name);
            format!("?via={name}&server_name={name}")
        });
        let path = format!("/_matrix/client/v3/join/{}{via}", room.segment);
        self.connection
            .call(Method::POST, &path, Some("{}".to_owned()))
            .await?;
        Ok(())
    }

    /// Creates a room that anybody may join.
    pub async fn create_room(&mut self, name: &str) -> Result<Room, Failure> {
        let body = json!({ "preset": "public_chat", "name": name }).to_string();
        let answer = self
            .connection
            .call(Method::POST, "/_matrix/client/v3/createRoom", Some(body))
            .await?;
        text(&answer, "room_id").map(|id| Room::new(&id))
    }

    /// One `/sync`; `query` is what follows the question mark.
    pub async fn sync(&mut self, query: &str) -> Result<Bytes, Failure> {
        let path = format!("/_matrix/client/v3/sync?{query}");
        self.connection.call(Method::GET, &path, None).await
    }

    /// The sync token of now, got with as little work for the server as its API allows.
    pub async fn now(&mut self) -> Result<String, Failure> {
        let answer = self
            .sync(&format!("timeout=0&filter={}", encode(NOTHING)))
            .await?;
        next_batch(&answer)
    }
}

/// A filter that leaves out all rooms.
const NOTHING: &str = r#"{"room":{"rooms":[]}}"#;

/// A room's id as it stands in a path.
#[derive(Clone, Debug)]
pub struct Room {
    segment: String,
}

impl Room {
    fn new(id: &str) -> Self {
        Self {
            segment: encode(id),
        }
    }

    /// The path of one of the room's endpoints.
    pub fn path(&self, rest: &str) -> String {
        self.path_of("v3", rest)
    }

    /// The same of one that has another version.
    pub fn path_of(&self, version: &str, rest: &str) -> String {
        format!("/_matrix/client/{version}/rooms/{}/{rest}", self.segment)
    }
}

/// A text as a part of a path or query.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The token at which the next `/sync` goes on.
pub fn next_batch(answer: &[u8]) -> Result<String, Failure> {
    // The rest is passed over, not built.
    #[derive(Deserialize)]
    struct Sync {
        next_batch: String,
    }
    let sync: Sync = serde_json::from_slice(answer).map_err(Failure::of)?;
    Ok(sync.next_batch)
}

/// The text of message `number`, of an ordinary length.
pub fn message(number: u64) -> String {
    format!("<{number}> and some words that people might say to each other")
}

/// The numbers of the messages in an answer, without reading it as JSON.
pub fn messages_in(answer: &[u8]) -> impl Iterator<Item = u64> {
    // Some servers escape what might be markup.
    const STARTS: [&str; 2] = [r#""body":"<"#, r#""body":"\u003c"#];
    let text = std::str::from_utf8(answer).unwrap_or_default();
    text.match_indices(r#""body":"#).filter_map(|(at, _)| {
        let rest = &text[at..];
        let start = STARTS.iter().find(|start| rest.starts_with(**start))?;
        let rest = &rest[start.len()..];
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        rest[..digits].parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_in_an_answer() {
        let event = |number| json!({ "content": { "body": message(number) } });
        let answer = json!({ "events": [event(3), { "content": { "body": "<x> 5" } }, event(12)] });
        let found: Vec<_> = messages_in(answer.to_string().as_bytes()).collect();
        assert_eq!(found, [3, 12]);
        assert_eq!(messages_in(b"\xff").count(), 0);
        assert_eq!(messages_in(br#"{"body":"<"#).count(), 0);
        let escaped = br#"{"body":"\u003c7> and"}"#;
        assert_eq!(messages_in(escaped).collect::<Vec<_>>(), [7]);
    }

    #[test]
    fn the_next_batch_is_the_outermost() {
        let answer = br#"{"rooms":{"next_batch":"wrong"},"next_batch":"s1_2","more":[]}"#;
        assert_eq!(next_batch(answer).unwrap(), "s1_2");
        assert!(next_batch(b"{}").is_err());
        assert!(next_batch(b"").is_err());
    }

    #[test]
    fn accounts_stand_in_lines() {
        let server = Server::new("http://127.0.0.1:1", None, "x").unwrap();
        let account = Account::of_line(&server, "@a:here syt_x").unwrap();
        assert_eq!(account.line(), "@a:here syt_x\n");
        assert!(Account::of_line(&server, "@a:here").is_none());
    }

    #[test]
    fn the_registration_by_secret_is_signed() {
        let body = admin_registration("secret", "nonce", "name");
        assert_eq!(body["mac"], "2a5e5581feba406bba0038a7a645538ef1e42af7");
    }
}
