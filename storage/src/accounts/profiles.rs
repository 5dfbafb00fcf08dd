//! Profiles of local users: one JSON object each.

use ruma::UserId;
use serde_json::{Map, Value};

use crate::engine::sql::Columns as _;
use crate::{Result, Store, UserNo};

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
        fields(row.get("fields")?).map(Some)
    }

    /// Sets a field, or removes it. `false`, and nothing changed, if the profile would become longer
    /// than 65,536 bytes.
    pub async fn set_profile_field(
        &self,
        user: UserNo,
        field: &str,
        value: Option<Value>,
    ) -> Result<bool> {
        let mut tx = self.begin().await?;
        // The account's row is there to be locked also before the profile's is.
        let lock = tx
            .sql("SELECT user_no FROM account WHERE user_no = $1 FOR_UPDATE")
            .bind(user);
        tx.row(lock).await?;
        let find = tx
            .sql("SELECT fields FROM profile WHERE user_no = $1")
            .bind(user);
        let row = tx.row(find).await?;
        let stored = row.map(|row| row.get("fields")).transpose()?;
        let mut fields = fields(stored)?;
        match value {
            Some(value) => fields.insert(field.to_owned(), value),
            None => fields.remove(field),
        };
        let text = serde_json::to_string(&fields)?;
        if text.len() > 65_536 {
            tx.rollback().await;
            return Ok(false);
        }
        let write = tx
            .sql(
                "INSERT INTO profile (user_no, fields) VALUES ($1, $2) \
                 ON CONFLICT (user_no) DO UPDATE SET fields = excluded.fields",
            )
            .bind(user)
            .bind(text);
        tx.execute(write).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// A profile as it is stored; one that was never set is empty.
fn fields(stored: Option<String>) -> Result<Map<String, Value>> {
    Ok(stored.map_or_else(|| Ok(Map::new()), |json| serde_json::from_str(&json))?)
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;
    use crate::{NewAccount, testing::each_database};

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
            assert!(
                store
                    .set_profile_field(no, hostile, Some(json!([hostile])))
                    .await
                    .unwrap()
            );
            assert!(
                store
                    .set_profile_field(no, "displayname", Some("A".into()))
                    .await
                    .unwrap()
            );
            assert!(
                store
                    .set_profile_field(no, "displayname", None)
                    .await
                    .unwrap()
            );
            let too_much = Some(Value::from("x".repeat(65_536)));
            assert!(!store.set_profile_field(no, "x", too_much).await.unwrap());
            let profile = store.profile(ada).await.unwrap().unwrap();
            assert_eq!(Value::Object(profile), json!({ hostile: [hostile] }));
        })
        .await;
    }
}
