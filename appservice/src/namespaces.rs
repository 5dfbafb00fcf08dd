//! Which users, aliases and rooms are a service's, or interest it.

use regex::{RegexBuilder, RegexSet, RegexSetBuilder};

/// The most bytes of one regular expression.
pub(crate) const MAX_PATTERN: usize = 4096;
/// The most regular expressions of one kind that a service has.
pub(crate) const MAX_PATTERNS: usize = 1000;
/// The most memory that one compiled regular expression may take, in bytes.
const MAX_COMPILED: usize = 1 << 20;
/// The same of all of a kind.
const MAX_SET: usize = 64 << 20;
/// How deep groups may be nested.
const MAX_NESTING: u32 = 50;

/// One entry of a kind of namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// A regular expression that matches from the start of an identifier, not necessarily up to its end.
    pub regex: String,
    /// Whether nobody else may create or delete what matches.
    pub exclusive: bool,
}

/// The namespaces of one service.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    pub(crate) users: Matcher,
    pub(crate) aliases: Matcher,
    pub(crate) rooms: Matcher,
}

impl Namespaces {
    /// Those of users.
    pub fn users(&self) -> &[Namespace] {
        &self.users.namespaces
    }

    /// Those of room aliases.
    pub fn aliases(&self) -> &[Namespace] {
        &self.aliases.namespaces
    }

    /// Those of room ids.
    pub fn rooms(&self) -> &[Namespace] {
        &self.rooms.namespaces
    }
}

/// Regular expressions as one automaton: asking costs a pass over the identifier, however many there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Matcher {
    namespaces: Vec<Namespace>,
    set: RegexSet,
}

impl Matcher {
    /// # Errors
    /// All of them together take too much memory. Each was tried by [`check`].
    pub(crate) fn new(namespaces: Vec<Namespace>) -> Result<Self, String> {
        let anchored = namespaces
            .iter()
            .map(|namespace| anchored(&namespace.regex));
        let set = RegexSetBuilder::new(anchored)
            .size_limit(MAX_SET)
            .nest_limit(MAX_NESTING + 2)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { namespaces, set })
    }

    pub(crate) fn namespaces(&self) -> &[Namespace] {
        &self.namespaces
    }

    pub(crate) fn matches(&self, identifier: &str) -> bool {
        !self.namespaces.is_empty() && self.set.is_match(identifier)
    }

    /// Which of them match, by their places.
    pub(crate) fn which(&self, identifier: &str) -> impl Iterator<Item = usize> {
        let matches = (!self.namespaces.is_empty()).then(|| self.set.matches(identifier));
        matches.into_iter().flatten()
    }

    pub(crate) fn matches_exclusively(&self, identifier: &str) -> bool {
        let mut which = self.which(identifier);
        which.any(|place| self.namespaces[place].exclusive)
    }
}

/// Whether a regular expression can be used.
///
/// # Errors
/// What is wrong with it, in a line or a few.
pub(crate) fn check(pattern: &str) -> Result<(), String> {
    if pattern.len() > MAX_PATTERN {
        return Err(format!("it is longer than {MAX_PATTERN} bytes"));
    }
    // On its own first: `a)|(b` would be one within the group around it.
    for text in [pattern, &anchored(pattern)] {
        RegexBuilder::new(text)
            .size_limit(MAX_COMPILED)
            .nest_limit(MAX_NESTING)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => "it takes too much memory".to_owned(),
                // The last line says what is wrong, those before it where.
                error => {
                    let text = error.to_string();
                    text.lines().last().unwrap_or_default().to_owned()
                }
            })?;
    }
    Ok(())
}

/// As others read them: they match at the start, and may end before the identifier does.
fn anchored(pattern: &str) -> String {
    format!(r"\A(?:{pattern})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(patterns: &[(&str, bool)]) -> Matcher {
        let namespaces = patterns.iter().map(|&(regex, exclusive)| Namespace {
            regex: regex.to_owned(),
            exclusive,
        });
        Matcher::new(namespaces.collect()).unwrap()
    }

    #[test]
    fn expressions_match_from_the_start_and_not_to_the_end() {
        let irc = matcher(&[("@irc_", false), ("@a|@b", true)]);
        assert!(irc.matches("@irc_ann:here"));
        assert!(!irc.matches("x@irc_ann:here"));
        assert!(irc.matches("@bob:here"), "each branch stands at the start");
        assert!(!irc.matches("x@bob:here"));
        assert!(matcher(&[(r"@\w+:here$", true)]).matches("@späť:here"));
        assert!(!Matcher::default().matches("@irc_ann:here"));
    }

    #[test]
    fn one_exclusive_namespace_is_enough() {
        let both = matcher(&[("@irc_.*", false), ("@irc_bot", true)]);
        assert!(both.matches_exclusively("@irc_bot:here"));
        assert!(!both.matches_exclusively("@irc_ann:here"));
        assert_eq!(both.which("@irc_bot:here").collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        for wrong in ["(", "a)|(b", "(?!bot)", r"(a)\1", "(?x)a # )"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        assert!(check("@irc_.*").is_ok());
    }

    #[test]
    fn huge_expressions_are_refused_soon() {
        assert!(check(&"a".repeat(MAX_PATTERN + 1)).is_err());
        assert!(check("(?:(?:a{1000}){1000}){1000}").is_err());
        assert!(check(r"\w{1000}").is_err());
        assert!(check(&format!("{}a{}", "(".repeat(60), ")".repeat(60))).is_err());
    }
}
