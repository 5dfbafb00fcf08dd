use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    canonical::{
        parse_object, to_canonical, to_canonical_relaxed, to_canonical_tolerant, to_canonical_with,
    },
    *,
};
use crate::{Object, RoomRules};

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
            let text = to_canonical_with(&object, rules.strictness());
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
