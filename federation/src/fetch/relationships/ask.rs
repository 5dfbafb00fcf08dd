//! Asking other servers for parts of a thread that aren't here. What they give is checked like all events, and kept
//! without a place in the room's history.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use http::Method;
use rhizome_protocol::Pdu;
use rhizome_rooms::receive::outliers;
use rhizome_storage::{RoomHead, ToldChildren};
use ruma::{OwnedEventId, OwnedServerName, ServerName};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{PATH, Question};
use crate::{Federation, MatrixError, fetch::verify, outbound::Limits};

/// Servers that are asked about one event.
const MAX_SERVERS: usize = 2;
/// Events of an answer that are looked at, and what they rest on.
const MAX_EVENTS: usize = 100;
const MAX_AUTH: usize = 1_000;
/// Types of relations that are told of one event's children, their length, and how many children there are.
const MAX_TYPES: usize = 50;
const LONGEST: usize = 255;
const MOST_CHILDREN: i64 = 1 << 40;
/// How long one server may take, and how much it may answer.
const LIMITS: Limits = Limits {
    timeout: Some(Duration::from_secs(10)),
    max_body: 4 << 20,
};

/// What may be asked of others for one answer.
pub(super) struct Asking<'a> {
    fed: &'a Federation,
    head: &'a RoomHead,
    left: usize,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    events: Vec<Box<RawValue>>,
    #[serde(default)]
    auth_chain: Vec<Box<RawValue>>,
}

/// What another server says of an event's children.
#[derive(Deserialize)]
struct Said {
    unsigned: Unsigned,
}

#[derive(Deserialize)]
struct Unsigned {
    children: BTreeMap<String, i64>,
    children_hash: String,
}

impl<'a> Asking<'a> {
    pub(super) fn new(fed: &'a Federation, head: &'a RoomHead, most: usize) -> Self {
        Self {
            fed,
            head,
            left: most,
        }
    }

    /// Whether nobody may be asked any more.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Asks about an event, `first` before others. That nobody helps is no error.
    pub(super) async fn about(
        &mut self,
        question: &Question,
        first: Option<&ServerName>,
    ) -> Result<(), MatrixError> {
        if self.is_over() {
            return Ok(());
        }
        self.left -= 1;
        let body = to_raw_value(question).map_err(|error| {
            tracing::error!(%error, "a question can't be encoded");
            MatrixError::internal()
        })?;
        for server in self.servers(first).await? {
            let asked = self.fed.outbound();
            let answer = asked.call(&server, Method::POST, PATH, Some(&body), LIMITS);
            let answer = match answer.await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::info!(%server, %error, "no part of a thread from this server");
                    continue;
                }
            };
            let Ok(answer) = serde_json::from_slice::<Answer>(&answer) else {
                tracing::info!(%server, "what this server answers about a thread can't be read");
                continue;
            };
            self.keep(answer).await?;
            return Ok(());
        }
        Ok(())
    }

    async fn servers(
        &self,
        first: Option<&ServerName>,
    ) -> Result<Vec<OwnedServerName>, MatrixError> {
        let store = self.fed.store();
        let mut servers = store.joined_servers(self.head.room).await?.to_vec();
        servers.retain(|server| server != self.fed.server_name());
        let of_room = self.head.room_id.server_name();
        servers.sort_by_key(|server| (Some(&**server) != first, Some(&**server) != of_room));
        servers.truncate(MAX_SERVERS);
        Ok(servers)
    }

    async fn keep(&self, mut answer: Answer) -> Result<(), MatrixError> {
        answer.events.truncate(MAX_EVENTS);
        answer.auth_chain.truncate(MAX_AUTH);
        let (fed, head) = (self.fed, self.head);
        let said: HashMap<Box<str>, Said> = (answer.events.iter())
            .filter_map(|event| Some((event.get().into(), said(event)?)))
            .collect();
        let parsed = answer.events.iter().filter_map(|event| {
            let parsed = verify::parse(event).ok()?;
            Some((said.get(event.get()), parsed))
        });
        let (told, parsed): (Vec<_>, Vec<_>) = parsed.unzip();
        let checked = verify::objects(fed, head.rules, parsed).await;
        let mut pdus: Vec<Arc<Pdu>> = Vec::new();
        let mut children: BTreeMap<OwnedEventId, ToldChildren> = BTreeMap::new();
        for (told, pdu) in told.into_iter().zip(checked) {
            let Ok(pdu) = pdu else { continue };
            if pdu.room_id() != &*head.room_id {
                continue;
            }
            let id = pdu.event_id().to_owned();
            if let Some(told) = told {
                children.insert(id.clone(), told_of(id, told));
            }
            pdus.push(pdu);
        }
        let auth = verify::batch(fed, head.rules, &head.room_id, answer.auth_chain).await;
        pdus.extend(auth);
        let stored = outliers(fed.rooms(), &head.room_id, pdus).await?;
        children.retain(|event, _| stored.accepted.contains(event));
        let children: Vec<ToldChildren> = children.into_values().collect();
        fed.store().tell_children(head.room, &children).await?;
        Ok(())
    }
}

/// What is said of an event's children, if it can be.
fn said(event: &RawValue) -> Option<Said> {
    let said: Said = serde_json::from_str(event.get()).ok()?;
    let Unsigned {
        children,
        children_hash,
    } = &said.unsigned;
    let fits = children.len() <= MAX_TYPES
        && children_hash.len() <= LONGEST
        && (children.iter())
            .all(|(name, count)| name.len() <= LONGEST && (0..=MOST_CHILDREN).contains(count));
    fits.then_some(said)
}

fn told_of(parent: OwnedEventId, said: &Said) -> ToldChildren {
    let children = &said.unsigned.children;
    ToldChildren {
        parent,
        total: children.values().sum(),
        children: serde_json::to_string(children).unwrap_or_default(),
        hash: said.unsigned.children_hash.clone(),
        explored: None,
    }
}
