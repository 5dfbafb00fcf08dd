//! Finding people.

mod found;
mod hidden;
mod limits;
mod model;
mod mutual;
mod networks;
mod servers;

use http::Method;
use rhizome_storage::{FillPeople, LogReader, testing::eventually};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::harness::{Server, User, esc, story};

/// Tells a story while the server keeps what people are called.
pub async fn following(server: &Server, told: impl Future<Output = ()>) {
    let stop = CancellationToken::new();
    let here = server.app.config.server_name.clone();
    let work = FillPeople::new(&server.store, here);
    let reader = LogReader::new(&server.store, "people", work);
    let stopped = stop.clone();
    let running = tokio::spawn(async move { reader.run(&stopped).await });
    told.await;
    stop.cancel();
    running.await.unwrap();
}

/// The same on both databases.
pub async fn people<F, R>(tell: F)
where
    F: Fn(Server) -> R,
    R: Future<Output = ()>,
{
    story(|server| {
        let told = tell(server.clone());
        async move { following(&server, told).await }
    })
    .await;
}

/// The answer to a search.
pub async fn search(user: &User, body: Value) -> Value {
    user.ok(Method::POST, "/user_directory/search", body).await
}

/// Who is found, and what they are called.
pub async fn finds(user: &User, term: &str) -> Vec<(String, Option<String>)> {
    let answer = search(user, json!({ "search_term": term, "limit": 100 })).await;
    assert_eq!(answer["limited"], false, "{term}: {answer}");
    let results = answer["results"].as_array().unwrap();
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    results
        .iter()
        .map(|one| (text(&one["user_id"]).unwrap(), text(&one["display_name"])))
        .collect()
}

/// Waits until just these are found, by these names, the best first.
pub async fn find(user: &User, term: &str, expected: &[(&User, Option<&str>)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(user, name)| (user.id.clone(), name.map(ToOwned::to_owned)))
        .collect();
    let what = format!("{} finds {expected:?} by {term:?}", user.id);
    eventually(&what, async || finds(user, term).await == expected).await;
}

pub async fn call_oneself(user: &User, name: &str) {
    let path = format!("/profile/{}/displayname", esc(&user.id));
    user.ok(Method::PUT, &path, json!({ "displayname": name }))
        .await;
}

/// A name for one room alone.
pub async fn call_oneself_in(user: &User, room: &str, name: &str) {
    let content = json!({ "membership": "join", "displayname": name });
    user.set_state(room, "m.room.member", &user.id, content)
        .await;
}
