//! A server moves from SQLite to PostgreSQL: nobody notices, except by its being away for a while.

use std::time::Duration;

use rhizome_storage::testing::eventually;
use serde_json::{Value, json};

use crate::{
    client::{Client, Failure, path, timeline},
    database::Database,
    process,
};

async fn sync(client: &Client, since: Option<&str>) -> (Value, String) {
    let answer = client.sync(since, Duration::ZERO).await.unwrap();
    let next = answer["next_batch"].as_str().unwrap().to_owned();
    (answer, next)
}

/// What a history says, without how old it is by now.
fn core(history: &[Value]) -> Vec<[&Value; 4]> {
    let keys = ["event_id", "type", "sender", "content"];
    history
        .iter()
        .map(|event| keys.map(|key| &event[key]))
        .collect()
}

/// Whether a search for a word finds one message.
async fn finds(client: &Client, word: &str) -> bool {
    let body = json!({ "search_categories": { "room_events": { "search_term": word } } });
    let answer = client.call("POST", "/search", Some(body)).await.unwrap();
    let found = &answer["search_categories"]["room_events"]["results"];
    found.as_array().is_some_and(|found| found.len() == 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_go_on_with_their_tokens_on_postgresql() {
    let database = Database::unmade();
    let mut server = process::start(&database, None).await;
    let phone = Client::register(&server.base, "ada").await;
    let laptop = phone.another_device().await;
    let bob = Client::register(&server.base, "bob").await;
    let room = phone.create_room().await;
    bob.join(&room).await;
    for number in 0..30 {
        let text = format!("said{number} \u{0}\t\\N 🦀");
        phone
            .say(&room, &format!("t{number}"), &text)
            .await
            .unwrap();
    }
    phone.set(&room, "k", "as it was").await.unwrap();
    let file = phone.upload(vec![7; 70_000]).await;
    let (_, since) = sync(&phone, None).await;
    let (_, of_laptop) = sync(&laptop, None).await;
    let to_all = json!({ "messages": { &phone.user_id: { "*": { "secret": 1 } } } });
    bob.call("PUT", "/sendToDevice/m.test/one", Some(to_all))
        .await
        .unwrap();
    let (history, state) = (phone.history(&room).await, phone.state(&room).await);

    let folder = database.folder().to_owned();
    let postgres = database.moved_to_postgres().await;
    let url = folder.join("url");
    std::fs::write(&url, postgres.url()).unwrap();
    let migrate = [
        "database",
        "migrate-to",
        "--url-file",
        url.to_str().unwrap(),
    ];
    let (done, told) = server.command(&migrate, &[]);
    assert!(!done && told.contains("Stop the server first"), "{told}");
    server.kill();
    let (done, told) = server.command(&migrate, &[]);
    assert!(done && told.contains("event: "), "{told}");
    assert!(
        !told.contains("postgres@") && told.contains("What to do next"),
        "{told}"
    );
    let (done, told) = server.command(&migrate, &[]);
    assert!(!done && told.contains("isn't empty"), "{told}");

    let server = process::start(&postgres, None).await;
    assert_eq!(server.check_database(), Ok(()));
    let (phone, laptop, bob) = (
        phone.at(&server.base),
        laptop.at(&server.base),
        bob.at(&server.base),
    );
    assert_eq!(core(&phone.history(&room).await), core(&history));
    assert_eq!(phone.state(&room).await, state);
    assert_eq!(phone.download(&file).await, Some(vec![7; 70_000]));
    what_is_new_is_told_once([&phone, &laptop, &bob], [&since, &of_laptop], &room).await;
    // A transaction that was done there is done here.
    let again = phone.say(&room, "t0", "said0 again").await.unwrap();
    assert!(history.iter().any(|event| event["event_id"] == *again));
    eventually("what was said before is found again", async || {
        finds(&phone, "said7").await && finds(&phone, "here").await
    })
    .await;
    leaves_and_comes(&bob, &room).await;
}

/// With the tokens of before.
async fn what_is_new_is_told_once(
    [phone, laptop, bob]: [&Client; 3],
    [since, of_laptop]: [&str; 2],
    room: &str,
) {
    let (news, since) = sync(phone, Some(since)).await;
    assert_eq!(timeline(&news, room), Vec::<Value>::new());
    // What waited for a device comes once, and what is said now is all that is new.
    let (news, of_laptop) = sync(laptop, Some(of_laptop)).await;
    assert_eq!(
        news["to_device"]["events"].as_array().map(Vec::len),
        Some(1),
        "{news}"
    );
    let said = bob.say(room, "new", "the first here").await.unwrap();
    for (device, since) in [(phone, &since), (laptop, &of_laptop)] {
        let (news, _) = sync(device, Some(since)).await;
        assert!(
            news["to_device"]["events"]
                .as_array()
                .is_none_or(Vec::is_empty),
            "{news}"
        );
        let events = timeline(&news, room);
        assert_eq!(events.len(), 1, "{news}");
        assert_eq!(events[0]["event_id"], said);
    }
}

/// What is derived from state goes on, too.
async fn leaves_and_comes(bob: &Client, room: &str) {
    let leave = format!("/rooms/{}/leave", path(room));
    bob.call("POST", &leave, Some(json!({}))).await.unwrap();
    let refused = bob.say(room, "gone", "from outside").await;
    assert!(matches!(refused, Err(Failure::Refused { status: 403, .. })));
    bob.join(room).await;
    bob.say(room, "back", "back").await.unwrap();
}
