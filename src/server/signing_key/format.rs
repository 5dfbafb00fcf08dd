//! What stands in the file with the signing key:
//!
//! ```text
//! ed25519 a_new <secret seed in base64>
//! # Keys of before: …
//! old ed25519:a_old <public key in base64> <replaced> <expired>
//! ```
//!
//! The first line that is no comment is the key in use, in Synapse's form. Of those before only the public half is kept:
//! nothing is signed with them any more. All is one file, so that a change of the key is one rename, before which the
//! old key is in use and after which the new one is, and there is nothing in between.

use std::fmt;
use std::time::Duration;

use rhizome_federation::keys::public_key;
use rhizome_federation::xmatrix::is_key_id;
use rhizome_protocol::sign::{KeyError, KeyPair};
use rhizome_storage::millis;

use crate::config::LAST_TIME;

/// What a line begins with that is about a key of before.
const OLD: &str = "old ";
/// What is said of such lines.
const ABOUT: &str =
    "# Keys of before: id, public key, when it was replaced, until when it counts (ms since 1970).";

/// The key in use, and those of before. Its text form holds a secret.
#[derive(Debug, Clone)]
pub struct KeyFile {
    current: KeyPair,
    old: Vec<OldKey>,
    /// Comments, and keys that were never in use, which Synapse lets stand behind the first. They hold secrets too.
    kept: Kept,
}

#[derive(Clone, Default)]
struct Kept(Vec<String>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept(…)")
    }
}

/// A key of before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldKey {
    /// `ed25519:…`
    pub key_id: String,
    /// The public key in base64.
    pub public: String,
    /// When another took its place in the file, milliseconds since 1970.
    pub replaced_ts: i64,
    /// Until when it counts, if all processes have been started with the other by then, milliseconds since 1970.
    pub expired_ts: i64,
}

/// Why a text is none of such a file. It tells nothing of what the text is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// There is no key in it.
    Empty,
    /// The first line is no key.
    Key(KeyError),
    /// A further line is wrong.
    Line {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl KeyFile {
    /// A key with none before it.
    pub fn of(current: KeyPair) -> Self {
        let (old, kept) = (Vec::new(), Kept::default());
        Self { current, old, kept }
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// Something stands in it that was never written there.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut current: Option<KeyPair> = None;
        let (mut old, mut kept) = (Vec::<OldKey>::new(), Vec::new());
        for (index, line) in text.lines().map(str::trim).enumerate() {
            let number = index + 1;
            let wrong = |what| Fault::Line { number, what };
            if line.is_empty() {
                continue;
            }
            if line.starts_with('#') {
                kept.push(line.to_owned());
                continue;
            }
            if current.is_none() {
                current = Some(KeyPair::parse(line).map_err(Fault::Key)?);
                continue;
            }
            let Some(words) = line.strip_prefix(OLD) else {
                if KeyPair::parse(line).is_err() {
                    return Err(wrong("this is no key of before"));
                }
                kept.push(line.to_owned());
                continue;
            };
            let key = OldKey::parse(words).map_err(wrong)?;
            let is_current = |current: &KeyPair| current.key_id() == key.key_id;
            let is_same = |other: &OldKey| other.key_id == key.key_id;
            if current.as_ref().is_some_and(is_current) || old.iter().any(is_same) {
                return Err(wrong("this key is there twice"));
            }
            old.push(key);
        }
        let (current, kept) = (current.ok_or(Fault::Empty)?, Kept(kept));
        Ok(Self { current, old, kept })
    }

    /// The text of the file. It holds the secret.
    pub fn to_text(&self) -> String {
        let mut lines = vec![self.current.to_line()];
        lines.extend(self.kept.0.iter().cloned());
        lines.extend(self.old.iter().map(OldKey::to_line));
        lines.push(String::new());
        lines.join("\n")
    }

    /// The key in use.
    pub fn current(&self) -> &KeyPair {
        &self.current
    }

    /// Those of before, the first one first.
    pub fn old(&self) -> &[OldKey] {
        &self.old
    }

    /// Whether a key with this id is in use, or was.
    pub fn knows(&self, key_id: &str) -> bool {
        self.current.key_id() == key_id || self.old.iter().any(|old| old.key_id == key_id)
    }

    /// With another key in use since `now` (ms). For `overlap` the one of before still counts.
    #[must_use]
    pub fn rotated(&self, new: KeyPair, now: i64, overlap: Duration) -> Self {
        let mut rotated = self.clone();
        rotated.old.push(OldKey {
            key_id: self.current.key_id().to_owned(),
            public: self.current.public_base64(),
            replaced_ts: now,
            expired_ts: now.saturating_add(millis(overlap)),
        });
        rotated.current = new;
        let kept = &mut rotated.kept.0;
        if !kept.iter().any(|line| line == ABOUT) {
            kept.push(ABOUT.to_owned());
        }
        rotated
    }

    /// Without this key of before.
    #[must_use]
    pub fn without(&self, key_id: &str) -> Self {
        let mut without = self.clone();
        without.old.retain(|old| old.key_id != key_id);
        without
    }
}

impl OldKey {
    fn parse(words: &str) -> Result<Self, &'static str> {
        let words: Vec<&str> = words.split_whitespace().collect();
        let [key_id, public, replaced, expired] = words[..] else {
            return Err("four words belong behind `old`");
        };
        if !is_key_id(key_id) {
            return Err("the first word behind `old` is no key id");
        }
        if public_key(public).is_none() {
            return Err("the second word behind `old` is no public key");
        }
        match (replaced.parse(), expired.parse()) {
            (Ok(replaced_ts), Ok(expired_ts)) if expired_ts <= LAST_TIME => Ok(Self {
                key_id: key_id.to_owned(),
                public: public.to_owned(),
                replaced_ts,
                expired_ts,
            }),
            _ => Err("the last two words are no times in milliseconds"),
        }
    }

    fn to_line(&self) -> String {
        let Self {
            key_id,
            public,
            replaced_ts,
            expired_ts,
        } = self;
        format!("{OLD}{key_id} {public} {replaced_ts} {expired_ts}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn key(version: &str, seed: u8) -> KeyPair {
        KeyPair::from_seed(version, &[seed; 32]).unwrap()
    }

    #[test]
    fn a_rotation_keeps_the_public_half_of_what_was() {
        let first = KeyFile::parse(&format!("\n{}\n", key("a", 1).to_line())).unwrap();
        let second = first.rotated(key("b", 2), 1_000, HOUR);
        let third = second.rotated(key("c", 3), 2_000, Duration::ZERO);
        let text = third.to_text();
        let lines: Vec<&str> = text.lines().collect();
        let (a, b) = (key("a", 1).public_base64(), key("b", 2).public_base64());
        assert_eq!(lines[0], key("c", 3).to_line());
        assert_eq!(lines[1], ABOUT);
        assert_eq!(lines[2], format!("old ed25519:a {a} 1000 3601000"));
        assert_eq!(lines[3], format!("old ed25519:b {b} 2000 2000"));
        assert_eq!(lines.len(), 4);
        assert!(text.ends_with('\n'));
        let read = KeyFile::parse(&text).unwrap();
        assert_eq!(read.current().key_id(), "ed25519:c");
        assert_eq!(read.old(), third.old());
        assert_eq!(read.to_text(), text);
        assert!(read.knows("ed25519:a") && read.knows("ed25519:c") && !read.knows("ed25519:x"));
        let without = read.without("ed25519:a");
        assert_eq!(without.old(), &third.old()[1..]);
        assert_eq!(read.without("ed25519:x").to_text(), text);
        // Only the first line is a secret, and what is printed of all is none.
        let secret = key("c", 3).to_line();
        assert!(!format!("{read:?}").contains(secret.rsplit(' ').next().unwrap()));
    }

    #[test]
    fn what_else_stands_there_stays() {
        let (used, unused) = (key("a", 1).to_line(), key("z", 9).to_line());
        let file = KeyFile::parse(&format!("# of my server\n{used}\n\n{unused}\n")).unwrap();
        assert_eq!(file.current().key_id(), "ed25519:a");
        let text = file.rotated(key("b", 2), 0, HOUR).to_text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1..4], ["# of my server", unused.as_str(), ABOUT]);
        assert!(!format!("{file:?}").contains(unused.rsplit(' ').next().unwrap()));
    }

    #[test]
    fn what_was_never_written_is_refused() {
        for text in ["", "\n\n", "# nothing\n"] {
            assert_eq!(KeyFile::parse(text).unwrap_err(), Fault::Empty, "{text}");
        }
        for text in ["hello", "old ed25519:a x 1 2"] {
            let fault = KeyFile::parse(text).unwrap_err();
            assert!(matches!(fault, Fault::Key(_)), "{text}");
        }
        let public = key("o", 5).public_base64();
        for (line, why) in [
            ("hello".to_owned(), "no key of before"),
            ("old".to_owned(), "no key of before"),
            (format!("old ed25519:o {public} 1"), "four words"),
            (format!("old ed25519:o {public} 1 2 3"), "four words"),
            (format!("old o {public} 1 2"), "no key id"),
            ("old ed25519:o abc 1 2".to_owned(), "no public key"),
            (format!("old ed25519:o {public} 1 soon"), "no times"),
            (format!("old ed25519:a {public} 1 2"), "there twice"),
            (
                format!("old ed25519:o {public} 1 2\nold ed25519:o {public} 1 2"),
                "there twice",
            ),
        ] {
            let fault = KeyFile::parse(&format!("{}\n{line}\n", key("a", 1).to_line()));
            let Fault::Line { number, what } = fault.unwrap_err() else {
                panic!("{line}");
            };
            assert_eq!(number, 1 + line.lines().count(), "{line}");
            assert!(what.contains(why), "{line}: {what}");
        }
    }
}
