//! Positions of connections: `<sync token>.<connection>.<version>[.<profiles>]`. What is before the dot is a token like that
//! of `/sync`, so that histories can be read from there.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher as _},
};

use http::StatusCode;
use rhizome_storage::{Pos, Store};

use crate::{MatrixError, place::token::Token, sync::sliding::request::extensions::Profiles};

/// The position of the last answer, and that of the next.
type Span = (Option<Pos>, Pos);

/// Where a client stands.
#[derive(Debug, Clone)]
pub struct Position {
    /// Up to where it was told what it wants.
    pub token: Token,
    /// On which connection.
    pub connection: i64,
    /// What it was told before that.
    pub version: i64,
    /// What it was told of profiles.
    pub profiles: Option<ProfilesPos>,
}

/// Up to where a connection was told of changes of profiles: also where the last answers were asked for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfilesPos {
    /// Up to here.
    pub upto: Pos,
    /// A number of the fields that it asked for last, …
    pub fields: i64,
    /// … and since when it has. What it was told before that doesn't count: they may have been other ones.
    pub since: Pos,
    /// How many answers told whole profiles, or of somebody who is gone: whose profiles these were, the process remembers
    /// that gave the last of them.
    pub answers: Pos,
}

impl ProfilesPos {
    /// Goes on from where a connection is, if it ever asked, with the fields that are wanted now. From where the log has
    /// left in memory, or what isn't ours says, nobody goes on: what is wanted is told anew.
    pub fn go_on(
        known: Option<Self>,
        wanted: &Profiles,
        store: &Store,
        (after, upto): Span,
    ) -> Self {
        let fields = number(&wanted.fields);
        let reaches =
            |known: &Self| Some(known.upto) == after || store.log().reaches(known.upto, upto);
        let Some(known) = known else {
            return Self {
                upto,
                fields,
                since: after.unwrap_or(Pos(0)),
                answers: Pos(0),
            };
        };
        if !reaches(&known) {
            return Self {
                upto,
                fields,
                since: upto,
                ..known
            };
        }
        if known.fields == fields {
            return known;
        }
        Self {
            fields,
            since: after.unwrap_or(Pos(0)),
            ..known
        }
    }

    /// The number of what is asked of a room: all of its members, or those who come up.
    pub fn asked(&self, lazy: bool) -> i64 {
        number(&(self.fields, self.since.0, lazy))
    }
}

/// A number that isn't 0, and is another for what is something else.
fn number(of: &impl Hash) -> i64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    i64::try_from(hasher.finish() >> 1).unwrap_or(i64::MAX) | 1
}

/// The client has to begin anew.
pub fn unknown() -> MatrixError {
    MatrixError::new(
        StatusCode::BAD_REQUEST,
        "M_UNKNOWN_POS",
        "This position isn't known any more, or isn't one of this connection",
    )
}

impl Position {
    /// Reads a position that we gave out, in this life of the database.
    pub async fn read(store: &Store, text: &str) -> Result<Self, MatrixError> {
        let position = Self::parse(text).ok_or_else(unknown)?;
        let token = &position.token;
        if token.epoch != store.epoch() || !token.is_genuine(store) {
            return Err(unknown());
        }
        if token.pos > store.log().head() && token.pos > store.log().refresh().await? {
            store.log_went_back(token.pos).await?;
            return Err(unknown());
        }
        Ok(position)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let position = Self {
            token: Token::parse(parts.next()?).ok()?,
            connection: hex(parts.next()?)?,
            version: hex(parts.next()?)?,
            profiles: None,
        };
        let Some(upto) = parts.next() else {
            return Some(position);
        };
        let told = ProfilesPos {
            // Nothing beyond the position has been told.
            upto: Pos(hex(upto)?).min(position.token.pos),
            fields: hex(parts.next()?)?,
            since: Pos(hex(parts.next()?)?),
            answers: Pos(hex(parts.next()?)?),
        };
        let profiles = Some(told);
        let position = Self {
            profiles,
            ..position
        };
        parts.next().is_none().then_some(position)
    }
}

fn hex(text: &str) -> Option<i64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit()) && text.len() <= 16;
    i64::from_str_radix(text, 16).ok().filter(|_| plain)
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}.{:x}", self.token, self.connection, self.version)?;
        match &self.profiles {
            Some(ProfilesPos {
                upto,
                fields,
                since,
                answers,
            }) => write!(f, ".{:x}.{fields:x}.{:x}.{:x}", upto.0, since.0, answers.0),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_as_itself_and_others_are_refused() {
        let text = "s0123456789ab0f_72594_12.7fffffffffffffff.1";
        let position = Position::parse(text).unwrap();
        assert_eq!((position.connection, position.version), (i64::MAX, 1));
        assert_eq!(position.to_string(), text);
        let text = format!("{text}.11b92.7fffffffffffffff.0.1f");
        let told = Position::parse(&text).unwrap();
        assert_eq!(told.to_string(), text);
        assert_eq!(told.profiles.unwrap().upto, Pos(72_594));
        for text in [
            "",
            "s1_2_3",
            "s1_2_3.1",
            "s1_2_3.1.",
            "s1_2_3.1.2.3",
            "s1_2_3.1.2.3.4",
            "s1_2_3.1.2.3.4.5.6.7",
            "s1_2_3.1.2.-3.4.5.6",
            "s1_2_3.-1.2",
            "s1_2_3.+1.2",
            "s1_2_3.ffffffffffffffff.2",
            "s1_2_3.10000000000000000.2",
            "p5.1.2",
        ] {
            assert!(Position::parse(text).is_none(), "{text}");
        }
    }
}
