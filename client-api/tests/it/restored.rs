//! A backup is restored: what clients know of the life that it cuts off is not believed, however far the
//! new one has come.

use std::path::Path;

use http::Method;
use rhizome_storage::testing::TestDatabase;
use serde_json::json;

use crate::harness::{Server, User, esc, next, timeline};

/// The files of an SQLite database that nobody has open.
fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(to).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Says `text`, which also names the transaction: servers count theirs anew.
async fn say(user: &User, room: &str, text: &str) -> String {
    let path = format!("/rooms/{}/send/m.room.message/{}", esc(room), esc(text));
    let said = json!({ "msgtype": "m.text", "body": text });
    let answer = user.ok(Method::PUT, &path, said).await;
    answer["event_id"].as_str().unwrap().to_owned()
}

async fn at(user: &User, database: &TestDatabase) -> User {
    User {
        server: Server::new(database.open().await),
        ..user.clone()
    }
}

/// A token without its seal, and one with a position that somebody made up.
fn forged(token: &str) -> (String, String) {
    let (head, rest) = token.split_once('_').unwrap();
    let (pos, rest) = rest.split_once('_').unwrap();
    let further = pos.parse::<i64>().unwrap() + 1_000_000;
    let plain = format!("{}_{further}_{rest}", &head[..13]);
    (plain, format!("{head}_{further}_{rest}"))
}

#[tokio::test]
async fn tokens_from_before_a_restore_are_not_believed() {
    let database = TestDatabase::sqlite();
    let backup = tempfile::tempdir().unwrap();
    let server = Server::new(database.open().await);
    let alice = server.register("alice").await;
    let room = alice.create_public().await;
    say(&alice, &room, "kept").await;
    let early = next(&alice.sync(None, "").await);
    server.store.close().await;
    copy(database.folder().unwrap(), backup.path());

    // A life that will have been none.
    let alice = at(&alice, &database).await;
    for n in 0..5 {
        say(&alice, &room, &format!("lost {n}")).await;
    }
    let asleep = next(&alice.sync(None, "").await);
    say(&alice, &room, "lost at last").await;
    let awake = next(&alice.sync(Some(&asleep), "").await);
    alice.server.store.close().await;
    copy(backup.path(), database.folder().unwrap());

    let alice = at(&alice, &database).await;
    let whole = |sync: &serde_json::Value| sync["rooms"]["join"][&room]["summary"].is_object();
    // Anybody can make up a position: nobody else suffers from it.
    let epoch = alice.server.store.epoch();
    let (plain, moved) = forged(&early);
    for made_up in [&plain, &moved] {
        assert!(whole(&alice.sync(Some(made_up), "").await));
    }
    assert_eq!(alice.server.store.epoch(), epoch);
    // The first client that comes has seen more than there is.
    let told = alice.sync(Some(&awake), "").await;
    assert!(whole(&told));
    assert_ne!(alice.server.store.epoch(), epoch);
    assert_eq!(alice.sync(Some(&next(&told)), "").await.get("rooms"), None);
    // The log passes what the other knew; it comes back, and is told everything.
    let mut said = Vec::new();
    for n in 0..8 {
        said.push(say(&alice, &room, &format!("new {n}")).await);
    }
    let news = alice.sync(Some(&next(&told)), "").await;
    assert_eq!(timeline(&news, &room), said);
    for old in [&asleep, &early] {
        let sync = alice.sync(Some(old), "").await;
        assert!(whole(&sync), "{old}: {sync}");
    }
    alice.server.store.close().await;
}
