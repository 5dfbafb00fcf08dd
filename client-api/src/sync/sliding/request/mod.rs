//! What a request asks for, read into one type from both forms: that of clients today (`required_state` as pairs with
//! `$LAZY` and `$ME`, `ranges`, `is_invite`, `pos` in the query) and that of MSC4186 as it was accepted.

pub mod config;
pub mod extensions;
pub mod filter;
mod raw;

use std::{collections::BTreeMap, time::Duration};

use rhizome_storage::SyncPresence;
use ruma::{OwnedRoomId, UserId};

use self::{config::Config, extensions::Extensions, filter::Filter, raw::Raw};
use crate::{Caller, MatrixError, account::presence::by_sync};

/// The most lists, and the most subscriptions, of a request.
const MOST_LISTS: usize = 100;
/// Clients of today subscribe to every room that they have shown.
const MOST_SUBSCRIPTIONS_TODAY: usize = 1_000;
/// The most ranges of a list, …
const MOST_RANGES: usize = 100;
/// … and the most with something between them.
const MOST_APART: usize = 10;
/// The longest name of a connection or a list.
const MAX_NAME: usize = 255;
/// The longest that a request may wait.
const MAX_TIMEOUT: Duration = Duration::from_mins(3);

/// In which form a client asks and is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `unstable/org.matrix.simplified_msc3575`.
    Unstable,
    /// `v4`.
    Stable,
}

/// A list: rooms that a filter lets through, in the order of their last activity, and where in it the window lies.
#[derive(Debug, Hash)]
pub struct List {
    /// Which rooms.
    pub filter: Filter,
    /// From where to where, both inclusive; in order, and none meets another.
    pub ranges: Vec<(usize, usize)>,
    /// What is wanted of each.
    pub config: Config,
}

impl List {
    /// Whether a place is within the window.
    pub fn has(&self, index: usize) -> bool {
        let mut ranges = self.ranges.iter();
        ranges.any(|(start, end)| (*start..=*end).contains(&index))
    }
}

/// A request.
#[derive(Debug)]
pub struct Asked {
    /// In which form.
    pub shape: Shape,
    /// What the client calls the connection.
    pub conn_id: String,
    /// Where it goes on.
    pub pos: Option<String>,
    /// How long it may wait for something new.
    pub timeout: Duration,
    /// What the device is while it waits.
    pub presence: SyncPresence,
    /// What is to be echoed.
    pub txn_id: Option<String>,
    /// The lists by name.
    pub lists: BTreeMap<String, List>,
    /// Rooms that are wanted by themselves.
    pub rooms: BTreeMap<OwnedRoomId, Config>,
    /// What is wanted beside rooms.
    pub extensions: Extensions,
}

impl Asked {
    /// Reads a request.
    pub fn read(
        shape: Shape,
        query: Option<&str>,
        body: &[u8],
        who: &Caller,
    ) -> Result<Self, MatrixError> {
        let me = &*who.user_id;
        let body = if body.is_empty() { b"{}" } else { body };
        let mut raw: Raw =
            serde_json::from_slice(body).map_err(|error| MatrixError::of_json(&error))?;
        if shape == Shape::Unstable {
            raw.take_query(query)?;
        }
        let presence = by_sync(who, raw.set_presence.as_deref())?;
        let conn_id = named("conn_id", raw.conn_id.unwrap_or_default())?;
        let most_rooms = match shape {
            Shape::Unstable => MOST_SUBSCRIPTIONS_TODAY,
            Shape::Stable => MOST_LISTS,
        };
        at_most("lists", raw.lists.len(), MOST_LISTS)?;
        at_most(
            "room subscriptions",
            raw.room_subscriptions.len(),
            most_rooms,
        )?;
        let lists = raw.lists.into_iter().map(|(name, list)| {
            let name = named("list", name)?;
            Ok((name, read_list(list, me)?))
        });
        let rooms = raw
            .room_subscriptions
            .into_iter()
            .filter_map(|(room, raw)| {
                // What can't be a room's id is of a room that doesn't exist.
                let room = OwnedRoomId::try_from(room).ok()?;
                Some(Config::read(raw, me).map(|config| (room, config)))
            });
        Ok(Self {
            shape,
            conn_id,
            timeout: match raw.pos {
                Some(_) => Duration::from_millis(raw.timeout.unwrap_or(0)).min(MAX_TIMEOUT),
                None => Duration::ZERO,
            },
            pos: raw.pos,
            presence,
            txn_id: raw.txn_id.filter(|_| shape == Shape::Unstable),
            lists: lists.collect::<Result<_, MatrixError>>()?,
            rooms: rooms.collect::<Result<_, MatrixError>>()?,
            extensions: raw.extensions.0,
        })
    }
}

fn read_list(raw: raw::RawList, me: &UserId) -> Result<List, MatrixError> {
    let ranges = match (raw.range, raw.ranges) {
        (Some(range), _) => vec![range],
        (None, Some(ranges)) => ranges,
        (None, None) => vec![(0, u64::MAX)],
    };
    at_most("ranges", ranges.len(), MOST_RANGES)?;
    let ranges = ranges.into_iter().map(|(start, end)| {
        let place = |place| usize::try_from(place).unwrap_or(usize::MAX);
        (start <= end)
            .then(|| (place(start), place(end)))
            .ok_or_else(|| MatrixError::invalid_param("A range ends before it begins"))
    });
    let ranges = apart(ranges.collect::<Result<_, _>>()?);
    at_most("ranges apart from each other", ranges.len(), MOST_APART)?;
    Ok(List {
        filter: raw
            .filters
            .map(Filter::read)
            .transpose()?
            .unwrap_or_default(),
        ranges,
        config: Config::read(raw.config, me)?,
    })
}

/// The same places, each in one range.
fn apart(mut ranges: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    ranges.sort_unstable();
    let mut apart: Vec<(usize, usize)> = Vec::new();
    for (start, end) in ranges {
        match apart.last_mut() {
            Some((_, last)) if start <= last.saturating_add(1) => *last = end.max(*last),
            _ => apart.push((start, end)),
        }
    }
    apart
}

fn at_most(what: &str, count: usize, most: usize) -> Result<(), MatrixError> {
    if count > most {
        let message = format!("There are {count} {what}; {most} are allowed");
        return Err(MatrixError::invalid_param(message));
    }
    Ok(())
}

fn named(what: &str, name: String) -> Result<String, MatrixError> {
    if name.len() > MAX_NAME {
        let message = format!("The name of a {what} has more than {MAX_NAME} bytes");
        return Err(MatrixError::invalid_param(message));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::apart;

    #[test]
    fn ranges_that_meet_are_one() {
        let most = usize::MAX;
        assert_eq!(apart(vec![]), []);
        assert_eq!(
            apart(vec![(7, 9), (0, 3), (2, 5), (1, 1)]),
            [(0, 5), (7, 9)]
        );
        assert_eq!(
            apart(vec![(6, 9), (0, 5), (0, most), (3, most)]),
            [(0, most)]
        );
        assert_eq!(apart(vec![(6, 6), (4, 4)]), [(4, 4), (6, 6)]);
    }
}
