//! Positions of connections: `<sync token>.<connection>.<version>`. What is before the dot is a token like that of
//! `/sync`, so that histories can be read from there.

use std::fmt;

use http::StatusCode;
use rhizome_storage::Store;

use crate::{MatrixError, place::token::Token};

/// Where a client stands.
#[derive(Debug, Clone)]
pub struct Position {
    /// Up to where it was told what it wants.
    pub token: Token,
    /// On which connection.
    pub connection: i64,
    /// What it was told before that.
    pub version: i64,
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
            connection: number(parts.next()?)?,
            version: number(parts.next()?)?,
        };
        parts.next().is_none().then_some(position)
    }
}

fn number(text: &str) -> Option<i64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit()) && text.len() <= 16;
    i64::from_str_radix(text, 16).ok().filter(|_| plain)
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}.{:x}", self.token, self.connection, self.version)
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
        for text in [
            "",
            "s1_2_3",
            "s1_2_3.1",
            "s1_2_3.1.",
            "s1_2_3.1.2.3",
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
