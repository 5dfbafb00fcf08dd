//! Asking a service whether it is there.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;

use super::{AppserviceClient, CallError};
use crate::Registration;

/// How long we wait.
const WITHIN: Duration = Duration::from_secs(30);
/// How much of its answer is passed on.
const MOST: usize = 4 << 10;

/// Why it isn't there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// There is no answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It answers something else than 200.
    #[error("it answers {status}")]
    Status {
        /// What.
        status: StatusCode,
        /// The body, or its beginning.
        body: String,
    },
}

impl AppserviceClient {
    /// `POST /_matrix/app/v1/ping`: how long the service took to answer. `transaction_id` is passed on.
    ///
    /// # Errors
    /// It can't be reached, or doesn't answer 200.
    pub async fn ping(
        &self,
        service: &Registration,
        transaction_id: Option<&str>,
    ) -> Result<Duration, PingError> {
        let mut body = serde_json::Map::new();
        if let Some(id) = transaction_id {
            body.insert("transaction_id".into(), id.into());
        }
        let body = Bytes::from(serde_json::Value::from(body).to_string());
        let before = Instant::now();
        let path = ["_matrix", "app", "v1", "ping"];
        let answer = self.post(service, &path, body, (WITHIN, MOST)).await?;
        let took = before.elapsed();
        if answer.status == StatusCode::OK {
            return Ok(took);
        }
        Err(PingError::Status {
            status: answer.status,
            body: String::from_utf8_lossy(&answer.body).into_owned(),
        })
    }
}
