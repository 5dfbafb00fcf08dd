//! Where the next page of results begins, as a token.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use ruma::{OwnedRoomId, OwnedUserId};

use super::asked::Order;

/// The longest token that is read, in bytes.
const LONGEST: usize = 1_000;

/// Where a page begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// How many results there were said to be.
    pub count: usize,
    /// After which result.
    pub after: After,
    /// Of which group alone.
    pub group: Option<Within>,
}

/// After which result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum After {
    /// By time: before this place of the log and the history.
    Place(i64),
    /// By rank: before this place, of what came before another one.
    Rank { rank: f64, place: i64, upto: i64 },
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Within {
    Room(OwnedRoomId),
    Sender(OwnedUserId),
}

impl Batch {
    /// Reads a token that was given out for results in this order. `None` if it wasn't.
    pub fn parse(text: &str, order: Order) -> Option<Batch> {
        if text.len() > LONGEST {
            return None;
        }
        let mut parts = text.split('.');
        let count = parts.next()?.strip_prefix('s')?.parse().ok()?;
        let place = parts.next()?.parse().ok()?;
        let after = match order {
            Order::Recent => After::Place(place),
            Order::Rank => After::Rank {
                rank: f64::from_bits(u64::from_str_radix(parts.next()?, 16).ok()?),
                place,
                upto: parts.next()?.parse().ok()?,
            },
        };
        let group = match parts.next() {
            Some(group) => Some(Within::parse(group)?),
            None => None,
        };
        parts.next().is_none().then_some(Batch {
            count,
            after,
            group,
        })
    }
}

impl Within {
    fn parse(text: &str) -> Option<Within> {
        let id = String::from_utf8(BASE64.decode(text).ok()?).ok()?;
        if id.starts_with('!') {
            return Some(Within::Room(id.try_into().ok()?));
        }
        Some(Within::Sender(id.try_into().ok()?))
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.after {
            After::Place(place) => write!(f, "s{}.{place}", self.count)?,
            After::Rank { rank, place, upto } => {
                write!(f, "s{}.{place}.{:x}.{upto}", self.count, rank.to_bits())?;
            }
        }
        match &self.group {
            None => Ok(()),
            Some(Within::Room(id)) => write!(f, ".{}", BASE64.encode(id.as_str())),
            Some(Within::Sender(id)) => write!(f, ".{}", BASE64.encode(id.as_str())),
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{owned_room_id, owned_user_id};

    use super::*;

    #[test]
    fn tokens_come_back() {
        let rank = After::Rank {
            rank: 0.123_456_789,
            place: -5,
            upto: 900,
        };
        for (after, order) in [
            (After::Place(-70), Order::Recent),
            (After::Place(i64::MAX), Order::Recent),
            (rank, Order::Rank),
        ] {
            for group in [
                None,
                Some(Within::Room(owned_room_id!("!a.b:c.d"))),
                Some(Within::Sender(owned_user_id!("@a.b:c.d"))),
            ] {
                let count = 12;
                let batch = Batch {
                    count,
                    after,
                    group,
                };
                assert_eq!(Batch::parse(&batch.to_string(), order), Some(batch));
            }
        }
    }

    #[test]
    fn what_was_never_given_out_is_refused() {
        for text in [
            "",
            "s",
            "s1",
            "s1.",
            "1.2",
            "s1.2.",
            "s1.2.!",
            "s1.2.IQ.x",
            "s-1.2",
            "s1.2.YQ",
        ] {
            assert_eq!(Batch::parse(text, Order::Recent), None, "{text}");
        }
        for text in ["s1.2", "s1.2.xyz.3", "s1.2.0", "s1.2.0."] {
            assert_eq!(Batch::parse(text, Order::Rank), None, "{text}");
        }
        assert_eq!(
            Batch::parse(&format!("s1.{}", "1".repeat(2_000)), Order::Recent),
            None
        );
    }
}
