//! Making and changing users.

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{Content, MatrixError, Undecoded};
use rhizome_storage::{Account, AccountFlag, Admission, Ends, SpreadTo, ThirdParty};
use ruma::{MxcUri, OwnedUserId};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    App, Caller, Ruma,
    account::{contact::bind, profile::fields, users},
    admin::{
        asked,
        endpoint::endpoints,
        subject,
        users::{deactivate, details},
    },
    auth::{password::Turn, validated::third_party},
    user_ids,
};

endpoints! {
    /// `PUT`: makes or changes a user of this server.
    PutUser: PUT "/_synapse/admin/v2/users/{user_id}";
}

/// The most addresses that an account is given.
const MOST_ADDRESSES: usize = 20;

/// What an account is to be; what isn't said stays as it is.
#[derive(Deserialize)]
struct Wish {
    password: Option<String>,
    #[serde(default = "yes")]
    logout_devices: bool,
    displayname: Option<String>,
    avatar_url: Option<String>,
    threepids: Option<Vec<Address>>,
    #[serde(default)]
    external_ids: Option<Vec<Value>>,
    admin: Option<bool>,
    deactivated: Option<bool>,
    locked: Option<bool>,
    approved: Option<bool>,
    user_type: Option<String>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct Address {
    medium: String,
    address: String,
}

/// `PUT /_synapse/admin/v2/users/{userId}`
///
/// All is looked at before anything is changed. Who sends it again, after half of it failed, gets the rest.
pub async fn put(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<PutUser>>,
) -> Result<Content, MatrixError> {
    let user_id = subject::local(&app, req.part(0))?;
    let wish: Wish = asked::body(&body)?;
    let addresses = wish.addresses()?;
    wish.check()?;
    let status = if let Some(account) = app.store.account(&user_id).await? {
        let change = Change {
            app: &app,
            who: &who,
            user_id: &user_id,
            account: &account,
        };
        Box::pin(change.make(&wish, addresses)).await?;
        StatusCode::OK
    } else {
        Box::pin(create(&app, &user_id, &wish, addresses)).await?;
        StatusCode::CREATED
    };
    tracing::info!(by = %who.user_id, user = %user_id, new = status == StatusCode::CREATED, "a user was changed");
    Ok(Content::json(status, &details::of(&app, &user_id).await?))
}

impl Wish {
    /// What can't be, whoever it is about.
    fn check(&self) -> Result<(), MatrixError> {
        let kind = self.user_type.as_deref().unwrap_or_default();
        if !kind.is_empty() {
            return Err(MatrixError::invalid_param("Users have no types here"));
        }
        if self
            .external_ids
            .as_ref()
            .is_some_and(|ids| !ids.is_empty())
        {
            return Err(MatrixError::invalid_param(
                "There are no providers of identities here, and no external_ids",
            ));
        }
        if self.deactivated == Some(true) && self.locked == Some(true) {
            return Err(MatrixError::invalid_param(
                "An account can't be both deactivated and locked",
            ));
        }
        if self.admin == Some(true) && self.locked == Some(true) {
            return Err(MatrixError::invalid_param(
                "An administrator's account can't be locked",
            ));
        }
        let avatar = self.avatar_url.as_deref().unwrap_or_default();
        if !avatar.is_empty() && !<&MxcUri>::from(avatar).is_valid() {
            return Err(MatrixError::invalid_param("avatar_url is an mxc address"));
        }
        for (field, text) in [
            ("displayname", &self.displayname),
            ("avatar_url", &self.avatar_url),
        ] {
            let value = text.as_deref().and_then(Self::field);
            fields::check(field, value.as_ref())?;
        }
        Ok(())
    }

    /// The addresses that the account is to have, in their canonical form.
    fn addresses(&self) -> Result<Option<Vec<ThirdParty>>, MatrixError> {
        let Some(given) = &self.threepids else {
            return Ok(None);
        };
        if given.len() > MOST_ADDRESSES {
            let message = format!("An account has {MOST_ADDRESSES} addresses at most");
            return Err(MatrixError::invalid_param(message));
        }
        let each = given
            .iter()
            .map(|one| third_party(&one.medium, &one.address));
        let mut addresses = each.collect::<Result<Vec<_>, _>>()?;
        addresses.sort();
        addresses.dedup();
        Ok(Some(addresses))
    }

    /// The name or picture that is said; an empty one is none.
    fn field(text: &str) -> Option<Value> {
        (!text.is_empty()).then(|| text.into())
    }
}

async fn create(
    app: &App,
    user_id: &OwnedUserId,
    wish: &Wish,
    addresses: Option<Vec<ThirdParty>>,
) -> Result<(), MatrixError> {
    // Capitals would be taken for small letters: another user than is named.
    let id = user_ids::user_id(&app.config.server_name, user_id.localpart())?;
    if id != *user_id || user_ids::is_ours(app, user_id) {
        return Err(MatrixError::new(
            StatusCode::BAD_REQUEST,
            "M_INVALID_USERNAME",
            "There can be no user of this name",
        ));
    }
    users::require_nobodys(app, user_id)?;
    if wish.deactivated == Some(true) {
        return Err(MatrixError::invalid_param(
            "An account can't be made that has ended",
        ));
    }
    let new = users::New {
        user_id,
        password: wish.password.as_deref(),
        admin: wish.admin.unwrap_or(false),
        third_parties: addresses.unwrap_or_default(),
        admission: Admission::default(),
        turn: Turn::FIRST,
    };
    let name = wish.displayname.clone();
    let nameless = name.as_deref() == Some("");
    let user = users::make(app, new, name.filter(|name| !name.is_empty())).await?;
    if nameless {
        fields::write(app, user, "displayname", None).await?;
    }
    if let Some(avatar) = wish.avatar_url.as_deref().and_then(Wish::field) {
        fields::write(app, user, "avatar_url", Some(avatar)).await?;
    }
    if wish.locked == Some(true) {
        let flag = AccountFlag::Locked;
        app.store.set_account_flag(user, flag, true).await?;
    }
    Ok(())
}

/// A change of an account by an administrator.
struct Change<'a> {
    app: &'a App,
    who: &'a Caller,
    user_id: &'a OwnedUserId,
    account: &'a Account,
}

impl Change<'_> {
    async fn make(
        &self,
        wish: &Wish,
        addresses: Option<Vec<ThirdParty>>,
    ) -> Result<(), MatrixError> {
        self.check(wish, addresses.as_deref())?;
        if self.account.deactivated {
            return Ok(());
        }
        let (app, user) = (self.app, self.account.user);
        for (field, wanted) in [
            ("displayname", &wish.displayname),
            ("avatar_url", &wish.avatar_url),
        ] {
            if let Some(wanted) = wanted {
                let value = Wish::field(wanted);
                fields::spread(app, user, field, value, SpreadTo::All).await?;
            }
        }
        if let Some(addresses) = addresses {
            self.set_addresses(addresses).await?;
        }
        if let Some(admin) = wish.admin.filter(|admin| *admin != self.account.admin) {
            self.flag(AccountFlag::Admin, admin).await?;
        }
        if let Some(password) = &wish.password {
            let ends = if wish.logout_devices {
                Ends::All
            } else {
                Ends::Nothing
            };
            users::give_password(app, user, password, ends).await?;
        }
        if wish.approved == Some(true) && self.account.awaits_approval {
            users::approve(&app.store, self.user_id, user).await?;
        }
        if let Some(locked) = wish.locked.filter(|locked| *locked != self.account.locked) {
            self.flag(AccountFlag::Locked, locked).await?;
        }
        if wish.deactivated == Some(true) {
            deactivate::end(app, self.user_id, self.account, false).await?;
        }
        Ok(())
    }

    /// What can't be done to this account.
    fn check(&self, wish: &Wish, addresses: Option<&[ThirdParty]>) -> Result<(), MatrixError> {
        if self.account.deactivated {
            let says = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
            let changes = wish.deactivated == Some(false)
                || wish.admin == Some(true)
                || wish.locked == Some(true)
                || addresses.is_some_and(|addresses| !addresses.is_empty())
                || [&wish.password, &wish.displayname, &wish.avatar_url]
                    .into_iter()
                    .any(says);
            if changes {
                return Err(MatrixError::forbidden(
                    "The account has been deactivated, which can't be undone",
                ));
            }
            return Ok(());
        }
        if wish.admin == Some(false) && self.account.admin {
            subject::not_oneself(self.who, self.user_id, "demote")?;
        }
        if wish.deactivated == Some(true) {
            subject::not_oneself(self.who, self.user_id, "deactivate")?;
        }
        if wish.locked == Some(true) && !self.account.locked {
            subject::no_administrator(self.account)?;
        }
        if wish.approved == Some(false) && !self.account.awaits_approval {
            return Err(MatrixError::invalid_param(
                "An approval isn't taken back: lock the account",
            ));
        }
        Ok(())
    }

    async fn flag(&self, flag: AccountFlag, on: bool) -> Result<(), MatrixError> {
        let set = self.app.store.set_account_flag(self.account.user, flag, on);
        if set.await? {
            return Ok(());
        }
        Err(subject::no_user())
    }

    /// Takes addresses that aren't wanted any more, also from where they were published, and gives those that are new.
    async fn set_addresses(&self, wanted: Vec<ThirdParty>) -> Result<(), MatrixError> {
        let (app, user) = (self.app, self.account.user);
        let own = app.store.third_parties(user).await?;
        let own: Vec<ThirdParty> = own.into_iter().map(|one| one.third_party).collect();
        let now = app.store.clock().now_ms();
        for new in wanted.iter().filter(|one| !own.contains(one)) {
            if !app.store.add_third_party(user, new.clone(), now).await? {
                return Err(users::address_in_use());
            }
        }
        let who = subject::as_if(self.user_id, self.account);
        for gone in own.into_iter().filter(|one| !wanted.contains(one)) {
            bind::unbind_one(app, &who, &gone, None).await?;
            app.store.remove_third_party(user, gone).await?;
        }
        Ok(())
    }
}
