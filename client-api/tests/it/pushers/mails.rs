//! Mails about what was missed. How they look and get out is seen in the tests of `mail`.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use http::{Method, Request, StatusCode};
use rhizome_client_api::Mailing;
use rhizome_mail::{Address, MailConfig, Mailer, Templates, TlsMode, UnsubscribeKey};
use rhizome_storage::testing::eventually;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{World, each_with, keys, pusher, set, sink::Mails, waits};
use crate::{
    harness::User,
    unread::{message, read},
};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

async fn each(test: impl AsyncFn(&mut World, Mails)) {
    let mails = Mails::begin().await;
    let settings = |config: &mut rhizome_client_api::ClientConfig| {
        let from = Address::parse("matrix@example.org").unwrap();
        let mailer = Mailer::new(&MailConfig {
            port: Some(mails.port),
            tls: TlsMode::None,
            ..MailConfig::new("127.0.0.1", from)
        });
        config.mailing = Some(Arc::new(Mailing::new(
            config.server_name.clone(),
            "https://matrix.example.org".to_owned(),
            mailer.unwrap(),
            Templates::built_in().unwrap(),
            UnsubscribeKey::new(&[7; 32]).unwrap(),
        )));
    };
    each_with(settings, async |world| {
        mails.got.lock().unwrap().clear();
        test(world, mails.clone()).await;
    })
    .await;
}

fn by_mail(address: &str, more: Value) -> Value {
    let mut email = pusher(
        address,
        json!({ "kind": "email", "app_id": "m.email", "data": {} }),
    );
    if let (Some(email), Value::Object(more)) = (email.as_object_mut(), more) {
        email.extend(more);
    }
    email
}

/// The path of the link in a mail to this.
fn link(mail: &str, to: &str) -> String {
    let begin =
        format!("https://matrix.example.org/_matrix/client/unstable/org.rhizome.mail/{to}/");
    let at = mail.find(&begin).unwrap_or_else(|| panic!("{mail}"));
    let link = &mail[at + "https://matrix.example.org".len()..];
    let end = link.find(|c: char| c.is_whitespace() || "<>\"".contains(c));
    link[..end.unwrap()].to_owned()
}

/// What a browser is shown.
async fn visit(world: &World, method: Method, path: &str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(path);
    let body = Body::from("List-Unsubscribe=One-Click");
    let router = world.server.router.clone();
    let answer = router.oneshot(request.body(body).unwrap()).await.unwrap();
    let status = answer.status();
    if status != StatusCode::NOT_FOUND {
        let policy = answer.headers()["content-security-policy"]
            .to_str()
            .unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        assert_eq!(answer.headers()["referrer-policy"], "no-referrer");
    }
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20)
        .await
        .unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Ada gets mails; Bob writes to her.
async fn two(world: &World, mails: &Mails) -> (User, User, String) {
    let (ada, bob) = (
        world.server.register("ada").await,
        world.server.register("bob").await,
    );
    let room = bob
        .create(json!({ "preset": "public_chat", "name": "Kitchen" }))
        .await;
    ada.join(&room).await;
    set(&ada, by_mail("ada@example.org", json!({}))).await;
    let asked = mails.last(1).await;
    let (status, _) = visit(world, Method::POST, &link(&asked, "start")).await;
    assert_eq!(status, StatusCode::OK);
    (ada, bob, room)
}

/// The last mail, once there are that many, so much later.
async fn after(world: &World, time: Duration, mails: &Mails, many: usize) -> String {
    world.clock.advance(time);
    mails.last(many).await
}

#[tokio::test]
async fn an_address_is_asked_before_it_gets_mails() {
    each(async |world, mails| {
        let (ada, bob) = (
            world.server.register("ada").await,
            world.server.register("bob").await,
        );
        let room = bob.create_public().await;
        ada.join(&room).await;
        set(&ada, by_mail("Ada@Example.org", json!({}))).await;
        let activated = async || ada.read("/pushers").await["pushers"][0]["activated"].clone();
        assert_eq!(activated().await, false);
        let asked = mails.last(1).await;
        assert!(
            asked.contains("To: Ada@example.org") && asked.contains(&ada.id),
            "{asked}"
        );
        // Nothing of what is said before is told: when Bob's phone has it, it has been looked at.
        set(&bob, pusher("bob", json!({}))).await;
        bob.say(&room, "too early").await;
        ada.say(&room, "too early as well").await;
        world.gateway.told(1).await;
        let path = link(&asked, "start");
        // To look at the page does nothing.
        let (status, page) = visit(world, Method::GET, &path).await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("<form method=\"post\">"), "{page}");
        assert_eq!(activated().await, false);
        // Nor does the link to the end of mails with the wrong token, nor one that was changed.
        let (status, _) = visit(world, Method::POST, &path[..path.len() - 1]).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let (status, _) = visit(world, Method::POST, &path.replacen("start/A", "start/B", 1)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(activated().await, false);
        let (status, _) = visit(world, Method::POST, &path).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(activated().await, true);
        // It is good once.
        let (status, _) = visit(world, Method::POST, &path).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        // Set again it needs no further question.
        set(&ada, by_mail("Ada@Example.org", json!({ "lang": "de" }))).await;
        assert_eq!(activated().await, true);
        bob.say(&room, "in time").await;
        waits(world, 1).await;
        let told = after(world, 10 * MINUTE, &mails, 2).await;
        assert!(
            told.contains("in time") && !told.contains("too early"),
            "{told}"
        );
    })
    .await;
}

#[tokio::test]
async fn what_isnt_read_for_ten_minutes_is_told_in_one_mail() {
    each(async |world, mails| {
        let (ada, bob, room) = two(world, &mails).await;
        bob.say(&room, "soup").await;
        waits(world, 1).await;
        world.clock.advance(6 * MINUTE);
        bob.say(&room, "is ready").await;
        bob.say(&room, "really").await;
        waits(world, 3).await;
        let told = after(world, 4 * MINUTE, &mails, 2).await;
        for part in [
            "Bob",
            "Kitchen",
            "soup",
            "is ready",
            "really",
            "List-Unsubscribe-Post",
        ] {
            assert!(
                told.to_lowercase().contains(&part.to_lowercase()),
                "{part}: {told}"
            );
        }
        waits(world, 0).await;
        // The next one comes an hour after it at the earliest.
        let event = bob.say(&room, "cold by now").await;
        waits(world, 1).await;
        world.clock.advance(59 * MINUTE);
        bob.say(&room, "quite cold").await;
        waits(world, 2).await;
        assert_eq!(mails.count(), 2);
        let told = after(world, MINUTE, &mails, 3).await;
        assert!(
            !told.contains("soup") && told.contains("cold by now"),
            "{told}"
        );
        // Who has read something gets the next one an hour later, and another; who reads nothing waits twice as long then.
        read(&ada, &room, "m.read", &event, None).await;
        waits(world, 0).await;
        bob.say(&room, "fresh").await;
        waits(world, 1).await;
        let told = after(world, HOUR, &mails, 4).await;
        assert!(told.contains("fresh"), "{told}");
        bob.say(&room, "again").await;
        waits(world, 1).await;
        after(world, HOUR, &mails, 5).await;
        bob.say(&room, "still").await;
        waits(world, 1).await;
        world.clock.advance(119 * MINUTE);
        bob.say(&room, "and again").await;
        waits(world, 2).await;
        assert_eq!(mails.count(), 5);
        after(world, MINUTE, &mails, 6).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_read_in_time_is_in_no_mail() {
    each(async |world, mails| {
        let (ada, bob, room) = two(world, &mails).await;
        let first = bob.say(&room, "seen").await;
        waits(world, 1).await;
        world.clock.advance(5 * MINUTE);
        read(&ada, &room, "m.read", &first, None).await;
        bob.say(&room, "unseen").await;
        waits(world, 2).await;
        // What was read waited longest, but doesn't count any more.
        world.clock.advance(9 * MINUTE);
        assert_eq!(mails.count(), 1);
        let told = after(world, 6 * MINUTE, &mails, 2).await;
        assert!(told.contains("unseen") && !told.contains(">seen"), "{told}");
    })
    .await;
}

#[tokio::test]
async fn mails_say_nothing_of_encrypted_rooms_nor_if_it_isnt_wanted() {
    each(async |world, mails| {
        let (ada, bob, room) = two(world, &mails).await;
        let secret = json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "Q2lwaGVy", "sender_key": "k", "session_id": "s", "device_id": "d" });
        bob.send(&room, "m.room.encrypted", secret).await;
        waits(world, 1).await;
        let told = after(world, 10 * MINUTE, &mails, 2).await;
        assert!(told.contains("encrypted message") && !told.contains("Q2lwaGVy"), "{told}");
        let quiet = json!({ "data": { "format": "event_id_only" } });
        set(&ada, by_mail("ada@example.org", quiet)).await;
        bob.send(&room, "m.room.message", message("for her eyes", json!({}))).await;
        bob.create(json!({ "invite": [ada.id], "name": "Attic", "is_direct": true })).await;
        waits(world, 2).await;
        let told = after(world, HOUR, &mails, 3).await;
        assert!(told.contains("something new") && !told.contains("her eyes"), "{told}");
        assert!(told.contains("invites you"), "{told}");
    })
    .await;
}

#[tokio::test]
async fn one_click_ends_mails() {
    each(async |world, mails| {
        let (ada, bob, room) = two(world, &mails).await;
        bob.say(&room, "soup").await;
        waits(world, 1).await;
        world.clock.advance(10 * MINUTE);
        let path = link(&mails.last(2).await, "stop");
        let (status, page) = visit(world, Method::GET, &path).await;
        assert_eq!(status, StatusCode::OK);
        assert!(page.contains("<form"), "{page}");
        assert_eq!(keys(&ada).await, ["ada@example.org"]);
        let broken = format!("{path}x");
        assert_eq!(
            visit(world, Method::POST, &broken).await.0,
            StatusCode::BAD_REQUEST
        );
        // The second time it says the same.
        for _ in 0..2 {
            let (status, page) = visit(world, Method::POST, &path).await;
            assert_eq!(status, StatusCode::OK);
            assert!(page.contains("no more mails"), "{page}");
            assert!(keys(&ada).await.is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn an_address_that_isnt_there_gets_no_more_and_a_full_mailbox_gets_it_later() {
    each(async |world, mails| {
        let (ada, bob, room) = two(world, &mails).await;
        bob.say(&room, "soup").await;
        waits(world, 1).await;
        *mails.says.lock().unwrap() = Some("452 4.2.2 full");
        world.clock.advance(10 * MINUTE);
        eventually("it is refused", async || {
            mails.says.lock().unwrap().is_none()
        })
        .await;
        assert_eq!(mails.count(), 1);
        eventually("it comes again", async || {
            world.clock.advance(MINUTE);
            mails.count() == 2
        })
        .await;
        bob.say(&room, "cold").await;
        waits(world, 1).await;
        *mails.says.lock().unwrap() = Some("550 5.1.1 nobody");
        world.clock.advance(HOUR);
        eventually("the pusher goes", async || keys(&ada).await.is_empty()).await;
        assert_eq!(mails.count(), 2);
    })
    .await;
}

#[tokio::test]
async fn nobody_bombs_an_address_or_ends_anothers_mails() {
    each(async |world, mails| {
        let (ada, _, _) = two(world, &mails).await;
        let eve = world.server.register("eve").await;
        let refused = async |user: &User, pusher: Value| {
            let (status, answer) = user.call(Method::POST, "/pushers/set", Some(pusher)).await;
            (
                status.as_u16(),
                answer["errcode"].as_str().unwrap_or_default().to_owned(),
            )
        };
        let ok = (200, String::new());
        assert_eq!(
            refused(&eve, by_mail("ada@example.org", json!({ "append": false }))).await,
            ok
        );
        mails.last(2).await;
        assert_eq!(keys(&ada).await, ["ada@example.org"]);
        let limited = (429, "M_LIMIT_EXCEEDED".to_owned());
        // The address was asked twice today; a third time is the last.
        assert_eq!(
            refused(&eve, by_mail("ADA@example.org", json!({}))).await,
            ok
        );
        assert_eq!(
            refused(&eve, by_mail("aDa@example.org", json!({}))).await,
            limited
        );
        mails.last(3).await;
        let invalid = (400, "M_INVALID_PARAM".to_owned());
        for wrong in [
            by_mail("no address", json!({})),
            by_mail("a@example.org\r\nBcc: b@example.org", json!({})),
            by_mail("eve@example.org", json!({ "app_id": "other" })),
        ] {
            assert_eq!(refused(&eve, wrong).await, invalid);
        }
    })
    .await;
}
