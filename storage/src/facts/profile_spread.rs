//! What rooms are to be told of a user's profile. A reader of the log tells them; one that is told something newer
//! meanwhile is told that.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Map, Value};

use super::profile::parsed;
use super::{Audience, Kind, LoggedKind, Stored, last_of_each};
use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, ReadRow, rows};
use crate::engine::trouble::Trouble;
use crate::{Pos, Result, Store, UserNo};

/// The name of the reader that tells rooms.
pub const PROFILES_READER: &str = "profiles";
/// So many earlier values are known of a field, and as many that rooms are told instead of.
const MOST: usize = 16;

/// Which rooms are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpreadTo {
    /// All.
    All,
    /// Those in which it was as in the profile, or as it is still to be replaced there.
    Unchanged,
    /// None. It is known then what the profile says.
    Nobody,
}

/// The rooms that a user is in are to be told of a field of their profile, which changes with it.
#[derive(Debug, Clone)]
pub struct SpreadChange {
    /// Whose.
    pub user: UserNo,
    /// Which.
    pub field: String,
    /// What it is; `None`: nothing.
    pub value: Option<String>,
    /// Which rooms are told.
    pub to: SpreadTo,
}

/// That rooms are to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileSpread {
    /// Whose.
    pub user: UserNo,
    /// Which field.
    pub field: String,
}

/// What rooms are to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    /// Since when.
    pub pos: Pos,
    /// Which field.
    pub field: String,
    /// What it is; `None`: nothing.
    pub value: Option<String>,
    /// Only rooms that know one of these are told (null: that there is nothing). `None`: all are.
    pub was: Option<Vec<Value>>,
    /// What it was before, of late.
    pub earlier: Vec<Value>,
}

impl Stored for ProfileSpread {
    const TABLE: &'static str = "profile_spread";
    const COLUMNS: &'static str = "pos, user_no, field";

    fn read(row: &ReadRow) -> Result<Self> {
        Ok(Self {
            user: row.get("user_no")?,
            field: row.get("field")?,
        })
    }
}

/// What spreads are decided on, and what becomes of it.
#[derive(Debug, Default)]
pub(crate) struct Held {
    profiles: HashMap<UserNo, Map<String, Value>>,
    rows: HashMap<(UserNo, String), Known>,
}

#[derive(Debug, Default)]
struct Known {
    was: Option<Vec<Value>>,
    earlier: Vec<Value>,
    /// Not all rooms may have been told.
    waits: bool,
}

rows! {
    struct Row<'a> {
        user_no: UserNo,
        field: &'a str,
        value: &'a Option<String>,
        was: Option<String>,
        earlier: String,
        pos: i64,
    }
}

impl Kind for SpreadChange {
    type Basis = Held;

    fn locks(&self) -> Option<UserNo> {
        Some(self.user)
    }

    async fn look_up(held: &mut Held, tx: &mut Tx, facts: &[&Self]) -> Result<(), Trouble> {
        let users: BTreeSet<UserNo> = facts.iter().map(|change| change.user).collect();
        let query = tx
            .sql("SELECT user_no, fields FROM profile WHERE user_no IN NUMBERS($1)")
            .numbers(users.iter().copied());
        for row in tx.rows(query).await? {
            let fields: String = row.get("fields")?;
            held.profiles.insert(row.get("user_no")?, parsed(&fields)?);
        }
        let query = tx
            .sql(
                "SELECT user_no, field, was, earlier, \
                 CAST(CASE WHEN pos > COALESCE((SELECT r.pos FROM reader r WHERE r.name = $2), 0) \
                 THEN 1 ELSE 0 END AS BIGINT) AS waits \
                 FROM profile_spread WHERE user_no IN NUMBERS($1)",
            )
            .numbers(users)
            .bind(PROFILES_READER);
        for row in tx.rows(query).await? {
            let known = Known {
                was: was(&row)?,
                earlier: earlier(&row)?,
                waits: row.get("waits")?,
            };
            let key = (row.get("user_no")?, row.get("field")?);
            held.rows.insert(key, known);
        }
        Ok(())
    }

    fn apply(&self, held: &mut Held) -> bool {
        let profile = held.profiles.entry(self.user).or_default();
        let before = match &self.value {
            Some(value) => profile.insert(self.field.clone(), value.as_str().into()),
            None => profile.remove(&self.field),
        };
        let before = before.unwrap_or_default();
        let key = (self.user, self.field.clone());
        let known = match self.to {
            SpreadTo::Nobody => return false,
            SpreadTo::All | SpreadTo::Unchanged => held.rows.entry(key).or_default(),
        };
        known.was = match (self.to, known.was.take()) {
            (SpreadTo::Unchanged, _) if !known.waits => Some(vec![before.clone()]),
            (SpreadTo::Unchanged, Some(mut was)) => {
                add(&mut was, &before);
                Some(was)
            }
            // All that wait for what was before.
            _ => None,
        };
        add(&mut known.earlier, &before);
        known.waits = true;
        true
    }

    fn write(facts: &[(i64, &Self)], held: &Held, statements: &mut Statements) -> Result<()> {
        let key = |change: &Self| (change.user, change.field.clone());
        let rows = last_of_each(facts, key, |pos, change| (pos, change));
        let rows = rows.into_iter().map(|(pos, change)| {
            let known = held.rows.get(&key(change));
            let was = known.and_then(|known| known.was.as_ref());
            let earlier = known.map_or(&[][..], |known| known.earlier.as_slice());
            Ok(Row {
                user_no: change.user,
                field: &change.field,
                value: &change.value,
                was: was.map(serde_json::to_string).transpose()?,
                earlier: serde_json::to_string(earlier)?,
                pos,
            })
        });
        statements.after(
            "INSERT INTO profile_spread (user_no, field, value, was, earlier, pos) \
             SELECT user_no, field, value, was, earlier, pos + $2 FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (user_no, field) DO UPDATE SET value = excluded.value, was = excluded.was, \
             earlier = excluded.earlier, pos = excluded.pos",
            &rows.collect::<Result<Vec<_>>>()?,
        )
    }
}

impl LoggedKind for SpreadChange {
    type Entry = ProfileSpread;

    fn entry(&self) -> ProfileSpread {
        ProfileSpread {
            user: self.user,
            field: self.field.clone(),
        }
    }

    fn audience(_: &ProfileSpread) -> Audience {
        Audience::Nobody
    }

    fn weight(spread: &ProfileSpread) -> usize {
        spread.field.len()
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self {
            user: world.user,
            field: "displayname".to_owned(),
            value: Some("Ada".to_owned()),
            to: SpreadTo::All,
        }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &Store) -> Result<String> {
        let found = store.profile_spreads(world.user, Pos(0)).await?;
        Ok(format!("{found:?}"))
    }
}

/// Puts a value last, once, and lets go of the first if there are too many.
fn add(values: &mut Vec<Value>, value: &Value) {
    values.retain(|known| known != value);
    values.push(value.clone());
    values.drain(..values.len().saturating_sub(MOST));
}

/// What was written before this was a list is one value: a text, or null.
fn was(row: &ReadRow) -> Result<Option<Vec<Value>>> {
    let was: Option<String> = row.get("was")?;
    let Some(was) = was else { return Ok(None) };
    Ok(Some(match serde_json::from_str(&was)? {
        Value::Array(values) => values,
        one => vec![one],
    }))
}

fn earlier(row: &ReadRow) -> Result<Vec<Value>> {
    let earlier: Option<String> = row.get("earlier")?;
    earlier.map_or_else(
        || Ok(Vec::new()),
        |earlier| Ok(serde_json::from_str(&earlier)?),
    )
}

impl Store {
    /// What the rooms of a user are to be told that has come after a position.
    pub async fn profile_spreads(&self, user: UserNo, after: Pos) -> Result<Vec<Spread>> {
        let query = self
            .sql(
                "SELECT pos, field, value, was, earlier FROM profile_spread \
                 WHERE user_no = $1 AND pos > $2 ORDER BY pos",
            )
            .bind(user)
            .bind(after);
        let rows = self.rows(query).await?;
        let spreads = rows.iter().map(|row| {
            Ok(Spread {
                pos: row.get("pos")?,
                field: row.get("field")?,
                value: row.get("value")?,
                was: was(row)?,
                earlier: earlier(row)?,
            })
        });
        spreads.collect()
    }

    /// Those of some users of whom rooms were ever to be told something.
    pub async fn with_profile_spreads(
        &self,
        users: impl IntoIterator<Item = UserNo>,
    ) -> Result<BTreeSet<UserNo>> {
        let query = self
            .sql("SELECT user_no FROM profile_spread WHERE user_no IN NUMBERS($1)")
            .numbers(users);
        let rows = self.rows(query).await?;
        rows.iter().map(|row| row.get("user_no")).collect()
    }

    /// Before which position nothing is to be told, if anything ever was.
    pub async fn first_profile_spread(&self) -> Result<Option<Pos>> {
        let query = self.sql("SELECT pos FROM profile_spread ORDER BY pos LIMIT 1");
        let row = self.row(query).await?;
        row.map(|row| row.get("pos")).transpose()
    }
}
