//! Push rules: which events a user wants to be notified of, and how (client-server API, "Push Rules").
//!
//! They are the user's account data `m.push_rules`, which is how clients hear of changes. Who has never
//! changed one has no such data: the server's defaults are made up when asked for. A change is decided
//! on what is stored and written only if that is still there ([`DataChange::expect`]), so
//! that of two devices, also at two processes, neither undoes what the other does.

mod carry;
mod new;
mod ruleset;

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use rhizome_edge::{RawJson, Undecoded};
use rhizome_storage::{
    AccountData, CommitError, DataChange, Fact, Logged, Pos, Store, UserNo, WriteSet,
};
use ruma::{
    RoomId, UserId,
    api::{
        auth_scheme::AccessToken,
        client::push::{
            delete_pushrule, get_pushrule, get_pushrule_actions, get_pushrule_enabled,
            get_pushrules_all, get_pushrules_global_scope, set_pushrule, set_pushrule_actions,
            set_pushrule_enabled,
        },
    },
    metadata,
};
use serde_json::json;

pub use self::ruleset::Rules;
use crate::{App, Caller, MatrixError, Ruma, account_data::MAX_BYTES, content};

/// The type of account data that push rules are.
pub const KIND: &str = "m.push_rules";

/// The kind of condition that looks at a related event
/// ([MSC3664](https://github.com/matrix-org/matrix-spec-proposals/pull/3664)).
pub const RELATED: &str = "im.nheko.msc3664.related_event_match";

/// How often a change is decided again because another came first.
const ATTEMPTS: usize = 50;

/// `GET /_matrix/client/v3/pushrules/`
pub async fn all(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<get_pushrules_all::v3::Request>,
) -> Result<RawJson, MatrixError> {
    RawJson::of(&json!({ "global": ruleset::json(&of(&app, &who).await?)? }))
}

/// `GET /_matrix/client/v3/pushrules/global/`
pub async fn global(
    State(app): State<App>,
    Ruma { who, .. }: Ruma<get_pushrules_global_scope::v3::Request>,
) -> Result<RawJson, MatrixError> {
    RawJson::of(&ruleset::json(&of(&app, &who).await?)?)
}

/// The rules of one kind, which isn't in the specification any more.
pub struct OfKind;
metadata! {
    @for OfKind,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    path: "/_matrix/client/v3/pushrules/global/{kind}/",
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/`
pub async fn of_kind(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<Undecoded<OfKind>>,
) -> Result<RawJson, MatrixError> {
    let kind = ruleset::kind(req.part(0))?;
    RawJson::of(&ruleset::json_of(&of(&app, &who).await?, &kind)?)
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
pub async fn get(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<get_pushrule::v3::Request>,
) -> Result<get_pushrule::v3::Response, MatrixError> {
    let kind = ruleset::kind(req.kind.as_str())?;
    let rules = of(&app, &who).await?;
    let rule = ruleset::find(&rules, &kind, &req.rule_id)?;
    Ok(get_pushrule::v3::Response::new(rule.to_owned().into()))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
pub async fn put(
    State(app): State<App>,
    Ruma { who, req, body, .. }: Ruma<Undecoded<set_pushrule::v3::Request>>,
) -> Result<set_pushrule::v3::Response, MatrixError> {
    let kind = ruleset::kind(req.part(0))?;
    let rule = new::read(&kind, req.part(1), &body)?;
    let places = content::pairs(req.query.as_deref().unwrap_or_default());
    let place = |name: &str| {
        let mut places = places.iter();
        places
            .find(|(key, _)| key == name)
            .map(|(_, rule_id)| &**rule_id)
    };
    change(&app, &who, |rules| {
        ruleset::put(rules, rule.clone(), place("after"), place("before"))
    })
    .await?;
    Ok(set_pushrule::v3::Response::new())
}

/// `DELETE /_matrix/client/v3/pushrules/global/{kind}/{ruleId}`
pub async fn delete(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<delete_pushrule::v3::Request>,
) -> Result<delete_pushrule::v3::Response, MatrixError> {
    let kind = ruleset::kind(req.kind.as_str())?;
    change(&app, &who, |rules| {
        ruleset::delete(rules, &kind, &req.rule_id)
    })
    .await?;
    Ok(delete_pushrule::v3::Response::new())
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
pub async fn enabled(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<get_pushrule_enabled::v3::Request>,
) -> Result<get_pushrule_enabled::v3::Response, MatrixError> {
    let kind = ruleset::kind(req.kind.as_str())?;
    let rules = of(&app, &who).await?;
    let rule = ruleset::find(&rules, &kind, &req.rule_id)?;
    Ok(get_pushrule_enabled::v3::Response::new(rule.enabled()))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled`
pub async fn set_enabled(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<set_pushrule_enabled::v3::Request>,
) -> Result<set_pushrule_enabled::v3::Response, MatrixError> {
    let kind = ruleset::kind(req.kind.as_str())?;
    change(&app, &who, |rules| {
        ruleset::set_enabled(rules, &kind, &req.rule_id, req.enabled)
    })
    .await?;
    Ok(set_pushrule_enabled::v3::Response::new())
}

/// `GET /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
pub async fn actions(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<get_pushrule_actions::v3::Request>,
) -> Result<get_pushrule_actions::v3::Response, MatrixError> {
    let kind = ruleset::kind(req.kind.as_str())?;
    let rules = of(&app, &who).await?;
    let rule = ruleset::find(&rules, &kind, &req.rule_id)?;
    Ok(get_pushrule_actions::v3::Response::new(
        rule.actions().to_vec(),
    ))
}

/// `PUT /_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions`
pub async fn set_actions(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<set_pushrule_actions::v3::Request>,
) -> Result<set_pushrule_actions::v3::Response, MatrixError> {
    let kind = ruleset::kind(req.kind.as_str())?;
    change(&app, &who, |rules| {
        ruleset::set_actions(rules, &kind, &req.rule_id, req.actions.clone())
    })
    .await?;
    Ok(set_pushrule_actions::v3::Response::new())
}

/// A user's push rules data: what is stored, or the server's defaults.
pub fn account_data(
    user_id: &UserId,
    stored: Option<&Logged<AccountData>>,
) -> Result<Arc<str>, MatrixError> {
    let rules = ruleset::of(user_id, stored.map(|data| &*data.content))?;
    Ok(ruleset::content(&rules)?.into())
}

/// A user's rules: what is stored, or the server's defaults.
pub fn parsed(
    user_id: &UserId,
    stored: Option<&Logged<AccountData>>,
) -> Result<Rules, MatrixError> {
    ruleset::of(user_id, stored.map(|data| &*data.content))
}

/// Copies a user's rules for a room to the one that replaces it, as far as they fit.
pub async fn carry(
    store: &Store,
    user: (UserNo, &UserId),
    old: &RoomId,
    new: &RoomId,
) -> Result<(), MatrixError> {
    let carried = change_of(store, user, |rules| {
        carry::carry(rules, old, new);
        Ok(())
    });
    match carried.await {
        Err(error) if error.status == StatusCode::PAYLOAD_TOO_LARGE => Ok(()),
        done => done,
    }
}

/// The rules that a content of the account data amounts to.
#[cfg(test)]
pub fn of_content(user_id: &UserId, content: &str) -> Result<Rules, MatrixError> {
    ruleset::of(user_id, Some(content))
}

async fn of(app: &App, who: &Caller) -> Result<Rules, MatrixError> {
    let stored = stored(&app.store, who.user).await?;
    ruleset::of(&who.user_id, stored.as_ref().map(|data| &*data.content))
}

async fn stored(
    store: &Store,
    user: UserNo,
) -> Result<Option<Arc<Logged<AccountData>>>, MatrixError> {
    Ok(store.account_data(user, None, KIND).await?)
}

/// Changes a client's rules by `decide`, which may be asked again.
async fn change(
    app: &App,
    who: &Caller,
    decide: impl Fn(&mut Rules) -> Result<(), MatrixError>,
) -> Result<(), MatrixError> {
    change_of(&app.store, (who.user, &who.user_id), decide).await
}

/// The same of any user.
async fn change_of(
    store: &Store,
    (user, user_id): (UserNo, &UserId),
    decide: impl Fn(&mut Rules) -> Result<(), MatrixError>,
) -> Result<(), MatrixError> {
    for _ in 0..ATTEMPTS {
        let stored = stored(store, user).await?;
        let mut rules = ruleset::of(user_id, stored.as_ref().map(|data| &*data.content))?;
        let before = ruleset::content(&rules)?;
        decide(&mut rules)?;
        let content = ruleset::content(&rules)?;
        if content == before {
            return Ok(());
        }
        if content.len() > MAX_BYTES {
            return Err(MatrixError::too_large("There are too many push rules"));
        }
        let fact = Fact::AccountData(DataChange {
            data: AccountData {
                user,
                room: None,
                kind: KIND.to_owned(),
                content: content.into(),
            },
            expect: Some(stored.map_or(Pos(0), |data| data.pos)),
        });
        let set = WriteSet::from(vec![fact]);
        match store.commit(set).await {
            Ok(_) => return Ok(()),
            Err(CommitError::DataMoved { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(MatrixError::busy())
}
