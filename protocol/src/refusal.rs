//! How an error of any layer is told to whoever asked, by both APIs alike.

use serde_json::Value;

/// Why something was not done. The edge makes a Matrix error of it
/// (<https://spec.matrix.org/v1.19/client-server-api/#standard-error-response>); what is displayed is its sentence.
pub trait Refusal: std::fmt::Display {
    /// The HTTP status.
    fn status(&self) -> u16;

    /// The machine-readable code, `M_…`.
    fn errcode(&self) -> &'static str;

    /// Whether the sentence is for the log alone: who asked is told that the server is busy (503), or that
    /// something went wrong.
    fn is_for_the_log(&self) -> bool {
        false
    }

    /// A further top-level key of the answer.
    fn detail(&self) -> Option<(&'static str, Value)> {
        None
    }
}
