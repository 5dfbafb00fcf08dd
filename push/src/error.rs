//! What can be wrong with a pusher, with a notification for it, and with the operator's settings.

use thiserror::Error;

/// Why a pusher can't be set: the client's mistake, in words for it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PusherError {
    /// Something is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Something isn't what it has to be.
    #[error("{field} {why}")]
    Invalid {
        /// What.
        field: &'static str,
        /// What it has to be.
        why: &'static str,
    },
    /// Something is longer than it may be.
    #[error("{field} has more than {most} {unit}")]
    TooLarge {
        /// What.
        field: &'static str,
        /// How long it may be.
        most: usize,
        /// Of what.
        unit: &'static str,
    },
}

impl PusherError {
    /// The code of the Matrix error for it, which has status 400.
    pub fn errcode(&self) -> &'static str {
        match self {
            Self::Missing(_) => "M_MISSING_PARAM",
            Self::Invalid { .. } | Self::TooLarge { .. } => "M_INVALID_PARAM",
        }
    }
}

/// Why there is no request for a notification. Another try would end the same way.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BuildError {
    /// The pusher is one that can't be set any more.
    #[error("the pusher's {0}")]
    Pusher(#[from] PusherError),
    /// Even the least of it is too large.
    #[error("even the least that can be told is too large")]
    TooLarge,
    /// It can't be written down.
    #[error("the notification can't be written as JSON or as headers")]
    Unwritable,
    /// A signature or a cipher failed, or there is no randomness.
    #[error("the system gives no randomness, or signing failed")]
    Crypto,
}

impl From<ring::error::Unspecified> for BuildError {
    fn from(_: ring::error::Unspecified) -> Self {
        Self::Crypto
    }
}

/// What is wrong with what the operator set. Nothing of a key is in its text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A key can't be used.
    #[error("{what} holds no private key that can be used: {why}")]
    Key {
        /// Where it is.
        what: &'static str,
        /// What it has to be.
        why: &'static str,
    },
    /// Anything else.
    #[error("{what} {why}")]
    Value {
        /// What.
        what: &'static str,
        /// What it has to be.
        why: &'static str,
    },
}
