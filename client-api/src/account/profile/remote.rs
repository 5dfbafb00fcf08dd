//! Profiles of users of other servers: these are asked, and what they say is remembered for a while, also that there is
//! none. So a client that shows a long list asks each server once, and nobody keeps us asking.

use std::{sync::Arc, time::Duration};

use rhizome_edge::MatrixError;
use rhizome_federation::query;
use rhizome_protocol::Object;
use rhizome_storage::Cache;
use ruma::{OwnedUserId, UserId};

use crate::App;

/// For how long it is remembered.
const FRESH: Duration = Duration::from_mins(1);
/// So many KiB are remembered, each profile counting as one at least.
const MOST: usize = 16_384;

/// What was said a moment ago.
#[derive(Debug)]
pub struct RemoteProfiles(Cache<OwnedUserId, Said>);

#[derive(Debug, Clone)]
struct Said {
    /// By the monotonic clock.
    at: Duration,
    profile: Result<Arc<Object>, MatrixError>,
}

impl Default for RemoteProfiles {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl RemoteProfiles {
    fn get(&self, user: &UserId, now: Duration) -> Option<Result<Arc<Object>, MatrixError>> {
        let said = self.0.get(user)?;
        (now.saturating_sub(said.at) < FRESH).then_some(said.profile)
    }

    /// Remembers a profile, or that somebody has none or shows none. That a server doesn't answer is no answer.
    fn put(&self, user: &UserId, at: Duration, profile: &Result<Arc<Object>, MatrixError>) {
        let kib = match profile {
            Ok(profile) => serde_json::to_string(profile).map_or(0, |text| text.len() / 1_024),
            Err(error) if matches!(error.status.as_u16(), 403 | 404) => error.message.len() / 1_024,
            Err(_) => return,
        };
        let profile = profile.clone();
        let said = Said { at, profile };
        self.0.insert_weighing(user.to_owned(), said, 1 + kib);
    }
}

/// The profile of a user of another server.
///
/// # Errors
/// The user has no profile there (`M_NOT_FOUND`), or the server doesn't answer.
pub async fn profile(app: &App, user: &UserId) -> Result<Arc<Object>, MatrixError> {
    let known = &app.remote_profiles;
    if let Some(profile) = known.get(user, app.store.clock().monotonic()) {
        return profile;
    }
    let profile = query::profile(&app.federation, user, None).await;
    let profile = profile.map(Arc::new);
    known.put(user, app.store.clock().monotonic(), &profile);
    profile
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_remembered_for_a_while() {
        let known = RemoteProfiles::default();
        let (bob, carl, dan) = (user_id!("@bob:b"), user_id!("@carl:b"), user_id!("@dan:b"));
        let named = json!({ "displayname": "Bob" });
        let profile = Ok(Arc::new(named.as_object().unwrap().clone()));
        let start = Duration::from_secs(100);
        known.put(bob, start, &profile);
        known.put(carl, start, &Err(MatrixError::not_found("nobody")));
        let busy = MatrixError::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", "no answer");
        known.put(dan, start, &Err(busy));
        let later = start + FRESH.mul_f64(0.9);
        assert_eq!(known.get(bob, later).unwrap(), profile);
        assert_eq!(
            known.get(carl, later).unwrap().unwrap_err().errcode,
            "M_NOT_FOUND"
        );
        assert!(known.get(dan, start).is_none());
        assert!(known.get(bob, start + FRESH).is_none());
        assert!(known.get(carl, start + FRESH).is_none());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let known = RemoteProfiles::default();
        let mut large = Object::new();
        large.insert("org.x".into(), "x".repeat(64 * 1_024).into());
        let large = Ok(Arc::new(large));
        let user = |n: usize| UserId::parse(format!("@u{n}:b")).unwrap();
        for n in 0..1_000 {
            known.put(&user(n), Duration::ZERO, &large);
        }
        let held = (0..1_000).filter(|n| known.get(&user(*n), Duration::ZERO).is_some());
        assert!(held.count() <= MOST / 64);
    }
}
