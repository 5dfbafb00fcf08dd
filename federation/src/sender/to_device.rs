//! Messages of our users to devices of other servers
//! (<https://spec.matrix.org/v1.19/server-server-api/#send-to-device-messaging>).

use std::collections::BTreeMap;

use rhizome_storage::{Error, Pos, ToDeviceOut, random};
use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use serde_json::{Map, Value, json};

use super::batch::{self, Batch, MAX_TO_DEVICE_BYTES};
use crate::{Federation, servers::Direction};

/// About how many bytes of messages an EDU has; a single message may have more.
const MAX_EDU_BYTES: usize = 60_000;

/// A message to a device of another server.
#[derive(Debug)]
pub struct Outgoing {
    /// For whom.
    pub user: OwnedUserId,
    /// For which of their devices; `*`: all.
    pub device: String,
    /// The content: a JSON object.
    pub content: Value,
    /// How many bytes it has as text.
    pub size: usize,
}

/// What is to be written so that these messages of one request are sent, in one commit with what belongs to it.
/// Nothing for servers that this one doesn't send to by its configuration.
///
/// # Errors
/// There is no randomness.
pub fn queue(
    fed: &Federation,
    sender: &UserId,
    kind: &str,
    messages: Vec<Outgoing>,
) -> Result<Vec<ToDeviceOut>, Error> {
    if !fed.config().enabled {
        return Ok(Vec::new());
    }
    let mut by_server: BTreeMap<OwnedServerName, Vec<Unit>> = BTreeMap::new();
    for message in messages {
        let server = message.user.server_name();
        if (fed.config().servers)
            .configured(Direction::Out, server)
            .is_some()
        {
            continue;
        }
        let units = by_server.entry(server.to_owned());
        let units = units.or_default();
        match units.last_mut() {
            Some(unit) if unit.size + message.size <= MAX_EDU_BYTES => unit.add(message),
            _ => {
                let mut unit = Unit::default();
                unit.add(message);
                units.push(unit);
            }
        }
    }
    let queued_ms = fed.store().clock().now_ms();
    let mut out = Vec::new();
    for (server, units) in by_server {
        for unit in units {
            // 32 characters, as many as an id may have.
            let message_id = random::hex::<16>()?;
            let content = json!({
                "sender": sender,
                "type": kind,
                "message_id": message_id,
                "messages": unit.messages,
            });
            out.push(ToDeviceOut {
                server: server.clone(),
                edu: batch::edu("m.direct_to_device", &content).into(),
                queued_ms,
            });
        }
    }
    Ok(out)
}

/// The messages of one EDU: user → device → content.
#[derive(Default)]
struct Unit {
    messages: BTreeMap<OwnedUserId, Map<String, Value>>,
    size: usize,
}

impl Unit {
    fn add(&mut self, message: Outgoing) {
        self.size += message.size;
        let devices = self.messages.entry(message.user).or_default();
        devices.insert(message.device, message.content);
    }
}

/// Takes what waits for a destination into its next transaction, in order and as much as fits.
pub(super) async fn gather(
    fed: &Federation,
    to: &ServerName,
    after: Pos,
    most: usize,
    batch: &mut Batch,
) -> Result<(), Error> {
    let mut waiting = fed
        .store()
        .to_device_out(to, after, batch.upto, most)
        .await?;
    let mut bytes = 0;
    let fits = waiting.iter().take_while(|(_, edu)| {
        let first = bytes == 0;
        bytes += edu.len();
        first || bytes <= MAX_TO_DEVICE_BYTES
    });
    let fits = fits.count();
    let is_all = fits == waiting.len() && fits < most;
    waiting.truncate(fits);
    let last = waiting.last().map(|(pos, _)| *pos);
    batch.to_device = waiting;
    if let Some(last) = last.filter(|_| !is_all) {
        batch.cut(last);
    }
    Ok(())
}
