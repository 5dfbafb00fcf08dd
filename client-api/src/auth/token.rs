//! Access tokens: from a request to its user and device.
//!
//! A token is 256 random bits; the database and the cache know its SHA-256 only. The cache makes a
//! warm request free of database reads. It is kept true by the log: before it is asked, the
//! revocations up to the log's head are applied to it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use http::header;
use rhizome_federation::MatrixError;
use rhizome_storage::{EntryKind, Pos, UserNo};
use ring::digest;
use ruma::{DeviceId, api::auth_scheme::extract_bearer_or_query_token};

use crate::{App, edge::extract::Caller};

/// How many tokens each of the two generations of the cache holds.
const GENERATION: usize = 8192;
/// How long an entry is trusted, in milliseconds: bounds what a revocation may miss that another
/// process of a cluster wrote just before it died.
const TRUSTED_MS: i64 = 5 * 60 * 1000;

/// How often it is recorded that a device was seen, in milliseconds.
const SEEN_EVERY_MS: i64 = 60 * 60 * 1000;

/// What an endpoint wants to know about its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: a token is ignored.
    Nothing,
    /// A token is used if there is one; a wrong one is an error.
    TokenIfAny,
    /// A valid token.
    Token,
}

/// The SHA-256 of a token, as text.
pub fn hash_of(token: &str) -> String {
    STANDARD_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes()))
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

/// Whose token it is.
///
/// # Errors
/// `M_UNKNOWN_TOKEN` if nobody's; with `soft_logout` if it has expired, so that the client
/// refreshes it or logs in again as the same device.
pub async fn authenticate(app: &App, token: &str) -> Result<Caller, MatrixError> {
    let hash = hash_of(token);
    let now = app.store.clock().now_ms();
    let head = follow_log(app);
    let known = match app.tokens.get(&hash, now) {
        Some(known) => known,
        // Boxed: warm requests, nearly all, needn't carry the room that this takes.
        None => Box::pin(load(app, hash, now, head)).await?,
    };
    if known.expires_ms.is_some_and(|expires| expires <= now) {
        return Err(MatrixError::unknown_token(true));
    }
    Ok(known.caller)
}

async fn load(app: &App, hash: String, now: i64, head: Pos) -> Result<Known, MatrixError> {
    let Some(token) = app.store.token(&hash).await? else {
        return Err(MatrixError::unknown_token(false));
    };
    if now - token.last_seen_ms > SEEN_EVERY_MS {
        // Who can't write, because the disk is full, can read all the same.
        let seen = app.store.see_device(token.user, &token.device_id, now);
        if let Err(error) = seen.await {
            tracing::warn!(%error, "that a device was seen couldn't be recorded");
        }
    }
    app.store.confirm_refresh(&token).await?;
    let caller = Caller {
        user_id: token.user_id,
        user: token.user,
        device_id: token.device_id,
    };
    let known = Known {
        caller,
        expires_ms: token.expires_ms,
        until_ms: now + TRUSTED_MS,
    };
    app.tokens.put(hash, known.clone(), head);
    Ok(known)
}

/// Applies the revocations up to the log's head. Reads memory only.
fn follow_log(app: &App) -> Pos {
    let head = app.store.log().head();
    let applied = app.tokens.applied();
    if applied < head {
        match app.store.log().tail(applied, head) {
            Some(entries) => {
                let revoked = entries.iter().filter_map(|entry| match &entry.kind {
                    EntryKind::TokenRevoked(revoked) => {
                        Some((revoked.user, revoked.device.as_deref()))
                    }
                    _ => None,
                });
                app.tokens.revoke(revoked, head);
            }
            None => app.tokens.restart(head),
        }
    }
    head
}

#[derive(Debug, Clone)]
struct Known {
    caller: Caller,
    expires_ms: Option<i64>,
    until_ms: i64,
}

/// Access tokens seen lately, in two generations: when the young one is full it becomes the old
/// one, and what isn't asked for while it is old is forgotten.
#[derive(Default)]
pub struct TokenCache(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<String, Known>,
    old: HashMap<String, Known>,
    applied: Pos,
}

impl TokenCache {
    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn applied(&self) -> Pos {
        self.lock().applied
    }

    fn get(&self, hash: &str, now_ms: i64) -> Option<Known> {
        let mut cache = self.lock();
        let fresh = |known: &&Known| known.until_ms > now_ms;
        if let Some(known) = cache.young.get(hash).filter(fresh) {
            return Some(known.clone());
        }
        let known = cache
            .old
            .remove(hash)
            .filter(|known| known.until_ms > now_ms)?;
        cache.insert(hash.to_owned(), known.clone());
        Some(known)
    }

    /// Keeps what the database said, unless a revocation was applied since the log stood at `head`.
    fn put(&self, hash: String, known: Known, head: Pos) {
        let mut cache = self.lock();
        if cache.applied <= head {
            cache.insert(hash, known);
        }
    }

    fn revoke<'a>(&self, revoked: impl Iterator<Item = (UserNo, Option<&'a DeviceId>)>, head: Pos) {
        let mut cache = self.lock();
        for (user, device) in revoked {
            let stays = |_: &String, known: &mut Known| {
                known.caller.user != user
                    || device.is_some_and(|device| known.caller.device_id != device)
            };
            cache.young.retain(stays);
            cache.old.retain(stays);
        }
        cache.applied = cache.applied.max(head);
    }

    fn restart(&self, head: Pos) {
        *self.lock() = Generations {
            applied: head,
            ..Generations::default()
        };
    }
}

impl Generations {
    fn insert(&mut self, hash: String, known: Known) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(user: i64, device: &str) -> Known {
        let user_id = ruma::UserId::parse(format!("@u{user}:here")).unwrap();
        let caller = Caller {
            user_id,
            user: UserNo(user),
            device_id: device.into(),
        };
        Known {
            caller,
            expires_ms: None,
            until_ms: 100,
        }
    }

    #[test]
    fn a_revocation_reaches_the_devices_it_names() {
        let cache = TokenCache::default();
        cache.put("1a".into(), known(1, "A"), Pos(0));
        cache.put("1b".into(), known(1, "B"), Pos(0));
        cache.put("2a".into(), known(2, "A"), Pos(0));
        cache.revoke(
            [(UserNo(1), Some(<&DeviceId>::from("A")))].into_iter(),
            Pos(5),
        );
        assert!(cache.get("1a", 0).is_none());
        assert!(cache.get("1b", 0).is_some());
        cache.revoke([(UserNo(1), None)].into_iter(), Pos(6));
        assert!(cache.get("1b", 0).is_none());
        assert!(cache.get("2a", 0).is_some());
        assert_eq!(cache.applied(), Pos(6));
    }

    #[test]
    fn what_was_read_before_a_revocation_is_not_kept_after_it() {
        let cache = TokenCache::default();
        cache.revoke(std::iter::empty(), Pos(7));
        cache.put("1a".into(), known(1, "A"), Pos(6));
        assert!(cache.get("1a", 0).is_none());
    }

    #[test]
    fn entries_age_and_memory_is_bounded() {
        let cache = TokenCache::default();
        cache.put("x".into(), known(1, "A"), Pos(0));
        assert!(cache.get("x", 99).is_some());
        assert!(cache.get("x", 100).is_none());
        for n in 0..3 * GENERATION {
            cache.put(n.to_string(), known(1, "A"), Pos(0));
        }
        let cache = cache.lock();
        assert!(cache.young.len() + cache.old.len() <= 2 * GENERATION);
    }
}
