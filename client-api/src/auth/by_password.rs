//! Logging in by a password.
//!
//! Tries are counted by the address that they come from, and by the account, however many addresses try. So that strangers who
//! empty an account's bucket don't keep its owner out, there is then one for each address, which lets in who comes from where
//! a device of the account was seen last; such people also come first when passwords are hashed. Others are answered the same
//! after the same time, so that neighbours learn neither who lives there nor whom there is.

use std::net::IpAddr;

use http::StatusCode;
use rhizome_edge::{MatrixError, limits::block_of};
use rhizome_storage::{Account, UserNo};
use ruma::{OwnedUserId, UserId};

use crate::{
    App,
    auth::{
        password::{self, Whence},
        validated::ThirdParty,
    },
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
    /// There were too many, so only who is at home gets in; so many milliseconds until there is another.
    Beyond(u64),
    /// The same of an account that nobody may find out by its address: it is answered as a wrong password is.
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
    let (exact, counted) = count(app, named, peer).await?;
    let found = match exact {
        Some(exact) => find(app, exact).await?,
        None => None,
    };
    let matters = counted != Counted::Within || app.passwords.is_busy();
    let at_home = match &found {
        Some((_, account)) if matters => is_at_home(app, account.user, peer).await?,
        _ => false,
    };
    // Who isn't at home is compared with nothing, for as long as who is.
    let found = found.filter(|_| at_home || counted == Counted::Within);
    let hash = found
        .as_ref()
        .and_then(|(_, account)| account.password_hash.clone());
    let from = Whence { peer, at_home };
    let right = password::attempt(app, password, hash, from).await?;
    match (found.filter(|_| right), counted) {
        (Some((_, account)), _) if account.deactivated => Err(MatrixError::new(
            StatusCode::FORBIDDEN,
            "M_USER_DEACTIVATED",
            "The account has been deactivated",
        )),
        (Some((user_id, account)), _) => Ok((user_id, account.password_hash)),
        (None, Counted::Beyond(wait)) => Err(MatrixError::limit_exceeded(wait)),
        (None, _) => Err(MatrixError::forbidden("The user or the password is wrong")),
    }
}

/// Counts a try at an account's password that is no login, but as good as one.
///
/// # Errors
/// 429 `M_LIMIT_EXCEEDED`
pub(crate) fn count_with_logins(app: &App, user: &UserId) -> Result<(), MatrixError> {
    app.limits
        .take(Kind::Login, bucket(user.as_str()), app.now_monotonic_ms())
        .map_err(MatrixError::limit_exceeded)
}

/// Counts a try, whoever has the account, and says whose it is to be. Where there are too many of a name, nothing is looked up
/// before it is counted.
async fn count(
    app: &App,
    named: &Named,
    peer: Option<IpAddr>,
) -> Result<(Option<OwnedUserId>, Counted), MatrixError> {
    let (limits, now) = (&app.limits, app.now_monotonic_ms());
    match named {
        Named::User(name) => {
            let exact = local_user(app, name);
            // An account has one bucket, however it is called.
            let counted = exact.as_ref().map_or(name.as_str(), |user| user.as_str());
            let Err(wait) = limits.take(Kind::Login, bucket(counted), now) else {
                return Ok((exact, Counted::Within));
            };
            match limits.take(Kind::Login, home(counted, peer), now) {
                Ok(()) => Ok((exact, Counted::Beyond(wait))),
                Err(_) => Err(MatrixError::limit_exceeded(wait)),
            }
        }
        Named::ThirdParty(of) => {
            // Before it is looked up: whether it is an account's, nobody learns by how often they may ask.
            limits
                .take(Kind::Login, ("address", of.medium, &of.address), now)
                .map_err(MatrixError::limit_exceeded)?;
            let Some(owner) = owner_of(app, of).await? else {
                return Ok((None, Counted::Within));
            };
            if limits
                .take(Kind::Login, bucket(owner.as_str()), now)
                .is_ok()
            {
                return Ok((Some(owner), Counted::Within));
            }
            let may = limits.take(Kind::Login, home(owner.as_str(), peer), now);
            Ok((may.is_ok().then_some(owner), Counted::Silently))
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

/// Of those who try from one address once there were too many.
fn home(user: &str, peer: Option<IpAddr>) -> (&'static str, String, Option<IpAddr>) {
    ("at home", user.to_lowercase(), peer.map(block_of))
}

/// Whose account has this address.
async fn owner_of(app: &App, of: &ThirdParty) -> Result<Option<OwnedUserId>, MatrixError> {
    let owner = app.store.third_party_owner(of.medium, &of.address).await?;
    Ok(match owner {
        Some(user) => Some(app.store.user(user).await?),
        None => None,
    })
}
