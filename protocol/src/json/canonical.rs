//! JSON from strangers, and Matrix canonical JSON.
//!
//! Parsing and writing recurse at most [`MAX_DEPTH`] levels deep, whatever a stranger sends.

use std::{cell::Cell, fmt::Write as _};

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Number, Value};

use crate::{Object, RoomRules};

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

/// Parses an object that a stranger sent: at most [`MAX_DEPTH`] levels, no duplicate keys, no lone surrogates.
///
/// Numbers may be of any form here; [`to_canonical`] is strict about them. The error says what is wrong
/// and where.
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

/// The canonical form of `object`: sorted keys, shortest escapes, no spaces, integers only.
///
/// `-0` is written as `0`. Any other number that isn't written as an integer is an error, as room
/// versions 6 and later demand of events.
pub fn to_canonical(object: &Object) -> Result<String, JsonError> {
    let mut out = String::with_capacity(512);
    write_object(&mut out, object, Numbers::Strict, 1, |_| true)?;
    Ok(out)
}

/// The canonical form of an event in a room of this version. Up to version 5, numbers that aren't
/// integers in range are written as in [`to_canonical_tolerant`].
pub(crate) fn to_canonical_of(rules: &RoomRules, object: &Object) -> Result<String, JsonError> {
    let mut out = String::with_capacity(512);
    write_object(&mut out, object, Numbers::of(rules), 1, |_| true)?;
    Ok(out)
}

/// The form that events of room versions 1 to 5 have on the wire (appendices "Canonical JSON", warning):
/// numbers that canonical JSON doesn't have stay as they are.
///
/// Integers of up to 64 bits stay exact. A number with a fraction or an exponent, and a larger integer, is
/// written in its shortest decimal form with at least one digit after the point, or with an exponent of
/// at least two digits from 1e+16 on and below 1e-04: that is how the servers write it on which such events
/// were made, so hashes and signatures over it hold.
pub fn to_canonical_tolerant(object: &Object) -> Result<String, JsonError> {
    let mut out = String::with_capacity(512);
    write_object(&mut out, object, Numbers::Tolerant, 1, |_| true)?;
    Ok(out)
}

/// The canonical form of JSON that is no event, such as requests that servers sign.
///
/// Numbers with exponents are written as the integers that they are; where they are none, in their
/// shortest form, so that a strange number inside one event doesn't spoil the transaction around it.
pub fn to_canonical_relaxed(object: &Object) -> Result<String, JsonError> {
    let mut out = String::with_capacity(512);
    write_object(&mut out, object, Numbers::Relaxed, 1, |_| true)?;
    Ok(out)
}

/// What becomes of numbers that are no integers in range.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// They are refused.
    Strict,
    /// They are written as the integers that they are, if they are.
    Relaxed,
    /// They stay.
    Tolerant,
}

impl Numbers {
    /// What the events of a room version may hold.
    pub(crate) fn of(rules: &RoomRules) -> Self {
        if rules.format.strict_json {
            Self::Strict
        } else {
            Self::Tolerant
        }
    }
}

/// Writes the entries of `object` whose key passes `keep`. `depth` is the level of this object.
pub(crate) fn write_object(
    out: &mut String,
    object: &Object,
    numbers: Numbers,
    depth: usize,
    keep: impl Fn(&str) -> bool,
) -> Result<(), JsonError> {
    write_entries(
        out,
        object.iter().filter(|(key, _)| keep(key)),
        numbers,
        depth,
    )
}

fn write_entries<'a>(
    out: &mut String,
    entries: impl Iterator<Item = (&'a String, &'a Value)> + Clone,
    numbers: Numbers,
    depth: usize,
) -> Result<(), JsonError> {
    let mut object = ObjectWriter::begin(out, depth)?;
    // The map keeps its keys in order unless some crate turns on insertion order for all.
    if entries.clone().is_sorted_by(|a, b| a.0 < b.0) {
        for (key, value) in entries {
            object.key(key);
            write_value(object.out, value, numbers, depth)?;
        }
    } else {
        let mut sorted: Vec<_> = entries.collect();
        sorted.sort_unstable_by_key(|(key, _)| *key);
        for (key, value) in sorted {
            object.key(key);
            write_value(object.out, value, numbers, depth)?;
        }
    }
    object.end();
    Ok(())
}

/// Writes an object whose keys the caller gives in order.
pub(crate) struct ObjectWriter<'a> {
    pub(crate) out: &'a mut String,
    first: bool,
}

impl<'a> ObjectWriter<'a> {
    pub(crate) fn begin(out: &'a mut String, depth: usize) -> Result<Self, JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        out.push('{');
        Ok(Self { out, first: true })
    }

    /// Writes the key; the caller writes its value to `out`.
    pub(crate) fn key(&mut self, key: &str) {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        write_string(self.out, key);
        self.out.push(':');
    }

    pub(crate) fn end(self) {
        self.out.push('}');
    }
}

/// Writes any value; `depth` is the level of what contains it.
pub(crate) fn write_value(
    out: &mut String,
    value: &Value,
    numbers: Numbers,
    depth: usize,
) -> Result<(), JsonError> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number, numbers)?,
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            if depth >= MAX_DEPTH {
                return Err(JsonError::TooDeep);
            }
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_value(out, item, numbers, depth + 1)?;
            }
            out.push(']');
        }
        Value::Object(object) => write_object(out, object, numbers, depth + 1, |_| true)?,
    }
    Ok(())
}

fn write_number(out: &mut String, number: &Number, numbers: Numbers) -> Result<(), JsonError> {
    if numbers == Numbers::Tolerant {
        push_tolerant(out, number);
        return Ok(());
    }
    let integer = match (number.as_i64(), number.as_f64()) {
        (Some(integer), _) => Some(integer),
        (None, Some(0.0)) => Some(0),
        (None, Some(float)) if numbers == Numbers::Relaxed => whole(float),
        _ => None,
    };
    // Writing to a string can't fail.
    match integer {
        Some(integer) if (-MAX_INT..=MAX_INT).contains(&integer) => {
            let _ = write!(out, "{integer}");
        }
        _ if numbers == Numbers::Relaxed => {
            let _ = write!(out, "{number}");
        }
        _ => return Err(JsonError::BadNumber(number.to_string())),
    }
    Ok(())
}

/// Writes a number as [`to_canonical_tolerant`] does.
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

fn write_string(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

/// Writes the inside of a string.
pub(crate) fn push_escaped(out: &mut String, text: &str) {
    let mut written = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            0x08 => "\\b",
            0x09 => "\\t",
            0x0A => "\\n",
            0x0C => "\\f",
            0x0D => "\\r",
            0x00..0x20 => "",
            _ => continue,
        };
        out.push_str(&text[written..at]);
        written = at + 1;
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[written..]);
}

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

/// Objects that have a canonical form.
#[cfg(test)]
pub(crate) mod strategy {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::{MAX_INT, Object};

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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn canonical(text: &str) -> Result<String, JsonError> {
        to_canonical(&parse_object(text.as_bytes())?)
    }

    /// The examples of the specification's appendix "Canonical JSON".
    #[test]
    fn appendix_vectors() {
        for (given, expected) in [
            ("{}", "{}"),
            (r#"{ "one": 1, "two": "Two" }"#, r#"{"one":1,"two":"Two"}"#),
            (r#"{ "b": "2", "a": "1" }"#, r#"{"a":"1","b":"2"}"#),
            (r#"{"b":"2","a":"1"}"#, r#"{"a":"1","b":"2"}"#),
            (
                r#"{"auth": {"success": true, "mxid": "@john.doe:example.com", "profile": {"display_name": "John Doe",
                    "three_pids": [{"medium": "email", "address": "john.doe@example.org"},
                                   {"medium": "msisdn", "address": "123456789"}]}}}"#,
                r#"{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},"success":true}}"#,
            ),
            (r#"{ "a": "日本語" }"#, r#"{"a":"日本語"}"#),
            (r#"{ "本": 2, "日": 1 }"#, r#"{"日":1,"本":2}"#),
            (r#"{ "a": "\u65E5" }"#, r#"{"a":"日"}"#),
            (r#"{ "a": null }"#, r#"{"a":null}"#),
        ] {
            assert_eq!(canonical(given).unwrap(), expected);
        }
        let numbers = parse_object(br#"{"a": -0, "b": 1e10}"#).unwrap();
        assert_eq!(
            to_canonical_relaxed(&numbers).unwrap(),
            r#"{"a":0,"b":10000000000}"#
        );
    }

    #[test]
    fn escapes_are_the_shortest() {
        assert_eq!(
            canonical(r#"{"a":"\u0000\b\t\n\u000b\f\r\u001F\"\\\/\u007f"}"#).unwrap(),
            "{\"a\":\"\\u0000\\b\\t\\n\\u000b\\f\\r\\u001f\\\"\\\\/\u{7f}\"}"
        );
    }

    #[test]
    fn keys_are_sorted_by_code_point_not_by_utf16() {
        assert_eq!(
            canonical(r#"{"\ud83d\ude00":1,"\uffee":2}"#).unwrap(),
            "{\"\u{ffee}\":2,\"\u{1f600}\":1}"
        );
    }

    #[test]
    fn numbers_are_integers_in_range() {
        assert_eq!(
            canonical(r#"{"a":[9007199254740991,-9007199254740991,-0]}"#).unwrap(),
            r#"{"a":[9007199254740991,-9007199254740991,0]}"#
        );
        for bad in [
            "9007199254740992",
            "-9007199254740992",
            "18446744073709551615",
            "1e400",
            "1.0",
            "1e3",
            "0.1",
        ] {
            assert!(canonical(&format!(r#"{{"a":{bad}}}"#)).is_err(), "{bad}");
        }
    }

    /// What is tolerated up to room version 5 comes out as it went in, so that hashes over it hold.
    #[test]
    fn tolerated_numbers_stay_as_they_are() {
        for same in [
            "0",
            "-1",
            "9007199254740991",
            "9007199254740992",
            "-9007199254740993",
            "9223372036854775807",
            "-9223372036854775808",
            "18446744073709551615",
            "1.0",
            "-0.0",
            "50.57",
            "0.0001",
            "1e-05",
            "1.5e-07",
            "1000000000000000.0",
            "1e+16",
            "1.2345678901234568e+20",
            "1e+100",
            "1.7976931348623157e+308",
            "5e-324",
            "0.8888888888888888",
            "0.30000000000000004",
            "2.220446049250313e-16",
        ] {
            let text = format!(r#"{{"a":[{same}]}}"#);
            let object = parse_object(text.as_bytes()).unwrap();
            assert_eq!(to_canonical_tolerant(&object).unwrap(), text);
        }
        let object = parse_object(br#"{"a": [1E2, 0.10, 12e20, 5.114698E4]}"#).unwrap();
        assert_eq!(
            to_canonical_tolerant(&object).unwrap(),
            r#"{"a":[100.0,0.1,1.2e+21,51146.98]}"#
        );
    }

    #[test]
    fn what_strangers_send() {
        for (bad, says) in [
            (r#"{"a":1,"b":2,"a":3}"#, "duplicate key \"a\""),
            (r#"{"x":[{"a":1,"\u0061":3}]}"#, "duplicate key \"a\""),
            (r#"{"a":"\ud800"}"#, "surrogate"),
            (r#"{"a":"\udc00x"}"#, "surrogate"),
            (r#"{"\ud800\ud800":1}"#, "surrogate"),
            ("[]", "a JSON object"),
            ("1", "a JSON object"),
            ("", "EOF"),
            ("{} {}", "trailing"),
            ("{\"a\":\"\u{1}\"}", "control character"),
        ] {
            let error = parse_object(bad.as_bytes()).unwrap_err().to_string();
            assert!(
                error.contains(says)
                    || (says == "surrogate"
                        && (error.contains("hex escape") || error.contains("unexpected end"))),
                "{bad}: {error}"
            );
        }
        assert!(parse_object(b"{\"a\":\"\xff\"}").is_err());
        assert!(
            parse_object(b"{\"a\":\"\xed\xa0\x80\"}").is_err(),
            "a surrogate in raw UTF-8"
        );
        assert!(parse_object(r#"{"a":"\ud83d\ude00"}"#.as_bytes()).is_ok());
    }

    #[test]
    fn depth_is_bounded_both_ways() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        let arrays = |depth: usize| {
            format!(
                "{{\"a\":{}{}}}",
                "[".repeat(depth - 1),
                "]".repeat(depth - 1)
            )
        };
        for text in [nested(100), arrays(100)] {
            assert!(canonical(&text).is_ok());
        }
        for text in [
            nested(101),
            arrays(101),
            nested(200),
            arrays(200),
            nested(100_000),
            arrays(100_000),
        ] {
            let error = parse_object(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("deeper than 100"), "{error}");
        }
        let mut deep = json!(1);
        for _ in 0..101 {
            deep = json!({ "a": deep });
        }
        assert_eq!(
            to_canonical(deep.as_object().unwrap()),
            Err(JsonError::TooDeep)
        );
    }

    fn keys_sorted(value: &Value) -> bool {
        match value {
            Value::Array(items) => items.iter().all(keys_sorted),
            Value::Object(object) => object.keys().is_sorted() && object.values().all(keys_sorted),
            _ => true,
        }
    }

    proptest! {
        #[test]
        fn integers_out_of_range_are_refused_from_v6_on_and_tolerated_before(
            beyond in prop_oneof![(MAX_INT + 1)..=i64::MAX, i64::MIN..=(-MAX_INT - 1)],
            deep in 0..5_usize,
        ) {
            let nested = (0..deep).fold(json!(beyond), |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({ "a": inner }) });
            let object = Object::from_iter([("content".to_owned(), nested)]);
            for rules in RoomRules::supported() {
                let text = to_canonical_of(rules, &object);
                if ["1", "2", "3", "4", "5"].contains(&rules.id()) {
                    let text = text.unwrap();
                    prop_assert!(text.contains(&beyond.to_string()));
                    prop_assert_eq!(parse_object(text.as_bytes()).unwrap(), object.clone());
                } else {
                    prop_assert_eq!(text, Err(JsonError::BadNumber(beyond.to_string())));
                }
            }
        }

        #[test]
        fn any_number_comes_back_the_same_before_v6(float in any::<f64>().prop_filter("finite", |float| float.is_finite())) {
            let object = Object::from_iter([("a".to_owned(), json!(float))]);
            let text = to_canonical_tolerant(&object).unwrap();
            let again = parse_object(text.as_bytes()).unwrap();
            prop_assert_eq!(again["a"].as_f64().map(f64::to_bits), Some(float.to_bits()));
            prop_assert_eq!(to_canonical_tolerant(&again).unwrap(), text);
        }

        #[test]
        fn canonical_form_is_a_fixed_point_and_loses_nothing(object in strategy::object()) {
            let once = to_canonical(&object).unwrap();
            let again = parse_object(once.as_bytes()).unwrap();
            prop_assert_eq!(&again, &object);
            prop_assert!(keys_sorted(&Value::Object(again.clone())));
            prop_assert_eq!(to_canonical(&again).unwrap(), once.clone());
            prop_assert_eq!(to_canonical_relaxed(&again).unwrap(), once.clone());
            prop_assert_eq!(to_canonical_tolerant(&again).unwrap(), once.clone());
            // Another JSON library agrees about the text.
            prop_assert_eq!(serde_json::to_string(&object).unwrap(), once);
        }

        #[test]
        fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse_object(&bytes);
        }
    }
}
