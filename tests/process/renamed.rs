//! A changed name reaches every room, whatever ends the process meanwhile.

use rhizome_storage::testing::eventually;
use serde_json::json;

use crate::{
    client::{Client, path},
    crash::rounds,
    database::Database,
    process,
};

const ROOMS: usize = 30;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_leaves_no_room_with_an_old_name_on_sqlite() {
    kill(Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_leaves_no_room_with_an_old_name_on_postgres() {
    kill(Database::postgres().await).await;
}

async fn kill(database: Database) {
    let mut server = process::start(&database, None).await;
    let mut alice = Client::register(&server.base, "alice").await;
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        rooms.push(alice.create_room().await);
    }
    for round in 0..rounds() {
        rename(&alice, &format!("Alice {round}")).await;
        let newest = format!("Alice {round} again");
        rename(&alice, &newest).await;
        // As far as it came: right after the answer, or when some rooms know.
        if let Some(at) = round.checked_sub(1) {
            knows(&alice, &rooms[at * 7 % ROOMS], &newest).await;
        }
        server.kill();
        server = process::start(&database, None).await;
        alice = alice.at(&server.base);
        for room in &rooms {
            knows(&alice, room, &newest).await;
        }
    }
}

async fn rename(alice: &Client, name: &str) {
    let path = format!("/profile/{}/displayname", path(&alice.user_id));
    let body = json!({ "displayname": name });
    alice
        .call("PUT", &path, Some(body))
        .await
        .expect("is renamed");
}

async fn knows(alice: &Client, room: &str, name: &str) {
    let path = format!(
        "/rooms/{}/state/m.room.member/{}",
        path(room),
        path(&alice.user_id)
    );
    eventually("the room knows", async || {
        let member = alice.call("GET", &path, None).await;
        member.is_ok_and(|member| member["displayname"] == name)
    })
    .await;
}
