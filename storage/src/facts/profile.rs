//! Profiles of users here: a field is set, or removed.
//!
//! `profile` has the fields as they are, `profile_change` when each of them changed last: a reader asks for those after
//! its position, and what is there no more was removed.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::decision::Decision;
use super::table::table;
use super::{Audience, Kind, Logged, LoggedKind, last_of_each};
use crate::engine::db::Tx;
use crate::engine::sql::statement::Statements;
use crate::engine::sql::{Columns as _, rows};
use crate::engine::trouble::Trouble;
use crate::{CommitError, Pos, Result, Store, UserNo};

/// The longest profile, in bytes (client-server API, "Profiles").
const MAX_PROFILE: usize = 65_536;
/// Of so many fields that a user has removed it stays known when that was: else somebody who sets and removes ever other
/// ones would have ever more rows.
const MOST_REMOVED: i64 = 500;

table! {
    /// That a field of a profile has changed.
    pub struct ProfileField in profile_change {
        key {
            /// Whose.
            user: UserNo = user_no,
            /// Which.
            field: String = field,
        }
        /// Whether it is there by then.
        present: bool = present,
    }
}

/// A field of a profile that is set, or removed. What is so already says nothing, and gets no position.
#[derive(Debug, Clone)]
pub struct ProfileChange {
    /// Whose.
    pub user: UserNo,
    /// Which.
    pub field: String,
    /// What it is from now on; `None`: it goes.
    pub value: Option<Value>,
}

type Fields = Map<String, Value>;

rows! {
    struct Profile {
        user_no: UserNo,
        fields: String,
    }
}

rows! {
    struct Of {
        user_no: UserNo,
        most: i64,
    }
}

impl ProfileChange {
    fn change(&self, fields: &mut Fields) {
        match &self.value {
            Some(value) => fields.insert(self.field.clone(), value.clone()),
            None => fields.remove(&self.field),
        };
    }
}

impl Kind for ProfileChange {
    /// The profiles, as they are and as the group leaves them.
    type Basis = HashMap<UserNo, Fields>;

    fn locks(&self) -> Option<UserNo> {
        Some(self.user)
    }

    async fn look_up(held: &mut Self::Basis, tx: &mut Tx, facts: &[&Self]) -> Result<(), Trouble> {
        let users: BTreeSet<UserNo> = facts.iter().map(|change| change.user).collect();
        let query = tx
            .sql("SELECT user_no, fields FROM profile WHERE user_no IN NUMBERS($1)")
            .numbers(users);
        for row in tx.rows(query).await? {
            let fields: String = row.get("fields")?;
            held.insert(row.get("user_no")?, parsed(&fields)?);
        }
        Ok(())
    }

    fn check(&self, held: &Self::Basis, _retried: bool) -> Option<Decision> {
        let mut fields = held.get(&self.user).cloned().unwrap_or_default();
        self.change(&mut fields);
        let length = serde_json::to_string(&fields).map_or(usize::MAX, |text| text.len());
        let fits = length <= MAX_PROFILE || self.value.is_none();
        (!fits).then_some(Decision::Refuse(CommitError::ProfileTooLarge(self.user)))
    }

    fn apply(&self, held: &mut Self::Basis) -> bool {
        let fields = held.entry(self.user).or_default();
        let news = fields.get(&self.field) != self.value.as_ref();
        self.change(fields);
        news
    }

    fn write(
        facts: &[(i64, &Self)],
        held: &Self::Basis,
        statements: &mut Statements,
    ) -> Result<()> {
        let users: BTreeSet<UserNo> = facts.iter().map(|(_, change)| change.user).collect();
        let mut profiles = Vec::with_capacity(users.len());
        for user_no in &users {
            let fields = held.get(user_no);
            profiles.push(Profile {
                user_no: *user_no,
                fields: fields.map_or_else(|| Ok("{}".to_owned()), serde_json::to_string)?,
            });
        }
        statements.before(
            "INSERT INTO profile (user_no, fields) SELECT user_no, fields FROM ROWS($1) AS x WHERE true \
             ON CONFLICT (user_no) DO UPDATE SET fields = excluded.fields",
            &profiles,
        )?;
        let removing = facts.iter().filter(|(_, change)| change.value.is_none());
        let removing: Vec<_> = removing.copied().collect();
        statements.before(
            "DELETE FROM profile_change WHERE pos IN (SELECT n.pos FROM (\
             SELECT c.pos, x.most, ROW_NUMBER() OVER (PARTITION BY c.user_no ORDER BY c.pos DESC) AS place \
             FROM ROWS($1) AS x JOIN profile_change c ON c.user_no = x.user_no AND c.present = 0) AS n \
             WHERE n.place >= n.most)",
            &last_of_each(&removing, |change| change.user, |_, change| Of {
                user_no: change.user,
                most: MOST_REMOVED,
            }),
        )?;
        let entries: Vec<_> = (facts.iter())
            .map(|(pos, change)| (*pos, change.entry()))
            .collect();
        let entries: Vec<_> = entries.iter().map(|(pos, entry)| (*pos, entry)).collect();
        ProfileField::put(&entries, statements)
    }
}

impl LoggedKind for ProfileChange {
    type Entry = ProfileField;

    fn entry(&self) -> ProfileField {
        ProfileField {
            user: self.user,
            field: self.field.clone(),
            present: self.value.is_some(),
        }
    }

    fn audience(field: &ProfileField) -> Audience {
        Audience::Following(field.user)
    }

    fn weight(field: &ProfileField) -> usize {
        field.field.len()
    }

    #[cfg(test)]
    fn sample(world: &super::tests::World) -> Self {
        Self {
            user: world.user,
            field: "displayname".to_owned(),
            value: Some("Ada".into()),
        }
    }

    #[cfg(test)]
    async fn view(world: &super::tests::World, store: &Store) -> Result<String> {
        let profiles = store.profiles(&[world.user]).await?;
        Ok(format!("{profiles:?}"))
    }
}

/// A profile as it is stored.
pub(crate) fn parsed(stored: &str) -> Result<Fields> {
    Ok(serde_json::from_str(stored)?)
}

impl Store {
    /// The first `limit` changes with `after < pos ≤ upto` of profiles of a user, and of those here who share a room with
    /// them, in the order of the log.
    pub async fn profile_changes(
        &self,
        user: UserNo,
        (after, upto): (Pos, Pos),
        limit: usize,
    ) -> Result<Vec<Arc<Logged<ProfileField>>>> {
        let query = self
            .sql(
                "SELECT c.pos, c.user_no, c.field, c.present FROM profile_change c \
                 WHERE c.pos > $2 AND c.pos <= $3 AND (c.user_no = $1 OR EXISTS (\
                 SELECT 1 FROM membership b JOIN membership a ON a.room = b.room AND a.user_no = $1 \
                 AND a.membership = 1 WHERE b.user_no = c.user_no AND b.membership = 1)) \
                 ORDER BY c.pos LIMIT $4",
            )
            .bind(user)
            .bind(after)
            .bind(upto)
            .bind(limit);
        self.rows(query).await?.iter().map(Logged::read).collect()
    }
}
