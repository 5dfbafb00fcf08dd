//! What a text is made of, for searching.
//!
//! A *word* is a run of letters, digits and marks, without accents and capitals. Scripts that put no spaces between
//! words have none that could be told apart without a dictionary: there each two characters that stand side by side
//! are a word, and the last one alone is, too, so that every part of such a text can be found as a phrase.

use std::borrow::Cow;
use std::ops::Range;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// The longest word, in bytes: what is longer (an address, a key) is known by its beginning.
const LONGEST: usize = 64;
/// So many words of a text are looked at.
const MOST: usize = 4_000;

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// As it is compared.
    pub(crate) folded: String,
    /// Where it stands in the text, in bytes: for two characters of a script without spaces the whole run.
    pub(crate) at: Range<usize>,
    /// Whether it is such.
    pub(crate) spaceless: bool,
}

/// The words of a text, in their order.
pub(crate) fn words(text: &str) -> Vec<Word> {
    let mut found = Vec::new();
    for run in runs(text) {
        if found.len() >= MOST {
            break;
        }
        let folded = fold(&text[run.at.clone()]);
        if run.spaceless {
            pairs(&folded, &run, &mut found);
        } else if !folded.is_empty() {
            found.push(Word {
                folded: cut(folded),
                at: run.at,
                spaceless: false,
            });
        }
    }
    found.truncate(MOST);
    found
}

/// Letters of one sort that stand side by side.
struct Run {
    at: Range<usize>,
    spaceless: bool,
}

fn runs(text: &str) -> impl Iterator<Item = Run> {
    let mut chars = text.char_indices().peekable();
    std::iter::from_fn(move || {
        while chars.next_if(|(_, char)| !char.is_alphanumeric()).is_some() {}
        let (start, first) = chars.next()?;
        let spaceless = is_spaceless(first);
        let mut end = start + first.len_utf8();
        while let Some((at, char)) = chars.next_if(|(_, char)| {
            let same = char.is_alphanumeric() && is_spaceless(*char) == spaceless;
            same || is_combining_mark(*char)
        }) {
            end = at + char.len_utf8();
        }
        Some(Run {
            at: start..end,
            spaceless,
        })
    })
}

/// Each two characters of a run, and the last one.
fn pairs(folded: &str, run: &Run, found: &mut Vec<Word>) {
    let starts: Vec<usize> = folded.char_indices().map(|(at, _)| at).collect();
    for (n, start) in starts.iter().enumerate().take(MOST) {
        let end = starts.get(n + 2).copied().unwrap_or(folded.len());
        found.push(Word {
            folded: folded[*start..end].to_owned(),
            at: run.at.clone(),
            spaceless: true,
        });
    }
}

/// Without capitals, accents and forms that only look different. Of ASCII only letters and digits are left.
fn fold(word: &str) -> String {
    let plain: Cow<'_, str> = if word.is_ascii() {
        word.into()
    } else {
        let accent = |char: &char| ('\u{300}'..='\u{36f}').contains(char);
        word.nfkd().filter(|char| !accent(char)).nfc().collect()
    };
    let lower = plain.chars().flat_map(char::to_lowercase);
    lower
        .map(|char| if char == 'ς' { 'σ' } else { char })
        .filter(|char| char.is_alphanumeric() || (!char.is_ascii() && is_combining_mark(*char)))
        .collect()
}

fn cut(mut folded: String) -> String {
    folded.truncate(folded.floor_char_boundary(LONGEST));
    folded
}

/// Whether a script puts no spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Chinese, Japanese.
fn is_spaceless(char: char) -> bool {
    matches!(u32::from(char),
        0x0e00..=0x0fff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3005..=0x3007 | 0x3040..=0x30ff
        | 0x31f0..=0x31ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0xff66..=0xff9f
        | 0x2_0000..=0x3_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> Vec<String> {
        words(text).into_iter().map(|word| word.folded).collect()
    }

    #[test]
    fn words_have_neither_capitals_nor_accents() {
        assert_eq!(folded("Hello, WORLD!"), ["hello", "world"]);
        assert_eq!(
            folded("café CAFE\u{301} ＡＢＣ ﬁn"),
            ["cafe", "cafe", "abc", "fin"]
        );
        assert_eq!(folded("ὈΔΥΣΣΕΎΣ ὀδυσσεύς"), ["οδυσσευσ", "οδυσσευσ"]);
        assert_eq!(
            folded("don't e-mail a_b"),
            ["don", "t", "e", "mail", "a", "b"]
        );
        assert_eq!(folded("!?… \u{0} \u{301}"), Vec::<String>::new());
    }

    #[test]
    fn marks_that_are_no_accents_belong_to_their_words() {
        assert_eq!(folded("हिन्दी में"), ["हिन्दी", "में"]);
    }

    #[test]
    fn scripts_without_spaces_are_pairs() {
        assert_eq!(folded("日本語"), ["日本", "本語", "語"]);
        assert_eq!(folded("GPT模型2"), ["gpt", "模型", "型", "2"]);
        let all = words("a 日本 b");
        assert_eq!(all[1].at, 2..8);
        assert_eq!(all[2].at, 2..8, "the whole run");
        assert!(all[1].spaceless && !all[0].spaceless);
    }

    #[test]
    fn what_strangers_send_is_bounded() {
        assert_eq!(folded(&"x".repeat(10_000)), ["x".repeat(64)]);
        assert_eq!(folded(&"é".repeat(10_000)), ["e".repeat(64)]);
        assert_eq!(folded(&"ж".repeat(10_000))[0].len(), 64);
        assert_eq!(words(&"a ".repeat(10_000)).len(), MOST);
        assert_eq!(words(&"語".repeat(10_000)).len(), MOST);
    }
}
