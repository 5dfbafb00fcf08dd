//! Sending messages to devices (client-server API, "Send-to-Device messaging").

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{MatrixError, Undecoded};
use rhizome_federation::sender::to_device::{self, Outgoing};
use rhizome_protocol::{Object, canonical};
use rhizome_storage::{Fact, Sending, ToDevice, ToDeviceTxn, UserNo};
use ruma::{
    OwnedDeviceId, OwnedUserId, ServerName, UserId,
    api::client::to_device::send_event_to_device::v3::{Request, Response},
};
use serde_json::Value;

use crate::{App, Caller, Ruma, auth::shadow, content, limits::Kind};

/// The most bytes of a type or of a device's id.
const MAX_TEXT: usize = 255;
/// The most messages of one request; `*` counts as many as there are devices of ours.
const MAX_MESSAGES: usize = 10_000;
/// The most other servers that one request writes to.
const MAX_SERVERS: usize = 1_000;
/// A message with more bytes counts as several; keys for a room are smaller.
const COUNTS_AS_ONE: usize = 2 << 10;
/// The most bytes that are kept of one request.
const MAX_KEPT: usize = 16 << 20;

/// `PUT /_matrix/client/v3/sendToDevice/{eventType}/{txnId}`
///
/// Who isn't there gets nothing, and the sender isn't told.
pub async fn send(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<Request>>,
) -> Result<Response, MatrixError> {
    let (kind, txn_id) = (req.part(0), req.part(1));
    if kind.len() > MAX_TEXT {
        let message = format!("The event type must not be longer than {MAX_TEXT} bytes");
        return Err(MatrixError::invalid_param(message));
    }
    let key = content::txn_key(&who, format!("sendToDevice/{kind}"), txn_id)?;
    let (ours, others) = messages_of(&app, &body)?;
    if app.store.is_to_device_done(&key).await? {
        // It was paid for.
        return Ok(Response::new());
    }
    let done_ms = app.store.clock().now_ms();
    let mut facts: Vec<Fact> = vec![ToDeviceTxn { key, done_ms }.into()];
    facts.extend(local(&app, &who, kind, ours).await?);
    charge(&app, &who, &facts, &others).await?;
    if shadow::is_banned(&app, &who.user_id).await? {
        return Ok(Response::new());
    }
    let out = to_device::queue(&app.federation, &who.user_id, kind, others)?;
    facts.extend(out.into_iter().map(Fact::from));
    app.store.commit(facts.into()).await?;
    Ok(Response::new())
}

/// A message for a device, or all devices, of a user of ours.
struct Incoming {
    user: OwnedUserId,
    device: String,
    content: Arc<str>,
}

/// What a request holds, for users here and elsewhere.
fn messages_of(app: &App, body: &[u8]) -> Result<(Vec<Incoming>, Vec<Outgoing>), MatrixError> {
    let mut body = content::parse(body)?;
    let Some(Value::Object(messages)) = body.remove("messages") else {
        return Err(MatrixError::bad_json("`messages` must be an object"));
    };
    let (mut ours, mut others, mut servers) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (user, devices) in messages {
        let user = UserId::parse(&user)
            .map_err(|error| MatrixError::invalid_param(format!("{user:?}: {error}")))?;
        let Value::Object(devices) = devices else {
            return Err(MatrixError::bad_json(
                "`messages` must hold objects by user",
            ));
        };
        let is_ours = user.server_name() == app.federation.server_name();
        if !is_ours && !devices.is_empty() {
            servers.insert(user.server_name().to_owned());
        }
        for (device, content) in devices {
            let (user, content) = (user.clone(), checked(&device, content)?);
            if is_ours {
                let content = text_of(&content, canonical::to_canonical_tolerant)?.into();
                ours.push(Incoming {
                    user,
                    device,
                    content,
                });
            } else {
                // It becomes part of what we sign.
                let size = text_of(&content, canonical::to_canonical)?.len();
                others.push(Outgoing {
                    user,
                    device,
                    content: content.into(),
                    size,
                });
            }
        }
    }
    if ours.len() + others.len() > MAX_MESSAGES || servers.len() > MAX_SERVERS {
        return Err(too_much());
    }
    Ok((ours, others))
}

fn checked(device: &str, content: Value) -> Result<Object, MatrixError> {
    if device.len() > MAX_TEXT {
        let message = format!("A device id has at most {MAX_TEXT} bytes");
        return Err(MatrixError::invalid_param(message));
    }
    match content {
        Value::Object(content) => Ok(content),
        _ => Err(MatrixError::bad_json("A message must be an object")),
    }
}

fn text_of<E: std::fmt::Display>(
    content: &Object,
    write: impl Fn(&Object) -> Result<String, E>,
) -> Result<String, MatrixError> {
    let text = write(content).map_err(|error| MatrixError::bad_json(error.to_string()))?;
    if text.len() > ToDevice::MAX_CONTENT {
        return Err(too_much());
    }
    Ok(text)
}

/// Counts what a request holds, and the servers that it is the first to write to: each costs a queue and attempts,
/// also one that somebody has made up.
async fn charge(
    app: &App,
    who: &Caller,
    facts: &[Fact],
    others: &[Outgoing],
) -> Result<(), MatrixError> {
    let ours = facts.iter().map(|fact| match fact {
        Fact::ToDevice(message) => weight(message.content.len()),
        _ => 0,
    });
    let messages = ours.chain(others.iter().map(|message| weight(message.size)));
    let messages: usize = messages.sum();
    let now = app.now_monotonic_ms();
    app.limits.take_many(Kind::ToDevice, who, messages, now)?;
    if !app.federation.config().enabled {
        return Ok(());
    }
    // Who has a place in the sender's memory is known.
    let servers: BTreeSet<&ServerName> = (others.iter())
        .map(|message| message.user.server_name())
        .filter(|server| app.federation.sender().stand(server).is_none())
        .collect();
    let new = app.store.new_servers(servers).await?;
    let taken = app.limits.take_many(Kind::NewServer, who, new.len(), now);
    if taken.is_err() {
        // Nothing is sent.
        app.limits.give_back(Kind::ToDevice, who, messages, now);
    }
    taken
}

/// As how many messages one counts.
fn weight(bytes: usize) -> usize {
    bytes.div_ceil(COUNTS_AS_ONE).max(1)
}

/// What is to be written for devices here. Whether a device is there is known in the commit.
async fn local(
    app: &App,
    who: &Caller,
    kind: &str,
    messages: Vec<Incoming>,
) -> Result<Vec<Fact>, MatrixError> {
    let users: Vec<_> = messages.iter().map(|to| to.user.clone()).collect();
    let known = app.store.known_users(&users).await?;
    let everywhere = messages.iter().filter(|to| to.device == "*");
    let everywhere = everywhere.filter_map(|to| known.get(&to.user).copied());
    let all = all_devices(app, &everywhere.collect::<Vec<_>>()).await?;
    let sending = Arc::new(Sending {
        sender: who.user_id.clone(),
        kind: kind.to_owned(),
        received_ms: app.store.clock().now_ms(),
        once: None,
    });
    let (mut facts, mut kept) = (Vec::new(), 0);
    for Incoming {
        user,
        device,
        content,
    } in messages
    {
        let Some(user) = known.get(&user).copied() else {
            continue;
        };
        let devices = match device.as_str() {
            "*" => all.get(&user).cloned().unwrap_or_default(),
            _ => vec![OwnedDeviceId::from(device)],
        };
        kept += devices.len() * content.len();
        facts.extend(devices.into_iter().map(|device| {
            let (sending, content) = (sending.clone(), content.clone());
            Fact::from(ToDevice {
                user,
                device,
                sending,
                content,
            })
        }));
        if facts.len() > MAX_MESSAGES || kept > MAX_KEPT {
            return Err(too_much());
        }
    }
    Ok(facts)
}

async fn all_devices(
    app: &App,
    users: &[UserNo],
) -> Result<HashMap<UserNo, Vec<OwnedDeviceId>>, MatrixError> {
    let mut all: HashMap<UserNo, Vec<OwnedDeviceId>> = HashMap::new();
    if !users.is_empty() {
        for (user, device) in app.store.device_ids(users).await? {
            all.entry(user).or_default().push(device);
        }
    }
    Ok(all)
}

fn too_much() -> MatrixError {
    MatrixError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "M_TOO_LARGE",
        format!(
            "Too much at once: a message has at most {} bytes, a request {MAX_MESSAGES} messages, to \
             {MAX_SERVERS} servers",
            ToDevice::MAX_CONTENT
        ),
    )
}
