//! What a file is said to be, and whether a browser may show it.

use http::HeaderValue;
use rhizome_federation::media::is_shown_inline;

/// What nothing is known of.
const UNKNOWN: &str = "application/octet-stream";

/// A file's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kind {
    /// As a header.
    pub(super) header: HeaderValue,
    /// Whether a browser may show it.
    pub(super) is_inline: bool,
}

/// What its uploader said, if that has the form of a type (<https://www.rfc-editor.org/rfc/rfc9110#name-media-type>);
/// whether parameters are well-formed or not must not change how a browser reads the type before them.
pub(super) fn kind(said: Option<&str>) -> Kind {
    let said = said.map(str::trim).filter(|said| is_type(said));
    let header = said.and_then(|said| HeaderValue::from_str(said).ok());
    let essence = said.map_or(UNKNOWN, essence);
    let is_inline = is_shown_inline(essence);
    match header {
        Some(header) => Kind { header, is_inline },
        None => Kind {
            header: HeaderValue::from_static(UNKNOWN),
            is_inline: false,
        },
    }
}

/// The type without its parameters.
fn essence(said: &str) -> &str {
    said.split(';').next().unwrap_or_default().trim()
}

fn is_type(said: &str) -> bool {
    let Some((kind, subtype)) = essence(said).split_once('/') else {
        return false;
    };
    is_token(kind) && is_token(subtype) && are_parameters(said)
}

/// Whether what follows the type are parameters: names with tokens or quoted strings.
fn are_parameters(said: &str) -> bool {
    let Some((_, mut rest)) = said.split_once(';') else {
        return true;
    };
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if let Some(next) = rest.strip_prefix(';') {
            rest = next;
            continue;
        }
        if rest.is_empty() {
            return true;
        }
        let Some((name, value)) = rest.split_once('=') else {
            return false;
        };
        let end = match value.strip_prefix('"') {
            Some(quoted) => end_of_quoted(quoted).map(|end| end + 1),
            None => Some(value.find([';', ' ', '\t']).unwrap_or(value.len())),
        };
        let Some((value, after)) = end.and_then(|end| value.split_at_checked(end)) else {
            return false;
        };
        if !is_token(name) || !(value.starts_with('"') || is_token(value)) {
            return false;
        }
        rest = after.trim_start_matches([' ', '\t']);
        if !(rest.is_empty() || rest.starts_with(';')) {
            return false;
        }
    }
}

/// Where a quoted string ends, whose first quotation mark is off: after its last.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            ' '..='~' | '\t' => {}
            _ => return None,
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    let mark = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || mark(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(said: &str) -> (String, bool) {
        let kind = kind(Some(said));
        (kind.header.to_str().unwrap().to_owned(), kind.is_inline)
    }

    #[test]
    fn a_type_stays_as_it_was_said() {
        for (said, is_inline) in [
            ("image/png", true),
            ("img/png", false),
            ("Text/Plain; charset=utf-8", true),
            ("text/plain;charset=\"a \\\"; b\" ; x=y;", true),
            ("TEXT/CSS", true),
            ("text/html", false),
            ("image/svg+xml", false),
            ("application/pdf", false),
            (r#"application/xhtml+xml; x="image/png""#, false),
        ] {
            assert_eq!(told(said), (said.to_owned(), is_inline), "{said}");
        }
    }

    #[test]
    fn what_is_no_type_is_unknown() {
        for said in [
            "",
            " ",
            "png",
            "image/",
            "/png",
            "image/png, text/html",
            "image/png\r\nSet-Cookie: a=b",
            "image/png\0",
            "image /png",
            "image/p ng",
            "image/png/text",
            "bild/größe",
            "image/png; a",
            "text/html;image/png",
            "text/html; a=image/png",
            "image/png; a=",
            "image/png; =b",
            "image/png; a=\"b",
            "image/png; a=b c",
            "image/png; a=\"b\"c",
            "image/png; a=\"\u{7f}\"",
        ] {
            assert_eq!(told(said), (UNKNOWN.to_owned(), false), "{said:?}");
        }
        let nothing = kind(None);
        assert_eq!(
            (nothing.header.as_bytes(), nothing.is_inline),
            (UNKNOWN.as_bytes(), false)
        );
    }
}
