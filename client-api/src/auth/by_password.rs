//! Logging in by a password.
//!
//! Tries are counted by the address that they come from, and by the account, however many addresses try. So that strangers who
//! empty an account's bucket don't keep its owner out, who comes from where a device of the account was seen last has a bucket
//! of their own, and comes first when passwords are hashed. What is wrong there is answered as strangers are, so that
//! neighbours learn no more than they do.

use std::net::IpAddr;

use http::StatusCode;
use rhizome_edge::{MatrixError, limits::block_of};
use rhizome_storage::{Account, UserNo};
use ruma::{OwnedUserId, UserId};

use crate::{
    App,
    auth::{password::Turn, validated::ThirdParty},
    limits::Kind,
    user_ids::local_user,
};

/// So many devices of an account are looked at, the last seen first.
const DEVICES: usize = 50;

/// Whom a login names.
pub(super) enum Named {
    /// By their name or id.
    User(String),
    /// By an address of their account's.
    ThirdParty(ThirdParty),
}

/// What has become of counting a try.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    /// It may be looked at.
    Within,
    /// There were too many; so many milliseconds until there is another.
    Beyond(u64),
    /// Of the account, which nobody may find out by its address: it is answered as a wrong password is.
    Silently,
}

/// The account that this name and this password belong to, and what the password matches. One answer for
/// all that is wrong, after one time: who doesn't know the password learns nothing of the account, nor that
/// it has ended.
///
/// # Errors
/// 403 `M_FORBIDDEN`, `M_USER_DEACTIVATED`; 429 `M_LIMIT_EXCEEDED`.
pub(super) async fn check(
    app: &App,
    named: &Named,
    password: &str,
    peer: Option<IpAddr>,
) -> Result<(OwnedUserId, Option<String>), MatrixError> {
    let now = app.now_monotonic_ms();
    let (exact, counted) = count(app, named, now).await?;
    let mut found = match exact {
        Some(exact) => find(app, exact).await?,
        None => None,
    };
    let mut at_home = false;
    if counted != Counted::Within || app.passwords.is_busy() {
        at_home = match &found {
            Some((_, account)) => is_at_home(app, account.user, peer).await?,
            None => false,
        };
    }
    if counted != Counted::Within {
        let own = found.as_ref().map(|(user, _)| user.as_str());
        let own = own.filter(|_| at_home);
        let may = own.is_some_and(|user| {
            let who = ("at home", user, peer.map(block_of));
            app.limits.take(Kind::Login, who, now).is_ok()
        });
        if !may && let Counted::Beyond(wait) = counted {
            return Err(MatrixError::limit_exceeded(wait));
        }
        found = found.filter(|_| may);
    }
    let hash = found
        .as_ref()
        .and_then(|(_, account)| account.password_hash.clone());
    let turn = if at_home {
        Turn::FIRST
    } else {
        Turn::of(app, peer)
    };
    let right = app.passwords.verify(password, hash, turn).await?;
    match (found.filter(|_| right), counted) {
        (Some((_, account)), _) if account.deactivated => Err(MatrixError::new(
            StatusCode::FORBIDDEN,
            "M_USER_DEACTIVATED",
            "The account has been deactivated",
        )),
        (Some((user_id, account)), _) => Ok((user_id, account.password_hash)),
        (None, counted) => {
            app.limits.in_vain(peer, app.now_monotonic_ms());
            Err(match counted {
                Counted::Beyond(wait) => MatrixError::limit_exceeded(wait),
                _ => MatrixError::forbidden("The user or the password is wrong"),
            })
        }
    }
}

/// Counts a try, whoever has the account, and says whose it is to be.
async fn count(
    app: &App,
    named: &Named,
    now: u64,
) -> Result<(Option<OwnedUserId>, Counted), MatrixError> {
    let limits = &app.limits;
    match named {
        Named::User(name) => {
            let exact = local_user(app, name);
            // An account has one bucket, however it is called.
            let counted = exact.as_ref().map_or(name.as_str(), |user| user.as_str());
            let taken = limits.take(Kind::Login, bucket(counted), now);
            let counted = taken.err().map_or(Counted::Within, Counted::Beyond);
            Ok((exact, counted))
        }
        Named::ThirdParty(of) => {
            // Before it is looked up: whether it is an account's, nobody learns by how often they may ask.
            limits
                .take(Kind::Login, ("address", of.medium, &of.address), now)
                .map_err(MatrixError::limit_exceeded)?;
            let owner = owner_of(app, of).await?;
            let taken = owner.as_ref().map(|user| bucket(user.as_str()));
            let may = taken.is_none_or(|user| limits.take(Kind::Login, user, now).is_ok());
            let counted = if may {
                Counted::Within
            } else {
                Counted::Silently
            };
            Ok((owner, counted))
        }
    }
}

async fn find(
    app: &App,
    exact: OwnedUserId,
) -> Result<Option<(OwnedUserId, Account)>, MatrixError> {
    if let Some(account) = app.store.account(&exact).await? {
        return Ok(Some((exact, account)));
    }
    // Accounts are made with small letters, and typed with others.
    let Ok(small) = UserId::parse(exact.as_str().to_lowercase()) else {
        return Ok(None);
    };
    let account = app.store.account(&small).await?;
    Ok(account.map(|account| (small, account)))
}

/// Whether a device of the account was seen last where this comes from.
async fn is_at_home(app: &App, user: UserNo, peer: Option<IpAddr>) -> Result<bool, MatrixError> {
    let Some(here) = peer.map(block_of) else {
        return Ok(false);
    };
    let seen = app.store.last_addresses(user, DEVICES).await?;
    let mut seen = seen.iter().filter_map(|address| address.parse().ok());
    Ok(seen.any(|address| block_of(address) == here))
}

/// Of whose password tries are counted; strangers make them, so nothing else is counted with them.
fn bucket(user: &str) -> (&'static str, String) {
    ("password", user.to_lowercase())
}

/// Whose account has this address.
async fn owner_of(app: &App, of: &ThirdParty) -> Result<Option<OwnedUserId>, MatrixError> {
    let owner = app.store.third_party_owner(of.medium, &of.address).await?;
    Ok(match owner {
        Some(user) => Some(app.store.user(user).await?),
        None => None,
    })
}
