//! Numbers in canonical form.

use std::fmt::Write as _;

use serde_json::Number;

use super::{JsonError, MAX_INT};

/// What becomes of numbers that are no integers in range.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// They are refused.
    Strict,
    /// They are written as the integers that they are, if they are.
    Relaxed,
    /// They stay.
    Tolerant,
}

pub(super) fn write_number(
    out: &mut String,
    number: &Number,
    strictness: Strictness,
) -> Result<(), JsonError> {
    if strictness == Strictness::Tolerant {
        push_tolerant(out, number);
        return Ok(());
    }
    let integer = match (number.as_i64(), number.as_f64()) {
        (Some(integer), _) => Some(integer),
        (None, Some(0.0)) => Some(0),
        (None, Some(float)) if strictness == Strictness::Relaxed => whole(float),
        _ => None,
    };
    // Writing to a string can't fail.
    match integer {
        Some(integer) if (-MAX_INT..=MAX_INT).contains(&integer) => {
            let _ = write!(out, "{integer}");
        }
        _ if strictness == Strictness::Relaxed => {
            let _ = write!(out, "{number}");
        }
        _ => return Err(JsonError::BadNumber(number.to_string())),
    }
    Ok(())
}

/// Writes a number as [`to_canonical_tolerant`](super::canonical::to_canonical_tolerant) does.
pub fn push_tolerant(out: &mut String, number: &Number) {
    let (Some(float), false, false) = (number.as_f64(), number.is_i64(), number.is_u64()) else {
        let _ = write!(out, "{number}");
        return;
    };
    // The shortest digits, and an exponent from the same magnitudes on.
    let shortest = format!("{float:?}");
    match shortest.split_once('e') {
        None => out.push_str(&shortest),
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            let _ = write!(out, "{digits}e{sign}{exponent:0>2}");
        }
    }
}

/// The integer that `float` is, if it is one in canonical JSON's range.
fn whole(float: f64) -> Option<i64> {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "2^53 is exact"
    )]
    (float.fract() == 0.0 && float.abs() <= MAX_INT as f64).then_some(float as i64)
}
