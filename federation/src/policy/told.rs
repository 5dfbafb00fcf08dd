//! What is told of a signature that isn't given.

use http::StatusCode;
use rhizome_protocol::policy::{KIND, PolicyServer};

use super::Unsigned;
use crate::{
    MatrixError,
    outbound::{OutboundError, refusal},
};

/// Codes that say something of the question, and nothing of the event.
const OF_THE_QUESTION: [&str; 3] = ["M_BAD_JSON", "M_NOT_JSON", "M_UNRECOGNIZED"];

/// Whether an answer is about the event, so that asking again doesn't help.
pub(super) fn is_refusal(error: &MatrixError) -> bool {
    matches!(error.status.as_u16(), 400 | 403 | 404 | 405 | 413)
}

/// What whoever made the event is told.
pub(super) fn of(policy: &PolicyServer, why: Unsigned) -> MatrixError {
    let server = policy.server();
    let remedy = format!("whoever may set {KIND} can empty it to do without a policy server");
    match why {
        Unsigned::Refused(error) => refused(error),
        Unsigned::Invalid(rejection) => {
            MatrixError::bad_gateway(format!("{}; {remedy}", rejection.reason))
        }
        Unsigned::NotNow(OutboundError::Remote(error))
            if error.status == StatusCode::TOO_MANY_REQUESTS =>
        {
            refusal::for_client(error)
        }
        Unsigned::NotNow(error) => {
            let status = match error {
                OutboundError::Timeout => StatusCode::GATEWAY_TIMEOUT,
                _ => StatusCode::BAD_GATEWAY,
            };
            let message = format!(
                "The room's policy server {server} has to sign this first, and doesn't: {error}. Try again later; \
                 {remedy}"
            );
            MatrixError::new(status, "M_UNKNOWN", message)
        }
    }
}

/// The policy server's own words, unless clients would take its code for one of ours and act upon it.
fn refused(error: MatrixError) -> MatrixError {
    let of_question = OF_THE_QUESTION.contains(&&*error.errcode);
    let told = refusal::for_client(error.clone());
    if error.status == StatusCode::BAD_REQUEST && told.status != error.status && !of_question {
        return MatrixError::new(error.status, "M_FORBIDDEN", error.message);
    }
    told
}

#[cfg(test)]
mod tests {
    use rhizome_protocol::Object;
    use serde_json::json;

    use super::*;

    fn policy() -> PolicyServer {
        let content = json!({ "via": "policy.org", "public_keys": { "ed25519": "" } });
        let content: Object = content.as_object().unwrap().clone();
        PolicyServer::of(&content).unwrap()
    }

    fn remote(status: u16, errcode: &'static str) -> MatrixError {
        MatrixError::new(StatusCode::from_u16(status).unwrap(), errcode, "spam")
    }

    #[test]
    fn refusals_are_told_as_they_are_but_for_what_clients_act_upon() {
        for (status, errcode, told_status, told_errcode) in [
            (400, "M_FORBIDDEN", 400, "M_FORBIDDEN"),
            (403, "M_FORBIDDEN", 403, "M_FORBIDDEN"),
            (404, "M_NOT_FOUND", 404, "M_NOT_FOUND"),
            (400, "ORG.EXAMPLE.SPAM", 400, "M_FORBIDDEN"),
            (400, "M_UNKNOWN_TOKEN", 400, "M_FORBIDDEN"),
            (403, "M_UNKNOWN_TOKEN", 403, "M_FORBIDDEN"),
            (400, "M_BAD_JSON", 502, "M_UNKNOWN"),
            (404, "M_UNRECOGNIZED", 502, "M_UNKNOWN"),
        ] {
            let error = remote(status, errcode);
            assert!(is_refusal(&error), "{status}");
            let told = of(&policy(), Unsigned::Refused(error));
            assert_eq!(
                (told.status.as_u16(), &*told.errcode),
                (told_status, told_errcode),
                "{status} {errcode}"
            );
        }
    }

    #[test]
    fn who_is_busy_or_away_has_refused_nothing() {
        for (status, told_status) in [(429, 429), (401, 502), (408, 502), (500, 502), (503, 502)] {
            let error = remote(status, "M_FORBIDDEN");
            assert!(!is_refusal(&error), "{status}");
            let why = Unsigned::NotNow(OutboundError::Remote(error));
            assert_eq!(of(&policy(), why).status.as_u16(), told_status);
        }
        let slow = of(&policy(), Unsigned::NotNow(OutboundError::Timeout));
        assert_eq!(slow.status, StatusCode::GATEWAY_TIMEOUT);
        assert!(slow.message.contains("policy.org") && slow.message.contains(KIND));
    }
}
