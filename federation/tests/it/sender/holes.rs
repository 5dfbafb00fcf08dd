//! Servers that have answered, and then all of them at once take everything in and answer nothing.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use rhizome_storage::Pos;
use ruma::OwnedServerName;

use super::{
    outage::{Hole, rooms_of_both, tell_all},
    *,
};

/// After so long a destination counts as slow.
const SLOW: Duration = Duration::from_secs(5);
/// How many of those that answered last are sent to at the same time, and how many of those that are slow.
const QUICK_AND_SLOW: (usize, usize) = (128, 64);

impl Us {
    /// How far each destination that was reached and didn't fail has come, by what is written down.
    async fn far(&self) -> BTreeMap<OwnedServerName, Pos> {
        let known = self.store.known_destinations(false, None, 1_000).await;
        let well = known.unwrap().into_iter();
        let well = well.filter(|one| one.state.failures == 0 && one.state.sent > Pos(0));
        well.map(|one| (one.server, one.state.sent)).collect()
    }
}

#[tokio::test]
async fn two_hundred_that_answer_no_more_hold_up_nobody() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let room = rooms_of_both(&a, &peer, 1).await.remove(0);
        let names: Vec<OwnedServerName> = (0..200)
            .map(|n| format!("quick{n}.example").try_into().unwrap())
            .collect();
        let hole = Hole::attach(&network, &names);
        hole.gate.add_permits(1_000);
        tell_all(&a, &names).await;
        eventually("all answer", async || {
            let far = a.far().await;
            names.iter().all(|name| far.contains_key(name))
        })
        .await;
        let first = a.far().await;

        assert_eq!(hole.gate.forget_permits(1_000), 1_000);
        tell_all(&a, &names).await;
        let asked = async |times: usize| {
            eventually("they hold who comes to them", async || {
                hole.asked.load(Ordering::Relaxed) >= names.len() + times
            })
            .await;
        };
        let (quick, slow) = QUICK_AND_SLOW;
        asked(quick).await;
        a.say(&room, "message 0").await;
        // Some make room, for others that are as they are; of these half make room once more.
        clock.advance(SLOW);
        asked(quick + slow).await;
        clock.advance(SLOW);
        peer.wait_for(2).await;
        let far = a.far().await;
        let is_well = |name: &OwnedServerName| far.contains_key(name);
        assert!(names.iter().all(is_well), "nobody has failed for it");
        // Once they answer, all of them get what waits.
        hole.gate.add_permits(1_000);
        eventually("they get it", async || {
            let far = a.far().await;
            names.iter().all(|name| far.get(name) > first.get(name))
        })
        .await;
        a.stop().await;
    })
    .await;
}
