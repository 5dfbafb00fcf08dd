//! What stands between clients and a server and looks at what they send and get.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use rhizome_contract::Watch;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A listener that passes everything on. What it has seen is judged when [`Front::close`] is called.
pub(crate) struct Front {
    base: String,
    watch: Watch,
    serving: JoinHandle<()>,
}

impl Front {
    /// One before the client API at `base`.
    pub(crate) async fn before(base: String, http: reqwest::Client) -> Self {
        let watch = Watch::new("servers");
        let pass = async move |request: Request| pass(&http, &base, request).await;
        let router = watch.over(Router::new().fallback(pass));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            base: format!("http://{}", listener.local_addr().unwrap()),
            watch,
            serving: tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }),
        }
    }

    /// Where clients find it.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Ends it, and fails when something wasn't as the specification says.
    #[track_caller]
    pub(crate) fn close(self) {
        self.serving.abort();
        self.watch.assert_kept();
    }
}

async fn pass(http: &reqwest::Client, base: &str, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let request = http
        .request(head.method, format!("{base}{}", head.uri))
        .headers(head.headers)
        .body(body);
    let answer = request.send().await.expect("the server answers");
    let mut passed = Response::new(Body::empty());
    *passed.status_mut() = answer.status();
    *passed.headers_mut() = answer.headers().clone();
    // The body goes on in one piece, over another connection.
    passed.headers_mut().remove("transfer-encoding");
    passed.headers_mut().remove("connection");
    *passed.body_mut() = Body::from(answer.bytes().await.expect("all of the answer"));
    passed
}
