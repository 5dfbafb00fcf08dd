//! The stories of `tests/stories`, one file each: what happens in a room, and what its servers must make
//! of it.
//!
//! A story begins with prose. Then, line by line (`#` begins a comment, indented lines belong to the line
//! above them):
//!
//! - `in versions 2-11, 12` — where it is told.
//! - `NAME: WHO DOES, after NAME NAME` — an event, and what it follows (the line before it, unless said).
//!   WHO is `alice` (creator, of one.org), `bob` (level 50, of two.org), `carl` (0, of three.org), all in a
//!   public room at `start`, or `dora` (of four.org), who isn't. DOES is one of `joins`, `joins via WHO`,
//!   `leaves`, `knocks`, `invites WHO`, `kicks WHO`, `bans WHO`, `unbans WHO`,
//!   `opens the room to RULE` (a join rule), `gives bob=50 kick=60 …` (levels of users and of actions; the
//!   creator keeps hers), `sets TYPE KEY TEXT`.
//! - `RULE: WHO DOES, after NAME` with `RULE` in brackets, as `[auth 5.3.3]` — the same, refused by that rule.
//! - `NAME = NAME but KEY is NAME` — a state that somebody claims, in place of what came of it.
//! - `merge NAME NAME …`, with what the merged state has below it: `KEY is NAME`, or `is gone`; with
//!   `in versions …: ` before it where they differ. KEY is a type without `m.room.`, and a user if it
//!   is about one.

use std::{collections::HashMap, path::Path};

use rhizome_protocol::{
    StateKey,
    resolve::{StateMap, resolve},
};
use ruma::OwnedEventId;
use serde_json::{Value, json};

use crate::room::{ALICE, BOB, CARL, DORA, Room, What, levels, member, state};

fn user(name: &str) -> &'static str {
    match name {
        "alice" => ALICE,
        "bob" => BOB,
        "carl" => CARL,
        "dora" => DORA,
        other => panic!("nobody is called {other}"),
    }
}

/// `2-11, 12`
fn versions(text: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.parse::<u32>().unwrap()..=last.parse::<u32>().unwrap()
    };
    text.split(',')
        .flat_map(|part| range(part.trim()))
        .collect()
}

struct Told {
    room: Room,
    version: u32,
    events: HashMap<String, OwnedEventId>,
    states: HashMap<String, StateMap>,
    last: String,
}

impl Told {
    fn state(&self, name: &str) -> StateMap {
        match (self.states.get(name), self.events.get(name)) {
            (Some(state), _) => state.clone(),
            (None, Some(id)) => self.room.after[id].clone(),
            (None, None) => panic!("nothing is called {name}"),
        }
    }

    fn does(&self, who: &str, words: &[&str]) -> What {
        let me = user(who);
        match words {
            ["joins"] => member(me, "join"),
            ["joins", "via", by] => {
                let mut join = member(me, "join");
                join.content["join_authorised_via_users_server"] = json!(user(by));
                join
            }
            ["leaves"] => member(me, "leave"),
            ["knocks"] => member(me, "knock"),
            ["invites", whom] => member(user(whom), "invite"),
            ["kicks" | "unbans", whom] => member(user(whom), "leave"),
            ["bans", whom] => member(user(whom), "ban"),
            ["opens", "the", "room", "to", rule] => {
                state("m.room.join_rules", "", json!({ "join_rule": rule }))
            }
            ["gives", given @ ..] => levels(self.levels(given)),
            ["begins", "the", "room"] => {
                let version = self.room.rules.id();
                let content = json!({"creator": me, "room_version": version});
                state("m.room.create", "", content)
            }
            ["sets", kind, text @ ..] => {
                let kind = Box::leak(format!("m.room.{kind}").into_boxed_str());
                state(kind, "", json!({ "text": text.join(" ") }))
            }
            other => panic!("nobody can {other:?}"),
        }
    }

    fn levels(&self, given: &[&str]) -> Value {
        let mut content = json!({ "users": {} });
        if !self.room.rules.auth.privileged_creators {
            content["users"][ALICE] = json!(100);
        }
        for pair in given {
            let (name, level) = pair.split_once('=').unwrap();
            let level: i64 = level.parse().unwrap();
            match name {
                "alice" | "bob" | "carl" | "dora" => content["users"][user(name)] = json!(level),
                action => content[action] = json!(level),
            }
        }
        content
    }

    fn key(words: &[&str]) -> StateKey {
        match words {
            [kind] => StateKey::new(format!("m.room.{kind}"), ""),
            [kind, who] => StateKey::new(format!("m.room.{kind}"), user(who)),
            other => panic!("{other:?} is no key"),
        }
    }

    /// `NAME: WHO DOES, after NAME NAME`
    fn event(&mut self, name: &str, rest: &str) {
        let (does, after) = match rest.split_once(", after ") {
            Some((does, after)) => (does, after.split_whitespace().collect()),
            None => (rest, vec![self.last.as_str()]),
        };
        let prev: Vec<_> = after
            .into_iter()
            .filter(|name| *name != "nothing")
            .map(|name| self.events[name].clone())
            .collect();
        let words: Vec<_> = does.split_whitespace().collect();
        let what = self.does(words[0], &words[1..]);
        let done = self.room.try_send(&prev, user(words[0]), &what);
        match (name.strip_prefix('['), done) {
            (None, Ok(id)) => {
                self.events.insert(name.to_owned(), id);
                name.clone_into(&mut self.last);
            }
            (Some(rule), Err(rejection)) => {
                assert_eq!(format!("{}]", rejection.rule), rule, "{rest}");
            }
            (None, Err(rejection)) => panic!("{name}: {rest}: {rejection}"),
            (Some(rule), Ok(_)) => panic!("{rest} is allowed, in spite of {rule}"),
        }
    }

    /// `NAME = NAME but KEY is NAME`
    fn claim(&mut self, name: &str, rest: &str) {
        let (of, but) = rest.split_once(" but ").unwrap();
        let (key, is) = but.split_once(" is ").unwrap();
        let mut state = self.state(of.trim());
        let key = Self::key(&key.split_whitespace().collect::<Vec<_>>());
        match is {
            "gone" => drop(state.remove(&key)),
            is => drop(state.insert(key, self.events[is].clone())),
        }
        self.states.insert(name.to_owned(), state);
    }

    fn merge(&self, names: &str, expected: &[&str]) {
        let mut forks: Vec<_> = names
            .split_whitespace()
            .map(|name| self.state(name))
            .collect();
        let merged = resolve(self.room.rules, &forks, &self.room).unwrap();
        forks.reverse();
        let backwards = resolve(self.room.rules, &forks, &self.room).unwrap();
        assert_eq!(merged, backwards, "the order of forks doesn't matter");
        for line in expected {
            let mut line = *line;
            if let Some(rest) = line.strip_prefix("in versions ") {
                let (where_told, rest) = rest.split_once(": ").unwrap();
                if !versions(where_told).contains(&self.version) {
                    continue;
                }
                line = rest;
            }
            let (key, is) = line.split_once(" is ").unwrap();
            let key = Self::key(&key.split_whitespace().collect::<Vec<_>>());
            let found = merged.get(&key);
            let name = |id: &OwnedEventId| {
                let mut named = self.events.iter();
                let named = named.find(|(_, event)| *event == id);
                named.map_or("of the beginning", |(name, _)| name.as_str())
            };
            let found = found.map_or("gone", name);
            assert_eq!(found, is, "version {}: merge {names}: {line}", self.version);
        }
    }
}

fn tell(story: &str, version: u32) {
    let (room, start) = Room::lively(&version.to_string());
    let mut told = Told {
        room,
        version,
        events: HashMap::from([("start".to_owned(), start)]),
        states: HashMap::new(),
        last: "start".to_owned(),
    };
    let lines = story.lines().skip_while(|line| !is_where(line)).skip(1);
    let lines: Vec<_> = lines
        .map(|line| line.split('#').next().unwrap_or_default().trim_end())
        .filter(|line| !line.is_empty())
        .collect();
    for (at, line) in lines.iter().enumerate() {
        if line.starts_with(' ') {
            continue;
        }
        if let Some(names) = line.strip_prefix("merge ") {
            let below = lines[at + 1..].iter();
            let below: Vec<_> = below
                .take_while(|line| line.starts_with(' '))
                .map(|line| line.trim())
                .collect();
            assert!(!below.is_empty(), "{line} expects nothing");
            told.merge(names, &below);
        } else if let Some((name, rest)) = line.split_once(": ") {
            told.event(name, rest);
        } else if let Some((name, rest)) = line.split_once(" = ") {
            told.claim(name, rest);
        } else {
            panic!("{line:?} is no line of a story");
        }
    }
}

fn is_where(line: &str) -> bool {
    line.starts_with("in versions ")
}

#[test]
fn all_stories_end_as_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
    let mut stories = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let story = std::fs::read_to_string(&path).unwrap();
        let line = story.lines().find(|line| is_where(line)).unwrap();
        for version in versions(line.strip_prefix("in versions ").unwrap()) {
            println!("{} in version {version}", path.display());
            tell(&story, version);
        }
        stories += 1;
    }
    assert!(stories >= 8, "{stories}");
}
