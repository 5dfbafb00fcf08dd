//! What all ways to a device have in common, and how a notification goes along one.

use std::time::SystemTime;

use crate::detail::Detail;
use crate::error::{BuildError, PusherError};
use crate::message::{PushAnswer, PushRequest, SendError};
use crate::notification::{Device, Notification};
use crate::outcome::{Outcome, Reading};

/// Requests for one notification at most: each detail once, and tokens, which are asked for and renewed.
const MOST_REQUESTS: usize = 8;

/// A way to devices: a kind of pusher, with what the operator set for it.
pub trait Channel: Send + Sync {
    /// Checks a pusher that a client sets; its tweaks don't matter.
    fn check(&self, device: &Device) -> Result<(), PusherError>;

    /// What is to be sent next for a notification that tells `at_most` so much.
    fn next(
        &self,
        notification: &Notification,
        device: &Device,
        at_most: Detail,
        now: SystemTime,
    ) -> Result<Step, BuildError>;

    /// What the answer to a [`Step::Send`] says.
    fn read(&self, answer: &PushAnswer, device: &Device, now: SystemTime) -> Reading;

    /// What the answer to a [`Step::Token`] says: [`Outcome::Accepted`] if there is a token now.
    fn read_token(&self, answer: &PushAnswer, _now: SystemTime) -> Outcome {
        let why = format!("{}: no token was asked for", answer.status.as_u16());
        Outcome::Dropped { why }
    }
}

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The notification.
    Send(PushRequest),
    /// First, a request for a token. Several at the same time do no harm.
    Token(PushRequest),
}

/// Hands a notification over, with all that is needed on the way: a token first, less where it is too large. Each
/// request is sent by `send`; what it can't send ends the attempt. Waiting and trying again are the caller's.
pub async fn deliver<S, F>(
    channel: &dyn Channel,
    notification: &Notification,
    device: &Device,
    now: impl Fn() -> SystemTime,
    send: S,
) -> Outcome
where
    S: Fn(PushRequest) -> F,
    F: Future<Output = Result<PushAnswer, SendError>>,
{
    let mut at_most = Detail::Full;
    for _ in 0..MOST_REQUESTS {
        let step = match channel.next(notification, device, at_most, now()) {
            Ok(step) => step,
            Err(error) => return dropped(&error.to_string()),
        };
        let (request, for_token) = match step {
            Step::Send(request) => (request, false),
            Step::Token(request) => (request, true),
        };
        let detail = request.detail;
        let answer = match send(request).await {
            Ok(answer) => answer,
            Err(SendError::Failed(why)) => return Outcome::Again { after: None, why },
            Err(SendError::Refused(why)) => return Outcome::Dropped { why },
        };
        if for_token {
            match channel.read_token(&answer, now()) {
                Outcome::Accepted => continue,
                other => return other,
            }
        }
        match channel.read(&answer, device, now()) {
            Reading::Done(outcome) => return outcome,
            Reading::Renew => {}
            Reading::TooLarge => match detail.less() {
                Some(less) => at_most = less,
                None => return dropped("even the least that can be told is too large"),
            },
        }
    }
    Outcome::Again {
        after: None,
        why: "it took too many requests".to_owned(),
    }
}

fn dropped(why: &str) -> Outcome {
    let why = why.to_owned();
    Outcome::Dropped { why }
}
