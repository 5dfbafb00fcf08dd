//! What users do.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    life::{Life, Place, Said},
    oracle::Receipt,
};
use crate::{e2ee::several::Several, harness::esc, random::Random, unread::related};

const BODIES: [&str; 4] = ["hello", "a Cake!", "pancakes", "tea"];
/// Relations over so many others say in which thread something is.
const HOPS: usize = 3;

impl Life {
    /// Somebody does something.
    pub async fn goes_on(&mut self, all: &Several, random: &mut Random) {
        let who = random.below(self.people.len());
        let at = random.below(self.rooms.len());
        let is_inside = self.rooms[at].places[who] == Place::Inside;
        match random.below(20) {
            0 | 1 => self.comes_or_goes(all, (who, at), random).await,
            2 | 3 => self.changes_rules(who, random).await,
            4 => {
                let other = random.below(self.people.len());
                self.ignores(who, other).await;
            }
            _ if !is_inside => self.comes_or_goes(all, (who, at), random).await,
            5 => self.redacts(who, at, random).await,
            6..=9 => self.reads(who, at, random).await,
            10 => self.marks_unread(who, at, random).await,
            _ => self.says(who, at, random).await,
        }
    }

    /// Something that was said in a room and is known at a server, mostly one of the last.
    fn known(&self, at: usize, home: usize, random: &mut Random) -> Option<usize> {
        let said = &self.rooms[at].said;
        let reach = if random.below(4) == 0 {
            said.len()
        } else {
            said.len().min(8)
        };
        let index = said.len().checked_sub(1 + random.below(reach.max(1)))?;
        (said[index].is_everywhere || said[index].home == home).then_some(index)
    }

    async fn says(&mut self, who: usize, at: usize, random: &mut Random) {
        let (mut kind, mut content) = self.words(random);
        let home = self.people[who].home;
        let mut said = Said {
            id: String::new(),
            by: who,
            home,
            is_everywhere: false,
            thread: None,
            hops: 0,
            relates: false,
            reacted: BTreeSet::new(),
            is_leant_on: false,
            is_redacted: false,
        };
        let target = self.known(at, home, random);
        let target = target.filter(|_| random.below(2) == 0);
        if let Some(target) = target.filter(|target| !self.rooms[at].said[*target].is_redacted) {
            let to = &mut self.rooms[at].said[target];
            let (relation, root) = match random.below(6) {
                0 => ("m.reference", None),
                1 if to.reacted.insert(who) => ("m.annotation", None),
                2 if to.by == who => ("m.replace", None),
                _ if to.relates && to.thread.is_none() => ("m.reference", None),
                _ => (
                    "m.thread",
                    Some(to.thread.as_ref().unwrap_or(&to.id).clone()),
                ),
            };
            if let Some(root) = root {
                content["m.relates_to"] = related(relation, &root)["m.relates_to"].take();
                said.thread = Some(root);
            } else {
                content["m.relates_to"] = related(relation, &to.id)["m.relates_to"].take();
                if to.hops < HOPS {
                    (said.thread, said.hops) = (to.thread.clone(), to.hops + 1);
                }
                to.is_leant_on = true;
            }
            said.relates = true;
            match relation {
                "m.annotation" => {
                    kind = "m.reaction";
                    content = json!({ "m.relates_to": content["m.relates_to"] });
                    content["m.relates_to"]["key"] = json!("👍");
                }
                "m.replace" => {
                    content["m.new_content"] = json!({ "msgtype": "m.text", "body": "x" });
                }
                _ => {}
            }
        }
        let path = format!("send/{kind}");
        let sent = self.does(who, at, &path, content).await;
        sent["event_id"].as_str().unwrap().clone_into(&mut said.id);
        self.rooms[at].said.push(said);
    }

    /// The type and the content of something to say.
    fn words(&self, random: &mut Random) -> (&'static str, Value) {
        let body = BODIES[random.below(BODIES.len())];
        let (kind, mut content) = match random.below(8) {
            0 => {
                let encrypted = json!({
                    "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x", "session_id": "x",
                });
                return ("m.room.encrypted", encrypted);
            }
            1 => {
                let question = json!({ "question": { "org.matrix.msc1767.text": "?" } });
                let poll = "org.matrix.msc3381.poll.start";
                (
                    poll,
                    json!({ poll: question, "org.matrix.msc1767.text": "?" }),
                )
            }
            2 => (
                "m.room.message",
                json!({ "msgtype": "m.notice", "body": body }),
            ),
            _ => (
                "m.room.message",
                json!({ "msgtype": "m.text", "body": body }),
            ),
        };
        if random.below(3) == 0 {
            let mut mentions = json!({});
            if random.below(3) == 0 {
                mentions["room"] = json!(true);
            } else {
                let whom = random.below(self.people.len());
                mentions["user_ids"] = json!([self.people[whom].user.id]);
            }
            content["m.mentions"] = mentions;
        }
        (kind, content)
    }

    /// Somebody does something in a room, once.
    async fn does(&mut self, who: usize, at: usize, what: &str, content: Value) -> Value {
        let once = self.story.len();
        let path = format!("/rooms/{}/{what}/recount{once}", esc(&self.rooms[at].id));
        let user = &self.people[who].user;
        let answer = user.ok(Method::PUT, &path, content.clone()).await;
        let about = format!("{who}: {what} in {at} {content} → {}", answer["event_id"]);
        self.story.push(about);
        answer
    }

    /// What others lean on stays: which thread they are in would be another's guess.
    async fn redacts(&mut self, who: usize, at: usize, random: &mut Random) {
        let Some(index) = self.known(at, self.people[who].home, random) else {
            return;
        };
        let said = &mut self.rooms[at].said[index];
        let may = said.by == who || self.rooms[at].creator == who;
        let said = &mut self.rooms[at].said[index];
        if !may || said.is_redacted || said.is_leant_on {
            return;
        }
        said.is_redacted = true;
        let what = format!("redact/{}", esc(&said.id));
        let redaction = self.does(who, at, &what, json!({})).await;
        self.awaits(who, at, redaction["event_id"].as_str().unwrap());
    }

    /// What has to come to all servers, although nobody relates to it.
    fn awaits(&mut self, who: usize, at: usize, event: &str) {
        self.rooms[at].said.push(Said {
            id: event.to_owned(),
            by: who,
            home: self.people[who].home,
            is_everywhere: false,
            thread: None,
            hops: 0,
            relates: false,
            reacted: BTreeSet::new(),
            is_leant_on: true,
            is_redacted: true,
        });
    }

    async fn reads(&mut self, who: usize, at: usize, random: &mut Random) {
        let known = self.known(at, self.people[who].home, random);
        let said = &self.rooms[at].said;
        // A receipt for what hasn't come yet holds when it comes.
        let index = known.or((random.below(4) == 0).then(|| said.len().wrapping_sub(1)));
        let Some(read) = index.and_then(|index| said.get(index)) else {
            return;
        };
        let is_threaded = random.below(3) > 0 && known.is_some() && !read.is_redacted;
        let thread = is_threaded.then(|| read.thread.clone().unwrap_or_else(|| "main".to_owned()));
        let event = read.id.clone();
        let kind = ["m.read", "m.read.private"][random.below(2)];
        let room = self.rooms[at].id.clone();
        let (path, body) = if thread.is_none() && random.below(3) == 0 {
            let body = json!({ "m.fully_read": event, kind: event });
            (format!("/rooms/{}/read_markers", esc(&room)), body)
        } else {
            let path = format!("/rooms/{}/receipt/{kind}/{}", esc(&room), esc(&event));
            let body = thread
                .as_ref()
                .map_or(json!({}), |thread| json!({ "thread_id": thread }));
            (path, body)
        };
        let person = &mut self.people[who];
        let (status, answer) = person.user.call(Method::POST, &path, Some(body)).await;
        let about = format!("{who}: reads {event} in {at} {kind} {thread:?} → {status} {answer}");
        self.story.push(about);
        assert!(
            status == StatusCode::OK || known.is_none(),
            "{:?}",
            self.story.last()
        );
        if status == StatusCode::OK {
            let receipts = person.receipts.entry(room).or_default();
            receipts.push(Receipt { event, thread });
        }
    }

    /// A note to oneself, which is no matter of counts.
    async fn marks_unread(&mut self, who: usize, at: usize, random: &mut Random) {
        let user = &self.people[who].user;
        let (id, room) = (esc(&user.id), esc(&self.rooms[at].id));
        let path = format!("/user/{id}/rooms/{room}/account_data/m.marked_unread");
        let unread = json!({ "unread": random.below(2) == 0 });
        self.story.push(format!("{who}: marks {at} {unread}"));
        user.ok(Method::PUT, &path, unread).await;
    }

    async fn comes_or_goes(
        &mut self,
        all: &Several,
        (who, at): (usize, usize),
        random: &mut Random,
    ) {
        let room = &self.rooms[at];
        let (id, creator, place) = (room.id.clone(), room.creator, room.places[who]);
        let stays_out = room.is_of_one && self.people[who].home != self.people[creator].home;
        let (what, place) = match place {
            Place::Inside if who == creator => return,
            Place::Inside => ("leave", Place::Outside),
            Place::Invited if stays_out || random.below(3) == 0 => ("leave", Place::Outside),
            Place::Outside if !room.is_public => ("is invited", Place::Invited),
            Place::Invited | Place::Outside => ("join", Place::Inside),
        };
        if place == Place::Invited {
            // So that nobody is invited who is just coming or going elsewhere.
            self.settle().await;
            self.people[creator]
                .user
                .invite(&id, &self.people[who].user)
                .await;
            self.settle().await;
        } else if place == Place::Inside {
            assert!(all.join(&self.people[who].user, &id).await);
        } else {
            self.people[who].user.leave(&id).await;
        }
        self.rooms[at].places[who] = place;
        self.story.push(format!("{who}: {what} {at}"));
    }
}
