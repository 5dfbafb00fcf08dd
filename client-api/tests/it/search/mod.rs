//! Searching what was said, before and after it has got into the index.

mod access;
mod oracle;
mod pages;

use http::Method;
use rhizome_storage::{FillSearch, Lease, LogWork as _, Pos, Store, Stretch};
use serde_json::{Value, json};

use crate::harness::{Server, User, esc, story};

/// Takes all that was said into the index.
pub async fn fill(store: &Store) {
    let work = FillSearch::new(store).after_every(1);
    let lease = Lease::take(store, "search", None).await.unwrap().unwrap();
    let after = work.begin(&lease, Pos(0)).await.unwrap();
    let upto = store.log().head();
    let entries = store.log().read(after, upto, 100_000).await.unwrap();
    let failures = 0;
    let stretch = Stretch {
        entries,
        after,
        upto,
        failures,
    };
    work.work(&stretch).await.unwrap();
    store.index_history().await.unwrap();
    lease.release().await.unwrap();
}

/// Tells a story in which what was said is in the index when it is searched, and in which it isn't yet.
pub async fn both<F, R>(tell: F)
where
    F: Fn(Server, bool) -> R,
    R: Future<Output = ()>,
{
    story(|server| tell(server, false)).await;
    story(|server| tell(server, true)).await;
}

/// The answer to a search, whose criteria are these.
pub async fn ask(user: &User, criteria: &Value, batch: Option<&str>) -> Value {
    let batch = batch.map(|batch| format!("?next_batch={}", esc(batch)));
    let path = format!("/search{}", batch.unwrap_or_default());
    let body = json!({"search_categories": {"room_events": criteria}});
    let answer = user.ok(Method::POST, &path, body).await;
    answer["search_categories"]["room_events"].clone()
}

/// The events of an answer.
pub fn found(answer: &Value) -> Vec<String> {
    let results = answer["results"].as_array().unwrap();
    let ids = results.iter().map(|result| &result["result"]["event_id"]);
    ids.map(|id| id.as_str().unwrap().to_owned()).collect()
}

/// What is found, the newest first.
pub async fn finds(user: &User, text: &str) -> Vec<String> {
    let criteria = json!({"search_term": text, "order_by": "recent"});
    found(&ask(user, &criteria, None).await)
}

async fn redact(user: &User, room: &str, target: &str) {
    let path = format!("/rooms/{}/redact/{}/t{target}", esc(room), esc(target));
    user.ok(Method::PUT, &path, json!({})).await;
}

async fn edit(user: &User, room: &str, target: &str, text: &str) -> String {
    let content = json!({"msgtype": "m.text", "body": format!("* {text}"),
        "m.new_content": {"msgtype": "m.text", "body": text},
        "m.relates_to": {"rel_type": "m.replace", "event_id": target}});
    user.send(room, "m.room.message", content).await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_names_and_topics_are_found() {
    both(async |server, indexed| {
        let ada = server.register("ada").await;
        let room = ada.create(json!({})).await;
        let hello = ada.say(&room, "Hello, wörld! 日本語").await;
        let moon = ada.say(&room, "hello moon, hello").await;
        let name = ada
            .set_state(&room, "m.room.name", "", json!({"name": "Moon club"}))
            .await;
        let topic = json!({"topic": "suns", "m.topic": {"m.text": [
            {"mimetype": "text/html", "body": "<b>stars</b>"}, {"body": "planets"}]}});
        let topic = ada.set_state(&room, "m.room.topic", "", topic).await;
        ada.send(&room, "org.example", json!({"body": "hello moon"}))
            .await;
        if indexed {
            fill(&server.store).await;
        }
        assert_eq!(finds(&ada, "hello").await, [&*moon, &*hello]);
        assert_eq!(finds(&ada, "WORLD").await, [&*hello]);
        assert_eq!(finds(&ada, "本語").await, [&*hello]);
        assert_eq!(finds(&ada, "\"moon hello\"").await, [&*moon]);
        assert_eq!(finds(&ada, "moon").await, [&*name, &*moon]);
        assert_eq!(finds(&ada, "moon -club").await, [&*moon]);
        assert_eq!(finds(&ada, "suns planets").await, [&*topic]);
        assert!(
            finds(&ada, "stars").await.is_empty(),
            "not what isn't plain text"
        );
        let by_key = |key: &str| json!({"search_term": "moon", "keys": [key]});
        let of = async |key: &str| found(&ask(&ada, &by_key(key), None).await);
        assert_eq!(of("content.name").await, [&*name]);
        assert_eq!(of("content.body").await, [&*moon]);
        assert!(of("content.topic").await.is_empty());

        let answer = ask(&ada, &json!({"search_term": "hel"}), None).await;
        assert_eq!(
            found(&answer),
            [&*moon, &*hello],
            "what has more of it comes first"
        );
        assert_eq!(answer["count"], 2);
        assert_eq!(answer["highlights"], json!(["hello"]));
        assert!(answer["results"][0]["rank"].as_f64() > answer["results"][1]["rank"].as_f64());
        let nothing = ask(&ada, &json!({"search_term": "?!"}), None).await;
        assert_eq!((&nothing["count"], found(&nothing).len()), (&json!(0), 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_edited_says_what_it_says_now_and_what_was_redacted_nothing() {
    both(async |server, indexed| {
        let ada = server.register("ada").await;
        let bob = server.register("bob").await;
        let room = ada.create_public().await;
        bob.join(&room).await;
        let fill = async || {
            if indexed {
                fill(&server.store).await;
            }
        };
        let message = ada.say(&room, "first words").await;
        fill().await;
        edit(&ada, &room, &message, "second words").await;
        edit(&bob, &room, &message, "words of another").await;
        fill().await;
        assert_eq!(finds(&bob, "words").await, [&*message]);
        assert_eq!(finds(&bob, "second").await, [&*message]);
        assert!(finds(&bob, "first").await.is_empty());
        assert!(
            finds(&bob, "another").await.is_empty(),
            "nobody edits what others say"
        );
        let third = edit(&ada, &room, &message, "third").await;
        fill().await;
        assert_eq!(finds(&bob, "third").await, [&*message]);
        assert!(finds(&bob, "second").await.is_empty());
        redact(&ada, &room, &third).await;
        fill().await;
        assert_eq!(
            finds(&bob, "second").await,
            [&*message],
            "the edit before it"
        );
        assert!(finds(&bob, "third").await.is_empty());
        redact(&ada, &room, &message).await;
        fill().await;
        assert!(finds(&bob, "words").await.is_empty());
        assert!(finds(&bob, "second").await.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_refused() {
    story(async |server| {
        let ada = server.register("ada").await;
        let refused = async |criteria: Value, query: &str| {
            let body = json!({"search_categories": {"room_events": criteria}});
            let path = format!("/search{query}");
            let (status, answer) = ada.call(Method::POST, &path, Some(body)).await;
            assert_eq!(status, 400, "{answer}");
            answer["errcode"].as_str().unwrap().to_owned()
        };
        let many: Vec<String> = (0..100).map(|n| format!("word{n}")).collect();
        let many = many.join(" ");
        assert_eq!(
            refused(json!({"search_term": many}), "").await,
            "M_INVALID_PARAM"
        );
        let long = "x".repeat(5_000);
        assert_eq!(
            refused(json!({"search_term": long}), "").await,
            "M_INVALID_PARAM"
        );
        let ok = json!({"search_term": "x"});
        assert_eq!(refused(ok, "?next_batch=x").await, "M_INVALID_PARAM");
        for broken in [
            json!({}),
            json!({"search_term": 1}),
            json!({"search_term": "x", "order_by": "best"}),
        ] {
            let errcode = refused(broken, "").await;
            assert!(
                errcode == "M_BAD_JSON" || errcode == "M_MISSING_PARAM",
                "{errcode}"
            );
        }
        let nothing = json!({"search_categories": {}});
        let answer = ada.ok(Method::POST, "/search", nothing).await;
        assert_eq!(answer, json!({"search_categories": {}}));
    })
    .await;
}
