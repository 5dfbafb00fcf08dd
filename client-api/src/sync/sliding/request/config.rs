//! What is wanted of a room: how much of its timeline, and which state.

use std::collections::BTreeSet;

use ruma::UserId;
use serde::{Deserialize, Serialize};

use super::raw::{RawConfig, RawState};
use crate::MatrixError;

/// The most events of a room's timeline, whatever is asked for.
const MOST_EVENTS: u32 = 100;
/// The most elements of a `required_state`.
const MOST_ELEMENTS: usize = 1_000;

const MEMBER: &str = "m.room.member";

/// What is wanted of a room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Config {
    /// At most so many events.
    pub timeline: u32,
    /// Which state.
    pub state: State,
}

/// Which state is wanted: what any of these selects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct State(BTreeSet<Selection>);

/// A `required_state`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Selection {
    #[serde(rename = "i")]
    include: BTreeSet<Element>,
    #[serde(rename = "e", default, skip_serializing_if = "BTreeSet::is_empty")]
    exclude: BTreeSet<Element>,
    #[serde(rename = "l", default)]
    lazy: bool,
}

/// A type and a state key; what is left out matches all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Element(Option<String>, Option<String>);

impl Element {
    fn matches(&self, kind: &str, key: &str) -> bool {
        let fits = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|it| it == is);
        fits(&self.0, kind) && fits(&self.1, key)
    }

    fn exact(&self) -> Option<(&str, &str)> {
        Some((self.0.as_deref()?, self.1.as_deref()?))
    }
}

impl Selection {
    /// Whether it selects an entry by itself: with lazy loading, members only where they are named.
    fn selects(&self, kind: &str, key: &str) -> bool {
        let mut include = self.include.iter().filter(|element| {
            let named = element.exact().is_some();
            !(self.lazy && kind == MEMBER) || named
        });
        include.any(|element| element.matches(kind, key))
            && !self
                .exclude
                .iter()
                .any(|element| element.matches(kind, key))
    }

    /// Whose membership it selects, if they are all named.
    fn members(&self) -> Option<BTreeSet<&str>> {
        let is_member = |kind: &str| kind == MEMBER;
        let fits = self.include.iter().filter(|element| {
            let named = element.exact().is_some();
            element.0.as_deref().is_none_or(is_member) && (named || !self.lazy)
        });
        fits.map(|element| element.1.as_deref()).collect()
    }

    /// Whether it selects all members that aren't left out.
    fn has_all_members(&self) -> bool {
        let all = |element: &&Element| {
            element.1.is_none() && element.0.as_deref().is_none_or(|kind| kind == MEMBER)
        };
        !self.lazy && self.include.iter().any(|element| all(&element))
    }
}

impl State {
    /// Whether an entry is wanted, whoever it concerns.
    pub fn has(&self, kind: &str, key: &str) -> bool {
        self.0.iter().any(|one| one.selects(kind, key))
    }

    /// Whether members are wanted as they come up.
    pub fn is_lazy(&self) -> bool {
        self.0.iter().any(|one| one.lazy) && !self.0.iter().any(Selection::has_all_members)
    }

    /// The entries, if all that are wanted are named.
    pub fn named(&self) -> Option<Vec<(&str, &str)>> {
        let elements = self.0.iter().flat_map(|one| &one.include);
        let named: Option<BTreeSet<_>> = elements.map(Element::exact).collect();
        let wanted = named?.into_iter().filter(|(kind, key)| self.has(kind, key));
        Some(wanted.collect())
    }

    /// Whose membership is wanted, if they are all named: of a large room the others needn't be looked at.
    pub fn members(&self) -> Option<BTreeSet<&str>> {
        let each = self.0.iter().map(Selection::members);
        let all: Option<Vec<_>> = each.collect();
        Some(all?.into_iter().flatten().collect())
    }

    /// Whether all that it selects is surely selected by another.
    pub fn is_within(&self, other: &State) -> bool {
        self.0.is_subset(&other.0)
    }

    /// What either selects.
    pub fn with(&self, other: &State) -> State {
        State(self.0.union(&other.0).cloned().collect())
    }
}

impl Config {
    /// Reads what `me` asks for.
    pub(super) fn read(raw: RawConfig, me: &UserId) -> Result<Self, MatrixError> {
        let selection = match raw.required_state {
            RawState::Pairs(pairs) => of_pairs(pairs, me),
            RawState::Elements {
                include,
                exclude,
                lazy_members,
            } => {
                let element = |raw: super::raw::RawElement| Element(raw.r#type, raw.state_key);
                Selection {
                    include: include.into_iter().map(element).collect(),
                    exclude: exclude.into_iter().map(element).collect(),
                    lazy: lazy_members,
                }
            }
        };
        if selection.include.len() + selection.exclude.len() > MOST_ELEMENTS {
            return Err(MatrixError::invalid_param("`required_state` is too long"));
        }
        let wants_nothing = selection.include.is_empty() && !selection.lazy;
        let state = (!wants_nothing).then_some(selection);
        Ok(Self {
            timeline: u32::try_from(raw.timeline_limit)
                .map_or(MOST_EVENTS, |it| it.min(MOST_EVENTS)),
            state: State(state.into_iter().collect()),
        })
    }

    /// What this and another ask for.
    pub fn add(&mut self, other: &Config) {
        self.timeline = self.timeline.max(other.timeline);
        if !other.state.is_within(&self.state) {
            self.state = self.state.with(&other.state);
        }
    }
}

/// The form of today, in which `*` stands for all, `$ME` for whoever asks, and `$LAZY` for members as they come up.
fn of_pairs(pairs: Vec<(String, String)>, me: &UserId) -> Selection {
    let mut selection = Selection::default();
    for (kind, key) in pairs {
        if kind == MEMBER && key == "$LAZY" {
            selection.lazy = true;
            continue;
        }
        let some = |text: String| (text != "*").then_some(text);
        let key = if key == "$ME" { me.to_string() } else { key };
        selection.include.insert(Element(some(kind), some(key)));
    }
    selection
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::{Value, json};

    use super::*;

    fn state(required_state: Value) -> State {
        let mut raw = json!({ "timeline_limit": 1 });
        raw["required_state"] = required_state;
        let raw = serde_json::from_value(raw).unwrap();
        Config::read(raw, user_id!("@me:here")).unwrap().state
    }

    #[test]
    fn members_that_are_named_are_told_from_all() {
        let whose = |required_state| {
            let state = state(required_state);
            let members = state.members()?;
            Some(members.into_iter().map(str::to_owned).collect::<Vec<_>>())
        };
        let me = || Some(vec!["@me:here".to_owned()]);
        assert_eq!(whose(json!([["m.space.child", "*"]])), Some(Vec::new()));
        assert_eq!(
            whose(json!([["*", ""], ["m.room.member", "$ME"]])),
            Some(vec![String::new(), "@me:here".to_owned()])
        );
        assert_eq!(
            whose(json!([
                ["*", "*"],
                ["m.room.member", "$LAZY"],
                ["m.room.member", "$ME"]
            ])),
            me()
        );
        assert_eq!(whose(json!([["*", "@me:here"]])), me());
        assert_eq!(whose(json!([["*", "*"]])), None);
        assert_eq!(whose(json!([["m.room.member", "*"]])), None);
    }

    #[test]
    fn both_forms_say_the_same() {
        let pairs = state(json!([
            ["m.room.name", ""],
            ["m.room.member", "$LAZY"],
            ["m.room.member", "$ME"]
        ]));
        let elements = state(json!({ "include": [
            { "type": "m.room.name", "state_key": "" },
            { "type": "m.room.member", "state_key": "@me:here" },
        ], "lazy_members": true }));
        assert_eq!(pairs, elements);
        assert!(
            pairs.is_lazy() && pairs.has(MEMBER, "@me:here") && !pairs.has(MEMBER, "@you:here")
        );
        assert_eq!(
            pairs.named().unwrap(),
            [(MEMBER, "@me:here"), ("m.room.name", "")]
        );
    }

    #[test]
    fn all_but_members_comes_with_lazy_loading() {
        for wanted in [
            json!([["*", "*"], ["m.room.member", "$LAZY"]]),
            json!({ "include": [{}], "lazy_members": true }),
        ] {
            let all = state(wanted);
            assert!(all.has("m.room.topic", "") && !all.has(MEMBER, "@you:here") && all.is_lazy());
            assert_eq!(all.named(), None);
        }
    }

    #[test]
    fn what_is_excluded_stays_out_unless_another_wants_it() {
        let create = json!([{ "type": "m.room.create", "state_key": "" }]);
        let most = state(json!({ "include": [{}], "exclude": create }));
        assert!(!most.has("m.room.create", "") && most.has(MEMBER, "@you:here"));
        let both = most.with(&state(json!({ "include": create })));
        assert!(both.has("m.room.create", ""));
    }

    #[test]
    fn lazy_loading_gives_way_to_all_members() {
        let lazy = state(json!({ "lazy_members": true }));
        let all = state(json!([["m.room.member", "*"]]));
        assert!(lazy.is_lazy() && !all.is_lazy());
        assert!(!lazy.with(&all).is_lazy() && lazy.with(&all).has(MEMBER, "@you:here"));
        let topic = state(json!([["m.room.topic", ""]]));
        assert!(lazy.with(&topic).is_lazy() && topic.is_within(&lazy.with(&topic)));
    }
}
