//! Where the sender stands with one destination.

use crate::Pos;

/// Where the sender stands with a destination.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DestinationState {
    /// Everything up to here has been delivered. It stays where a run began until that is over.
    pub sent: Pos,
    /// Attempts that failed since the last that succeeded.
    pub failures: u32,
    /// Not to be tried before, milliseconds since 1970.
    pub retry_at: i64,
    /// A run: it was away, and of events up to here those are enough that lead to the others, for which it asks.
    pub newest: Pos,
    /// How far the run has come: up to here it has everything but the events that were passed over.
    pub come: Pos,
    /// Since when it has failed, milliseconds since 1970; 0: it hasn't.
    pub failing_since: i64,
    /// When it took something last, milliseconds since 1970, to about a minute; 0: it is not known to have.
    pub reached_ms: i64,
}

impl DestinationState {
    /// What comes next stands after this.
    pub fn reached(&self) -> Pos {
        self.sent.max(self.come)
    }

    /// Whether of the events that come next those are enough that lead to the others, or what was passed over may still
    /// have to be sent.
    pub fn runs(&self) -> bool {
        self.sent < self.newest
    }

    /// What stands up to here has been delivered: in a run but for what is passed over.
    #[must_use]
    pub fn moved(self, upto: Pos) -> Self {
        if self.runs() {
            Self {
                come: upto.max(self.come),
                ..self
            }
        } else {
            Self { sent: upto, ..self }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_comes_on_while_what_is_delivered_stays() {
        let stand = DestinationState {
            sent: Pos(5),
            newest: Pos(9),
            ..DestinationState::default()
        };
        assert!(stand.runs());
        assert_eq!(stand.reached(), Pos(5));
        let on = stand.moved(Pos(7));
        assert_eq!((on.sent, on.come, on.reached()), (Pos(5), Pos(7), Pos(7)));
        assert_eq!(on.moved(Pos(6)), on);
        let over = DestinationState { sent: Pos(9), ..on };
        assert!(!over.runs());
        assert_eq!(over.reached(), Pos(9));
        assert_eq!(over.moved(Pos(12)).sent, Pos(12));
    }
}
