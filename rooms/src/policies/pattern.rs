//! Whom a rule means.

use rhizome_protocol::glob::{Glob, LONGEST_TEXT};

use super::{Subject, entity::Name};

/// What a rule names its entity by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pattern {
    /// This one; of a server in small letters.
    Name(String),
    /// Those that match, whatever letters are capitals.
    Glob(Glob),
}

impl Pattern {
    /// `None`: it could mean nobody, as it is too long.
    pub fn parse(subject: Subject, entity: &str) -> Option<Self> {
        if entity.len() > LONGEST_TEXT {
            return None;
        }
        if entity.contains(['*', '?']) {
            let glob = Glob::parse(entity);
            return (glob != Glob::TooLong).then_some(Self::Glob(glob));
        }
        Some(Self::Name(match subject {
            Subject::Server => entity.to_lowercase(),
            Subject::User | Subject::Room => entity.to_owned(),
        }))
    }

    pub fn matches(&self, name: &Name) -> bool {
        match self {
            Self::Name(own) => *own == name.exact,
            Self::Glob(glob) => glob.matches(&name.lower),
        }
    }
}
