//! Destinations come, answer, hang, fail and come back as they like: nobody is forgotten, worked on twice, or held up by those of
//! another share.

use proptest::prelude::*;

use super::*;

const MOST: Each<usize> = Each {
    healthy: 3,
    doubtful: 2,
    failed: 1,
};
const BACK_OFF: i64 = 50;

/// What happens to the destination with a number.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The log has something for it.
    News(usize),
    /// Whoever is due gets a worker.
    Due,
    /// Its answer is still awaited after a while.
    Hangs(usize),
    /// It has answered a transaction, and all is there or not.
    Answers(usize, bool),
    Fails(usize),
    /// It sends us something.
    Seen(usize),
    /// Time passes.
    Passes(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..12_usize;
    prop_oneof![
        3 => who.clone().prop_map(Step::News),
        4 => Just(Step::Due),
        1 => who.clone().prop_map(Step::Hangs),
        3 => (who.clone(), any::<bool>()).prop_map(|(who, all)| Step::Answers(who, all)),
        2 => who.clone().prop_map(Step::Fails),
        1 => who.prop_map(Step::Seen),
        2 => (1..80_i64).prop_map(Step::Passes),
    ]
}

struct World {
    sender: Sender,
    clock: Clock,
    names: Vec<OwnedServerName>,
    /// What is written down of each.
    stored: BTreeMap<OwnedServerName, DestinationState>,
    /// Who has a worker, and whether its answer is being waited for for long.
    running: BTreeMap<OwnedServerName, bool>,
}

impl World {
    fn new() -> Self {
        let clock = Clock::manual(1_000_000);
        let names = (0..12).map(|n| format!("s{n}.example").try_into().unwrap());
        let names: Vec<OwnedServerName> = names.collect();
        // A third has been reached before this process began, a third failed then.
        let state = |n: usize| DestinationState {
            sent: Pos(if n.is_multiple_of(3) { 5 } else { 0 }),
            failures: u32::from(n % 3 == 1),
            ..DestinationState::default()
        };
        let stored = names.iter().enumerate();
        let stored = stored.map(|(n, name)| (name.clone(), state(n))).collect();
        Self {
            sender: Sender::new(clock.clone()),
            clock,
            names,
            stored,
            running: BTreeMap::new(),
        }
    }

    /// As `deliver::begin`.
    fn due(&mut self) {
        let (due, _) = self.sender.due(self.clock.now_ms(), MOST);
        for (name, share) in due {
            assert!(
                !self.running.contains_key(&name),
                "{name} is worked on twice"
            );
            if self.sender.stand(&name).is_none() {
                let stand = self.stored[&name];
                self.sender.state().queues.get_mut(&name).unwrap().stand = Some(stand);
                if stand.failures == 0 && stand.sent > Pos(0) {
                    self.sender.was_reached(&name);
                }
            }
            if self.sender.share(&name) == share {
                self.running.insert(name, false);
            } else {
                self.sender.ended(&name);
            }
        }
    }

    fn end(&mut self, name: &OwnedServerName, stand: DestinationState) {
        self.stored.insert(name.clone(), stand);
        self.running.remove(name);
        self.sender.ended(name);
    }

    fn answers(&mut self, name: &OwnedServerName, all: bool) {
        let Some(hung) = self.running.get(name).copied() else {
            return;
        };
        let stand = DestinationState {
            sent: Pos(9),
            ..DestinationState::default()
        };
        if !hung {
            self.sender.was_quick(name);
        }
        self.sender.note(name, stand, stand);
        if all {
            self.sender.state().queues.get_mut(name).unwrap().log = false;
        }
        if all || !self.sender.goes_on(name) {
            self.end(name, stand);
        } else {
            self.running.insert(name.clone(), false);
        }
    }

    fn hangs(&mut self, name: &OwnedServerName) {
        let Some(hangs) = self.running.get_mut(name) else {
            return;
        };
        *hangs = true;
        if !self.sender.is_slow(name) {
            self.sender.look_again(name, Beside::default());
            let stand = self.stored[name];
            self.end(name, stand);
        }
    }

    fn fails(&mut self, name: &OwnedServerName) {
        if self.running.contains_key(name) {
            let stand = DestinationState {
                failures: 1,
                retry_at: self.clock.now_ms() + BACK_OFF,
                ..self.stored[name]
            };
            self.sender.note(name, stand, stand);
            self.end(name, stand);
        }
    }

    fn run(&mut self, step: Step) {
        let name = |who: usize| self.names[who].clone();
        match step {
            Step::News(who) => {
                let name = name(who);
                self.sender.looked_at(Pos(10), [(&name, Beside::NOTHING)]);
            }
            Step::Due => self.due(),
            Step::Hangs(who) => {
                let name = name(who);
                self.hangs(&name);
            }
            Step::Answers(who, all) => {
                let name = name(who);
                self.answers(&name, all);
            }
            Step::Fails(who) => {
                let name = name(who);
                self.fails(&name);
            }
            Step::Seen(who) => self.sender.seen(&self.names[who]),
            Step::Passes(ms) => {
                let ms = u64::try_from(ms).unwrap();
                self.clock.advance(std::time::Duration::from_millis(ms));
            }
        }
    }

    /// What must be so at any time.
    fn check(&self) {
        let state = self.sender.state();
        let mut busy = Each::<usize>::default();
        for (name, queue) in &state.queues {
            match queue.place {
                Place::Running(share) => {
                    *busy.of_mut(share) += 1;
                    assert!(self.running.contains_key(name), "{name}");
                }
                Place::Idle => assert!(!queue.has_work(), "{name} is forgotten"),
                Place::Ready => assert!(
                    Share::ALL
                        .iter()
                        .any(|share| state.ready.of(*share).contains(name)),
                    "{name} waits for nothing"
                ),
                Place::Later(at) => assert!(state.later.contains(&(at, name.clone())), "{name}"),
            }
        }
        assert_eq!(busy, state.busy);
        assert_eq!(
            busy.healthy + busy.doubtful + busy.failed,
            self.running.len()
        );
        for share in Share::ALL {
            assert!(busy.of(share) <= MOST.of(share), "{share:?}");
        }
    }

    /// Whoever is ready has a worker as far as their own share has any.
    fn check_due(&self) {
        let state = self.sender.state();
        for share in Share::ALL {
            let ready = state.ready.of(share).iter();
            let waits = ready
                .filter(|name| state.queues[*name].place == Place::Ready)
                .count();
            let full = state.busy.of(share) == MOST.of(share);
            assert!(waits == 0 || full, "{share:?} waits for another");
        }
    }
}

proptest! {
    #[test]
    fn nobody_is_forgotten_or_held_up_by_another_share(
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.check();
            if matches!(step, Step::Due) {
                // Those of whom it had to be looked up which they are stand in their own line now.
                for _ in 0..world.names.len() * 2 {
                    world.due();
                }
                world.check();
                world.check_due();
            }
        }
        // Once all of them answer, all have what there was.
        for _ in 0..world.names.len() * 3 {
            world.clock.advance(std::time::Duration::from_secs(1));
            world.due();
            for name in world.names.clone() {
                world.answers(&name, true);
            }
            world.check();
        }
        let state = world.sender.state();
        prop_assert!(state.queues.values().all(|queue| queue.place == Place::Idle));
    }
}
