//! The fields of a local user's profile: what they may hold, and keeping them.

use http::StatusCode;
use rhizome_edge::MatrixError;
use rhizome_storage::{SpreadChange, SpreadTo, UserNo};
use serde_json::Value;

use crate::App;

/// The longest display name, in bytes.
const MAX_NAME: usize = 1024;
/// The longest picture address, in bytes.
const MAX_AVATAR: usize = 1024;
/// The longest name of a field, in bytes
/// (<https://spec.matrix.org/v1.19/client-server-api/#profiles>).
const MAX_KEY: usize = 255;

/// Sets a field, or removes it. Rooms hear nothing of it.
///
/// # Errors
/// `M_KEY_TOO_LARGE`, `M_INVALID_PARAM`, `M_BAD_JSON`, `M_PROFILE_TOO_LARGE`.
pub async fn write(
    app: &App,
    user: UserNo,
    field: &str,
    value: Option<Value>,
) -> Result<(), MatrixError> {
    check(field, value.as_ref())?;
    app.store.set_profile_field(user, field, value).await?;
    Ok(())
}

/// Sets a name or picture, or removes it, and has rooms told of it.
///
/// # Errors
/// As [`write`].
pub async fn spread(
    app: &App,
    user: UserNo,
    field: &str,
    value: Option<Value>,
    to: SpreadTo,
) -> Result<(), MatrixError> {
    check(field, value.as_ref())?;
    let spread = SpreadChange {
        user,
        field: field.to_owned(),
        value: value.and_then(|value| value.as_str().map(ToOwned::to_owned)),
        to,
    };
    app.store.spread_profile_field(spread).await?;
    Ok(())
}

/// Whether a field may hold this; `None` is what is removed.
///
/// # Errors
/// `M_KEY_TOO_LARGE`, `M_INVALID_PARAM`, `M_BAD_JSON`.
pub fn check(field: &str, value: Option<&Value>) -> Result<(), MatrixError> {
    if field.is_empty() || field.len() > MAX_KEY {
        return Err(MatrixError::new(
            StatusCode::BAD_REQUEST,
            "M_KEY_TOO_LARGE",
            format!("The name of a field has 1 to {MAX_KEY} bytes"),
        ));
    }
    let mut bytes = field.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase());
    let goes_on = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    let names = begins && bytes.all(goes_on);
    let has_space = matches!(field, "displayname" | "avatar_url") || field.contains('.');
    // What is there in spite of that may go.
    if value.is_some() && !(names && has_space) {
        return Err(MatrixError::invalid_param(
            "The name of a field begins with a-z, consists of a-z, 0-9 and -_., and has a namespace, such as org.example.mood",
        ));
    }
    let longest = match field {
        "displayname" => MAX_NAME,
        "avatar_url" => MAX_AVATAR,
        _ => return Ok(()),
    };
    match value {
        None => Ok(()),
        Some(Value::String(text)) if text.len() <= longest => Ok(()),
        Some(Value::String(_)) => Err(MatrixError::invalid_param(format!(
            "{field} must not be longer than {longest} bytes"
        ))),
        Some(_) => Err(MatrixError::bad_json(format!("{field} must be a string"))),
    }
}
