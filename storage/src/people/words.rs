//! By which words people are found.
//!
//! They are those of a search ([`crate::search`]), in Latin letters: who writes `moskva` finds `Москва`, and the other way
//! round. Emoji are words, too. All of an id is one word as well, the only one that begins with `@`.

use std::collections::BTreeSet;

use ruma::UserId;

use crate::search::words::words;

/// The longest name that is looked at, in bytes.
pub(super) const LONGEST_NAME: usize = 1_024;
/// The longest word, in bytes.
const LONGEST: usize = 64;
/// So many words of a name are kept, and of an id,
const MOST: usize = 32;
/// so many emoji among them: these come first.
const MOST_EMOJI: usize = 8;
/// The longest text to search for, in bytes,
const LONGEST_TEXT: usize = 4_096;
/// and so many words of one are looked for. The others are ignored: a long name is found by what it begins with.
const MOST_TERMS: usize = 16;
/// The longest user id, in bytes.
const LONGEST_ID: usize = 255;

/// What somebody searches for: what each of these words goes on from is to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeopleQuery {
    /// The longest first.
    pub(super) terms: Vec<String>,
}

/// It is too much to be a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl PeopleQuery {
    /// Reads what somebody wrote. Without any word it finds nobody.
    ///
    /// # Errors
    ///
    /// [`TooLong`].
    pub fn parse(text: &str) -> Result<Self, TooLong> {
        if text.len() > LONGEST_TEXT {
            return Err(TooLong);
        }
        let mut terms: Vec<String> = Vec::new();
        for piece in text.split_whitespace() {
            let found = match id(piece) {
                Some(id) => vec![id_word(&id)],
                None => plain(piece),
            };
            for term in found {
                let emoji = |term: &String| term.chars().all(is_emoji);
                // As many as a name is found by.
                let all =
                    emoji(&term) && terms.iter().filter(|term| emoji(term)).count() >= MOST_EMOJI;
                if !all && !terms.contains(&term) {
                    terms.push(term);
                }
            }
            if terms.len() >= MOST_TERMS {
                break;
            }
        }
        terms.truncate(MOST_TERMS);
        // What another goes on from says nothing.
        let all = terms.clone();
        let said = |term: &String| {
            all.iter()
                .any(|other| other != term && other.starts_with(term.as_str()))
        };
        terms.retain(|term| !said(term));
        terms.sort_by_key(|term| std::cmp::Reverse(term.chars().count()));
        Ok(Self { terms })
    }

    /// Whether somebody of this id and name is meant; and if so, whether by whole words.
    pub fn finds(&self, user: &UserId, name: Option<&str>) -> Option<bool> {
        if self.terms.is_empty() {
            return None;
        }
        let words = words_of(user, name);
        let begins = |term: &String| {
            let first = words.range::<String, _>(term..).next();
            first.is_some_and(|word| word.starts_with(term.as_str()))
        };
        let whole = self.terms.iter().all(|term| words.contains(term));
        self.terms.iter().all(begins).then_some(whole)
    }

    /// Whether it is this id.
    pub(super) fn is_id(&self, user: &UserId) -> bool {
        self.terms == [id_word(user.as_str())]
    }
}

/// The words by which somebody of this id and name is found.
pub(super) fn words_of(user: &UserId, name: Option<&str>) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = plain(user.localpart()).into_iter().take(MOST).collect();
    found.insert(id_word(user.as_str()));
    if let Some(name) = name {
        found.extend(plain(cut(name, LONGEST_NAME)).into_iter().take(MOST));
    }
    found
}

/// A text up to so many bytes.
pub(super) fn cut(text: &str, longest: usize) -> &str {
    &text[..text.floor_char_boundary(longest)]
}

fn id_word(id: &str) -> String {
    cut(&id.to_lowercase(), LONGEST_ID).to_owned()
}

/// The user id that this is, or begins to be: after an `@`, or all of it as people write it down, with the name of a server.
fn id(piece: &str) -> Option<String> {
    if let Some(id) = piece.strip_prefix('@') {
        return (!id.is_empty()).then(|| piece.to_owned());
    }
    let (_, server) = piece.split_once(':')?;
    let id = format!("@{piece}");
    (server.contains('.') && UserId::parse(&*id).is_ok()).then_some(id)
}

/// The words of a text, each once, in their order; emoji first.
fn plain(text: &str) -> Vec<String> {
    let emoji = text.chars().filter(|char| is_emoji(*char));
    let mut found: Vec<String> = Vec::new();
    let mut known = BTreeSet::new();
    for emoji in emoji.map(String::from) {
        if found.len() < MOST_EMOJI && known.insert(emoji.clone()) {
            found.push(emoji);
        }
    }
    let words = words(text).into_iter().map(|word| latin(&word.folded));
    for word in words.filter(|word| !word.is_empty()) {
        if known.insert(word.clone()) {
            found.push(word);
        }
    }
    found
}

fn is_emoji(char: char) -> bool {
    !char.is_alphanumeric() && matches!(u32::from(char), 0x2190..=0x2bff | 0x1_f000..=0x1_faff)
}

/// A word without capitals and accents in Latin letters, as far as it has such. What a word begins with, it begins with
/// here, too.
fn latin(word: &str) -> String {
    if word.is_ascii() {
        return word.to_owned();
    }
    let mut out = String::with_capacity(word.len());
    for char in word.chars() {
        match letters(char) {
            Some(letters) => out.push_str(letters),
            None => out.push(char),
        }
    }
    out.truncate(out.floor_char_boundary(LONGEST));
    out
}

fn letters(char: char) -> Option<&'static str> {
    Some(match char {
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'đ' | 'ð' | 'д' | 'δ' => "d",
        'þ' | 'θ' => "th",
        'ł' | 'л' | 'λ' => "l",
        'ı' | 'и' | 'і' | 'ι' | 'η' => "i",
        'ħ' => "h",
        'ŋ' | 'н' | 'ν' => "n",
        'а' | 'α' => "a",
        'б' | 'β' => "b",
        'в' => "v",
        'г' | 'ґ' | 'γ' => "g",
        'е' | 'э' | 'ε' => "e",
        'є' => "ye",
        'ж' => "zh",
        'з' | 'ζ' => "z",
        'ј' => "j",
        'к' | 'κ' => "k",
        'м' | 'μ' => "m",
        'ø' | 'о' | 'ο' | 'ω' => "o",
        'п' | 'π' => "p",
        'р' | 'ρ' => "r",
        'с' | 'σ' => "s",
        'т' | 'τ' => "t",
        'у' => "u",
        'ф' | 'φ' => "f",
        'х' => "kh",
        'ц' => "ts",
        'ч' | 'χ' => "ch",
        'ш' => "sh",
        'щ' => "shch",
        'ъ' | 'ь' => "",
        'ы' | 'υ' => "y",
        'ю' => "yu",
        'я' => "ya",
        'ђ' => "dj",
        'љ' => "lj",
        'њ' => "nj",
        'ћ' => "c",
        'џ' => "dz",
        'ξ' => "x",
        'ψ' => "ps",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    fn finds(text: &str, id: &str, name: &str) -> Option<bool> {
        let id = UserId::parse(id).unwrap();
        PeopleQuery::parse(text).unwrap().finds(&id, Some(name))
    }

    #[test]
    fn people_are_found_by_beginnings_of_their_words() {
        let (id, name) = ("@alice.k_3:here", "Alice Cooper");
        for whole in ["alice", "COOPER alice", "k", "@Alice.k_3:here", "3 cooper"] {
            assert_eq!(finds(whole, id, name), Some(true), "{whole}");
        }
        for begun in ["al", "coo ali", "@al", "@alice.k_3:", "alice.k"] {
            assert!(finds(begun, id, name).is_some(), "{begun}");
        }
        for other in [
            "lice",
            "alice bob",
            "here",
            "@alice.k_3:here.org",
            "@",
            ":",
            "",
            " \u{0}%_*'\"",
        ] {
            assert_eq!(finds(other, id, name), None, "{other}");
        }
    }

    #[test]
    fn other_letters_are_found_by_latin_ones_and_the_other_way_round() {
        assert_eq!(finds("ivan", "@x:here", "Иван Щукин"), Some(true));
        assert_eq!(finds("шукин", "@x:here", "Иван Щукин"), None);
        assert_eq!(finds("shchu", "@x:here", "Иван Щукин"), Some(false));
        assert_eq!(finds("иван", "@ivan:here", ""), Some(true));
        assert_eq!(finds("sofia", "@x:here", "Σοφία"), Some(true));
        assert_eq!(finds("Strasse lodz", "@x:here", "Straße Łódź"), Some(true));
        assert_eq!(finds("本", "@x:here", "日本語"), Some(false));
        assert_eq!(finds("日本", "@x:here", "日本語"), Some(false));
        assert_eq!(finds("🦊", "@x:here", "Fox 🦊"), Some(true));
    }

    #[test]
    fn an_id_is_found_however_it_is_written() {
        let (id, name) = ("@alice:here.org", "A");
        for text in ["@alice:here.org", "alice:here.org", "Alice:here.org"] {
            assert!(finds(text, id, name).is_some(), "{text}");
        }
        assert_eq!(finds("alice:there.org", id, name), None);
        assert_eq!(finds("team:red", "@x:here", "Team:Red"), Some(true));
    }

    #[test]
    fn long_names_are_found_by_themselves() {
        let (thai, many) = ("สวัสดีชาวโลกทั้งหลายที่อยู่ที่นี่", "日本語".repeat(30));
        let words: Vec<String> = (0..40).map(|n| format!("w{n}")).collect();
        let words = words.join(" ");
        for name in [thai, &many, &words] {
            assert!(finds(name, "@x:here", name).is_some(), "{name}");
        }
        let fox = format!("{} 🦊", "x y z ".repeat(40));
        assert!(finds("🦊", "@x:here", &fox).is_some());
        let fox = format!("{words} 🦊");
        assert!(finds("🦊", "@x:here", &fox).is_some());
        let again = format!("{} last", "again ".repeat(40));
        assert!(finds("last", "@x:here", &again).is_some());
    }

    #[test]
    fn what_another_word_says_is_not_looked_for() {
        let terms = |text: &str| PeopleQuery::parse(text).unwrap().terms;
        assert_eq!(terms("al alice al b"), ["alice", "b"]);
        assert_eq!(terms("x"), ["x"]);
    }

    #[test]
    fn what_strangers_send_is_bounded() {
        let long = "x ".repeat(10_000);
        assert_eq!(PeopleQuery::parse(&long), Err(TooLong));
        let many: Vec<String> = (100..200).map(|n| n.to_string()).collect();
        let many = PeopleQuery::parse(&many.join(" ")).unwrap();
        assert_eq!(many.terms.len(), MOST_TERMS);
        let many: Vec<String> = (0..5_000).map(|n| format!("щ{n}")).collect();
        let words = words_of(user_id!("@x:here"), Some(&many.join(" ")));
        assert!(words.len() <= MOST + 2);
        let words = words_of(user_id!("@x:here"), Some(&"щ".repeat(10_000)));
        assert!(words.iter().all(|word| word.len() <= LONGEST));
    }
}
