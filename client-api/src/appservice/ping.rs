//! A service asks whether it can be reached
//! (<https://spec.matrix.org/v1.19/application-service-api/#pinging>).

use axum::extract::State;
use http::StatusCode;
use rhizome_appservice::{CallError, PingError};
use rhizome_edge::MatrixError;
use ruma::api::client::appservice::request_ping::v1 as ping;

use crate::{App, Ruma};

/// The longest transaction id, in bytes.
const MAX_TXN_ID: usize = 255;

/// `POST /_matrix/client/v1/appservice/{appserviceId}/ping`
pub async fn ping(
    State(app): State<App>,
    Ruma { who, req, .. }: Ruma<ping::Request>,
) -> Result<ping::Response, MatrixError> {
    let services = app.federation.services().current();
    let service = services.by_id(&req.appservice_id);
    let Some(service) = service.filter(|service| service.id == who.id) else {
        return Err(MatrixError::forbidden(
            "The access token isn't that of the application service in the path",
        ));
    };
    let transaction_id = req
        .transaction_id
        .as_deref()
        .map(ruma::TransactionId::as_str);
    if transaction_id.is_some_and(|id| id.len() > MAX_TXN_ID) {
        return Err(MatrixError::invalid_param(format!(
            "A transaction id must not be longer than {MAX_TXN_ID} bytes"
        )));
    }
    let client = app.federation.service_client();
    let took = client.ping(service, transaction_id).await.map_err(told)?;
    Ok(ping::Response::new(took))
}

fn told(error: PingError) -> MatrixError {
    match error {
        PingError::Call(CallError::NoUrl) => MatrixError::new(
            StatusCode::BAD_REQUEST,
            "M_URL_NOT_SET",
            "The registration of the application service has no URL",
        ),
        PingError::Call(CallError::Timeout) => MatrixError::new(
            StatusCode::GATEWAY_TIMEOUT,
            "M_CONNECTION_TIMEOUT",
            "The application service didn't answer in time",
        ),
        PingError::Call(CallError::Unreachable(why)) => MatrixError::new(
            StatusCode::BAD_GATEWAY,
            "M_CONNECTION_FAILED",
            format!("The application service can't be reached: {why}"),
        ),
        PingError::Status { status, body } => MatrixError::new(
            StatusCode::BAD_GATEWAY,
            "M_BAD_STATUS",
            format!("The application service answers {status}"),
        )
        .with("status", status.as_u16())
        .with("body", body),
    }
}
