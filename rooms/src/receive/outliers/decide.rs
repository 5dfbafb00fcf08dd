//! The decision on a batch, which takes a thread of its own.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rhizome_protocol::{Pdu, Rejection};
use ruma::EventId;

use crate::{
    Error,
    error::Result,
    receive::{
        checks::{allowed_by_auth_events, other_create},
        packed::Text,
    },
};

/// An event of a batch before it is decided.
pub(super) struct Undecided {
    pub(super) at: usize,
    pub(super) text: Text,
    pub(super) parents: Vec<usize>,
}

/// Where a batch finds an auth event of an earlier one.
pub(super) enum Source {
    Parsed(Arc<Pdu>),
    Text(Text),
}

/// Parsed events by their indexes.
pub(super) type Parsed = HashMap<usize, Arc<Pdu>>;

/// The decision on an event.
pub(super) type Decided = (usize, Arc<Pdu>, Option<Rejection>);

/// Checks each event of a batch against its auth events (step 4); with the auth events, parsed, that were
/// looked at.
pub(super) fn decide(
    batch: Vec<Undecided>,
    sources: HashMap<usize, Source>,
    mut rejected: HashSet<usize>,
    own_create: Option<&EventId>,
) -> Result<(Vec<Decided>, Parsed)> {
    let mut parsed = Parsed::with_capacity(sources.len());
    for (at, source) in sources {
        let pdu = match source {
            Source::Parsed(pdu) => pdu,
            Source::Text(text) => text.parse().map_err(Error::Forbidden)?,
        };
        parsed.insert(at, pdu);
    }
    let mut own = Parsed::with_capacity(batch.len());
    let mut decided = Vec::with_capacity(batch.len());
    for event in batch {
        let pdu = event.text.parse().map_err(Error::Forbidden)?;
        let mut auth_events = Vec::with_capacity(event.parents.len());
        for at in event.parents {
            let found = match own.get(&at) {
                // Later batches may want it as well.
                Some(parent) => parsed.entry(at).or_insert_with(|| parent.clone()).clone(),
                None => match parsed.get(&at) {
                    Some(parent) => parent.clone(),
                    None => continue,
                },
            };
            auth_events.push((found, rejected.contains(&at)));
        }
        let rejection = allowed_by_auth_events(&pdu, &auth_events).err();
        let rejection = rejection.or_else(|| other_create(&pdu, own_create));
        if rejection.is_some() {
            rejected.insert(event.at);
        }
        own.insert(event.at, pdu.clone());
        decided.push((event.at, pdu, rejection));
    }
    Ok((decided, parsed))
}
