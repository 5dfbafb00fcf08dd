//! A client that hangs up in the middle: what belongs together is all there, or all not, wherever it was
//! cut off.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::{Router, body::Body};
use http::{Method, Request, StatusCode, header};
use rhizome_storage::testing::eventually;
use rhizome_storage::{EntryKind, Pos, Store, UserNo, WriteSet};
use ruma::{OwnedDeviceId, UserId};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::harness::{Server, User, story};

const PASSWORD: &str = "a good password";
/// More awaits than any of these requests has.
const MOST: usize = 10_000;

/// A future that is given up at the n-th place at which it waits.
struct CutOff<F> {
    inner: Pin<Box<F>>,
    left: usize,
}

impl<F: Future> Future for CutOff<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.inner.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => {
                self.left -= 1;
                Poll::Pending
            }
        }
    }
}

/// Makes a request whose client hangs up at the n-th place at which its handler waits; `None` if it came
/// to that. Returns when nothing of it is under way any more.
async fn cut_off(
    server: &Server,
    at: usize,
    (method, path, body): (Method, &str, Value),
    token: Option<&str>,
) -> Option<StatusCode> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("/_matrix/client/v3{path}"));
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Body::from(body.to_string())).unwrap();
    let router: Router = server.router.clone();
    let answer = CutOff {
        inner: Box::pin(router.oneshot(request)),
        left: at,
    }
    .await;
    // It goes on without its client, to its end.
    while !server.unfinished.is_empty() {
        tokio::task::yield_now().await;
    }
    // What it has put into the queue comes before this.
    server.store.commit(WriteSet::default()).await.unwrap();
    Some(answer?.unwrap().status())
}

/// What the log has said of a user since a position: whether tokens ended, whether devices changed.
fn told(store: &Store, user: UserNo, since: Pos) -> (bool, bool) {
    let log = store.log();
    let entries = log.tail(since, log.head()).unwrap();
    let any = |wanted: fn(&EntryKind) -> Option<UserNo>| {
        (entries.iter()).any(|entry| wanted(&entry.kind) == Some(user))
    };
    let revoked = any(|kind| match kind {
        EntryKind::TokenRevoked(revoked) => Some(revoked.user),
        _ => None,
    });
    let changed = any(|kind| match kind {
        EntryKind::DeviceList(list) => Some(list.user),
        _ => None,
    });
    (revoked, changed)
}

/// Whether a token is good: for the server that has it in its cache, and for one that has none.
async fn works(user: &User) -> (bool, bool) {
    let fresh = Server::new(user.server.store.clone());
    let fresh = User {
        server: fresh,
        ..user.clone()
    };
    let good = async |user: &User| user.get("/account/whoami").await.0 == StatusCode::OK;
    (good(user).await, good(&fresh).await)
}

async fn device_of(user: &User) -> OwnedDeviceId {
    let me = user.read("/account/whoami").await;
    me["device_id"].as_str().unwrap().into()
}

async fn number_of(user: &User) -> UserNo {
    let id = <&UserId>::try_from(user.id.as_str()).unwrap();
    user.server.store.user_no(id).await.unwrap()
}

fn confirmed(user: &User, mut body: Value) -> Value {
    body["auth"] = json!({"type": "m.login.password", "password": PASSWORD,
        "identifier": {"type": "m.id.user", "user": user.id}});
    body
}

/// Each way to end a device's session, cut off everywhere: the device, its tokens, what caches are told
/// and what other users are told end in one moment.
#[tokio::test]
async fn the_end_of_a_session_is_whole() {
    story(|server| async move {
        let ada = server.register("ada").await;
        let user = number_of(&ada).await;
        for way in ["logout", "logout_all", "delete", "delete_many", "password"] {
            for at in 0..MOST {
                let kept = ada.another_device().await;
                let ended = ada.another_device().await;
                let device = device_of(&ended).await;
                assert_eq!(works(&ended).await, (true, true));
                let (method, path, body) = match way {
                    "logout" => (Method::POST, "/logout".to_owned(), json!({})),
                    "logout_all" => (Method::POST, "/logout/all".to_owned(), json!({})),
                    "delete" => {
                        let body = confirmed(&ada, json!({}));
                        (Method::DELETE, format!("/devices/{device}"), body)
                    }
                    "delete_many" => {
                        let body = confirmed(&ada, json!({ "devices": [device] }));
                        (Method::POST, "/delete_devices".to_owned(), body)
                    }
                    _ => {
                        let new = json!({ "new_password": PASSWORD, "logout_devices": true });
                        let body = confirmed(&ada, new);
                        (Method::POST, "/account/password".to_owned(), body)
                    }
                };
                let by = match way {
                    "logout" | "logout_all" => &ended,
                    _ => &kept,
                };
                let since = server.store.log().head();
                let request = (method, path.as_str(), body);
                let answer = cut_off(&server, at, request, Some(&by.token)).await;
                let there = server.store.device(user, &device).await.unwrap().is_some();
                let now = (told(&server.store, user, since), works(&ended).await);
                let gone = ((true, true), (false, false));
                let untouched = ((false, false), (true, true));
                let wanted = if there { untouched } else { gone };
                assert_eq!(now, wanted, "{way}, cut off at {at}");
                if let Some(status) = answer {
                    assert_eq!((status, there), (StatusCode::OK, false), "{way}");
                    break;
                }
            }
        }
    })
    .await;
}

/// A login that takes a device over ends its older tokens, one that makes a device tells of it.
#[tokio::test]
async fn a_login_is_whole() {
    story(|server| async move {
        let ada = server.register("ada").await;
        let user = number_of(&ada).await;
        for is_new in [true, false] {
            for at in 0..MOST {
                let old = ada.another_device().await;
                let taken = device_of(&old).await;
                assert_eq!(works(&old).await, (true, true));
                let device: OwnedDeviceId = if is_new {
                    format!("NEW{at}").into()
                } else {
                    taken
                };
                let body = json!({"type": "m.login.password", "password": PASSWORD,
                    "device_id": device, "identifier": {"type": "m.id.user", "user": ada.id}});
                let since = server.store.log().head();
                let answer = cut_off(&server, at, (Method::POST, "/login", body), None).await;
                let (revoked, changed) = told(&server.store, user, since);
                if is_new {
                    let there = server.store.device(user, &device).await.unwrap().is_some();
                    assert_eq!(changed, there, "a new device, cut off at {at}");
                    assert!(works(&old).await.0);
                } else {
                    let expected = (!revoked, !revoked);
                    assert_eq!(works(&old).await, expected, "taken over, cut off at {at}");
                }
                if let Some(status) = answer {
                    assert_eq!((status, revoked), (StatusCode::OK, !is_new));
                    break;
                }
            }
        }
    })
    .await;
}

/// The first use of a refreshed token ends the one before it.
#[tokio::test]
async fn a_confirmed_refresh_is_whole() {
    story(|server| async move {
        let ada = server.register("ada").await;
        let user = number_of(&ada).await;
        for at in 0..MOST {
            let body = json!({"type": "m.login.password", "password": PASSWORD,
                "refresh_token": true, "identifier": {"type": "m.id.user", "user": ada.id}});
            let login = ada.ok(Method::POST, "/login", body).await;
            let with = |answer: &Value| User {
                token: answer["access_token"].as_str().unwrap().to_owned(),
                ..ada.clone()
            };
            let old = with(&login);
            let body = json!({ "refresh_token": login["refresh_token"] });
            let refreshed = ada.ok(Method::POST, "/refresh", body).await;
            let new = with(&refreshed);
            // Known to the cache, as it was before the refresh.
            assert_eq!(works(&old).await, (true, true));
            let since = server.store.log().head();
            let request = (Method::GET, "/account/whoami", json!({}));
            let answer = cut_off(&server, at, request, Some(&new.token)).await;
            let (revoked, _) = told(&server.store, user, since);
            let expected = (!revoked, !revoked);
            assert_eq!(works(&old).await, expected, "cut off at {at}");
            if answer.is_some() {
                assert!(revoked);
                break;
            }
        }
    })
    .await;
}

/// An account that is being closed is closed: its sessions end with it, and its rooms are left although
/// nobody waits for the answer.
#[tokio::test]
async fn a_deactivation_is_finished() {
    story(|server| async move {
        let eve = server.register("eve").await;
        for at in 0..MOST {
            let ada = server.register(&format!("ada{at}")).await;
            let user = number_of(&ada).await;
            let room = ada.create_public().await;
            eve.join(&room).await;
            let since = server.store.log().head();
            let body = confirmed(&ada, json!({}));
            let request = (Method::POST, "/account/deactivate", body);
            let answer = cut_off(&server, at, request, Some(&ada.token)).await;
            let (revoked, changed) = told(&server.store, user, since);
            let id = <&UserId>::try_from(ada.id.as_str()).unwrap();
            let account = server.store.account(id).await.unwrap().unwrap();
            let closed = account.deactivated;
            assert_eq!((revoked, changed), (closed, closed), "cut off at {at}");
            assert_eq!(works(&ada).await, (!closed, !closed));
            if closed {
                let members = format!("/rooms/{}/joined_members", crate::harness::esc(&room));
                eventually(&format!("she is gone, cut off at {at}"), async || {
                    !eve.read(&members).await["joined"][&ada.id].is_object()
                })
                .await;
            }
            if answer.is_some() {
                assert!(closed);
                break;
            }
        }
    })
    .await;
}
