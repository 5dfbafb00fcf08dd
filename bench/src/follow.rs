//! Following an account in each of the forms that there are.

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, Method, header::AUTHORIZATION};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::{
    http::Failure,
    person::{Account, Person, encode, next_batch},
};

/// How a client hears of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `/sync` that waits.
    Poll,
    /// Sliding sync that waits (MSC4186, on its unstable path).
    Sliding,
    /// Rhizome's WebSocket.
    Socket,
}

impl Form {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Poll => "long poll",
            Self::Sliding => "sliding sync",
            Self::Socket => "WebSocket",
        }
    }
}

const SOCKET: &str = "/_matrix/client/unstable/org.rhizome.stream";
const SLIDING: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";

/// A connection that follows an account from now on.
pub struct Follower {
    person: Person,
    connection: usize,
    at: String,
    wait: Duration,
    state: State,
}

enum State {
    Poll,
    Sliding,
    Socket(Box<WebSocketStream<TcpStream>>),
}

impl Follower {
    /// Begins; what came before isn't told. Polls wait for `wait`.
    pub async fn begin(account: &Account, form: Form, wait: Duration) -> Result<Self, Failure> {
        Self::begin_as(account, form, wait, 0).await
    }

    /// The same as one of several that the account's device has.
    pub async fn begin_as(
        account: &Account,
        form: Form,
        wait: Duration,
        connection: usize,
    ) -> Result<Self, Failure> {
        let mut person = Person::new(account)?;
        let (at, state) = match form {
            Form::Poll => (person.now().await?, State::Poll),
            Form::Sliding => {
                let answer = slide(&mut person, connection, None, Duration::ZERO).await?;
                (position(&answer)?, State::Sliding)
            }
            Form::Socket => {
                let at = person.now().await?;
                let socket = Box::new(open(account, &at).await?);
                // It needs no second connection.
                person = Person::new(account)?;
                (at, State::Socket(socket))
            }
        };
        person.connection.wait_longer(wait);
        Ok(Self {
            person,
            connection,
            at,
            wait,
            state,
        })
    }

    /// The next answer or frame, with something in it or not.
    pub async fn next(&mut self) -> Result<Bytes, Failure> {
        match &mut self.state {
            State::Poll => {
                let wait = self.wait.as_millis();
                let query = format!("timeout={wait}&since={}", encode(&self.at));
                let answer = self.person.sync(&query).await?;
                self.at = next_batch(&answer)?;
                Ok(answer)
            }
            State::Sliding => {
                let answer =
                    slide(&mut self.person, self.connection, Some(&self.at), self.wait).await?;
                self.at = position(&answer)?;
                Ok(answer)
            }
            State::Socket(socket) => loop {
                match socket.next().await {
                    Some(Ok(Message::Text(text))) => break Ok(text.into()),
                    Some(Ok(Message::Ping(_))) => {
                        // The answer is queued; this writes it.
                        futures_util::SinkExt::flush(socket.as_mut())
                            .await
                            .map_err(Failure::of)?;
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break Err(Failure::of(error)),
                    None => break Err(Failure::of("the socket was closed")),
                }
            },
        }
    }
}

/// One request of sliding sync, for the newest twenty rooms.
pub async fn slide(
    person: &mut Person,
    connection: usize,
    pos: Option<&str>,
    wait: Duration,
) -> Result<Bytes, Failure> {
    let wait = wait.as_millis();
    let path = match pos {
        Some(pos) => format!("{SLIDING}?timeout={wait}&pos={}", encode(pos)),
        None => format!("{SLIDING}?timeout={wait}"),
    };
    // As matrix-sdk's list of rooms asks.
    let state = [
        ["m.room.name", ""],
        ["m.room.encryption", ""],
        ["m.room.member", "$LAZY"],
        ["m.room.member", "$ME"],
        ["m.room.create", ""],
        ["m.room.power_levels", ""],
    ];
    let list = json!({ "ranges": [[0, 19]], "timeline_limit": 20, "required_state": state });
    let body = json!({ "conn_id": connection.to_string(), "lists": { "all": list } });
    person
        .connection
        .call(Method::POST, &path, Some(body.to_string()))
        .await
}

/// The `pos` of an answer of sliding sync.
pub fn position(answer: &[u8]) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        pos: String,
    }
    let answer: Answer = serde_json::from_slice(answer).map_err(Failure::of)?;
    Ok(answer.pos)
}

async fn open(account: &Account, since: &str) -> Result<WebSocketStream<TcpStream>, Failure> {
    let address = account.server.address;
    let uri = format!("ws://{address}{SOCKET}?since={}", encode(since));
    let mut request = uri.into_client_request().map_err(Failure::of)?;
    let token = HeaderValue::from_str(&account.bearer()).map_err(Failure::of)?;
    request.headers_mut().insert(AUTHORIZATION, token);
    let stream = TcpStream::connect(address).await.map_err(Failure::of)?;
    stream.set_nodelay(true).map_err(Failure::of)?;
    let (socket, _) = client_async(request, stream).await.map_err(Failure::of)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_is_the_outermost() {
        assert_eq!(
            position(br#"{"rooms":{"pos":"no"},"pos":"1"}"#).unwrap(),
            "1"
        );
        assert!(position(b"{}").is_err());
    }
}
