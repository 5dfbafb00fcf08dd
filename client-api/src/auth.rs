//! Access tokens: from a request to its user and device.

use rhizome_federation::MatrixError;

use crate::{App, extract::Caller};

/// What an endpoint wants to know about its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: a token is ignored.
    Nothing,
    /// A token is used if there is one; a wrong one is an error.
    TokenIfAny,
    /// A valid token.
    Token,
}

/// Access tokens seen lately.
#[derive(Default)]
pub struct TokenCache {}

/// The access token of a request: of the `Authorization` header, else of the query.
pub fn token_of(parts: &http::request::Parts) -> Result<Option<String>, MatrixError> {
    let _ = parts;
    unimplemented!()
}

/// Whose token it is. `M_UNKNOWN_TOKEN` if nobody's, with `soft_logout` if it has expired.
pub async fn authenticate(app: &App, token: &str) -> Result<Caller, MatrixError> {
    let _ = (app, token);
    unimplemented!()
}
