//! What people write, made fit for headers and lines of a mail.

/// What stands where something was cut off.
const CUT: char = '…';

/// One line of at most so many characters: without line breaks, control characters, and what turns a line around or
/// can't be seen. Whitespace becomes single spaces.
pub(crate) fn line(text: &str, most: usize) -> String {
    let mut line = Bounded::new(most);
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() {
            gap = !line.text.is_empty();
        } else if !is_hidden(c) {
            let room = (!gap || line.push(' ')) && line.push(c);
            gap = false;
            if !room {
                break;
            }
        }
    }
    line.text
}

/// Lines of at most so many characters altogether, and at most so many of them, otherwise as [`line`] has it.
/// Of empty lines in a row one remains.
pub(crate) fn lines(text: &str, most: usize, most_lines: usize) -> String {
    let mut all = Bounded::new(most);
    let mut count = 0;
    let mut gap = false;
    for part in text.split(['\n', '\r', '\u{2028}', '\u{2029}']) {
        let part = line(part, most);
        if part.is_empty() {
            gap = count > 0;
            continue;
        }
        if count == most_lines {
            all.cut();
            break;
        }
        let before = if gap && count > 0 { "\n\n" } else { "\n" };
        let before = if count == 0 { "" } else { before };
        if !before.chars().chain(part.chars()).all(|c| all.push(c)) {
            break;
        }
        (count, gap) = (count + 1, false);
    }
    all.text
}

/// A body as mails have it: line breaks of one kind, no other control characters but tabs.
pub(crate) fn body(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.chars()
        .filter(|c| matches!(c, '\n' | '\t') || !c.is_control())
        .collect()
}

/// Control characters, marks for the direction of text, and what has no width but joins letters.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
                | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// Text that says where it was cut.
struct Bounded {
    text: String,
    left: usize,
}

impl Bounded {
    fn new(most: usize) -> Self {
        Self {
            text: String::new(),
            left: most,
        }
    }

    /// Whether there was room. If not, the text ends here.
    fn push(&mut self, c: char) -> bool {
        if self.left == 0 {
            self.text.pop();
            self.cut();
            return false;
        }
        self.left -= 1;
        self.text.push(c);
        true
    }

    fn cut(&mut self) {
        self.text.truncate(self.text.trim_end().len());
        if !self.text.ends_with(CUT) {
            self.text.push(CUT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        assert_eq!(line("Alice\r\nBcc: eve@x", 100), "Alice Bcc: eve@x");
        assert_eq!(line(" \u{85}a\u{2028}b \t c\u{b}", 100), "a b c");
        assert_eq!(line("a\u{0}b\u{1b}[31mc\u{7f}", 100), "ab[31mc");
        assert_eq!(line("\u{202e}gpj.exe\u{2066}\u{200f}", 100), "gpj.exe");
        assert_eq!(line("\u{200b}\u{feff} \u{2060}", 100), "");
    }

    #[test]
    fn letters_of_all_scripts_remain() {
        for text in ["Зоя", "عائشة", "می\u{200c}خواهم", "👩\u{200d}🚀", "名前"]
        {
            assert_eq!(line(text, 100), text);
        }
    }

    #[test]
    fn what_is_too_long_says_so() {
        assert_eq!(line("abcdef", 6), "abcdef");
        assert_eq!(line("abcdefg", 6), "abcde…");
        assert_eq!(line("abcd fg", 5), "abcd…");
        assert_eq!(line(&"ab ".repeat(100_000), 4), "ab…");
        assert_eq!(line("日本語日本語", 3), "日本…");
    }

    #[test]
    fn lines_are_bounded_in_number_and_length() {
        assert_eq!(lines("a\r\nb\n\n\n c\n", 100, 9), "a\n\nb\n\nc");
        assert_eq!(lines("\n\na\nb\nc", 100, 2), "a\nb…");
        assert_eq!(lines("a\nb", 100, 2), "a\nb");
        assert_eq!(lines("aaaa\nbbbb", 6, 9), "aaaa…");
        assert_eq!(lines("aaaa\nbbbb", 7, 9), "aaaa\nb…");
        assert_eq!(lines("a\u{202e}\n.\nQUIT", 100, 9), "a\n.\nQUIT");
    }

    #[test]
    fn bodies_have_one_kind_of_line_break() {
        assert_eq!(body("a\r\n.\r.\n\u{0}b\tc\u{1b}"), "a\n.\n.\nb\tc");
    }
}
