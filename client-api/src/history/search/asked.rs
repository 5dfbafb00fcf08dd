//! What a client asks to be searched, read strictly.

use std::collections::HashSet;

use rhizome_storage::{Part, SearchQuery};
use serde::Deserialize;

use crate::{
    MatrixError,
    view::filter::{self, EventFilter},
};

/// The longest text to search for, in bytes.
const LONGEST: usize = 1_000;
/// Results on a page when the filter doesn't say, and the most.
const LIMIT: (usize, usize) = (10, 100);
/// Events around results in one answer.
const AROUND: usize = 1_000;

/// The body of a request.
#[derive(Deserialize)]
pub struct Asked {
    pub search_categories: Categories,
}

/// The categories; there is one.
#[derive(Deserialize)]
pub struct Categories {
    pub room_events: Option<Criteria>,
}

/// What is wanted of rooms.
#[derive(Deserialize)]
pub struct Criteria {
    search_term: String,
    keys: Option<Vec<Key>>,
    #[serde(default)]
    pub filter: EventFilter,
    #[serde(default)]
    pub order_by: Order,
    event_context: Option<Around>,
    #[serde(default)]
    pub include_state: bool,
    #[serde(default)]
    groupings: Groupings,
}

#[derive(Clone, Copy, Deserialize)]
enum Key {
    #[serde(rename = "content.body")]
    Body,
    #[serde(rename = "content.name")]
    Name,
    #[serde(rename = "content.topic")]
    Topic,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// What has most of what is searched for.
    #[default]
    Rank,
    /// What is newest.
    Recent,
}

/// What is wanted beside a result.
#[derive(Clone, Copy, Deserialize)]
#[serde(default)]
pub struct Around {
    before_limit: u64,
    after_limit: u64,
    /// Names and pictures of who sent what is there.
    pub include_profile: bool,
}

impl Default for Around {
    fn default() -> Around {
        Around {
            before_limit: 5,
            after_limit: 5,
            include_profile: false,
        }
    }
}

#[derive(Default, Deserialize)]
struct Groupings {
    #[serde(default)]
    group_by: Vec<GroupBy>,
}

#[derive(Deserialize)]
struct GroupBy {
    key: Group,
}

/// By what results are grouped.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    RoomId,
    Sender,
}

impl Criteria {
    /// What is searched for.
    pub fn query(&self) -> Result<SearchQuery, MatrixError> {
        let too_much = || MatrixError::invalid_param("search_term: these are too many words");
        if self.search_term.len() > LONGEST {
            return Err(too_much());
        }
        SearchQuery::parse(&self.search_term).map_err(|_| too_much())
    }

    /// Where in events.
    pub fn parts(&self) -> Vec<Part> {
        let Some(keys) = &self.keys else {
            return Part::ALL.to_vec();
        };
        let part = |key: &Key| match key {
            Key::Body => Part::Body,
            Key::Name => Part::Name,
            Key::Topic => Part::Topic,
        };
        let asked: HashSet<Part> = keys.iter().map(part).collect();
        let all = Part::ALL.into_iter();
        all.filter(|part| asked.contains(part)).collect()
    }

    /// How many results.
    pub fn limit(&self) -> usize {
        filter::limit(&self.filter, LIMIT.0).clamp(1, LIMIT.1)
    }

    /// By what they are grouped, each once.
    pub fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = self.groupings.group_by.iter().map(|by| by.key).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// How many events before and after each of so many results, if any are wanted, and whether with profiles.
    pub fn around(&self, results: usize) -> Option<(usize, usize, bool)> {
        let around = self.event_context?;
        let most = AROUND / (2 * results.max(1));
        let bounded = |limit: u64| usize::try_from(limit).map_or(most, |limit| limit.min(most));
        Some((
            bounded(around.before_limit),
            bounded(around.after_limit),
            around.include_profile,
        ))
    }
}
