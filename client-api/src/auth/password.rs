//! Hashing passwords: argon2id, away from the async threads, few at a time.

use std::{net::IpAddr, sync::Arc};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version,
    password_hash::phc::PasswordHash,
};
use rhizome_edge::MatrixError;
use rhizome_storage::random;

use super::slots::{Hashing, Slots};
use crate::{App, config::PasswordCost};

/// The longest password that is accepted, in bytes.
const MAX_PASSWORD: usize = 512;
/// When to come again who is sent away because too many wait.
const SENT_AWAY_MS: u64 = 2_000;

/// When it is somebody's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn(u32);

impl Turn {
    /// Before all others.
    pub const FIRST: Self = Self(0);

    /// By how often passwords were hashed in vain for who asks from there.
    pub(crate) fn of(app: &App, peer: Option<IpAddr>) -> Self {
        Self::after(app.limits.vain_of(peer, app.now_monotonic_ms()))
    }

    /// The same of who makes an account, which is counted with those.
    pub(crate) fn of_newcomer(app: &App, peer: Option<IpAddr>) -> Self {
        let (vain, _) = app.limits.in_vain(peer, app.now_monotonic_ms());
        Self::after(vain)
    }

    fn after(vain: u32) -> Self {
        Self(vain.saturating_add(1))
    }

    /// Of who is where a device of the account was seen last: before others, unless much was in vain there.
    fn at_home(vain: u32) -> Self {
        Self(vain / 4)
    }
}

/// From where a password is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whence {
    /// The address, if it is known.
    pub peer: Option<IpAddr>,
    /// Whether a device of the account was seen there last.
    pub at_home: bool,
}

/// [`Passwords::verify`] for who tries a password. It is counted as in vain from when it waits for its turn, so that of many
/// at once each comes later, and until it is found to be right.
///
/// # Errors
/// Those of [`Passwords::verify`].
pub(crate) async fn attempt(
    app: &App,
    password: &str,
    hash: Option<String>,
    from: Whence,
) -> Result<bool, MatrixError> {
    let (vain, counted) = app.limits.in_vain(from.peer, app.now_monotonic_ms());
    let turn = if from.at_home {
        Turn::at_home(vain)
    } else {
        Turn::after(vain)
    };
    let verified = app.passwords.verify(password, hash, turn).await;
    // Nor was anything hashed for who was sent away.
    if counted && !matches!(verified, Ok(false)) {
        app.limits.not_in_vain(from.peer, app.now_monotonic_ms());
    }
    verified
}

/// argon2id with bounded concurrency.
pub struct Passwords {
    cost: PasswordCost,
    slots: Arc<Slots>,
}

impl Passwords {
    /// Hashing at this cost.
    pub fn new(cost: PasswordCost) -> Self {
        let slots = Slots::new(cost.concurrency);
        Self { cost, slots }
    }

    /// What is known of it.
    pub fn hashing(&self) -> Hashing {
        self.slots.hashing()
    }

    /// Whether anybody waits.
    pub fn is_busy(&self) -> bool {
        self.hashing().waiting > 0
    }

    /// The PHC string of a new password. `M_WEAK_PASSWORD` if it is empty.
    pub async fn hash(&self, password: &str, turn: Turn) -> Result<String, MatrixError> {
        if password.is_empty() {
            let message = "The password must not be empty";
            return Err(MatrixError {
                errcode: "M_WEAK_PASSWORD".into(),
                ..MatrixError::bad_json(message)
            });
        }
        if password.len() > MAX_PASSWORD {
            return Err(MatrixError::invalid_param(format!(
                "The password must not be longer than {MAX_PASSWORD} bytes"
            )));
        }
        let salt = random::bytes::<16>()?;
        let password = password.to_owned();
        self.run(turn, move |argon2| {
            let hash = argon2.hash_password_with_salt(password.as_bytes(), &salt);
            hash.map(|hash| hash.to_string())
                .map_err(|error| error.to_string())
        })
        .await?
        .map_err(|error| {
            tracing::error!(%error, "a password can't be hashed");
            MatrixError::internal()
        })
    }

    /// Whether `password` is the one that `hash` was made of. Without a hash (no such account, no
    /// password) the answer is no, after the same work: the time doesn't tell which accounts exist.
    ///
    /// # Errors
    /// 429 `M_LIMIT_EXCEEDED` if too many wait who come before.
    pub async fn verify(
        &self,
        password: &str,
        hash: Option<String>,
        turn: Turn,
    ) -> Result<bool, MatrixError> {
        if password.len() > MAX_PASSWORD {
            return Ok(false);
        }
        let password = password.to_owned();
        self.run(turn, move |argon2| {
            let Some(hash) = hash else {
                // The result is of no interest, only the time it took.
                let _ = argon2.hash_password_with_salt(password.as_bytes(), &[0; 16]);
                return false;
            };
            PasswordHash::new(&hash)
                .is_ok_and(|hash| argon2.verify_password(password.as_bytes(), &hash).is_ok())
        })
        .await
    }

    async fn run<R: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce(Argon2<'static>) -> R + Send + 'static,
    ) -> Result<R, MatrixError> {
        let params = Params::new(self.cost.memory_kib, self.cost.passes, 1, None);
        let Ok(params) = params else {
            tracing::error!("the configured cost of hashing passwords is impossible");
            return Err(MatrixError::internal());
        };
        let slot = self.slots.take(turn.0).await;
        let slot = slot.ok_or_else(|| MatrixError::limit_exceeded(SENT_AWAY_MS))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        tokio::task::spawn_blocking(move || {
            let _until_the_end = slot;
            work(argon2)
        })
        .await
        .map_err(|_| MatrixError::internal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Turn = Turn::FIRST;

    #[test]
    fn who_is_at_home_comes_first_until_much_was_in_vain() {
        assert_eq!(Turn::at_home(3), FIRST);
        for vain in [0, 3, 4, 60] {
            assert!(Turn::at_home(vain).0 < Turn::after(vain).0);
        }
        assert!(Turn::at_home(12).0 > Turn::after(0).0);
        assert!(Turn::at_home(60).0 > Turn::after(12).0);
    }

    #[tokio::test]
    async fn only_the_right_password_verifies() {
        let cost = PasswordCost {
            memory_kib: 64,
            passes: 1,
            concurrency: 1,
        };
        let passwords = Passwords::new(cost);
        let hash = passwords.hash("a\u{0}ü 🙂", FIRST).await.unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(
            passwords
                .verify("a\u{0}ü 🙂", Some(hash.clone()), FIRST)
                .await
                .unwrap()
        );
        assert!(!passwords.verify("a", Some(hash), FIRST).await.unwrap());
        assert!(!passwords.verify("a", None, FIRST).await.unwrap());
        assert!(
            !passwords
                .verify("a", Some("nonsense".into()), FIRST)
                .await
                .unwrap()
        );
        assert_eq!(
            passwords.hash("", FIRST).await.unwrap_err().errcode,
            "M_WEAK_PASSWORD"
        );
        assert!(passwords.hash(&"a".repeat(600), FIRST).await.is_err());
        // One that is made, and as many as were tried, whether there was something to compare with or not.
        assert_eq!(passwords.hashing().begun, 5);
    }
}
