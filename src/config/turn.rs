//! `[turn]`: the TURN server by which calls come through where the two sides can't reach each other.

use std::path::PathBuf;

use serde::Deserialize;

use super::Problems;
use super::units::{Secret, Span};

/// The TURN server that clients are told.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Turn {
    /// Its addresses; without them there is none.
    pub uris: Vec<String>,
    /// The secret that it shares with us: each user gets a name and a password that end.
    pub shared_secret: Option<Secret>,
    /// A file that holds it.
    pub shared_secret_file: Option<PathBuf>,
    /// Instead of it, the user whom all are there, …
    pub user: Option<String>,
    /// … and their password.
    pub password: Option<Secret>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// How long clients may use what they are told.
    pub ttl: Span,
    /// Whether guests are told, too.
    pub guests: bool,
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            uris: Vec::new(),
            shared_secret: None,
            shared_secret_file: None,
            user: None,
            password: None,
            password_file: None,
            ttl: Span::secs(24 * 60 * 60),
            guests: false,
        }
    }
}

impl Turn {
    pub(super) fn check(&self, problems: &mut Problems) {
        let is_turn = |uri: &&String| uri.starts_with("turn:") || uri.starts_with("turns:");
        if let Some(wrong) = self.uris.iter().find(|uri| !is_turn(uri)) {
            problems.add(
                "turn.uris",
                format!("`{wrong}` is no address of a TURN server"),
                "write it as in \"turn:turn.example.org:3478?transport=udp\"",
            );
        }
        if self.ttl.0.as_secs() < 60 {
            problems.add(
                "turn.ttl",
                "calls that last longer than this break off",
                "choose 1m or more; a day is usual",
            );
        }
        if self.uris.is_empty() {
            return;
        }
        let (secret, user) = (self.shared_secret.is_some(), self.user.is_some());
        if secret == user || user != self.password.is_some() {
            problems.add(
                "turn.uris",
                "clients need to be told who they are at the TURN server",
                "set either `shared_secret` (coturn's static-auth-secret), or `user` and `password`",
            );
        }
    }
}
