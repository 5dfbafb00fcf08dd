//! What an answer says of a notification.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, header};

use crate::message::PushAnswer;

/// The longest that another server makes us wait.
const LONGEST_WAIT: Duration = Duration::from_hours(24);
/// The most characters of a reason.
const MAX_REASON: usize = 64;

/// What has become of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is handed over.
    Accepted,
    /// It is done with, and these pushkeys of those that it went to are no longer valid: their pushers go.
    Rejected(Vec<String>),
    /// It is worth another try.
    Again {
        /// The other side said to wait this long.
        after: Option<Duration>,
        /// Why, for the log.
        why: String,
    },
    /// It isn't worth another try. The pusher stays.
    Dropped {
        /// Why, for the log.
        why: String,
    },
}

/// What one answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// What has become of the notification.
    Done(Outcome),
    /// It is too large: something less may do.
    TooLarge,
    /// The token that it was sent with isn't taken any more. It is forgotten, so the next request has another one.
    Renew,
}

impl Reading {
    pub(crate) fn accepted() -> Self {
        Self::Done(Outcome::Accepted)
    }

    pub(crate) fn rejected(pushkey: &str) -> Self {
        Self::Done(Outcome::Rejected(vec![pushkey.to_owned()]))
    }

    pub(crate) fn again(after: Option<Duration>, why: String) -> Self {
        Self::Done(Outcome::Again { after, why })
    }

    pub(crate) fn dropped(why: String) -> Self {
        Self::Done(Outcome::Dropped { why })
    }

    /// What the status alone says, as servers of all kinds mean it.
    pub(crate) fn of_status(answer: &PushAnswer, why: String, now: SystemTime) -> Self {
        match answer.status.as_u16() {
            200..=299 => Self::accepted(),
            413 => Self::TooLarge,
            408 | 425 | 429 | 500 | 502..=599 => {
                Self::again(retry_after(&answer.headers, now), why)
            }
            _ => Self::dropped(why),
        }
    }
}

/// Status and code of an answer as a text for the log: short, and without what could break its lines.
pub(crate) fn reason(status: StatusCode, code: Option<&str>) -> String {
    let code = code.unwrap_or_default().chars();
    let code: String = code
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.'))
        .take(MAX_REASON)
        .collect();
    format!("{} {code}", status.as_u16()).trim_end().to_owned()
}

/// How long the other side wants us to wait: seconds or a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn asked(text: &'static str) -> Option<Duration> {
        let headers = [(header::RETRY_AFTER, text.parse().unwrap())]
            .into_iter()
            .collect();
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        retry_after(&headers, now)
    }

    #[test]
    fn waiting_is_told_in_seconds_or_as_a_date_and_bounded() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(asked("120"), seconds(120));
        assert_eq!(asked("Sun, 06 Nov 1994 08:50:37 GMT"), seconds(60));
        assert_eq!(asked("Sun, 06 Nov 1994 08:00:00 GMT"), seconds(0));
        assert_eq!(asked("18446744073709551615"), Some(LONGEST_WAIT));
        assert_eq!(asked("soon"), None);
        assert_eq!(asked("-1"), None);
        assert_eq!(retry_after(&HeaderMap::new(), UNIX_EPOCH), None);
    }

    #[test]
    fn reasons_fit_into_a_line() {
        let status = StatusCode::BAD_REQUEST;
        assert_eq!(reason(status, None), "400");
        assert_eq!(reason(status, Some("Bad\nToken\u{202e}")), "400 BadToken");
        assert_eq!(
            reason(status, Some(&"x".repeat(1000))).len(),
            4 + MAX_REASON
        );
    }
}
