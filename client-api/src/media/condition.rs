//! Whether a client has what it asks for (<https://www.rfc-editor.org/rfc/rfc9110#name-conditional-requests>).

/// Whether one of the tags of an `If-None-Match` is this one, compared weakly.
pub(super) fn is_known(header: &str, tag: &str) -> bool {
    header.trim() == "*" || tags(header).any(|one| one.strip_prefix("W/").unwrap_or(one) == tag)
}

/// Whether an `If-Range` is about the file as it is, compared strongly: only then a part of it is of use. A date never is,
/// as none is told.
pub(super) fn is_same(header: &str, tag: &str) -> bool {
    header.trim() == tag
}

/// The tags of a list. A comma within one doesn't end it.
fn tags(header: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let parts = header.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    parts.map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_among_others() {
        for header in [
            r#""a""#,
            r#"W/"a""#,
            r#""b", "a""#,
            r#""b,c" ,W/"a","d""#,
            "*",
            " * ",
        ] {
            assert!(is_known(header, r#""a""#), "{header}");
        }
        for header in [
            "",
            "a",
            r#""b""#,
            r#""b,"a","c""#,
            r#""A""#,
            r#"w/"a""#,
            ",",
        ] {
            assert!(!is_known(header, r#""a""#), "{header}");
        }
    }

    #[test]
    fn a_part_is_of_use_only_to_who_has_the_same() {
        assert!(is_same(r#" "a" "#, r#""a""#));
        for header in ["", "*", r#"W/"a""#, "Tue, 15 Nov 1994 12:45:26 GMT"] {
            assert!(!is_same(header, r#""a""#), "{header}");
        }
    }
}
