//! Strangers' addresses, over sockets: who may be visited, and how long and how much of it.

mod bounds;

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::*;
use crate::outbound::dns::Dns;

/// What a page does.
enum Page {
    /// Answers with this text.
    Says(String),
    /// Begins so, and goes on with that for ever.
    Endless(&'static str, Vec<u8>),
    /// Begins so, and says nothing more.
    Stalls(&'static str),
    /// Begins so, and goes on with a byte now and then.
    Drips(&'static str),
}

/// A web server on this machine that knows a few pages.
struct Site {
    port: u16,
    visits: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    _running: JoinSet<()>,
}

impl Site {
    async fn start(address: &str, pages: impl IntoIterator<Item = (&'static str, Page)>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let pages: Arc<Vec<(&str, Page)>> = Arc::new(pages.into_iter().collect());
        let (visits, heads) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::<Mutex<Vec<_>>>::default(),
        );
        let mut running = JoinSet::new();
        let (counted, noted) = (visits.clone(), heads.clone());
        running.spawn(async move {
            let mut visitors = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                visitors.spawn(receive(stream, pages.clone(), noted.clone()));
            }
        });
        Self {
            port,
            visits,
            heads,
            _running: running,
        }
    }

    fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }

    fn url(&self, path: &str) -> String {
        format!("http://site.example:{}{path}", self.port)
    }
}

async fn receive(
    mut stream: TcpStream,
    pages: Arc<Vec<(&'static str, Page)>>,
    heads: Arc<Mutex<Vec<String>>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    heads.lock().unwrap().push(head);
    let page = pages.iter().find(|(at, _)| *at == path);
    // Errors: the visitor has left.
    match page.map(|(_, page)| page) {
        None => drop(
            stream
                .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                .await,
        ),
        Some(Page::Says(text)) => drop(stream.write_all(text.as_bytes()).await),
        Some(Page::Endless(begin, more)) => {
            let _ = stream.write_all(begin.as_bytes()).await;
            while stream.write_all(more).await.is_ok() {}
        }
        Some(Page::Stalls(begin)) => {
            let _ = stream.write_all(begin.as_bytes()).await;
            std::future::pending::<()>().await;
        }
        Some(Page::Drips(begin)) => {
            let _ = stream.write_all(begin.as_bytes()).await;
            let mut now_and_then = tokio::time::interval(Duration::from_millis(20));
            loop {
                now_and_then.tick().await;
                if stream.write_all(b"x").await.is_err() {
                    return;
                }
            }
        }
    }
}

fn says(body: &str) -> Page {
    let length = body.len();
    Page::Says(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"
    ))
}

fn to(location: &str) -> Page {
    Page::Says(format!(
        "HTTP/1.1 302 Found\r\nset-cookie: a=b\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
    ))
}

const VISIT: Visit = Visit {
    schemes: Schemes::Any,
    redirects: 3,
    most: 100_000,
    time: Duration::from_secs(20),
    idle: Duration::from_secs(20),
};

fn ips(ips: &[&str]) -> Vec<IpAddr> {
    ips.iter().map(|ip| ip.parse().unwrap()).collect()
}

/// The web as it is where nothing on this machine may be visited but 127.0.0.1.
fn web(names: Vec<(&str, Vec<Vec<IpAddr>>)>) -> Web {
    let config = FederationConfig {
        allowed_ranges: vec!["127.0.0.1/32".parse().unwrap()],
        ..FederationConfig::default()
    };
    let site = ("site.example", vec![ips(&["127.0.0.1"])]);
    let dns = Dns::told(names.into_iter().chain([site]));
    let dialer = Arc::new(Dialer::with_dns(&config, dns).unwrap());
    Web::new(&dialer).unwrap()
}

async fn visit(web: &Web, url: &str, visit: &Visit) -> Result<(String, String), WebError> {
    let url = Url::parse(url).unwrap();
    let found = web.get(url, &HeaderMap::new(), visit).await?;
    let url = found.url.to_string();
    let body = found.body.whole().await?;
    Ok((url, String::from_utf8(body.to_vec()).unwrap()))
}

#[tokio::test]
async fn pages_are_found_behind_redirects_and_nothing_is_carried_along() {
    let pages = [
        ("/", to("/a")),
        ("/a", to("a?b#c")),
        ("/a?b", says("hello")),
    ];
    let site = Site::start("127.0.0.1:0", pages).await;
    let web = web(Vec::new());
    let found = visit(&web, &site.url("/"), &VISIT).await.unwrap();
    assert_eq!(found, (site.url("/a?b#c"), "hello".to_owned()));
    let heads = site.heads.lock().unwrap().clone();
    assert_eq!(heads.len(), 3);
    for head in heads {
        let head = head.to_lowercase();
        for absent in ["cookie", "referer", "accept-encoding", "authorization"] {
            assert!(!head.contains(absent), "{head}");
        }
        assert!(head.contains("\r\nuser-agent: rhizome/"), "{head}");
        assert!(head.contains(&format!("\r\nhost: site.example:{}\r\n", site.port)));
    }
    let missing = visit(&web, &site.url("/nothing"), &VISIT).await;
    assert_eq!(missing, Err(WebError::Status(StatusCode::NOT_FOUND)));
}

#[tokio::test]
async fn redirects_lead_to_no_forbidden_place() {
    let inside = Site::start("127.0.0.2:0", [("/", says("secret"))]).await;
    let at = |host: &str| format!("http://{host}:{}/", inside.port);
    let forbidden = [
        at("127.0.0.2"),
        at("127.2"),
        at("2130706434"),
        at("0x7f000002"),
        at("0177.0.0.2"),
        at("[::ffff:127.0.0.2]"),
        at("[::ffff:7f00:2]"),
        at("[64:ff9b::7f00:2]"),
        at("inside.example"),
        at("mapped.example"),
        at("nat64.example"),
        at("user@127.0.0.2"),
        at("site.example@127.0.0.2"),
        at("site.example%2f@127.0.0.2"),
        at("localhost"),
        format!("//127.0.0.2:{}/", inside.port),
        format!("\\\\127.0.0.2:{}\\", inside.port),
        "file:///etc/passwd".to_owned(),
        "gopher://127.0.0.2/".to_owned(),
        "data:text/html,hello".to_owned(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://site.example:25/".to_owned(),
    ];
    let web = web(vec![
        ("inside.example", vec![ips(&["127.0.0.2"])]),
        ("mapped.example", vec![ips(&["::ffff:127.0.0.2"])]),
        ("nat64.example", vec![ips(&["64:ff9b::7f00:2"])]),
        ("localhost", vec![ips(&["127.0.0.2", "::1"])]),
    ]);
    for place in forbidden {
        let site = Site::start("127.0.0.1:0", [("/", to(&place))]).await;
        let error = visit(&web, &site.url("/"), &VISIT).await.unwrap_err();
        let refused = matches!(error, WebError::Refused(_) | WebError::Unreachable(_));
        assert!(refused, "{place}: {error}");
        if let Ok(url) = Url::parse(&place) {
            assert!(visit(&web, url.as_str(), &VISIT).await.is_err(), "{place}");
        }
    }
    assert_eq!(inside.visits(), 0);
}

#[tokio::test]
async fn names_that_change_their_address_are_judged_each_time() {
    let site = Site::start(
        "127.0.0.1:0",
        [("/", to("/next")), ("/next", says("secret"))],
    )
    .await;
    let inside = Site::start(
        &format!("127.0.0.2:{}", site.port),
        [("/next", says("secret"))],
    )
    .await;
    let (good, bad) = (ips(&["127.0.0.1"]), ips(&["127.0.0.2"]));
    let web = web(vec![
        ("turns.example", vec![good.clone(), bad.clone()]),
        ("both.example", vec![[bad.clone(), good].concat()]),
        ("none.example", vec![Vec::new()]),
    ]);
    let at = |host: &str| format!("http://{host}:{}/", site.port);
    // The first answer is fine, so the redirect is seen; the second isn't.
    let error = visit(&web, &at("turns.example"), &VISIT).await;
    assert!(matches!(error, Err(WebError::Unreachable(_))), "{error:?}");
    assert_eq!(site.visits(), 1);
    // Of several addresses, only those are tried that may be.
    let found = visit(&web, &at("both.example"), &VISIT).await.unwrap();
    assert_eq!(found.1, "secret");
    assert_eq!(site.visits(), 3);
    for name in ["none.example", "unknown.example"] {
        let error = visit(&web, &at(name), &VISIT).await;
        assert!(matches!(error, Err(WebError::Unreachable(_))), "{error:?}");
    }
    assert_eq!(inside.visits(), 0);
}

#[tokio::test]
async fn loops_end() {
    let pages = [
        ("/self", to("/self")),
        ("/1", to("/2")),
        ("/2", to("/3")),
        ("/3", to("/4")),
        ("/4", says("there")),
        (
            "/nowhere",
            Page::Says("HTTP/1.1 302 Found\r\n\r\n".to_owned()),
        ),
        (
            "/same",
            Page::Says("HTTP/1.1 304 Not Modified\r\n\r\n".to_owned()),
        ),
    ];
    let site = Site::start("127.0.0.1:0", pages).await;
    let web = web(Vec::new());
    let go = async |path: &str| visit(&web, &site.url(path), &VISIT).await;
    assert!(matches!(go("/self").await, Err(WebError::Answer(_))));
    assert_eq!(site.visits(), VISIT.redirects + 1);
    assert_eq!(go("/1").await.unwrap().1, "there");
    assert!(matches!(go("/nowhere").await, Err(WebError::Answer(_))));
    assert!(matches!(go("/same").await, Err(WebError::Status(_))));
}

#[tokio::test]
async fn only_https_where_that_is_asked() {
    let site = Site::start("127.0.0.1:0", [("/", says("hello"))]).await;
    let https = Visit {
        schemes: Schemes::Https,
        ..VISIT
    };
    let error = visit(&web(Vec::new()), &site.url("/"), &https).await;
    assert!(matches!(error, Err(WebError::Refused(_))));
    assert_eq!(site.visits(), 0);
}
