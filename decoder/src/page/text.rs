//! Texts as they are told.

/// What isn't seen, and what turns the text around it.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A text on one line, without control characters and what isn't seen, cut off between words; `None` if nothing is left.
pub(super) fn line(text: &str, most: usize) -> Option<String> {
    const MORE: &str = "…";
    let mut line = String::new();
    let text: String = text.chars().filter(|c| !is_unseen(*c)).collect();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        let space = usize::from(!line.is_empty());
        if line.len() + space + word.len() > most {
            if line.is_empty() {
                let room = most.saturating_sub(MORE.len());
                line.push_str(&word[..word.floor_char_boundary(room)]);
            }
            while line.len() + MORE.len() > most {
                let end = line
                    .rfind(' ')
                    .or(line.char_indices().next_back().map(|(at, _)| at));
                line.truncate(end.unwrap_or(0));
            }
            line.push_str(MORE);
            return Some(line);
        }
        if space > 0 {
            line.push(' ');
        }
        line.push_str(word);
    }
    (!line.is_empty()).then_some(line)
}

/// An address, if it may be one: a cut off one leads elsewhere.
pub(super) fn address(text: &str, most: usize) -> Option<String> {
    // As a URL's parser does.
    let text: String = text.trim().split(['\t', '\n', '\r']).collect();
    let odd = |c: char| c.is_control() || matches!(c, '"' | '<' | '>' | '\\');
    let fits = (1..=most).contains(&text.len()) && !text.contains(odd);
    fits.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_between_words() {
        assert_eq!(line(" a\n\t b\0c\u{a0}d ", 100).as_deref(), Some("a b c d"));
        assert_eq!(line("one two three", 13).as_deref(), Some("one two three"));
        assert_eq!(line("one two three", 12).as_deref(), Some("one two…"));
        assert_eq!(line("üüüüüüüü", 9).as_deref(), Some("üüü…"));
        assert_eq!(line(" \n\0 ", 9), None);
        assert_eq!(
            line("\u{feff}a\u{202e}b\u{200b} \u{2066}\u{200f}c", 9).as_deref(),
            Some("ab c")
        );
        assert_eq!(line("\u{2060}\u{200d} \u{202a}", 9), None);
        let cut = line("one two three", 12).unwrap();
        assert_eq!(line(&cut, 12).as_ref(), Some(&cut));
        for most in 3..20 {
            let cut = line("äöü ß€ 🎉🎉 abc defghijkl", most).unwrap();
            assert!(cut.len() <= most, "{cut}");
            assert_eq!(line(&cut, most), Some(cut));
        }
    }

    #[test]
    fn addresses_are_whole_or_none() {
        assert_eq!(address(" /a?b#c\n", 9).as_deref(), Some("/a?b#c"));
        for bad in ["", " ", "0123456789", "a\"b", "a\\b", "a\0b"] {
            assert_eq!(address(bad, 9), None, "{bad}");
        }
    }
}
