//! `[delayed_events]`: events that users have sent for later.

use std::time::Duration;

use serde::Deserialize;

use super::Problems;
use super::units::Span;

/// The most that a user may ever have scheduled: a list of them is one answer.
const MOST: usize = 1_000;
/// The longest that anything may wait: ten years.
const LONGEST: Duration = Duration::from_hours(24 * 3_653);

/// Events that users have sent for later.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DelayedEvents {
    /// How much later at most.
    pub max_delay: Span,
    /// How many a user may have scheduled at a time.
    pub max_scheduled: usize,
}

impl Default for DelayedEvents {
    fn default() -> Self {
        Self {
            max_delay: Span::secs(30 * 24 * 60 * 60),
            max_scheduled: 100,
        }
    }
}

impl DelayedEvents {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.max_scheduled > MOST {
            problems.add(
                "delayed_events.max_scheduled",
                format!("{} are too many", self.max_scheduled),
                format!("set it to {MOST} at most, or to 0 if nothing is to be sent for later"),
            );
        }
        if self.max_delay.0 > LONGEST || self.max_delay.0.is_zero() {
            problems.add(
                "delayed_events.max_delay",
                "nothing can wait for so long, or for no time",
                "write a span of time such as \"30d\"; to switch delayed events off set delayed_events.max_scheduled = 0",
            );
        }
    }
}
