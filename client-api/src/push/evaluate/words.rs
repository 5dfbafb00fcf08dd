//! The words of a text, found in one pass: so that each of many keywords is looked up, not looked for.

use super::glob::{in_word, is_boundary};

/// Where the words of a text begin and end, in the order of the alphabet and then of the text.
#[derive(Debug)]
pub struct Words(Box<[(usize, usize)]>);

impl Words {
    /// Those of a text.
    pub fn of(text: &str) -> Self {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(begin) = text[at..].find(in_word).map(|begin| at + begin) {
            at = begin + head(&text[begin..]).len();
            found.push((begin, at));
        }
        found.sort_unstable_by(|one, other| {
            let words = text[one.0..one.1].cmp(&text[other.0..other.1]);
            words.then(one.cmp(other))
        });
        Self(found.into())
    }

    /// Whether the text, whose words these are, has something in it that begins and ends at the boundary of a word;
    /// `None` if it doesn't begin with a word, so that it has to be looked for.
    pub fn have(&self, text: &str, literal: &str) -> Option<bool> {
        // A boundary before a word is where a word of the text begins, and what comes after it ends that, too.
        let first = head(literal);
        let last = literal.chars().next_back().filter(|_| !first.is_empty())?;
        let from = self
            .0
            .partition_point(|(begin, end)| text[*begin..*end] < *first);
        let same = self.0[from..]
            .iter()
            .take_while(|(begin, end)| text[*begin..*end] == *first);
        let mut rest = same.filter_map(|(begin, _)| text[*begin..].strip_prefix(literal));
        Some(rest.any(|rest| is_boundary(Some(last), rest.chars().next())))
    }
}

/// The word that a text begins with.
fn head(text: &str) -> &str {
    text.find(|c| !in_word(c)).map_or(text, |end| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::{super::glob::has_words, *};

    #[test]
    fn what_is_looked_up_is_what_is_found() {
        let texts = [
            "", "a", "a b", "aa a_a a", "a-b a", "ü a", "aü", "b a b", "a  b", "-a-", "a b!",
            "ab a",
        ];
        let mut looked_up = 0;
        for text in texts {
            let words = Words::of(text);
            let ends = || text.char_indices().map(|(at, c)| (at, at + c.len_utf8()));
            let parts = ends().flat_map(|(from, _)| ends().map(move |(_, to)| (from, to)));
            let parts = parts.filter(|(from, to)| from < to);
            let parts = parts.map(|(from, to)| &text[from..to]);
            for literal in parts.chain(["a", "b", "a b", "a-", "a-b", "aa", "b!", "c", "", "!"]) {
                if let Some(has) = words.have(text, literal) {
                    assert_eq!(has, has_words(text, literal), "{text:?} {literal:?}");
                    looked_up += 1;
                }
            }
        }
        assert!(looked_up > 100);
    }
}
