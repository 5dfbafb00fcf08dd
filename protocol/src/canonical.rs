//! JSON from strangers, and Matrix canonical JSON.

use crate::Object;

/// How deep objects and arrays may nest in what we accept.
pub const MAX_DEPTH: usize = 100;

/// Why text is no JSON that we accept, or a value has no canonical form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, nested too deep, a duplicate key, or a lone surrogate; says where.
    #[error("{0}")]
    Syntax(String),
    /// JSON, but not an object.
    #[error("expected a JSON object")]
    NotAnObject,
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

/// Parses an object that a stranger sent: at most [`MAX_DEPTH`] levels, no duplicate keys, no lone surrogates.
pub fn parse_object(_bytes: &[u8]) -> Result<Object, JsonError> {
    unimplemented!()
}

/// The canonical form of `object`: sorted keys, shortest escapes, no spaces, integers only.
pub fn to_canonical(_object: &Object) -> Result<String, JsonError> {
    unimplemented!()
}
