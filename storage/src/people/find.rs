//! Finding people.

use std::collections::HashSet;

use super::found::{FoundPeople, Named, PeopleScope, best, named};
use super::words::PeopleQuery;
use crate::engine::sql::{Columns as _, Query, ReadRow, rows};
use crate::{Result, RoomNo, Store, UserNo};

/// So many names are looked at in each of the places where people are found: those with the shortest words that fit.
const LOOKED_AT: i64 = 200;
/// So many words that go on from the rarest one asked for are looked at, whether or not the others are there, too.
const CANDIDATES: i64 = 5_000;
/// In rooms of so many members all are looked at, of more those who are called so: of these, many are members.
const MEMBERS: i64 = 5_000;
/// Where so few are called so, these are looked at in any case.
const FEW: i64 = 300;

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
    ($each:literal, $from:literal, $where:literal, $after:literal) => {
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
             AND COALESCE((SELECT c.deactivated + c.locked FROM account c WHERE c.user_no = w.user_no), 0) = 0 \
             AND NOT EXISTS (SELECT 1 FROM awaiting_approval q WHERE q.user_no = w.user_no) \
             AND w.user_no NOT IN NUMBERS($5) ORDER BY w.word, w.user_no, w.n LIMIT $6) AS x \
             JOIN people_name p ON p.user_no = x.user_no AND p.n = x.n \
             JOIN user_name u ON u.no = x.user_no ",
            $after,
            " ORDER BY x.word, x.user_no, x.n"
        )
    };
}

/// By their words, whoever may see them: of the first that go on from one, as there may be more than can be looked at. Who is
/// seen as they were in a room that anybody may look into still has to be there.
const ALL: &str = find!(
    "",
    "(SELECT c.user_no, c.n, c.word FROM people_word c WHERE c.seen = $7 AND c.word >= $1 AND c.word < $2 \
     ORDER BY c.word, c.user_no, c.n LIMIT $8) AS w",
    "1 = 1",
    "WHERE (p.seen <> 1 OR (p.hidden = 2 AND $9 = 1) OR EXISTS (SELECT 1 FROM people_member d \
     JOIN membership b ON b.user_no = d.user_no AND b.room = d.room AND b.membership = 1 \
     JOIN people_room r ON r.room = d.room AND r.open IN (1, 11) \
     WHERE d.user_no = x.user_no AND d.n = x.n AND d.room NOT IN NUMBERS($10)))"
);

/// By their words, if they share a room with the user in which they are called so. (As a value: PostgreSQL would make a join
/// of `EXISTS`, and begin it with all whom the user knows.)
const SHARING: &str = find!(
    "",
    "(SELECT c.user_no, c.n, c.word FROM people_word c WHERE c.seen = $7 AND c.word >= $1 AND c.word < $2 \
     ORDER BY c.word, c.user_no, c.n LIMIT $8) AS w",
    "(SELECT 1 FROM people_member d \
     JOIN membership b ON b.user_no = d.user_no AND b.room = d.room AND b.membership = 1 \
     JOIN membership a ON a.room = d.room AND a.user_no = $3 AND a.membership = 1 \
     WHERE d.user_no = w.user_no AND d.n = w.n LIMIT 1) = 1",
    ""
);

/// The same from the members of the user's rooms that not anybody may look into, in this order (`CROSS JOIN` keeps SQLite
/// to it).
const MEMBERS_OF: &str = find!(
    "DISTINCT ",
    "membership a CROSS JOIN people_room r CROSS JOIN people_member d CROSS JOIN people_word w",
    "a.user_no = $3 AND a.membership = 1 AND r.room = a.room AND r.open IN (0, 10) AND d.room = a.room \
     AND w.user_no = d.user_no AND w.n = d.n AND w.seen <> 1 AND COALESCE((\
     SELECT b.membership FROM membership b WHERE b.user_no = w.user_no AND b.room = d.room), 0) = 1",
    ""
);

/// The same from the members of all of the user's rooms.
const MEMBERS_OF_ALL: &str = find!(
    "DISTINCT ",
    "membership a CROSS JOIN people_member d CROSS JOIN people_word w",
    "a.user_no = $3 AND a.membership = 1 AND d.room = a.room \
     AND w.user_no = d.user_no AND w.n = d.n AND COALESCE((\
     SELECT b.membership FROM membership b WHERE b.user_no = w.user_no AND b.room = d.room), 0) = 1",
    ""
);

/// How many members those rooms have, and how many words there are of those who aren't seen by everybody, as far as it
/// matters.
const HOW_MANY: &str = "\
    SELECT (SELECT CAST(COALESCE(SUM(o.joined), 0) AS BIGINT) FROM membership a \
    JOIN people_room r ON r.room = a.room AND r.open IN (0, 10) JOIN room o ON o.no = a.room \
    WHERE a.user_no = $1 AND a.membership = 1) AS members, \
    (SELECT CAST(COALESCE(SUM(o.joined), 0) AS BIGINT) FROM membership a JOIN room o ON o.no = a.room \
    WHERE a.user_no = $1 AND a.membership = 1) AS everybody, \
    (SELECT COUNT(*) FROM (SELECT w.n FROM people_word w \
    WHERE w.seen IN (0, 2) AND w.word >= $2 AND w.word < $3 LIMIT $4) AS few) AS words";

/// How many words go on from each term, as far as it matters.
const HOW_OFTEN: &str = "\
    SELECT t.low, (SELECT COUNT(*) FROM (SELECT w.n FROM people_word w \
    WHERE w.seen IN (0, 1, 2) AND w.word >= t.low AND w.word < t.high LIMIT $2) AS few) AS words \
    FROM ROWS($1) AS t";

/// How many of them everybody may see, of one: whether there are more than are looked at is told by these alone.
const HOW_MANY_SEEN: &str = "\
    SELECT COUNT(*) AS words FROM (SELECT w.n FROM people_word w \
    WHERE w.seen = 1 AND w.word >= $1 AND w.word < $2 LIMIT $3) AS few";

/// What all statements are asked with.
struct Asking<'a> {
    store: &'a Store,
    scope: PeopleScope<'a>,
    /// The term of which there are fewest words, and all others.
    first: TermRow,
    others: Vec<TermRow>,
}

impl Asking<'_> {
    fn of_members(&self, sql: &'static str) -> Query {
        let TermRow { low, high } = self.first.clone();
        self.store
            .sql(sql)
            .bind(low)
            .bind(high)
            .bind(self.scope.user)
            .rows(&self.others)
            .numbers(self.scope.without.iter().copied())
            .bind(LOOKED_AT)
    }

    fn by_words(&self, sql: &'static str, seen: SeenBy) -> Query {
        let query = self.of_members(sql);
        query.bind(seen.number()).bind(CANDIDATES)
    }

    /// `closing`: rooms that may be open no more.
    fn all(&self, seen: SeenBy, closing: &[RoomNo]) -> Query {
        let query = self.by_words(ALL, seen);
        let query = query.bind(i64::from(self.scope.all_local));
        query.numbers(closing.iter().copied())
    }

    /// The questions for those who share a room with the user: from whichever side there are fewer. `crowded`: there are
    /// more whom everybody sees than are looked at, and these are among them.
    async fn sharing(&self, crowded: bool) -> Result<Vec<Query>> {
        let TermRow { low, high } = self.first.clone();
        let query = self.store.sql(HOW_MANY).bind(self.scope.user);
        let query = query.bind(low).bind(high).bind(FEW);
        let Some(row) = self.store.row(query).await? else {
            return Ok(Vec::new());
        };
        let (members, words): (i64, i64) = (row.get("members")?, row.get("words")?);
        let everybody: i64 = row.get("everybody")?;
        if crowded && everybody > 0 && everybody <= MEMBERS {
            return Ok(vec![self.of_members(MEMBERS_OF_ALL)]);
        }
        let mut asked = Vec::new();
        if members > 0 && words > 0 {
            if words < FEW.min(members) || members > MEMBERS {
                asked.push(self.by_words(SHARING, SeenBy::Sharers));
                asked.push(self.by_words(SHARING, SeenBy::LocalSharers));
            } else {
                asked.push(self.of_members(MEMBERS_OF));
            }
        }
        if crowded && everybody > 0 {
            asked.push(self.by_words(SHARING, SeenBy::Everybody));
        }
        Ok(asked)
    }
}

impl Store {
    /// Finds people by their names and ids.
    pub async fn find_people(
        &self,
        query: &PeopleQuery,
        scope: PeopleScope<'_>,
    ) -> Result<FoundPeople> {
        if query.terms.is_empty() {
            return Ok(FoundPeople::default());
        }
        let Some((first, others, words)) = self.rarest(&query.terms).await? else {
            return Ok(FoundPeople::default());
        };
        let asking = Asking {
            store: self,
            scope,
            first,
            others,
        };
        let mut found = Vec::new();
        let mut cut = words >= CANDIDATES;
        let mut take = |rows: &[ReadRow]| {
            cut |= i64::try_from(rows.len()).is_ok_and(|found| found >= LOOKED_AT);
            for row in rows {
                found.extend(named(query, row)?);
            }
            Ok::<_, crate::Error>(())
        };
        let closing = self.rooms_in_question().await?;
        let seen = asking.all(SeenBy::Everybody, &closing);
        take(&self.rows(seen).await?)?;
        if scope.all_local {
            take(&self.rows(asking.all(SeenBy::LocalSharers, &[])).await?)?;
        }
        // There may be more whom everybody sees than are looked at, and who shares a room with the user is among them.
        let crowded = words >= LOOKED_AT;
        for query in asking.sharing(crowded).await? {
            take(&self.rows(query).await?)?;
        }
        // What these do is shown to nobody.
        let blocks = self.blocks().await?;
        found.retain(|named| !blocks.user(&named.person.user_id));
        let sharing = self.sharers_among(scope.user, &found).await?;
        Ok(best(query, scope, found, cut, &sharing))
    }

    /// The term of which there are fewest words, all others, and how many words there are, as far as it matters.
    async fn rarest(&self, terms: &[String]) -> Result<Option<(TermRow, Vec<TermRow>, i64)>> {
        let mut rows: Vec<TermRow> = terms.iter().map(|term| range(term)).collect();
        let mut words = vec![FEW; rows.len()];
        let query = self.sql(HOW_OFTEN).rows(&rows).bind(FEW);
        for row in self.rows(query).await? {
            let low: String = row.get("low")?;
            if let Some(at) = rows.iter().position(|term| term.low == low) {
                words[at] = row.get("words")?;
            }
        }
        let Some(rarest) = (0..rows.len()).min_by_key(|at| words[*at]) else {
            return Ok(None);
        };
        let first = rows.remove(rarest);
        let mut words = words[rarest];
        // Alone it is what is looked for, and more than enough are found.
        if words >= FEW && !rows.is_empty() {
            let query = self
                .sql(HOW_MANY_SEEN)
                .bind(&first.low)
                .bind(&first.high)
                .bind(CANDIDATES);
            if let Some(row) = self.row(query).await? {
                words = row.get("words")?;
            }
        }
        Ok(Some((first, rows, words)))
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
