//! What it costs to resolve a fork in rooms of different sizes, beside ruma-state-res on the same input.
//!
//! `cargo bench -p rhizome-rooms --bench resolve`; the sizes are `RHIZOME_BENCH_MEMBERS` (comma-separated;
//! else 1,000, 10,000 and 100,000).
//!
//! The room is a public one, created and joined by as many users. In both of the states that meet, half of
//! the differing entries are newer memberships (a new display name). `levels`: in one of them the power
//! levels were changed too, and the memberships there rest on the new ones.
//!
//! Ours reads a warm store; ruma's library is given maps, auth chains and events ready-made, and none of
//! that is counted.
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

#[path = "../tests/it/rig.rs"]
mod rig;
#[path = "../../protocol/tests/it/ruma_event.rs"]
mod ruma_event;
#[path = "resolve/ruma.rs"]
mod ruma_input;

use std::{collections::HashMap, hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rhizome_protocol::{Pdu, draft::Draft};
use rhizome_rooms::{Rooms, state};
use rhizome_storage::{
    EventNo, NewEvent, RoomHead, RoomWrite, SnapshotNo, WriteSet, testing::TestDatabase,
};
use ruma::OwnedRoomId;
use serde_json::json;

const ALICE: &str = "@alice:one";
const BATCH: usize = 500;

/// A room with its members, and its state.
struct Hall {
    rooms: Rooms,
    room_id: OwnedRoomId,
    head: Arc<RoomHead>,
    /// Power levels, join rules, and the create event where it is an auth event.
    allows: Vec<Arc<Pdu>>,
    joins: Vec<Arc<Pdu>>,
    events: HashMap<EventNo, Arc<Pdu>>,
    state: SnapshotNo,
    /// Forks so far: each has a time of its own, so that no event is like another.
    forks: i64,
}

impl Hall {
    async fn build(rooms: Rooms, version: &str, members: usize) -> Self {
        let room_id = rig::public_room_of(&rooms, ALICE, version).await;
        let head = rooms.store().room(&room_id).await.unwrap().unwrap();
        let join = member(&room_id, 0, "first");
        let allows = rig::auth_of(&rooms, &room_id, &join).await;
        let snapshot = head.snapshot.unwrap();
        let all = rooms.store().state_all(snapshot).await.unwrap();
        let nos: Vec<EventNo> = all.into_iter().map(|(_, event)| event).collect();
        let mut hall = Self {
            room_id,
            allows,
            joins: Vec::new(),
            events: HashMap::new(),
            state: snapshot,
            forks: 1,
            head,
            rooms,
        };
        for event in hall.rooms.store().events_by_no(&nos).await.unwrap() {
            hall.events.insert(event.no, event.pdu.clone());
        }
        hall.joins = (0..members)
            .map(|n| {
                let draft = member(&hall.room_id, n, "first");
                rig::forged(&hall.rooms, &draft, &hall.allows[..1], &hall.allows, 1)
            })
            .collect();
        let joins = hall.joins.clone();
        hall.state = hall.follow(&joins).await;
        hall
    }

    /// The state with these events upon it; they are stored.
    async fn follow(&mut self, pdus: &[Arc<Pdu>]) -> SnapshotNo {
        let store = self.rooms.store().clone();
        let mut changes = Vec::new();
        let mut events = Vec::new();
        for pdu in pdus {
            let no = store.next_event_no().await.unwrap();
            let key = store
                .key_no(pdu.kind(), pdu.state_key().unwrap())
                .await
                .unwrap();
            changes.push((key, Some(no)));
            self.events.insert(no, pdu.clone());
            events.push(NewEvent::outlier(no, pdu.clone()));
        }
        let snapshot = store
            .derive_snapshot(self.head.room, Some(self.state), &changes)
            .await
            .unwrap();
        let no = snapshot.no();
        let mut snapshots = vec![snapshot];
        for batch in events.chunks(BATCH) {
            let write = RoomWrite {
                room: self.head.room,
                events: batch.to_vec(),
                snapshots: std::mem::take(&mut snapshots),
                ..RoomWrite::default()
            };
            let set = WriteSet::from(write);
            store.commit(set).await.unwrap();
        }
        no
    }

    /// Two states that differ in so many entries.
    async fn fork(&mut self, differing: usize, levels: bool) -> [SnapshotNo; 2] {
        let mut states = Vec::new();
        self.forks += 1;
        for side in 0..2 {
            let mut changes = Vec::new();
            let mut allows = self.allows.clone();
            if levels && side == 1 {
                let changed = self.new_levels().await;
                let index = allows.iter().position(|pdu| pdu.kind() == changed.kind());
                allows[index.unwrap()] = changed.clone();
                changes.push(changed);
            }
            for n in (side..differing - usize::from(levels)).step_by(2) {
                let draft = member(&self.room_id, n, ["one", "two"][side]);
                let mut auth = allows.clone();
                auth.push(self.joins[n].clone());
                changes.push(rig::forged(
                    &self.rooms,
                    &draft,
                    &self.allows[..1],
                    &auth,
                    self.forks,
                ));
            }
            states.push(self.follow(&changes).await);
        }
        states.try_into().unwrap()
    }

    async fn new_levels(&self) -> Arc<Pdu> {
        let old = self
            .allows
            .iter()
            .find(|pdu| pdu.kind() == "m.room.power_levels")
            .unwrap();
        let mut content = old.content().clone();
        content["users"]["@user0:one"] = 50.into();
        let draft = Draft {
            kind: "m.room.power_levels".into(),
            state_key: Some(String::new()),
            content,
            ..rig::message(&self.room_id, ALICE, "")
        };
        let auth = rig::auth_of(&self.rooms, &self.room_id, &draft).await;
        rig::forged(&self.rooms, &draft, &self.allows[..1], &auth, self.forks)
    }
}

fn member(room: &ruma::RoomId, n: usize, name: &str) -> Draft {
    let user = format!("@user{n}:one");
    let content = json!({ "membership": "join", "displayname": format!("{name} {n}") });
    rig::state(room, &user, "m.room.member", &user, content)
}

fn resolve(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let sizes = std::env::var("RHIZOME_BENCH_MEMBERS").unwrap_or("1000,10000,100000".into());
    for version in ["11", "12"] {
        for members in sizes.split(',').map(|size| size.parse().unwrap()) {
            let database = TestDatabase::sqlite();
            let store = runtime.block_on(database.open());
            let rooms = rig::server(store.clone(), 0);
            let mut hall = runtime.block_on(Hall::build(rooms, version, members));
            let mut group =
                criterion.benchmark_group(format!("version {version}, {members} members"));
            group
                .sample_size(10)
                .warm_up_time(Duration::from_millis(500))
                .measurement_time(Duration::from_secs(2));
            for (differing, levels) in [(10, false), (100, false), (1000, false), (10, true)] {
                if differing > members {
                    continue;
                }
                let forks = runtime.block_on(hall.fork(differing, levels));
                let name = format!("{differing}{}", if levels { " with levels" } else { "" });
                let ours = runtime
                    .block_on(state::resolution(&hall.rooms, &hall.head, &forks))
                    .unwrap();
                let before = store.counters().now().queries;
                black_box(
                    runtime
                        .block_on(state::resolution(&hall.rooms, &hall.head, &forks))
                        .unwrap(),
                );
                let queries = store.counters().now().queries - before;
                println!(
                    "version {version}, {members} members/{name}: {queries} statements when warm"
                );
                group.bench_function(format!("{name}, rhizome"), |b| {
                    b.iter(|| {
                        let done = state::resolution(&hall.rooms, &hall.head, black_box(&forks));
                        runtime.block_on(done).unwrap()
                    });
                });
                let input = runtime.block_on(ruma_input::Input::of(&hall, &forks));
                let theirs = input.resolve(input.chains());
                runtime.block_on(input.must_agree(&hall, &forks, &ours, theirs));
                group.bench_function(format!("{name}, ruma-state-res"), |b| {
                    b.iter_batched(
                        || input.chains(),
                        |chains| input.resolve(chains),
                        BatchSize::PerIteration,
                    );
                });
            }
            group.finish();
            runtime.block_on(async {
                store.close().await;
                database.remove().await;
            });
        }
    }
}

criterion_group!(benches, resolve);
criterion_main!(benches);
