//! How a page's bytes are to be read (<https://html.spec.whatwg.org/#determining-the-character-encoding>).

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use html5gum::{Token, Tokenizer};

/// In so many bytes a page says how it is encoded. The standard has 1,024; pages are looser.
const BEGINNING: usize = 4_096;

/// The page's text: by its byte order mark, by what the server says, by what it says itself; else as UTF-8 if it is that,
/// and as what the West used before if it isn't.
pub(super) fn decode<'a>(bytes: &'a [u8], content_type: Option<&str>) -> Cow<'a, str> {
    let marked = Encoding::for_bom(bytes).map(|(encoding, _)| encoding);
    let said = || of_content_type(content_type?);
    let encoding = marked
        .or_else(said)
        .or_else(|| of_page(bytes))
        .unwrap_or_else(|| likely(bytes));
    encoding.decode_with_bom_removal(bytes).0
}

fn likely(bytes: &[u8]) -> &'static Encoding {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_some() => WINDOWS_1252,
        // Cut off in the middle of a character is UTF-8, too.
        _ => UTF_8,
    }
}

/// `text/html; charset=…`
fn of_content_type(text: &str) -> Option<&'static Encoding> {
    let text = text.to_ascii_lowercase();
    let (_, after) = text.split_once("charset")?;
    let after = after.trim_start().strip_prefix('=')?.trim_start();
    let label = match after.strip_prefix(['"', '\'']) {
        Some(quoted) => quoted.split(['"', '\'']).next(),
        None => after.split([';', ' ', ',']).next(),
    };
    Encoding::for_label(label?.as_bytes())
}

/// What the page says itself, which can be read only if that is no encoding of two bytes.
fn of_page(bytes: &[u8]) -> Option<&'static Encoding> {
    let beginning = bytes.get(..BEGINNING).unwrap_or(bytes);
    let said = of_declaration(beginning).or_else(|| of_meta(beginning))?;
    if said == UTF_16LE || said == UTF_16BE {
        return Some(UTF_8);
    }
    Some(said)
}

/// `<?xml version="1.0" encoding="…"?>`
fn of_declaration(beginning: &[u8]) -> Option<&'static Encoding> {
    let text = beginning.strip_prefix(b"<?xml")?;
    let end = text.iter().position(|byte| *byte == b'>')?;
    let text = std::str::from_utf8(&text[..end]).ok()?;
    let (_, after) = text.split_once("encoding")?;
    let after = after.trim_start().strip_prefix('=')?.trim_start();
    let label = after.strip_prefix(['"', '\''])?.split(['"', '\'']).next()?;
    Encoding::for_label(label.as_bytes())
}

/// `<meta charset="…">`, or with `http-equiv`.
fn of_meta(beginning: &[u8]) -> Option<&'static Encoding> {
    for Ok(token) in Tokenizer::new(beginning) {
        let Token::StartTag(tag) = token else {
            continue;
        };
        match &**tag.name {
            b"body" => return None,
            b"meta" => {}
            _ => continue,
        }
        let attribute = |name: &[u8]| {
            let value = tag.attributes.get(name)?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        let encoding = match attribute(b"charset") {
            Some(label) => Encoding::for_label(label.as_bytes()),
            None if attribute(b"http-equiv")
                .as_deref()
                .is_some_and(is_content_type) =>
            {
                attribute(b"content").and_then(|text| of_content_type(&text))
            }
            None => None,
        };
        if encoding.is_some() {
            return encoding;
        }
    }
    None
}

fn is_content_type(name: &str) -> bool {
    name.eq_ignore_ascii_case("content-type")
}
