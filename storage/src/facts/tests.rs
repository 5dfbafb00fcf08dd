//! The contract that every kind of fact with positions keeps, on both databases.

use rhizome_protocol::{Membership, RoomRules};
use ruma::{OwnedDeviceId, owned_device_id, room_id, user_id};

use super::invite::{Invite, InviteChange};
use super::*;
use std::time::Duration;

use crate::testing::{TestDatabase, check_commit_plans, soon};
use crate::{EntryKind, NewRoom, Options, Pos, Result, RoomNo, RoomWrite, Store, UserNo, WriteSet};

/// What samples are about.
pub(crate) struct World {
    pub(crate) user: UserNo,
    /// A device of theirs.
    pub(crate) device: OwnedDeviceId,
    /// A room of ours.
    pub(crate) room: RoomNo,
    /// Rooms that this server isn't in: one unknown to the user, one that they have left.
    pub(crate) outside: RoomNo,
    pub(crate) left: RoomNo,
    pub(crate) rules: &'static RoomRules,
}

impl World {
    async fn make(store: &Store) -> Result<Self, Box<dyn std::error::Error>> {
        let rules = RoomRules::named("11").ok_or("there is version 11")?;
        let world = Self {
            user: store.user_no(user_id!("@ada:here")).await?,
            device: owned_device_id!("PHONE"),
            room: store.next_room_no().await?,
            outside: store.room_no(room_id!("!outside:there")).await?,
            left: store.room_no(room_id!("!left:there")).await?,
            rules,
        };
        let write = RoomWrite {
            room: world.room,
            create: Some(NewRoom {
                room_id: room_id!("!ours:here").to_owned(),
                rules,
            }),
            ..RoomWrite::default()
        };
        let came = InviteChange::Came {
            membership: Membership::Invite,
            sender: world.user,
            rules,
            event: "{}".into(),
            stripped_state: "[]".into(),
            expect: None,
        };
        let gone = InviteChange::Gone { event: "{}".into() };
        let invites = [came, gone].map(|change| Invite {
            user: world.user,
            room: world.left,
            change,
        });
        let set = WriteSet {
            rooms: vec![write],
            facts: invites.into_iter().map(Fact::from).collect(),
        };
        store.commit(set).await?;
        // Joined (1), without the event that would say so.
        let joined = store
            .sql(
                "INSERT INTO membership (user_no, room, membership, event, pos, since, forgotten) \
                 VALUES ($1, $2, 1, 1, 1, 1, 0)",
            )
            .bind(world.user)
            .bind(world.room);
        store.execute(joined).await?;
        let device = store
            .sql("INSERT INTO device (user_no, device_id, last_seen_ms) VALUES ($1, $2, 1)")
            .bind(world.user)
            .bind(&world.device);
        store.execute(device).await?;
        store.core.caches.memberships.clear();
        Ok(world)
    }
}

/// What the log says after `after`.
async fn told(store: &Store, after: Pos) -> Vec<(Pos, String)> {
    let head = store.log().head();
    let entries = store.log().read(after, head, 100).await.unwrap();
    let told = entries
        .iter()
        .map(|entry| (entry.pos, format!("{:?}", entry.kind)));
    told.collect()
}

async fn keeps_the_contract<K: LoggedKind>(database: &TestDatabase)
where
    Fact: From<K>,
{
    let name = std::any::type_name::<K>();
    let store = database.open().await;
    let world = World::make(&store).await.unwrap();
    // Another process, which has looked at everything already, and hears when it asks.
    let other = Store::open(Options {
        poll_interval: Some(Duration::from_hours(1)),
        ..database.options()
    });
    let other = other.await.unwrap();
    for warm in [&store, &other] {
        K::view(&world, warm).await.unwrap();
    }
    let start = store.log().head();

    let fact = Fact::from(K::sample(&world));
    let audience = fact.entry(Pos(1)).map(|entry| entry.audience());
    let stranger = store.user_no(user_id!("@eve:here")).await.unwrap();
    let waiting = [world.user, world.user, stranger].map(|user| store.log().interest(user));
    for interest in &waiting {
        interest.follow_profiles();
        interest.listen().await.unwrap();
    }
    let woken = store.counters().now().wake_ups;
    let committed = store.commit(vec![fact].into()).await.unwrap();

    // Wakes exactly its audience: both connections of the user, or nobody.
    let woken = store.counters().now().wake_ups - woken;
    let concerned = audience != Some(Audience::Nobody);
    assert_eq!(woken, if concerned { 2 } else { 0 }, "{name}");
    if concerned {
        soon("the user is woken", waiting[0].changed()).await;
    }

    // Written, and read from the tail and from SQL alike; also after a restart.
    let tail = told(&store, start).await;
    assert_eq!(tail.len(), 1, "{name}: {tail:?}");
    assert_eq!(tail[0].0, committed.last);
    let fresh = database.open().await;
    assert!(fresh.log().tail(start, committed.last).is_none());
    assert_eq!(told(&fresh, start).await, tail, "{name}");
    let entries = fresh.log().read(start, committed.last, 9).await.unwrap();
    assert_eq!(Some(entries[0].kind.audience()), audience, "{name}");
    assert!(!matches!(entries[0].kind, EntryKind::Event(_)));

    // The other process' caches hear of it.
    soon("the other hears", other.log().refresh())
        .await
        .unwrap();
    assert_eq!(told(&other, start).await, tail, "{name}");
    let now = K::view(&world, &store).await.unwrap();
    assert_eq!(K::view(&world, &other).await.unwrap(), now, "{name}");
    assert_eq!(K::view(&world, &fresh).await.unwrap(), now, "{name}");

    // What only tells may go, and nothing that is so goes with it.
    let deleted = store
        .purge_told_upto(committed.last, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(deleted > 0, K::TELLS, "{name}");
    let again = database.open().await;
    assert_eq!(told(&again, start).await.is_empty(), K::TELLS, "{name}");
    assert_eq!(K::view(&world, &again).await.unwrap(), now, "{name}");
    for store in [store, other, fresh, again] {
        store.close().await;
    }
}

#[tokio::test]
async fn every_kind_of_fact_keeps_the_contract() {
    macro_rules! keeps {
        ($kind:ty) => {
            for database in TestDatabase::both().await {
                keeps_the_contract::<$kind>(&database).await;
                database.remove().await;
            }
        };
    }
    each_logged_kind!(keeps);
}

#[tokio::test]
async fn what_facts_ask_for_is_found_by_keys() {
    let database = TestDatabase::postgres().await;
    let store = database.open().await;
    let world = World::make(&store).await.unwrap();
    macro_rules! commit {
        ($kind:ty) => {
            let fact = Fact::from(<$kind as LoggedKind>::sample(&world));
            // Whether it stands after the others or not.
            drop(store.commit(vec![fact].into()).await);
        };
    }
    each_logged_kind!(commit);
    check_commit_plans(&store).await;
    store.close().await;
    database.remove().await;
}
