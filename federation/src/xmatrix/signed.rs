//! What gets signed of a request.

use base64::Engine as _;
use rhizome_protocol::{
    as_sent::{self, Numbers},
    canonical::{self, JsonError},
    sign::KeyPair,
};
use ruma::ServerName;
use serde_json::Value;

use super::BASE64;

/// What a signature covers besides the two names.
#[derive(Debug, Clone)]
pub struct Signed<'a> {
    method: &'a str,
    uri: &'a str,
    content: Option<String>,
}

impl<'a> Signed<'a> {
    /// A request with a body, in canonical form; an empty body is no content.
    ///
    /// # Errors
    /// The body isn't a JSON object.
    pub fn new(method: &'a str, uri: &'a str, body: &[u8]) -> Result<Self, JsonError> {
        Self::read(method, uri, body, Numbers::AsSent)
    }

    /// What the sender of a request may have signed, the likeliest first: the very text, which nearly always is
    /// canonical; its canonical form; and that with numbers written as they are read, by servers that read what
    /// they send.
    ///
    /// The body isn't a JSON object where one of them is an error.
    pub fn readings(
        method: &'a str,
        uri: &'a str,
        body: &'a [u8],
    ) -> impl Iterator<Item = Result<Self, JsonError>> {
        let text = std::str::from_utf8(body).ok();
        let text = text.filter(|text| !text.is_empty()).map(ToOwned::to_owned);
        let as_it_came = text.map(|text| Ok(Self::canonical(method, uri, Some(text))));
        let forms = [Numbers::AsSent, Numbers::AsRead];
        let read = move |numbers| Self::read(method, uri, body, numbers);
        as_it_came.into_iter().chain(forms.into_iter().map(read))
    }

    fn read(
        method: &'a str,
        uri: &'a str,
        body: &[u8],
        numbers: Numbers,
    ) -> Result<Self, JsonError> {
        let content = match body {
            [] => None,
            body => Some(as_sent::canonical_text(body, numbers)?),
        };
        Ok(Self::canonical(method, uri, content))
    }

    /// A request whose body is canonical JSON already.
    pub fn canonical(method: &'a str, uri: &'a str, content: Option<String>) -> Self {
        Self {
            method,
            uri,
            content,
        }
    }

    /// The canonical body.
    pub fn into_content(self) -> Option<String> {
        self.content
    }

    /// The signed text. Keys are in canonical order as they stand here.
    pub(super) fn text(&self, origin: &ServerName, destination: &ServerName) -> String {
        let quote = |text: &str| Value::from(text).to_string();
        let mut out = String::with_capacity(256 + self.content.as_ref().map_or(0, String::len));
        out.push('{');
        if let Some(content) = &self.content {
            out.push_str("\"content\":");
            out.push_str(content);
            out.push(',');
        }
        out.push_str("\"destination\":");
        out.push_str(&quote(destination.as_str()));
        out.push_str(",\"method\":");
        out.push_str(&quote(self.method));
        out.push_str(",\"origin\":");
        out.push_str(&quote(origin.as_str()));
        out.push_str(",\"uri\":");
        out.push_str(&quote(self.uri));
        out.push('}');
        out
    }

    /// Our `Authorization` header for this request.
    pub fn header(&self, origin: &ServerName, destination: &ServerName, key: &KeyPair) -> String {
        let sig = BASE64.encode(key.sign(self.text(origin, destination).as_bytes()));
        format!(
            "X-Matrix origin=\"{origin}\",destination=\"{destination}\",key=\"{}\",sig=\"{sig}\"",
            key.key_id()
        )
    }
}

/// The canonical form of a value that we made or have parsed; lenient with numbers.
pub(crate) fn canonical_text(value: &Value) -> String {
    fn write(value: &Value, out: &mut String) {
        match value {
            Value::Object(object) => {
                let mut entries: Vec<_> = object.iter().collect();
                // Sorted by code point, whatever the map's order is. UTF-8 keeps that order.
                entries.sort_unstable_by_key(|(key, _)| key.as_str());
                out.push('{');
                for (at, (key, value)) in entries.into_iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    out.push_str(&Value::from(key.as_str()).to_string());
                    out.push(':');
                    write(value, out);
                }
                out.push('}');
            }
            Value::Array(array) => {
                out.push('[');
                for (at, value) in array.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write(value, out);
                }
                out.push(']');
            }
            Value::Number(number) => canonical::push_tolerant(out, number),
            other => out.push_str(&other.to_string()),
        }
    }
    let mut out = String::new();
    write(value, &mut out);
    out
}
