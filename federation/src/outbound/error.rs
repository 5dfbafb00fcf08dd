//! What can go wrong with a question to another server.

use http::StatusCode;
use thiserror::Error;

use crate::{MatrixError, outbound::refusal};

/// Why a request to another server has no answer.
#[derive(Debug, Clone, Error)]
pub enum OutboundError {
    /// The name doesn't resolve.
    #[error("can't find server: {0}")]
    Discovery(String),
    /// Connecting (or the egress rules), TLS or the transfer failed.
    #[error("can't reach server: {0}")]
    Transport(String),
    /// It took longer than allowed.
    #[error("the server took too long to answer")]
    Timeout,
    /// The server refused.
    #[error("the server answered {0}")]
    Remote(MatrixError),
    /// The answer isn't what the specification says, or too large.
    #[error("the server's answer is unusable: {0}")]
    Answer(String),
    /// The request couldn't be made: a bug here.
    #[error("the request couldn't be encoded: {0}")]
    Request(String),
}

impl OutboundError {
    /// The status that the other server answered with, if it did.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Remote(error) => Some(error.status),
            _ => None,
        }
    }

    /// Whether the other server is not there at all, rather than unwilling.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Discovery(_) | Self::Transport(_) | Self::Timeout
        )
    }
}

/// For an endpoint that passes a question on: what the asker is told.
impl From<OutboundError> for MatrixError {
    fn from(error: OutboundError) -> Self {
        match error {
            OutboundError::Remote(error) => refusal::for_client(error),
            OutboundError::Timeout => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "M_UNKNOWN", error.to_string())
            }
            error => Self::bad_gateway(error.to_string()),
        }
    }
}

/// An error with its causes, which `reqwest` hides behind the first.
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let inner = error.to_string();
        if !text.ends_with(&inner) {
            text.push_str(": ");
            text.push_str(&inner);
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_passes_a_question_on_tells_what_became_of_it() {
        let told = |error| MatrixError::from(error).status;
        let refused = MatrixError::unauthorized("no");
        for (error, status) in [
            (OutboundError::Remote(refused), StatusCode::BAD_GATEWAY),
            (
                OutboundError::Remote(MatrixError::forbidden("no")),
                StatusCode::FORBIDDEN,
            ),
            (OutboundError::Timeout, StatusCode::GATEWAY_TIMEOUT),
            (
                OutboundError::Answer(String::new()),
                StatusCode::BAD_GATEWAY,
            ),
        ] {
            assert_eq!(told(error), status);
        }
    }
}
