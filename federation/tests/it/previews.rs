//! Previews of links, in an in-process web.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures_util::future::{join, join_all};
use http::{HeaderMap, Request, StatusCode, header};
use rhizome_decoder::Decoders;
use rhizome_edge::limits::Rate;
use rhizome_federation::{
    MatrixError,
    previews::{PreviewConfig, Previews},
};
use rhizome_media::MediaError;
use rhizome_storage::testing::eventually;
use ruma::UserId;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::files::pixel;
use crate::world::{Server, World, each, still};

/// Web sites, and what they were asked.
#[derive(Clone, Default)]
struct Sites(Arc<Mutex<Vec<(String, HeaderMap)>>>);

impl Sites {
    fn attach(
        &self,
        world: &World,
        host: &'static str,
        answer: impl Fn(&str) -> Response + Clone + Send + Sync + 'static,
    ) {
        let asked = self.0.clone();
        let router = Router::new().fallback(get(async move |request: Request<Body>| {
            let target = request.uri().to_string();
            let headers = request.headers().clone();
            asked
                .lock()
                .unwrap()
                .push((format!("{host}{target}"), headers));
            answer(&target)
        }));
        world.network.attach(host.try_into().unwrap(), router);
    }

    /// How often these were asked for.
    fn asked(&self, what: &str) -> usize {
        let asked = self.0.lock().unwrap();
        asked.iter().filter(|(target, _)| target == what).count()
    }
}

fn page(html: &str) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (kind, html.to_owned()).into_response()
}

fn of_kind(kind: &'static str, body: impl Into<Bytes>) -> Response {
    ([(header::CONTENT_TYPE, kind)], body.into()).into_response()
}

fn to(location: &'static str) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, location)]).into_response()
}

fn previews(server: &Server, config: PreviewConfig) -> Previews {
    Previews::new(server.fed.clone(), Decoders::in_process(), config)
}

async fn told(previews: &Previews, user: &UserId, link: &str) -> Result<Value, MatrixError> {
    let told = previews
        .preview(user, link, Some("de-DE,de;q=0.9,en;q=0.8"))
        .await?;
    Ok(serde_json::from_slice(&told.0).unwrap())
}

#[tokio::test]
async fn a_page_is_told_of_with_its_picture_and_visited_once() {
    each(1, async |world| {
        let us = world.server(0);
        let sites = Sites::default();
        sites.attach(&world, "site.example", |target| match target {
            "/short" => to("https://site.example/page"),
            "/page" => page(
                r#"<html prefix="og: http://ogp.me/ns#"><head><title>The Rock (1996)</title>
                <meta property="og:title" content="The Rock" />
                <meta property="og:type" content="video.movie" />
                <meta property="og:url" content="http://www.imdb.com/title/tt0117500/" />
                <meta property="og:image" content="test.png" /></head><body></body></html>"#,
            ),
            "/test.png" => of_kind("image/png", pixel()),
            _ => StatusCode::NOT_FOUND.into_response(),
        });
        let (previews, alice) = (previews(us, PreviewConfig::default()), us.user("alice"));
        let links = ["https://site.example/short"; 10];
        let all = join_all(links.map(|link| told(&previews, &alice, link))).await;
        let first = all[0].clone().unwrap();
        let uri = first["og:image"].as_str().unwrap().to_owned();
        assert_eq!(
            first,
            json!({
                "og:title": "The Rock", "og:type": "video.movie", "og:url": "http://www.imdb.com/title/tt0117500/",
                "og:image": uri, "og:image:type": "image/png", "og:image:width": 1, "og:image:height": 1,
                "matrix:image:size": pixel().len(),
            })
        );
        for other in all {
            assert_eq!(other.unwrap(), first);
        }
        let again = told(&previews, &alice, "https://site.example/short#there").await;
        assert_eq!(again.unwrap(), first);
        for target in ["/short", "/page", "/test.png"] {
            assert_eq!(sites.asked(&format!("site.example{target}")), 1);
        }
        let (_, id) = uri.rsplit_once('/').unwrap();
        let picture = us.fed.media().find(&us.name, id, Duration::ZERO).await.unwrap();
        assert_eq!(picture.info.content_type.as_deref(), Some("image/png"));
        let headers = sites.0.lock().unwrap()[0].1.clone();
        assert_eq!(headers[header::ACCEPT_LANGUAGE], "de-de, *;q=0.5");
        assert!(headers.get(header::COOKIE).is_none() && headers.get(header::AUTHORIZATION).is_none());
        // In another language it may say something else.
        let english = previews.preview(&alice, "https://site.example/page", Some("en")).await;
        assert!(english.is_ok());
        assert_eq!(sites.asked("site.example/page"), 2);
        previews.sweep().await.unwrap();
        assert_eq!(told(&previews, &alice, "https://site.example/short").await.unwrap(), first);
    })
    .await;
}

#[tokio::test]
async fn pictures_have_no_more_room_than_they_are_given() {
    each(1, async |world| {
        let us = world.server(0);
        let sites = Sites::default();
        sites.attach(&world, "site.example", |target| {
            if target.starts_with("/page") {
                let picture = target.replace("page", "picture");
                return page(&format!("<meta property=og:image content='{picture}'>"));
            }
            of_kind("image/png", pixel())
        });
        let config = PreviewConfig {
            pictures_size: 2 * pixel().len() as u64,
            ..PreviewConfig::default()
        };
        let (previews, alice) = (previews(us, config), us.user("alice"));
        let store = us.fed.store();
        let known = async || store.preview_pictures(us.name.as_str(), 9).await.unwrap();
        let mut before = Vec::new();
        for number in 0..3 {
            let link = format!("https://site.example/page{number}");
            let told = told(&previews, &alice, &link).await.unwrap();
            assert!(told["og:image"].is_string(), "{told}");
            let known = known().await;
            let new = known.into_iter().find(|one| !before.contains(one));
            before.push(new.unwrap());
        }
        // Nobody waits for a sweep of the previews, nor a day for that of the files.
        assert_eq!(known().await, before[1..]);
        let gone = &before[0].0;
        let gone = us.fed.media().find(&us.name, gone, Duration::ZERO).await;
        assert!(matches!(gone, Err(MediaError::NotFound)));
        // What nothing came of isn't known either.
        sites.attach(&world, "broken.example", |target| match target {
            "/" => page("<meta property=og:image content=/x.png>"),
            _ => of_kind("image/png", "no picture"),
        });
        let told = told(&previews, &alice, "https://broken.example/").await;
        assert!(told.unwrap()["og:image"].is_null());
        assert_eq!(known().await, before[1..]);
    })
    .await;
}

#[tokio::test]
async fn what_may_not_be_visited_is_not_and_nothing_is_told_of_why() {
    still(1, async |world| {
        let us = world.server(0);
        let sites = Sites::default();
        sites.attach(&world, "site.example", |target| match target {
            "/inside" => to("http://127.0.0.1:8080/"),
            "/metadata" => to("http://[::ffff:169.254.169.254]/latest"),
            "/denied" => to("https://www.denied.example/"),
            "/loop" => to("/loop"),
            "/picture" => {
                page("<title>t</title><meta property=og:image content='http://10.0.0.1/x.png'>")
            }
            "/oembed" => page(
                "<link rel=alternate type=application/json+oembed href='http://169.254.169.254/'>",
            ),
            _ => StatusCode::NOT_FOUND.into_response(),
        });
        sites.attach(&world, "www.denied.example", |_| page("<title>no</title>"));
        let config = PreviewConfig {
            denied_hosts: vec!["denied.example".to_owned()],
            ..PreviewConfig::default()
        };
        let (strict, alice) = (previews(us, config), us.user("alice"));
        for (link, status, errcode) in [
            ("", 400, "M_INVALID_PARAM"),
            ("file:///etc/passwd", 400, "M_INVALID_PARAM"),
            ("gopher://site.example/", 400, "M_INVALID_PARAM"),
            ("http://localhost@127.0.0.1/", 403, "M_FORBIDDEN"),
            ("http://2130706433/", 403, "M_FORBIDDEN"),
            ("http://[::1]/", 403, "M_FORBIDDEN"),
            ("https://user:password@site.example/", 403, "M_FORBIDDEN"),
            ("https://site.example:25/", 403, "M_FORBIDDEN"),
            ("https://site.example/inside", 403, "M_FORBIDDEN"),
            ("https://site.example/metadata", 403, "M_FORBIDDEN"),
            ("https://denied.example/", 403, "M_FORBIDDEN"),
            ("https://www.denied.example/", 403, "M_FORBIDDEN"),
            ("https://site.example/denied", 403, "M_FORBIDDEN"),
            ("https://site.example/loop", 502, "M_UNKNOWN"),
            ("https://site.example/nothing", 502, "M_UNKNOWN"),
            ("https://nowhere.example/", 502, "M_UNKNOWN"),
        ] {
            for _ in 0..2 {
                let error = told(&strict, &alice, link).await.unwrap_err();
                let known = (error.status.as_u16(), &*error.errcode);
                assert_eq!(known, (status, errcode), "{link}: {error}");
                for inside in ["range", "404"] {
                    assert!(!error.message.contains(inside), "{error}");
                }
            }
        }
        assert_eq!(sites.asked("site.example/nothing"), 1);
        assert_eq!(sites.asked("www.denied.example/"), 0);
        let page = told(&strict, &alice, "https://site.example/picture").await;
        assert_eq!(page.unwrap(), json!({"og:title": "t"}));
        let page = told(&strict, &alice, "https://site.example/oembed").await;
        assert_eq!(page.unwrap(), json!({}));
        let config = PreviewConfig {
            allowed_hosts: vec!["other.example".to_owned()],
            ..PreviewConfig::default()
        };
        let error = told(&previews(us, config), &alice, "https://site.example/").await;
        assert_eq!(error.unwrap_err().errcode, "M_FORBIDDEN");
        let off = PreviewConfig {
            enabled: false,
            ..PreviewConfig::default()
        };
        let error = told(&previews(us, off), &alice, "https://site.example/").await;
        assert_eq!(error.unwrap_err().errcode, "M_FORBIDDEN");
    })
    .await;
}

#[tokio::test]
async fn whatever_a_link_leads_to() {
    still(1, async |world| {
        let us = world.server(0);
        let sites = Sites::default();
        sites.attach(&world, "site.example", |target| match target {
            "/picture" => of_kind("image/png", pixel()),
            "/svg" => of_kind("image/svg+xml", "<svg xmlns='http://www.w3.org/2000/svg'/>"),
            "/fake" => of_kind("image/png", "this is no picture"),
            "/text" => of_kind("text/plain", "hello"),
            "/zip" => of_kind("application/zip", vec![0; 10_000]),
            "/html-fake" => page("<title>t</title><meta property=og:image content=/fake>"),
            "/html-text" => page("<title>t</title><meta property=og:image content=/text>"),
            "/html-lost" => page("<title>t</title><meta property=og:image content=/lost>"),
            "/sjis" => of_kind("text/html; charset=shift_jis", &b"<title>\x93\xfa\x96{</title>"[..]),
            "/endless" => {
                let begin = Bytes::from_static(b"<title>endless</title>");
                let rest = futures_util::stream::repeat(Bytes::from(vec![b'x'; 10_000]));
                let all = futures_util::StreamExt::chain(
                    futures_util::stream::iter([begin]),
                    rest,
                );
                let all = futures_util::StreamExt::map(all, Ok::<_, std::io::Error>);
                let body = Body::from_stream(all);
                ([(header::CONTENT_TYPE, "text/html")], body).into_response()
            }
            "/oembed" => page("<link rel=alternate type='application/json+oembed' href='/o?a&amp;b'>"),
            "/o?a&b" => of_kind(
                "application/json",
                r#"{"version": "1.0", "type": "video", "title": "A film", "provider_name": "Films", "thumbnail_url": "/picture"}"#,
            ),
            _ => StatusCode::NOT_FOUND.into_response(),
        });
        let (previews, alice) = (previews(us, PreviewConfig::default()), us.user("alice"));
        let go = async |path: &str| {
            told(&previews, &alice, &format!("https://site.example{path}")).await.unwrap()
        };
        let picture = go("/picture").await;
        assert_eq!((&picture["og:image:type"], &picture["og:image:width"]), (&json!("image/png"), &json!(1)));
        for nothing in ["/svg", "/fake", "/text", "/zip"] {
            assert_eq!(go(nothing).await, json!({}), "{nothing}");
        }
        for title in ["/html-fake", "/html-text", "/html-lost"] {
            assert_eq!(go(title).await, json!({"og:title": "t"}), "{title}");
        }
        assert_eq!(go("/sjis").await, json!({"og:title": "日本"}));
        assert_eq!(go("/endless").await, json!({"og:title": "endless"}));
        let film = go("/oembed").await;
        assert_eq!((&film["og:title"], &film["og:site_name"]), (&json!("A film"), &json!("Films")));
        assert_eq!(film["og:image:height"], 1);
        // Of what was no picture nothing is left.
        let files = us.fed.media().list(&rhizome_storage::MediaQuery::default(), ("", ""), 100).await;
        assert_eq!(files.unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_user_may_have_so_many_links_visited() {
    still(1, async |world| {
        let us = world.server(0);
        let sites = Sites::default();
        sites.attach(&world, "site.example", |_| page("<title>t</title>"));
        let config = PreviewConfig {
            rate: Some(Rate {
                per_second: 0.001,
                burst: 2,
            }),
            ..PreviewConfig::default()
        };
        let previews = previews(us, config);
        let (alice, bob) = (us.user("alice"), us.user("bob"));
        for path in ["1", "2", "1", "2"] {
            let link = format!("https://site.example/{path}");
            assert!(told(&previews, &alice, &link).await.is_ok());
        }
        let error = told(&previews, &alice, "https://site.example/3")
            .await
            .unwrap_err();
        assert_eq!(error.errcode, "M_LIMIT_EXCEEDED");
        assert!(
            told(&previews, &bob, "https://site.example/3")
                .await
                .is_ok()
        );
        // What is known costs nothing.
        assert!(
            told(&previews, &alice, "https://site.example/3")
                .await
                .is_ok()
        );
    })
    .await;
}

#[tokio::test]
async fn a_user_has_few_links_visited_at_a_time() {
    still(1, async |world| {
        let us = world.server(0);
        let (gate, asked) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (gated, counted) = (gate.clone(), asked.clone());
        let router = Router::new().fallback(get(async move || {
            counted.fetch_add(1, Ordering::SeqCst);
            let _open = gated.acquire().await;
            page("<title>t</title>")
        }));
        world
            .network
            .attach("slow.example".try_into().unwrap(), router);
        let previews = previews(us, PreviewConfig::default());
        let (alice, bob) = (us.user("alice"), us.user("bob"));
        let visit = async |user: &UserId, n: usize| {
            let link = format!("https://slow.example/{n}");
            told(&previews, user, &link).await
        };
        let three = join_all((0..3).map(|n| visit(&alice, n)));
        let more = async {
            let all = async || asked.load(Ordering::SeqCst) == 3;
            eventually("three links are visited", all).await;
            let error = visit(&alice, 3).await.unwrap_err();
            assert_eq!(error.errcode, "M_LIMIT_EXCEEDED");
            gate.add_permits(3);
            assert!(visit(&bob, 4).await.is_ok());
        };
        let (three, ()) = join(three, more).await;
        assert!(three.iter().all(Result::is_ok), "{three:?}");
        assert!(visit(&alice, 3).await.is_ok());
    })
    .await;
}
