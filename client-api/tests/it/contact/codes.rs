//! Codes go out, come back, and make addresses an account's.

use std::time::Duration;

use http::{Method, StatusCode};
use rhizome_client_api::ClientConfig;
use serde_json::json;

use super::{ADD, DAY, REGISTER, add, addresses, code, each, each_with, link, password, refused};

#[tokio::test]
async fn an_address_is_added_once_its_owner_says_so() {
    each(async |world| {
        let ada = world.server.register("ada").await;
        let sid = world.begin(ADD, "Ada@Example.ORG").await;
        let mail = world.mails.last(1).await;
        assert!(mail.contains("To: ada@example.org"), "{mail}");
        refused(add(&ada, &sid).await, 400, "M_THREEPID_AUTH_FAILED");
        // To look at the page does nothing.
        let path = link(&mail);
        let (status, page) = world.visit(Method::GET, &path).await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("<form method=\"post\">") && page.contains("lang=\"en\""), "{page}");
        refused(add(&ada, &sid).await, 400, "M_THREEPID_AUTH_FAILED");
        let (status, page) = world.visit(Method::POST, &path).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        // Twice does no harm.
        assert_eq!(world.visit(Method::POST, &path).await.0, StatusCode::OK);
        // It takes the password.
        let body = json!({ "sid": sid, "client_secret": "secret" });
        let asked = ada.call(Method::POST, "/account/3pid/add", Some(body));
        let (status, answer) = asked.await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer["flows"], json!([{ "stages": ["m.login.password"] }]));
        assert_eq!(add(&ada, &sid).await, (200, json!({})));
        let told = ada.read("/account/3pid").await;
        let now = 1_700_000_000_000_u64;
        let own = json!([{ "medium": "email", "address": "ada@example.org", "added_at": now, "validated_at": now }]);
        assert_eq!(told["threepids"], own);
        // A session serves once.
        refused(add(&ada, &sid).await, 400, "M_THREEPID_AUTH_FAILED");
        let gone = json!({ "medium": "email", "address": "ADA@example.org" });
        let told = ada.ok(Method::POST, "/account/3pid/delete", gone).await;
        assert_eq!(told["id_server_unbind_result"], "no-support");
        assert!(addresses(&ada).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_code_is_typed_in_and_sent_again_if_that_is_wanted() {
    each(async |world| {
        let ada = world.server.register("ada").await;
        let (_, answer) = world.ask(ADD, "ada@example.org", 1).await;
        let url = answer["submit_url"].as_str().unwrap();
        assert_eq!(
            url,
            "https://matrix.example.org/_matrix/client/unstable/org.rhizome.mail/submit"
        );
        let sid = answer["sid"].as_str().unwrap();
        let first = code(&world.mails.last(1).await);
        // The client's answer was lost: nothing more is sent. It wants another mail: the older code is worth nothing then.
        let (_, again) = world.ask(ADD, "ADA@example.org", 1).await;
        assert_eq!(again["sid"], sid);
        let (_, again) = world.ask(ADD, "ada@example.org", 2).await;
        assert_eq!(again["sid"], sid);
        let second = code(&world.mails.last(2).await);
        refused(
            world.submit(sid, "secret", &first).await,
            400,
            "M_TOKEN_INCORRECT",
        );
        let typed = format!(" {} ", second.to_uppercase());
        let done = world.submit(sid, "secret", &typed).await;
        assert_eq!(done, (200, json!({ "success": true })));
        assert_eq!(add(&ada, sid).await.0, 200);
        // Another secret is another session.
        let body = json!({ "client_secret": "other", "email": "b@example.org", "send_attempt": 1 });
        let other = world.post("/account/3pid/email/requestToken", body).await;
        assert_ne!(other.1["sid"], sid);
        world.mails.last(3).await;
    })
    .await;
}

#[tokio::test]
async fn a_session_ends() {
    each(async |world| {
        let ada = world.server.register("ada").await;
        let sid = world.begin(ADD, "ada@example.org").await;
        let mail = world.mails.last(1).await;
        world.clock.advance(DAY);
        refused(
            world.submit(&sid, "secret", &code(&mail)).await,
            400,
            "M_SESSION_EXPIRED",
        );
        let (status, _) = world.visit(Method::GET, &link(&mail)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let sid = world.confirmed(ADD, "ada@example.org", 2).await;
        world.clock.advance(Duration::from_hours(1));
        refused(add(&ada, &sid).await, 400, "M_THREEPID_AUTH_FAILED");
    })
    .await;
}

#[tokio::test]
async fn people_go_on_where_their_app_says_if_they_may() {
    let settings = |config: &mut ClientConfig| {
        config.identity.next_hosts = Some(vec!["app.example.org".to_owned()]);
    };
    each_with(settings, async |world| {
        let ask = async |next: &str| {
            let body = json!({ "client_secret": "secret", "email": "ada@example.org", "send_attempt": 1, "next_link": next });
            world.post("/register/email/requestToken", body).await
        };
        for wrong in ["javascript:alert(1)", "https://evil.example/", "https://app.example.org@evil.example/", "//app.example.org/"] {
            refused(ask(wrong).await, 400, "M_INVALID_PARAM");
        }
        let (status, answer) = ask("https://app.example.org/#/x\"><script>alert(1)</script>").await;
        assert_eq!(status, 200, "{answer}");
        let path = link(&world.mails.last(1).await);
        let (status, page) = world.visit(Method::POST, &path).await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("href=\"https://app.example.org/#/x&quot;&gt;&lt;script&gt;"), "{page}");
        assert!(!page.contains("<script"), "{page}");
    })
    .await;
}

#[tokio::test]
async fn where_nobody_may_register_no_code_is_sent_for_it() {
    let settings = |config: &mut ClientConfig| {
        config.registration = rhizome_client_api::config::Registration::Closed;
    };
    each_with(settings, async |world| {
        refused(
            world.ask(REGISTER, "ada@example.org", 1).await,
            403,
            "M_FORBIDDEN",
        );
        assert_eq!(world.mails.count(), 0);
    })
    .await;
}

/// Nobody is sent on by a client to a place that the operator doesn't know of.
#[tokio::test]
async fn without_a_setting_people_go_on_where_this_server_is() {
    let settings = |config: &mut ClientConfig| {
        config.well_known_client = Some("https://matrix.example.org".to_owned());
    };
    each_with(settings, async |world| {
        let ask = async |next: &str| {
            let body = json!({ "client_secret": "secret", "email": "ada@example.org", "send_attempt": 1, "next_link": next });
            world.post("/account/3pid/email/requestToken", body).await
        };
        refused(ask("https://evil.example/").await, 400, "M_INVALID_PARAM");
        let (status, answer) = ask("https://matrix.example.org/done").await;
        assert_eq!(status, 200, "{answer}");
    })
    .await;
}

#[tokio::test]
async fn no_code_is_sent_for_what_no_registration_asks_for() {
    let settings = |config: &mut ClientConfig| {
        config.registration_rules.email = rhizome_client_api::config::ContactRule::Off;
    };
    each_with(settings, async |world| {
        let asked = world.ask(REGISTER, "ada@example.org", 1).await;
        refused(asked, 400, "M_THREEPID_MEDIUM_NOT_SUPPORTED");
        // To add one to an account it is.
        assert_eq!(world.ask(ADD, "ada@example.org", 1).await.0, 200);
        world.mails.last(1).await;
    })
    .await;
}

#[tokio::test]
async fn without_a_mail_server_there_are_no_addresses() {
    let settings = |config: &mut ClientConfig| config.mailing = None;
    each_with(settings, async |world| {
        let ada = world.server.register("ada").await;
        for what in [ADD, REGISTER, super::RESET] {
            let asked = world.ask(what, "ada@example.org", 1).await;
            refused(asked, 400, "M_THREEPID_MEDIUM_NOT_SUPPORTED");
        }
        let told = ada.read("/capabilities").await;
        assert_eq!(told["capabilities"]["m.3pid_changes"]["enabled"], false);
        let body = json!({ "new_password": "x", "auth": password(&ada) });
        refused(
            world.post("/account/password", body).await,
            401,
            "M_MISSING_TOKEN",
        );
    })
    .await;
    each(async |world| {
        let ada = world.server.register("ada").await;
        let told = ada.read("/capabilities").await;
        assert_eq!(told["capabilities"]["m.3pid_changes"]["enabled"], true);
    })
    .await;
}

/// Whoever finds a device unattended doesn't make the account theirs.
#[tokio::test]
async fn an_address_takes_the_password_however_lately_it_was_given() {
    let settings = |config: &mut ClientConfig| {
        config.reauthentication_window = Duration::from_mins(10);
    };
    each_with(settings, async |world| {
        let ada = world.server.register("ada").await;
        let gone = json!({ "devices": ["NONE"] });
        ada.ok(Method::POST, "/delete_devices", gone).await;
        let sid = world.confirmed(ADD, "ada@example.org", 1).await;
        let body = json!({ "sid": sid, "client_secret": "secret" });
        let asked = ada.call(Method::POST, "/account/3pid/add", Some(body));
        assert_eq!(asked.await.0, StatusCode::UNAUTHORIZED);
        assert_eq!(add(&ada, &sid).await, (200, json!({})));
    })
    .await;
}
