//! JSON from strangers, and Matrix canonical JSON.
//!
//! Parsing and writing recurse at most [`MAX_DEPTH`] levels deep, whatever a stranger sends; [`as_sent`] not
//! at all.

pub mod as_sent;
pub mod canonical;
mod numbers;
pub(crate) mod read;

#[cfg(test)]
pub(crate) mod strategy;
#[cfg(test)]
mod tests;

/// How deep objects and arrays may nest in what we accept; the outermost object is level 1.
pub const MAX_DEPTH: usize = 100;

/// The largest integer of canonical JSON, 2^53 − 1.
pub const MAX_INT: i64 = (1 << 53) - 1;

/// Why text is no JSON that we accept, or a value has no canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, nested too deep, a duplicate key, or a lone surrogate; says where.
    #[error("{0}")]
    Syntax(String),
    /// A number with a fraction or an exponent, or outside of ±(2^53−1).
    #[error("{0} is no integer between -(2^53-1) and 2^53-1")]
    BadNumber(String),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A field that signing or hashing has to write to is of the wrong type.
    #[error("`{0}` has the wrong type")]
    WrongType(&'static str),
}
