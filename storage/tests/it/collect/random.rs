//! Random stories of rooms and passes, beside a model.

use std::collections::{BTreeMap, BTreeSet};

use rhizome_storage::testing::forget_snapshots;
use rhizome_storage::{CommitError, EventNo, KeyNo, NewSnapshot, SnapshotNo, Store};

use crate::factory::Room;

use super::{HOUR, each, pass, refer_to, store_alone};

/// A small generator, so that a failing story can be told again by its number.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

type Map = BTreeMap<KeyNo, EventNo>;

/// What there should be.
#[derive(Default)]
struct Model {
    /// Every snapshot that was ever stored, with its content.
    states: BTreeMap<SnapshotNo, Map>,
    /// Those that events refer to.
    referred: BTreeSet<SnapshotNo>,
    /// Derived and held, not stored yet.
    held: Vec<(NewSnapshot, Map)>,
}

impl Model {
    /// Every state that somebody refers to reads as it should.
    async fn check(&self, store: &Store, story: &str) {
        forget_snapshots(store);
        for at in &self.referred {
            let read = store.state_all(*at).await;
            let read: Map = read
                .unwrap_or_else(|error| panic!("{story}: {error}"))
                .into_iter()
                .collect();
            assert_eq!(read, self.states[at], "{story}");
        }
    }
}

/// Derivations, references, held decisions and passes in random order.
async fn random_story(store: &Store, room: &Room, seed: u64) -> u64 {
    let mut dice = Dice(seed);
    let mut model = Model::default();
    let (mut deleted, mut refused) = (0, 0);
    for step in 0..120 {
        let story = format!("seed {seed}, step {step}");
        match dice.roll(6) {
            0 | 1 => {
                let known: Vec<SnapshotNo> = model.states.keys().copied().collect();
                let parent = (!known.is_empty() && dice.roll(5) > 0)
                    .then(|| known[known.len() - 1 - dice.roll(known.len().min(8))]);
                let mut map = parent
                    .map(|at| model.states[&at].clone())
                    .unwrap_or_default();
                let mut changes = Vec::new();
                for _ in 0..=dice.roll(30) {
                    let key = KeyNo(i64::try_from(dice.roll(90)).unwrap() + 1_000);
                    let event = (dice.roll(5) > 0).then_some(EventNo(step * 100 + 10_000));
                    match event {
                        Some(event) => map.insert(key, event),
                        None => map.remove(&key),
                    };
                    changes.push((key, event));
                }
                // The parent may be gone: then nobody can build on it any more.
                let derived = store.derive_snapshot(room.no, parent, &changes).await;
                if let Ok(new) = derived {
                    model.held.push((new, map));
                }
            }
            2 | 3 if !model.held.is_empty() => {
                let at = dice.roll(model.held.len());
                let (new, map) = model.held.swap_remove(at);
                let no = new.no();
                let refers = dice.roll(2) == 0;
                let outcome = if refers {
                    refer_to(room, no, vec![new], &story).await
                } else {
                    store_alone(room, vec![new]).await
                };
                match outcome {
                    Ok(()) => {
                        model.states.insert(no, map);
                        if refers {
                            model.referred.insert(no);
                        }
                    }
                    Err(CommitError::SnapshotGone { .. }) => refused += 1,
                    Err(error) => panic!("{story}: {error}"),
                }
            }
            4 if !model.states.is_empty() => {
                let known: Vec<SnapshotNo> = model.states.keys().copied().collect();
                let at = known[dice.roll(known.len())];
                match refer_to(room, at, Vec::new(), &story).await {
                    Ok(()) => drop(model.referred.insert(at)),
                    Err(CommitError::SnapshotGone { .. }) => {
                        assert!(!model.referred.contains(&at), "{story}");
                        refused += 1;
                    }
                    Err(error) => panic!("{story}: {error}"),
                }
            }
            5 => {
                deleted += pass(store).await.deleted;
                store.clock().advance(HOUR / 2);
                model.check(store, &story).await;
            }
            _ => {}
        }
    }
    println!("seed {seed}: {deleted} deleted, {refused} refused");
    deleted + refused
}

#[tokio::test]
async fn whatever_happens_nothing_that_is_referred_to_is_lost() {
    let stories = std::env::var("RHIZOME_TEST_STORIES").map_or(8, |n| n.parse().unwrap());
    for story in 0..stories {
        each(|store, room| async move {
            random_story(&store, &room, story).await;
            // Without a pass that deletes, the story proves nothing.
            assert!(store.counters().now().collected > 0, "seed {story}");
        })
        .await;
    }
}
