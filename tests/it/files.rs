//! Files and links, from one end to the other.

use rhizome_demo::Person;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{Kind, Pair, Server, each_database};

/// A picture of one pixel.
const PIXEL: [u8; 70] = [
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52,
    0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x06, 0x00, 0x00, 0x00, 0x1f, 0x15, 0xc4,
    0x89, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x44, 0x41, 0x54, 0x78, 0xda, 0x63, 0x64, 0xf8, 0xcf, 0x50,
    0x0f, 0x00, 0x03, 0x86, 0x01, 0x80, 0x5a, 0x34, 0x7d, 0x6b, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45,
    0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
];

/// A page with a picture, as Complement has it.
const PAGE: &str = r#"
<html prefix="og: http://ogp.me/ns#">
<head>
<title>The Rock (1996)</title>
<meta property="og:title" content="The Rock" />
<meta property="og:type" content="video.movie" />
<meta property="og:url" content="http://www.imdb.com/title/tt0117500/" />
<meta property="og:image" content="test.png" />
</head>
<body></body>
</html>
"#;

async fn download(http: &reqwest::Client, who: &Person, uri: &str) -> (String, String, Vec<u8>) {
    let name = uri.strip_prefix("mxc://").unwrap();
    let url = format!("{}/_matrix/client/v1/media/download/{name}", who.base());
    let answer = http.get(url).bearer_auth(who.token()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    let (kind, disposition) = (header("content-type"), header("content-disposition"));
    (kind, disposition, answer.bytes().await.unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_one_uploads_another_downloads_elsewhere() {
    each_database(|kind| async move {
        let pair = Pair::start(kind).await;
        let ada = pair.north.register("ada").await;
        let bea = pair.south.register("bea").await;
        let http = &pair.north.http;
        let file: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
        let url = format!("{}/_matrix/media/v3/upload?filename=a.bin", ada.base());
        let upload = http.post(url).bearer_auth(ada.token()).body(file.clone());
        let upload = upload.header("content-type", "application/x-numbers");
        let answer = upload.send().await.unwrap().bytes().await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        let uri = answer["content_uri"].as_str().unwrap();
        for _ in 0..2 {
            let (kind, disposition, bytes) = download(&pair.south.http, &bea, uri).await;
            assert_eq!(kind, "application/x-numbers");
            assert_eq!(disposition, "attachment; filename=a.bin");
            assert!(bytes == file);
        }
        pair.stop().await;
    })
    .await;
}

/// Serves the page and its picture on this machine; where.
async fn site() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4_096];
            let length = stream.read(&mut head).await.unwrap_or(0);
            let (kind, body) = if head[..length].starts_with(b"GET /test.png ") {
                ("image/png", &PIXEL[..])
            } else {
                ("text/html", PAGE.as_bytes())
            };
            let length = body.len();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
            );
            let _ = stream.write_all(&[head.as_bytes(), body].concat()).await;
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_told_of_where_that_may_be_visited() {
    let site = site().await;
    let server = Server::start_with(Kind::Sqlite, |config| {
        config.url_previews.allowed_ranges = config.federation.allowed_ranges.clone();
    })
    .await;
    let ada = server.register("ada").await;
    let path = format!("/_matrix/client/v1/media/preview_url?url={site}/test.html");
    let told = ada.call(reqwest::Method::GET, &path, None).await.unwrap();
    let uri = told["og:image"].as_str().unwrap();
    assert_eq!(
        told,
        json!({
            "og:title": "The Rock", "og:type": "video.movie", "og:url": "http://www.imdb.com/title/tt0117500/",
            "og:image": uri, "og:image:type": "image/png", "og:image:width": 1, "og:image:height": 1,
            "matrix:image:size": PIXEL.len(),
        })
    );
    let (kind, _, bytes) = download(&server.http, &ada, uri).await;
    assert_eq!((kind.as_str(), &bytes[..]), ("image/png", &PIXEL[..]));
    // What isn't public is visited only where the operator says so.
    let inside = "/_matrix/client/v1/media/preview_url?url=http://10.0.0.1/";
    let refused = ada
        .call(reqwest::Method::GET, inside, None)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("M_FORBIDDEN"), "{refused}");
    server.stop().await;
}
