//! The writer: what comes before the file's bytes, and what after.

use super::super::head::FileHead;
use bytes::Bytes;
use http::HeaderValue;

/// What is around a file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::media) struct Frame {
    /// The answer's `Content-Type`.
    pub(in crate::media) content_type: HeaderValue,
    /// Before the bytes.
    pub(in crate::media) before: Bytes,
    /// After them.
    pub(in crate::media) after: Bytes,
}

impl Frame {
    /// Around a file. `boundary` must not be in it: it is random, and long enough.
    pub(in crate::media) fn of_file(boundary: &str, head: &FileHead) -> Option<Self> {
        let (kind, disposition) = (head.kind(), head.disposition());
        let length = head.length;
        let length = length.map(|length| format!("Content-Length: {length}\r\n"));
        let length = length.unwrap_or_default();
        Self::new(
            boundary,
            &format!("Content-Type: {kind}\r\nContent-Disposition: {disposition}\r\n{length}"),
        )
    }

    /// That the file is there, which has to be a URL: for a store that gives such.
    pub(in crate::media) fn of_location(boundary: &str, url: &str) -> Option<Self> {
        Self::new(boundary, &format!("Location: {url}\r\n"))
    }

    /// Names of headers are written as all do: some servers know no other way. So is the line break at the beginning.
    fn new(boundary: &str, headers: &str) -> Option<Self> {
        let content_type = format!("multipart/mixed; boundary={boundary}");
        Some(Self {
            content_type: content_type.try_into().ok()?,
            before: format!(
                "\r\n--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\
                 \r\n--{boundary}\r\n{headers}\r\n"
            )
            .into(),
            after: format!("\r\n--{boundary}--\r\n").into(),
        })
    }

    /// How many bytes it has with a file of so many in it.
    pub(in crate::media) fn length(&self, file: u64) -> u64 {
        (self.before.len() as u64)
            .saturating_add(file)
            .saturating_add(self.after.len() as u64)
    }
}
