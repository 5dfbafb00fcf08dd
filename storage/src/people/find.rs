//! Finding people.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use ruma::{OwnedUserId, ServerName};
use sqlx::any::AnyRow;

use super::words::PeopleQuery;
use crate::engine::sql::{Columns as _, Query, rows};
use crate::{Result, Store, UserNo};

/// So many names are looked at in each of the places where people are found: those with the shortest words that fit.
const LOOKED_AT: usize = 200;
/// In rooms of so many members all are looked at, of more those who are called so: of these, many are members.
const MEMBERS: i64 = 5_000;
/// Where so few are called so, these are looked at in any case.
const FEW: i64 = 300;

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

/// What `people_word.seen` says.
#[derive(Debug, Clone, Copy)]
enum SeenBy {
    /// Who shares a room with them in which they are called so.
    Sharers,
    Everybody,
    /// The first, of a user of this server.
    LocalSharers,
}

impl SeenBy {
    fn number(self) -> i64 {
        match self {
            Self::Sharers => 0,
            Self::Everybody => 1,
            Self::LocalSharers => 2,
        }
    }
}

/// The end of the range of words that go on from a term: nothing is greater than this character.
const END: char = '\u{10ffff}';

rows! {
    struct TermRow {
        low: String,
        high: String,
    }
}

macro_rules! find {
    ($each:literal, $from:literal, $where:literal) => {
        concat!(
            "SELECT x.user_no, x.n, x.word, u.user_id, p.name, p.avatar FROM (SELECT ",
            $each,
            "w.user_no, w.n, w.word FROM ",
            $from,
            " WHERE w.word >= $1 AND w.word < $2 AND w.user_no <> $3 AND ",
            $where,
            // All other words are there, too.
            " AND NOT EXISTS (SELECT 1 FROM ROWS($4) AS t WHERE NOT EXISTS (\
             SELECT 1 FROM people_word o WHERE o.user_no = w.user_no AND o.n = w.n \
             AND o.word >= t.low AND o.word < t.high)) \
             AND COALESCE((SELECT c.deactivated FROM account c WHERE c.user_no = w.user_no), 0) = 0 \
             AND w.user_no NOT IN NUMBERS($5) ORDER BY w.word, w.user_no, w.n LIMIT $6) AS x \
             JOIN people_name p ON p.user_no = x.user_no AND p.n = x.n \
             JOIN user_name u ON u.no = x.user_no ORDER BY x.word, x.user_no, x.n"
        )
    };
}

/// By their words, whoever may see them.
const ALL: &str = find!("", "people_word w", "w.seen = $7");

/// By their words, if they share a room with the user in which they are called so. (As a value: PostgreSQL would make a join
/// of `EXISTS`, and begin it with all whom the user knows.)
const SHARING: &str = find!(
    "",
    "people_word w",
    "w.seen = $7 AND (SELECT 1 FROM people_member d \
     JOIN membership b ON b.user_no = d.user_no AND b.room = d.room AND b.membership = 1 \
     JOIN membership a ON a.room = d.room AND a.user_no = $3 AND a.membership = 1 \
     WHERE d.user_no = w.user_no AND d.n = w.n LIMIT 1) = 1"
);

/// The same from the members of the user's rooms that not anybody may look into, in this order (`CROSS JOIN` keeps SQLite
/// to it).
const MEMBERS_OF: &str = find!(
    "DISTINCT ",
    "membership a CROSS JOIN people_room r CROSS JOIN people_member d CROSS JOIN people_word w",
    "a.user_no = $3 AND a.membership = 1 AND r.room = a.room AND r.open IN (0, 10) AND d.room = a.room \
     AND w.user_no = d.user_no AND w.n = d.n AND w.seen <> $7 AND COALESCE((\
     SELECT b.membership FROM membership b WHERE b.user_no = w.user_no AND b.room = d.room), 0) = 1"
);

/// How many members those rooms have, and how many words there are of those who aren't seen by everybody, as far as it
/// matters.
const HOW_MANY: &str = "\
    SELECT (SELECT CAST(COALESCE(SUM(o.joined), 0) AS BIGINT) FROM membership a \
    JOIN people_room r ON r.room = a.room AND r.open IN (0, 10) JOIN room o ON o.no = a.room \
    WHERE a.user_no = $1 AND a.membership = 1) AS members, \
    (SELECT COUNT(*) FROM (SELECT w.n FROM people_word w \
    WHERE w.seen IN (0, 2) AND w.word >= $2 AND w.word < $3 LIMIT $4) AS few) AS words";

/// Somebody by one of their names.
struct Named {
    user: UserNo,
    n: i64,
    person: Person,
    /// All words are whole ones of theirs.
    whole: bool,
}

impl Store {
    /// Finds people by their names and ids.
    pub async fn find_people(
        &self,
        query: &PeopleQuery,
        scope: PeopleScope<'_>,
    ) -> Result<FoundPeople> {
        let Some((first, others)) = query.terms.split_first() else {
            return Ok(FoundPeople::default());
        };
        let others: Vec<TermRow> = others.iter().map(|term| range(term)).collect();
        let ask = |sql: &'static str, seen: SeenBy| {
            let TermRow { low, high } = range(first);
            self.sql(sql)
                .bind(low)
                .bind(high)
                .bind(scope.user)
                .rows(&others)
                .numbers(scope.without.iter().copied())
                .bind(LOOKED_AT)
                .bind(seen.number())
        };
        let mut found = Vec::new();
        let mut cut = false;
        let mut take = |rows: &[AnyRow]| {
            cut |= rows.len() >= LOOKED_AT;
            for row in rows {
                found.extend(named(query, row)?);
            }
            Ok::<_, crate::Error>(())
        };
        take(&self.rows(ask(ALL, SeenBy::Everybody)).await?)?;
        if scope.all_local {
            take(&self.rows(ask(ALL, SeenBy::LocalSharers)).await?)?;
        }
        for query in self.sharing_queries(scope.user, range(first), ask).await? {
            take(&self.rows(query).await?)?;
        }
        let sharing = self.sharers_among(scope.user, &found).await?;
        Ok(best(query, scope, found, cut, &sharing))
    }

    /// The questions for those who aren't seen by everybody: from whichever side there are fewer.
    async fn sharing_queries(
        &self,
        user: UserNo,
        TermRow { low, high }: TermRow,
        ask: impl Fn(&'static str, SeenBy) -> Query,
    ) -> Result<Vec<Query>> {
        let query = self.sql(HOW_MANY).bind(user).bind(low).bind(high).bind(FEW);
        let Some(row) = self.row(query).await? else {
            return Ok(Vec::new());
        };
        let (members, words): (i64, i64) = (row.get("members")?, row.get("words")?);
        Ok(if members == 0 || words == 0 {
            Vec::new()
        } else if words < FEW.min(members) || members > MEMBERS {
            vec![
                ask(SHARING, SeenBy::Sharers),
                ask(SHARING, SeenBy::LocalSharers),
            ]
        } else {
            vec![ask(MEMBERS_OF, SeenBy::Everybody)]
        })
    }

    async fn sharers_among(&self, user: UserNo, found: &[Named]) -> Result<HashSet<UserNo>> {
        let users: HashSet<UserNo> = found.iter().map(|named| named.user).collect();
        if users.is_empty() {
            return Ok(users);
        }
        let users: Vec<UserNo> = users.into_iter().collect();
        let sharing = self.sharing_rooms(user, &users).await?;
        Ok(sharing.into_iter().collect())
    }
}

fn range(term: &str) -> TermRow {
    TermRow {
        low: term.to_owned(),
        high: format!("{term}{END}"),
    }
}

/// What is found by a word is what is meant only if all words are there: the name says so.
fn named(query: &PeopleQuery, row: &AnyRow) -> Result<Option<Named>> {
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
fn best(
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
