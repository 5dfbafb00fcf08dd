//! Objects that have a canonical form.

use proptest::prelude::*;
use serde_json::Value;

use super::MAX_INT;
use crate::Object;

pub(crate) fn object() -> impl Strategy<Value = Object> {
    prop::collection::hash_map(any::<String>(), value(), 0..8)
        .prop_map(|map| map.into_iter().collect())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-MAX_INT..=MAX_INT).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
