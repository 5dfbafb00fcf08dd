//! Firebase Cloud Messaging, spoken to without a gateway
//! (<https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages>).

mod account;
mod answer;
mod payload;

use std::fmt;
use std::time::{Duration, SystemTime};

use url::Url;

use crate::channel::{Channel, Step};
use crate::detail::{Detail, fit};
use crate::error::{BuildError, ConfigError, PusherError};
use crate::message::{NamedBy, PushAnswer, PushRequest};
use crate::notification::{Device, Notification};
use crate::outcome::{Outcome, Reading, reason};
use crate::{endpoint, pusher, shown};
use account::Account;
use answer::Verdict;

/// The most bytes of what a message carries, and with all around it.
const MAX_MESSAGE: usize = 4096;
/// How long to wait when it's too much for the service, and it doesn't say how long.
const PAUSE: Duration = Duration::from_mins(1);

/// A project of Firebase's.
pub struct Fcm {
    account: Account,
    url: Url,
}

impl Fcm {
    /// Where the service is.
    pub const ENDPOINT: &str = "https://fcm.googleapis.com";

    /// Reads a service account (the JSON file that Google gives, which names the project), for a service at this
    /// place: [`Self::ENDPOINT`], or another.
    pub fn new(service_account: &[u8], endpoint: &str) -> Result<Self, ConfigError> {
        let account = Account::read(service_account)?;
        let endpoint = endpoint::check("the endpoint of FCM", endpoint)?;
        let path = ["v1", "projects", account.project(), "messages:send"];
        let url = endpoint::join(&endpoint, &path);
        Ok(Self { account, url })
    }
}

/// A registration is what FCM says it is; it just has to be one word.
fn check_token(pushkey: &str) -> Result<(), PusherError> {
    if !pushkey.is_empty() && pushkey.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(PusherError::Invalid {
        field: "pushkey",
        why: "must be a registration token",
    })
}

impl Channel for Fcm {
    fn check(&self, device: &Device) -> Result<(), PusherError> {
        pusher::check(device)?;
        check_token(&device.pushkey)
    }

    fn next(
        &self,
        notification: &Notification,
        device: &Device,
        at_most: Detail,
        now: SystemTime,
    ) -> Result<Step, BuildError> {
        check_token(&device.pushkey)?;
        let wanted = shown::wanted(notification, device).min(at_most);
        let (detail, body) = fit(wanted, MAX_MESSAGE, |detail| {
            payload::write(notification, device, detail)
        })?;
        let Some(authorization) = self.account.authorization(now) else {
            return Ok(Step::Token(self.account.token_request(now)?));
        };
        let mut request = PushRequest::json(self.url.clone(), body, NamedBy::Operator, detail);
        request.headers.insert("authorization", authorization);
        Ok(Step::Send(request))
    }

    fn read(&self, answer: &PushAnswer, device: &Device, now: SystemTime) -> Reading {
        let error = answer::read(&answer.body);
        let code = error.as_ref().map(|error| error.code.as_str());
        let why = reason(answer.status, code);
        let verdict = error.as_ref().map(|error| error.verdict);
        match (answer.status.as_u16(), verdict) {
            (200..=299, _) => Reading::accepted(),
            (_, Some(Verdict::Gone)) => Reading::rejected(&device.pushkey),
            // It's the app's makers' own account with others that is wrong, not ours.
            (401, Some(Verdict::ThirdParty)) => Reading::dropped(why),
            (401, _) if self.account.forget(now) => Reading::Renew,
            // The operator's settings, which they may get right within a day.
            (401 | 403 | 404, _) => Reading::again(None, why),
            (429, _) => match Reading::of_status(answer, why, now) {
                Reading::Done(Outcome::Again { after: None, why }) => {
                    Reading::again(Some(PAUSE), why)
                }
                other => other,
            },
            _ => Reading::of_status(answer, why, now),
        }
    }

    fn read_token(&self, answer: &PushAnswer, now: SystemTime) -> Outcome {
        self.account.read_token(answer, now)
    }
}

impl fmt::Debug for Fcm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fcm")
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
