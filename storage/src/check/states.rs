//! The states of rooms: what a snapshot holds is there, and the current one is what its rows say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::CheckProgress;
use super::finding::{DERIVED, Fault, Findings, RESTORE, Tally};
use super::moment::Moment;
use crate::engine::sql::Columns as _;
use crate::rooms::snapshot::{Loaded, Nodes, Slot, slots};
use crate::{EventNo, KeyNo, Result, RoomNo, SnapshotNo};

/// Rooms that are read together.
const ROOMS: usize = 200;
/// Snapshots that are read together: the first one of a large room has some megabytes.
const BODIES: usize = 32;
/// Events, or entries, that are asked for together.
const PIECE: usize = 2_000;
/// A key has sixty-four bits, of which four choose each step down.
const LEVELS: usize = 17;
/// No state has so many nodes on one level; what has so many is damaged.
const WIDEST: usize = 4_000_000;

const UNREADABLE: Fault = Fault {
    what: "states of rooms can't be read",
    means: "What rests on them fails: joining, sending, or reading in these rooms.",
    next: RESTORE,
};

const WITHOUT_EVENTS: Fault = Fault {
    what: "states of rooms refer to events that aren't there",
    means: "What is decided by these events can't be decided.",
    next: RESTORE,
};

const DIFFERENT: Fault = Fault {
    what: "current states of rooms are written down twice, and differently",
    means: "What clients are told of a room may not be what decides in it.",
    next: DERIVED,
};

const CURRENT: &str = "SELECT no, room_id, snapshot FROM room \
    WHERE no > $1 AND snapshot IS NOT NULL ORDER BY no LIMIT $2";
const COUNT_CURRENT: &str = "SELECT COUNT(*) AS count FROM room WHERE snapshot IS NOT NULL";
const BODIES_OF: &str = "SELECT no, body FROM state_snapshot WHERE no IN NUMBERS($1)";
const EVENTS: &str = "SELECT no, room FROM event WHERE no IN NUMBERS($1)";
const ROWS: &str = "SELECT state_key, event FROM current_state WHERE room = $1";
const ALL: &str = "SELECT s.no, s.room, s.body, r.room_id FROM state_snapshot s \
    LEFT JOIN room r ON r.no = s.room WHERE s.no > $1 ORDER BY s.no LIMIT $2";
const COUNT_ALL: &str = "SELECT COUNT(*) AS count FROM state_snapshot";
const NUMBERS: &str = "SELECT no FROM state_snapshot WHERE no IN NUMBERS($1)";

type State = BTreeMap<KeyNo, EventNo>;

pub(super) async fn check(
    moment: &mut Moment,
    thorough: bool,
    progress: &CheckProgress,
) -> Result<Findings> {
    let found = check_current(moment, progress).await?;
    if !thorough {
        return Ok(found);
    }
    Ok(found.and(check_all(moment, progress).await?))
}

/// The current state of each room.
async fn check_current(moment: &mut Moment, progress: &CheckProgress) -> Result<Findings> {
    let count = moment.one(moment.sql(COUNT_CURRENT), "count").await?;
    progress.begin(count);
    let (mut unreadable, mut without, mut different) = (
        UNREADABLE.tally(),
        WITHOUT_EVENTS.tally(),
        DIFFERENT.tally(),
    );
    let mut after = RoomNo(i64::MIN);
    loop {
        let query = moment.sql(CURRENT).bind(after).bind(ROOMS);
        let rows = moment.rows(query).await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let (room, at) = (row.get("no")?, row.get("snapshot")?);
            let room_id: String = row.get("room_id")?;
            after = room;
            match read(moment, at).await? {
                // That it isn't there is told of the room.
                Ok(None) => {}
                Err(why) => unreadable.add(|| format!("{room_id}: {why}")),
                Ok(Some(state)) => {
                    let events = state.values().map(|event| (room, *event));
                    let missing = missing(moment, &events.collect::<BTreeSet<_>>()).await?;
                    for (_, event) in &missing {
                        without.add(|| format!("event number {event} in {room_id}"));
                    }
                    let rows = current(moment, room).await?;
                    if rows != state {
                        different.add(|| format!("{room_id}: {}", difference(&state, &rows)));
                    }
                }
            }
            progress.add(1);
        }
    }
    Ok(Findings::of([unreadable, without, different]))
}

/// The state that a snapshot holds; `None` if there is no such snapshot.
async fn read(
    moment: &mut Moment,
    at: SnapshotNo,
) -> Result<std::result::Result<Option<State>, String>> {
    let mut loaded = Loaded::new();
    if let Err(why) = load(moment, &[at], &mut loaded).await? {
        return Ok(Err(why));
    }
    let Some(root) = loaded.get(&at).map(|nodes| nodes.root) else {
        return Ok(Ok(None));
    };
    let mut state = State::new();
    let mut level: Vec<Slot> = root.into_iter().collect();
    for _ in 0..=LEVELS {
        let children = level.iter().filter_map(|slot| match slot {
            Slot::Child(at) => Some(at.snapshot),
            Slot::Leaf(..) => None,
        });
        let wanted: BTreeSet<_> = children.filter(|no| !loaded.contains_key(no)).collect();
        let wanted: Vec<_> = wanted.into_iter().collect();
        if let Err(why) = load(moment, &wanted, &mut loaded).await? {
            return Ok(Err(why));
        }
        match descend(&loaded, &level, &mut state) {
            Ok(next) if next.is_empty() => return Ok(Ok(Some(state))),
            Ok(next) => level = next,
            Err(why) => return Ok(Err(why)),
        }
    }
    Ok(Err(format!("state snapshot {at} is deeper than it can be")))
}

/// Takes the entries of a level, and gives the next one.
fn descend(
    loaded: &Loaded,
    level: &[Slot],
    state: &mut State,
) -> std::result::Result<Vec<Slot>, String> {
    let mut next = Vec::new();
    for slot in level {
        match slot {
            Slot::Leaf(key, event) => {
                if state.insert(*key, *event).is_some() {
                    return Err(format!("entry {key} stands in it twice"));
                }
            }
            Slot::Child(at) => {
                let below = slots(loaded, *at).map_err(|error| error.to_string())?;
                next.extend_from_slice(below);
            }
        }
        if next.len() > WIDEST {
            return Err("it is larger than it can be".to_owned());
        }
    }
    Ok(next)
}

/// Reads snapshots, as far as they are there. Why not, if one can't be understood.
async fn load(
    moment: &mut Moment,
    nos: &[SnapshotNo],
    loaded: &mut Loaded,
) -> Result<std::result::Result<(), String>> {
    for nos in nos.chunks(BODIES) {
        let query = moment.sql(BODIES_OF).numbers(nos.iter().copied());
        for row in moment.rows(query).await? {
            let (no, body): (SnapshotNo, Vec<u8>) = (row.get("no")?, row.get("body")?);
            match Nodes::decode(no, &body) {
                Ok(nodes) => _ = loaded.insert(no, Arc::new(nodes)),
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
    }
    Ok(Ok(()))
}

/// Those of these events that aren't there, or are another room's.
async fn missing(
    moment: &mut Moment,
    wanted: &BTreeSet<(RoomNo, EventNo)>,
) -> Result<Vec<(RoomNo, EventNo)>> {
    let all: Vec<_> = wanted.iter().copied().collect();
    let mut missing = Vec::new();
    for piece in all.chunks(PIECE) {
        let query = moment.sql(EVENTS).numbers(piece.iter().map(|(_, no)| *no));
        let mut rooms: HashMap<EventNo, RoomNo> = HashMap::new();
        for row in moment.rows(query).await? {
            rooms.insert(row.get("no")?, row.get("room")?);
        }
        let of_others = piece
            .iter()
            .filter(|(room, no)| rooms.get(no) != Some(room));
        missing.extend(of_others.copied());
    }
    Ok(missing)
}

/// The current state of a room as its rows say.
async fn current(moment: &mut Moment, room: RoomNo) -> Result<State> {
    let query = moment.sql(ROWS).bind(room);
    let rows = moment.rows(query).await?;
    let entries = rows
        .iter()
        .map(|row| Ok((row.get("state_key")?, row.get("event")?)));
    entries.collect()
}

fn difference(state: &State, rows: &State) -> String {
    let differs = state
        .iter()
        .filter(|(key, event)| rows.get(key) != Some(event));
    let more = rows.keys().filter(|key| !state.contains_key(key));
    let count = differs.count() + more.count();
    format!("{count} entries of {}", state.len())
}

/// Every snapshot that there is: what it refers to is there.
async fn check_all(moment: &mut Moment, progress: &CheckProgress) -> Result<Findings> {
    let count = moment.one(moment.sql(COUNT_ALL), "count").await?;
    progress.begin(count);
    let (mut unreadable, mut without) = (UNREADABLE.tally(), WITHOUT_EVENTS.tally());
    let mut after = SnapshotNo(i64::MIN);
    loop {
        let query = moment.sql(ALL).bind(after).bind(BODIES);
        let rows = moment.rows(query).await?;
        let mut bodies: Vec<Body> = Vec::new();
        for row in &rows {
            let room_id: Option<String> = row.get("room_id")?;
            let (no, body): (SnapshotNo, Vec<u8>) = (row.get("no")?, row.get("body")?);
            after = no;
            match Nodes::decode(no, &body) {
                Ok(nodes) => bodies.push((no, row.get("room")?, room_id, nodes)),
                Err(error) => unreadable.add(|| in_room(&error.to_string(), room_id.as_deref())),
            }
        }
        if rows.is_empty() {
            break;
        }
        look_into(moment, &bodies, &mut unreadable, &mut without).await?;
        progress.add(rows.len());
    }
    Ok(Findings::of([unreadable, without]))
}

/// A snapshot with its room, by number and by id.
type Body = (SnapshotNo, RoomNo, Option<String>, Nodes);

async fn look_into(
    moment: &mut Moment,
    bodies: &[Body],
    unreadable: &mut Tally,
    without: &mut Tally,
) -> Result<()> {
    let events = bodies.iter().flat_map(|(_, room, _, nodes)| {
        let leaves = nodes.leaves();
        leaves.map(|(_, event)| (*room, event))
    });
    let missing = missing(moment, &events.collect::<BTreeSet<_>>()).await?;
    for (room, event) in missing {
        let of = bodies.iter().find(|(_, of, ..)| *of == room);
        let room_id = of.and_then(|(_, _, room_id, _)| room_id.as_deref());
        without.add(|| in_room(&format!("event number {event}"), room_id));
    }
    let shared = bodies
        .iter()
        .flat_map(|(no, _, _, nodes)| nodes.refers_to(*no));
    let shared: BTreeSet<SnapshotNo> = shared.collect();
    let mut there = BTreeSet::new();
    let shared: Vec<_> = shared.into_iter().collect();
    for piece in shared.chunks(PIECE) {
        let query = moment.sql(NUMBERS).numbers(piece.iter().copied());
        for row in moment.rows(query).await? {
            there.insert(row.get::<SnapshotNo>("no")?);
        }
    }
    for (no, _, room_id, nodes) in bodies {
        if let Some(gone) = nodes.refers_to(*no).difference(&there).next() {
            let what = format!("state snapshot {no} shares nodes with {gone}, which is gone");
            unreadable.add(|| in_room(&what, room_id.as_deref()));
        }
    }
    Ok(())
}

fn in_room(what: &str, room_id: Option<&str>) -> String {
    format!("{what}, in {}", room_id.unwrap_or("an unknown room"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_counted() {
        let state = |entries: &[(i64, i64)]| -> State {
            let entries = entries.iter();
            entries
                .map(|(key, no)| (KeyNo(*key), EventNo(*no)))
                .collect()
        };
        let one = state(&[(1, 1), (2, 2), (3, 3)]);
        let other = state(&[(1, 1), (2, 9), (4, 4)]);
        assert_eq!(difference(&one, &other), "3 entries of 3");
    }
}
