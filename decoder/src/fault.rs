//! What is wrong with a file.

use serde::{Deserialize, Serialize};

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It isn't of a format that is decoded.
    #[error("this is not a picture that can be decoded")]
    NotAPicture,
    /// It isn't what its format says.
    #[error("the picture is broken: {0}")]
    Broken(String),
    /// It wants more than is allowed.
    #[error("the picture is too large: {0}")]
    TooLarge(Excess),
}

/// Of what a file wants too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Excess {
    /// Width or height.
    #[error("its sides")]
    Side,
    /// Width by height.
    #[error("its pixels")]
    Pixels,
    /// Bytes of the file.
    #[error("its bytes")]
    Bytes,
    /// Memory for decoding.
    #[error("the memory that it takes")]
    Memory,
    /// What would be answered.
    #[error("what would come of it")]
    Answer,
}

/// The longest reason that is told.
const REASON: usize = 200;

impl Fault {
    /// Broken, with a reason, which may hold what the file said.
    pub(crate) fn broken(reason: impl std::fmt::Display) -> Self {
        let mut reason = reason.to_string();
        reason.retain(|c| !c.is_control());
        let end = reason.floor_char_boundary(REASON);
        reason.truncate(end);
        Self::Broken(reason)
    }

    /// The same as it may be told, if a stranger said it.
    pub(crate) fn checked(self) -> Self {
        match self {
            Self::Broken(reason) => Self::broken(reason),
            other => other,
        }
    }
}
