//! Bodies and heads that don't end, and time that does.

use super::*;

const HURRIED: Visit = Visit {
    time: Duration::from_millis(500),
    ..VISIT
};
const IMPATIENT: Visit = Visit {
    idle: Duration::from_millis(300),
    ..VISIT
};

/// Pages that never end, and others that aren't as they should be.
fn pages() -> Vec<(&'static str, Page)> {
    vec![
        (
            "/announced",
            Page::Stalls("HTTP/1.1 200 OK\r\ncontent-length: 100001\r\n\r\n"),
        ),
        (
            "/endless",
            Page::Endless("HTTP/1.1 200 OK\r\n\r\n", vec![b'x'; 10_000]),
        ),
        (
            "/chunks",
            Page::Endless(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                b"4\r\nxxxx\r\n".repeat(1_000),
            ),
        ),
        (
            "/headers",
            Page::Endless("HTTP/1.1 200 OK\r\n", b"x: y\r\n".repeat(1_000)),
        ),
        (
            "/header",
            Page::Endless("HTTP/1.1 200 OK\r\nx: ", vec![b'x'; 10_000]),
        ),
        (
            "/gzip",
            Page::Endless(
                "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n",
                vec![0; 10_000],
            ),
        ),
        ("/silent", Page::Stalls("")),
        ("/stalls", Page::Stalls("HTTP/1.1 200 OK\r\n\r\nhello")),
        ("/drips", Page::Drips("HTTP/1.1 200 OK\r\n\r\nhello")),
        (
            "/broken",
            Page::Says("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello".to_owned()),
        ),
        (
            "/nonsense",
            Page::Says("220 mail.example ESMTP\r\n\r\n".to_owned()),
        ),
    ]
}

#[tokio::test]
async fn bytes_are_bounded() {
    let site = Site::start("127.0.0.1:0", pages()).await;
    let web = web(Vec::new());
    let go = async |path: &str, bounds: &Visit| visit(&web, &site.url(path), bounds).await;
    for path in ["/announced", "/endless", "/chunks"] {
        assert_eq!(
            go(path, &VISIT).await,
            Err(WebError::TooLarge(100_000)),
            "{path}"
        );
    }
    for path in ["/headers", "/header", "/broken", "/nonsense"] {
        let error = go(path, &VISIT).await;
        assert!(
            matches!(error, Err(WebError::Unreachable(_))),
            "{path}: {error:?}"
        );
    }
    assert!(matches!(
        go("/gzip", &VISIT).await,
        Err(WebError::Answer(_))
    ));
}

#[tokio::test]
async fn time_is_bounded() {
    let site = Site::start("127.0.0.1:0", pages()).await;
    let web = web(Vec::new());
    let go = async |path: &str, bounds: &Visit| visit(&web, &site.url(path), bounds).await;
    for path in ["/silent", "/stalls", "/drips"] {
        assert_eq!(go(path, &HURRIED).await, Err(WebError::Timeout), "{path}");
    }
    assert_eq!(go("/stalls", &IMPATIENT).await, Err(WebError::Timeout));
    // What drips isn't idle: the whole is what ends it.
    let bounds = Visit {
        idle: Duration::from_secs(5),
        ..HURRIED
    };
    assert_eq!(go("/drips", &bounds).await, Err(WebError::Timeout));
}

#[tokio::test]
async fn of_a_page_the_beginning_may_do() {
    let site = Site::start("127.0.0.1:0", pages()).await;
    let web = web(Vec::new());
    // Of a page, the beginning may do.
    for (path, beginning) in [
        ("/endless", "xxxxx"),
        ("/stalls", "hello"),
        ("/broken", "hello"),
    ] {
        let url = Url::parse(&site.url(path)).unwrap();
        let found = web.get(url, &HeaderMap::new(), &IMPATIENT).await.unwrap();
        assert_eq!(found.body.beginning(5).await.unwrap(), beginning, "{path}");
    }
}
