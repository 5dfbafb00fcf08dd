//! WebSocket streams that only listen.

use std::cell::Cell;

use futures_util::StreamExt as _;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Message, client::IntoClientRequest as _, protocol::WebSocketConfig},
};

use crate::{
    http::Failure,
    person::{Account, encode},
};

/// An open stream.
pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens one that goes on from `since`.
pub async fn open(account: &Account, since: &str) -> Result<Socket, Failure> {
    let url = format!(
        "ws://{}/_matrix/client/unstable/org.rhizome.stream?since={}",
        account.server.address,
        encode(since)
    );
    let mut request = url.into_client_request().map_err(Failure::of)?;
    let authorization = account.authorization().map_err(Failure::of)?;
    request.headers_mut().insert("authorization", authorization);
    // There are thousands in this process, too.
    let config = WebSocketConfig::default().read_buffer_size(512);
    let opened = connect_async_with_config(request, Some(config), true).await;
    Ok(opened.map_err(Failure::of)?.0)
}

/// Opens one and counts what comes, until it ends, which it shouldn't. Pings are answered.
pub async fn listen(account: &Account, since: &str, frames: &Cell<usize>) -> Result<(), Failure> {
    let mut socket = open(account, since).await?;
    while let Some(message) = socket.next().await {
        match message.map_err(Failure::of)? {
            Message::Text(_) => frames.set(frames.get() + 1),
            Message::Close(frame) => return Err(Failure::of(format_args!("closed: {frame:?}"))),
            _ => {}
        }
    }
    Err(Failure::of("the stream has ended"))
}
