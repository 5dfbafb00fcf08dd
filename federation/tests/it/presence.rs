//! Presence between two servers.

use rhizome_storage::{PresenceState, PresenceStatus};
use ruma::{RoomVersionId, UserId, device_id};
use serde_json::{Value, json};

use crate::world::{Server, each, eventually};

async fn says(server: &Server, user: &UserId, state: PresenceState, message: Option<&str>) {
    let store = server.store();
    let no = store.user_no(user).await.unwrap();
    let said = store.set_presence(no, device_id!("D"), state, message.map(str::to_owned));
    said.await.unwrap();
}

async fn heard(server: &Server, user: &UserId) -> Option<PresenceStatus> {
    let user = server.store().known_user(user).await.unwrap()?;
    server.store().presence().of(user)
}

async fn state_of(server: &Server, user: &UserId) -> Option<PresenceState> {
    Some(heard(server, user).await?.state)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shares_a_room_hears_of_it_on_the_other_server() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob) = (a.user("alice"), b.user("bob"));
        let room = a.create(&alice, &RoomVersionId::V12).await;
        b.join(&bob, &room, a).await.unwrap();
        for state in [
            PresenceState::Online,
            PresenceState::Unavailable,
            PresenceState::Busy,
            PresenceState::Offline,
        ] {
            for (from, user, to) in [(a, &alice, b), (b, &bob, a)] {
                says(from, user, state, Some("so")).await;
                eventually("the other hears", async || {
                    heard(to, user).await.is_some_and(|heard| {
                        heard.state == state && heard.message.as_deref() == Some("so")
                    })
                })
                .await;
            }
        }
        // Of those who share no room nothing is said.
        says(a, &a.user("ann"), PresenceState::Online, None).await;
        says(a, &alice, PresenceState::Online, None).await;
        eventually("the other hears", async || {
            state_of(b, &alice).await == Some(PresenceState::Online)
        })
        .await;
        assert_eq!(heard(b, &a.user("ann")).await, None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_says_nothing_of_others_users_nor_of_whom_nobody_here_meets() {
    each(2, async |world| {
        let (a, b) = world.two();
        let (alice, bob, bea) = (a.user("alice"), b.user("bob"), b.user("bea"));
        let room = a.create(&alice, &RoomVersionId::V12).await;
        b.join(&bob, &room, a).await.unwrap();
        a.store().user_no(&bea).await.unwrap();
        let of = |user: &UserId, presence: &str| json!({ "user_id": user, "presence": presence, "last_active_ago": 5 });
        let edu = |push: Value| json!({ "edu_type": "m.presence", "content": { "push": push } });
        let edus = [
            edu(json!([of(&alice, "online"), of(&bea, "online"), of(&bob, "asleep"), 7, {}])),
            edu(json!("nonsense")),
            json!({ "edu_type": "m.presence", "content": 7 }),
        ];
        b.transaction(a, "vain", &[], &edus).await;
        for user in [&alice, &bob, &bea] {
            assert_eq!(heard(a, user).await, None, "{user}");
        }
        let many = (0..600).map(|n| of(&b.user(&format!("u{n}")), "online"));
        let last = many.chain([of(&bob, "online")]).collect();
        b.transaction(a, "many", &[], &[edu(Value::Array(last))]).await;
        assert_eq!(heard(a, &bob).await, None);
        b.transaction(a, "true", &[], &[edu(json!([of(&bob, "unavailable")]))])
            .await;
        assert_eq!(state_of(a, &bob).await, Some(PresenceState::Unavailable));
    })
    .await;
}
