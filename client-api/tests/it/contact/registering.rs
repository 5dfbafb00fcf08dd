//! Registering with an address, from the first question to the account, in an app and in a browser.

use axum::body::Body;
use http::{Request, StatusCode};
use rhizome_client_api::{ClientConfig, config::ContactRule};
use rhizome_storage::Medium;
use ruma::user_id;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{REGISTER, World, code, each_with, refused};

const EMAIL: &str = "m.login.email.identity";

fn optional(config: &mut ClientConfig) {
    config.registration_rules.email = ContactRule::Optional;
    config.registration_rules.denied_email_domains = vec!["*.bad.example".into()];
}

fn required(config: &mut ClientConfig) {
    optional(config);
    config.registration_rules.email = ContactRule::Required;
}

async fn register(world: &World, auth: Value) -> (u16, Value) {
    let mut body = json!({ "username": "ada", "password": "a good password" });
    if !auth.is_null() {
        body["auth"] = auth;
    }
    world.post("/register", body).await
}

#[tokio::test]
async fn who_likes_has_an_address() {
    each_with(optional, async |world| {
        let denied = world.ask(REGISTER, "ada@very.bad.example", 1).await;
        refused(denied, 403, "M_THREEPID_DENIED");
        let (status, asked) = register(world, Value::Null).await;
        assert_eq!(status, 401);
        let flows = json!([{ "stages": ["m.login.dummy"] }, { "stages": [EMAIL] }]);
        assert_eq!(asked["flows"], flows);
        let sid = world.confirmed(REGISTER, "Ada@example.org", 1).await;
        let auth = json!({ "type": EMAIL, "session": asked["session"],
            "threepid_creds": { "sid": sid, "client_secret": "secret" } });
        let (status, made) = register(world, auth).await;
        assert_eq!((status, &made["user_id"]), (200, &json!("@ada:here")));
        let store = &world.server.store;
        let account = store.account(user_id!("@ada:here")).await.unwrap();
        let owner = store.third_party_owner(Medium::Email, "ada@example.org");
        assert_eq!(owner.await.unwrap(), Some(account.unwrap().user));
    })
    .await;
}

/// What a browser finds after it has sent a form to the page of the stage.
async fn send(world: &World, session: &str, form: &str) -> (StatusCode, String) {
    let path = format!("/_matrix/client/v3/auth/{EMAIL}/fallback/web?session={session}");
    let request = Request::post(path).body(Body::from(form.to_owned()));
    let router = world.server.router.clone();
    let answer = router.oneshot(request.unwrap()).await.unwrap();
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await;
    (status, String::from_utf8(body.unwrap().to_vec()).unwrap())
}

/// The value of a hidden field.
fn field<'a>(html: &'a str, name: &str) -> &'a str {
    let start = format!("name=\"{name}\" value=\"");
    let (_, rest) = html.split_once(&start).unwrap_or_else(|| panic!("{html}"));
    rest.split_once('"').unwrap().0
}

#[tokio::test]
async fn an_address_is_confirmed_in_a_browser() {
    each_with(required, async |world| {
        let (_, asked) = register(world, Value::Null).await;
        let id = asked["session"].as_str().unwrap();
        for wrong in ["", "address=", "address=%3Cscript%3E"] {
            let (status, html) = send(world, id, wrong).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{html}");
            assert!(
                html.contains("role=\"alert\"") && !html.contains("<script"),
                "{html}"
            );
        }
        let (status, html) = send(world, id, "address=a%40very.bad.example").await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{html}");
        let (status, html) = send(world, id, "address=ada%40example.org").await;
        assert_eq!(status, StatusCode::OK, "{html}");
        let (sid, secret) = (field(&html, "sid"), field(&html, "secret"));
        let form = |code: &str| format!("sid={sid}&secret={secret}&code={code}");
        for wrong in [
            form(""),
            form("guess"),
            format!("sid={sid}&secret=guess&code="),
        ] {
            let (status, html) = send(world, id, &wrong).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{html}");
        }
        let (status, html) = send(world, id, "sid=%22%3E%3Cscript%3E&secret=%3Cb%3E").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(!html.contains("<script") && !html.contains("<b>"), "{html}");
        let code = code(&world.mails.last(1).await);
        let (status, html) = send(world, id, &form(&code)).await;
        assert_eq!(status, StatusCode::OK, "{html}");
        assert!(html.contains("onAuthDone"), "{html}");
        let (status, made) = register(world, json!({ "session": id })).await;
        assert_eq!(status, 200, "{made}");
        let owner = (world.server.store).third_party_owner(Medium::Email, "ada@example.org");
        assert!(owner.await.unwrap().is_some());
    })
    .await;
}
