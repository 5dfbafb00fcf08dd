//! Two processes on one database tell a service each thing once.

use std::time::Duration;

use rhizome_storage::testing::{TestDatabase, eventually};

use super::{World, bridged, irc, serve, tell};
use crate::harness::User;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_processes_one_tells_and_the_other_takes_over() {
    let mut world = World::new(TestDatabase::postgres().await, &[irc]).await;
    let other = serve(&world.database, &world.clock, &world.network, &world.texts).await;
    let (stop, telling) = tell(&other);
    let (_, ann) = world.bridge().await;
    let ada = world.server.register("ada").await;
    let elsewhere = User {
        server: other.clone(),
        ..ada.clone()
    };
    let room = bridged(&ada, &ann).await;
    let mut said = Vec::new();
    for n in 0..20 {
        let by = if n % 2 == 0 { &ada } else { &elsewhere };
        by.say(&room, &format!("{n}")).await;
        said.push(n.to_string());
    }
    eventually("all is told", async || world.irc().said(&room).len() == 20).await;
    assert_eq!(world.irc().said(&room), said);
    assert_eq!(
        world.irc().came(),
        world.irc().transactions().len(),
        "each once"
    );
    // The one that tells ends, and the other goes on.
    world.end().await;
    elsewhere.say(&room, "20").await;
    said.push("20".to_owned());
    eventually("the other takes over", async || {
        world.clock.advance(Duration::from_secs(2));
        world.irc().said(&room).len() == 21
    })
    .await;
    assert_eq!(world.irc().said(&room), said);
    stop.cancel();
    telling.await.unwrap();
    other.store.close().await;
    world.server.store.close().await;
    world.database.remove().await;
}
