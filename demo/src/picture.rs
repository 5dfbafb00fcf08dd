//! Files of people: uploaded, named in messages, and got from whichever server.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::http::{escape, text};
use crate::{Person, timeline};

/// A picture that somebody takes: its sides, and the bytes of its PNG.
pub struct Picture {
    /// Width and height.
    pub side: u32,
    /// The file.
    pub png: Vec<u8>,
}

impl Picture {
    /// A square with shades from one corner to the other.
    pub fn take(side: u32) -> anyhow::Result<Self> {
        let shades = (0..side).flat_map(|y| (0..side).map(move |x| (x, y)));
        let shade = |part: u32| u8::try_from(part * 255 / side.max(1)).unwrap_or(u8::MAX);
        let pixels: Vec<u8> = shades
            .flat_map(|(x, y)| [shade(x), shade(y), 120])
            .collect();
        let mut png = Vec::new();
        let mut encoder = png::Encoder::new(&mut png, side, side);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header()?.write_image_data(&pixels)?;
        Ok(Self { side, png })
    }
}

impl Person {
    /// Uploads a file; its `mxc:` address.
    pub async fn upload(&self, name: &str, kind: &str, bytes: Vec<u8>) -> anyhow::Result<String> {
        let path = format!("/_matrix/media/v3/upload?filename={}", escape(name));
        text(&self.put_bytes(&path, kind, bytes).await?, "content_uri")
    }

    /// Sends an uploaded picture; the event's id.
    pub async fn show(&self, room: &str, uri: &str, picture: &Picture) -> anyhow::Result<String> {
        let info = json!({
            "mimetype": "image/png", "w": picture.side, "h": picture.side, "size": picture.png.len(),
        });
        let content = json!({ "msgtype": "m.image", "body": "view.png", "url": uri, "info": info });
        self.send(room, "m.room.message", content).await
    }

    /// The bytes of a file, from wherever it is.
    pub async fn download(&self, uri: &str) -> anyhow::Result<Vec<u8>> {
        self.file(uri, "download", "").await
    }

    /// A small picture of a picture.
    pub async fn thumbnail(&self, uri: &str, side: u32) -> anyhow::Result<Vec<u8>> {
        let query = format!("?width={side}&height={side}&method=crop");
        self.file(uri, "thumbnail", &query).await
    }

    async fn file(&self, uri: &str, what: &str, query: &str) -> anyhow::Result<Vec<u8>> {
        let file = uri.strip_prefix("mxc://").context("no mxc address")?;
        let (server, id) = file.split_once('/').context("no mxc address")?;
        let path = format!(
            "/_matrix/client/v1/media/{what}/{}/{}{query}",
            escape(server),
            escape(id)
        );
        self.get_bytes(&path).await
    }
}

/// The address of the picture in a message of a `/sync` answer.
pub fn shown(answer: &Value, room: &str, event: &str) -> Option<String> {
    let mut events = timeline(answer, room);
    let event = events.find(|known| known["event_id"] == event)?;
    event["content"]["url"].as_str().map(str::to_owned)
}

/// Whether these bytes are a picture of that size.
pub fn check(bytes: &[u8], side: u32) -> anyhow::Result<()> {
    let reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info()?;
    let info = reader.info();
    let size = (info.width, info.height);
    ensure!(size == (side, side), "it is of {size:?}, not of {side}");
    Ok(())
}
