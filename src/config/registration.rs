//! `[registration]`: who may make an account.

use std::path::PathBuf;

use serde::Deserialize;

use super::Problems;
use super::units::Secret;

/// Who may make an account.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registration {
    /// Through `/register`: nobody, or anybody.
    pub mode: RegistrationMode,
    /// Must be `true` for `mode = "open"`.
    pub strangers_may_register_and_i_accept_the_abuse: bool,
    /// Whether there may be guests, who need no password.
    pub guests: bool,
    /// Lets scripts register users through `/_synapse/admin/v1/register`.
    pub shared_secret: Option<Secret>,
    /// A file that holds the shared secret.
    pub shared_secret_file: Option<PathBuf>,
}

/// Who may register through the client API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistrationMode {
    /// Nobody; the operator makes accounts.
    #[default]
    Closed,
    /// Anybody.
    Open,
}

impl Registration {
    /// Whether strangers may register.
    pub fn is_open(&self) -> bool {
        self.mode == RegistrationMode::Open
    }

    pub(super) fn check(&self, problems: &mut Problems) {
        if self.is_open() && !self.strangers_may_register_and_i_accept_the_abuse {
            problems.add(
                "registration.mode",
                "\"open\" lets anyone on the Internet make accounts here, which spammers look for",
                "keep \"closed\" and use `rhizome user create`, or confirm with `strangers_may_register_and_i_accept_the_abuse = true`",
            );
        }
        if self
            .shared_secret
            .as_ref()
            .is_some_and(|secret| secret.expose().len() < 8)
        {
            problems.add(
                "registration.shared_secret",
                "the shared secret is shorter than 8 characters, so it can be guessed",
                "use a long random one, such as the output of `openssl rand -hex 32`",
            );
        }
    }
}
