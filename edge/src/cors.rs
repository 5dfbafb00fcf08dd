//! What pages of other origins may do (<https://spec.matrix.org/v1.19/client-server-api/#web-browser-clients>).

use http::{HeaderMap, HeaderValue, header};

/// Allows every origin what the specification says.
pub(crate) fn allow(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, POST, PUT, DELETE, OPTIONS",
        ),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "X-Requested-With, Content-Type, Authorization",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
