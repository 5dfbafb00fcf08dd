//! Messages of other servers' users to devices of ours
//! (<https://spec.matrix.org/v1.19/server-server-api/#send-to-device-messaging>).
//!
//! Anybody may write to anybody's devices, whether they share a room or not. So what a server can make us keep is
//! bounded: by the size of a transaction, by how much of it is looked at, by a budget, and by what is kept for a
//! device (`storage/src/facts/to_device/purge.rs`).

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rhizome_protocol::canonical::parse_object;
use rhizome_storage::{Fact, Once, Sending, ToDevice, UserNo};
use ruma::{OwnedDeviceId, OwnedUserId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Federation, MatrixError};

/// The most bytes of a type, an id, a device's name.
const MAX_TEXT: usize = 255;
/// The most messages of one transaction; `*` counts as many as there are devices.
const MAX_MESSAGES: usize = 20_000;
/// The most bytes that are kept of one transaction.
const MAX_KEPT: usize = 16 << 20;

/// So many bytes count as much as a message.
const PAGE: usize = 4_096;

/// `content` of `m.direct_to_device`.
#[derive(Deserialize)]
pub(super) struct Content<'a> {
    sender: OwnedUserId,
    #[serde(rename = "type")]
    kind: String,
    message_id: String,
    #[serde(borrow)]
    messages: BTreeMap<String, Contents<'a>>,
}

impl<'a> Content<'a> {
    /// What is for users of ours.
    fn ours(&self, fed: &Federation) -> impl Iterator<Item = (OwnedUserId, &Contents<'a>)> {
        self.messages.iter().filter_map(|(user, contents)| {
            let user = OwnedUserId::try_from(user.as_str()).ok()?;
            (user.server_name() == fed.server_name()).then_some((user, contents))
        })
    }
}

/// By device.
type Contents<'a> = BTreeMap<String, &'a RawValue>;

/// Takes from a transaction's EDUs, in their order, what is for devices here.
///
/// # Errors
/// Those of the database; 429 `M_LIMIT_EXCEEDED` for a server that has sent too many lately.
pub(super) async fn admit(
    fed: &Federation,
    origin: &ServerName,
    claims: Vec<Content<'_>>,
) -> Result<Vec<Fact>, MatrixError> {
    let ours = claims.iter().flat_map(|claim| claim.ours(fed));
    let (users, everywhere): (Vec<_>, Vec<_>) = ours
        .map(|(user, contents)| (user, contents.contains_key("*")))
        .unzip();
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let known = fed.store().known_users(&users).await?;
    let everywhere = (users.iter().zip(everywhere))
        .filter_map(|(user, everywhere)| known.get(user).copied().filter(|_| everywhere));
    let devices = all_devices(fed, &everywhere.collect::<Vec<_>>()).await?;
    let mut admitting = Admitting {
        origin,
        received_ms: fed.store().clock().now_ms(),
        known,
        devices,
        facts: Vec::new(),
        kept: 0,
        odd: 0,
    };
    for claim in &claims {
        if !admitting.take(fed, claim) {
            tracing::warn!(%origin, "a transaction has more messages to devices than are taken");
            break;
        }
    }
    if admitting.odd > 0 {
        let odd = admitting.odd;
        tracing::info!(%origin, odd, "messages to devices that are no objects, or too large");
    }
    let pages = admitting.kept / PAGE;
    let weight = admitting.facts.len() + admitting.odd + pages;
    fed.budgets().messages(origin, weight.min(MAX_MESSAGES))?;
    Ok(admitting.facts)
}

async fn all_devices(
    fed: &Federation,
    users: &[UserNo],
) -> Result<HashMap<UserNo, Vec<OwnedDeviceId>>, MatrixError> {
    let mut devices: HashMap<UserNo, Vec<OwnedDeviceId>> = HashMap::new();
    if !users.is_empty() {
        for (user, device) in fed.store().device_ids(users).await? {
            devices.entry(user).or_default().push(device);
        }
    }
    Ok(devices)
}

struct Admitting<'a> {
    origin: &'a ServerName,
    received_ms: i64,
    known: HashMap<OwnedUserId, UserNo>,
    /// Of those users to all of whose devices something is written.
    devices: HashMap<UserNo, Vec<OwnedDeviceId>>,
    facts: Vec<Fact>,
    kept: usize,
    /// How many are no objects, or too large.
    odd: usize,
}

impl Admitting<'_> {
    /// `false`: it is too much, and nothing of it is taken.
    fn take(&mut self, fed: &Federation, claim: &Content<'_>) -> bool {
        let origin = self.origin;
        if claim.sender.server_name() != origin {
            tracing::info!(%origin, sender = %claim.sender, "a message to devices of somebody else's user");
            return true;
        }
        if claim.kind.len() > MAX_TEXT || claim.message_id.len() > MAX_TEXT {
            tracing::info!(%origin, "a message to devices with too long a type or id");
            return true;
        }
        let sending = Arc::new(Sending {
            sender: claim.sender.clone(),
            kind: claim.kind.clone(),
            received_ms: self.received_ms,
            once: Some(Once {
                origin: origin.to_owned(),
                message_id: claim.message_id.clone(),
            }),
        });
        let before = (self.facts.len(), self.kept);
        for (user, contents) in claim.ours(fed) {
            let Some(user) = self.known.get(&user).copied() else {
                continue;
            };
            for (device, content) in contents {
                let Some(content) = content_of(content) else {
                    self.odd += 1;
                    continue;
                };
                let devices = match device.as_str() {
                    "*" => self.devices.get(&user).cloned().unwrap_or_default(),
                    _ if device.len() > MAX_TEXT => continue,
                    _ => vec![OwnedDeviceId::from(device.as_str())],
                };
                self.kept += devices.len() * content.len();
                let to = |device| {
                    let (sending, content) = (sending.clone(), content.clone());
                    Fact::from(ToDevice {
                        user,
                        device,
                        sending,
                        content,
                    })
                };
                self.facts.extend(devices.into_iter().map(to));
            }
            if self.facts.len() > MAX_MESSAGES || self.kept > MAX_KEPT {
                self.facts.truncate(before.0);
                self.kept = before.1;
                return false;
            }
        }
        true
    }
}

/// The text of what a device may be given. Odd numbers stay as they are, but what clients would stumble over goes.
fn content_of(raw: &RawValue) -> Option<Arc<str>> {
    let text = raw.get();
    (text.len() <= ToDevice::MAX_CONTENT && parse_object(text.as_bytes()).is_ok())
        .then(|| text.into())
}
