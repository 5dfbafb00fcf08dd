//! How one notification goes along a channel, whatever that is.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, Method, StatusCode};
use rhizome_push::{
    BuildError, Channel, Detail, Device, NamedBy, Notification, Outcome, PushAnswer, PushRequest,
    PusherError, Reading, SendError, Step, deliver,
};
use serde_json::json;

use crate::world::{device, message};

/// A channel that says the same again and again.
struct Stuck(Reading, bool);

impl Channel for Stuck {
    fn check(&self, _: &Device) -> Result<(), PusherError> {
        Ok(())
    }

    fn next(
        &self,
        _: &Notification,
        _: &Device,
        detail: Detail,
        _: SystemTime,
    ) -> Result<Step, BuildError> {
        let request = PushRequest {
            method: Method::POST,
            url: "https://push.example.org/".parse().unwrap(),
            headers: HeaderMap::new(),
            body: vec![],
            named_by: NamedBy::User,
            detail,
        };
        Ok(if self.1 {
            Step::Token(request)
        } else {
            Step::Send(request)
        })
    }

    fn read(&self, _: &PushAnswer, _: &Device, _: SystemTime) -> Reading {
        self.0.clone()
    }

    fn read_token(&self, _: &PushAnswer, _: SystemTime) -> Outcome {
        Outcome::Accepted
    }
}

/// The outcome, and the details that were sent.
async fn attempt(channel: Stuck, error: Option<SendError>) -> (Outcome, Vec<Detail>) {
    let sent = RefCell::new(vec![]);
    let send = |request: PushRequest| {
        sent.borrow_mut().push(request.detail);
        let answer = PushAnswer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: vec![],
        };
        std::future::ready(error.clone().map_or(Ok(answer), Err))
    };
    let phone = device("phone", &json!({}));
    let outcome = deliver(&channel, &message("hello"), &phone, || UNIX_EPOCH, send).await;
    (outcome, sent.into_inner())
}

#[tokio::test]
async fn what_is_always_too_large_is_dropped_in_the_end() {
    let (outcome, sent) = attempt(Stuck(Reading::TooLarge, false), None).await;
    assert!(matches!(outcome, Outcome::Dropped { .. }));
    let all = [
        Detail::Full,
        Detail::WithoutContent,
        Detail::EventIdOnly,
        Detail::Bare,
    ];
    assert_eq!(sent, all);
}

#[tokio::test]
async fn tokens_that_never_do_end_the_attempt() {
    for channel in [Stuck(Reading::Renew, false), Stuck(Reading::Renew, true)] {
        let (outcome, sent) = attempt(channel, None).await;
        assert!(matches!(outcome, Outcome::Again { .. }));
        assert_eq!(sent.len(), 8);
    }
}

#[tokio::test]
async fn what_cant_be_sent_comes_again_and_what_must_not_is_dropped() {
    let stuck = || Stuck(Reading::Done(Outcome::Accepted), false);
    assert_eq!(attempt(stuck(), None).await.0, Outcome::Accepted);
    let why = "no route".to_owned();
    let (outcome, _) = attempt(stuck(), Some(SendError::Failed(why.clone()))).await;
    assert_eq!(
        outcome,
        Outcome::Again {
            after: None,
            why: why.clone()
        }
    );
    let (outcome, _) = attempt(stuck(), Some(SendError::Refused(why.clone()))).await;
    assert_eq!(outcome, Outcome::Dropped { why });
}

#[test]
fn an_attempt_may_be_spawned() {
    fn sends<T: Send>(_: &T) {}
    let channel: Box<dyn Channel> = Box::new(Stuck(Reading::Renew, false));
    let (told, phone) = (message("hello"), device("phone", &json!({})));
    let send = async |_: PushRequest| Err(SendError::Failed(String::new()));
    sends(&deliver(&*channel, &told, &phone, SystemTime::now, send));
}
