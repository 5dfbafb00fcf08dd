//! Whom people find is whom a look at all rooms finds, whatever happened.

use std::collections::{BTreeMap, BTreeSet};

use rhizome_storage::testing::eventually;
use serde_json::json;

use super::{call_oneself, call_oneself_in, finds, following};
use crate::{
    e2ee::several::{Several, several},
    harness::{User, esc},
    random::Random,
};

const NAMES: [&str; 6] = ["Ann Lee", "Anna", "Leo Ann", "Zoe", "Leona Zed", "Max"];
const TERMS: [&str; 8] = ["an", "anna", "le", "zo", "leo ann", "max", "near", "far1"];

/// What is so, as the story was told.
struct Truth {
    /// Who is in which room by which name; those here by none.
    rooms: Vec<BTreeMap<String, Option<String>>>,
    open: Vec<bool>,
    /// What those here are called.
    profiles: BTreeMap<String, String>,
}

impl Truth {
    /// Whom somebody finds, and by which of their names.
    fn finds(&self, user: &str, term: &str) -> BTreeMap<String, BTreeSet<Option<String>>> {
        let mut found: BTreeMap<String, BTreeSet<Option<String>>> = BTreeMap::new();
        for (room, members) in self.rooms.iter().enumerate() {
            if !self.open[room] && !members.contains_key(user) {
                continue;
            }
            for (member, name) in members.iter().filter(|(member, _)| *member != user) {
                let name = self.profiles.get(member).or(name.as_ref());
                if fits(member, name.map(String::as_str), term) {
                    found
                        .entry(member.clone())
                        .or_default()
                        .insert(name.cloned());
                }
            }
        }
        found
    }
}

fn fits(id: &str, name: Option<&str>, term: &str) -> bool {
    let (localpart, _) = id[1..].split_once(':').unwrap();
    let text = format!("{localpart} {}", name.unwrap_or_default()).to_lowercase();
    let begins = |asked: &str| text.split(' ').any(|word| word.starts_with(asked));
    term.split(' ').all(begins)
}

struct Story<'a> {
    servers: &'a Several,
    /// Those here, of whom the first stays in all rooms, and those of the other server.
    near: Vec<User>,
    far: Vec<User>,
    rooms: Vec<String>,
    truth: Truth,
}

impl Story<'_> {
    async fn begin(servers: &Several) -> Story<'_> {
        let (mut near, mut far) = (Vec::new(), Vec::new());
        for n in 0..3 {
            near.push(servers.server(0).register(&format!("near{n}")).await);
        }
        for n in 0..3 {
            far.push(servers.server(1).register(&format!("far{n}")).await);
        }
        let (mut rooms, mut members) = (Vec::new(), Vec::new());
        for n in 0..4 {
            rooms.push(if n % 2 == 0 {
                near[0].create_public().await
            } else {
                near[0].create(json!({})).await
            });
            members.push(BTreeMap::from([(near[0].id.clone(), None)]));
        }
        let open = vec![true, false, true, false];
        let truth = Truth {
            rooms: members,
            open,
            profiles: BTreeMap::new(),
        };
        Story {
            servers,
            near,
            far,
            rooms,
            truth,
        }
    }

    /// Something happens, and both servers have heard of it.
    async fn act(&mut self, random: &mut Random) {
        let room = random.below(self.rooms.len());
        let id = self.rooms[room].clone();
        let is_far = random.below(2) == 0;
        let user = if is_far {
            self.far[random.below(self.far.len())].clone()
        } else {
            self.near[1 + random.below(self.near.len() - 1)].clone()
        };
        let is_in = self.truth.rooms[room].contains_key(&user.id);
        let name = NAMES[random.below(NAMES.len())];
        match random.below(6) {
            0 => {
                let rule = if self.truth.open[room] {
                    "invite"
                } else {
                    "public"
                };
                let content = json!({ "join_rule": rule });
                self.near[0]
                    .set_state(&id, "m.room.join_rules", "", content)
                    .await;
                self.truth.open[room] = rule == "public";
            }
            1 if is_in => {
                user.leave(&id).await;
                self.truth.rooms[room].remove(&user.id);
            }
            2 if !is_far => {
                call_oneself(&user, name).await;
                self.truth.profiles.insert(user.id.clone(), name.to_owned());
            }
            _ if !is_in => {
                self.near[0].invite(&id, &user).await;
                let (joined, answer) = self.servers.tries_to_join(&user, &id).await;
                assert!(joined, "{answer}");
                self.truth.rooms[room].insert(user.id.clone(), None);
            }
            _ if is_far => {
                call_oneself_in(&user, &id, name).await;
                self.truth.rooms[room].insert(user.id.clone(), Some(name.to_owned()));
            }
            _ => {}
        }
        self.has_arrived(room).await;
    }

    /// Here it is known who is in the room and what those of the other server are called there.
    async fn has_arrived(&self, room: usize) {
        let path = format!("/rooms/{}/joined_members", esc(&self.rooms[room]));
        eventually("it has arrived", async || {
            let members = self.near[0].read(&path).await;
            let members = members["joined"].as_object().unwrap();
            let expected = &self.truth.rooms[room];
            let same = |(id, name): (&String, &Option<String>)| {
                let told = members.get(id);
                let is_far = self.far.iter().any(|user| user.id == *id);
                let told_name = told.and_then(|told| told["display_name"].as_str());
                told.is_some() && (!is_far || told_name == name.as_deref())
            };
            members.len() == expected.len() && expected.iter().all(same)
        })
        .await;
    }

    async fn check(&self, story: u64) {
        for user in &self.near {
            for term in TERMS {
                let expected = self.truth.finds(&user.id, term);
                let what = format!("story {story}: {} finds {expected:?} by {term:?}", user.id);
                eventually(&what, async || {
                    let found = finds(user, term).await;
                    let by_a_name = |(id, name): &(String, Option<String>)| {
                        let names = expected.get(id);
                        names.is_some_and(|names| names.contains(name))
                    };
                    found.len() == expected.len() && found.iter().all(by_a_name)
                })
                .await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_people_find_whom_a_look_at_all_rooms_finds() {
    for seed in 0..2 {
        several(2, async |servers| {
            let here = servers.server(0).clone();
            let told = async {
                let mut random = Random(seed);
                let mut story = Story::begin(servers).await;
                for _ in 0..4 {
                    for _ in 0..10 {
                        story.act(&mut random).await;
                    }
                    story.check(seed).await;
                }
            };
            following(&here, told).await;
        })
        .await;
    }
}
