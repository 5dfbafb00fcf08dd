//! Reads mails (RFC 5322, 2045 to 2047), strictly: what is odd fails the test.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A mail as its reader sees it.
#[derive(Clone, Debug)]
pub struct Received {
    pub headers: Vec<(String, String)>,
    pub text: String,
    pub html: String,
    pub raw: String,
}

impl Received {
    pub fn read(raw: &[u8]) -> Self {
        let raw = String::from_utf8(raw.to_vec()).unwrap();
        assert!(raw.is_ascii(), "no 8-bit text is needed: {raw}");
        for line in raw.split_terminator("\r\n") {
            assert!(!line.contains(['\r', '\n']), "a bare line break: {line:?}");
            assert!(line.len() <= 998, "a line of {} bytes", line.len());
        }
        let (headers, body) = part(&raw);
        let kind = header(&headers, "Content-Type").to_owned();
        assert!(kind.starts_with("multipart/alternative;"), "{kind}");
        let boundary = kind.split("boundary=\"").nth(1).unwrap();
        let boundary = boundary.split('"').next().unwrap();
        let end = format!("--{boundary}--");
        let body = body.split(&end).next().unwrap();
        let parts: Vec<_> = body.split(&format!("--{boundary}\r\n")).skip(1).collect();
        let [text, html] = parts[..] else {
            panic!("two alternatives: {body}")
        };
        Self {
            text: decoded(text, "text/plain; charset=utf-8"),
            html: decoded(html, "text/html; charset=utf-8"),
            headers,
            raw,
        }
    }

    /// The only header of this name.
    pub fn header(&self, name: &str) -> &str {
        header(&self.headers, name)
    }

    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> &'a str {
    let mut found = headers.iter().filter(|(key, _)| key == name);
    let (_, value) = found.next().unwrap_or_else(|| panic!("no {name}"));
    assert!(found.next().is_none(), "{name} twice");
    value
}

fn part(text: &str) -> (Vec<(String, String)>, &str) {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let headers = unfolded.split("\r\n").map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), words(value))
    });
    (headers.collect(), body)
}

/// A header with its encoded words decoded (RFC 2047); between two of them space doesn't count.
fn words(value: &str) -> String {
    let mut text = String::new();
    let mut encoded = Vec::new();
    for word in value.split(' ') {
        let inner = word.strip_prefix("=?utf-8?b?");
        if let Some(inner) = inner.and_then(|word| word.strip_suffix("?=")) {
            assert!(word.len() <= 75);
            encoded.extend(STANDARD.decode(inner).unwrap());
            continue;
        }
        flush(&mut text, &mut encoded);
        separate(&mut text);
        text.push_str(word);
    }
    flush(&mut text, &mut encoded);
    text
}

fn flush(text: &mut String, encoded: &mut Vec<u8>) {
    if !encoded.is_empty() {
        separate(text);
        text.push_str(&String::from_utf8(std::mem::take(encoded)).unwrap());
    }
}

fn separate(text: &mut String) {
    if !text.is_empty() {
        text.push(' ');
    }
}

fn decoded(text: &str, kind: &str) -> String {
    let (headers, body) = part(text);
    assert_eq!(header(&headers, "Content-Type"), kind);
    let body = body.strip_suffix("\r\n").unwrap();
    let bytes = match header(&headers, "Content-Transfer-Encoding") {
        "7bit" => body.as_bytes().to_vec(),
        "base64" => STANDARD.decode(body.replace("\r\n", "")).unwrap(),
        "quoted-printable" => unquoted(body),
        other => panic!("{other}"),
    };
    String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
}

fn unquoted(text: &str) -> Vec<u8> {
    let text = text.replace("=\r\n", "");
    let mut bytes = text.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte != b'=' {
            out.push(byte);
            continue;
        }
        let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
        let hex = std::str::from_utf8(&hex).unwrap();
        out.push(u8::from_str_radix(hex, 16).unwrap());
    }
    out
}
