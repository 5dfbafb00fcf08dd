//! Who sees which events under each history visibility.

use serde_json::json;

use crate::harness::{Server, User, esc, story};

/// Which of the events the user may see, one letter each, asked for one by one and by paging.
async fn sees(user: &User, room: &str, events: &[String]) -> String {
    let mut seen = String::new();
    for event in events {
        let path = format!("/rooms/{}/event/{}", esc(room), esc(event));
        let (status, _) = user.get(&path).await;
        seen.push(if status.is_success() { 'x' } else { '-' });
    }
    let path = format!("/rooms/{}/messages?dir=b&limit=100", esc(room));
    let (status, page) = user.get(&path).await;
    if status.is_success() {
        let shown = page["chunk"].as_array().unwrap().iter();
        let shown: Vec<_> = shown
            .map(|event| event["event_id"].as_str().unwrap())
            .collect();
        let paged: String = events
            .iter()
            .map(|id| {
                if shown.contains(&id.as_str()) {
                    'x'
                } else {
                    '-'
                }
            })
            .collect();
        assert_eq!(paged, seen, "paging and asking agree");
    } else {
        assert!(!seen.contains('x'), "{page}");
    }
    seen
}

async fn set_visibility(user: &User, room: &str, value: &str) -> String {
    let path = format!("/rooms/{}/state/m.room.history_visibility", esc(room));
    let answer = user
        .ok(
            http::Method::PUT,
            &path,
            json!({"history_visibility": value}),
        )
        .await;
    answer["event_id"].as_str().unwrap().to_owned()
}

async fn people(server: &Server) -> (User, User, User) {
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    let mallory = server.register("mallory").await;
    (alice, bob, mallory)
}

#[tokio::test]
async fn the_invited_the_joined_the_gone_and_the_stranger() {
    story(|server| async move {
        let (alice, bob, mallory) = people(&server).await;
        for (value, bobs, mallorys) in [
            ("world_readable", "xxxxx", "xxxxx"),
            ("shared", "xxx--", "-----"),
            ("invited", "-xx--", "-----"),
            ("joined", "--x--", "-----"),
        ] {
            let room = alice.create_public().await;
            set_visibility(&alice, &room, value).await;
            let mut said = vec![alice.say(&room, "before").await];
            alice.invite(&room, &bob).await;
            said.push(alice.say(&room, "while invited").await);
            bob.join(&room).await;
            said.push(alice.say(&room, "while joined").await);
            bob.leave(&room).await;
            said.push(alice.say(&room, "after").await);
            let ban = format!("/rooms/{}/ban", esc(&room));
            alice
                .ok(http::Method::POST, &ban, json!({"user_id": bob.id}))
                .await;
            said.push(alice.say(&room, "after the ban").await);
            assert_eq!(sees(&alice, &room, &said).await, "xxxxx", "{value}");
            assert_eq!(sees(&bob, &room, &said).await, bobs, "{value}");
            assert_eq!(sees(&mallory, &room, &said).await, mallorys, "{value}");
        }
    })
    .await;
}

#[tokio::test]
async fn those_who_return_see_what_their_times_allow() {
    story(|server| async move {
        let (alice, bob, _) = people(&server).await;
        for (value, bobs) in [("shared", "xxxx"), ("joined", "-x-x")] {
            let room = alice.create_public().await;
            set_visibility(&alice, &room, value).await;
            let mut said = vec![alice.say(&room, "before").await];
            bob.join(&room).await;
            said.push(alice.say(&room, "there").await);
            bob.leave(&room).await;
            said.push(alice.say(&room, "away").await);
            bob.join(&room).await;
            said.push(alice.say(&room, "back").await);
            assert_eq!(sees(&bob, &room, &said).await, bobs, "{value}");
        }
    })
    .await;
}

#[tokio::test]
async fn changes_of_visibility_are_seen_from_their_laxer_side() {
    story(|server| async move {
        let (alice, bob, _) = people(&server).await;
        let room = alice.create_public().await;
        set_visibility(&alice, &room, "joined").await;
        bob.join(&room).await;
        bob.leave(&room).await;
        let opened = set_visibility(&alice, &room, "world_readable").await;
        let closed = set_visibility(&alice, &room, "joined").await;
        let hidden = alice.say(&room, "hidden").await;
        let path = |id: &str| format!("/rooms/{}/event/{}", esc(&room), esc(id));
        for (id, status) in [(opened, 200), (closed, 200), (hidden, 404)] {
            assert_eq!(bob.get(&path(&id)).await.0, status);
        }
    })
    .await;
}
