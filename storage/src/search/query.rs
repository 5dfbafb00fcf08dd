//! What somebody searches for, and whether a text has it.
//!
//! All of what is asked for has to be there, in any order: each word or the beginning of one, and what stands between
//! quotation marks word for word. What has a minus before it must not be there.

use super::words::{Word, words};

/// The most that one may ask for.
const MOST_TERMS: usize = 16;
/// And of how many words that may be.
const MOST_WORDS: usize = 64;
/// So much of what was found in a text is told.
const MOST_HIGHLIGHTS: usize = 100;

/// What is searched for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchQuery {
    pub(super) wanted: Vec<Term>,
    pub(super) unwanted: Vec<Term>,
}

/// Words that stand side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) words: Vec<String>,
    /// Whether the last may go on.
    pub(super) open: bool,
    /// As it was written, of a script without spaces: there no word of a text is what was found.
    said: Option<String>,
}

/// It asks for more than may be asked at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMuch;

/// How well a text has what is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// The more and the closer, the higher; below 1. It depends on nothing but the text.
    pub rank: f64,
    /// What was found, as it stands in the text.
    pub highlights: Vec<String>,
}

impl SearchQuery {
    /// Reads what somebody wrote.
    ///
    /// # Errors
    ///
    /// [`TooMuch`].
    pub fn parse(text: &str) -> Result<Self, TooMuch> {
        let mut query = Self::default();
        for piece in pieces(text) {
            let terms = if piece.quoted {
                Vec::from_iter(quoted(piece.text))
            } else {
                plain(piece.text)
            };
            let list = if piece.unwanted {
                &mut query.unwanted
            } else {
                &mut query.wanted
            };
            for term in terms {
                if !list.contains(&term) {
                    list.push(term);
                }
            }
        }
        let terms = || query.wanted.iter().chain(&query.unwanted);
        let number: usize = terms().map(|term| term.words.len()).sum();
        if terms().count() > MOST_TERMS || number > MOST_WORDS {
            return Err(TooMuch);
        }
        Ok(query)
    }

    /// Whether it asks for nothing: then nothing is found.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Whether, and how well, a text has it.
    pub fn find(&self, text: &str) -> Option<Match> {
        if self.is_empty() {
            return None;
        }
        let words = words(text);
        if self
            .unwanted
            .iter()
            .any(|term| term.at(&words).next().is_some())
        {
            return None;
        }
        let mut found = Match {
            rank: 0.0,
            highlights: Vec::new(),
        };
        for term in &self.wanted {
            let weight = term.weigh(&words, text, &mut found.highlights);
            if weight == 0.0 {
                return None;
            }
            found.rank += saturated(weight, words.len());
        }
        found.rank /= number(self.wanted.len());
        Some(found)
    }
}

/// Twice as often isn't twice as good, and it says less in a long text.
fn saturated(weight: f64, length: usize) -> f64 {
    const USUAL: f64 = 40.0;
    weight / (weight + 0.3 + 0.9 * number(length) / USUAL)
}

fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

impl Term {
    /// Where it begins in a text.
    fn at<'a>(&'a self, words: &'a [Word]) -> impl Iterator<Item = usize> + 'a {
        let stretches = words.windows(self.words.len()).enumerate();
        stretches.filter_map(|(at, stretch)| self.is(stretch).then_some(at))
    }

    fn is(&self, stretch: &[Word]) -> bool {
        let last = self.words.len().saturating_sub(1);
        let mut pairs = self.words.iter().zip(stretch).enumerate();
        pairs.all(|(n, (asked, word))| {
            if self.open && n == last {
                word.folded.starts_with(asked)
            } else {
                word.folded == *asked
            }
        })
    }

    /// How often it is there, where what only begins so counts for less; notes what it is there.
    fn weigh(&self, words: &[Word], text: &str, highlights: &mut Vec<String>) -> f64 {
        let mut weight = 0.0;
        for at in self.at(words) {
            let stretch = &words[at..at + self.words.len()];
            let whole = stretch.last().map(|word| &word.folded) == self.words.last();
            weight += if whole || self.said.is_some() {
                1.0
            } else {
                0.5
            };
            let found = match &self.said {
                Some(said) => vec![said.as_str()],
                None => stretch.iter().map(|word| &text[word.at.clone()]).collect(),
            };
            for found in found {
                let is_new = || !highlights.iter().any(|known| known == found);
                if highlights.len() < MOST_HIGHLIGHTS && is_new() {
                    highlights.push(found.to_owned());
                }
            }
        }
        weight
    }
}

/// A part of what somebody wrote.
struct Piece<'a> {
    text: &'a str,
    quoted: bool,
    unwanted: bool,
}

/// Parts between spaces or quotation marks.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        // A minus is one only right before what it is about.
        let minus = rest.strip_prefix('-').filter(|after| {
            let first = after.chars().next();
            first.is_some_and(|char| char == '"' || char.is_alphanumeric())
        });
        let from = minus.unwrap_or(rest);
        let inside = from.strip_prefix('"');
        let (text, after) = if let Some(inside) = inside {
            // What isn't closed goes to the end.
            inside.split_once('"').unwrap_or((inside, ""))
        } else {
            let end = from.find(|char: char| char.is_whitespace() || char == '"');
            from.split_at(end.unwrap_or(from.len()))
        };
        found.push(Piece {
            text,
            quoted: inside.is_some(),
            unwanted: minus.is_some(),
        });
        rest = after.trim_start();
    }
    found
}

/// Word for word.
fn quoted(text: &str) -> Option<Term> {
    let all = words(text);
    let last = all.last()?.clone();
    let run = all.iter().filter(|word| word.at == last.at).count();
    term(&all, last.spaceless && run == 1, None)
}

/// What stands together without spaces is to stand side by side, each script by itself.
fn plain(text: &str) -> Vec<Term> {
    let all = words(text);
    let parts = all.chunk_by(|a, b| a.spaceless == b.spaceless && (!a.spaceless || a.at == b.at));
    parts
        .filter_map(|part| {
            let last = part.last()?;
            let said = last.spaceless.then(|| text[last.at.clone()].to_owned());
            let open = if last.spaceless {
                part.len() == 1
            } else {
                last.folded.chars().nth(1).is_some()
            };
            term(part, open, said)
        })
        .collect()
}

/// Of a run of pairs the last character alone says nothing new.
fn term(part: &[Word], open: bool, said: Option<String>) -> Option<Term> {
    let last = part.last()?;
    let run = part.iter().filter(|word| word.at == last.at).count();
    let part = if last.spaceless && run > 1 {
        part.split_last()?.1
    } else {
        part
    };
    Some(Term {
        words: part.iter().map(|word| word.folded.clone()).collect(),
        open,
        said,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn has(query: &str, text: &str) -> bool {
        SearchQuery::parse(query).unwrap().find(text).is_some()
    }

    #[test]
    fn all_words_or_their_beginnings() {
        assert!(has("hello", "Hello, world!"));
        assert!(has("hel WOR", "Hello, world!"));
        assert!(!has("ello", "Hello, world!"), "not from within a word");
        assert!(!has("hello moon", "Hello, world!"));
        assert!(
            !has("Message 4", "Message number 14, 40"),
            "one character is one"
        );
        assert!(has("Message 4", "Message number 4"));
        assert!(!has("в", "вода") && has("во", "вода") && has("в", "в воде"));
        assert!(has("e-mail", "your E-Mails") && !has("e-mail", "mail e"));
        for nothing in ["", "  ", "!?", "\"\"", "-hello"] {
            assert!(!has(nothing, "hello"), "{nothing}");
        }
    }

    #[test]
    fn phrases_and_what_must_not_be_there() {
        assert!(has("\"not going\"", "it is NOT, going on"));
        assert!(!has("\"not go\"", "it is not going on"));
        assert!(!has("\"going not\"", "it is not going on"));
        assert!(has("going -moon", "going on") && !has("going -moon", "going to the moons"));
        assert!(!has("going -\"the moon\"", "going to the moon"));
        assert!(has("going -\"the moon\"", "the going moon"));
        assert!(has("\"never closed", "is never closed"));
        assert!(has("a - b", "a b"), "a minus alone is none");
    }

    #[test]
    fn parts_of_scripts_without_spaces() {
        let text = "日本語の検索、GPT模型abc";
        for query in [
            "日本",
            "本語",
            "日本語",
            "語の検",
            "の",
            "索",
            "検索",
            "模型",
            "gpt模型",
            "型abc",
            "\"型abc\"",
            "\"索GPT\"",
        ] {
            assert!(has(query, text), "{query}");
        }
        for query in ["日語", "語検", "\"日本 索\""] {
            assert!(!has(query, text), "{query}");
        }
    }

    #[test]
    fn what_is_better_is_higher_and_what_was_found_is_told() {
        let rank =
            |query: &str, text: &str| SearchQuery::parse(query).unwrap().find(text).unwrap().rank;
        assert!(rank("moon", "moon moon sun") > rank("moon", "moon sun sun"));
        assert!(rank("moon", "moon") > rank("moon", "moonlight"));
        let long = format!("moon {}", "sun ".repeat(100));
        assert!(rank("moon", "moon sun") > rank("moon", &long));
        assert!(rank("moon", &"moon ".repeat(1000)) < 1.0);
        let found = SearchQuery::parse("ca moon")
            .unwrap()
            .find("Café at the Moon, CAFÉ Moon");
        assert_eq!(found.unwrap().highlights, ["Café", "CAFÉ", "Moon"]);
        let found = SearchQuery::parse("本語").unwrap().find("日本語の");
        assert_eq!(found.unwrap().highlights, ["本語"]);
    }

    #[test]
    fn what_is_asked_for_is_bounded() {
        let many = |count: usize| {
            let words: Vec<String> = (0..count).map(|n| format!("ab{n}")).collect();
            SearchQuery::parse(&words.join(" "))
        };
        let again = SearchQuery::parse(&"ab ".repeat(1000));
        assert_eq!(again.map(|query| query.wanted.len()), Ok(1));
        assert!(many(MOST_TERMS).is_ok());
        assert_eq!(many(MOST_TERMS + 1), Err(TooMuch));
        let phrase = format!("\"{}\"", "a ".repeat(MOST_WORDS + 1));
        assert_eq!(SearchQuery::parse(&phrase), Err(TooMuch));
        assert_eq!(SearchQuery::parse(&"語".repeat(1000)), Err(TooMuch));
    }

    proptest! {
        #[test]
        fn each_part_of_a_text_is_found_in_it(text in "[a-cA-C語日本é '-]{1,20}", from in 0..20usize, to in 0..20usize) {
            let chars: Vec<char> = text.chars().collect();
            let (from, to) = (from.min(chars.len()), to.min(chars.len()));
            let part: String = chars[from.min(to)..from.max(to)].iter().collect();
            // From where a word begins.
            let starts = from.min(to) == 0 || !chars[from.min(to) - 1].is_alphanumeric();
            let query = SearchQuery::parse(&part).unwrap();
            if starts && query.unwanted.is_empty() && !query.is_empty() {
                // A character alone may be the beginning of a longer word, which it doesn't stand for.
                let short = query.wanted.iter().any(|term| !term.open && term.said.is_none());
                prop_assert!(short || query.find(&text).is_some(), "{part:?} in {text:?}");
            }
        }

        #[test]
        fn nothing_that_is_written_breaks_it(query in ".{0,40}", text in ".{0,40}") {
            if let Ok(query) = SearchQuery::parse(&query) {
                let found = query.find(&text);
                prop_assert!(found.is_none_or(|found| found.rank > 0.0 && found.rank < 1.0));
            }
        }
    }
}
