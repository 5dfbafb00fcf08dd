//! What is wrong with a registration, in words for the operator.

use std::fmt;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `file:line`, or the file alone.
    pub place: String,
    /// What is wrong. Never a token.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    pub(crate) fn new(
        place: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            place: place.into(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

/// The registrations are refused, all together: which of them would be left out isn't for the server to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError(pub Vec<Problem>);

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let Problem {
                place,
                what,
                remedy,
            } = problem;
            write!(f, "{place}: {what}\n  to fix it: {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}
