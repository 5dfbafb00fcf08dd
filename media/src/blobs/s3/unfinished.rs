//! Uploads in parts that were never completed: nobody sees them, and they cost as much as others.

use std::io;
use std::time::UNIX_EPOCH;

use object_store::multipart::MultipartStore as _;
use object_store::path::Path as Location;
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;

use super::{S3, failed};
use crate::blobs::is_key;

/// A page of them, which has a thousand at most, is no longer.
const PAGE: usize = 4 << 20;
/// So many pages at a time.
const PAGES: usize = 100;

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default, rename = "Upload")]
    uploads: Vec<Upload>,
    #[serde(default)]
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    key: String,
    #[serde(rename = "UploadId")]
    id: String,
    initiated: String,
}

impl Upload {
    /// Whether it was begun before this time (ms).
    fn is_older(&self, before: i64) -> bool {
        let since = humantime::parse_rfc3339(&self.initiated).ok();
        let since = since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
        since.is_some_and(|since| rhizome_storage::millis(since) < before)
    }
}

impl S3 {
    /// Gives up uploads in parts that were begun before this time (ms); gives their number.
    pub(super) async fn abort_unfinished(&self, before: i64) -> io::Result<u64> {
        let (mut gone, mut marker) = (0, String::new());
        for _ in 0..PAGES {
            let prefix = encoded(&self.prefix);
            let query = format!("?uploads=&prefix={prefix}{marker}");
            let page = self.sender.ask(&query, PAGE).await?;
            let page: Page = quick_xml::de::from_reader(&*page).map_err(io::Error::other)?;
            for upload in page.uploads.iter().filter(|one| one.is_older(before)) {
                let key = upload.key.strip_prefix(&self.prefix);
                if !key.is_some_and(is_key) {
                    continue;
                }
                let location = Location::parse(&upload.key).map_err(io::Error::other)?;
                let aborted = self.store.abort_multipart(&location, &upload.id);
                aborted.await.map_err(failed)?;
                gone += 1;
            }
            match (page.is_truncated, page.next_key_marker) {
                (true, Some(key)) => {
                    let upload = page.next_upload_id_marker.unwrap_or_default();
                    let (key, upload) = (encoded(&key), encoded(&upload));
                    marker = format!("&key-marker={key}&upload-id-marker={upload}");
                }
                _ => break,
            }
        }
        Ok(gone)
    }
}

/// As part of a query.
fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read() {
        let page = br#"<?xml version="1.0" encoding="UTF-8"?>
            <ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Bucket>files</Bucket><KeyMarker></KeyMarker><MaxUploads>1000</MaxUploads>
              <NextKeyMarker>b</NextKeyMarker><NextUploadIdMarker>2</NextUploadIdMarker>
              <IsTruncated>true</IsTruncated>
              <Upload><Key>a</Key><UploadId>1</UploadId><Owner><ID>x</ID></Owner>
                <Initiated>2010-11-10T20:48:33.000Z</Initiated></Upload>
              <Upload><Key>b</Key><UploadId>2</UploadId><Initiated>2110-11-10T20:48:33Z</Initiated></Upload>
            </ListMultipartUploadsResult>"#;
        let page: Page = quick_xml::de::from_reader(&page[..]).unwrap();
        assert!(page.is_truncated && page.next_key_marker.as_deref() == Some("b"));
        let now = 1_700_000_000_000;
        let older: Vec<bool> = page.uploads.iter().map(|one| one.is_older(now)).collect();
        assert_eq!(older, [true, false]);
        let none: Page = quick_xml::de::from_reader(&b"<ListMultipartUploadsResult/>"[..]).unwrap();
        assert!(none.uploads.is_empty() && !none.is_truncated);
    }
}
