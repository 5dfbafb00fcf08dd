//! What an answer must be.

use serde_json::Value;

use crate::{
    exchange::{Exchange, fault},
    schema::Fault,
    specification::Found,
};

/// The statuses that the specification gives for all operations at once, under "Standard error response" and
/// "Transport": any request may be refused with them.
const GENERAL: [u16; 7] = [400, 401, 403, 404, 405, 413, 429];

/// What a server answers that can't reach another, or an application service (application service API, "Querying"), or
/// stops. 500 is none of them: it means a mistake in the server.
const ELSEWHERE: [u16; 4] = [408, 502, 503, 504];

/// What HTTP says of a part of what is there, or that the client has it: of answers that aren't JSON.
const OF_CONTENT: [u16; 3] = [206, 304, 416];

/// Error codes that have a status of their own.
const STATUS_OF: [(&str, &[u16]); 9] = [
    // 405: account data that only the server may change.
    ("M_BAD_JSON", &[400, 405]),
    ("M_NOT_JSON", &[400]),
    ("M_MISSING_PARAM", &[400]),
    ("M_MISSING_TOKEN", &[401]),
    ("M_UNKNOWN_TOKEN", &[401]),
    ("M_NOT_FOUND", &[404]),
    // 502: what another server has is.
    ("M_TOO_LARGE", &[413, 502]),
    ("M_LIMIT_EXCEEDED", &[429]),
    ("M_UNRECOGNIZED", &[404, 405]),
];

/// Whether a server says that it doesn't know such a request.
pub fn is_unrecognized(exchange: &Exchange) -> bool {
    let (404 | 405, Some(body)) = (exchange.status, &exchange.answer) else {
        return false;
    };
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    json["errcode"] == "M_UNRECOGNIZED"
}

/// Whether there may be such an answer.
pub fn status(exchange: &Exchange, found: &Found) -> Vec<Fault> {
    let status = exchange.status;
    let responses = &found.operation.responses;
    let declared = responses.contains_key(&status);
    let is_of_content = OF_CONTENT.contains(&status) && matches!(responses.get(&200), Some(None));
    if declared || is_of_content || GENERAL.contains(&status) || ELSEWHERE.contains(&status) {
        return Vec::new();
    }
    vec![fault("", "is no status of this operation")]
}

/// What is wrong with its body.
pub fn body(exchange: &Exchange, found: &Found) -> Vec<Fault> {
    let declared = found.operation.responses.get(&exchange.status);
    let is_error = exchange.status >= 400;
    let (Some(bytes), true) = (
        &exchange.answer,
        is_error || declared.is_some_and(Option::is_some),
    ) else {
        return Vec::new();
    };
    let value: Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(error) => return vec![fault("", &format!("is no JSON: {error}"))],
    };
    let mut faults = Vec::new();
    // User-interactive authentication asks for more with a 401 that needs no code.
    let asks = exchange.status == 401 && value.get("flows").is_some();
    if is_error && !asks {
        faults.extend(error(exchange.status, &value));
    }
    // Where 401 asks for more, other answers with it are as everywhere.
    if let Some(Some(schema)) = declared
        && (asks || exchange.status != 401)
    {
        faults.extend(schema.faults(&value, &found.api.definitions));
    }
    faults
}

/// What is wrong with an error.
fn error(status: u16, value: &Value) -> Option<Fault> {
    let Some(code) = value["errcode"].as_str() else {
        return Some(fault("/errcode", "is no string"));
    };
    if !is_code(code) {
        return Some(fault(
            "/errcode",
            &format!("is {code:?}, which has not the form of one"),
        ));
    }
    if !value["error"].is_string() {
        return Some(fault("/error", "is no string"));
    }
    let (_, statuses) = STATUS_OF.iter().find(|(of, _)| *of == code)?;
    (!statuses.contains(&status)).then(|| fault("/errcode", &format!("is {code} with {status}")))
}

/// `M_FORBIDDEN`, `ORG.MATRIX.MSC1234_OTHER`.
fn is_code(code: &str) -> bool {
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    code.starts_with(|c: char| c.is_ascii_uppercase())
        && code.contains('_')
        && code.chars().all(plain)
}
