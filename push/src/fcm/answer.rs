//! What FCM says of a message that it doesn't take.

use serde::Deserialize;
use serde_json::Value;

/// An error.
pub(super) struct FcmError {
    /// The most telling of its codes.
    pub(super) code: String,
    pub(super) verdict: Verdict,
}

/// What an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The registration is gone, or was never one of this project.
    Gone,
    /// The project's account with Apple or with a push service isn't taken there.
    ThirdParty,
    /// Anything else.
    Other,
}

#[derive(Deserialize)]
struct Body {
    error: Error,
}

#[derive(Deserialize)]
struct Error {
    #[serde(default)]
    status: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Vec<Value>,
}

/// Reads an error, if it is one of FCM's.
pub(super) fn read(body: &[u8]) -> Option<FcmError> {
    let Body { error } = serde_json::from_slice(body).ok()?;
    let code = error.details.iter().find_map(|detail| {
        let code = detail.get("errorCode")?.as_str()?;
        Some(code.to_owned())
    });
    let code = code.unwrap_or_else(|| error.status.clone());
    let verdict = match code.as_str() {
        "UNREGISTERED" | "NOT_FOUND" | "SENDER_ID_MISMATCH" => Verdict::Gone,
        "INVALID_ARGUMENT" if names_token(&error) => Verdict::Gone,
        "THIRD_PARTY_AUTH_ERROR" => Verdict::ThirdParty,
        _ => Verdict::Other,
    };
    Some(FcmError { code, verdict })
}

/// Whether the argument that is invalid is the registration. It's told in one of two ways.
fn names_token(error: &Error) -> bool {
    let mut violations = error
        .details
        .iter()
        .filter_map(|detail| detail.get("fieldViolations")?.as_array());
    violations.any(|all| all.iter().any(|one| one["field"] == "message.token"))
        || error.message.contains("not a valid FCM registration token")
}
