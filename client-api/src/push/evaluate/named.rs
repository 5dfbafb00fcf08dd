//! Whom an event may name, so that of thousands only they are asked for themselves.

use std::{borrow::Cow, collections::HashSet};

use rhizome_protocol::Pdu;
use ruma::{OwnedUserId, ServerName, UserId};
use serde_json::Value;

/// Everything in an event that may be a user's id, in lower case.
#[derive(Debug)]
pub struct Named(HashSet<String>);

impl Named {
    /// In this event.
    pub fn of(event: &Pdu) -> Self {
        let mut found = HashSet::new();
        let mut take = |text: &str| {
            if text.starts_with('@') {
                found.insert(text.to_lowercase());
            }
        };
        [
            Some(event.kind()),
            Some(event.sender().as_str()),
            event.state_key(),
        ]
        .into_iter()
        .flatten()
        .for_each(&mut take);
        // Mostly nobody is named, which is told without reading the content.
        let mut left: Vec<&Value> = if event.surely_lacks("@") {
            Vec::new()
        } else {
            event.content().values().collect()
        };
        while let Some(value) = left.pop() {
            match value {
                Value::String(text) => take(text),
                Value::Array(list) => left.extend(list),
                Value::Object(object) => left.extend(object.values()),
                _ => {}
            }
        }
        Self(found)
    }

    /// Those of them that are the ids of a server's users; `None`: they are more than `most`.
    pub fn ids(&self, server: &ServerName, most: usize) -> Option<Vec<OwnedUserId>> {
        let ids = self.0.iter().filter_map(|id| UserId::parse(id).ok());
        let ids = ids.filter(|id| {
            let of = id.server_name().as_str();
            of.eq_ignore_ascii_case(server.as_str())
        });
        let ids: Vec<_> = ids.take(most + 1).collect();
        (ids.len() <= most).then_some(ids)
    }

    /// Whether a user may be among them. No condition on the user's id holds for who isn't.
    pub fn may_be(&self, user: &UserId) -> bool {
        let id = user.as_str();
        let is_lower = id.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase());
        let id = if is_lower {
            Cow::Borrowed(id)
        } else {
            id.to_lowercase().into()
        };
        self.0.contains(&*id)
    }
}
