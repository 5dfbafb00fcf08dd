//! Stages in a browser.

use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode, header};
use rhizome_client_api::{
    ClientConfig,
    config::{Captcha, CaptchaKind},
};
use serde_json::{Value, json};

use super::{
    TERMS, TOKEN, browse, challenged, ok, register, session, story, token, token_and_terms, uses,
};
use crate::harness::{Server, esc};

fn path(stage: &str, session: &str) -> String {
    format!(
        "/_matrix/client/v3/auth/{stage}/fallback/web?session={}",
        esc(session)
    )
}

/// What a browser finds there; what it gets is HTML.
async fn show(server: &Server, stage: &str, session: &str, language: &str) -> (StatusCode, String) {
    let request = Request::get(path(stage, session)).header(header::ACCEPT_LANGUAGE, language);
    page(browse(server, request.body(Body::empty()).unwrap()).await)
}

/// What it finds after it has sent a form.
async fn send(server: &Server, stage: &str, session: &str, form: &str) -> (StatusCode, String) {
    let kind = "application/x-www-form-urlencoded";
    let request = Request::post(path(stage, session)).header(header::CONTENT_TYPE, kind);
    page(browse(server, request.body(Body::from(form.to_owned())).unwrap()).await)
}

#[track_caller]
fn page((status, headers, html): (StatusCode, HeaderMap, String)) -> (StatusCode, String) {
    let of = |name: &str| headers[name].to_str().unwrap();
    assert_eq!(of("content-type"), "text/html; charset=utf-8", "{html}");
    assert_eq!(of("cache-control"), "no-store");
    assert_eq!(of("x-content-type-options"), "nosniff");
    assert_eq!(of("referrer-policy"), "no-referrer");
    let policy = of("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    let forms = if html.contains("<form") {
        "'self'"
    } else {
        "'none'"
    };
    assert!(
        policy.contains(&format!("form-action {forms};")),
        "{policy}"
    );
    if !html.contains("https://js.") {
        assert!(!policy.contains("unsafe-inline"), "{policy}");
        assert_eq!(
            html.contains("<script"),
            policy.contains("script-src 'sha256-")
        );
    }
    check(&html);
    (status, html)
}

/// That each tag that is opened is closed, in its order, and that values are quoted.
#[track_caller]
fn check(html: &str) {
    let (mut open, mut rest) = (Vec::new(), html);
    while let Some(at) = rest.find('<') {
        let end = rest[at..].find('>').expect("a tag ends") + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.split_whitespace().next().unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{html}"),
            None if ["!doctype", "meta", "input"].contains(&name) => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}: {html}");
    assert!(html.contains("<html lang=\"en\">") && html.contains("<title>"));
}

#[tokio::test]
async fn a_registration_is_authenticated_in_a_browser() {
    story(token_and_terms, async |server| {
        token(server, "spring", Some(1)).await;
        let id = session(&register(server, "ada", Value::Null).await);
        let ask = async || register(server, "ada", json!({ "session": id })).await;

        let (status, html) = show(server, TOKEN, &id, "en").await;
        assert_eq!(status, StatusCode::OK);
        assert!(html.contains("name=\"token\"") && html.contains("<label for=\"token\">"));
        assert!(html.contains("autocapitalize=\"none\"") && !html.contains("aria-invalid"));
        assert!(!html.contains("onAuthDone"));
        let (status, html) = send(server, TOKEN, &id, "token=%22%3E%3Cscript%3E").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(
            html.contains("role=\"alert\" id=\"why\"") && !html.contains("<script"),
            "{html}"
        );
        assert!(html.contains("aria-describedby=\"why\""), "{html}");
        challenged(ask().await, None, &[]);
        // Looking changes nothing, and the second step waits for the first.
        let (status, html) = send(server, TERMS, &id, "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(!html.contains("<form"));

        let (status, html) = send(server, TOKEN, &id, "token=+spring&x=y").await;
        assert_eq!(status, StatusCode::OK);
        assert!(
            html.contains("window.onAuthDone()")
                && html.contains("postMessage(\"authDone\",\"*\")")
        );
        challenged(ask().await, None, &[TOKEN]);
        let (_, html) = show(server, TOKEN, &id, "en").await;
        assert!(html.contains("onAuthDone"), "it is done already");

        let (_, html) = show(server, TERMS, &id, "fr, de;q=0.8").await;
        assert!(html.contains(">Datenschutz</a>"), "{html}");
        let (_, html) = show(server, TERMS, &id, "").await;
        assert!(
            html.contains(">Privacy &lt;b&gt;&amp; &quot;all&quot;&lt;/b&gt;</a>"),
            "{html}"
        );
        assert!(
            html.contains("href=\"https://here/privacy?a=1&amp;l=en\""),
            "{html}"
        );
        challenged(ask().await, None, &[TOKEN]);
        let (status, html) = send(server, TERMS, &id, "").await;
        assert_eq!(status, StatusCode::OK);
        assert!(html.contains("onAuthDone"));
        let made = ok(ask().await);
        assert_eq!(ok(ask().await)["device_id"], made["device_id"]);
        assert_eq!(uses(server, "spring").await, (0, 1));
        // The session is about something else now.
        let (status, _) = send(server, TERMS, &id, "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
    })
    .await;
}

#[tokio::test]
async fn a_user_confirms_in_a_browser() {
    story(
        |_| {},
        async |server| {
            let ada = server.register("ada").await;
            let ask = async |auth: Value| {
                let mut body = json!({ "devices": ["X"] });
                if !auth.is_null() {
                    body["auth"] = auth;
                }
                ada.call(Method::POST, "/delete_devices", Some(body)).await
            };
            let id = session(&ask(Value::Null).await);
            let stage = "m.login.password";
            let (_, html) = show(server, stage, &id, "").await;
            assert!(html.contains("type=\"password\""));
            // Somebody else's request would be seen to be one.
            let told = format!("<p>{} is about to log devices out. If you", ada.id);
            assert!(html.contains(&told), "{html}");
            for wrong in ["", "password=guess", "password=", "x"] {
                let (status, html) = send(server, stage, &id, wrong).await;
                assert_eq!(status, StatusCode::BAD_REQUEST);
                assert!(html.contains("role=\"alert\""));
            }
            challenged(ask(json!({ "session": id })).await, None, &[]);
            let (status, _) = send(server, stage, &id, "password=a+good%20password").await;
            assert_eq!(status, StatusCode::OK);
            ok(ask(json!({ "session": id })).await);
            let (status, _) = send(server, stage, &id, "password=a+good+password").await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
        },
    )
    .await;
}

/// What an old password proved isn't good for anything once there is a new one.
#[tokio::test]
async fn what_was_confirmed_ends_with_the_password() {
    story(
        |_| {},
        async |server| {
            let ada = server.register("ada").await;
            let end = async |auth: Value| {
                let body = if auth.is_null() {
                    json!({})
                } else {
                    json!({ "auth": auth })
                };
                ada.call(Method::POST, "/account/deactivate", Some(body))
                    .await
            };
            let stage = "m.login.password";
            let id = session(&end(Value::Null).await);
            let (status, _) = send(server, stage, &id, "password=a+good+password").await;
            assert_eq!(status, StatusCode::OK);
            let auth = json!({
                "type": stage,
                "identifier": { "type": "m.id.user", "user": "ada" },
                "password": "a good password",
            });
            let change =
                json!({ "new_password": "another", "logout_devices": false, "auth": auth });
            ok(ada
                .call(Method::POST, "/account/password", Some(change))
                .await);
            let again = session(&end(json!({ "session": id })).await);
            assert_ne!(again, id);
            ok(ada.call(Method::GET, "/account/whoami", None).await);
        },
    )
    .await;
}

#[tokio::test]
async fn there_are_no_other_pages() {
    story(
        |_| {},
        async |server| {
            let id = session(&register(server, "ada", Value::Null).await);
            let (status, _) = show(server, "m.login.dummy", &id, "").await;
            assert_eq!(status, StatusCode::OK);
            for (stage, id, expected) in [
                ("m.login.odd", id.as_str(), StatusCode::NOT_FOUND),
                ("%3Cscript%3E", &id, StatusCode::NOT_FOUND),
                ("m.login.password", &id, StatusCode::BAD_REQUEST),
                ("m.login.sso", &id, StatusCode::BAD_REQUEST),
                ("m.login.dummy", "", StatusCode::BAD_REQUEST),
                ("m.login.dummy", "<script>\r\nX: y", StatusCode::BAD_REQUEST),
            ] {
                for (status, html) in [
                    show(server, stage, id, "<script>").await,
                    send(server, stage, id, "a=<script>").await,
                ] {
                    assert_eq!(status, expected, "{stage} {id}");
                    assert!(!html.contains("script"), "{html}");
                }
            }
            let long = "x".repeat(70_000);
            let request = Request::post(path("m.login.dummy", &id)).body(Body::from(long));
            let (status, _, _) = browse(server, request.unwrap()).await;
            assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
            let (status, _) = send(server, "m.login.dummy", &id, "").await;
            assert_eq!(status, StatusCode::OK);
            ok(register(server, "ada", json!({ "session": id })).await);
        },
    )
    .await;
}

#[tokio::test]
async fn a_captcha_brings_its_script() {
    let settings = |config: &mut ClientConfig| {
        config.registration_rules.captcha = Some(Captcha {
            kind: CaptchaKind::Hcaptcha,
            site_key: "a\"key".into(),
            secret: "secret".into(),
            verify_url: "https://captcha/siteverify".into(),
        });
    };
    story(settings, async |server| {
        let id = session(&register(server, "ada", Value::Null).await);
        let stage = "m.login.recaptcha";
        let (_, html) = show(server, stage, &id, "").await;
        assert!(html.contains("src=\"https://js.hcaptcha.com/1/api.js\""));
        assert!(html.contains("data-sitekey=\"a&quot;key\""));
        // Nothing was answered.
        let (status, html) = send(server, stage, &id, "g-recaptcha-response=x").await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{html}");
        // Nobody is there who could say.
        let (status, html) = send(server, stage, &id, "h-captcha-response=x").await;
        assert_eq!(status, StatusCode::BAD_GATEWAY, "{html}");
        assert!(html.contains("role=\"alert\"") && html.contains("<form"));
    })
    .await;
}
