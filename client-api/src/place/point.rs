//! Places in a room's history, as tokens.

use std::fmt;

use rhizome_storage::{HistoryToken, Pos, StoredEvent};

use super::token::Token;
use crate::MatrixError;

/// A place in a room's history, opaque to clients: `p<position>`, `t<depth>_<order>_<position>`, or
/// any sync token.
///
/// A position splits history into what had happened by then (and everything backfilled) and what
/// came later; so paging back from a timeline's start neither repeats nor leaves out an event,
/// whatever depth other servers' events claim to have. A place within that history is a
/// `(depth, order)` beside the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryPoint {
    /// The place among the events of `upto`; `None`: after all of them.
    pub place: Option<HistoryToken>,
    /// Live events after it don't count when paging back.
    pub upto: Pos,
}

impl HistoryPoint {
    /// Right after everything up to a log position.
    pub fn at(pos: Pos) -> HistoryPoint {
        HistoryPoint {
            place: None,
            upto: pos,
        }
    }

    /// Before everything.
    pub const START: HistoryPoint = HistoryPoint {
        place: Some(HistoryToken::START),
        upto: Pos(i64::MAX),
    };

    /// Right after an event.
    pub fn after(event: &StoredEvent, upto: Pos) -> HistoryPoint {
        let place = HistoryToken::after(event).unwrap_or(HistoryToken::START);
        HistoryPoint {
            place: Some(place),
            upto,
        }
    }

    /// Right before an event.
    pub fn before(event: &StoredEvent, upto: Pos) -> HistoryPoint {
        let place = HistoryToken::before(event).unwrap_or(HistoryToken::START);
        HistoryPoint {
            place: Some(place),
            upto,
        }
    }

    /// Right before an event, in the same view of history.
    #[must_use]
    pub fn just_before(&self, event: &StoredEvent) -> HistoryPoint {
        HistoryPoint::before(event, self.upto)
    }

    /// The log position that it stands for, if it does.
    pub fn position(&self) -> Option<Pos> {
        self.place.is_none().then_some(self.upto)
    }

    /// Reads a token. `None` if it was never one of ours.
    pub fn parse(text: &str) -> Option<HistoryPoint> {
        let number = |text: &str| -> Option<i64> {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            if plain { text.parse().ok() } else { None }
        };
        if let Some(pos) = text.strip_prefix('p') {
            return number(pos)
                .filter(|pos| *pos >= 0)
                .map(|pos| HistoryPoint::at(Pos(pos)));
        }
        if let Some(rest) = text.strip_prefix('t') {
            let mut parts = rest.split('_');
            let (depth, order, upto) = (
                number(parts.next()?)?,
                number(parts.next()?)?,
                number(parts.next()?)?,
            );
            return parts.next().is_none().then_some(HistoryPoint {
                place: Some(HistoryToken { depth, order }),
                upto: Pos(upto),
            });
        }
        // What sliding sync gives out has more behind it.
        let text = text.split_once('.').map_or(text, |(token, _)| token);
        Token::parse(text)
            .ok()
            .map(|token| HistoryPoint::at(token.pos))
    }

    /// As the database knows it.
    pub fn token(&self) -> HistoryToken {
        self.place.unwrap_or(HistoryToken::END)
    }

    /// Whether an event lies at or before this place. `None` for a backfilled event and a mere position:
    /// what lies around the event must say.
    pub fn reaches(&self, event: &StoredEvent) -> Option<bool> {
        match self.place {
            None => event.pos().map(|pos| pos <= self.upto),
            Some(place) => Some(HistoryToken::after(event).is_none_or(|at| at <= place)),
        }
    }
}

impl fmt::Display for HistoryPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            None => write!(f, "p{}", self.upto.0),
            Some(place) => write!(f, "t{}_{}_{}", place.depth, place.order, self.upto.0),
        }
    }
}

/// Reads a `from`, `to` or `at`.
pub fn point(text: &str) -> Result<HistoryPoint, MatrixError> {
    HistoryPoint::parse(text)
        .ok_or_else(|| MatrixError::invalid_param("This is not a token of this server"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back_as_themselves() {
        let places = [
            HistoryPoint::at(Pos(7)),
            HistoryPoint::START,
            HistoryPoint {
                place: Some(HistoryToken {
                    depth: 3,
                    order: -4,
                }),
                upto: Pos(9),
            },
        ];
        for place in places {
            assert_eq!(HistoryPoint::parse(&place.to_string()), Some(place));
        }
        assert_eq!(
            HistoryPoint::parse("sab_7_3"),
            Some(HistoryPoint::at(Pos(7)))
        );
    }

    #[test]
    fn what_is_not_a_place_is_told_apart() {
        for text in [
            "", "p", "p-1", "p1_2", "t1_2", "t1_2_3_4", "t_1_2", "t1_+2_3", "x7", "p\u{0}", "s1_2",
        ] {
            assert_eq!(HistoryPoint::parse(text), None, "{text:?}");
        }
    }
}
