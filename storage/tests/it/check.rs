//! What `rhizome database check` says of a database that is as it should be, and of ones that aren't.

use rhizome_storage::testing::{each_database, spoil};
use rhizome_storage::{
    Blob, Check, CheckOptions, CheckProgress, Findings, Keep, NewAccount, NewLogin, NewMedia,
    NewTokens, Step, Store,
};
use ruma::{device_id, user_id};

use crate::factory::{Room, user};

/// Two rooms with members who come and go, an account with a device, a file.
async fn live(store: &Store) {
    let room = Room::new(store, "yard").await;
    let other = Room::new(store, "attic").await;
    for name in ["bob", "carol", "dave"] {
        room.member(&user(name), "join").await;
        other.member(&user(name), "invite").await;
    }
    room.member(user_id!("@eve:there.example"), "join").await;
    room.member(&user("dave"), "leave").await;
    room.send("hello").await;
    other.send("hello").await;
    let login = |user| NewLogin {
        user,
        device_id: device_id!("PHONE").to_owned(),
        device_name: None,
        ip: String::new(),
        now_ms: 1,
        tokens: NewTokens {
            access_hash: "a".to_owned(),
            refresh_hash: Some("r".to_owned()),
            expires_ms: None,
            refresh_expires_ms: None,
        },
        proof: None,
        proved: false,
    };
    let alice = user("alice");
    let made = store.create_account(&alice, NewAccount::default(), Some(Box::new(login)));
    let owner = made.await.unwrap().unwrap();
    let file = NewMedia {
        origin: "here.example",
        media_id: "one",
        remote: false,
        owner: Some(owner),
        content_type: None,
        name: None,
        size: 5,
    };
    let blob = Blob {
        key: "key".to_owned(),
        sha256: "aa".to_owned(),
        size: 5,
        store: "local".to_owned(),
        seal: None,
    };
    store.add_media(&file, Keep::New(&blob)).await.unwrap();
}

async fn look(store: &Store, step: Step, thorough: bool) -> Findings {
    let options = CheckOptions {
        thorough,
        ..CheckOptions::default()
    };
    let mut check = Check::open(&store.options().url, options).await.unwrap();
    let found = check.step(step, &CheckProgress::default()).await.unwrap();
    check.close().await;
    found
}

async fn whats(store: &Store, step: Step) -> Vec<String> {
    let found = look(store, step, true).await;
    for finding in &found.wrong {
        assert!(
            finding.count > 0 && !finding.examples.is_empty(),
            "{finding:?}"
        );
    }
    let wrong = found.wrong.iter();
    wrong.map(|finding| finding.what.to_owned()).collect()
}

/// Spoils what each of these says, one after another, and looks each time for what is found in addition.
async fn found_in_turn(step: Step, cases: &'static [(&'static str, &'static str)]) {
    each_database(|store| async move {
        live(&store).await;
        let mut known = whats(&store, step).await;
        assert_eq!(known, Vec::<String>::new(), "{step:?}");
        for (statement, part) in cases {
            spoil(&store, statement).await;
            let found = whats(&store, step).await;
            let new = found.iter().filter(|what| !known.contains(what));
            let new: Vec<_> = new.collect();
            assert!(
                new.iter().any(|what| what.contains(part)),
                "{statement}: {found:?}"
            );
            known = found;
        }
    })
    .await;
}

#[tokio::test]
async fn a_healthy_database_is_clean() {
    each_database(async |store| {
        // One in which nothing has happened is, too.
        for lived in [false, true] {
            if lived {
                live(&store).await;
            }
            for (step, thorough) in Step::ALL
                .into_iter()
                .flat_map(|step| [(step, false), (step, true)])
            {
                let found = look(&store, step, thorough).await;
                assert_eq!(found.wrong, [], "{step:?}");
                assert!(!found.is_end);
            }
        }
    })
    .await;
}

/// Everything is as of one moment, whatever is committed meanwhile; and the server isn't held up.
#[tokio::test]
async fn what_is_committed_meanwhile_is_not_seen() {
    each_database(async |store| {
        live(&store).await;
        let options = CheckOptions::default();
        let mut check = Check::open(&store.options().url, options).await.unwrap();
        let progress = CheckProgress::default();
        let before = check.step(Step::Rooms, &progress).await.unwrap();
        assert_eq!(before.wrong, []);
        Room::new(&store, "cellar").await.send("hello").await;
        spoil(&store, "UPDATE room SET joined = joined + 1").await;
        let rooms = check.step(Step::Rooms, &progress).await.unwrap();
        assert_eq!(rooms.wrong, []);
        check.renew().await.unwrap();
        let rooms = check.step(Step::Rooms, &progress).await.unwrap();
        assert_eq!(rooms.wrong[0].count, 3);
        assert!(
            rooms.wrong[0]
                .examples
                .contains(&"!cellar:here.example".to_owned())
        );
        check.close().await;
    })
    .await;
}

#[tokio::test]
async fn migrations_that_lack_are_found() {
    each_database(async |store| {
        spoil(&store, "DELETE FROM _sqlx_migrations WHERE version = 63").await;
        let found = look(&store, Step::Schema, false).await;
        assert_eq!(found.wrong[0].examples, ["migration 63"]);
        assert!(found.is_end);
    })
    .await;
}

#[tokio::test]
async fn damage_of_rooms_is_found() {
    found_in_turn(
        Step::Rooms,
        &[
            ("UPDATE room SET joined = joined + 1", "joined or invited"),
            ("DELETE FROM room_server", "that servers have"),
            (
                "UPDATE membership SET event = 987654321 WHERE membership = 3",
                "memberships rest",
            ),
            ("UPDATE room SET snapshot = 987654321", "current state"),
            (
                "UPDATE room SET extremities = '[[987654321,\"$x\",1]]'",
                "rooms end in",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn damage_of_states_is_found() {
    found_in_turn(
        Step::States,
        &[
            (
                "DELETE FROM current_state WHERE member = 1",
                "written down twice",
            ),
            ("DELETE FROM event WHERE ord = 1", "refer to events"),
            (
                "UPDATE state_snapshot SET body = UNHEX('00')",
                "can't be read",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn damage_of_events_is_found() {
    found_in_turn(
        Step::Events,
        &[
            ("UPDATE event SET json = replace(json, 'hello', 'hallo')", "text of events"),
            ("UPDATE event SET ord = NULL WHERE ord = 1", "no place"),
            ("UPDATE event SET redacted_by = 987654321 WHERE ord = 1 OR ord IS NULL", "refer to states or events"),
            (
                "INSERT INTO missing_prev (missing, event, room) SELECT event_id, no, room FROM event",
                "taken for missing",
            ),
            (
                "INSERT INTO missing_prev (missing, event, room) VALUES ('$x', 987654321, 1)",
                "what events lack",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn auth_events_that_lack_are_found() {
    found_in_turn(
        Step::Events,
        &[(
            "INSERT INTO event_auth (event, auth) SELECT MIN(no), 987654321 FROM event",
            "refer to states or events",
        )],
    )
    .await;
}

#[tokio::test]
async fn damage_of_the_log_is_found() {
    found_in_turn(
        Step::Log,
        &[
            (
                "UPDATE state_change SET pos = (SELECT MIN(ord) FROM event) \
                 WHERE pos = (SELECT MIN(pos) FROM state_change)",
                "given twice",
            ),
            ("UPDATE counter SET pos = 3", "the counter hasn't given out"),
        ],
    )
    .await;
}

#[tokio::test]
async fn damage_of_accounts_is_found() {
    found_in_turn(
        Step::Accounts,
        &[
            ("DELETE FROM device", "access tokens"),
            (
                "INSERT INTO device (user_no, device_id, last_seen_ms) VALUES (987654321, 'X', 1)",
                "devices belong",
            ),
            (
                "INSERT INTO receipt (room, user_no, kind, thread, event_id, ts, pos) \
                 VALUES (987654321, 1, 'm.read', '', '$x', 1, 987654321)",
                "receipts",
            ),
            (
                "INSERT INTO account_data (user_no, room, kind, content, pos) \
                 VALUES (987654321, 0, 'm.direct', '{}', 987654321)",
                "account data",
            ),
            (
                "INSERT INTO room_alias (alias, room, creator) VALUES ('#x:here.example', 987654321, 1)",
                "aliases",
            ),
            (
                "INSERT INTO network_listing (instance, room) VALUES ('irc|x', 987654321)",
                "directories of other networks hold rooms",
            ),
            ("DELETE FROM server_name", "users belong"),
            ("DELETE FROM user_name", "memberships are"),
        ],
    )
    .await;
}

#[tokio::test]
async fn damage_of_files_is_found() {
    found_in_turn(
        Step::Media,
        &[("DELETE FROM media_blob", "files have bytes")],
    )
    .await;
}

/// What is past its time is no fault, and is told of.
#[tokio::test]
async fn what_would_be_purged_is_counted() {
    each_database(async |store| {
        live(&store).await;
        assert_eq!(look(&store, Step::Purge, false).await, Findings::default());
        spoil(
            &store,
            "INSERT INTO uia_session (id, purpose, expires_ms) VALUES ('a', 'b', 1), ('c', 'd', 1)",
        )
        .await;
        spoil(&store, "INSERT INTO sticky (event, room, sender, expires_ms, allowed, pos) VALUES (1, 1, 1, 1, 1, 1)").await;
        let found = look(&store, Step::Purge, false).await;
        assert_eq!(found.wrong, []);
        assert_eq!(
            found.notes,
            [
                "1 events that are sticky no more",
                "2 steps of authentication that were never finished"
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn blobs_are_listed_and_known() {
    each_database(async |store| {
        live(&store).await;
        let mut check = Check::open(&store.options().url, CheckOptions::default())
            .await
            .unwrap();
        assert_eq!(check.blob_count().await.unwrap(), 1);
        let blobs = check.blobs("", 9).await.unwrap();
        assert_eq!((blobs.len(), blobs[0].key.as_str()), (1, "key"));
        assert_eq!(check.blobs("key", 9).await.unwrap(), []);
        let known = check.known_blobs(&["key", "other"]).await.unwrap();
        assert_eq!(known, [(blobs[0].clone(), false)]);
        assert_eq!(check.media_store_id("local").await.unwrap(), None);
        check.close().await;
    })
    .await;
}
