//! What the databases find is what a search finds that looks at every message.

use std::collections::BTreeMap;

use rhizome_storage::SearchQuery;
use serde_json::json;

use super::{ask, edit, fill, found, redact};
use crate::harness::story;

const WORDS: [&str; 12] = [
    "moon",
    "Moonlight",
    "sun",
    "sunny",
    "a",
    "ab",
    "日本語",
    "本",
    "café",
    "e-mail",
    "моск",
    "москва",
];

/// A small generator: the same for both databases.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn text(&mut self, most: usize) -> String {
        let count = self.below(most) + 1;
        let words: Vec<&str> = (0..count).map(|_| WORDS[self.below(WORDS.len())]).collect();
        words.join(" ")
    }

    fn query(&mut self) -> String {
        let text = self.text(3);
        match self.below(4) {
            0 => format!("\"{text}\""),
            1 => format!("{text} -{}", WORDS[self.below(WORDS.len())]),
            // The beginning of a word.
            2 => {
                let count = text.chars().count();
                text.chars().take(self.below(count) + 1).collect()
            }
            _ => text,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_searches_find_what_a_look_at_everything_finds() {
    story(async |server| {
        let mut random = Random(16);
        let ada = server.register("ada").await;
        let room = ada.create(json!({})).await;
        let mut said: BTreeMap<usize, (String, String)> = BTreeMap::new();
        for n in 0..120 {
            let text = random.text(6);
            match random.below(5) {
                0 if !said.is_empty() => {
                    let at = random.below(said.len());
                    let (_, (id, now)) = said.iter_mut().nth(at).unwrap();
                    edit(&ada, &room, id, &text).await;
                    *now = text;
                }
                1 if !said.is_empty() => {
                    let key = *said.keys().nth(random.below(said.len())).unwrap();
                    let (id, _) = said.remove(&key).unwrap();
                    redact(&ada, &room, &id).await;
                }
                _ => drop(said.insert(n, (ada.say(&room, &text).await, text))),
            }
            if n % 40 == 20 {
                fill(&server.store).await;
            }
        }
        for _ in 0..150 {
            let query = random.query();
            let parsed = SearchQuery::parse(&query).unwrap();
            let here = said.values().rev();
            let expected = here.filter(|(_, text)| parsed.find(text).is_some());
            let expected: Vec<String> = expected.map(|(id, _)| id.clone()).collect();
            let criteria =
                json!({"search_term": query, "order_by": "recent", "filter": {"limit": 100}});
            assert_eq!(
                found(&ask(&ada, &criteria, None).await),
                expected,
                "{query}"
            );
        }
    })
    .await;
}
