//! What has to be so in the end, when all is well again: everybody agrees, and everything has arrived.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use http::Method;
use rhizome_storage::testing::Pauses;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    rooms::{Look, disagreements, look, together},
    site::Answer,
    view::{View, differences, state_of},
    world::{World, esc},
};

/// How much of the servers' time goes by between two looks, …
const PAUSE: Duration = Duration::from_secs(1);
/// … and now and then: enough for whatever is put off to be done.
const LONG_PAUSE: Duration = Duration::from_mins(2);
const LOOKS_FOR_LONG: usize = 10;
/// After so many looks somebody says something once more: what a server lacks it sees by what comes next.
const LOOKS_FOR_WORDS: usize = 60;
/// A complete history, as far as stories go.
const WHOLE: &str = "filter=%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A1000%7D%7D%7D";

/// People who see each other in a room.
type Company = BTreeSet<String>;

impl World {
    /// All is well again: everybody is up, and everything arrives.
    pub async fn recovers(&mut self) {
        self.restarts().await;
        self.weather.clears_up().await;
    }

    /// Waits until everybody agrees. Gives how many pairs of servers there were that had to.
    ///
    /// # Errors
    /// In what they still don't when nobody has the patience any more.
    pub async fn agrees(&mut self, patience: Duration) -> Result<usize, String> {
        let until = Instant::now() + patience;
        let (mut at, mut pauses) = (0, Pauses::default());
        loop {
            if at % LOOKS_FOR_WORDS == 0 {
                self.everybody_speaks(at).await;
            }
            let is_long = at % LOOKS_FOR_LONG == LOOKS_FOR_LONG - 1;
            self.passes(if is_long { LONG_PAUSE } else { PAUSE });
            // Servers need some of ours as well.
            pauses.next().await;
            let is_last = Instant::now() > until;
            let came = self.looks_around(is_last).await;
            let unsound = self.is_unsound();
            if !unsound.is_empty() {
                return Err(unsound.join("\n"));
            }
            match came {
                Ok(pairs) => return Ok(pairs),
                Err(wrong) if is_last => return Err(wrong.join("\n")),
                Err(_) => at += 1,
            }
        }
    }

    /// Of each room, one of each server says something.
    async fn everybody_speaks(&self, at: usize) {
        let mut spoke = BTreeSet::new();
        for who in 0..self.people.len() {
            let path = "/joined_rooms";
            let answer = self.call(who, Method::GET, path, &Value::Null).await;
            let Some(answer) = answer else { continue };
            let joined = answer.json();
            for (index, room) in self.rooms.iter().enumerate() {
                let is_in = joined["joined_rooms"].as_array();
                let is_in = is_in.is_some_and(|all| all.contains(&json!(room.id)));
                if is_in && spoke.insert((index, self.people[who].home)) {
                    // If that is refused, somebody else notices in the end.
                    self.says(who, index, &format!("end{at}")).await;
                }
            }
        }
    }

    /// One look at everything, from what the rest follows from on; up to what isn't right yet, unless it is the last.
    async fn looks_around(&mut self, is_last: bool) -> Result<usize, Vec<String>> {
        let (pairs, companies, mut wrong) = self.rooms_agree().await;
        for kind in 0..4 {
            if !wrong.is_empty() && !is_last {
                break;
            }
            wrong.extend(match kind {
                0 => self.messages_have_come().await,
                1 => self.devices_are_known(&companies).await,
                2 => self.files_can_be_had().await,
                _ => self.clients_know().await,
            });
        }
        if wrong.is_empty() {
            Ok(pairs)
        } else {
            Err(wrong)
        }
    }

    /// Servers that are in a room together have the same of it: how many pairs of them there are, who is there, and what
    /// isn't so.
    async fn rooms_agree(&self) -> (usize, Vec<Company>, Vec<String>) {
        let (mut pairs, mut companies, mut wrong) = (0, Vec::new(), Vec::new());
        for (index, room) in self.rooms.iter().enumerate() {
            let mut looks: Vec<Look> = Vec::new();
            for site in &self.sites {
                let (name, room) = (site.name.to_string(), room.id.clone());
                looks.extend(site.look(|store| look(name, store, room)).await);
            }
            let together = together(&looks);
            let count = together.len();
            pairs += count * count.saturating_sub(1) / 2;
            let found = disagreements(&together, &looks).into_iter();
            wrong.extend(found.map(|what| format!("room {index}: {what}")));
            let servers: BTreeSet<&str> = together.iter().map(|one| &*one.server).collect();
            if let Some(look) = together.first() {
                let here = |user: &&String| {
                    let server = user.split_once(':').map(|(_, server)| server);
                    server.is_some_and(|server| servers.contains(server))
                };
                companies.push(look.joined.iter().filter(here).cloned().collect());
            }
        }
        (pairs, companies, wrong)
    }

    /// Each message has come to its device, once, after those that were sent before it.
    async fn messages_have_come(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for who in 0..self.people.len() {
            if self.looks(who).await.is_none_or(|answer| !answer.is_ok()) {
                wrong.push(format!("{} isn't told what is new", self.people[who].id));
            }
        }
        for (to, person) in self.people.iter().enumerate() {
            for (from, sender) in self.people.iter().enumerate() {
                let heard = person.view.heard.iter();
                let heard = heard.filter(|(of, _)| *of == sender.id).map(|(_, n)| *n);
                let heard: Vec<u64> = heard.collect();
                let sent = self.messages.iter();
                let sent = sent.filter(|message| (message.from, message.to) == (from, to));
                // Of what wasn't answered nobody knows whether it was sent.
                let expected = sent.filter(|message| message.is_sure || heard.contains(&message.n));
                let expected: Vec<u64> = expected.map(|message| message.n).collect();
                if heard != expected {
                    let (sender, id) = (&sender.id, &person.id);
                    let what = format!("{id} has heard {heard:?} of {sender}, not {expected:?}");
                    wrong.push(what);
                }
            }
        }
        wrong
    }

    /// Who shares a room with somebody sees the devices that they have.
    async fn devices_are_known(&self, companies: &[Company]) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut own = BTreeMap::new();
        for (who, person) in self.people.iter().enumerate() {
            let devices = self.devices_of(who, &[person.id.clone()].into()).await;
            own.extend(devices);
        }
        for (who, person) in self.people.iter().enumerate() {
            let with = companies.iter().filter(|all| all.contains(&person.id));
            let seen: Company = with.flatten().cloned().collect();
            if seen.is_empty() {
                continue;
            }
            let devices = self.devices_of(who, &seen).await;
            for user in seen {
                let (there, here) = (own.get(&user), devices.get(&user));
                if there.is_none() || there != here {
                    let id = &person.id;
                    wrong.push(format!("{id} sees {here:?} of {user}, not {there:?}"));
                }
            }
        }
        wrong
    }

    /// The devices of some that a person is told of, of those who could be asked.
    async fn devices_of(&self, who: usize, users: &Company) -> BTreeMap<String, Vec<String>> {
        let asked: serde_json::Map<String, Value> = (users.iter())
            .map(|user| (user.clone(), json!([])))
            .collect();
        let body = json!({ "device_keys": asked, "timeout": 5_000 });
        let answer = self.call(who, Method::POST, "/keys/query", &body).await;
        let answer = answer.map(|answer| answer.json()).unwrap_or_default();
        let failed = answer["failures"].as_object();
        let has_failed = |user: &str| {
            let server = user.split_once(':').map_or("", |(_, server)| server);
            failed.is_some_and(|failed| failed.contains_key(server))
        };
        let mut devices = BTreeMap::new();
        for user in users.iter().filter(|user| !has_failed(user.as_str())) {
            let keys = answer["device_keys"][user].as_object();
            let ids = keys.map(|keys| keys.keys().cloned().collect());
            devices.extend(ids.map(|ids: Vec<String>| (user.clone(), ids)));
        }
        devices
    }

    /// What was uploaded can be had at every server.
    async fn files_can_be_had(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for at in 0..self.files.len() {
            for (who, person) in self.people.iter().enumerate().take(self.sites.len()) {
                let file = &self.files[at];
                // It is kept where it was got once.
                if file.got.contains(&person.home) {
                    continue;
                }
                let answer = self.fetches(who, &file.path).await;
                if answer.is_some_and(|answer| answer.is_ok() && *answer.bytes == *file.bytes) {
                    self.files[at].got.insert(person.home);
                } else {
                    wrong.push(format!("{} can't get {}", person.id, file.path));
                }
            }
        }
        wrong
    }

    /// Who has followed knows what they would be told who ask anew, and what the room's state is.
    async fn clients_know(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for who in 0..self.people.len() {
            self.looks(who).await;
            let id = self.people[who].id.clone();
            let path = format!("/sync?use_state_after=true&{WHOLE}");
            let answer = self.call(who, Method::GET, &path, &Value::Null).await;
            let mut whole = View::default();
            if let Some(answer) = answer.filter(Answer::is_ok) {
                whole.hears(&answer.json());
            } else {
                wrong.push(format!("{id} isn't told all"));
            }
            let followed = &self.people[who].view;
            let found = differences(followed, &whole).into_iter();
            wrong.extend(found.map(|what| format!("{id}: {what}")));
            for (room, seen) in &followed.rooms {
                let path = format!("/rooms/{}/state", esc(room));
                let answer = self.call(who, Method::GET, &path, &Value::Null).await;
                let state = answer.map(|answer| answer.json()).unwrap_or_default();
                if state_of(&state) != seen.state {
                    wrong.push(format!("{id}: the state of {room} is another"));
                }
            }
        }
        wrong
    }
}
