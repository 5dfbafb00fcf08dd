//! Profiles of users of other servers: these are asked, and what they say is remembered for a while, also that there is
//! none. So a client that shows a long list asks each server once, and nobody keeps us asking.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
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
/// The longest profile that is believed, in bytes (<https://spec.matrix.org/v1.19/client-server-api/#profiles>).
const LONGEST: usize = 65_536;

/// What was said a moment ago.
#[derive(Debug)]
pub struct RemoteProfiles(Cache<OwnedUserId, Said>);

#[derive(Debug, Clone)]
struct Said {
    /// By the monotonic clock.
    at: Duration,
    /// As text: in memory an object takes many times as much.
    profile: Result<Arc<str>, MatrixError>,
}

impl Default for RemoteProfiles {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl RemoteProfiles {
    fn get(&self, user: &UserId, now: Duration) -> Option<Result<Arc<Object>, MatrixError>> {
        let said = self.0.get(user)?;
        if now.saturating_sub(said.at) >= FRESH {
            return None;
        }
        match said.profile {
            Ok(text) => serde_json::from_str(&text)
                .ok()
                .map(|profile| Ok(Arc::new(profile))),
            Err(error) => Some(Err(error)),
        }
    }

    /// Remembers a profile, or that somebody has none, or shows none that could be told. That a server doesn't answer is no
    /// answer. Gives what is to be told.
    fn put(
        &self,
        user: &UserId,
        at: Duration,
        profile: Result<Object, MatrixError>,
    ) -> Result<Arc<Object>, MatrixError> {
        let text = profile.and_then(|profile| {
            let text = serde_json::to_string(&profile).unwrap_or_default();
            if text.is_empty() || text.len() > LONGEST {
                return Err(MatrixError::new(
                    StatusCode::BAD_GATEWAY,
                    "M_TOO_LARGE",
                    "Their server says more of this user than a profile may hold",
                ));
            }
            Ok((Arc::new(profile), text))
        });
        let (profile, said, bytes) = match text {
            Ok((profile, text)) => {
                let bytes = text.len();
                (Ok(profile), Ok(Arc::from(text)), bytes)
            }
            Err(error) => {
                let told = matches!(error.status.as_u16(), 403 | 404);
                if !told && error.errcode != "M_TOO_LARGE" {
                    return Err(error);
                }
                let bytes = error.message.len();
                (Err(error.clone()), Err(error), bytes)
            }
        };
        let said = Said { at, profile: said };
        self.0
            .insert_weighing(user.to_owned(), said, 1 + bytes / 1_024);
        profile
    }
}

/// The profile of a user of another server.
///
/// # Errors
/// The user has no profile there (`M_NOT_FOUND`), it is too large, or the server doesn't answer.
pub async fn profile(app: &App, user: &UserId) -> Result<Arc<Object>, MatrixError> {
    let known = &app.remote_profiles;
    if let Some(profile) = known.get(user, app.store.clock().monotonic()) {
        return profile;
    }
    let profile = query::profile(&app.federation, user, None).await;
    known.put(user, app.store.clock().monotonic(), profile)
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_remembered_for_a_while() {
        let known = RemoteProfiles::default();
        let (bob, carl, dan) = (user_id!("@bob:b"), user_id!("@carl:b"), user_id!("@dan:b"));
        let named = json!({ "displayname": "Bob" });
        let profile = named.as_object().unwrap().clone();
        let start = Duration::from_secs(100);
        known.put(bob, start, Ok(profile.clone())).unwrap();
        let nobody = known.put(carl, start, Err(MatrixError::not_found("nobody")));
        assert!(nobody.is_err());
        let busy = MatrixError::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", "no answer");
        assert!(known.put(dan, start, Err(busy)).is_err());
        let later = start + FRESH.mul_f64(0.9);
        assert_eq!(*known.get(bob, later).unwrap().unwrap(), profile);
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
        large.insert("org.x".into(), "x".repeat(60 * 1_024).into());
        let user = |n: usize| UserId::parse(format!("@u{n}:b")).unwrap();
        for n in 0..1_000 {
            let put = known.put(&user(n), Duration::ZERO, Ok(large.clone()));
            put.unwrap();
        }
        let held = (0..1_000).filter(|n| known.get(&user(*n), Duration::ZERO).is_some());
        assert!(held.count() <= MOST / 60);
        // What is more than a profile may be isn't told, and its server isn't asked again at once.
        large.insert("org.y".into(), "x".repeat(6 * 1_024).into());
        let told = known.put(&user(0), Duration::ZERO, Ok(large));
        assert_eq!(told.unwrap_err().errcode, "M_TOO_LARGE");
        assert!(known.get(&user(0), Duration::ZERO).unwrap().is_err());
    }
}
