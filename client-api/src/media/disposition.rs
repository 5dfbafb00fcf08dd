//! What a file is called where it is saved, and whether it is shown or saved
//! (<https://www.rfc-editor.org/rfc/rfc6266>).

use std::borrow::Cow;

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// So many bytes has a name at most: what file systems take.
const LONGEST: usize = 255;
/// So many of them are kept of what follows its last dot.
const LONGEST_ENDING: usize = 32;

/// What stands in an extended value as it is (`attr-char`, <https://www.rfc-editor.org/rfc/rfc8187#section-3.2.1>).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The `Content-Disposition` of a file that is called so.
pub(super) fn disposition(is_inline: bool, name: Option<&str>) -> HeaderValue {
    let what = if is_inline { "inline" } else { "attachment" };
    let name = name.map(harmless).filter(|name| !name.is_empty());
    let text = match name {
        None => Cow::Borrowed(what),
        Some(name) => Cow::Owned(format!("{what}; {}", named(&name))),
    };
    // It is made of nothing but visible ASCII.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("attachment"))
}

/// The name as parameters: for every client, and exactly.
fn named(name: &str) -> String {
    let plain = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | '%');
    if name.chars().all(plain) {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        return if name.bytes().all(is_word) {
            format!("filename={name}")
        } else {
            format!("filename=\"{name}\"")
        };
    }
    // Clients disagree about what `%` and `\` mean between quotation marks.
    let fallback: String = name
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    let exact = utf8_percent_encode(name, ESCAPED);
    format!("filename=\"{fallback}\"; filename*=UTF-8''{exact}")
}

/// The name without what it could do harm with: it is no path, has nothing that isn't seen, reads in the order in which
/// it is written, and isn't too long.
fn harmless(name: &str) -> String {
    let mut kept = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '/' | '\\' => kept.push('_'),
            _ if is_unseen(c) => {}
            _ => kept.push(c),
        }
    }
    let kept = kept.trim();
    if kept.chars().all(|c| c == '.') {
        return String::new();
    }
    shortened(kept)
}

/// Characters that act and aren't seen. Those that join letters and emojis stay.
fn is_unseen(c: char) -> bool {
    let turns_text = matches!(c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let ends_line = matches!(c, '\u{2028}' | '\u{2029}');
    c.is_control() || turns_text || ends_line || c == '\u{feff}'
}

/// Cut off before its ending, which says how it is opened.
fn shortened(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let ending = name.rfind('.').map_or("", |dot| &name[dot..]);
    let ending = if ending.len() <= LONGEST_ENDING {
        ending
    } else {
        ""
    };
    let stem = name.floor_char_boundary(LONGEST - ending.len());
    format!("{}{ending}", &name[..stem])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str) -> String {
        let header = disposition(false, Some(name));
        let text = header.to_str().unwrap().to_owned();
        text.strip_prefix("attachment; ").unwrap_or("").to_owned()
    }

    #[test]
    fn names_of_every_language() {
        for (name, header) in [
            ("file.png", "filename=file.png"),
            ("name with spaces", r#"filename="name with spaces""#),
            ("name;with;semicolons", r#"filename="name;with;semicolons""#),
            ("a=b,c", r#"filename="a=b,c""#),
            ("🐔", r#"filename="_"; filename*=UTF-8''%F0%9F%90%94"#),
            (
                "Größe ü.pdf",
                r#"filename="Gr__e _.pdf"; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%C3%BC.pdf"#,
            ),
            (
                "100%41.txt",
                r#"filename="100_41.txt"; filename*=UTF-8''100%2541.txt"#,
            ),
            (
                "👩\u{200d}🚀",
                r#"filename="___"; filename*=UTF-8''%F0%9F%91%A9%E2%80%8D%F0%9F%9A%80"#,
            ),
        ] {
            assert_eq!(told(name), header, "{name}");
        }
    }

    #[test]
    fn names_that_would_do_harm() {
        for (name, header) in [
            ("../../etc/passwd", "filename=.._.._etc_passwd"),
            (r"..\..\boot.ini", "filename=.._.._boot.ini"),
            ("a\r\nSet-Cookie: b=c", r#"filename="aSet-Cookie: b=c""#),
            ("a\0b\u{7f}c\u{85}d", "filename=abcd"),
            (
                r#"a"; filename="b.exe"#,
                r#"filename="a_; filename=_b.exe"; filename*=UTF-8''a%22%3B%20filename%3D%22b.exe"#,
            ),
            ("invoice\u{202e}gpj.exe", "filename=invoicegpj.exe"),
            (
                "a\u{2066}b\u{2069}\u{200f}\u{feff}\u{2028}c",
                "filename=abc",
            ),
            ("", ""),
            ("..", ""),
            (" . ", ""),
            ("\u{202e}\r\n", ""),
        ] {
            assert_eq!(told(name), header, "{name:?}");
        }
        assert_eq!(disposition(true, Some("..")), "inline");
        assert_eq!(disposition(true, None), "inline");
        assert_eq!(disposition(false, None), "attachment");
    }

    #[test]
    fn a_long_name_keeps_its_ending() {
        let long = harmless(&format!("{}.tar.gz", "ä".repeat(300)));
        assert!(long.len() <= LONGEST && long.ends_with("ä.gz"), "{long}");
        let odd = harmless(&format!("a.{}", "b".repeat(300)));
        assert_eq!(odd.len(), LONGEST);
    }
}
