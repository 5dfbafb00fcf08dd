//! What an operator does about a destination, and what the configuration lets go nowhere.

use rhizome_federation::{
    sender::to_device::{self, Outgoing},
    servers::{ServerLists, ServerRules},
};

use super::*;

impl Us {
    async fn has_everything_up_to_now(&self) {
        let head = self.store.log().head();
        let sent = || self.fed.sender().stand(them()).map(|stand| stand.sent);
        eventually("the cursor gets there", async || sent() >= Some(head)).await;
    }

    async fn fails_and_says_why(&self) {
        eventually("it says why", async || {
            let known = self.store.known_destination(them()).await.unwrap();
            known.is_some_and(|known| known.state.failures > 0 && !known.failure.is_empty())
        })
        .await;
    }

    /// A message to a device of the other server isn't even written down.
    fn goes_nowhere(&self) {
        let message = Outgoing {
            user: user_id!("@bob:b.example").to_owned(),
            device: "PHONE".to_owned(),
            content: json!({}),
            size: 2,
        };
        let out = to_device::queue(&self.fed, alice(), "m.test", vec![message]).unwrap();
        assert!(out.is_empty());
    }
}

#[tokio::test]
async fn nothing_goes_to_a_denied_server_nor_waits_for_it() {
    scenario(async |database, network, peer, clock| {
        let denied = ["*.example".to_owned()];
        let config = FederationConfig {
            servers: ServerRules {
                outbound: ServerLists::new(&[], &denied),
                ..ServerRules::default()
            },
            ..FederationConfig::default()
        };
        let presence = PresenceOptions::default();
        let a = Us::start_as(&database, &network, &clock, presence, config).await;
        let room = a.shared_room().await;
        a.say(&room, "unheard").await;
        a.has_everything_up_to_now().await;
        a.fed.sender().typing([them()], &room, alice(), true);
        a.goes_nowhere();
        a.stop().await;
        assert!(peer.got.lock().unwrap().is_empty());
        assert!(network.requests().is_empty());

        // Once it may be sent to, it gets what comes then.
        let a = Us::start(&database, &network, &clock).await;
        a.say(&room, "heard").await;
        assert_eq!(peer.wait_for(1).await, ["heard"]);
        a.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_server_is_tried_again_as_soon_as_the_operator_says() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let room = a.shared_room().await;
        network.cut(them());
        a.say(&room, "at last").await;
        a.fails_and_says_why().await;
        let known = a.store.known_destination(them()).await.unwrap().unwrap();
        assert_eq!(known.state.failing_since, START);
        network.mend(them());
        // The clock stands still: without this it would be left alone for ever.
        a.store.retry_destination(them()).await.unwrap();
        assert_eq!(peer.wait_for(1).await, ["at last"]);
        eventually("it is well", async || a.failures() == 0).await;
        a.stop().await;
        let store = database.open().await;
        let known = store.known_destination(them()).await.unwrap().unwrap();
        assert_eq!(known.state.failing_since, 0);
        assert_eq!(known.state.reached_ms, START);
        assert!(
            !known.failure.is_empty(),
            "what was the matter is still told"
        );
        store.close().await;
    })
    .await;
}

#[tokio::test]
async fn what_waits_is_let_go_when_the_operator_says() {
    scenario(async |database, network, peer, clock| {
        let a = Us::start(&database, &network, &clock).await;
        let room = a.shared_room().await;
        network.cut(them());
        a.say(&room, "never heard").await;
        a.tell_numbers(0..1).await;
        a.fails_and_says_why().await;
        a.store.forget_destination(them()).await.unwrap();
        a.has_everything_up_to_now().await;
        network.mend(them());
        clock.advance(Duration::from_secs(100));
        a.say(&room, "heard").await;
        assert_eq!(peer.wait_for(1).await, ["heard"]);
        a.stop().await;
        assert_eq!(peer.messages(), ["heard"]);
        assert!(peer.numbers().is_empty());
    })
    .await;
}
