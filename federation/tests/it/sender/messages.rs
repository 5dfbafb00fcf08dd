//! Messages to devices of the other server: in order, once, whatever stands in the way.

use std::time::Duration;

use rhizome_federation::sender::to_device::{self, Outgoing};
use rhizome_storage::{Fact, Pos, Receipt, testing::eventually};
use ruma::user_id;
use serde_json::{Value, json};

use super::{Peer, Us, alice, scenario, texts, them};

impl Us {
    /// Sends a message to Bob's phone.
    async fn tell(&self, content: Value) {
        let size = content.to_string().len();
        let message = Outgoing {
            user: user_id!("@bob:b.example").to_owned(),
            device: "PHONE".to_owned(),
            content,
            size,
        };
        let out = to_device::queue(&self.fed, alice(), "m.test", vec![message]).unwrap();
        let facts: Vec<_> = out.into_iter().map(Fact::from).collect();
        self.store.commit(facts.into()).await.unwrap();
    }

    pub(super) async fn tell_numbers(&self, numbers: std::ops::Range<u64>) {
        for n in numbers {
            self.tell(json!({ "n": n })).await;
        }
    }

    async fn queued(&self) -> usize {
        let all = self.store.to_device_out(them(), Pos(0), Pos(i64::MAX), 999);
        all.await.unwrap().len()
    }
}

impl Peer {
    /// The numbers of the messages that came, in their order.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let number = |edu: Value| {
            let n = &edu["messages"]["@bob:b.example"]["PHONE"]["n"];
            n.as_u64()
        };
        let edus = self.edus("m.direct_to_device").into_iter();
        edus.filter_map(number).collect()
    }

    pub(super) async fn has_numbers(&self, numbers: std::ops::Range<u64>) {
        let all = usize::try_from(numbers.end).unwrap();
        eventually("the messages arrive", async || self.numbers().len() >= all).await;
        assert!(self.numbers().into_iter().eq(numbers));
    }
}

#[tokio::test]
async fn they_wait_for_a_server_that_is_down_and_survive_a_restart() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        a.tell_numbers(0..1).await;
        peer.has_numbers(0..1).await;
        let edu = &peer.edus("m.direct_to_device")[0];
        assert_eq!(
            (&edu["sender"], &edu["type"]),
            (&json!(alice()), &json!("m.test"))
        );
        assert!(edu["message_id"].as_str().unwrap().len() <= 32);
        network.cut(them());
        a.tell_numbers(1..130).await;
        eventually("it fails", async || a.failures() > 0).await;
        a.stop().await;

        // Nobody shares a room: what waits says by itself whom it is for.
        let a = Us::start(&database, &network, &clock).await;
        a.tell_numbers(130..140).await;
        network.mend(them());
        clock.advance(Duration::from_secs(1_000));
        peer.has_numbers(0..140).await;
        let sizes: Vec<_> = {
            let got = peer.got.lock().unwrap();
            got.iter()
                .map(|(_, body)| body["edus"].as_array().unwrap().len())
                .collect()
        };
        assert!(sizes.iter().all(|size| *size <= 100), "{sizes:?}");
        a.stop().await;

        // What has arrived is gone, and doesn't come again.
        let a = Us::start(&database, &network, &clock).await;
        assert_eq!(a.queued().await, 0);
        a.tell_numbers(140..141).await;
        peer.has_numbers(0..141).await;
        a.stop().await;
    })
    .await;
}

#[tokio::test]
async fn neither_they_nor_receipts_nor_events_wait_for_each_other() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let room = a.shared_room().await;
        let read = a.say(&room, "message 0").await;
        peer.wait_for(1).await;
        network.cut(them());
        let (no, user) = (
            a.store.room(&room).await.unwrap().unwrap().room,
            a.store.user_no(alice()).await.unwrap(),
        );
        for n in 0..100 {
            // One user's receipts in several threads need an EDU each.
            let receipt = Receipt {
                room: no,
                user,
                kind: "m.read".to_owned(),
                thread: Some(format!("$thread{n}")),
                event_id: read.clone(),
                ts: 5,
            };
            a.store
                .commit(vec![Fact::Receipt(receipt)].into())
                .await
                .unwrap();
            a.tell_numbers(n..n + 1).await;
            a.say(&room, &format!("message {}", n + 1)).await;
        }
        eventually("it fails", async || a.failures() > 0).await;
        network.mend(them());
        clock.advance(Duration::from_secs(1_000));
        peer.has_numbers(0..100).await;
        assert_eq!(peer.wait_for(101).await, texts(0..101));
        let receipts = peer.edus("m.receipt");
        let users = receipts
            .iter()
            .filter(|edu| edu.get(room.as_str()).is_some());
        assert_eq!(users.count(), 100);
        a.stop().await;
    })
    .await;
}

#[tokio::test]
async fn one_that_is_refused_does_not_hold_up_the_others() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let room = a.shared_room().await;
        *peer.refuses.lock().unwrap() = Some("poison".to_owned());
        network.cut(them());
        a.say(&room, "message 0").await;
        a.tell_numbers(0..3).await;
        a.tell(json!({ "poison": 1 })).await;
        a.say(&room, "poison").await;
        a.tell_numbers(3..7).await;
        a.say(&room, "message 1").await;
        eventually("it fails", async || a.failures() > 0).await;
        network.mend(them());
        clock.advance(Duration::from_secs(1_000));
        peer.has_numbers(0..7).await;
        assert_eq!(peer.wait_for(2).await, texts(0..2));
        // Later ones go as before.
        a.tell_numbers(7..8).await;
        peer.has_numbers(0..8).await;
        a.stop().await;
    })
    .await;
}
