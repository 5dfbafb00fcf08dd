//! Ids of users who may come to be.

use http::StatusCode;
use rhizome_edge::MatrixError;
use ruma::{OwnedUserId, ServerName, UserId};

/// A user id is at most this long, in bytes (<https://spec.matrix.org/v1.19/appendices/#user-identifiers>).
const MAX_USER_ID: usize = 255;

/// The id that an account of this name would have on `server`. Capitals are taken for small letters.
///
/// # Errors
/// `M_INVALID_USERNAME` outside the grammar of new user ids.
pub fn user_id(server: &ServerName, username: &str) -> Result<OwnedUserId, MatrixError> {
    let invalid =
        |message: String| MatrixError::new(StatusCode::BAD_REQUEST, "M_INVALID_USERNAME", message);
    let name = username.to_ascii_lowercase();
    if name.len() + server.as_str().len() + 2 > MAX_USER_ID {
        return Err(invalid(format!(
            "A user id must not be longer than {MAX_USER_ID} bytes, the server's name included"
        )));
    }
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'=' | b'-' | b'/' | b'+');
    if name.is_empty() || !name.bytes().all(allowed) {
        return Err(invalid(
            "A user name consists of a-z, 0-9 and ._=-/+".into(),
        ));
    }
    UserId::parse(format!("@{name}:{server}")).map_err(|error| invalid(error.to_string()))
}
