//! What stands between parts.

/// The longest (RFC 2046, section 5.1.1).
const LONGEST: usize = 70;

/// The boundary that a `Content-Type` names, if it is `multipart/mixed`.
pub(in crate::media) fn boundary(content_type: &str) -> Option<String> {
    let (kind, mut rest) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/mixed") {
        return None;
    }
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after.trim_start())?;
        if name.trim().eq_ignore_ascii_case("boundary") {
            return Some(value).filter(|value| is_boundary(value));
        }
        rest = after.trim_start().strip_prefix(';')?;
    }
}

/// A parameter's value, a token or a quoted string, and what comes after it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ' ', '\t']).unwrap_or(text.len());
        return Some((text.get(..end)?.to_owned(), text.get(end..)?));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(char),
        }
    }
    None
}

fn is_boundary(text: &str) -> bool {
    let of_letters = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(of_letters) && !text.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_found_and_bounded() {
        let longest = format!("multipart/mixed; boundary={}", "a".repeat(LONGEST));
        for (text, found) in [
            ("multipart/mixed; boundary=abc", "abc"),
            ("Multipart/Mixed;BOUNDARY=abc", "abc"),
            ("multipart/mixed; boundary=\"a b:c\"", "a b:c"),
            ("multipart/mixed; boundary=\"a\\bc\"; x=y", "abc"),
            ("multipart/mixed; charset=x; boundary=abc", "abc"),
            ("multipart/mixed; x=\"; boundary=no\"; boundary=abc", "abc"),
            ("multipart/mixed; boundary=abc ; x=y", "abc"),
            (&*longest, &"a".repeat(LONGEST)),
        ] {
            assert_eq!(boundary(text).as_deref(), Some(found), "{text}");
        }
        for bad in [
            "",
            "multipart/mixed",
            "multipart/mixed;",
            "multipart/mixed; boundary",
            "multipart/mixed; boundary=",
            "multipart/mixed; boundary=\"\"",
            "multipart/mixed; boundary=\"abc",
            "multipart/mixed; boundary=\"abc\\",
            "multipart/mixed; boundary=\"abc \"",
            "multipart/mixed; boundary=ä",
            "multipart/mixed; boundary=\"a\rb\"",
            "multipart/mixed; x",
            "multipart/form-data; boundary=abc",
            "application/json",
            &format!("{longest}a"),
        ] {
            assert_eq!(boundary(bad), None, "{bad}");
        }
    }
}
