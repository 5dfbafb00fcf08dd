//! Accounts that the operator approves before anybody can log in (MSC3866).

use rhizome_client_api::ClientConfig;
use rhizome_storage::UserNo;
use serde_json::{Value, json};

use super::{REGISTER, ok, post, refused, register, session, story};
use crate::harness::Server;

const WAITS: &str = "M_USER_AWAITING_APPROVAL";

async fn login(server: &Server, name: &str, password: &str) -> (http::StatusCode, Value) {
    let body = json!({ "type": "m.login.password", "password": password,
        "identifier": { "type": "m.id.user", "user": name } });
    post(server, "/_matrix/client/v3/login", body).await
}

#[tokio::test]
async fn nobody_logs_in_before_the_operator_says_so() {
    let settings = |config: &mut ClientConfig| config.registration_rules.approval = true;
    story(settings, async |server| {
        let id = session(&register(server, "ada", Value::Null).await);
        let auth = json!({ "type": "m.login.dummy", "session": id });
        // Asked again, because the answer was lost, it is the same.
        for _ in 0..2 {
            let answer = register(server, "ada", auth.clone()).await;
            assert_eq!(answer.1["approval_notice_medium"], "none");
            assert_eq!(answer.1.get("access_token"), None);
            refused(answer, 403, WAITS);
        }
        let other = json!({ "username": "ada", "password": "guess", "auth": auth });
        refused(post(server, REGISTER, other).await, 400, "M_USER_IN_USE");
        refused(login(server, "ada", "a good password").await, 403, WAITS);
        // Who doesn't know the password doesn't learn that there is such an account.
        refused(login(server, "ada", "guess").await, 403, "M_FORBIDDEN");

        let waiting = server.store.awaiting_approval(UserNo(0), 10).await.unwrap();
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].user_id, "@ada:here");
        assert!(server.store.approve(waiting[0].user, None).await.unwrap());
        ok(login(server, "ada", "a good password").await);
        ok(register(server, "ada", auth).await);
    })
    .await;
}

/// Being a guest first is no way around it.
#[tokio::test]
async fn guests_wait_too() {
    let settings = |config: &mut ClientConfig| {
        config.guests = true;
        config.registration_rules.approval = true;
    };
    story(settings, async |server| {
        let path = format!("{REGISTER}?kind=guest");
        let guest = ok(post(server, &path, json!({})).await);
        let name = guest["user_id"].as_str().unwrap().split_once(':').unwrap();
        let name = &name.0[1..];
        let wish = json!({ "username": name, "password": "a good password",
            "auth": { "type": "m.login.dummy" },
            "guest_access_token": guest["access_token"] });
        refused(post(server, REGISTER, wish).await, 403, WAITS);
        refused(login(server, name, "a good password").await, 403, WAITS);
        let waiting = server.store.awaiting_approval(UserNo(0), 10).await.unwrap();
        assert!(server.store.approve(waiting[0].user, None).await.unwrap());
        ok(login(server, name, "a good password").await);
    })
    .await;
}
