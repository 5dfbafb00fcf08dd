//! X-Matrix: requests between servers are signed.

use axum::body::Bytes;
use ruma::{OwnedServerName, api::federation::authentication::ServerSignatures};

use crate::{Federation, MatrixError, Scheme};

impl Scheme<Federation> for ServerSignatures {
    type Who = OwnedServerName;

    async fn identify(
        _fed: &Federation,
        _request: &http::Request<Bytes>,
    ) -> Result<OwnedServerName, MatrixError> {
        unimplemented!()
    }
}
