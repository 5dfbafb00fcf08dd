//! Going through what a room says page by page, while its history arrives from another server: every event comes once,
//! in an order that stands.
//!
//! `RHIZOME_RANDOM_PAGES=1-100` tries these numbers.

use std::collections::HashSet;

use http::{Method, StatusCode};
use rhizome_storage::testing::eventually;
use serde_json::{Value, json};

use crate::{
    harness::{User, esc, events, ids},
    peer::{Peer, room_of, story},
    random::Random,
    relations,
    search::fill,
    spaces,
};

/// A way through something, page by page.
#[derive(Debug, Clone)]
enum Way {
    Messages { dir: &'static str },
    Relations { dir: &'static str },
    Threads,
    Search { order: &'static str },
    Hierarchy,
}

const WAYS: [Way; 8] = [
    Way::Messages { dir: "b" },
    Way::Messages { dir: "f" },
    Way::Relations { dir: "b" },
    Way::Relations { dir: "f" },
    Way::Threads,
    Way::Search { order: "recent" },
    Way::Search { order: "rank" },
    Way::Hierarchy,
];

/// Where it is gone through, and by whom.
struct Scene {
    ada: User,
    room: String,
    space: String,
    roots: Vec<String>,
}

/// What there is to find, in the order in which it came to be.
#[derive(Default)]
struct Said {
    all: Vec<String>,
    /// What relates to the first root.
    related: Vec<String>,
    /// The roots of threads, by their latest event.
    threads: Vec<String>,
}

impl Scene {
    /// A page from a place on, and where the next one begins.
    async fn page(
        &self,
        way: &Way,
        from: Option<&str>,
        limit: usize,
    ) -> (Vec<String>, Option<String>) {
        let (ada, room) = (&self.ada, &self.room);
        let at =
            |name: &str| from.map_or_else(String::new, |from| format!("&{name}={}", esc(from)));
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        match way {
            Way::Messages { dir } => {
                let path = format!(
                    "/rooms/{}/messages?dir={dir}&limit={limit}{}",
                    esc(room),
                    at("from")
                );
                let page = ada.read(&path).await;
                let mut chunk = events(&page, &["chunk"]);
                chunk.retain(|event| event["type"] == "m.room.message");
                (ids(&chunk), text(&page["end"]))
            }
            Way::Relations { dir } => {
                let more = format!("?dir={dir}&limit={limit}{}", at("from"));
                relations::page(ada, room, &self.roots[0], &more).await
            }
            Way::Threads => {
                let more = format!("?limit={limit}{}", at("from"));
                let (threads, next) = relations::threads(ada, room, &more).await;
                (threads.into_iter().map(|(root, _)| root).collect(), next)
            }
            Way::Search { order } => {
                let criteria = json!({"search_term": "moon", "order_by": order,
                    "filter": {"limit": limit, "rooms": [room]}});
                let body = json!({"search_categories": {"room_events": criteria}});
                let path = format!("/search?{}", at("next_batch"));
                let answer = ada.ok(Method::POST, &path, body).await;
                let answer = &answer["search_categories"]["room_events"];
                let results = answer["results"].as_array().unwrap().iter();
                let found = results.map(|result| text(&result["result"]["event_id"]).unwrap());
                (found.collect(), text(&answer["next_batch"]))
            }
            Way::Hierarchy => {
                let query = format!("?limit={limit}{}", at("from"));
                let (status, page) = spaces::hierarchy(ada, &self.space, &query).await;
                assert_eq!(status, StatusCode::OK, "{page}");
                let rooms = spaces::rooms(&page).into_iter();
                (
                    rooms.map(ToOwned::to_owned).collect(),
                    text(&page["next_batch"]),
                )
            }
        }
    }

    /// All of it.
    async fn whole(&self, way: &Way) -> Vec<String> {
        let (mut found, mut at) = (Vec::new(), None);
        loop {
            let (chunk, next) = self.page(way, at.as_deref(), 50).await;
            found.extend(chunk);
            match next {
                Some(next) => at = Some(next),
                None => return found,
            }
        }
    }
}

/// A walk on its way.
struct Walk {
    way: Way,
    /// What was there to find when it began.
    before: Vec<String>,
    found: Vec<String>,
    at: Option<String>,
    done: bool,
}

impl Walk {
    async fn begin(scene: &Scene, way: &Way) -> Walk {
        // Going through messages brings what is missing: what is there is not to be seen without that.
        let before = match way {
            Way::Messages { .. } => Vec::new(),
            _ => scene.whole(way).await,
        };
        Walk {
            way: way.clone(),
            before,
            found: Vec::new(),
            at: None,
            done: false,
        }
    }

    async fn step(&mut self, scene: &Scene, limit: usize) {
        let (chunk, next) = scene.page(&self.way, self.at.as_deref(), limit).await;
        self.found.extend(chunk);
        self.done = next.is_none();
        self.at = next;
    }

    /// Holds it against all that there is in the end.
    fn check(&self, whole: &[String]) {
        let (way, found) = (&self.way, &self.found);
        let once = found.iter().collect::<HashSet<_>>();
        assert_eq!(
            once.len(),
            found.len(),
            "{way:?}: something came twice: {found:#?}"
        );
        let left = self.before.iter().find(|event| !once.contains(event));
        assert_eq!(left, None, "{way:?}: something was there and is left out");
        let mut order = whole.iter();
        let strayed = found
            .iter()
            .find(|event| !order.any(|other| other == *event));
        assert_eq!(strayed, None, "{way:?}: out of order");
    }
}

/// Ada's room with roots and a space; and what Bob, elsewhere, says in it, of which only the last comes here.
async fn scene(ada: User, peer: &Peer, room: String, random: &mut Random) -> (Scene, Said) {
    let space = spaces::space(&ada, json!({})).await;
    for _ in 0..10 {
        let child = ada.create_public().await;
        spaces::put(&ada, &space, &child, json!({})).await;
    }
    let (mut said, mut roots) = (Said::default(), Vec::new());
    for n in 0..12 {
        let root = ada.say(&room, &format!("moon root {n}")).await;
        said.all.push(root.clone());
        roots.push(root);
    }
    peer.hears(&roots[11]).await;
    let to = room_of(&room);
    for n in 0..700 {
        let root = &roots[random.below(roots.len())];
        let rel_type = ["m.thread", "m.reference"][random.below(2)];
        let mut content = relations::relating(rel_type, root);
        content["body"] = format!("{}{n}", "moon ".repeat(random.below(3) + 1)).into();
        let is_plain = random.below(3) == 0;
        if is_plain {
            content.as_object_mut().unwrap().remove("m.relates_to");
        }
        let event = peer.send(&to, "m.room.message", None, content).await;
        if !is_plain && *root == roots[0] {
            said.related.push(event.clone());
        }
        if !is_plain && rel_type == "m.thread" {
            said.threads.retain(|other| other != root);
            said.threads.push(root.clone());
        }
        said.all.push(event);
    }
    let last = said.all.last().unwrap();
    peer.push(last).await;
    let path = format!("/rooms/{}/event/{}", esc(&room), esc(last));
    let has_come = async || ada.get(&path).await.0 == StatusCode::OK;
    eventually("the last is here", has_come).await;
    let scene = Scene {
        ada,
        room,
        space,
        roots,
    };
    (scene, said)
}

fn reversed(events: &[String]) -> Vec<String> {
    events.iter().rev().cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_fit_together_while_history_arrives() {
    let asked = std::env::var("RHIZOME_RANDOM_PAGES").unwrap_or_default();
    let (first, last) = asked.split_once('-').unwrap_or(("1", "2"));
    for seed in first.parse().unwrap()..=last.parse::<u64>().unwrap() {
        story(async |ada, peer, room| {
            let mut random = Random(seed);
            let (scene, said) = scene(ada, &peer, room, &mut random).await;
            let mut walks: Vec<Walk> = Vec::new();
            let mut ended = Vec::new();
            // The first of them goes to the beginning and brings the history along.
            for way in &WAYS {
                walks.push(Walk::begin(&scene, way).await);
            }
            while !walks[0].done {
                let which = random.below(walks.len() + 1);
                match walks.get_mut(which) {
                    Some(walk) if walk.done => {
                        let again = Walk::begin(&scene, &walk.way).await;
                        ended.push(std::mem::replace(walk, again));
                    }
                    Some(walk) => walk.step(&scene, random.below(25) + 1).await,
                    None => fill(&scene.ada.server.store).await,
                }
            }
            for mut walk in walks {
                while !walk.done {
                    walk.step(&scene, 20).await;
                }
                ended.push(walk);
            }
            for walk in &ended {
                let whole = scene.whole(&walk.way).await;
                let expected = match walk.way {
                    Way::Messages { dir: "b" } => {
                        assert_eq!(walk.found, reversed(&said.all), "{seed}");
                        reversed(&said.all)
                    }
                    Way::Messages { .. } => said.all.clone(),
                    Way::Relations { dir: "b" } => reversed(&said.related),
                    Way::Relations { .. } => said.related.clone(),
                    Way::Threads => reversed(&said.threads),
                    // By the places that they have here: another server's history comes after what happened since.
                    Way::Search { .. } => {
                        let found: HashSet<_> = whole.iter().collect();
                        assert_eq!(found, said.all.iter().collect(), "{seed}");
                        whole.clone()
                    }
                    Way::Hierarchy => whole.clone(),
                };
                assert_eq!(whole, expected, "{seed}: {:?}", walk.way);
                walk.check(&whole);
            }
            peer
        })
        .await;
    }
}
