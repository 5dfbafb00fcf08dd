//! Where in a space a page ends: `from` and `next_batch` of `/hierarchy`.
//!
//! It is all that is needed to go on, so that any process can, and holds no server's memory: the way from the root down
//! to what was looked at last, and which spaces were shown. Rooms are named by a part of their ids' hashes. Whoever
//! makes up a token is shown nothing by it that they couldn't see otherwise: each step of the way is judged anew.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest::{SHA256, digest};
use ruma::RoomId;

/// How many levels below a space are looked at.
pub const MAX_DEPTH: u8 = 16;
/// The spaces that are remembered as shown, so that none is gone through twice: beyond them, none is gone into.
pub const MAX_SHOWN: usize = 256;
/// Which form it has.
const FORM: u8 = 1;

/// What stands for a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Short([u8; 8]);

impl Short {
    /// Of this room.
    pub fn of(room: &RoomId) -> Self {
        let mut short = [0; 8];
        short.copy_from_slice(&digest(&SHA256, room.as_bytes()).as_ref()[..8]);
        Self(short)
    }
}

/// Where a page ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Of which space.
    pub root: Short,
    /// Whether only suggested rooms are shown.
    pub suggested_only: bool,
    /// How deep it goes.
    pub max_depth: u8,
    /// In each space on the way down, the child that was looked at last, if one was.
    pub way: Vec<Option<Short>>,
    /// The spaces that were shown, the first of them first.
    pub shown: Vec<Short>,
}

impl Place {
    /// As a token.
    pub fn token(&self) -> String {
        let shown = &self.shown[..self.shown.len().min(MAX_SHOWN)];
        let mut bytes = vec![FORM, self.suggested_only.into(), self.max_depth];
        bytes.extend(self.root.0);
        // At most as deep as a space is looked at.
        bytes.push(u8::try_from(self.way.len()).unwrap_or(u8::MAX));
        for step in &self.way {
            bytes.extend(step.map_or([0; 8], |step| step.0));
        }
        bytes.extend(shown.iter().flat_map(|short| short.0));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token; `None` if it is none of ours.
    pub fn parse(token: &str) -> Option<Self> {
        if token.len() > 2 * (12 + 8 * (usize::from(MAX_DEPTH) + MAX_SHOWN)) {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (&[FORM, suggested, max_depth], rest) = bytes.split_first_chunk()? else {
            return None;
        };
        let (root, rest) = rest.split_first_chunk()?;
        let (&steps, rest) = rest.split_first()?;
        let (rooms, []) = rest.as_chunks::<8>() else {
            return None;
        };
        let (way, shown) = rooms.split_at_checked(steps.into())?;
        if suggested > 1 || max_depth > MAX_DEPTH || steps == 0 || steps > MAX_DEPTH {
            return None;
        }
        let step = |step: &[u8; 8]| (*step != [0; 8]).then_some(Short(*step));
        Some(Self {
            root: Short(*root),
            suggested_only: suggested == 1,
            max_depth,
            way: way.iter().map(step).collect(),
            shown: shown.iter().copied().map(Short).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use ruma::room_id;

    use super::*;

    fn place(shown: usize) -> Place {
        let some = |n: usize| Short([u8::try_from(n % 250).unwrap() + 1; 8]);
        Place {
            root: Short::of(room_id!("!root:x")),
            suggested_only: true,
            max_depth: 3,
            way: vec![Some(Short::of(room_id!("!a:x"))), None],
            shown: (0..shown).map(some).collect(),
        }
    }

    #[test]
    fn a_token_says_where_a_page_ended() {
        for shown in [0, 1, MAX_SHOWN] {
            let place = place(shown);
            assert_eq!(Place::parse(&place.token()), Some(place));
        }
        // It stays bounded.
        let (long, full) = (place(10_000), place(MAX_SHOWN));
        assert_eq!(long.token().len(), full.token().len());
        let parsed = Place::parse(&long.token()).unwrap();
        assert_eq!(parsed.shown, long.shown[..MAX_SHOWN]);
    }

    #[test]
    fn what_is_no_token_of_ours_is_none() {
        let token = place(3).token();
        for text in [
            "",
            "x",
            "????",
            "AQ",
            &token[1..],
            &token[..token.len() - 2],
        ] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
        assert_eq!(Place::parse(&token.repeat(200)), None);
        let deep = Place {
            way: vec![None; 200],
            ..place(0)
        };
        assert_eq!(Place::parse(&deep.token()), None);
    }
}
