//! Messages to devices between servers: each once and in order, whatever comes twice; and what strangers make of it.

use rhizome_federation::sender::to_device::{self, Outgoing};
use rhizome_storage::{Fact, NewLogin, NewTokens, Pos, WaitingMessage, testing::eventually};
use ruma::{OwnedDeviceId, UserId};
use serde_json::{Value, json};

use crate::world::{Server, each};

impl Server {
    /// Logs a device in.
    async fn device(&self, user: &UserId, device: &str) {
        let login = NewLogin {
            user: self.store().user_no(user).await.unwrap(),
            device_id: OwnedDeviceId::from(device),
            device_name: None,
            ip: String::new(),
            now_ms: 1,
            tokens: NewTokens {
                access_hash: format!("{user} {device}"),
                refresh_hash: None,
                expires_ms: None,
                refresh_expires_ms: None,
            },
            proof: None,
            proved: false,
        };
        assert!(self.store().log_in(&login).await.unwrap());
    }

    async fn waiting(&self, user: &UserId, device: &str) -> Vec<WaitingMessage> {
        let store = self.store();
        let user = store.user_no(user).await.unwrap();
        let all = store.to_device(user, device.into(), Pos(0), Pos(i64::MAX), 1_000);
        all.await.unwrap()
    }

    /// The contents of what waits for a device.
    async fn mail(&self, user: &UserId, device: &str) -> Vec<Value> {
        let waiting = self.waiting(user, device).await;
        let content = |message: &WaitingMessage| serde_json::from_str(&message.content).unwrap();
        waiting.iter().map(content).collect()
    }

    async fn tell(&self, sender: &UserId, user: &UserId, device: &str, content: Value) {
        let message = Outgoing {
            user: user.to_owned(),
            device: device.to_owned(),
            size: content.to_string().len(),
            content,
        };
        let out = to_device::queue(&self.fed, sender, "m.test", vec![message]).unwrap();
        let facts: Vec<_> = out.into_iter().map(Fact::from).collect();
        self.store().commit(facts.into()).await.unwrap();
    }
}

fn numbers(range: std::ops::Range<usize>) -> Vec<Value> {
    range.map(|n| json!({ "n": n })).collect()
}

fn edu(sender: &UserId, id: &str, messages: &Value) -> Value {
    json!({ "edu_type": "m.direct_to_device", "content": {
        "sender": sender, "type": "m.test", "message_id": id, "messages": messages } })
}

#[tokio::test(flavor = "multi_thread")]
async fn they_cross_in_order_also_when_the_cable_was_cut() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        b.device(&bob, "PHONE").await;
        b.device(&bob, "TABLET").await;
        for n in 0..60 {
            if n == 20 {
                world.network.cut(&b.name);
            }
            if n == 40 {
                world.network.mend(&b.name);
            }
            let device = if n % 10 == 0 { "*" } else { "PHONE" };
            a.tell(&alice, &bob, device, json!({ "n": n })).await;
        }
        eventually("all have come", async || {
            b.mail(&bob, "PHONE").await.len() >= 60
        })
        .await;
        assert_eq!(b.mail(&bob, "PHONE").await, numbers(0..60));
        let tenth: Vec<_> = (0..60).step_by(10).map(|n| json!({ "n": n })).collect();
        assert_eq!(b.mail(&bob, "TABLET").await, tenth);
        let first = &b.waiting(&bob, "PHONE").await[0];
        assert_eq!((&*first.sender, &*first.kind), (&*alice, "m.test"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_again_is_known() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        a.device(&alice, "PHONE").await;
        a.device(&alice, "TABLET").await;
        let to = |n: usize| json!({ &alice: { "PHONE": { "n": n } } });
        let (one, two) = (edu(&bob, "one", &to(0)), edu(&bob, "two", &to(1)));
        let both = json!({ &alice: { "PHONE": { "n": 2 }, "TABLET": { "n": 2 } } });
        let three = edu(&bob, "three", &both);
        b.transaction(a, "t", &[], std::slice::from_ref(&one)).await;
        b.transaction(a, "t", &[], std::slice::from_ref(&one)).await;
        // In another transaction, with what is new; and twice in one.
        b.transaction(
            a,
            "u",
            &[],
            &[one.clone(), two.clone(), one.clone(), two.clone()],
        )
        .await;
        assert_eq!(a.mail(&alice, "PHONE").await, numbers(0..2));
        // Many at once.
        let again = (0..4).map(|n| {
            let (edus, txn) = ([three.clone(), one.clone()], format!("v{n}"));
            async move { b.transaction(a, &txn, &[], &edus).await }
        });
        futures_util::future::join_all(again).await;
        assert_eq!(a.mail(&alice, "PHONE").await, numbers(0..3));
        assert_eq!(a.mail(&alice, "TABLET").await, numbers(2..3));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_leaves_nothing_and_spoils_nothing() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        a.device(&alice, "PHONE").await;
        let to = |content: Value| json!({ &alice: { "PHONE": content } });
        let mut deep = json!({});
        for _ in 0..120 {
            deep = json!({ "deep": deep });
        }
        let junk = [
            // Whom it isn't the server of, on both sides.
            edu(&alice, "1", &to(json!({}))),
            edu(&bob, "2", &json!({ &bob: { "*": {} } })),
            // Nobody, nowhere, nothing.
            edu(&bob, "3", &json!({ "@nobody:a.example": { "*": {} }, "nonsense": { "*": {} } })),
            edu(&bob, "4", &json!({ &alice: { "NOWHERE": {} } })),
            edu(&bob, "5", &json!({ &alice: {} })),
            edu(&bob, "6", &to(json!("text"))),
            edu(&bob, "7", &to(deep)),
            edu(&bob, "8", &to(json!({ "long": "x".repeat(70_000) }))),
            edu(&bob, &"9".repeat(300), &to(json!({}))),
            json!({ "edu_type": "m.direct_to_device", "content": { "sender": bob, "messages": {} } }),
            json!({ "edu_type": "m.direct_to_device", "content": [] }),
        ];
        let head = a.store().log().head();
        b.transaction(a, "junk", &[], &junk).await;
        assert_eq!(a.store().log().head(), head);
        // What is right goes in between; numbers that nobody can sign stay as they are.
        let mixed = [junk[0].clone(), edu(&bob, "ok", &to(json!({ "n": 0.5 }))), junk[7].clone()];
        b.transaction(a, "mixed", &[], &mixed).await;
        assert_eq!(a.mail(&alice, "PHONE").await, [json!({ "n": 0.5 })]);
    })
    .await;
}

/// Anybody may write to anybody's devices: how much of that is kept is bounded.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_messages_from_strangers_is_bounded() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        for n in 0..300 {
            a.device(&alice, &format!("D{n}")).await;
        }
        // 100 EDUs for 300 devices each: 30,000 messages; and 64 KiB for all of these.
        let all = |n: usize| {
            edu(
                &bob,
                &n.to_string(),
                &json!({ &alice: { "*": { "n": n } } }),
            )
        };
        let flood: Vec<_> = (0..100).map(all).collect();
        b.transaction(a, "flood", &[], &flood).await;
        let kept = a.mail(&alice, "D7").await;
        assert_eq!(kept, numbers(0..66));
        let large = json!({ &alice: { "*": { "n": "x".repeat(65_000) } } });
        b.transaction(a, "large", &[], &[edu(&bob, "large", &large)])
            .await;
        assert_eq!(a.mail(&alice, "D7").await.len(), 66);
    })
    .await;
}
