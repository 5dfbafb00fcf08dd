//! Accounts of this server.

pub(crate) mod acting;
pub(crate) mod backup;
pub(crate) mod blocks;
pub(crate) mod dehydrated;
pub(crate) mod delivery;
pub(crate) mod devices;
pub(crate) mod erasure;
mod expiry;
pub(crate) mod filters;
mod guests;
pub(crate) mod listing;
pub(crate) mod login_as;
pub(crate) mod login_tokens;
mod openid;
pub(crate) mod overview;
mod presence;
pub(crate) mod profiles;
pub(crate) mod proved;
pub(crate) mod pushes;
mod refreshing;
pub(crate) mod registration;
pub(crate) mod registration_tokens;
pub(crate) mod report_pages;
pub(crate) mod reports;
pub(crate) mod services;
pub(crate) mod sessions;
pub(crate) mod tasks;
pub(crate) mod third_parties;
pub(crate) mod tokens;
pub(crate) mod uia;
pub(crate) mod untold;
pub(crate) mod user_limits;
pub(crate) mod validation;

use ruma::UserId;

use crate::engine::sql::Columns as _;
use crate::{
    AccountChange, DeviceList, Fact, NewAccount, NewLogin, ProfileChange, Result, SpreadChange,
    SpreadTo, Store, ThirdPartyChange, UserNo,
};

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The user's number.
    pub user: UserNo,
    /// A PHC string; `None`: no password opens it. Of an account that has ended, it tells its owner so.
    pub password_hash: Option<String>,
    /// Whether it may administrate the server.
    pub admin: bool,
    /// Whether it has ended. Its name is never given out again.
    pub deactivated: bool,
    /// Whether nobody may log in until the operator has approved it.
    pub awaits_approval: bool,
    /// Whether it can do nothing but log out.
    pub locked: bool,
    /// Whether it can only read.
    pub suspended: bool,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: i64,
}

/// The first login of an account that is being made, when its user's number is known.
pub type FirstLogin = Box<dyn FnOnce(UserNo) -> NewLogin + Send>;

impl Store {
    /// Makes an account and, in the same moment, its first session. `None` if the user has an account already,
    /// or had one: names aren't given out twice; or if another account has a third-party identifier that this one
    /// should have.
    pub async fn create_account(
        &self,
        user: &UserId,
        account: NewAccount,
        first: Option<FirstLogin>,
    ) -> Result<Option<UserNo>> {
        let no = self.user_no(user).await?;
        let own = account.third_parties.iter();
        let own = own.map(|third_party| ThirdPartyChange {
            user: no,
            third_party: third_party.clone(),
            since_ms: Some((account.created_ms, account.created_ms)),
        });
        let name = account.display_name.clone().map(|name| ProfileChange {
            user: no,
            field: "displayname".to_owned(),
            value: Some(name.into()),
        });
        let mut facts: Vec<Fact> = own.map(Fact::from).collect();
        facts.extend(name.map(Fact::from));
        let create = AccountChange::Create { user: no, account };
        if let Some(first) = first {
            let login = first(no);
            let list = DeviceList {
                user: no,
                device: Some(login.device_id.clone()),
            };
            let login = AccountChange::Login {
                login,
                known: false,
            };
            facts.extend([login.into(), list.into()]);
        } else {
            // The log says that there is somebody, for who keeps what people are called.
            let nameless = SpreadChange {
                user: no,
                field: "avatar_url".to_owned(),
                value: None,
                to: SpreadTo::All,
            };
            facts.push(nameless.into());
        }
        facts.push(create.into());
        Ok(self.change(facts).await?.then_some(no))
    }

    /// The user's account, also a deactivated one.
    pub async fn account(&self, user: &UserId) -> Result<Option<Account>> {
        let Some(no) = self.known_user(user).await? else {
            return Ok(None);
        };
        let query = self
            .sql(
                "SELECT password_hash, admin, deactivated, locked, suspended, created_ms, \
                 (SELECT COUNT(*) FROM awaiting_approval w WHERE w.user_no = account.user_no) AS awaits \
                 FROM account WHERE user_no = $1",
            )
            .bind(no);
        let Some(row) = self.row(query).await? else {
            return Ok(None);
        };
        Ok(Some(Account {
            user: no,
            password_hash: row.get("password_hash")?,
            admin: row.get("admin")?,
            deactivated: row.get("deactivated")?,
            awaits_approval: row.get("awaits")?,
            locked: row.get("locked")?,
            suspended: row.get("suspended")?,
            created_ms: row.get("created_ms")?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;
    use crate::Ends;
    use crate::testing::each_database;

    #[tokio::test]
    async fn a_name_is_given_out_once() {
        each_database(async |store| {
            let ada = user_id!("@ada:here");
            assert_eq!(store.account(ada).await.unwrap(), None);
            let new = NewAccount {
                password_hash: Some("$x".into()),
                ..NewAccount::default()
            };
            let no = store
                .create_account(ada, new.clone(), None)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(store.create_account(ada, new, None).await.unwrap(), None);
            let account = store.account(ada).await.unwrap().unwrap();
            assert_eq!(account.user, no);
            assert_eq!(account.password_hash.as_deref(), Some("$x"));

            store
                .set_profile_field(no, "displayname", Some("Ada".into()))
                .await
                .unwrap();
            store.deactivate_account(no, false).await.unwrap();
            store.set_password(no, "$y", Ends::Nothing).await.unwrap();
            let account = store.account(ada).await.unwrap().unwrap();
            assert!(account.deactivated);
            assert_eq!(account.password_hash.as_deref(), Some("$x"));
            assert!(store.profile(ada).await.unwrap().unwrap().is_empty());
        })
        .await;
    }
}
