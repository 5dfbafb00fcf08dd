//! Third-party identifiers of accounts, as they are read, and where they were bound.

use crate::engine::sql::Columns as _;
use crate::facts::third_party::{Medium, ThirdParty, ThirdPartyChange};
use crate::{CommitError, Error, Result, Store, UserNo, WriteSet};

/// A third-party identifier that an account has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnThirdParty {
    /// Which.
    pub third_party: ThirdParty,
    /// Since when, in milliseconds since 1970.
    pub added_ms: i64,
    /// When it was found to be theirs, in milliseconds since 1970.
    pub validated_ms: i64,
}

impl Store {
    /// Whose identifier it is, which has its canonical form.
    pub async fn third_party_owner(&self, medium: Medium, address: &str) -> Result<Option<UserNo>> {
        let query = self
            .sql("SELECT user_no FROM third_party WHERE medium = $1 AND address = $2")
            .bind(medium)
            .bind(address);
        let row = self.row(query).await?;
        row.map(|row| row.get("user_no")).transpose()
    }

    /// A user's identifiers, the oldest first.
    pub async fn third_parties(&self, user: UserNo) -> Result<Vec<OwnThirdParty>> {
        let query = self
            .sql(
                "SELECT medium, address, added_ms, validated_ms FROM third_party \
                 WHERE user_no = $1 ORDER BY added_ms, medium, address",
            )
            .bind(user);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| {
                Ok(OwnThirdParty {
                    third_party: ThirdParty {
                        medium: row.get("medium")?,
                        address: row.get("address")?,
                    },
                    added_ms: row.get("added_ms")?,
                    validated_ms: row.get("validated_ms")?,
                })
            })
            .collect()
    }

    /// Gives a user an identifier that was found to be theirs then; `false` if another user has it.
    pub async fn add_third_party(
        &self,
        user: UserNo,
        third_party: ThirdParty,
        validated_ms: i64,
    ) -> Result<bool> {
        let since_ms = Some((self.clock().now_ms(), validated_ms));
        self.change_third_party(ThirdPartyChange {
            user,
            third_party,
            since_ms,
        })
        .await
    }

    /// Takes an identifier from a user who may have it.
    pub async fn remove_third_party(&self, user: UserNo, third_party: ThirdParty) -> Result<()> {
        let removed = ThirdPartyChange {
            user,
            third_party,
            since_ms: None,
        };
        self.change_third_party(removed).await.map(drop)
    }

    async fn change_third_party(&self, change: ThirdPartyChange) -> Result<bool> {
        match self.commit(WriteSet::from(vec![change.into()])).await {
            Ok(_) => Ok(true),
            Err(CommitError::ThirdPartyTaken(_) | CommitError::AccountMoved(_)) => Ok(false),
            Err(CommitError::Store(error)) => Err(error),
            Err(other) => Err(Error::broken(other.to_string())),
        }
    }

    /// Remembers that an identifier was bound to a user at an identity server.
    pub async fn third_party_bound(
        &self,
        user: UserNo,
        third_party: &ThirdParty,
        id_server: &str,
    ) -> Result<()> {
        let query = self
            .sql(
                "INSERT INTO third_party_bound (user_no, medium, address, id_server) \
                 VALUES ($1, $2, $3, $4) ON CONFLICT (user_no, medium, address, id_server) DO NOTHING",
            )
            .bind(user)
            .bind(third_party.medium)
            .bind(third_party.address.as_str())
            .bind(id_server);
        self.execute(query).await.map(drop)
    }

    /// Remembers that it isn't any more.
    pub async fn third_party_unbound(
        &self,
        user: UserNo,
        third_party: &ThirdParty,
        id_server: &str,
    ) -> Result<()> {
        let query = self
            .sql(
                "DELETE FROM third_party_bound \
                 WHERE user_no = $1 AND medium = $2 AND address = $3 AND id_server = $4",
            )
            .bind(user)
            .bind(third_party.medium)
            .bind(third_party.address.as_str())
            .bind(id_server);
        self.execute(query).await.map(drop)
    }

    /// Which of a user's identifiers were bound at which identity servers.
    pub async fn bound_third_parties(&self, user: UserNo) -> Result<Vec<(ThirdParty, String)>> {
        let query = self
            .sql(
                "SELECT medium, address, id_server FROM third_party_bound WHERE user_no = $1 \
                 ORDER BY medium, address, id_server",
            )
            .bind(user);
        let rows = self.rows(query).await?;
        rows.iter()
            .map(|row| {
                let third_party = ThirdParty {
                    medium: row.get("medium")?,
                    address: row.get("address")?,
                };
                Ok((third_party, row.get("id_server")?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;
    use crate::NewAccount;
    use crate::testing::each_database;

    fn mail(address: &str) -> ThirdParty {
        ThirdParty {
            medium: Medium::Email,
            address: address.to_owned(),
        }
    }

    #[tokio::test]
    async fn an_identifier_is_of_one_account_until_that_ends() {
        each_database(async |store| {
            let own = || NewAccount {
                third_parties: vec![mail("a@x.example")],
                ..NewAccount::default()
            };
            let (ada, bob) = (user_id!("@ada:here"), user_id!("@bob:here"));
            let no = store.create_account(ada, own(), None).await.unwrap();
            let no = no.unwrap();
            let owner = async |address: &str| {
                let found = store.third_party_owner(Medium::Email, address).await;
                found.unwrap()
            };
            assert_eq!(owner("a@x.example").await, Some(no));
            let other = store.third_party_owner(Medium::Msisdn, "a@x.example").await;
            assert_eq!(other.unwrap(), None);
            // Nothing is made of an account that can't have what it should.
            assert_eq!(store.create_account(bob, own(), None).await.unwrap(), None);
            assert_eq!(store.account(bob).await.unwrap(), None);
            let new = NewAccount::default();
            let bob = store.create_account(bob, new, None).await.unwrap().unwrap();
            assert!(
                !store
                    .add_third_party(bob, mail("a@x.example"), 7)
                    .await
                    .unwrap()
            );
            // Nobody takes what is another's.
            store
                .remove_third_party(bob, mail("a@x.example"))
                .await
                .unwrap();
            assert_eq!(owner("a@x.example").await, Some(no));
            // Again, it is known to be theirs since then.
            assert!(
                store
                    .add_third_party(no, mail("a@x.example"), 9)
                    .await
                    .unwrap()
            );
            let all = store.third_parties(no).await.unwrap();
            assert_eq!((all.len(), all[0].validated_ms), (1, 9));
            store
                .third_party_bound(no, &mail("a@x.example"), "id.test")
                .await
                .unwrap();
            let task = store.deactivate_account_then(no, false, ("leave", "@ada:here"));
            let task = task.await.unwrap();
            let open = store.open_task(0).await.unwrap().unwrap();
            assert_eq!(
                (open.no, open.kind.as_str(), open.what.as_str()),
                (task, "leave", "@ada:here")
            );
            assert_eq!(owner("a@x.example").await, None);
            assert!(store.bound_third_parties(no).await.unwrap().is_empty());
            assert!(
                !store
                    .add_third_party(no, mail("b@x.example"), 9)
                    .await
                    .unwrap()
            );
            assert!(
                store
                    .add_third_party(bob, mail("a@x.example"), 9)
                    .await
                    .unwrap()
            );
            store
                .remove_third_party(bob, mail("a@x.example"))
                .await
                .unwrap();
            assert!(store.third_parties(bob).await.unwrap().is_empty());
        })
        .await;
    }
}
