//! Patterns with `*` and `?` (appendices, "Glob-style matching"), without regard to case.
//!
//! Patterns and what they are held against are both strangers'. So one with wildcards is a set of states in a
//! number, which each character of the text moves on: what it costs is the length of the text, whatever both say.
//! One without is short, and tried only where a word may begin.

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Glob {
    /// Without wildcards, in lower case.
    Literal(Box<str>),
    /// With some.
    Wild(Box<Wild>),
    /// With wildcards, and longer than [`LONGEST`], or longer than [`LONGEST_TEXT`] without: it matches nothing.
    TooLong,
}

/// The most bytes of a pattern without wildcards.
pub const LONGEST_TEXT: usize = 255;

/// The most characters that a pattern with wildcards has beside its stars.
pub const LONGEST: usize = 127;

/// A pattern with wildcards. State `n` is that its first `n` characters have matched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wild {
    /// The state in which all have.
    end: u32,
    /// The states that any character leaves as they are, as a star is next.
    stars: u128,
    /// The states that any character moves on, as `?` is next.
    any: u128,
    /// The states that each of these characters moves on, ascending.
    next: Box<[(char, u128)]>,
}

impl Glob {
    /// Reads a pattern.
    pub fn parse(pattern: &str) -> Self {
        if !pattern.contains(['*', '?']) {
            if pattern.len() > LONGEST_TEXT {
                return Self::TooLong;
            }
            return Self::Literal(pattern.to_lowercase().into());
        }
        let pattern = pattern.to_lowercase();
        let (mut end, mut stars, mut any) = (0_u32, 0_u128, 0_u128);
        let mut next: Vec<(char, u128)> = Vec::new();
        for c in pattern.chars() {
            let state = 1_u128 << end;
            if c == '*' {
                stars |= state;
                continue;
            }
            if end as usize == LONGEST {
                return Self::TooLong;
            }
            match next.binary_search_by_key(&c, |(c, _)| *c) {
                _ if c == '?' => any |= state,
                Ok(at) => next[at].1 |= state,
                Err(at) => next.insert(at, (c, state)),
            }
            end += 1;
        }
        Self::Wild(Box::new(Wild {
            end,
            stars,
            any,
            next: next.into(),
        }))
    }

    /// Whether it matches the whole text, which is in lower case.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => **literal == *text,
            Self::Wild(wild) => {
                let states = text.chars().fold(1, |states, c| wild.step(states, c));
                wild.has_ended(states)
            }
            Self::TooLong => false,
        }
    }

    /// Whether it matches something in the text, which is in lower case, that begins and ends at the boundary of a word.
    pub fn matches_words(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => **literal == *text || has_words(text, literal),
            Self::Wild(wild) => wild.matches_words(text),
            Self::TooLong => false,
        }
    }
}

impl Wild {
    fn step(&self, states: u128, c: char) -> u128 {
        let own = self.next.binary_search_by_key(&c, |(c, _)| *c);
        let moving = self.any | own.map_or(0, |at| self.next[at].1);
        ((states & moving) << 1) | (states & self.stars)
    }

    fn has_ended(&self, states: u128) -> bool {
        states & (1 << self.end) != 0
    }

    fn matches_words(&self, text: &str) -> bool {
        let mut states = 0;
        let mut before = None;
        let mut chars = text.chars().peekable();
        loop {
            let after = chars.peek().copied();
            if is_boundary(before, after) {
                states |= 1;
                if self.has_ended(states) {
                    return true;
                }
            }
            let Some(c) = chars.next() else {
                return false;
            };
            states = self.step(states, c);
            before = Some(c);
        }
    }
}

/// Whether a word may begin or end between these characters (`None`: the text's end).
pub fn is_boundary(before: Option<char>, after: Option<char>) -> bool {
    !(before.is_some_and(in_word) && after.is_some_and(in_word))
}

/// Whether a character is one of a word.
pub fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether a text has something in it that begins and ends at the boundary of a word.
pub fn has_words(text: &str, literal: &str) -> bool {
    // Most texts don't have it anywhere, which is found out faster.
    if literal.is_empty() || !text.contains(literal) {
        return false;
    }
    let last = literal.chars().next_back();
    let mut before = None;
    text.char_indices().any(|(at, c)| {
        let begins = is_boundary(before.replace(c), Some(c));
        let rest = begins.then(|| text[at..].strip_prefix(literal)).flatten();
        rest.is_some_and(|rest| is_boundary(last, rest.chars().next()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_examples() {
        for (pattern, text, matches) in [
            ("lunc?*", "Lunch plans", true),
            ("lunc?*", "LUNCH", true),
            ("lunc?*", " lunch", false),
            ("lunc?*", "lunc", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("**a", "bca", true),
            ("?", "ß", true),
            ("m.room.*", "m.roommate", false),
        ] {
            assert_eq!(
                Glob::parse(pattern).matches(&text.to_lowercase()),
                matches,
                "{pattern} {text}"
            );
        }
        for (pattern, text, matches) in [
            ("ex*ple", "An example event.", true),
            ("ex*ple", "exple", true),
            ("ex*ple", "An exciting triple-whammy", true),
            ("ex*ple", "An example2", false),
            ("cake", "cakes", false),
            ("cake", "pancake, cake!", true),
            ("cake", "a_cake", false),
            ("kuchen", "Käsekuchen", false),
            ("kuchen", "ükuchen", true),
            ("", "a b", false),
            ("", "", true),
            ("b", "a b", true),
            ("a?", "a!", true),
            ("aa", "aaa aa", true),
            ("a a", "xa a a", true),
            ("!a", "!ab!a", true),
            ("é!", "eé!é", true),
            ("a", "éa", true),
        ] {
            let found = Glob::parse(pattern).matches_words(&text.to_lowercase());
            assert_eq!(found, matches, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_others() {
        let text = "a".repeat(65_536);
        let pattern = "a*".repeat(LONGEST) + "b";
        assert_eq!(Glob::parse(&pattern), Glob::TooLong);
        let pattern = "a*".repeat(LONGEST - 1) + "b";
        assert!(!Glob::parse(&pattern).matches_words(&text));
        assert!(!Glob::parse("aab").matches_words(&text));
    }

    #[test]
    fn a_long_literal_matches_nothing() {
        for (length, matches) in [(LONGEST_TEXT, true), (LONGEST_TEXT + 1, false)] {
            let text = "a".repeat(length);
            assert_eq!(Glob::parse(&text).matches_words(&text), matches);
            assert_eq!(Glob::parse(&text).matches(&text), matches);
        }
        assert_eq!(Glob::parse(&"A".repeat(32_000)), Glob::TooLong);
    }
}
