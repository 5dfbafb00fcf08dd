//! What people try who want an address that isn't theirs, or an account.

use http::{Method, StatusCode};
use rhizome_client_api::{ClientConfig, config::Rate};
use serde_json::json;

use super::{ADD, REGISTER, RESET, add, addresses, code, each, each_with, link, refused};

#[tokio::test]
async fn codes_are_not_guessed() {
    each(async |world| {
        let sid = world.begin(ADD, "ada@example.org").await;
        let right = code(&world.mails.last(1).await);
        // Who doesn't know the client's secret learns nothing, and uses up no tries of who does.
        for _ in 0..20 {
            let tried = world.submit(&sid, "guess", &right).await;
            refused(tried, 400, "M_SESSION_EXPIRED");
        }
        for guess in 0..10 {
            let tried = world.submit(&sid, "secret", &format!("guess{guess}")).await;
            refused(tried, 400, "M_TOKEN_INCORRECT");
        }
        refused(
            world.submit(&sid, "secret", &right).await,
            400,
            "M_SESSION_EXPIRED",
        );
        let path = link(&world.mails.last(1).await);
        let (status, _) = world.visit(Method::POST, &path).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        // Another mail, and it goes on.
        world.ask(ADD, "ada@example.org", 2).await;
        let right = code(&world.mails.last(2).await);
        assert_eq!(world.submit(&sid, "secret", &right).await.0, 200);
        // Names of sessions that can't be are none.
        for sid in ["", "\u{0}", "x' OR 1=1 --"] {
            refused(
                world.submit(sid, "secret", &right).await,
                400,
                "M_SESSION_EXPIRED",
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_is_for_one_purpose_and_one_client() {
    each(async |world| {
        let eve = world.server.register("eve").await;
        let ada = world.user("ada", "ada@example.org", 0).await;
        // What Ada confirmed to set a password adds her address to nobody, and what Eve confirmed sets no password.
        let reset = world.confirmed(RESET, "ada@example.org", 2).await;
        refused(add(&eve, &reset).await, 400, "M_THREEPID_AUTH_FAILED");
        let own = world.confirmed(ADD, "eve@example.org", 3).await;
        let registers = world.confirmed(REGISTER, "new@example.org", 4).await;
        refused(add(&eve, &registers).await, 400, "M_THREEPID_AUTH_FAILED");
        for (sid, secret) in [(&own, "secret"), (&registers, "secret"), (&reset, "guess")] {
            let creds = json!({ "sid": sid, "client_secret": secret });
            let auth = json!({ "type": "m.login.email.identity", "threepid_creds": creds });
            let body = json!({ "new_password": "stolen", "auth": auth });
            refused(
                world.post("/account/password", body).await,
                401,
                "M_THREEPID_AUTH_FAILED",
            );
        }
        assert_eq!(addresses(&ada).await, ["ada@example.org"]);
        assert!(addresses(&eve).await.is_empty());
        ada.another_device().await;
    })
    .await;
}

#[tokio::test]
async fn an_address_is_taken_while_another_confirms_it() {
    each(async |world| {
        let eve = world.server.register("eve").await;
        let late = world.confirmed(ADD, "shared@example.org", 1).await;
        let ada = world.server.register("ada").await;
        let body =
            json!({ "client_secret": "ada", "email": "shared@example.org", "send_attempt": 1 });
        let begun = world.post("/account/3pid/email/requestToken", body).await.1;
        let mail = world.mails.last(2).await;
        world.visit(Method::POST, &link(&mail)).await;
        let body =
            json!({ "sid": begun["sid"], "client_secret": "ada", "auth": super::password(&ada) });
        ada.ok(Method::POST, "/account/3pid/add", body).await;
        refused(add(&eve, &late).await, 400, "M_THREEPID_IN_USE");
        for what in [ADD, REGISTER] {
            let asked = world.ask(what, "Shared@example.org", 1).await;
            refused(asked, 400, "M_THREEPID_IN_USE");
        }
        // Nobody takes away what is another's; who has it may let it go.
        let gone = json!({ "medium": "email", "address": "shared@example.org" });
        eve.ok(Method::POST, "/account/3pid/delete", gone.clone())
            .await;
        assert_eq!(addresses(&ada).await, ["shared@example.org"]);
        ada.ok(Method::POST, "/account/3pid/delete", gone).await;
        world.confirmed(REGISTER, "shared@example.org", 3).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_no_address_gets_no_mail() {
    each(async |world| {
        for wrong in [
            "",
            "ada",
            "a@example.org\r\nBcc: b@example.org",
            "<script>@example.org",
            "\"<b>\"@example.org",
            "a@example.org,b@example.org",
            "a@[127.0.0.1]",
        ] {
            refused(world.ask(ADD, wrong, 1).await, 400, "M_INVALID_PARAM");
        }
        let body =
            json!({ "client_secret": "with spaces!", "email": "a@example.org", "send_attempt": 1 });
        let (status, _) = world.post("/account/3pid/email/requestToken", body).await;
        assert_eq!(status, 400);
        assert_eq!(world.mails.count(), 0);
        // One that the mail server doesn't know can be asked for again.
        *world.mails.says.lock().unwrap() = Some("550 5.1.1 nobody");
        refused(
            world.ask(ADD, "nobody@example.org", 1).await,
            400,
            "M_INVALID_PARAM",
        );
        assert_eq!(world.ask(ADD, "nobody@example.org", 1).await.0, 200);
        world.mails.last(1).await;
    })
    .await;
}

#[tokio::test]
async fn nobody_is_flooded() {
    let settings = |config: &mut ClientConfig| {
        config.rate_limits.enabled = true;
        config.rate_limits.validation = Rate {
            per_second: 0.001,
            burst: 2,
        };
    };
    each_with(settings, async |world| {
        for attempt in 1..=2 {
            assert_eq!(world.ask(ADD, "ada@example.org", attempt).await.0, 200);
        }
        refused(
            world.ask(ADD, "Ada@Example.org", 3).await,
            429,
            "M_LIMIT_EXCEEDED",
        );
        // Nor does one asker write to many.
        refused(
            world.ask(ADD, "bob@example.org", 1).await,
            429,
            "M_LIMIT_EXCEEDED",
        );
        world.mails.last(2).await;
    })
    .await;
}
