//! Which rooms are told of a change of one's name or picture
//! ([MSC4466](https://github.com/matrix-org/matrix-spec-proposals/pull/4466), and
//! [MSC4069](https://github.com/matrix-org/matrix-spec-proposals/pull/4069), which knows all and none).

use rhizome_storage::SpreadTo;

use crate::{MatrixError, content::pairs};

const PROPAGATE_TO: &str = "computer.gingershaped.msc4466.propagate_to";
const PROPAGATE: &str = "org.matrix.msc4069.propagate";

/// Which rooms are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// All.
    All,
    /// Those in which it was as in the profile.
    Unchanged,
    /// None.
    None,
}

impl Propagation {
    /// What a request's query says.
    ///
    /// # Errors
    /// `M_INVALID_PARAM`
    pub fn of(query: Option<&str>) -> Result<Self, MatrixError> {
        let mut found = Self::All;
        for (name, value) in pairs(query.unwrap_or_default()) {
            found = match (name.as_str(), value.as_str()) {
                (PROPAGATE_TO, "all") | (PROPAGATE, "true") => Self::All,
                (PROPAGATE_TO, "unchanged") => Self::Unchanged,
                (PROPAGATE_TO, "none") | (PROPAGATE, "false") => Self::None,
                (PROPAGATE_TO | PROPAGATE, _) => {
                    return Err(MatrixError::invalid_param(format!(
                        "{PROPAGATE_TO} is all, unchanged or none, {PROPAGATE} is true or false"
                    )));
                }
                _ => found,
            };
        }
        Ok(found)
    }

    /// The same, as it is stored.
    pub fn rooms(self) -> SpreadTo {
        match self {
            Self::All => SpreadTo::All,
            Self::Unchanged => SpreadTo::Unchanged,
            Self::None => SpreadTo::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_proposals_are_understood() {
        let of = |query: &str| Propagation::of(Some(query)).ok();
        assert_eq!(Propagation::of(None).unwrap(), Propagation::All);
        assert_eq!(of("x=y"), Some(Propagation::All));
        assert_eq!(
            of(&format!("{PROPAGATE_TO}=unchanged")),
            Some(Propagation::Unchanged)
        );
        assert_eq!(
            of(&format!("x=y&{PROPAGATE_TO}=none")),
            Some(Propagation::None)
        );
        assert_eq!(of(&format!("{PROPAGATE}=false")), Some(Propagation::None));
        assert_eq!(of(&format!("{PROPAGATE}=true")), Some(Propagation::All));
        assert_eq!(of(&format!("{PROPAGATE}=none")), None);
        assert_eq!(of(&format!("{PROPAGATE_TO}=")), None);
    }
}
