//! Profiles of local users: one JSON object each.

use std::collections::HashMap;

use ruma::UserId;
use serde_json::{Map, Value};

use crate::engine::sql::Columns as _;
use crate::facts::profile::parsed;
use crate::{CommitError, ProfileChange, Result, SpreadChange, Store, UserNo};

impl Store {
    /// The profile of a local user, empty if nothing was set; `None` if there is no such account.
    pub async fn profile(&self, user: &UserId) -> Result<Option<Map<String, Value>>> {
        let Some(no) = self.known_user(user).await? else {
            return Ok(None);
        };
        let query = self
            .sql(
                "SELECT p.fields FROM account a LEFT JOIN profile p ON p.user_no = a.user_no \
                 WHERE a.user_no = $1",
            )
            .bind(no);
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        let stored: Option<String> = row.get("fields")?;
        let fields = stored.map_or_else(|| Ok(Map::new()), |stored| parsed(&stored));
        fields.map(Some)
    }

    /// The profiles of some local users; of those who have set nothing there is none.
    pub async fn profiles(&self, users: &[UserNo]) -> Result<HashMap<UserNo, Map<String, Value>>> {
        let query = self
            .sql("SELECT user_no, fields FROM profile WHERE user_no IN NUMBERS($1)")
            .numbers(users.iter().copied());
        let rows = self.rows(query).await?;
        let each = rows.iter().map(|row| {
            let stored: String = row.get("fields")?;
            Ok((row.get("user_no")?, parsed(&stored)?))
        });
        each.collect()
    }

    /// Sets a field, or removes it.
    ///
    /// # Errors
    /// [`CommitError::ProfileTooLarge`]: then nothing has changed.
    pub async fn set_profile_field(
        &self,
        user: UserNo,
        field: &str,
        value: Option<Value>,
    ) -> Result<(), CommitError> {
        let change = ProfileChange {
            user,
            field: field.to_owned(),
            value,
        };
        self.commit(vec![change.into()].into()).await.map(drop)
    }

    /// The same of a field that member events show: rooms are told of it.
    ///
    /// # Errors
    /// [`CommitError::ProfileTooLarge`]: then nothing has changed.
    pub async fn spread_profile_field(&self, spread: SpreadChange) -> Result<(), CommitError> {
        let change = ProfileChange {
            user: spread.user,
            field: spread.field.clone(),
            value: spread.value.clone().map(Value::String),
        };
        let facts = vec![change.into(), spread.into()];
        self.commit(facts.into()).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;
    use crate::{Logged, NewAccount, Pos, ProfileField, testing::each_database};

    #[tokio::test]
    async fn fields_come_back_as_they_were_set() {
        each_database(async |store| {
            let ada = user_id!("@ada:here");
            assert_eq!(store.profile(ada).await.unwrap(), None);
            let no = store
                .create_account(ada, NewAccount::default(), None)
                .await
                .unwrap()
                .unwrap();
            assert!(store.profile(ada).await.unwrap().unwrap().is_empty());
            let hostile = "\u{0}\u{1}\"\\ü🙂\u{ffff}";
            let set = async |field: &str, value: Option<Value>| {
                store.set_profile_field(no, field, value).await
            };
            set(hostile, Some(json!([hostile]))).await.unwrap();
            set("displayname", Some("A".into())).await.unwrap();
            set("displayname", None).await.unwrap();
            let refused = set("x", Some("x".repeat(65_536).into())).await;
            assert!(matches!(refused, Err(CommitError::ProfileTooLarge(_))));
            let profile = store.profile(ada).await.unwrap().unwrap();
            assert_eq!(Value::Object(profile), json!({ hostile: [hostile] }));
        })
        .await;
    }

    #[tokio::test]
    async fn the_log_says_when_a_field_changed_and_of_so_many_that_it_was_removed() {
        each_database(async |store| {
            let ada = store.user_no(user_id!("@ada:here")).await.unwrap();
            let set = async |field: &str, value: Option<Value>| {
                store.set_profile_field(ada, field, value).await.unwrap();
                store.log().head()
            };
            let first = set("a", Some(1.into())).await;
            // What is so already is no news.
            assert_eq!(set("a", Some(1.into())).await, first);
            assert_eq!(set("b", None).await, first);
            let null = set("a", Some(Value::Null)).await;
            assert!(null > first);
            let gone = set("a", None).await;
            let changes = async |after| {
                let span = (after, store.log().head());
                let found = store.profile_changes(ada, span, 10_000).await.unwrap();
                let text = |one: &Logged<ProfileField>| (one.field.clone(), one.present);
                found.iter().map(|one| text(one)).collect::<Vec<_>>()
            };
            assert_eq!(changes(first).await, [("a".to_owned(), false)]);
            assert!(changes(gone).await.is_empty());
            // Others hear nothing of who is nowhere.
            let eve = store.user_no(user_id!("@eve:here")).await.unwrap();
            let theirs = store.profile_changes(eve, (Pos(0), gone), 9).await;
            assert!(theirs.unwrap().is_empty());
            for n in 0..510 {
                let field = format!("x{n}");
                set(&field, Some(n.into())).await;
                set(&field, None).await;
            }
            let kept = changes(Pos(0)).await;
            assert_eq!(kept.len(), 500);
            assert_eq!(kept[499], ("x509".to_owned(), false));
        })
        .await;
    }
}
