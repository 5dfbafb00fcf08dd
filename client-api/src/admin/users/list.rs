//! The users of this server.

use axum::extract::State;
use rhizome_edge::{MatrixError, RawJson, Undecoded};
use rhizome_storage::{AccountOrder, AccountOverview, AccountQuery};
use serde_json::{Map, Value, json};

use crate::{
    App, Ruma,
    admin::{
        asked::{Asked, Page},
        endpoint::endpoints,
    },
};

endpoints! {
    /// `GET`: the users of this server. Those whose accounts have ended are in it if that is asked for.
    GetV2: GET "/_synapse/admin/v2/users";
    /// The same; those whose accounts have ended are in it unless something else is asked for.
    GetV3: GET "/_synapse/admin/v3/users";
}

/// `GET /_synapse/admin/v2/users`
pub async fn v2(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetV2>>,
) -> Result<RawJson, MatrixError> {
    let asked = Asked::of(&req);
    let with_ended = asked.flag("deactivated")?.unwrap_or(false);
    list(&app, &asked, (!with_ended).then_some(false)).await
}

/// `GET /_synapse/admin/v3/users`
pub async fn v3(
    State(app): State<App>,
    Ruma { req, .. }: Ruma<Undecoded<GetV3>>,
) -> Result<RawJson, MatrixError> {
    let asked = Asked::of(&req);
    let deactivated = asked.flag("deactivated")?;
    list(&app, &asked, deactivated).await
}

async fn list(app: &App, asked: &Asked, deactivated: Option<bool>) -> Result<RawJson, MatrixError> {
    let page = asked.page()?;
    let which = query(asked, deactivated)?;
    let order = asked.order(AccountOrder::UserId, order)?;
    let backwards = asked.backwards()?.unwrap_or(false);
    // Users have no types here: who leaves out those without leaves out all.
    if asked.all("not_user_type").any(str::is_empty) {
        return answer(&[], 0, page);
    }
    let order = (order, backwards);
    let (accounts, total) = app.store.account_page(&which, order, page.bounds()).await?;
    let nos: Vec<_> = accounts.iter().map(|account| account.user).collect();
    let mut profiles = app.store.profiles(&nos).await?;
    let shown = accounts.iter().map(|account| {
        let profile = profiles.remove(&account.user).unwrap_or_default();
        shown(account, &profile)
    });
    answer(&shown.collect::<Vec<_>>(), total, page)
}

fn answer(users: &[Value], total: usize, page: Page) -> Result<RawJson, MatrixError> {
    let next = page.next(users.len(), total);
    let mut answer = json!({ "users": users, "total": total });
    if let Some(next) = next {
        answer["next_token"] = next.to_string().into();
    }
    RawJson::of(&answer)
}

fn query(asked: &Asked, deactivated: Option<bool>) -> Result<AccountQuery, MatrixError> {
    let name = asked.text("name").filter(|name| !name.is_empty());
    let id = asked.text("user_id").filter(|id| !id.is_empty());
    let with_guests = asked.flag("guests")?.unwrap_or(true);
    let with_locked = asked.flag("locked")?.unwrap_or(false);
    let approved = asked.flag("approved")?.unwrap_or(true);
    Ok(AccountQuery {
        id_has: name.or(id).map(ToOwned::to_owned),
        only_localpart: name.is_some(),
        or_name_has: name.map(ToOwned::to_owned),
        guests: (!with_guests).then_some(false),
        deactivated,
        admins: asked.flag("admins")?,
        locked: (!with_locked).then_some(false),
        awaiting: (!approved).then_some(true),
    })
}

fn order(name: &str) -> Option<AccountOrder> {
    Some(match name {
        // Nobody has a type.
        "name" | "user_type" => AccountOrder::UserId,
        "is_guest" => AccountOrder::IsGuest,
        "admin" => AccountOrder::Admin,
        "deactivated" => AccountOrder::Deactivated,
        "shadow_banned" => AccountOrder::ShadowBanned,
        "locked" => AccountOrder::Locked,
        "displayname" => AccountOrder::Name,
        "avatar_url" => AccountOrder::Avatar,
        "creation_ts" => AccountOrder::CreatedMs,
        "last_seen_ts" => AccountOrder::LastSeenMs,
        _ => return None,
    })
}

/// A user in a list.
fn shown(account: &AccountOverview, profile: &Map<String, Value>) -> Value {
    json!({
        "name": account.user_id,
        "user_type": null,
        "is_guest": account.is_guest,
        "admin": account.admin,
        "deactivated": account.deactivated,
        "erased": account.erased,
        "shadow_banned": account.shadow_banned,
        "displayname": profile.get("displayname"),
        "avatar_url": profile.get("avatar_url"),
        "creation_ts": account.created_ms,
        "last_seen_ts": account.last_seen_ms,
        "locked": account.locked,
        "suspended": account.suspended,
        "approved": !account.awaits_approval,
    })
}
