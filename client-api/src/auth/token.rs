//! Access tokens: from a request to its user and device.
//!
//! A token is 256 random bits; the database and the cache know its SHA-256 only. The cache makes a
//! warm request free of database reads. It is kept true by the log: before it is asked, the
//! revocations up to the log's head are applied to it.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicI64, Ordering},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::header;
use rhizome_edge::MatrixError;
use rhizome_storage::{Cache, CacheFigures, EntryKind, LoginAs, Pos, UserNo, random};
use ring::digest;
use ruma::{DeviceId, api::auth_scheme::extract_bearer_or_query_token};

use crate::{App, Caller, auth::standing};

/// How many tokens the cache holds at the most: twice of those that are used in turn and all found.
const CACHED: usize = 65_536;
/// How long an entry is trusted, in milliseconds: bounds what a revocation may miss that another
/// process of a cluster wrote just before it died.
const TRUSTED_MS: i64 = 5 * 60 * 1000;

/// What a token begins with by which an administrator acts as a user, and no other does.
const LOGIN_AS: &str = "as.";

/// How often it is recorded that a device was seen, in milliseconds.
const SEEN_EVERY_MS: i64 = 60 * 60 * 1000;

/// The SHA-256 of a token, as text.
pub fn hash_of(token: &str) -> String {
    STANDARD_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes()))
}

/// A new token by which an administrator acts as a user.
pub fn new_login_as() -> Result<String, MatrixError> {
    Ok(format!("{LOGIN_AS}{}", random::secret()?))
}

/// The access token of a request: of the `Authorization` header, else of the query, where
/// deployed clients still put it.
pub fn token_of<B>(request: &http::Request<B>) -> Result<Option<String>, MatrixError> {
    match extract_bearer_or_query_token(request) {
        Ok(token) => Ok(token),
        Err(_) if request.headers().contains_key(header::AUTHORIZATION) => {
            Err(MatrixError::missing_token())
        }
        Err(error) => Err(MatrixError::invalid_param(error.to_string())),
    }
}

/// Whose token it is. `peer`: from where it comes, if that is known.
///
/// # Errors
/// `M_UNKNOWN_TOKEN` if nobody's; with `soft_logout` if it has expired, so that the client
/// refreshes it or logs in again as the same device. `M_USER_LOCKED` if the account is locked.
pub async fn authenticate(
    app: &App,
    token: &str,
    peer: Option<IpAddr>,
) -> Result<Caller, MatrixError> {
    match find(app, token, peer).await? {
        known if known.locked => Err(standing::locked()),
        known => Ok(known.caller),
    }
}

/// The same of an account that may be locked.
pub async fn authenticate_locked(
    app: &App,
    token: &str,
    peer: Option<IpAddr>,
) -> Result<Caller, MatrixError> {
    Ok(find(app, token, peer).await?.caller)
}

async fn find(app: &App, token: &str, peer: Option<IpAddr>) -> Result<KnownToken, MatrixError> {
    let hash = hash_of(token);
    let now = app.store.clock().now_ms();
    follow_log(app);
    let known = match app.tokens.get(&hash, now) {
        Some(known) => known,
        // Boxed: warm requests, nearly all, needn't carry the room that this takes.
        None if token.starts_with(LOGIN_AS) => Box::pin(load_login_as(app, hash, now)).await?,
        None => Box::pin(load(app, hash, peer, now)).await?,
    };
    // Who is locked out can't get another.
    if is_over(known.expires_ms, now) && !known.locked {
        return Err(MatrixError::unknown_token(true));
    }
    Ok(known)
}

async fn load(
    app: &App,
    hash: String,
    peer: Option<IpAddr>,
    now: i64,
) -> Result<KnownToken, MatrixError> {
    let moment = app.tokens.moment();
    let Some(token) = app.store.token(&hash).await? else {
        return Err(MatrixError::unknown_token(false));
    };
    // What is good for nothing says neither where its device is nor that it has got what a refresh gave out.
    if !token.is_locked && !is_over(token.expires_ms, now) {
        let device = (token.user, &*token.device_id, token.last_seen_ms);
        see(app, device, peer, now).await;
        app.store.confirm_refresh(&token).await?;
    }
    let caller = Caller {
        user_id: token.user_id,
        user: token.user,
        device_id: Some(token.device_id),
        is_guest: token.is_guest,
        is_suspended: token.is_suspended,
        service: None,
    };
    let known = KnownToken {
        caller,
        locked: token.is_locked,
        by: None,
        expires_ms: token.expires_ms,
        until_ms: now + TRUSTED_MS,
    };
    app.tokens.put(moment, hash, known.clone());
    Ok(known)
}

/// The same of a token by which an administrator acts as a user: of no device, which isn't seen by it.
async fn load_login_as(app: &App, hash: String, now: i64) -> Result<KnownToken, MatrixError> {
    let moment = app.tokens.moment();
    let Some(token) = app.store.login_as(&hash).await? else {
        return Err(MatrixError::unknown_token(false));
    };
    let known = KnownToken::of_login_as(token, now + TRUSTED_MS);
    app.tokens.put(moment, hash, known.clone());
    Ok(known)
}

/// Records that a device was seen, if it wasn't of late.
pub(super) async fn see(
    app: &App,
    (user, device, last_seen_ms): (UserNo, &DeviceId, i64),
    peer: Option<IpAddr>,
    now: i64,
) {
    if now - last_seen_ms <= SEEN_EVERY_MS {
        return;
    }
    // Who can't write, because the disk is full, can read all the same.
    let ip = peer.map(|peer| peer.to_string());
    let seen = app.store.see_device(user, device, ip, now);
    if let Err(error) = seen.await {
        tracing::warn!(%error, "that a device was seen couldn't be recorded");
    }
}

/// Whether a token that is good until then isn't any more.
fn is_over(expires_ms: Option<i64>, now: i64) -> bool {
    expires_ms.is_some_and(|expires| expires <= now)
}

/// Applies the revocations up to the log's head. Reads memory only.
pub(super) fn follow_log(app: &App) {
    let head = app.store.log().head();
    let applied = app.tokens.applied();
    if applied >= head {
        return;
    }
    let Some(entries) = app.store.log().tail(applied, head) else {
        app.tokens.restart(head);
        return;
    };
    let revoked: Vec<_> = entries
        .iter()
        .filter_map(|entry| match &entry.kind {
            EntryKind::TokenRevoked(revoked) => Some((revoked.user, revoked.device.as_deref())),
            _ => None,
        })
        .collect();
    app.tokens.revoke(&revoked, head);
}

/// What a token stands for.
#[derive(Debug, Clone)]
pub struct KnownToken {
    pub(super) caller: Caller,
    pub(super) locked: bool,
    /// The administrator who acts as the user by it.
    by: Option<UserNo>,
    expires_ms: Option<i64>,
    until_ms: i64,
}

impl KnownToken {
    fn of_login_as(token: LoginAs, until_ms: i64) -> Self {
        Self {
            caller: Caller {
                user_id: token.user_id,
                user: token.user,
                device_id: None,
                is_guest: token.is_guest,
                is_suspended: token.is_suspended,
                service: None,
            },
            locked: token.is_locked,
            by: Some(token.by),
            expires_ms: token.expires_ms,
            until_ms,
        }
    }

    /// Whether it has to be looked up again when a token of this user was revoked, or all of them.
    fn is_of(&self, user: UserNo, device: Option<&DeviceId>) -> bool {
        let own = self.caller.user == user
            && device.is_none_or(|device| self.caller.device_id.as_deref() == Some(device));
        own || (device.is_none() && self.by == Some(user))
    }

    /// Of what doesn't end by itself.
    pub(super) fn lasting(caller: Caller, locked: bool, now_ms: i64) -> Self {
        Self {
            caller,
            locked,
            by: None,
            expires_ms: None,
            until_ms: now_ms + TRUSTED_MS,
        }
    }
}

/// Access tokens seen lately, and up to where in the log they are true. Beside them, by their ids, users for whom
/// application services act.
pub struct TokenCache {
    tokens: Cache<String, KnownToken>,
    applied: AtomicI64,
}

impl Default for TokenCache {
    fn default() -> Self {
        Self {
            tokens: Cache::new(CACHED),
            applied: AtomicI64::new(0),
        }
    }
}

impl TokenCache {
    /// What it holds, and how often that was of use.
    pub(crate) fn figures(&self) -> CacheFigures {
        self.tokens.figures()
    }

    fn applied(&self) -> Pos {
        Pos(self.applied.load(Ordering::Acquire))
    }

    pub(super) fn get(&self, hash: &str, now_ms: i64) -> Option<KnownToken> {
        let known = self.tokens.get(hash)?;
        if known.until_ms > now_ms {
            return Some(known);
        }
        // Or it would be kept in place of what the database says now.
        self.tokens.remove(hash);
        None
    }

    /// A moment to give to [`Self::put`]: take it before the database is asked.
    pub(super) fn moment(&self) -> u64 {
        self.tokens.moment()
    }

    /// Keeps what the database said, unless a revocation was applied since `moment`.
    pub(super) fn put(&self, moment: u64, hash: String, known: KnownToken) {
        self.tokens.insert_since(moment, hash, known, 1);
    }

    /// Applies the revocations up to `head`. Whoever sees that they are applied sees nothing of them any more.
    fn revoke(&self, revoked: &[(UserNo, Option<&DeviceId>)], head: Pos) {
        if !revoked.is_empty() {
            self.tokens.remove_where(|known| {
                revoked
                    .iter()
                    .any(|(user, device)| known.is_of(*user, *device))
            });
        }
        self.applied.fetch_max(head.0, Ordering::Release);
    }

    fn restart(&self, head: Pos) {
        self.tokens.clear();
        self.applied.fetch_max(head.0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(user: i64, device: &str) -> KnownToken {
        let user_id = ruma::UserId::parse(format!("@u{user}:here")).unwrap();
        let caller = Caller {
            user_id,
            user: UserNo(user),
            device_id: Some(device.into()),
            is_guest: false,
            is_suspended: false,
            service: None,
        };
        KnownToken {
            caller,
            locked: false,
            by: None,
            expires_ms: None,
            until_ms: 100,
        }
    }

    fn put(cache: &TokenCache, hash: &str, known: KnownToken) {
        cache.put(cache.moment(), hash.into(), known);
    }

    #[test]
    fn a_revocation_reaches_the_devices_it_names() {
        let cache = TokenCache::default();
        put(&cache, "1a", known(1, "A"));
        put(&cache, "1b", known(1, "B"));
        put(&cache, "2a", known(2, "A"));
        cache.revoke(&[(UserNo(1), Some(<&DeviceId>::from("A")))], Pos(5));
        assert!(cache.get("1a", 0).is_none());
        assert!(cache.get("1b", 0).is_some());
        cache.revoke(&[(UserNo(1), None)], Pos(6));
        assert!(cache.get("1b", 0).is_none());
        assert!(cache.get("2a", 0).is_some());
        cache.revoke(&[], Pos(4));
        assert_eq!(cache.applied(), Pos(6));
    }

    #[test]
    fn who_loses_what_they_act_by_acts_as_nobody() {
        let cache = TokenCache::default();
        let acting = KnownToken {
            by: Some(UserNo(9)),
            ..known(1, "")
        };
        put(&cache, "as", acting.clone());
        // One of the administrator's devices goes: they still are one.
        cache.revoke(&[(UserNo(9), Some(<&DeviceId>::from("A")))], Pos(5));
        assert!(cache.get("as", 0).is_some());
        cache.revoke(&[(UserNo(9), None)], Pos(6));
        assert!(cache.get("as", 0).is_none());
        put(&cache, "as", acting);
        cache.revoke(&[(UserNo(1), None)], Pos(7));
        assert!(cache.get("as", 0).is_none());
    }

    #[test]
    fn what_was_read_before_a_revocation_is_not_kept_after_it() {
        let cache = TokenCache::default();
        let moment = cache.moment();
        cache.revoke(&[(UserNo(1), None)], Pos(7));
        cache.put(moment, "1a".into(), known(1, "A"));
        assert!(cache.get("1a", 0).is_none());
        let moment = cache.moment();
        cache.revoke(&[], Pos(8));
        cache.put(moment, "1a".into(), known(1, "A"));
        assert!(
            cache.get("1a", 0).is_some(),
            "nothing was revoked meanwhile"
        );
    }

    #[test]
    fn entries_age_and_are_read_again() {
        let cache = TokenCache::default();
        put(&cache, "x", known(1, "A"));
        assert!(cache.get("x", 99).is_some());
        assert!(cache.get("x", 100).is_none());
        let fresh = KnownToken {
            until_ms: 200,
            ..known(1, "A")
        };
        put(&cache, "x", fresh);
        assert!(cache.get("x", 100).is_some());
    }

    #[test]
    fn memory_is_bounded() {
        let cache = TokenCache::default();
        for n in 0..2 * CACHED {
            put(&cache, &n.to_string(), known(1, "A"));
        }
        let held = |n: &usize| cache.get(&n.to_string(), 0).is_some();
        assert!((0..2 * CACHED).filter(held).count() <= CACHED);
    }
}
