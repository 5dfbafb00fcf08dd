//! Backups are rehearsed: made while people write, and put back after everything is lost.

use std::path::Path;
use std::time::Duration;

use rhizome_demo::Authority;
use rhizome_storage::testing::eventually;
use serde_json::{Value, json};

use crate::{
    client::{Client, path, timeline},
    database::Database,
    process::{self, Process},
    to_device::{federation, free_address},
};

/// A server that others reach.
struct Server {
    process: Process,
    database: Database,
    name: String,
    config: String,
}

impl Server {
    async fn start(authority: &Authority) -> Self {
        let address = free_address();
        let name = format!("localhost:{}", address.port());
        let config = federation(address, authority);
        let database = Database::unmade();
        let process = process::start_as(&database, (&name, &config), None).await;
        Self {
            process,
            database,
            name,
            config,
        }
    }

    async fn start_again(&mut self) {
        self.process = process::start_as(&self.database, (&self.name, &self.config), None).await;
    }
}

/// Ada, at two devices, and bea of another server in a room that ada made.
struct Story {
    north: Server,
    /// What runs of the other server.
    _south: Server,
    phone: Client,
    laptop: Client,
    bea: Client,
    room: String,
    _authority: tempfile::TempDir,
}

async fn story() -> Story {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::create(folder.path()).unwrap();
    let (north, south) = (
        Server::start(&authority).await,
        Server::start(&authority).await,
    );
    let phone = Client::register(&north.process.base, "ada").await;
    let laptop = phone.another_device().await;
    let bea = Client::register(&south.process.base, "bea").await;
    let room = phone.create_room().await;
    let join = format!("/join/{}?via={}", path(&room), path(&north.name));
    bea.call("POST", &join, Some(json!({}))).await.unwrap();
    Story {
        north,
        _south: south,
        phone,
        laptop,
        bea,
        room,
        _authority: folder,
    }
}

/// What was said in a room, oldest first.
fn said(events: &[Value]) -> Vec<String> {
    let texts = events
        .iter()
        .filter_map(|event| event["content"]["body"].as_str());
    texts.map(str::to_owned).collect()
}

async fn sync(client: &Client, since: Option<&str>) -> (Value, String) {
    let answer = client.sync(since, Duration::ZERO).await.unwrap();
    let next = answer["next_batch"].as_str().unwrap().to_owned();
    (answer, next)
}

/// A backup; the folder it is in. Two in one second would have one name.
async fn back_up(server: &Process, dir: &Path) -> String {
    let args = ["backup", "create", dir.to_str().unwrap()];
    let told = std::sync::Mutex::new(String::new());
    eventually("a backup is made", async || {
        let (done, said) = server.command(&args, &[]);
        assert!(done || said.contains("isn't written over"), "{said}");
        *told.lock().unwrap() = said;
        done
    })
    .await;
    told.into_inner().unwrap()
}

/// Says something again and again while a backup is made; how often.
async fn back_up_while_writing(story: &Story, dir: &Path) -> usize {
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let (begun, mut begins) = tokio::sync::watch::channel(0);
    let (client, room) = (story.laptop.clone(), story.room.clone());
    let writing = tokio::spawn(async move {
        let mut number = 0;
        while !*stopped.borrow_and_update() {
            let text = format!("during {number}");
            client
                .say(&room, &format!("d{number}"), &text)
                .await
                .unwrap();
            number += 1;
            begun.send_replace(number);
        }
        number
    });
    begins.wait_for(|count| *count > 3).await.unwrap();
    back_up(&story.north.process, dir).await;
    stop.send_replace(true);
    writing.await.unwrap()
}

/// The first backup, put somewhere else: whole, and as of one moment.
fn the_first_is_of_one_moment(server: &Process, dir: &Path) {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|one| one.unwrap().path())
        .collect();
    all.retain(|one| one.join("manifest.json").exists());
    all.sort();
    assert_eq!(all.len(), 2, "{all:?}");
    let elsewhere = tempfile::tempdir().unwrap();
    let to = elsewhere.path().join("data");
    let (first, to) = (all[0].to_str().unwrap(), to.to_str().unwrap());
    let (done, told) = server.command(&["backup", "restore", first, "--to", to], &[]);
    assert!(done && told.contains("What to do next"), "{told}");
    let url = format!("sqlite:{to}/rhizome.db");
    let there = [
        ("RHIZOME__SERVER__DATA_DIR", to),
        ("RHIZOME__DATABASE__URL", &*url),
    ];
    let (done, told) = server.command(&["database", "check"], &there);
    assert!(done, "{told}");
    assert_eq!(left_beside(Path::new(to)), Vec::<String>::new());
}

/// What a restore has left beside what a server needs.
fn left_beside(data: &Path) -> Vec<String> {
    let names = std::fs::read_dir(data)
        .unwrap()
        .map(|one| one.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| !["rhizome.db", "signing.key", "media"].contains(&&**name));
    names.retain(|name| !name.starts_with("rhizome.db-"));
    names
}

/// All that a server has is gone.
fn lose(data: &Path) {
    for entry in std::fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else if name.starts_with("rhizome.db") || name == "signing.key" {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_lost_comes_back_and_nobody_is_told_what_is_not_so() {
    let mut story = story().await;
    let dir = tempfile::tempdir().unwrap();
    let (backups, room) = (dir.path().join("backups"), story.room.clone());
    story.phone.say(&room, "k", "kept").await.unwrap();
    let kept = story.phone.upload(b"kept".to_vec()).await;
    let (_, early) = sync(&story.laptop, None).await;
    let during = back_up_while_writing(&story, &backups).await;
    let late = story.phone.upload(b"came later".to_vec()).await;
    let told = back_up(&story.north.process, &backups).await;
    // Of the files only the new one was copied.
    assert!(told.contains("of which 10 B were copied"), "{told}");
    the_first_is_of_one_moment(&story.north.process, &backups);

    // A life that will have been none, except for bea and her server.
    let lost_file = story.phone.upload(b"lost".to_vec()).await;
    let (_, asleep) = sync(&story.phone, None).await;
    let mut last = String::new();
    for number in 0..5 {
        let text = format!("lost {number}");
        last = story
            .phone
            .say(&room, &format!("l{number}"), &text)
            .await
            .unwrap();
    }
    story
        .phone
        .set(&room, "k", "set in the lost time")
        .await
        .unwrap();
    let (_, awake) = sync(&story.laptop, None).await;
    let bea = &story.bea;
    eventually("what is lost has come to the other server", async || {
        bea.history(&room)
            .await
            .iter()
            .any(|event| event["event_id"] == *last)
    })
    .await;
    story.north.process.kill();
    let restore = ["backup", "restore", backups.to_str().unwrap()];
    let (done, told) = story.north.process.command(&restore, &[]);
    assert!(!done && told.contains("nothing is written over"), "{told}");
    lose(story.north.database.folder());
    let (done, told) = story.north.process.command(&restore, &[]);
    assert!(done, "{told}");
    story.north.start_again().await;
    assert_eq!(story.north.process.check_database(), Ok(()));
    let base = story.north.process.base.clone();
    let (phone, laptop) = (story.phone.at(&base), story.laptop.at(&base));

    // Whatever a device knew it is told everything, and nothing that isn't so.
    let mut expected = vec!["kept".to_owned()];
    expected.extend((0..during).map(|number| format!("during {number}")));
    for (device, since) in [(&phone, &asleep), (&laptop, &awake), (&laptop, &early)] {
        let (whole, next) = sync(device, Some(since)).await;
        // The newest, if there are very many.
        let told = said(&timeline(&whole, &room));
        assert!(
            !told.is_empty() && expected.ends_with(&told),
            "{since}: {told:?}"
        );
        let (news, _) = sync(device, Some(&next)).await;
        assert!(news["rooms"]["join"].get(&room).is_none(), "{news}");
    }
    assert_eq!(said(&phone.history(&room).await), expected);
    assert_eq!(phone.download(&kept).await.as_deref(), Some(&b"kept"[..]));
    assert_eq!(
        phone.download(&late).await.as_deref(),
        Some(&b"came later"[..])
    );
    assert_eq!(phone.download(&lost_file).await, None);
    heals(&phone, &story.bea, &room).await;
}

/// What the other server still knows comes back when somebody there builds upon it.
async fn heals(ada: &Client, bea: &Client, room: &str) {
    let after = ada.say(room, "after", "after the restore").await.unwrap();
    let from_south = bea.say(room, "south", "from the south").await.unwrap();
    let ids = |events: Vec<Value>| {
        let mut ids: Vec<String> = events
            .iter()
            .map(|event| event["event_id"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        ids
    };
    eventually("both servers have the same", async || {
        let (here, there) = (ids(ada.history(room).await), ids(bea.history(room).await));
        here == there && here.contains(&after) && here.contains(&from_south)
    })
    .await;
    eventually("both agree upon the state", async || {
        ada.state(room).await == bea.state(room).await
    })
    .await;
    let texts = said(&ada.history(room).await);
    for number in 0..5 {
        let text = format!("lost {number}");
        assert_eq!(
            texts.iter().filter(|one| **one == text).count(),
            1,
            "{texts:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_beside_postgresql_has_files_and_key() {
    let database = Database::postgres().await;
    let mut server = process::start(&database, None).await;
    let ada = Client::register(&server.base, "ada").await;
    let room = ada.create_room().await;
    ada.say(&room, "k", "kept").await.unwrap();
    let kept = ada.upload(b"kept".to_vec()).await;
    let (_, since) = sync(&ada, None).await;
    let dir = tempfile::tempdir().unwrap();
    let told = back_up(&server, dir.path()).await;
    assert!(told.contains("database: not in it"), "{told}");
    let backups = dir.path().to_str().unwrap();
    let (done, told) = server.command(&["backup", "verify", backups], &[]);
    assert!(done, "{told}");
    server.kill();
    // PostgreSQL's tools have put the database back.
    lose(database.folder());
    let (done, told) = server.command(&["backup", "restore", backups], &[]);
    assert!(done, "{told}");
    let server = process::start(&database, None).await;
    let ada = ada.at(&server.base);
    let (whole, _) = sync(&ada, Some(&since)).await;
    assert_eq!(said(&timeline(&whole, &room)), ["kept"]);
    assert_eq!(ada.download(&kept).await.as_deref(), Some(&b"kept"[..]));
}

/// The file of a user in the only backup of a folder.
fn a_file(folder: &Path) -> Option<std::path::PathBuf> {
    let mut entries = std::fs::read_dir(folder)
        .ok()?
        .map(|entry| entry.unwrap().path());
    entries.find_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        if path.is_dir() {
            a_file(&path)
        } else {
            (name.len() > 64).then_some(path)
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_found_and_not_restored() {
    let database = Database::unmade();
    let mut server = process::start(&database, None).await;
    let ada = Client::register(&server.base, "ada").await;
    ada.upload(b"kept".to_vec()).await;
    let dir = tempfile::tempdir().unwrap();
    back_up(&server, dir.path()).await;
    let backups = dir.path().to_str().unwrap();
    let verify =
        |args: &[&str]| server.command(&[&["backup", "verify", backups], args].concat(), &[]);
    let (done, told) = verify(&[]);
    assert!(done && told.contains("is whole"), "{told}");

    let file = a_file(dir.path()).unwrap();
    std::fs::write(&file, b"kepT").unwrap();
    let (done, told) = verify(&[]);
    assert!(!done && told.contains("isn't what it was"), "{told}");
    assert!(told.contains("What to do: "), "{told}");
    assert!(verify(&["--quick"]).0, "its size is right");
    std::fs::remove_file(&file).unwrap();
    let (done, told) = verify(&["--quick"]);
    assert!(!done && told.contains("is missing"), "{told}");

    server.kill();
    lose(database.folder());
    let (done, told) = server.command(&["backup", "restore", backups], &[]);
    assert!(!done && told.contains("is missing"), "{told}");
    assert!(!database.folder().join("rhizome.db").exists());
}
