//! What servers know of a room, and whether they agree on it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rhizome_protocol::Membership;
use rhizome_storage::{Direction, EventNo, HistoryToken, Placement, Status, Store, StoredEvent};
use ruma::{OwnedEventId, OwnedRoomId};

use crate::view::State;

/// More events than a story has.
const ALL: usize = 10_000;

/// What a server knows of a room.
#[derive(Debug, Default)]
pub struct Look {
    pub server: String,
    state: State,
    /// Who is in it by that state, …
    pub joined: BTreeSet<String>,
    /// … and by what is written down of members.
    members: BTreeSet<String>,
    history: BTreeMap<OwnedEventId, Known>,
    /// What else is stored of what that follows, and what became of it.
    beside: BTreeMap<OwnedEventId, (Known, Status)>,
}

/// What counts of an event.
#[derive(Debug, Clone, Default)]
struct Known {
    prevs: Vec<OwnedEventId>,
    /// Who comes in by it.
    comes: Option<String>,
    redacted_by: Option<OwnedEventId>,
}

impl Known {
    fn of(event: &StoredEvent) -> Self {
        let pdu = &event.pdu;
        let is_join = pdu.kind() == "m.room.member" && pdu.membership() == Some(Membership::Join);
        Self {
            prevs: pdu.prev_events().to_vec(),
            comes: pdu.state_key().filter(|_| is_join).map(ToOwned::to_owned),
            redacted_by: None,
        }
    }
}

/// Looks at a room as a server has it.
pub async fn look(server: String, store: Store, room: OwnedRoomId) -> Look {
    let mut look = Look {
        server,
        ..Look::default()
    };
    let Some(head) = store.room(&room).await.unwrap() else {
        return look;
    };
    let Some(snapshot) = head.snapshot else {
        return look;
    };
    let entries = store.state_all(snapshot).await.unwrap();
    let nos: Vec<EventNo> = entries.iter().map(|(_, event)| *event).collect();
    for event in store.events_by_no(&nos).await.unwrap() {
        let (id, key) = (event.pdu.event_id(), event.pdu.state_key());
        let key = (
            event.pdu.kind().to_owned(),
            key.unwrap_or_default().to_owned(),
        );
        look.joined.extend(Known::of(&event).comes);
        look.state.insert(key, id.to_string());
    }
    let joined = Some(Membership::Join);
    for member in store.members(head.room, joined).await.unwrap() {
        let user = store.user(member.user).await.unwrap();
        look.members.insert(user.to_string());
    }
    let (start, upto) = (HistoryToken::START, store.log().head());
    let history = store.history(head.room, start, Direction::Forward, ALL, upto);
    let history = history.await.unwrap();
    let by: Vec<EventNo> = history.iter().filter_map(|one| one.redacted_by).collect();
    let by = store.events_by_no(&by).await.unwrap();
    let by: HashMap<EventNo, OwnedEventId> = (by.iter())
        .map(|one| (one.no, one.pdu.event_id().to_owned()))
        .collect();
    for event in &history {
        let known = Known {
            redacted_by: event.redacted_by.and_then(|no| by.get(&no).cloned()),
            ..Known::of(event)
        };
        let id = event.pdu.event_id().to_owned();
        look.history.insert(id, known);
    }
    look.looks_beside(&store).await;
    look
}

impl Look {
    /// Finds what is stored, though not shown, of what the history follows.
    async fn looks_beside(&mut self, store: &Store) {
        let mut asked: BTreeSet<OwnedEventId> = BTreeSet::new();
        loop {
            let known = self.history.values();
            let known = known.chain(self.beside.values().map(|(known, _)| known));
            let unknown: BTreeSet<OwnedEventId> = known
                .flat_map(|known| &known.prevs)
                .filter(|id| !self.history.contains_key(*id) && !asked.contains(*id))
                .cloned()
                .collect();
            if unknown.is_empty() {
                return;
            }
            let unknown: Vec<OwnedEventId> = unknown.into_iter().collect();
            for event in store.events(&unknown).await.unwrap() {
                let status = match event.placement {
                    Placement::Outlier => Status::Rejected,
                    _ => event.status,
                };
                let id = event.pdu.event_id().to_owned();
                self.beside.insert(id, (Known::of(&event), status));
            }
            asked.extend(unknown);
        }
    }

    /// What the history lacks of what is before the joins by which the server came in, or before what it has got of that by the
    /// way. Where others of its people joined before, that is another join's part.
    fn holes_before_it_came(&self) -> Vec<&OwnedEventId> {
        let is_own = |known: &Known| {
            let comes = known.comes.as_deref();
            comes.is_some_and(|user| server_of(user) == self.server)
        };
        let joins = self.history.values().filter(|known| is_own(known));
        let mut walk: Vec<&OwnedEventId> = joins.flat_map(|known| &known.prevs).collect();
        let (mut seen, mut holes) = (BTreeSet::new(), Vec::new());
        while let Some(id) = walk.pop() {
            if !seen.insert(id) {
                continue;
            }
            match self.history.get(id) {
                None => holes.push(id),
                Some(known) if is_own(known) => {}
                Some(known) => walk.extend(&known.prevs),
            }
        }
        holes
    }

    /// Whether somebody of a server is in the room.
    fn counts(&self, server: &str) -> bool {
        self.joined.iter().any(|user| server_of(user) == server)
    }
}

fn server_of(user: &str) -> &str {
    user.split_once(':').map_or("", |(_, server)| server)
}

/// Those of the looks whose servers have to agree: they are in the room, and another that is in it knows that. Whom the
/// others have put out can't always be told: nobody answers them any more.
pub fn together(looks: &[Look]) -> Vec<&Look> {
    let inside = || looks.iter().filter(|look| look.counts(&look.server));
    let is_known = |look: &&Look| {
        let mut others = inside().filter(|other| other.server != look.server);
        inside().count() == 1 || others.any(|other| other.counts(&look.server))
    };
    inside().filter(is_known).collect()
}

/// In what these servers don't agree. `all`: what everybody knows.
pub fn disagreements(together: &[&Look], all: &[Look]) -> Vec<String> {
    let mut wrong = Vec::new();
    for look in together {
        let server = &look.server;
        if look.joined != look.members {
            let (joined, members) = (&look.joined, &look.members);
            wrong.push(format!(
                "{server}: members {members:?}, by the state {joined:?}"
            ));
        }
        for other in together {
            wrong.extend(differs(look, other));
            wrong.extend(redacts_less(look, other));
        }
        wrong.extend(lacks(look, together, all));
    }
    wrong
}

/// Where the state is another.
fn differs<'a>(one: &'a Look, other: &'a Look) -> impl Iterator<Item = String> + 'a {
    let entries = one.state.iter();
    let differing = entries.filter(move |(key, id)| other.state.get(*key) != Some(*id));
    differing.map(move |(key, id)| {
        let (name, there) = (&one.server, other.state.get(key));
        format!(
            "state {key:?}: {id} at {name}, {there:?} at {}",
            other.server
        )
    })
}

/// What the other has redacted by an event that both have.
fn redacts_less<'a>(one: &'a Look, other: &'a Look) -> impl Iterator<Item = String> + 'a {
    other.history.iter().filter_map(move |(id, known)| {
        let by = known.redacted_by.as_ref()?;
        let own = one.history.get(id)?;
        let lacks = own.redacted_by.is_none() && one.history.contains_key(by);
        lacks.then(|| format!("{} hasn't redacted {id} by {by}", one.server))
    })
}

/// What a server should have of the others' history, and hasn't. What came before it came in is fetched when somebody
/// pages back to it, and what it has soft-failed nobody need see.
fn lacks(look: &Look, together: &[&Look], all: &[Look]) -> Vec<String> {
    let mut follows: BTreeMap<&OwnedEventId, &Known> = BTreeMap::new();
    for one in all {
        follows.extend(one.beside.iter().map(|(id, (known, _))| (id, known)));
        follows.extend(&one.history);
    }
    let server = &look.server;
    let mut walk = look.holes_before_it_came();
    let mut past = BTreeSet::new();
    while let Some(id) = walk.pop() {
        if past.insert(id) {
            walk.extend(follows.get(id).into_iter().flat_map(|known| &known.prevs));
        }
    }
    let mut wrong = Vec::new();
    for other in together {
        let missing = other.history.keys();
        for id in missing.filter(|id| !look.history.contains_key(*id) && !past.contains(*id)) {
            match look.beside.get(id) {
                Some((_, Status::SoftFailed)) => {}
                Some(_) => wrong.push(format!("{server} has {id} without a place")),
                None => wrong.push(format!("{server} lacks {id}, which {} has", other.server)),
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server in whose history each event follows those that are named after it.
    fn of(server: &str, history: &[&[&str]]) -> Look {
        let id = |name: &&str| OwnedEventId::try_from(format!("${name}")).unwrap();
        let users = ["@u:a".to_owned(), "@u:b".to_owned()];
        let history = history.iter().map(|names| {
            let known = Known {
                prevs: names[1..].iter().map(id).collect(),
                comes: names[0].strip_prefix("join").map(|of| format!("@u:{of}")),
                redacted_by: None,
            };
            (id(&names[0]), known)
        });
        Look {
            server: server.to_owned(),
            joined: users.clone().into(),
            members: users.into(),
            history: history.collect(),
            ..Look::default()
        }
    }

    fn wrong(looks: &[Look]) -> Vec<String> {
        disagreements(&together(looks), looks)
    }

    #[test]
    fn who_comes_in_need_not_have_what_was_before() {
        let a = of(
            "a",
            &[&["1"], &["2", "1"], &["joinb", "2"], &["3", "joinb"]],
        );
        let b = of("b", &[&["joinb", "2"], &["3", "joinb"]]);
        assert_eq!(wrong(&[a, b]), [""; 0]);
    }

    #[test]
    fn who_has_got_some_of_what_was_before_need_not_have_all() {
        let after: &[&[&str]] = &[&["2", "1"], &["joinb", "2"], &["3", "joinb"]];
        let a = of("a", &[&[&["0"][..], &["1", "0"]], after].concat());
        assert_eq!(wrong(&[a, of("b", after)]), [""; 0]);
    }

    #[test]
    fn what_came_afterwards_or_beside_is_missed() {
        let a = of(
            "a",
            &[
                &["1"],
                &["fork", "1"],
                &["joinb", "1"],
                &["2", "joinb", "fork"],
            ],
        );
        let b = of("b", &[&["joinb", "1"]]);
        let lacks = |id: &str| format!("b lacks ${id}, which a has");
        assert_eq!(wrong(&[a, b]), [lacks("2"), lacks("fork")]);
    }

    #[test]
    fn another_state_is_noticed_and_who_was_put_out_is_left_alone() {
        let (mut a, b) = (of("a", &[]), of("b", &[]));
        let key = ("m.room.topic".to_owned(), String::new());
        a.state.insert(key, "$topic".to_owned());
        assert_eq!(wrong(&[a, b]).len(), 1);
        let (mut a, b) = (of("a", &[&["1"]]), of("b", &[]));
        a.joined.remove("@u:b");
        a.members.remove("@u:b");
        assert_eq!(wrong(&[a, b]), [""; 0]);
    }
}
