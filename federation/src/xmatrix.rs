//! X-Matrix: every request between servers is signed by its origin
//! (<https://spec.matrix.org/v1.19/server-server-api/#request-authentication>).
//!
//! What is signed is the canonical JSON of method, target, both names and the body. The
//! header may come in several spellings (quoted or not, spaces, one header per key); what must hold
//! is: the destination is us, and one of the signatures verifies with a key that is valid now.
//!
//! Of the body only that is asked which makes it JSON: what is wrong with one event of a transaction must not
//! cost the others.

use axum::body::Bytes;
use base64::Engine as _;
use http::request::Parts;
use rhizome_protocol::{
    as_sent::{self, Numbers},
    canonical::{self, JsonError},
    sign::KeyPair,
};
use ruma::{OwnedServerName, ServerName, api::federation::authentication::ServerSignatures};
use serde_json::Value;

use crate::{
    Federation, MatrixError, Scheme,
    inbound::budgets::{Held, peer_of},
};

/// The longest `Authorization` header that is read.
const MAX_HEADER: usize = 4096;
/// A server may sign with several keys, one header each; more than this many are ignored.
const MAX_SIGNATURES: usize = 4;

/// Base64 with or without padding, as servers differ.
const BASE64: base64::engine::GeneralPurpose = base64::engine::GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    base64::engine::GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// One `Authorization: X-Matrix …` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XMatrix {
    /// Who says to have made the request.
    pub origin: OwnedServerName,
    /// Whom it is meant for; very old servers leave it out.
    pub destination: Option<OwnedServerName>,
    /// `ed25519:…`
    pub key_id: String,
    /// The 64 bytes of the signature.
    pub signature: Vec<u8>,
}

impl XMatrix {
    /// Parses the value of an `Authorization` header. `Ok(None)`: of another scheme.
    ///
    /// # Errors
    /// What is wrong with the header.
    pub fn parse(header: &str) -> Result<Option<Self>, &'static str> {
        if header.len() > MAX_HEADER {
            return Err("the header is too long");
        }
        let Some((scheme, rest)) = header.split_once(' ') else {
            return Ok(None);
        };
        if !scheme.eq_ignore_ascii_case("X-Matrix") {
            return Ok(None);
        }
        let (mut origin, mut destination, mut key, mut sig) = (None, None, None, None);
        for (name, value) in parameters(rest)? {
            let slot = match name.to_ascii_lowercase().as_str() {
                "origin" => &mut origin,
                "destination" => &mut destination,
                "key" => &mut key,
                "sig" => &mut sig,
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err("a parameter is given twice");
            }
        }
        let server =
            |name: String| OwnedServerName::try_from(name).map_err(|_| "a server name isn't valid");
        let key_id = key.ok_or("`key` is missing")?;
        if !is_key_id(&key_id) {
            return Err("`key` is no ed25519 key id");
        }
        let signature = BASE64
            .decode(sig.ok_or("`sig` is missing")?)
            .map_err(|_| "`sig` is no base64")?;
        if signature.len() != 64 {
            return Err("`sig` is no ed25519 signature");
        }
        Ok(Some(Self {
            origin: server(origin.ok_or("`origin` is missing")?)?,
            destination: destination.map(server).transpose()?,
            key_id,
            signature,
        }))
    }

    /// Whether this signs the request. `our_name` stands in for an absent destination.
    pub fn verifies(&self, public: &[u8; 32], our_name: &ServerName, request: &Signed<'_>) -> bool {
        let destination = self.destination.as_deref().unwrap_or(our_name);
        let text = request.text(&self.origin, destination);
        ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public)
            .verify(text.as_bytes(), &self.signature)
            .is_ok()
    }
}

/// Whether this is the id of an ed25519 key, of bounded length.
pub(crate) fn is_key_id(id: &str) -> bool {
    id.strip_prefix("ed25519:").is_some_and(|version| {
        !version.is_empty() && version.len() <= 200 && version.bytes().all(|b| b.is_ascii_graphic())
    })
}

/// `name=value` pairs (RFC 9110 §11.4), with colons and slashes allowed in unquoted values.
fn parameters(text: &str) -> Result<Vec<(&str, String)>, &'static str> {
    let mut found = Vec::new();
    let mut rest = text.trim_matches([' ', '\t']);
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or("a parameter has no value")?;
        let name = name.trim_matches([' ', '\t']);
        if name.is_empty()
            || !name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        {
            return Err("a parameter's name isn't valid");
        }
        let after = after.trim_start_matches([' ', '\t']);
        let (value, after) = if let Some(quoted) = after.strip_prefix('"') {
            unquote(quoted)?
        } else {
            let end = after.find(',').unwrap_or(after.len());
            let value = after[..end].trim_end_matches([' ', '\t']);
            if value.is_empty() || value.contains(|c: char| c.is_whitespace() || c == '"') {
                return Err("a parameter's value isn't valid");
            }
            (value.to_owned(), &after[end..])
        };
        found.push((name, value));
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() {
            // Empty list elements are allowed by RFC 9110.
            let trimmed = rest.trim_start_matches([' ', '\t', ',']);
            if trimmed.len() == rest.len() {
                return Err("parameters aren't separated by commas");
            }
            rest = trimmed;
        }
    }
    Ok(found)
}

/// The value of a quoted string whose opening quote is gone, and what follows its closing quote.
fn unquote(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.push(chars.next().ok_or("a quoted value doesn't end")?.1),
            c => value.push(c),
        }
    }
    Err("a quoted value doesn't end")
}

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
    fn text(&self, origin: &ServerName, destination: &ServerName) -> String {
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

/// The signatures that a request's head has, and the keys that they should verify with.
pub struct Claim {
    headers: Vec<XMatrix>,
    keys: Vec<Option<[u8; 32]>>,
    _body: Option<Held>,
}

impl Scheme<Federation> for ServerSignatures {
    type Who = OwnedServerName;
    type Claim = Claim;

    async fn admit(fed: &Federation, head: &Parts) -> Result<Claim, MatrixError> {
        let headers = signatures(&head.headers, fed.server_name())?;
        let mut keys = Vec::new();
        for XMatrix { origin, key_id, .. } in &headers {
            let mut key = fed.keys().key_at_hand(origin, key_id).await;
            if key.is_none() {
                fed.budgets().keys(peer_of(head), 1)?;
                key = fed.keys().current_key(origin, key_id).await;
            }
            keys.push(key);
        }
        if keys.iter().all(Option::is_none) {
            let XMatrix { origin, key_id, .. } = &headers[0];
            let reason = format!("Can't get the key {key_id} of {origin}");
            return Err(MatrixError::unauthorized(reason));
        }
        // Only now is the body worth reading.
        let body = fed.budgets().body(head)?;
        Ok(Claim {
            headers,
            keys,
            _body: body,
        })
    }

    async fn identify(
        fed: &Federation,
        Claim {
            mut headers,
            keys,
            _body,
        }: Claim,
        request: &http::Request<Bytes>,
    ) -> Result<OwnedServerName, MatrixError> {
        let uri = request
            .uri()
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str);
        let by_one_of_them = |signed: &Signed<'_>| {
            headers.iter().zip(&keys).any(|(header, key)| {
                key.is_some_and(|public| header.verifies(&public, fed.server_name(), signed))
            })
        };
        for signed in Signed::readings(request.method().as_str(), uri, request.body()) {
            let signed = signed.map_err(|error| MatrixError::not_json(error.to_string()))?;
            if by_one_of_them(&signed) {
                // They are all of one origin.
                let origin = headers.swap_remove(0).origin;
                fed.sender().seen(&origin);
                fed.budgets().signed(&origin, request.uri().path())?;
                return Ok(origin);
            }
        }
        Err(MatrixError::unauthorized(
            "The request's signature doesn't verify",
        ))
    }
}

/// The X-Matrix headers of a request: all of one origin, all meant for us.
fn signatures(
    headers: &http::HeaderMap,
    our_name: &ServerName,
) -> Result<Vec<XMatrix>, MatrixError> {
    let mut found: Vec<XMatrix> = Vec::new();
    for value in headers
        .get_all(http::header::AUTHORIZATION)
        .iter()
        .take(MAX_SIGNATURES)
    {
        let text = value
            .to_str()
            .map_err(|_| MatrixError::unauthorized("The Authorization header isn't ASCII"))?;
        let header = XMatrix::parse(text).map_err(|reason| {
            MatrixError::unauthorized(format!("The Authorization header isn't valid: {reason}"))
        })?;
        let Some(header) = header else { continue };
        if header
            .destination
            .as_ref()
            .is_some_and(|name| !name.as_str().eq_ignore_ascii_case(our_name.as_str()))
        {
            return Err(MatrixError::unauthorized(
                "The request is meant for another server",
            ));
        }
        if header
            .origin
            .as_str()
            .eq_ignore_ascii_case(our_name.as_str())
        {
            return Err(MatrixError::unauthorized(
                "The request says to come from ourselves",
            ));
        }
        if found
            .first()
            .is_some_and(|first| first.origin != header.origin)
        {
            return Err(MatrixError::unauthorized(
                "The signatures are of different servers",
            ));
        }
        found.push(header);
    }
    if found.is_empty() {
        return Err(MatrixError::unauthorized(
            "The request has no X-Matrix Authorization header",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    fn sig() -> String {
        BASE64.encode([7u8; 64])
    }

    fn parse(parameters: &str) -> Result<Option<XMatrix>, &'static str> {
        XMatrix::parse(&format!("X-Matrix {}", parameters.replace("SIG", &sig())))
    }

    #[test]
    fn every_spelling_of_the_same_header() {
        let expected = XMatrix {
            origin: server_name!("a.example:8448").to_owned(),
            destination: Some(server_name!("b.example").to_owned()),
            key_id: "ed25519:key1".to_owned(),
            signature: vec![7; 64],
        };
        for spelling in [
            r#"origin="a.example:8448",destination="b.example",key="ed25519:key1",sig="SIG""#,
            r#"origin=a.example:8448,destination=b.example,key=ed25519:key1,sig="SIG""#,
            r"origin=a.example:8448,destination=b.example,key=ed25519:key1,sig=SIG",
            "  sig=\"SIG\" ,\t key=\"ed25519:key1\"\t,DESTINATION=\"b.example\", Origin=\"a.example:8448\"  ",
            r#"origin="a\.example:8448",destination="b.exampl\e",key="ed25519:key1",sig="SIG""#,
            r#"origin="a.example:8448",destination="b.example",key="ed25519:key1",sig="SIG==",x="y",z=1"#,
            r#"origin="a.example:8448",,destination="b.example",key="ed25519:key1",sig="SIG","#,
        ] {
            assert_eq!(parse(spelling), Ok(Some(expected.clone())), "{spelling}");
        }
        assert!(XMatrix::parse("x-matrix origin=a").is_err());
    }

    #[test]
    fn hostile_headers_are_refused() {
        for hostile in [
            "",
            "=",
            "origin",
            "origin=",
            "origin=\"",
            "origin=\"a",
            "origin=\"a\\",
            r#"origin="a.example"destination="b.example",key="ed25519:k",sig="SIG""#,
            r#"origin="a.example",origin="c.example",key="ed25519:k",sig="SIG""#,
            r#"origin="a.example",ORIGIN="a.example",key="ed25519:k",sig="SIG""#,
            r#"origin="not a name",key="ed25519:k",sig="SIG""#,
            r#"origin="a.example/x",key="ed25519:k",sig="SIG""#,
            r#"origin="",key="ed25519:k",sig="SIG""#,
            r#"origin="a.example",key="rsa:k",sig="SIG""#,
            r#"origin="a.example",key="ed25519:",sig="SIG""#,
            r#"origin="a.example",key="ed25519:k",sig="AAAA""#,
            r#"origin="a.example",key="ed25519:k",sig="!!!""#,
            r#"origin="a.example",key="ed25519:k""#,
            r#"origin="a.example",sig="SIG""#,
            r#"key="ed25519:k",sig="SIG""#,
            r#"origin=a b,key="ed25519:k",sig="SIG""#,
        ] {
            assert!(parse(hostile).is_err(), "{hostile}");
        }
        assert!(parse(&format!("origin=\"{}\"", "a".repeat(5000))).is_err());
        assert_eq!(XMatrix::parse("Bearer abc"), Ok(None));
        assert_eq!(XMatrix::parse("X-Matrix"), Ok(None));
    }

    fn request(headers: &[&str]) -> http::HeaderMap {
        let mut map = http::HeaderMap::new();
        for header in headers {
            map.append(http::header::AUTHORIZATION, header.parse().unwrap());
        }
        map
    }

    #[test]
    fn destination_and_origin_are_checked() {
        let us = server_name!("b.example");
        let with = |parameters: &str| {
            let header = format!("X-Matrix key=\"ed25519:k\",sig=\"{}\",{parameters}", sig());
            signatures(&request(&[&header]), us)
        };
        assert!(with(r#"origin="a.example",destination="b.example""#).is_ok());
        assert!(with(r#"origin="a.example",destination="B.example""#).is_ok());
        assert!(with(r#"origin="a.example""#).is_ok());
        for bad in [
            r#"origin="a.example",destination="c.example""#,
            r#"origin="a.example",destination="b.example:8448""#,
            r#"origin="b.example",destination="b.example""#,
        ] {
            assert_eq!(
                with(bad).unwrap_err().status,
                http::StatusCode::UNAUTHORIZED,
                "{bad}"
            );
        }
        assert!(signatures(&request(&[]), us).is_err());
        assert!(signatures(&request(&["Bearer x"]), us).is_err());
    }

    #[test]
    fn several_keys_but_one_origin() {
        let us = server_name!("b.example");
        let header = |origin: &str, key: &str| {
            format!(
                "X-Matrix origin=\"{origin}\",key=\"ed25519:{key}\",sig=\"{}\"",
                sig()
            )
        };
        let (one, two) = (header("a.example", "1"), header("a.example", "2"));
        assert_eq!(signatures(&request(&[&one, &two]), us).unwrap().len(), 2);
        let other = header("c.example", "2");
        assert!(signatures(&request(&[&one, &other]), us).is_err());
    }

    #[test]
    fn the_signed_text_is_canonical() {
        let body = br#"{ "b": [1.5, 1e16, {"z": 1, "a": "\u00e9\u0000"}], "a": null }"#;
        let uri = "/_matrix/federation/v1/send/1?a=b%20c";
        let readings: Vec<String> = Signed::readings("PUT", uri, body)
            .map(|signed| signed.unwrap().text(server_name!("o"), server_name!("d")))
            .collect();
        let expected = |content: &str| {
            format!(
                "{{\"content\":{content},\"destination\":\"d\",\"method\":\"PUT\",\"origin\":\"o\",\
                 \"uri\":\"{uri}\"}}"
            )
        };
        let with_number = |number: &str| {
            let content = format!(r#"{{"a":null,"b":[1.5,{number},{{"a":"é\u0000","z":1}}]}}"#);
            expected(&content)
        };
        let as_it_came = expected(std::str::from_utf8(body).unwrap());
        assert_eq!(
            readings,
            [as_it_came, with_number("1e16"), with_number("1e+16")]
        );
        let without = Signed::readings("GET", uri, b"").next().unwrap().unwrap();
        assert_eq!(without.into_content(), None);
    }

    /// What an event must not be is no matter of the request's signature.
    #[test]
    fn odd_events_are_signed_as_they_are() {
        let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        for odd in [
            &*deep,
            "123456789012345678901234567890",
            "1e400",
            "\"\\ud800\"",
            "-0.50",
        ] {
            let body = format!("{{\"pdus\":[{{\"a\":{odd}}}]}}");
            let signed = Signed::new("PUT", "/", body.as_bytes()).unwrap();
            assert_eq!(signed.into_content().unwrap(), body);
        }
        let twice = br#"{"pdus":[{"a":1,"a":2}]}"#;
        assert!(Signed::new("PUT", "/", twice).is_ok());
        for bad in [&b"[]"[..], b"1", b"{", b"{\"a\":\"\xff\"}"] {
            assert!(Signed::new("PUT", "/", bad).is_err());
        }
    }

    #[test]
    fn signing_and_verifying_agree() {
        let key = KeyPair::from_seed("x", &[1; 32]).unwrap();
        let (a, b) = (server_name!("a.example"), server_name!("b.example:1"));
        let body = br#"{"pdus":[],"x":"\u20ac"}"#;
        let signed = Signed::new("PUT", "/p?q=1", body).unwrap();
        let header = XMatrix::parse(&signed.header(a, b, &key)).unwrap().unwrap();
        let public = key.public();
        assert!(header.verifies(&public, b, &signed));
        // Without a destination in the header, the receiver's own name is what was signed.
        let bare = XMatrix {
            destination: None,
            ..header.clone()
        };
        assert!(bare.verifies(&public, b, &signed));
        assert!(!bare.verifies(&public, a, &signed));
        for other in [
            Signed::new("POST", "/p?q=1", body).unwrap(),
            Signed::new("PUT", "/p?q=2", body).unwrap(),
            Signed::new("PUT", "/p?q=1", b"{}").unwrap(),
            Signed::new("PUT", "/p?q=1", b"").unwrap(),
        ] {
            assert!(!header.verifies(&public, b, &other));
        }
        let mut forged = header.clone();
        forged.signature[3] ^= 1;
        assert!(!forged.verifies(&public, b, &signed));
        assert!(!header.verifies(&[9; 32], b, &signed));
    }
}
