//! What users want to be notified of, and how they change their minds.

use http::Method;
use serde_json::{Map, Value, json};

use super::life::Life;
use crate::{harness::esc, random::Random, unread::rule};

/// The server's own rules that are switched off and on.
const DEFAULTS: [&str; 5] = [
    "underride/.m.rule.message",
    "underride/.m.rule.encrypted",
    "override/.m.rule.is_user_mention",
    "override/.m.rule.is_room_mention",
    "override/.m.rule.suppress_notices",
];

const MASTER: &str = "override/.m.rule.master";

impl Life {
    /// Somebody changes a rule.
    pub async fn changes_rules(&mut self, who: usize, random: &mut Random) {
        let room = self.rooms[random.below(self.rooms.len())].id.clone();
        let other = self.people[random.below(self.people.len())].user.id.clone();
        let highlight = json!(["notify", { "set_tweak": "highlight" }]);
        match random.below(10) {
            // Nothing of a room, or only who is mentioned there; as clients say it.
            0 | 1 => {
                let of_room = json!([{ "kind": "event_match", "key": "room_id", "pattern": room }]);
                let body = json!({ "conditions": of_room, "actions": [] });
                self.sets(who, &format!("override/{}", esc(&room)), body)
                    .await;
            }
            2 | 3 => {
                self.sets(
                    who,
                    &format!("room/{}", esc(&room)),
                    json!({ "actions": [] }),
                )
                .await;
            }
            4 => {
                let body = json!({ "pattern": "c?ke", "actions": highlight });
                self.sets(who, "content/cake", body).await;
            }
            5 if self.people[who].rules.get("content/cake") == Some(&true) => {
                self.switches(who, "content/cake", true).await;
            }
            5 | 6 => {
                let actions = [highlight, json!([])][random.below(2)].clone();
                self.sets(
                    who,
                    &format!("sender/{}", esc(&other)),
                    json!({ "actions": actions }),
                )
                .await;
            }
            7 => {
                let actions = [highlight, json!([]), json!(["notify"])][random.below(3)].clone();
                let path = format!("{}/actions", DEFAULTS[random.below(2)]);
                self.story.push(format!("{who}: {path} {actions}"));
                rule(&self.people[who].user, &path, json!({ "actions": actions })).await;
            }
            8 if random.below(3) == 0 => self.switches(who, MASTER, false).await,
            _ => {
                self.switches(who, DEFAULTS[random.below(DEFAULTS.len())], true)
                    .await;
            }
        }
    }

    /// Makes a rule, or deletes it again.
    async fn sets(&mut self, who: usize, path: &str, body: Value) {
        let is_there = self.people[who].rules.entry(path.to_owned()).or_default();
        *is_there = !*is_there;
        let user = &self.people[who].user;
        if self.people[who].rules[path] {
            self.story.push(format!("{who}: {path} {body}"));
            rule(user, path, body).await;
        } else {
            self.story.push(format!("{who}: deletes {path}"));
            let path = format!("/pushrules/global/{path}");
            user.ok(Method::DELETE, &path, json!({})).await;
            self.people[who].rules.remove(&format!("{path}/enabled"));
        }
    }

    /// Switches a rule off, or on again.
    async fn switches(&mut self, who: usize, path: &str, is_on: bool) {
        let path = format!("{path}/enabled");
        let enabled = self.people[who].rules.entry(path.clone()).or_insert(is_on);
        *enabled = !*enabled;
        let enabled = json!({ "enabled": *enabled });
        self.story.push(format!("{who}: {path} {enabled}"));
        rule(&self.people[who].user, &path, enabled).await;
    }

    /// Somebody doesn't want to hear of another any more, or does again.
    pub async fn ignores(&mut self, who: usize, other: usize) {
        if who == other {
            return;
        }
        let other = self.people[other].user.id.clone();
        let person = &mut self.people[who];
        if !person.ignored.remove(&other) {
            person.ignored.insert(other);
        }
        let ignored = person.ignored.iter().map(|id| (id.clone(), json!({})));
        let list = json!({ "ignored_users": ignored.collect::<Map<_, _>>() });
        self.story.push(format!("{who}: ignores {list}"));
        let path = format!(
            "/user/{}/account_data/m.ignored_user_list",
            esc(&person.user.id)
        );
        person.user.ok(Method::PUT, &path, list).await;
    }
}
