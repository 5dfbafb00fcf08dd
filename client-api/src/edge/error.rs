//! The one error of the edge.

pub use rhizome_federation::MatrixError;
