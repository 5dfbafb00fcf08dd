//! A person's WebSocket stream.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::{Person, escape, text, timeline};

/// An open stream; knows the token up to which it has heard everything.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Updates that came while waiting for an acknowledgement.
    waiting: VecDeque<Value>,
    since: String,
}

impl Socket {
    /// Connects and goes on from `since`; empty: from an initial sync.
    pub async fn open(person: &Person, since: &str) -> anyhow::Result<Self> {
        let base = person.base().replacen("http", "ws", 1);
        let query = if since.is_empty() {
            String::new()
        } else {
            format!("?since={}", escape(since))
        };
        let url = format!("{base}{PATH}{query}");
        let mut request = url.into_client_request()?;
        let bearer = format!("Bearer {}", person.token());
        request
            .headers_mut()
            .insert("authorization", bearer.parse()?);
        let (stream, _) = tokio_tungstenite::connect_async(request)
            .await
            .context("opening the WebSocket")?;
        Ok(Self {
            stream,
            waiting: VecDeque::new(),
            since: since.to_owned(),
        })
    }

    /// The token after the last update that was taken.
    pub fn since(&self) -> &str {
        &self.since
    }

    /// The next update, in the shape of a `/sync` answer.
    pub async fn next(&mut self, limit: Duration) -> anyhow::Result<Value> {
        let update = match self.waiting.pop_front() {
            Some(update) => update,
            None => loop {
                let frame = self.frame(limit).await?;
                if frame["type"] == "sync" {
                    break frame;
                }
            },
        };
        self.since = text(&update, "next_batch")?;
        Ok(update)
    }

    /// Takes updates until the timeline of `room` has shown all of `events`.
    pub async fn see(
        &mut self,
        room: &str,
        events: &[String],
        limit: Duration,
    ) -> anyhow::Result<()> {
        let mut missing: Vec<&String> = events.iter().collect();
        let deadline = tokio::time::Instant::now() + limit;
        while !missing.is_empty() {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let update = self
                .next(left)
                .await
                .with_context(|| format!("waiting for {missing:?}"))?;
            for event in timeline(&update, room) {
                missing.retain(|id| event["event_id"] != id.as_str());
            }
        }
        Ok(())
    }

    /// Sends a text message and waits for the acknowledgement on this socket; the event's id.
    pub async fn say(&mut self, room: &str, id: &str, body: &str) -> anyhow::Result<String> {
        let frame = json!({
            "type": "send",
            "txn_id": id,
            "room_id": room,
            "event_type": "m.room.message",
            "content": { "msgtype": "m.text", "body": body },
        });
        self.stream.send(Message::text(frame.to_string())).await?;
        loop {
            let frame = self.frame(Duration::from_secs(10)).await?;
            match frame["type"].as_str() {
                Some("ack") if frame["txn_id"] == id => return text(&frame, "event_id"),
                Some("error") => bail!("the WebSocket refused the message: {frame}"),
                Some("sync") => self.waiting.push_back(frame),
                _ => {}
            }
        }
    }

    /// The next frame that holds JSON.
    async fn frame(&mut self, limit: Duration) -> anyhow::Result<Value> {
        let next = async {
            loop {
                match self.stream.next().await {
                    None => bail!("the WebSocket ended"),
                    Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text)?),
                    Some(Ok(Message::Close(frame))) => bail!("the WebSocket was closed: {frame:?}"),
                    // Pings are answered by the library.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error.into()),
                }
            }
        };
        tokio::time::timeout(limit, next)
            .await
            .context("nothing came on the WebSocket")?
    }

    /// Reads until the server ends the stream: what a stop does at once.
    pub async fn ended(mut self, limit: Duration) -> anyhow::Result<()> {
        let drained = async {
            while let Some(Ok(message)) = self.stream.next().await {
                if message.is_close() {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, drained)
            .await
            .context("the WebSocket was not closed")
    }
}

/// Where the stream is served.
const PATH: &str = "/_matrix/client/unstable/org.rhizome.stream";
