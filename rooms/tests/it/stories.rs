//! Random stories of three servers.

pub mod chance;
mod lies;
mod textbook;

use std::collections::BTreeSet;

use rhizome_inspect as inspect;
use rhizome_protocol::RoomRules;
use rhizome_rooms::{
    Error, Rooms,
    receive::{self, Gathered, Received},
    send::{self, SendOptions},
};
use rhizome_storage::{Placement, Status};
use ruma::{EventId, OwnedEventId, OwnedRoomId};

use crate::rig::*;
use chance::{Dice, act, forge};
use textbook::{by_the_textbook, state_map};

/// Carries an event and, first, whatever it needs. A server that is out of the room hears nothing.
pub async fn carry_all(from: &Rooms, to: &Rooms, id: &EventId) {
    let mut stack = vec![id.to_owned()];
    while let Some(id) = stack.pop() {
        let pdu = pdu(from, &id).await;
        let outcome = match receive::receive(to, pdu.clone(), &Gathered::default()).await {
            Ok(outcome) => outcome,
            Err(Error::UnknownRoom(_)) => return,
            Err(error) => panic!("{error}"),
        };
        if let Received::Need(need) = outcome {
            stack.push(id);
            if need.prev.is_empty() {
                let chain = from.store().auth_chain(&[pdu.event_id().to_owned()]).await;
                let chain = from.store().events(&chain.unwrap()).await.unwrap();
                let chain = chain.iter().map(|event| event.pdu.clone()).collect();
                receive::outliers(to, pdu.room_id(), chain).await.unwrap();
            }
            stack.extend(need.prev);
        }
    }
}

/// A room on three servers, and what is under way between them.
struct Story<'a> {
    servers: &'a [Rooms; 3],
    room: OwnedRoomId,
    rules: &'static RoomRules,
    dice: Dice,
    /// (from, to, event)
    under_way: Vec<(usize, usize, OwnedEventId)>,
    all: BTreeSet<OwnedEventId>,
    /// Whether the third server is lied to.
    mean: bool,
    /// How often it was told a state, and got history.
    told: usize,
    pages: usize,
    /// How many of the events that came to it found one that follows them.
    late: usize,
    name: String,
}

const USERS: [&[&str]; 3] = [
    &["@alice:one", "@dave:one"],
    &["@bob:two", "@erin:two"],
    &["@carol:three"],
];

impl<'a> Story<'a> {
    async fn begin(servers: &'a [Rooms; 3], version: &str, seed: u64, mean: bool) -> Self {
        let [one, two, three] = servers;
        let room = public_room_of(one, "@alice:one", version).await;
        let mut levels = content(one, &room, "m.room.power_levels", "")
            .await
            .unwrap();
        levels["users"]["@bob:two"] = 100.into();
        levels["users"]["@carol:three"] = 60.into();
        set(one, &room, "@alice:one", "m.room.power_levels", "", levels).await;
        join_via(one, two, &room, "@bob:two").await.unwrap();
        let carol = join_via(one, three, &room, "@carol:three").await.unwrap();
        carry_all(one, two, &carol).await;
        let rules = RoomRules::named(version).unwrap();
        Self {
            servers,
            room,
            rules,
            dice: Dice(seed),
            under_way: Vec::new(),
            all: BTreeSet::new(),
            mean,
            told: 0,
            pages: 0,
            late: 0,
            name: format!("version {version}, seed {seed}"),
        }
    }

    async fn act(&mut self) {
        let server = self.dice.roll(3);
        let rooms = &self.servers[server];
        let users = USERS[server];
        let who = users[self.dice.roll(users.len())];
        let done = if self.dice.roll(6) == 0 {
            forge(rooms, &self.room, who, &self.all, &mut self.dice).await
        } else {
            let targets = (!self.mean).then_some(&self.all);
            act(rooms, &self.room, who, targets, &mut self.dice).await
        };
        if let Some(id) = done {
            self.all.insert(id.clone());
            for to in (0..3).filter(|to| *to != server) {
                self.under_way.push((server, to, id.clone()));
            }
        }
    }

    /// Some event that is under way arrives, perhaps to come once more.
    async fn arrive(&mut self, once_more: bool) {
        let mut at = self.dice.roll(self.under_way.len());
        let newest = self.under_way.iter().rposition(|(_, to, _)| *to == 2);
        if let Some(newest) = newest.filter(|_| self.mean && self.dice.roll(4) > 0) {
            // Most likely it follows something that is still under way.
            at = newest;
        }
        let (from, to, id) = self.under_way.swap_remove(at);
        let how = self.dice.roll(5);
        match (self.mean && to == 2, how) {
            (true, 0 | 1) => self.arrive_at_a_gap(from, &id).await,
            (true, 2 | 3) => self.arrive_as_history(from, &id).await,
            (true, _) => self.carry_checked(from, &id).await,
            (false, _) => carry_all(&self.servers[from], &self.servers[to], &id).await,
        }
        if once_more && self.dice.roll(4) == 0 {
            self.under_way.push((from, to, id));
        }
    }

    async fn tell(&mut self) {
        for _ in 0..24 {
            self.act().await;
            while !self.under_way.is_empty() && self.dice.roll(3) == 0 {
                self.arrive(true).await;
            }
        }
        while !self.under_way.is_empty() {
            self.arrive(false).await;
        }
        // Whoever still may speaks once, the creator last.
        for (server, who) in [(2, "@carol:three"), (1, "@bob:two"), (0, "@alice:one")] {
            let draft = message(&self.room, who, "the end");
            let from = &self.servers[server];
            if let Ok(sent) = send::send(from, draft, SendOptions::default()).await {
                for to in (0..3).filter(|to| *to != server) {
                    carry_all(from, &self.servers[to], &sent.event_id).await;
                }
                self.all.insert(sent.event_id);
            }
        }
    }

    /// Every event that two servers hold has the same state before it and the same outcome, as the textbook
    /// says, unless one of them is lied to. What each has stored is what its events make.
    /// Gives how many of the events follow more than one.
    async fn check(&self) -> usize {
        let honest = if self.mean { 2 } else { 3 };
        let (mut compared, mut resolved) = (0, 0);
        for id in &self.all {
            let mut seen = Vec::new();
            for server in &self.servers[..honest] {
                // One that was out of the room didn't hear everything.
                let Some(event) = server.store().event(id).await.unwrap() else {
                    continue;
                };
                if event.placement != Placement::Outlier {
                    let rejected = event.status == Status::Rejected;
                    let before = state_map(server, event.state_before).await;
                    if let Some(textbook) = by_the_textbook(server, &event).await {
                        assert_eq!(before, textbook, "{}, {id}", self.name);
                        resolved += usize::from(event.pdu.prev_events().len() > 1);
                    }
                    seen.push((rejected, before));
                }
            }
            for pair in seen.windows(2) {
                compared += 1;
                assert_eq!(pair[0], pair[1], "{}, {id}", self.name);
            }
        }
        assert!(
            compared > self.all.len() / 2 || self.mean,
            "the story fell apart"
        );
        for server in self.servers {
            let head = inspect::find(server.store(), self.room.as_str())
                .await
                .unwrap();
            let done = inspect::recompute(server.store(), &head, |_| {})
                .await
                .unwrap();
            assert_eq!(done.disagreement, None, "{}", self.name);
        }
        resolved
    }
}

fn stories(few: u64) -> u64 {
    let asked = std::env::var("RHIZOME_TEST_STORIES").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(few)
}

#[tokio::test]
async fn servers_converge_whatever_the_order() {
    each(|servers: [_; 3]| async move {
        let (stories, mut resolved) = (stories(12), 0);
        for seed in 0..stories {
            let version = VERSIONS[usize::try_from(seed % 12).unwrap()];
            let mut story = Story::begin(&servers, version, seed, false).await;
            story.tell().await;
            resolved += story.check().await as u64;
        }
        assert!(
            resolved > 5 * stories,
            "the stories have few forks: {resolved}"
        );
    })
    .await;
}

#[tokio::test]
async fn whatever_is_told_at_gaps_nothing_known_is_lost() {
    each(|servers: [_; 3]| async move {
        let (stories, mut told, mut pages, mut late) = (stories(12), 0, 0, 0);
        for seed in 0..stories {
            let version = VERSIONS[usize::try_from(seed % 12).unwrap()];
            let mut story = Story::begin(&servers, version, 1_000 + seed, true).await;
            story.tell().await;
            story.check().await;
            told += story.told as u64;
            pages += story.pages as u64;
            late += story.late as u64;
        }
        assert!(
            told > stories / 2 && pages > stories / 12 && late > stories / 6,
            "the stories have few gaps: {told} states, {pages} pages, {late} came late"
        );
    })
    .await;
}
