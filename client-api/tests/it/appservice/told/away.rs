//! Services and servers that fail, at the worst moments.

use std::sync::Arc;

use rhizome_storage::testing::eventually;
use tokio::sync::Notify;

use super::{
    Acting, bridged, each, irc, joins, later, leaves, plain, registrations,
    side::{Does, Side},
};

#[tokio::test]
async fn a_transaction_comes_again_as_it_was_until_it_is_taken() {
    each(&[irc], async |world| {
        let (_, ann) = world.bridge().await;
        let ada = world.server.register("ada").await;
        let room = bridged(&ada, &ann).await;
        world.irc().hears(&ada.say(&room, "well").await).await;
        let before = world.irc().came();
        world.irc().does([500, 404, 302, 500].map(Does::Answers));
        ada.say(&room, "one").await;
        world.irc().gets(before + 1).await;
        // What comes meanwhile waits for its turn.
        for text in ["two", "three"] {
            ada.say(&room, text).await;
        }
        let state = world.server.store.service_states();
        let state = state.await.unwrap().remove(0);
        assert!(state.waiting.is_some());
        later(world, async || world.irc().said(&room).len() == 4).await;
        assert!(
            world.irc().came() >= before + 6,
            "four were refused, and two taken"
        );
        assert_eq!(world.irc().said(&room), ["well", "one", "two", "three"]);
        eventually("nothing waits", async || {
            let states = world.server.store.service_states().await.unwrap();
            states[0].waiting.is_none() && states[0].failures == 0
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn operators_see_why_a_service_fails() {
    each(&[irc], async |world| {
        let (_, ann) = world.bridge().await;
        let ada = world.server.register("ada").await;
        world.irc().does([Does::Answers(502)]);
        bridged(&ada, &ann).await;
        let state = async || {
            let states = world.server.store.service_states().await.unwrap();
            states.into_iter().next().unwrap()
        };
        eventually("it is noted", async || state().await.failures == 1).await;
        let seen = state().await;
        assert_eq!(seen.id, "irc");
        assert!(seen.error.contains("502"), "{}", seen.error);
        assert!(seen.next_ms > seen.failing_since_ms && seen.failing_since_ms > 0);
        // Whoever lets it go on has it tried at once.
        world
            .server
            .store
            .pause_service("irc", false)
            .await
            .unwrap();
        eventually("it was tried", async || state().await.failures == 0).await;
        assert!(state().await.acknowledged_ms > 0);
    })
    .await;
}

#[tokio::test]
async fn nothing_is_told_twice_in_two_ways_if_the_server_is_killed_before_the_answer() {
    each(&[irc], async |world| {
        let (_, ann) = world.bridge().await;
        let mut ada = world.server.register("ada").await;
        let room = bridged(&ada, &ann).await;
        world.irc().hears(&ada.say(&room, "well").await).await;
        for n in 0..3 {
            let before = world.irc().came();
            world.irc().does([Does::Hangs]);
            ada.say(&room, &format!("sent {n}")).await;
            world.irc().gets(before + 1).await;
            ada.say(&room, &format!("waits {n}")).await;
            world.crash().await;
            world.restart().await;
            ada = world.again(&ada);
        }
        world.irc().hears(&ada.say(&room, "last").await).await;
        let mut said = vec!["well".to_owned()];
        for n in 0..3 {
            said.extend([format!("sent {n}"), format!("waits {n}")]);
        }
        said.push("last".to_owned());
        // (The contents and the order of numbers are looked at there.)
        assert_eq!(world.irc().said(&room), said);
    })
    .await;
}

#[tokio::test]
async fn who_was_away_is_told_what_concerned_it_then() {
    each(&[irc], async |world| {
        let (_, ann) = world.bridge().await;
        let ada = world.server.register("ada").await;
        let room = bridged(&ada, &ann).await;
        world.irc().hears(&ada.say(&room, "well").await).await;
        world.end().await;
        let mut said = vec!["well".to_owned()];
        for n in 0..130 {
            said.push(format!("{n}"));
            ada.say(&room, &format!("{n}")).await;
        }
        leaves(&ann, &room).await;
        ada.say(&room, "among ourselves").await;
        joins(&ann, &room).await;
        ada.say(&room, "together").await;
        leaves(&ann, &room).await;
        ada.say(&room, "afterwards").await;
        said.push("together".to_owned());
        // From a log that nobody has in memory any more.
        world.restart().await;
        eventually("it has heard all", async || {
            world.irc().said(&room).len() >= said.len()
        })
        .await;
        let ada = world.again(&ada);
        let ann = Acting::of(&world.server, "irc-token").as_user("@irc_ann:here");
        let other = bridged(&ada, &ann).await;
        world.irc().hears(&ada.say(&other, "and then").await).await;
        assert_eq!(world.irc().said(&room), said);
        let largest = world.irc().transactions();
        let largest = largest
            .iter()
            .map(|one| one["events"].as_array().unwrap().len());
        assert!(largest.max().unwrap() <= 100);
    })
    .await;
}

#[tokio::test]
async fn one_that_hangs_delays_nobody() {
    each(&[irc, plain], async |world| {
        let (_, ann) = world.bridge().await;
        let ada = world.server.register("ada").await;
        let freed = Arc::new(Notify::new());
        world.irc().does([Does::Waits(freed.clone())]);
        let room = bridged(&ada, &ann).await;
        world.irc().gets(1).await;
        for n in 0..5 {
            let event = ada.say(&room, &format!("{n}")).await;
            world.sides[1].hears(&event).await;
        }
        assert_eq!(world.irc().came(), 1);
        freed.notify_one();
        let last = ada.say(&room, "5").await;
        world.irc().hears(&last).await;
        assert_eq!(world.irc().said(&room), ["0", "1", "2", "3", "4", "5"]);
    })
    .await;
}

#[tokio::test]
async fn a_paused_service_is_told_nothing_until_it_goes_on() {
    each(&[irc, plain], async |world| {
        let (_, ann) = world.bridge().await;
        let ada = world.server.register("ada").await;
        let room = bridged(&ada, &ann).await;
        world.irc().hears(&ada.say(&room, "well").await).await;
        world.server.store.pause_service("irc", true).await.unwrap();
        let paused = ada.say(&room, "one").await;
        world.sides[1].hears(&paused).await;
        assert_eq!(world.irc().said(&room), ["well"]);
        // It stays so over a restart.
        world.end().await;
        world.restart().await;
        let ada = world.again(&ada);
        let paused = ada.say(&room, "two").await;
        world.sides[1].hears(&paused).await;
        assert_eq!(world.irc().said(&room), ["well"]);
        world
            .server
            .store
            .pause_service("irc", false)
            .await
            .unwrap();
        world.irc().hears(&paused).await;
        assert_eq!(world.irc().said(&room), ["well", "one", "two"]);
    })
    .await;
}

#[tokio::test]
async fn a_new_service_begins_with_what_comes() {
    each(&[irc], async |world| {
        let (_, ann) = world.bridge().await;
        let ada = world.server.register("ada").await;
        let room = bridged(&ada, &ann).await;
        world.irc().hears(&ada.say(&room, "well").await).await;
        // Another is registered while the server runs.
        let late = Side::listen().await;
        world.texts.push(plain(&late.url));
        let texts: Vec<&str> = world.texts.iter().map(String::as_str).collect();
        let services = registrations(&texts);
        world.server.federation.services().replace(services);
        world.sides.push(late);
        eventually("it is known", async || {
            world.server.store.service_states().await.unwrap().len() == 2
        })
        .await;
        let event = ada.say(&room, "welcome").await;
        world.sides[1].hears(&event).await;
        world.irc().hears(&event).await;
        assert_eq!(world.sides[1].said(&room), ["welcome"]);
        // One that isn't registered any more is told nothing.
        world.texts.remove(0);
        let texts: Vec<&str> = world.texts.iter().map(String::as_str).collect();
        let services = registrations(&texts);
        world.server.federation.services().replace(services);
        let event = ada.say(&room, "alone").await;
        world.sides[1].hears(&event).await;
        assert_eq!(world.irc().said(&room), ["well", "welcome"]);
    })
    .await;
}
