//! What was found of one step, and what to do about it.

use serde::Serialize;

/// Characters of what was found.
const MAX_WHAT: usize = 2_000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It is as it should be.
    Ok,
    /// It works, and is worth knowing.
    Note,
    /// It is wrong.
    Bad,
}

/// What was found of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Which step.
    pub step: &'static str,
    /// What was found.
    pub what: String,
    /// What to do; empty: nothing.
    pub remedy: String,
}

impl Finding {
    pub(super) fn ok(step: &'static str, what: impl Into<String>) -> Self {
        Self::new(Level::Ok, step, what, "")
    }

    pub(super) fn note(
        step: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Level::Note, step, what, remedy)
    }

    pub(super) fn bad(
        step: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Level::Bad, step, what, remedy)
    }

    fn new(
        level: Level,
        step: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        // Strangers have a say in it: a terminal must not do what that says.
        let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        let what: String = what.into();
        Self {
            level,
            step,
            what: what.chars().take(MAX_WHAT).map(shown).collect(),
            remedy: remedy.into(),
        }
    }
}
