//! Identity servers that users name.

use http::StatusCode;
use rhizome_edge::MatrixError;
use rhizome_federation::identity::IdentityServer;

use crate::App;

/// An identity server, if users may use it.
///
/// # Errors
/// 400 `M_SERVER_NOT_TRUSTED` if they mayn't, `M_INVALID_PARAM` if it is none.
pub(crate) fn server(app: &App, name: &str) -> Result<IdentityServer, MatrixError> {
    let server = app.federation.identity_server(name)?;
    let allowed = app.config.identity.servers.as_ref();
    if allowed.is_none_or(|allowed| allowed.iter().any(|one| one == server.name())) {
        return Ok(server);
    }
    let message = format!(
        "This server doesn't trust the identity server {}",
        server.name()
    );
    Err(MatrixError::new(
        StatusCode::BAD_REQUEST,
        "M_SERVER_NOT_TRUSTED",
        message,
    ))
}
