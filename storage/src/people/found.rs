//! Who was found, and who of them is meant most likely.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use ruma::{OwnedUserId, ServerName};

use super::words::PeopleQuery;
use crate::engine::sql::{Columns as _, ReadRow};
use crate::{Result, UserNo};

/// Who may be found.
#[derive(Debug, Clone, Copy)]
pub struct PeopleScope<'a> {
    /// Who searches. They don't find themselves.
    pub user: UserNo,
    /// This server.
    pub here: &'a ServerName,
    /// Whether all users of this server are found.
    pub all_local: bool,
    /// Who isn't found.
    pub without: &'a [UserNo],
    /// So many are told.
    pub limit: usize,
}

/// Somebody who was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub user_id: OwnedUserId,
    /// What they are called, as far as who searches may know.
    pub name: Option<String>,
    /// The address of their picture.
    pub avatar: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundPeople {
    /// The best first.
    pub people: Vec<Person>,
    /// Whether there are more.
    pub limited: bool,
}

/// Somebody by one of their names.
pub(super) struct Named {
    pub user: UserNo,
    n: i64,
    pub person: Person,
    /// All words are whole ones of theirs.
    whole: bool,
}

/// What is found by a word is what is meant only if all words are there: the name says so.
pub(super) fn named(query: &PeopleQuery, row: &ReadRow) -> Result<Option<Named>> {
    let person = Person {
        user_id: row.get("user_id")?,
        name: row.get("name")?,
        avatar: row.get("avatar")?,
    };
    let Some(whole) = query.finds(&person.user_id, person.name.as_deref()) else {
        return Ok(None);
    };
    Ok(Some(Named {
        user: row.get("user_no")?,
        n: row.get("n")?,
        person,
        whole,
    }))
}

/// Each once, by the best of their names; the best first: who is meant by their id, who shares a room with the user, who
/// is called just so, who is of this server, who has said who they are.
pub(super) fn best(
    query: &PeopleQuery,
    scope: PeopleScope<'_>,
    found: Vec<Named>,
    cut: bool,
    sharing: &HashSet<UserNo>,
) -> FoundPeople {
    let mut each: HashMap<UserNo, Named> = HashMap::new();
    for named in found {
        let better = each.get(&named.user).is_none_or(|other| {
            let rank = |named: &Named| (named.whole, named.person.name.is_some(), named.n);
            rank(&named) > rank(other)
        });
        if better {
            each.insert(named.user, named);
        }
    }
    let mut each: Vec<Named> = each.into_values().collect();
    each.sort_by_cached_key(|named| {
        let person = &named.person;
        let best = (
            query.is_id(&person.user_id),
            sharing.contains(&named.user),
            named.whole,
            person.user_id.server_name() == scope.here,
            person.name.is_some(),
            person.avatar.is_some(),
        );
        (Reverse(best), person.user_id.clone())
    });
    let limited = each.len() > scope.limit || cut;
    each.truncate(scope.limit);
    FoundPeople {
        people: each.into_iter().map(|named| named.person).collect(),
        limited,
    }
}
