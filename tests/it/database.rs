//! `rhizome database check` and `vacuum`, beside a server and alone.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use rhizome_storage::testing::spoil;
use serde_json::json;

use crate::cli::{rhizome, serve, terminate, texts};
use crate::harness::{Kind, Server, each_database};

/// Runs the command on the server's database and files.
fn database(server: &Server, args: &[&str]) -> Output {
    let running = server.site.running().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rhizome"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RHIZOME") {
            command.env_remove(name);
        }
    }
    command
        .arg("database")
        .args(args)
        .env("RHIZOME__SERVER__NAME", server.name())
        .env(
            "RHIZOME__SERVER__DATA_DIR",
            &running.config().server.data_dir,
        )
        .env("RHIZOME__DATABASE__URL", server.database_url())
        .stdin(Stdio::null());
    // The server runs in this process, and may be writing.
    tokio::task::block_in_place(|| command.output().unwrap())
}

fn text(output: &Output) -> String {
    let (out, error) = texts(output);
    format!("{out}{error}")
}

/// Deletes the bytes of every file.
fn lose_files(folder: &Path) -> usize {
    let mut lost = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "new" {
            lost += lose_files(&path);
        } else if name.len() > 64 {
            std::fs::remove_file(path).unwrap();
            lost += 1;
        }
    }
    lost
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_runs_is_healthy_until_it_is_damaged() {
    each_database(|kind| async move {
        let server = Server::start(kind).await;
        let ada = server.register("ada").await;
        let bea = server.register("bea").await;
        let room = ada
            .create_room(json!({ "preset": "public_chat", "name": "Garden" }))
            .await
            .unwrap();
        bea.join(&room, &[server.name()]).await.unwrap();
        ada.say(&room, "hello").await.unwrap();
        let url = format!("{}/_matrix/media/v3/upload", ada.base());
        let upload = server.http.post(url).bearer_auth(ada.token()).body("hello");
        let upload = upload.header("content-type", "text/plain");
        assert_eq!(upload.send().await.unwrap().status(), 200);

        for args in [&["check"][..], &["check", "--thorough"][..]] {
            let clean = database(&server, args);
            let told = text(&clean);
            assert!(clean.status.success(), "{told}");
            assert!(told.contains("rooms: ok\n"), "{told}");
            assert!(told.contains("stores of files: ok\n"), "{told}");
            assert!(told.contains("Nothing is wrong.\n"), "{told}");
            let (_, progress) = texts(&clean);
            assert!(
                progress.starts_with("1/10 database\n2/10 migrations\n"),
                "{progress}"
            );
        }

        let running = server.site.running().unwrap();
        spoil(running.store(), "UPDATE room SET joined = joined + 1").await;
        let config = running.config();
        let folder = config.media.path(&config.server.data_dir);
        assert_eq!(lose_files(&folder), 1);
        let found = database(&server, &["check"]);
        let told = text(&found);
        assert_eq!(found.status.code(), Some(1), "{told}");
        assert!(told.contains("rooms: something is wrong\n"), "{told}");
        assert!(told.contains(&room), "{told}");
        assert!(told.contains("files have lost their bytes (1):"), "{told}");
        assert!(told.contains("What to do: "), "{told}");
        assert!(told.contains("2 things are wrong"), "{told}");
        server.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_tidied_beside_a_server() {
    let server = Server::start(Kind::Postgres).await;
    server.register("ada").await;
    let done = database(&server, &["vacuum"]);
    let told = text(&done);
    assert!(done.status.success(), "{told}");
    assert!(
        told.contains("before: ") && told.contains("after: "),
        "{told}"
    );
    let (_, progress) = texts(&done);
    assert!(
        progress.starts_with("1/") && progress.contains(" event\n"),
        "{progress}"
    );
    server.register("bea").await;
    server.stop().await;
}

#[tokio::test]
async fn a_file_is_written_anew_only_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let vacuum = || {
        rhizome(dir.path())
            .args(["database", "vacuum"])
            .output()
            .unwrap()
    };
    let serving = serve(dir.path());
    let refused = vacuum();
    let told = text(&refused);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("stop the server first"), "{told}");
    assert_eq!(terminate(serving).await, Some(0));
    let done = vacuum();
    let told = text(&done);
    assert!(done.status.success(), "{told}");
    assert!(
        told.contains("before: ") && told.contains("after: "),
        "{told}"
    );
    let check = rhizome(dir.path()).args(["database", "check"]).output();
    let check = check.unwrap();
    assert!(check.status.success(), "{}", text(&check));
    // A server starts on it as before.
    assert_eq!(terminate(serve(dir.path())).await, Some(0));
}

#[test]
fn what_is_not_there_is_neither_looked_through_nor_made() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["check", "vacuum"] {
        let output = rhizome(dir.path()).args(["database", command]).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(
            text(&output).contains("can't open the database"),
            "{command}"
        );
    }
    assert!(!dir.path().join("rhizome-data").exists());
}
