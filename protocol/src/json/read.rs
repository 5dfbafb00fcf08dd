//! Reading objects that strangers sent.

use std::cell::Cell;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Value;

use super::{JsonError, MAX_DEPTH};
use crate::Object;

/// Parses an object that a stranger sent: at most [`MAX_DEPTH`] levels, no duplicate keys, no lone surrogates.
///
/// Numbers may be of any form here; [`to_canonical`](super::canonical::to_canonical) is strict about them.
/// The error says what is wrong and where.
pub fn parse_object(bytes: &[u8]) -> Result<Object, JsonError> {
    read_object(bytes, &Reading::default())
}

/// [`parse_object`], with what `reading` lets pass and notes.
pub(crate) fn read_object(bytes: &[u8], reading: &Reading) -> Result<Object, JsonError> {
    let syntax = |error: serde_json::Error| JsonError::Syntax(error.to_string());
    let mut parser = serde_json::Deserializer::from_slice(bytes);
    let object = ObjectSeed { reading }
        .deserialize(&mut parser)
        .map_err(syntax)?;
    parser.end().map_err(syntax)?;
    Ok(object)
}

/// How an object is read, and what was seen in it.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    /// What is nested too deep becomes `null`; otherwise it is an error.
    pub(crate) prune: bool,
    /// A number lay beyond what 64 bits hold.
    pub(crate) large_number: Cell<bool>,
}

/// From this magnitude on a number may be an integer of more than 64 bits.
const LARGE: f64 = 9_223_372_036_854_775_808.0;

/// Reads one object at level 1.
struct ObjectSeed<'a> {
    reading: &'a Reading,
}

impl<'de> DeserializeSeed<'de> for ObjectSeed<'_> {
    type Value = Object;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Object, D::Error> {
        parser.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ObjectSeed<'_> {
    type Value = Object;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object, A::Error> {
        read_map(map, self.reading, 1)
    }
}

/// Reads any value; `depth` is the level of what contains it.
#[derive(Clone, Copy)]
struct ValueSeed<'a> {
    reading: &'a Reading,
    depth: usize,
}

impl ValueSeed<'_> {
    /// The level of what is read here, which holds others. `None`: it is left out.
    fn deeper<E: serde::de::Error>(&self) -> Result<Option<usize>, E> {
        if self.depth < MAX_DEPTH {
            return Ok(Some(self.depth + 1));
        }
        if self.reading.prune {
            return Ok(None);
        }
        Err(E::custom(JsonError::TooDeep))
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Value, D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        if value.abs() >= LARGE {
            self.reading.large_number.set(true);
        }
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let reading = self.reading;
        let Some(depth) = self.deeper()? else {
            // Skipping doesn't recurse.
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Value::Null);
        };
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(ValueSeed { reading, depth })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let Some(depth) = self.deeper()? else {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(Value::Null);
        };
        read_map(map, self.reading, depth).map(Value::Object)
    }
}

fn read_map<'de, A: MapAccess<'de>>(
    mut map: A,
    reading: &Reading,
    depth: usize,
) -> Result<Object, A::Error> {
    let mut object = Object::new();
    while let Some(key) = map.next_key::<String>()? {
        if object.contains_key(&key) {
            let shown: String = key.chars().take(64).collect();
            return Err(A::Error::custom(format_args!("duplicate key {shown:?}")));
        }
        let value = map.next_value_seed(ValueSeed { reading, depth })?;
        object.insert(key, value);
    }
    Ok(object)
}
