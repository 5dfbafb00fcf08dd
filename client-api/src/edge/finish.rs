//! Work that goes on when the client hangs up.
//!
//! A handler is dropped with its connection, wherever it stands. One that writes once needs nothing: its
//! write set is in the queue, or nothing of it is written. One that writes several times, each resting on
//! the one before, does so in here.

use std::panic::resume_unwind;

use rhizome_federation::MatrixError;
use tracing::Instrument as _;

/// Runs `work` to its end, whoever still waits for it.
///
/// # Errors
/// Those of the work.
pub async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, MatrixError>> + Send + 'static,
) -> Result<T, MatrixError> {
    match tokio::spawn(work.in_current_span()).await {
        Ok(done) => done,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is shutting down.
            Err(_) => Err(MatrixError::busy()),
        },
    }
}
