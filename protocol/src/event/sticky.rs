//! For how long an event is sticky
//! ([MSC4354](https://github.com/matrix-org/matrix-spec-proposals/pull/4354)): everybody who is in its room, or comes
//! into it meanwhile, gets it.

use serde_json::{Value, json};

use crate::Object;

/// The key at the top of an event. A redaction takes it away.
pub const KEY: &str = "msc4354_sticky";

/// The longest that an event is sticky, in milliseconds.
pub const LONGEST_MS: u32 = 3_600_000;

/// What an event says of it, in milliseconds; `None`: it isn't sticky.
pub(super) fn duration(event: &Object) -> Option<u32> {
    of(event.get(KEY)?)
}

/// What the value of [`KEY`] says.
pub(super) fn of(value: &Value) -> Option<u32> {
    let duration = value.get("duration_ms")?.as_u64()?;
    u32::try_from(duration.min(u64::from(LONGEST_MS))).ok()
}

/// The value of [`KEY`].
pub(super) fn value(duration_ms: u32) -> Value {
    json!({ "duration_ms": duration_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_makes_an_event_sticky() {
        for (sticky, wanted) in [
            (json!({ "duration_ms": 0 }), Some(0)),
            (json!({ "duration_ms": 300_000, "x": 1 }), Some(300_000)),
            (
                json!({ "duration_ms": 9_007_199_254_740_991_i64 }),
                Some(LONGEST_MS),
            ),
            (json!({ "duration_ms": -1 }), None),
            (json!({ "duration_ms": "1" }), None),
            (json!({ "duration_ms": 1.5 }), None),
            (json!({}), None),
            (json!(1), None),
            (Value::Null, None),
        ] {
            let event: Object = [(KEY.to_owned(), sticky.clone())].into_iter().collect();
            assert_eq!(duration(&event), wanted, "{sticky}");
        }
        assert_eq!(duration(&Object::new()), None);
    }
}
