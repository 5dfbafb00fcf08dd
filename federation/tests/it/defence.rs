//! Servers that send much, or what can't be verified: they are served later or not heard for a while, others don't notice, and
//! the operator sees it.

use std::time::Duration;

use http::Method;
use rhizome_edge::limits::Rate;
use rhizome_federation::{FederationConfig, RateLimits, testing::Network};
use rhizome_protocol::{Membership, Pdu};
use rhizome_rooms::{create::plan::Preset, membership::Action};
use rhizome_storage::{
    Clock, InboundSeen, NewAccount, Options, Store,
    testing::{TestDatabase, eventually},
};
use ruma::{OwnedRoomId, OwnedUserId, RoomVersionId, UserId};
use serde_json::{Value, json};

use crate::{
    inbound::{forge_message, newest},
    world::{Server, json_of},
};

const MINUTE: Duration = Duration::from_mins(1);

/// Three servers with a clock that stands until it is moved, in a room of the second's.
struct Stand {
    servers: [Server; 3],
    users: [OwnedUserId; 3],
    room: OwnedRoomId,
    clock: Clock,
    databases: Vec<TestDatabase>,
}

impl Stand {
    async fn on(postgres: bool, work: Rate) -> Self {
        let (network, clock) = (Network::default(), Clock::manual(1_800_000_000_000));
        let mut databases = Vec::new();
        let mut stores = Vec::new();
        for index in 0..3 {
            let database = TestDatabase::new(postgres && index == 1).await;
            let options = Options {
                clock: clock.clone(),
                ..database.options()
            };
            stores.push(Store::open(options).await.unwrap());
            databases.push(database);
        }
        let config = FederationConfig {
            rate_limits: RateLimits {
                work,
                ..RateLimits::default()
            },
            ..Server::config()
        };
        let mut stores = stores.into_iter();
        let mut store = || stores.next().unwrap();
        let servers = [
            Server::new(&network, store(), 0),
            Server::with(&network, store(), 1, config),
            Server::new(&network, store(), 2),
        ];
        let [a, b, c] = &servers;
        let users = [a.user("alice"), b.user("bob"), c.user("carol")];
        let room = b.create(&users[1], &RoomVersionId::V11).await;
        a.join(&users[0], &room, b).await.unwrap();
        c.join(&users[2], &room, b).await.unwrap();
        Self {
            servers,
            users,
            room,
            clock,
            databases,
        }
    }

    fn of(&self, index: usize) -> (&Server, &UserId) {
        (&self.servers[index], &self.users[index])
    }

    /// Messages of this server's user, upon what the second has.
    async fn messages(&self, index: usize, count: usize, text: &str) -> Vec<Pdu> {
        let (server, user) = self.of(index);
        let prev = newest(&self.servers[1], &self.room).await;
        let mut messages = Vec::new();
        for n in 0..count {
            let text = format!("{text} {n}");
            messages.push(forge_message(server, user, &self.room, &[&prev], &text).await);
        }
        messages
    }

    /// Sends one to the second server; what that says to it: nothing, or why not.
    async fn say(&self, by: usize, from: usize, text: &str) -> Option<String> {
        let message = self.messages(from, 1, text).await.remove(0);
        let txn = format!("say-{}", text.replace(' ', "-"));
        let told = self.servers[by]
            .transaction(&self.servers[1], &txn, &[json_of(&message)], &[])
            .await;
        let told = &told[message.event_id().as_str()];
        assert!(told.is_object(), "{text}: {told}");
        told["error"].as_str().map(ToOwned::to_owned)
    }

    /// Messages of one server's user, each with a wrong signature, sent by a server.
    async fn forge(&self, by: usize, of: usize, count: usize, txn: &str) -> Value {
        let forged = self.forged(of, count, txn).await;
        self.servers[by]
            .transaction(&self.servers[1], txn, &forged, &[])
            .await
    }

    async fn forged(&self, of: usize, count: usize, text: &str) -> Vec<Value> {
        let name = self.servers[of].name.as_str();
        let messages = self.messages(of, count, text).await.into_iter();
        let forge = |message: Pdu| {
            let mut forged = json_of(&message);
            for signature in forged["signatures"][name]
                .as_object_mut()
                .unwrap()
                .values_mut()
            {
                *signature = json!("A".repeat(86));
            }
            forged
        };
        messages.map(forge).collect()
    }

    /// What the second server has written down of another.
    async fn noted(&self, index: usize) -> Option<InboundSeen> {
        let name = &self.servers[index].name;
        self.servers[1].store().inbound_of(name).await.unwrap()
    }

    async fn end(self) {
        for server in self.servers {
            server.end().await;
        }
        for database in self.databases {
            database.remove().await;
        }
    }
}

fn usual() -> Rate {
    RateLimits::default().work
}

/// It begins when many of its own are wrong, ends by itself, and what it passes on for others is heard meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_what_cannot_be_verified_is_not_heard_for_a_while() {
    let stand = Stand::on(false, usual()).await;
    assert_eq!(stand.say(0, 0, "before").await, None);
    let told = stand.forge(0, 0, 50, "flood").await;
    let told = told.as_object().unwrap();
    assert_eq!(told.len(), 50);
    assert!(
        told.values()
            .all(|one| one["error"].as_str().unwrap().contains("is wrong"))
    );
    let refused = stand.say(0, 0, "meanwhile").await.unwrap();
    assert!(refused.contains("can't be verified"), "{refused}");
    assert_eq!(stand.say(0, 2, "of another").await, None);
    assert_eq!(stand.say(2, 2, "by another").await, None);
    // By another way it comes, too.
    assert_eq!(stand.say(2, 0, "the same by another").await, None);
    stand.clock.advance(5 * MINUTE);
    assert_eq!(stand.say(0, 0, "afterwards").await, None);
    let heard = stand.servers[1].heard(&stand.room).await;
    let heard: Vec<&str> = heard.iter().map(String::as_str).collect();
    assert_eq!(
        heard,
        [
            "before 0",
            "of another 0",
            "by another 0",
            "the same by another 0",
            "afterwards 0"
        ]
    );
    stand.end().await;
}

/// Nobody tells that again: what we hear of a room that we aren't in doesn't build on it.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_heard_takes_an_invite_back_all_the_same() {
    let stand = Stand::on(false, usual()).await;
    let ((a, alice), (b, bob)) = (stand.of(0), stand.of(1));
    let account = b
        .store()
        .create_account(bob, NewAccount::default(), None)
        .await;
    assert!(account.unwrap().is_some());
    let room = a
        .create_with(alice, &RoomVersionId::V11, Preset::PrivateChat)
        .await;
    a.change(alice, &room, bob, Action::Invite).await.unwrap();
    assert_eq!(b.membership(&room, bob).await, Some(Membership::Invite));
    stand.forge(0, 0, 50, "flood").await;
    assert!(stand.say(0, 0, "meanwhile").await.is_some());
    a.change(alice, &room, bob, Action::Kick).await.unwrap();
    let place = ("m.room.member".to_owned(), bob.to_string());
    let kick = a.state(&room).await[&place].clone();
    let kick = json_of(&a.event(&kick).await.unwrap().pdu);
    a.transaction(b, "kick", &[kick], &[]).await;
    assert_eq!(b.membership(&room, bob).await, Some(Membership::Leave));
    stand.end().await;
}

/// Whatever another server sends in its name, or has it pass on.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_bring_another_server_into_quarantine() {
    let stand = Stand::on(false, usual()).await;
    for n in 0..3 {
        // Of a by c, of c by a.
        stand.forge(2, 0, 50, &format!("slander-{n}")).await;
        stand.forge(0, 2, 50, &format!("passed-on-{n}")).await;
    }
    assert_eq!(stand.say(0, 0, "one").await, None);
    assert_eq!(stand.say(2, 2, "two").await, None);
    stand.end().await;
}

/// A server that isn't in a room, as far as we know, may have been told that the room is of another version: what it says there
/// looks wrong to us, in all innocence.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_server_is_not_in_the_room_nothing_is_its_fault() {
    let stand = Stand::on(false, usual()).await;
    let (a, b) = (&stand.servers[0], &stand.servers[1]);
    let elsewhere = b.create(&stand.users[1], &RoomVersionId::V11).await;
    for n in 0..2 {
        let mut messages = stand.forged(0, 50, &format!("elsewhere {n}")).await;
        for message in &mut messages {
            message["room_id"] = json!(elsewhere);
        }
        let txn = format!("elsewhere-{n}");
        let told = a.transaction(b, &txn, &messages, &[]).await;
        let told = told.as_object().unwrap();
        assert_eq!(told.len(), 50);
        for one in told.values() {
            assert!(one["error"].as_str().unwrap().contains("is wrong"), "{one}");
        }
    }
    assert_eq!(stand.say(0, 0, "one").await, None);
    stand.end().await;
}

/// Keys that can't be had are nobody's fault: they may have been changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_known_is_no_fault() {
    let stand = Stand::on(false, usual()).await;
    let (a, b) = (&stand.servers[0], &stand.servers[1]);
    for n in 0..2 {
        let mut messages = stand.forged(0, 50, &format!("other {n}")).await;
        for message in &mut messages {
            message["signatures"][a.name.as_str()] = json!({ "ed25519:former": "A".repeat(86) });
        }
        let told = a
            .transaction(b, &format!("other-{n}"), &messages, &[])
            .await;
        assert_eq!(told.as_object().unwrap().len(), 50);
    }
    assert_eq!(stand.say(0, 0, "one").await, None);
    stand.end().await;
}

/// One that makes much work comes later, and says so itself when; another doesn't notice.
#[tokio::test(flavor = "multi_thread")]
async fn who_makes_much_work_waits_and_others_do_not() {
    let little = Rate {
        per_second: 0.1,
        burst: 4,
    };
    let stand = Stand::on(false, little).await;
    let (a, b) = (&stand.servers[0], &stand.servers[1]);
    // The way in has made some.
    stand.clock.advance(Duration::from_secs(1_000));
    stand.forge(0, 0, 40, "flood").await;
    let path = "/_matrix/federation/v1/send/next";
    let body = json!({ "origin": a.name, "origin_server_ts": 1, "pdus": [] });
    let refused = a.request(b, Method::PUT, path, Some(body.clone())).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.errcode, "M_LIMIT_EXCEEDED");
    assert!(refused.extra["retry_after_ms"].as_u64().unwrap() > 5_000);
    assert_eq!(stand.say(2, 2, "by another").await, None);
    stand.clock.advance(Duration::from_secs(1_000));
    a.request(b, Method::PUT, path, Some(body)).await.unwrap();
    assert_eq!(stand.say(0, 0, "later").await, None);
    stand.end().await;
}

/// What was sent is written down a minute later, and added to what was.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_send_is_noted() {
    for postgres in [false, true] {
        let mut stand = Stand::on(postgres, usual()).await;
        stand.servers[1].run();
        stand.say(0, 0, "one").await;
        let message = stand.messages(0, 1, "two").await.remove(0);
        let typing = json!({ "edu_type": "m.typing", "content": {
            "room_id": stand.room, "user_id": stand.users[0], "typing": true } });
        let (a, b) = (&stand.servers[0], &stand.servers[1]);
        let mut sent = vec![json_of(&message)];
        sent.extend(stand.forged(0, 3, "forged").await);
        let odd = json!({ "edu_type": "x", "content": {} });
        a.transaction(b, "two", &sent, &[typing, odd]).await;
        let noted = until(&stand, 0, |seen| seen.counts.transactions == 2).await;
        let counts = noted.counts;
        assert_eq!(
            (counts.accepted, counts.refused, counts.unverified),
            (2, 3, 3)
        );
        assert_eq!(
            (counts.typing, counts.other_edus, counts.quarantines),
            (1, 1, 0)
        );
        assert!(counts.bytes > 1_000 && counts.work_us > 0 && counts.requests >= 2);
        assert_eq!(noted.reasons.len(), 3);
        assert!(noted.reasons[0].why.contains("is wrong"));

        stand.forge(0, 0, 50, "flood").await;
        stand.say(0, 0, "unheard").await;
        let noted = until(&stand, 0, |seen| seen.counts.transactions == 4).await;
        assert_eq!((noted.counts.quarantines, noted.counts.refused), (1, 54));
        assert!(noted.quarantined_until_ms > noted.last_seen_ms);
        assert_eq!(noted.counts.accepted, 2);
        stand.end().await;
    }
}

/// Waits for what is noted of a server, minute by minute.
async fn until(stand: &Stand, index: usize, is_so: impl Fn(&InboundSeen) -> bool) -> InboundSeen {
    eventually("it is noted", async || {
        stand.clock.advance(MINUTE);
        stand.noted(index).await.is_some_and(|seen| is_so(&seen))
    })
    .await;
    stand.noted(index).await.unwrap()
}
