//! Answers: content of any type, whole, in part and on its way.

use axum::{body::Bytes, extract::State};
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, Method, Request, header};
use rhizome_edge::{Content, MatrixError, Ruma, Table, Undecoded};
use ruma::{api::auth_scheme::NoAuthentication, metadata};

use crate::support::{Open, ask, bytes_of, open};

const FILE: &[u8] = b"0123456789";

struct Download;
metadata! {
    @for Download,
    method: GET,
    rate_limited: false,
    authentication: NoAuthentication,
    path: "/download/{how}",
}

async fn download(
    _: State<Open>,
    Ruma { req, .. }: Ruma<Undecoded<Download>>,
) -> Result<Content, MatrixError> {
    let png = HeaderValue::from_static("image/png");
    let piece = |bytes: &'static [u8]| Ok::<_, std::io::Error>(Bytes::from_static(bytes));
    match req.part(0) {
        "whole" => Ok(Content::of_bytes(png, FILE).with(
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("inline"),
        )),
        "streamed" => {
            let pieces = stream::iter([piece(&FILE[..4]), piece(&FILE[4..])]);
            Ok(Content::streamed(png, Some(FILE.len() as u64), pieces))
        }
        "part" => Ok(Content::of_bytes(png, &FILE[2..5]).part(&(2..5), FILE.len() as u64)),
        "broken" => {
            let broken = Err(std::io::Error::other("the disk is gone"));
            let pieces = stream::iter([piece(&FILE[..4]), broken]);
            Ok(Content::streamed(png, None, pieces))
        }
        _ => Err(MatrixError::not_found("There is no such file")),
    }
}

fn request(method: Method, how: &str) -> Request<axum::body::Body> {
    Request::builder()
        .method(method)
        .uri(format!("/download/{how}"))
        .body(axum::body::Body::empty())
        .unwrap()
}

#[tokio::test]
async fn content_has_its_type_and_length() {
    let (_, router) = open(Table::default().serve(download));
    for how in ["whole", "streamed"] {
        let answer = ask(&router, request(Method::GET, how)).await;
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "image/png");
        assert_eq!(answer.headers()[header::CONTENT_LENGTH], "10", "{how}");
        assert_eq!(bytes_of(answer).await, FILE);
        let head = ask(&router, request(Method::HEAD, how)).await;
        assert_eq!(head.status(), 200);
        assert_eq!(head.headers()[header::CONTENT_TYPE], "image/png");
        assert_eq!(head.headers()[header::CONTENT_LENGTH], "10", "{how}");
        assert!(bytes_of(head).await.is_empty());
    }
    let whole = ask(&router, request(Method::GET, "whole")).await;
    assert_eq!(whole.headers()[header::CONTENT_DISPOSITION], "inline");
    let none = ask(&router, request(Method::GET, "none")).await;
    assert_eq!(none.headers()[header::CONTENT_TYPE], "application/json");
    assert_eq!(none.status(), 404);
}

#[tokio::test]
async fn a_part_says_which_it_is() {
    let (_, router) = open(Table::default().serve(download));
    let answer = ask(&router, request(Method::GET, "part")).await;
    assert_eq!(answer.status(), 206);
    assert_eq!(answer.headers()[header::CONTENT_RANGE], "bytes 2-4/10");
    assert_eq!(answer.headers()[header::CONTENT_LENGTH], "3");
    assert_eq!(bytes_of(answer).await, "234");
}

/// What breaks off doesn't look whole.
#[tokio::test]
async fn content_that_breaks_off_is_an_error() {
    let (_, router) = open(Table::default().serve(download));
    let answer = ask(&router, request(Method::GET, "broken")).await;
    let mut pieces = answer.into_body().into_data_stream();
    assert_eq!(pieces.next().await.unwrap().unwrap(), &FILE[..4]);
    assert!(pieces.next().await.unwrap().is_err());
}
