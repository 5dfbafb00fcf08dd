//! An event as rules look at it: its texts in lower case, each made once however many patterns are held against it,
//! and how much may still be looked at. It is kept while the rules of many users are held against the event: what has
//! been found once needn't be found again.
//!
//! Rules and events are both strangers', and what rules cost is how many they are times how long the event is. So of
//! a long text only the beginning is looked at, and of long ones altogether only so much.

use std::borrow::Cow;

use rhizome_protocol::Pdu;

use super::{
    glob::{Glob, has_words},
    property::{Path, Property},
    words::Words,
};

/// How many bytes of a text patterns are held against.
pub const LOOKED_AT: usize = 8 << 10;
/// What is no longer (in bytes, or items) is always looked at, so that rules by type or sender hold whatever others
/// have cost.
const SHORT: usize = 255;
/// Of longer texts and lists so many bytes and items are looked at in all. That is 128 patterns against a body of
/// [`LOOKED_AT`], or 1,000 against one of a kibibyte.
const MOST: usize = 1 << 20;

/// An event that is looked at.
pub struct Seen<'a> {
    /// The event.
    pub event: &'a Pdu,
    texts: Vec<Text<'a>>,
    /// Of the server's rules those of which is known whether they match, whoever is asked.
    common: [Option<bool>; MOST_COMMON],
    left: usize,
}

/// The most of the server's rules of which it is remembered whether they match.
pub const MOST_COMMON: usize = 64;

/// A text of the event.
struct Text<'a> {
    whole: &'a str,
    /// Its beginning in lower case.
    begin: Cow<'a, str>,
    /// The words in that, if they were asked for.
    words: Option<Words>,
}

impl<'a> Seen<'a> {
    /// Of which nothing has been looked at.
    pub fn new(event: &'a Pdu) -> Self {
        Self {
            event,
            texts: Vec::new(),
            common: [None; MOST_COMMON],
            left: MOST,
        }
    }

    /// Other rules look at it, which may look at as much as those before.
    pub fn again(&mut self) {
        self.left = MOST;
    }

    /// Whether one of the server's rules matches, if that is known.
    pub fn common(&self, number: usize) -> Option<bool> {
        self.common.get(number).copied().flatten()
    }

    /// Remembers that.
    pub fn set_common(&mut self, number: usize, matches: bool) {
        if let Some(known) = self.common.get_mut(number) {
            *known = Some(matches);
        }
    }

    /// The beginning of the text at a path in lower case, to hold one pattern against it; `None` if there is none, or if
    /// too much has been looked at.
    pub fn text(&mut self, path: &Path) -> Option<&str> {
        self.look(path).map(|text| &*text.begin)
    }

    /// Whether something in the text at a path matches a pattern that begins and ends at the boundary of a word.
    pub fn has_words(&mut self, path: &Path, glob: &Glob) -> bool {
        let Some(text) = self.look(path) else {
            return false;
        };
        let Glob::Literal(literal) = glob else {
            return glob.matches_words(&text.begin);
        };
        let begin = &text.begin;
        let words = text.words.get_or_insert_with(|| Words::of(begin));
        let has = words.have(begin, literal);
        **literal == **begin || has.unwrap_or_else(|| has_words(begin, literal))
    }

    fn look(&mut self, path: &Path) -> Option<&mut Text<'a>> {
        let whole = path.of(self.event).and_then(Property::text)?;
        let begin = beginning(whole);
        if !self.affords(begin.len()) {
            return None;
        }
        let known = |text: &Text<'_>| std::ptr::eq(text.whole, whole);
        let at = self.texts.iter().position(known).unwrap_or_else(|| {
            self.texts.push(Text {
                whole,
                begin: lowered(begin),
                words: None,
            });
            self.texts.len() - 1
        });
        self.texts.get_mut(at)
    }

    /// Whether something of this length may be looked at, which it then is.
    pub fn affords(&mut self, length: usize) -> bool {
        if length <= SHORT {
            return true;
        }
        let left = self.left.checked_sub(length);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

fn beginning(text: &str) -> &str {
    let mut end = text.len().min(LOOKED_AT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn lowered(text: &str) -> Cow<'_, str> {
    // Types and identifiers are, mostly.
    if text
        .bytes()
        .all(|b| b.is_ascii() && !b.is_ascii_uppercase())
    {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.to_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use rhizome_protocol::RoomRules;
    use ruma::event_id;
    use serde_json::json;

    use super::*;

    fn said(body: &str) -> Pdu {
        let event = json!({
            "type": "M.Ü", "sender": "@alice:x", "room_id": "!r:x", "content": { "body": body }, "depth": 1,
            "prev_events": [], "auth_events": [], "origin_server_ts": 7, "hashes": {}, "signatures": {},
        });
        let rules = RoomRules::named("11").unwrap();
        Pdu::from_stored(rules, event_id!("$e").to_owned(), event.to_string().into()).unwrap()
    }

    #[test]
    fn a_text_is_lowered_once_and_only_its_beginning() {
        let event = said(&format!("A{}", "Ü".repeat(LOOKED_AT)));
        let mut seen = Seen::new(&event);
        let body = Path::parse("content.body");
        let text = seen.text(&body).unwrap().to_owned();
        // Whole characters: one `a`, and what is left of an even number of bytes.
        assert_eq!(text, format!("a{}", "ü".repeat(LOOKED_AT / 2 - 1)));
        assert_eq!(seen.text(&Path::parse("type")), Some("m.ü"));
        assert_eq!(seen.text(&body), Some(&*text));
        assert_eq!(seen.text(&Path::parse("sender")), Some("@alice:x"));
        assert_eq!(seen.texts.len(), 3);
        assert_eq!(seen.text(&Path::parse("content.absent")), None);
    }

    #[test]
    fn what_is_short_is_looked_at_whatever_has_been() {
        let event = said(&"a".repeat(LOOKED_AT));
        let mut seen = Seen::new(&event);
        let body = Path::parse("content.body");
        let times = (0..1_000).take_while(|_| seen.text(&body).is_some());
        assert_eq!(times.count(), MOST / LOOKED_AT);
        assert_eq!(seen.text(&body), None);
        assert_eq!(seen.text(&Path::parse("type")), Some("m.ü"));
        assert!(seen.affords(SHORT) && !seen.affords(SHORT + 1));
        seen.again();
        assert!(seen.text(&body).is_some());
    }
}
