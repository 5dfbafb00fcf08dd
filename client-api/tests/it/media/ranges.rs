//! Parts of files.

use super::world::{download, each, told};

const TEXT: &[u8] = b"0123456789";

#[tokio::test]
async fn a_part_is_given() {
    each(async |world| {
        let ada = world.register("ada").await;
        let id = world.upload(&ada, "text/plain", "", TEXT).await;
        for (range, content_range, bytes) in [
            ("bytes=0-0", "bytes 0-0/10", "0"),
            ("bytes=2-4", "bytes 2-4/10", "234"),
            ("bytes=7-", "bytes 7-9/10", "789"),
            ("bytes=-2", "bytes 8-9/10", "89"),
            ("bytes=5-18446744073709551615", "bytes 5-9/10", "56789"),
            (
                "bytes=-99999999999999999999999",
                "bytes 0-9/10",
                "0123456789",
            ),
        ] {
            let answer = world
                .get_with(&ada, &download(&id), &[("range", range)])
                .await;
            assert_eq!(answer.status, 206, "{range}");
            assert_eq!(told(&answer.headers, "content-range"), content_range);
            let length = bytes.len().to_string();
            assert_eq!(told(&answer.headers, "content-length"), length);
            assert_eq!(answer.bytes, bytes);
            assert_eq!(told(&answer.headers, "content-disposition"), "inline");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_or_no_range() {
    each(async |world| {
        let ada = world.register("ada").await;
        let id = world.upload(&ada, "text/plain", "", TEXT).await;
        for range in [
            "bytes=10-",
            "bytes=10-12",
            "bytes=-0",
            "bytes=99999999999999999999-",
        ] {
            let answer = world
                .get_with(&ada, &download(&id), &[("range", range)])
                .await;
            assert_eq!(told(&answer.headers, "content-range"), "bytes */10");
            assert_eq!(told(&answer.headers, "cache-control"), "no-store");
            for absent in ["etag", "content-disposition", "accept-ranges"] {
                assert_eq!(told(&answer.headers, absent), "", "{absent}");
            }
            answer.fails(416, "M_INVALID_PARAM");
        }
        let empty = world.upload(&ada, "text/plain", "", b"").await;
        let answer = world
            .get_with(&ada, &download(&empty), &[("range", "bytes=0-")])
            .await;
        assert_eq!(told(&answer.headers, "content-range"), "bytes */0");
        answer.fails(416, "M_INVALID_PARAM");
        // Several parts are refused by giving all of it once.
        let many = format!("bytes={}", vec!["0-"; 1_000].join(","));
        for range in [
            "bytes=0-1,1-2",
            &many,
            "bytes=5-2",
            "bytes=-1-2",
            "bytes=x",
            "lines=1",
        ] {
            let answer = world
                .get_with(&ada, &download(&id), &[("range", range)])
                .await;
            assert_eq!(answer.status, 200, "{range}");
            assert_eq!(answer.bytes, TEXT);
            assert!(!answer.headers.contains_key("content-range"));
        }
        // So are several headers.
        let two = [("range", "bytes=0-1"), ("range", "bytes=4-5")];
        let answer = world.get_with(&ada, &download(&id), &two).await;
        assert_eq!((answer.status.as_u16(), &*answer.bytes), (200, TEXT));
    })
    .await;
}

#[tokio::test]
async fn a_part_of_another_file_is_of_no_use() {
    each(async |world| {
        let ada = world.register("ada").await;
        let id = world.upload(&ada, "text/plain", "", TEXT).await;
        let path = download(&id);
        let whole = world.get(&ada, &path).await;
        let tag = told(&whole.headers, "etag");
        let range = ("range", "bytes=2-4");
        let same = world
            .get_with(&ada, &path, &[range, ("if-range", tag)])
            .await;
        assert_eq!((same.status.as_u16(), &*same.bytes), (206, &b"234"[..]));
        let weak = format!("W/{tag}");
        for has in ["\"other\"", weak.as_str(), "Tue, 15 Nov 1994 12:45:26 GMT"] {
            let other = world
                .get_with(&ada, &path, &[range, ("if-range", has)])
                .await;
            assert_eq!((other.status.as_u16(), &*other.bytes), (200, TEXT), "{has}");
        }
        // Who has all of it needs no part.
        let known = [range, ("if-none-match", tag)];
        assert_eq!(world.get_with(&ada, &path, &known).await.status, 304);
    })
    .await;
}
