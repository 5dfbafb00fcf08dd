//! What an operator does about users, beside a server that runs.

use rhizome_demo::Person;
use rhizome_storage::testing::eventually;

use crate::cli::{rhizome, serve, terminate, texts};

const PASSWORD: &str = "correct horse battery staple";

#[tokio::test]
async fn a_server_that_runs_hears_what_the_operator_does() {
    let dir = tempfile::tempdir().unwrap();
    let serving = serve(dir.path());
    std::fs::write(dir.path().join("password"), PASSWORD).unwrap();
    let run = |line: &str| {
        let output = rhizome(dir.path()).args(line.split(' ')).output().unwrap();
        (output.status.code(), texts(&output))
    };
    let good = |line: &str| {
        let (code, (out, error)) = run(line);
        assert_eq!(code, Some(0), "{line}: {error}");
        out
    };
    good("user create alice --password-file password");
    let http = rhizome_demo::http_client().unwrap();
    let alice = Person::login(&http, &serving.base, "alice", PASSWORD);
    let alice = alice.await.unwrap();
    let room = alice.create_room(serde_json::json!({})).await.unwrap();
    let status = async || {
        let url = format!("{}/_matrix/client/v3/account/whoami", serving.base);
        let asked = http.get(url).bearer_auth(alice.token()).send().await;
        asked.unwrap().status().as_u16()
    };
    assert_eq!(status().await, 200);

    assert!(good("user lock alice").contains("@alice:localhost is locked"));
    eventually("she is locked out", async || status().await == 401).await;
    assert!(good("user show @alice:localhost").contains("locked: yes"));
    assert!(good("user list --locked").contains("@alice:localhost"));
    good("user unlock alice");
    eventually("she is let in again", async || status().await == 200).await;
    assert!(!good("user list --locked").contains("alice"));

    good("user suspend alice");
    eventually("she is suspended", async || {
        alice.say(&room, "x").await.is_err()
    })
    .await;
    good("user unsuspend alice");
    good("user admin alice");
    assert!(good("user list --admins").contains("administrator"));
    let devices = good("user devices alice");
    let device = devices.split_whitespace().next().unwrap().to_owned();
    let (code, (_, error)) = run("user logout alice NONE");
    assert_eq!(code, Some(1));
    assert!(error.contains("has no device NONE"), "{error}");
    good(&format!("user logout alice {device}"));
    eventually("she is logged out", async || status().await == 401).await;

    good("user redact alice");
    eventually("the task is done", async || {
        good("task list").contains("redact user @alice:localhost")
            && good("task list").contains("done")
    })
    .await;
    good("user deactivate alice --erase --erase-media");
    assert!(good("user list --deactivated").contains("@alice:localhost"));
    let (code, (_, error)) = run("user lock alice");
    assert_eq!(code, Some(1));
    assert!(error.contains("deactivated"), "{error}");
    for nobody in ["bob", "@bob:elsewhere.example", "Not/Valid!"] {
        assert_eq!(run(&format!("user show {nobody}")).0, Some(1), "{nobody}");
    }

    good("block name root --reason reserved");
    good("block server Bad.Example --way in");
    let blocks = good("blocks");
    assert!(blocks.contains("name root") && blocks.contains("server bad.example (in)"));
    good("unblock name root");
    assert_eq!(run("unblock name root").0, Some(1));
    assert_eq!(run("block server localhost").0, Some(1));
    assert_eq!(terminate(serving).await, Some(0));
}

#[tokio::test]
async fn a_server_that_runs_hears_of_limits() {
    let dir = tempfile::tempdir().unwrap();
    let serving = serve(dir.path());
    std::fs::write(dir.path().join("password"), PASSWORD).unwrap();
    let run = |line: &str| {
        let output = rhizome(dir.path()).args(line.split(' ')).output().unwrap();
        (output.status.code(), texts(&output))
    };
    let good = |line: &str| {
        let (code, (out, error)) = run(line);
        assert_eq!(code, Some(0), "{line}: {error}");
        out
    };
    good("user create alice --password-file password");
    let http = rhizome_demo::http_client().unwrap();
    let alice = Person::login(&http, &serving.base, "alice", PASSWORD);
    let alice = alice.await.unwrap();
    let room = alice.create_room(serde_json::json!({})).await.unwrap();
    let says = async || alice.say(&room, "x").await.is_ok();
    assert!(says().await);

    assert!(good("user limits alice").contains("no limits of their own"));
    let (code, (_, error)) = run("user limits alice --set login=1/1");
    assert_eq!(code, Some(2));
    assert!(error.contains("there are message, join"), "{error}");
    let set = good("user limits alice --set message=0.001/1 join=2/30");
    assert!(
        set.contains("limit message: 0.001 per second, 1 at once"),
        "{set}"
    );
    eventually("she is slowed down", async || !says().await).await;
    assert!(good("user show alice").contains("limit join: 2 per second, 30 at once"));
    assert!(good("user limits alice --clear --set join=1/9").contains("limit join: 1 per"));
    eventually("she goes on as usual", says).await;
    assert!(!good("user show alice").contains("limit message"));
    assert_eq!(terminate(serving).await, Some(0));
}
