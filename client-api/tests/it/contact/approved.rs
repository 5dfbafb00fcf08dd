//! Who waited for the operator is told by mail that they can log in.

use std::time::Duration;

use rhizome_client_api::{ClientConfig, tasks, users};
use rhizome_storage::{TaskState, UserNo, testing::eventually};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{REGISTER, World, each_with, refused};

const EMAIL: &str = "m.login.email.identity";

fn approval(config: &mut ClientConfig) {
    config.registration_rules.approval = true;
}

/// An account that waits, with an address if there is one, after so many mails.
async fn waiting(world: &World, name: &str, email: Option<&str>, mails: usize) {
    let mut body = json!({ "username": name, "password": "a good password" });
    let (_, asked) = world.post("/register", body.clone()).await;
    let mut auth = json!({ "type": "m.login.dummy" });
    if let Some(email) = email {
        let sid = world.confirmed(REGISTER, email, mails + 1).await;
        let creds = json!({ "sid": sid, "client_secret": "secret" });
        auth = json!({ "type": EMAIL, "threepid_creds": creds });
    }
    auth["session"] = asked["session"].clone();
    body["auth"] = auth;
    let answer = world.post("/register", body).await;
    refused(answer, 403, "M_USER_AWAITING_APPROVAL");
}

/// As the operator's command does, in another process.
async fn approve(world: &World, name: &str) {
    let store = &world.server.store;
    let all = store.awaiting_approval(UserNo(0), 10).await.unwrap();
    let one = all
        .iter()
        .find(|one| one.user_id.localpart() == name)
        .unwrap();
    assert!(users::approve(store, &one.user_id, one.user).await.unwrap());
    assert!(!users::approve(store, &one.user_id, one.user).await.unwrap());
}

/// The server does its tasks, and time passes, until this is so.
async fn working(world: &World, what: &str, holds: impl AsyncFn() -> bool) {
    let stop = CancellationToken::new();
    let (app, until) = (world.server.app.clone(), stop.clone());
    let tasks = tokio::spawn(async move { tasks::run(app, until).await.unwrap() });
    eventually(what, async || {
        world.clock.advance(Duration::from_millis(500));
        holds().await
    })
    .await;
    stop.cancel();
    // Whoever sleeps looks whether it is to stop.
    eventually("the tasks rest", async || {
        world.clock.advance(Duration::from_secs(10));
        tasks.is_finished()
    })
    .await;
}

async fn states(world: &World) -> Vec<(String, TaskState, i64)> {
    let all = world.server.store.tasks(i64::MAX, 10).await.unwrap();
    let all = all.into_iter().rev();
    all.map(|task| (task.what, task.state, task.progress))
        .collect()
}

async fn log_in(world: &World, name: &str) -> (u16, Value) {
    let body = json!({ "type": "m.login.password", "password": "a good password",
        "identifier": { "type": "m.id.user", "user": name } });
    world.post("/login", body).await
}

#[tokio::test]
async fn who_is_approved_gets_a_mail() {
    each_with(approval, async |world| {
        waiting(world, "ada", Some("Ada@example.org"), 0).await;
        waiting(world, "bob", None, 1).await;
        refused(log_in(world, "ada").await, 403, "M_USER_AWAITING_APPROVAL");
        for name in ["ada", "bob"] {
            approve(world, name).await;
            assert_eq!(log_in(world, name).await.0, 200);
        }
        // It is written down, and for who has no address there is nothing to do.
        let ada = "@ada:here".to_owned();
        let open = [(ada.clone(), TaskState::Open, 0)];
        assert_eq!(states(world).await, open);
        assert_eq!(world.mails.count(), 1);
        // The mail server is away at first.
        *world.mails.says.lock().unwrap() = Some("451 come again");
        let done = [(ada, TaskState::Done, 1)];
        working(world, "the mail goes out", async || {
            states(world).await == done
        })
        .await;
        let mail = world.mails.last(2).await;
        assert!(mail.contains("ada@example.org"), "{mail}");
        assert!(
            mail.contains("@ada:here") && mail.contains("can log in now"),
            "{mail}"
        );
    })
    .await;
}

#[tokio::test]
async fn who_has_gone_meanwhile_is_told_nothing() {
    each_with(approval, async |world| {
        waiting(world, "ada", Some("ada@example.org"), 0).await;
        approve(world, "ada").await;
        let store = &world.server.store;
        let ada = store.account("@ada:here".try_into().unwrap()).await;
        let ada = ada.unwrap().unwrap().user;
        store.deactivate_account(ada, false).await.unwrap();
        let done = [("@ada:here".to_owned(), TaskState::Done, 0)];
        working(world, "there is nothing to do", async || {
            states(world).await == done
        })
        .await;
        assert_eq!(world.mails.count(), 1);
    })
    .await;
}

/// An address that takes no mail keeps nobody from being approved.
#[tokio::test]
async fn what_can_never_be_sent_is_told_to_the_operator() {
    each_with(approval, async |world| {
        waiting(world, "ada", Some("ada@example.org"), 0).await;
        approve(world, "ada").await;
        *world.mails.says.lock().unwrap() = Some("550 nobody here");
        let failed = [("@ada:here".to_owned(), TaskState::Failed, 0)];
        working(world, "the task fails", async || {
            states(world).await == failed
        })
        .await;
        let task = world
            .server
            .store
            .tasks(i64::MAX, 1)
            .await
            .unwrap()
            .remove(0);
        let why = task.error.unwrap();
        assert!(!why.contains("example.org"), "{why}");
        assert_eq!(log_in(world, "ada").await.0, 200);
    })
    .await;
}
