//! Servers that are old, send on elsewhere, lie, or break off.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures_util::StreamExt as _;
use http::header;

use super::*;

/// A server that answers every request as a test says.
#[derive(Clone)]
struct Odd {
    name: OwnedServerName,
    requests: Arc<Mutex<Vec<Request<()>>>>,
}

impl Odd {
    fn attach(
        world: &World,
        name: &str,
        answer: impl Fn(&str) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let name: OwnedServerName = name.try_into().unwrap();
        let odd = Self {
            name: name.clone(),
            requests: Arc::default(),
        };
        let noted = odd.requests.clone();
        let router = Router::new().fallback(get(async move |request: Request<Body>| {
            let target = request.uri().to_string();
            noted.lock().unwrap().push(request.map(drop));
            answer(&target)
        }));
        world.network.attach(&name, router);
        odd
    }
}

fn parts(second: &str) -> String {
    format!("--x\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--x\r\n{second}")
}

fn in_parts(pieces: impl IntoIterator<Item = Result<String, &'static str>>) -> Response {
    let pieces: Vec<_> = pieces
        .into_iter()
        .map(|it| it.map_err(std::io::Error::other))
        .collect();
    let body = Body::from_stream(stream::iter(pieces));
    (
        [(header::CONTENT_TYPE, "multipart/mixed; boundary=x")],
        body,
    )
        .into_response()
}

fn refusal(status: StatusCode, errcode: &str) -> Response {
    (status, format!(r#"{{"errcode":"{errcode}","error":""}}"#)).into_response()
}

#[tokio::test]
async fn what_breaks_off_isnt_kept() {
    still(1, async |world| {
        let us = world.server(0);
        let well = Arc::new(AtomicBool::new(false));
        let heals = well.clone();
        let odd = Odd::attach(&world, "odd.example", move |target| {
            let begin = Ok(parts("\r\nhello"));
            let end = || Ok("\r\n--x--".to_owned());
            if heals.load(Ordering::SeqCst) {
                return in_parts([begin, end()]);
            }
            match target {
                _ if target.contains("/broken") => in_parts([begin, Err("it breaks")]),
                _ if target.contains("/short") => in_parts([begin]),
                _ if target.contains("/longer") => {
                    in_parts([Ok(parts("Content-Length: 4\r\n\r\nhello")), end()])
                }
                _ if target.contains("/early") => in_parts([Ok(parts(""))]),
                _ if target.contains("/single") => "hello".into_response(),
                _ if target.contains("/huge") => {
                    in_parts([Ok(parts("Content-Length: 99999999999\r\n\r\nhello")), end()])
                }
                _ => refusal(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN"),
            }
        });
        for id in ["broken", "short", "longer"] {
            let content = get_file(us, &odd.name, id).await.unwrap();
            let read = bytes(&content).await;
            assert!(matches!(read, Err(MediaError::Remote(_))), "{id}: {read:?}");
        }
        for id in ["early", "single", "error"] {
            assert!(failed(&get_file(us, &odd.name, id).await), "{id}");
        }
        let huge = get_file(us, &odd.name, "huge").await;
        assert!(matches!(
            huge,
            Err(MediaError::Remote(FetchError::TooLarge))
        ));
        for id in ["broken", "short", "longer", "early", "single", "huge"] {
            let row = us.fed.media().row("odd.example", id).await.unwrap();
            assert_eq!(row, None, "{id}");
        }
        well.store(true, Ordering::SeqCst);
        // That is remembered for a while.
        assert!(failed(&get_file(us, &odd.name, "broken").await));
        let content = get_file(us, &odd.name, "whole").await.unwrap();
        assert_eq!(bytes(&content).await.unwrap(), b"hello");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_isnt_there_is_left_alone() {
    still(2, async |world| {
        let (a, b) = world.two();
        let id = upload(&a.fed, "text/plain", "a", b"hello").await;
        world.network.cut(&a.name);
        for id in [&*id, "other", "another"] {
            let outcome = get_file(b, &a.name, id).await;
            let isnt_asked = matches!(outcome, Err(MediaError::Remote(FetchError::Unasked)));
            assert!(failed(&outcome) || isnt_asked);
        }
        assert_eq!(asked(&world, &a.name, "/media/"), 1);
        // Who refuses is there.
        let odd = Odd::attach(&world, "odd.example", |_| {
            refusal(StatusCode::FORBIDDEN, "M_FORBIDDEN")
        });
        for id in ["a", "b"] {
            assert!(failed(&get_file(b, &odd.name, id).await));
        }
        assert_eq!(odd.requests.lock().unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn old_servers_are_asked_as_once() {
    still(1, async |world| {
        let us = world.server(0);
        let old = Odd::attach(&world, "old.example", |target| {
            if target.starts_with("/_matrix/federation/") {
                return refusal(StatusCode::NOT_FOUND, "M_UNRECOGNIZED");
            }
            if target.contains("/elsewhere") {
                let to = [(header::LOCATION, "https://cdn.example/x?y")];
                return (StatusCode::TEMPORARY_REDIRECT, to).into_response();
            }
            if target.contains("/beside") {
                let to = [(header::LOCATION, "/files/x?y")];
                return (StatusCode::TEMPORARY_REDIRECT, to).into_response();
            }
            if target.contains("/missing") {
                return refusal(StatusCode::NOT_FOUND, "M_NOT_FOUND");
            }
            let headers = [
                (header::CONTENT_TYPE, "text/plain"),
                (header::CONTENT_DISPOSITION, "inline; filename=../a.txt"),
            ];
            (headers, "hello").into_response()
        });
        Odd::attach(&world, "cdn.example", |target| {
            assert_eq!(target, "/x?y");
            ([(header::CONTENT_TYPE, "image/gif")], "there").into_response()
        });
        let content = get_file(us, &old.name, "a").await.unwrap();
        assert_eq!(content.info.content_type.as_deref(), Some("text/plain"));
        assert_eq!(content.info.name.as_deref(), Some("a.txt"));
        assert_eq!(content.info.size, Some(5));
        assert_eq!(bytes(&content).await.unwrap(), b"hello");
        let requests = std::mem::take(&mut *old.requests.lock().unwrap());
        let last = requests.last().unwrap();
        assert_eq!(
            last.uri(),
            "/_matrix/media/v3/download/old.example/a?allow_remote=false&allow_redirect=true&timeout_ms=5000"
        );
        // What is for everybody is asked for by nobody.
        assert!(!last.headers().contains_key(header::AUTHORIZATION));
        let content = get_file(us, &old.name, "elsewhere").await.unwrap();
        assert_eq!(content.info.content_type.as_deref(), Some("image/gif"));
        assert_eq!(bytes(&content).await.unwrap(), b"there");
        // Where it names no server, it is on the same.
        let content = get_file(us, &old.name, "beside").await.unwrap();
        assert_eq!(bytes(&content).await.unwrap(), b"hello");
        let requests = std::mem::take(&mut *old.requests.lock().unwrap());
        assert_eq!(requests.last().unwrap().uri(), "/files/x?y");
        // One that takes a question of servers for one of clients.
        let confused = Odd::attach(&world, "confused.example", |target| {
            if target.starts_with("/_matrix/federation/") {
                return (StatusCode::BAD_REQUEST, "which server's?").into_response();
            }
            "hello".into_response()
        });
        let content = get_file(us, &confused.name, "a").await.unwrap();
        assert_eq!(bytes(&content).await.unwrap(), b"hello");
        let missing = get_file(us, &old.name, "missing").await;
        assert!(matches!(missing, Err(MediaError::Remote(FetchError::NotFound))));
        // A picture of what is no picture.
        let none = thumbnail(&us.fed, &old.name, "a", WANTED, WAIT).await;
        assert!(matches!(
            none,
            Err(MediaError::NoThumbnail | MediaError::PictureTooLarge)
        ));
        let target = old.requests.lock().unwrap().last().unwrap().uri().to_string();
        assert_eq!(
            target,
            "/_matrix/media/v3/thumbnail/old.example/a?allow_remote=false&allow_redirect=true\
             &timeout_ms=5000&width=32&height=32&method=crop&animated=false"
        );
    })
    .await;
}

#[tokio::test]
async fn redirects_are_followed_by_the_egress_rules() {
    still(1, async |world| {
        let us = world.server(0);
        let odd = Odd::attach(&world, "odd.example", |target| {
            let to = match target {
                _ if target.contains("/good") => "https://cdn.example/x",
                _ if target.contains("/plain") => "http://cdn.example/x",
                _ if target.contains("/inside") => "https://127.0.0.1/x",
                _ if target.contains("/hop") => "https://hop.example/x",
                _ if target.contains("/file") => "file:///etc/passwd",
                _ => "nowhere",
            };
            in_parts([Ok(parts(&format!("Location: {to}\r\n\r\n--x--")))])
        });
        let cdn = Odd::attach(&world, "cdn.example", |_| {
            ([(header::CONTENT_TYPE, "image/gif")], "there").into_response()
        });
        let hop = Odd::attach(&world, "hop.example", |_| {
            let to = [(
                header::LOCATION,
                "https://169.254.169.254/latest/meta-data/",
            )];
            (StatusCode::FOUND, to).into_response()
        });
        let content = get_file(us, &odd.name, "good").await.unwrap();
        assert_eq!(content.info.content_type.as_deref(), Some("image/gif"));
        assert_eq!(bytes(&content).await.unwrap(), b"there");
        for id in ["plain", "inside", "hop", "file", "nowhere"] {
            assert!(failed(&get_file(us, &odd.name, id).await), "{id}");
        }
        assert_eq!(cdn.requests.lock().unwrap().len(), 1);
        assert_eq!(hop.requests.lock().unwrap().len(), 1);
        // Whom we reach by a URL isn't told who we are.
        let requests = cdn.requests.lock().unwrap();
        assert!(!requests[0].headers().contains_key(header::AUTHORIZATION));
    })
    .await;
}

#[tokio::test]
async fn a_large_file_can_be_read_before_it_is_there() {
    still(1, async |world| {
        let us = world.server(0);
        let (goes_on, gate) = tokio::sync::oneshot::channel::<()>();
        let gate = Arc::new(Mutex::new(Some(gate)));
        let odd = Odd::attach(&world, "odd.example", move |_| {
            let gate = gate.lock().unwrap().take().unwrap();
            let begin = stream::iter([Ok::<_, std::io::Error>(parts(&format!(
                "\r\n{}",
                "a".repeat(200_000)
            )))]);
            let rest = stream::once(async {
                gate.await.unwrap();
                Ok("b\r\n--x--".to_owned())
            });
            let body = Body::from_stream(begin.chain(rest));
            (
                [(header::CONTENT_TYPE, "multipart/mixed; boundary=x")],
                body,
            )
                .into_response()
        });
        let content = get_file(us, &odd.name, "a").await.unwrap();
        assert_eq!(content.info.size, None);
        let mut pieces = content.read(None).await.unwrap();
        let first = soon("a piece", pieces.next()).await.unwrap().unwrap();
        assert!(!first.is_empty());
        goes_on.send(()).unwrap();
        let all = bytes(&content).await.unwrap();
        assert_eq!((all.len(), all.last()), (200_001, Some(&b'b')));
    })
    .await;
}
