//! All that can go wrong, one after the other: a service that refuses, hangs, answers late and is killed, and a server that is
//! killed meanwhile, or not. People go on talking all the time, also while nobody tells of it.

use std::sync::Arc;

use rhizome_storage::{ServiceState, testing::eventually};
use tokio::sync::Notify;

use super::{World, bridged, each, irc, later, plain, side::Does};
use crate::harness::User;

/// What a service does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// Answers 500, and then 503.
    Refuses,
    /// Takes a transaction and answers nothing.
    Hangs,
    /// Answers when much else has happened.
    IsLate,
    /// Isn't there.
    IsDead,
    /// Is killed while it works on a transaction.
    Dies,
}

const ALL: [Wrong; 5] = [
    Wrong::Refuses,
    Wrong::Hangs,
    Wrong::IsLate,
    Wrong::IsDead,
    Wrong::Dies,
];

/// What is said in a room.
struct Talk {
    ada: User,
    room: String,
    said: Vec<String>,
}

impl Talk {
    async fn goes_on(&mut self) {
        let text = self.said.len().to_string();
        self.ada.say(&self.room, &text).await;
        self.said.push(text);
    }
}

async fn state(world: &World) -> ServiceState {
    let states = world.server.store.service_states().await.unwrap();
    states.into_iter().find(|one| one.id == "irc").unwrap()
}

/// The first service does something wrong, and gets well again.
async fn goes_wrong(world: &mut World, talk: &mut Talk, wrong: Wrong, server_is_killed: bool) {
    let (before, answers) = (world.irc().came(), Arc::new(Notify::new()));
    match wrong {
        Wrong::Refuses => world.irc().does([500, 503].map(Does::Answers)),
        Wrong::Hangs | Wrong::Dies => world.irc().does([Does::Hangs]),
        Wrong::IsLate => world.irc().does([Does::Waits(answers.clone())]),
        Wrong::IsDead => world.irc().dies().await,
    }
    talk.goes_on().await;
    if wrong == Wrong::IsDead {
        eventually("it was tried", async || state(world).await.failures > 0).await;
    } else {
        world.irc().gets(before + 1).await;
    }
    talk.goes_on().await;
    if wrong == Wrong::Dies {
        world.irc().dies().await;
    }
    if server_is_killed {
        world.crash().await;
        talk.goes_on().await;
        world.restart().await;
        talk.ada = world.again(&talk.ada);
    }
    talk.goes_on().await;
    match wrong {
        Wrong::Refuses => {}
        // Whoever hangs for longer than the server waits is as good as dead.
        Wrong::Hangs if server_is_killed => {}
        Wrong::Hangs => {
            world.irc().dies().await;
            fails(world).await;
            world.irc().rises();
        }
        Wrong::IsLate => answers.notify_one(),
        Wrong::IsDead | Wrong::Dies => {
            fails(world).await;
            world.irc().rises();
        }
    }
    later(world, async || world.irc().said(&talk.room) == talk.said).await;
    eventually("nothing is left", async || {
        let state = state(world).await;
        state.waiting.is_none() && state.failures == 0
    })
    .await;
}

/// Waits until a service that is dead waits for its turn to be tried again.
async fn fails(world: &World) {
    eventually("nobody is there", async || {
        let state = state(world).await;
        state.failures > 0 && state.next_ms > world.clock.now_ms()
    })
    .await;
}

#[tokio::test]
async fn each_event_is_told_once_and_in_order_whatever_fails_and_ends() {
    each(&[irc, plain], async |world| {
        let (_, ann) = world.bridge().await;
        let ada = world.server.register("ada").await;
        let room = bridged(&ada, &ann).await;
        world.irc().hears(&ada.say(&room, "0").await).await;
        let said = vec!["0".to_owned()];
        let mut talk = Talk { ada, room, said };
        for server_is_killed in [false, true] {
            for wrong in ALL {
                Box::pin(goes_wrong(world, &mut talk, wrong, server_is_killed)).await;
            }
        }
        talk.goes_on().await;
        // That a number has one content, and that none is left out, is looked at there.
        for side in &world.sides {
            eventually("all is told", async || {
                side.said(&talk.room).len() >= talk.said.len()
            })
            .await;
            assert_eq!(side.said(&talk.room), talk.said);
        }
        assert!(world.irc().came() > world.irc().transactions().len());
    })
    .await;
}
